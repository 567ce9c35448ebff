//! calico-node.
