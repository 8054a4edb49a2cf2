#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| rproxy_ws_passthrough::fuzz::handshake(bytes));
