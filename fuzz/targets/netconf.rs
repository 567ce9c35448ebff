//! CNI network configurations from arbitrary bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::cni::netconf(data));
