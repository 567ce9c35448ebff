//! Stored resources of every kind from arbitrary bytes: decode, encode, merge.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::api::resource_value(data));
