//! Objects of a Kubernetes API server's from arbitrary bytes, as entries and, where they can be written, back.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::kubernetes::object(data));
