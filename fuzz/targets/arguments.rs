//! The CNI environment from arbitrary text.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::cni::arguments(data));
