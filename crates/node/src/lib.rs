//! The per-node role: the node's start, BGP by a supervised BIRD, health and metrics.
//!
//! ```text
//! startup ─▶ nodename file
//! pools ─▶ tunnels ─▶ IPAM, Node
//! store ─syncer─▶ mesh::World ─▶ BgpIntent ─▶ bird.cfg ─▶ BIRD (a process of its own, which outlives this one)
//! BIRD ─▶ readiness, metrics, CalicoNodeStatus
//! ```
#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "this crate is IO: it reads the host, writes BIRD's files, spawns it and waits"
)]
#![allow(
    clippy::result_large_err,
    reason = "an error ends the start or is logged: it is never on a hot path"
)]

pub mod autodetect;
pub mod bgp;
pub mod bird;
mod file;
pub mod health;
pub mod interfaces;
pub mod metrics;
pub mod readiness;
mod run;
pub mod shutdown;
pub mod startup;
mod status;
#[cfg(test)]
mod testing;
pub mod tunnels;

pub use health::Health;
pub use metrics::NodeMetrics;
pub use run::{NodeArgs, run};
pub use startup::start;
