//! calico-store-etcd.
