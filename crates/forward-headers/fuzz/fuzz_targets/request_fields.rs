#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rproxy_forward_headers::fuzz::request_fields(bytes));
