#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rproxy_compression::fuzz::conditions(bytes));
