//! Messages of rtnetlink from arbitrary bytes.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| calico_fuzz::kernel::rtnl(data));
