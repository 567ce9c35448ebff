//! The per-node agent: what the datastore says becomes routes, neighbours and rules of this node's kernel.
//!
//! ```text
//! syncer ──entries──▶ Settings, Calc ──Change──▶ Desired ──apply──▶ Kernel ──Report──▶ status files, metrics, health
//! monitor ─interfaces, addresses, removed routes──▶ ▲
//! clock ──slow resync, retry after failure──────────┘
//! ```
//!
//! One loop, one owner of all state: [`agent::Agent`]. Nothing is written before the datastore is in sync. A
//! configuration that cannot be changed in place ends the loop with [`Exit::Restart`]; the process starts anew and
//! adopts what is there.

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a role: it reads the clock, files and the kernel")]

pub mod agent;
pub mod cleanup;
mod forwarding;
mod handover;
pub mod health;
pub mod live;
pub mod metrics;
pub mod mtu;
pub mod reports;
pub mod settings;
pub mod status_files;

pub use agent::{Agent, Exit, Options, RunError};
pub use cleanup::{CleanupError, Outcome, cleanup};
pub use health::Health;
pub use live::LiveEndpoints;
