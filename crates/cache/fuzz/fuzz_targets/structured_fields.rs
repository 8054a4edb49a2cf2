#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rproxy_cache::fuzz::structured_fields(bytes));
