#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rproxy_http1::fuzz::response_head(bytes));
