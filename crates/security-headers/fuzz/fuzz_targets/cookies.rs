#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rproxy_security_headers::fuzz::cookies(bytes));
