//! Prefixes, ports, hardware addresses, AS numbers, protocols, names from arbitrary text.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::net::words(data));
