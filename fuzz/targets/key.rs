//! Keys of the datastore from arbitrary text.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::api::key(data));
