//! What the command line prints as YAML reads back.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::api::yaml(data));
