//! calico-store.
