//! The lab: nodes as network and mount namespaces around a fabric, running the shipped binary for real.
//!
//! ```text
//!            fabric (a namespace with a bridge for each subnet; etcd listens here)
//!      ┌────────────┬────────────┐
//!    eth0         eth0         eth0        10.65.0.1, .2, .3 and fd65::1, ::2, ::3
//!   node1        node2        node3        agent + BIRD, own /run, /var/lib/calico, /sys
//!   ├ caliX ─ web              ├ caliY ─ client       workloads, attached by the CNI plugin
//! ```
//!
//! The demo and the tests share it. Everything lives in one directory; `down` ends every process that lives in the
//! lab's namespaces and removes the directory, and touches nothing else of the machine.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a development role that runs processes, reads files and waits for conditions with deadlines"
)]

mod advice;
mod args;
mod cni;
mod demo;
mod directory;
mod fabric;
mod init;
pub(crate) mod k8s;
mod mounts;
mod namespace;
mod node;
mod probe;
mod process;
pub mod qemu;
mod race;
mod router;
mod speaker;
mod state;
mod status;
mod topology;
mod wait;
mod workload;

pub use args::{Args, main};
pub use wait::until;

/// Detaches a child from this terminal's signals: a lab outlives the command that built it.
fn process_group_of_its_own(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    command.process_group(0);
}
