//! `aws_chunked` for libFuzzer.

#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| megalith_fuzz::aws_chunked::target(data));
