//! calico-linux.
