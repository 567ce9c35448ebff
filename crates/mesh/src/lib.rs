//! calico-mesh.
