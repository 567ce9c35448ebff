//! Options of the agent from arbitrary text: files, environment, resources.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::api::felix(data));
