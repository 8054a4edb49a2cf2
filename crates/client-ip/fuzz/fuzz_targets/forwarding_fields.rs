#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rproxy_client_ip::fuzz::forwarding_fields(bytes));
