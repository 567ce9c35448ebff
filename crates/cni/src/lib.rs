//! The CNI plugins `calico` and `calico-ipam`, and the agent's side of them.
//!
//! ```text
//!  runtime ──env, stdin──▶ plugin process ──Request + netns descriptor──▶ agent's server ─┐
//!                              │ (no agent configured)                                    ├─▶ attach / detach / check
//!                              └──────────────────────────────────────────────────────────┘    IPAM, veth, endpoint
//! ```

#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "an IO crate: sockets, files, deadlines")]

pub mod address;
pub mod annotations;
pub mod arguments;
pub mod attach;
pub mod client;
pub mod collect;
pub mod context;
pub mod datastore;
pub mod delegate;
pub mod detach;
pub mod endpoint;
pub mod error;
pub mod gate;
pub mod host_local;
pub mod install;
pub mod kubernetes;
pub mod log;
pub mod netconf;
pub mod node_name;
pub mod plugin;
pub mod pod;
pub mod queue;
pub mod request;
pub mod result;
pub mod sandbox;
pub mod server;
pub mod spool;
pub mod stamp;
pub mod stored;
pub mod token;
pub mod turns;
pub mod upgrade;
pub mod verify;
pub mod version;
pub mod work;
