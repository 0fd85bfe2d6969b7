//! `commands` for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| megalith_fuzz::commands::target(data));
