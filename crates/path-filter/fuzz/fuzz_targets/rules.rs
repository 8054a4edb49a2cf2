#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rproxy_path_filter::fuzz::rules(bytes));
