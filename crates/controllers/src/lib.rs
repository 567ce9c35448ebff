//! The cluster's controllers, `calico kube-controllers`: what keeps Calico's data true to the cluster while no node does.
//!
//! ```text
//!  Kubernetes ─syncer─┐                             ┌─ live check ─▶ commits (compare-and-swap)
//!  Calico     ─syncer─┴▶ World ─plan(world, marks)─▶ actions ───────▶ metrics, one line for each change
//!  KubeControllersConfiguration + environment ─▶ Running ─▶ which controllers run; status.runningConfig
//! ```
//! Each controller is a pure plan over what is known; the role around it watches, checks again at the source before it
//! takes anything away, and commits. Kubernetes and Calico are two stores, which may be the same one: then the
//! Kubernetes API is the datastore.
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "this crate is IO: it waits, and writes the file that probes read"
)]
#![allow(
    clippy::result_large_err,
    reason = "an error ends the start or is logged: it is never on a hot path"
)]

pub mod cluster;
pub mod config;
pub mod health;
pub mod ipam;
pub mod metrics;
mod node;
mod run;
mod settings;
pub mod world;

pub use cluster::{ApiCluster, ApiGet, Cluster, StoreCluster};
pub use metrics::Metrics;
pub use run::{Options, Surroundings, run};
