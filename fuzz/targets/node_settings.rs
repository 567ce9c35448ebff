//! The environment of a node's start from arbitrary text.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::node::node_settings(data));
