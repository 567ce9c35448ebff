//! Files of the spool with arbitrary bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::cni::spool_file(data));
