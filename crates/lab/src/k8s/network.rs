//! The addresses of a cluster.

use super::cluster::Cluster;

/// Where the API server listens.
pub const API_PORT: u16 = 6443;
/// Where pods live, in both families; a node has a /24 and a /64 of them.
pub const PODS: [&str; 2] = ["10.244.0.0/16", "fd00:10:244::/48"];
/// Where services live.
pub const SERVICES: [&str; 2] = ["10.96.0.0/16", "fd96::/112"];
/// The first address of each: the API server as pods know it.
pub const FIRST_SERVICES: [&str; 2] = ["10.96.0.1", "fd96::1"];
/// The name service; the manifest of CoreDNS says the same.
pub const DNS: &str = "10.96.0.10";

impl Cluster {
    /// Of a pair of both families, what this cluster has, between commas as Kubernetes' flags take it.
    pub fn families(&self, [ipv4, ipv6]: [&str; 2]) -> String {
        if self.dual_stack { format!("{ipv4},{ipv6}") } else { ipv4.to_owned() }
    }
}
