//! IPAM's operations on arbitrary records.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::ipam::blocks(data));
