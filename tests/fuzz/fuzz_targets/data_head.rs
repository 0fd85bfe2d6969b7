//! `data_head` for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| megalith_fuzz::data_head::target(data));
