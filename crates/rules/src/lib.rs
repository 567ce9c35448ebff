//! Policy to packet rules: chain IR, its rendering to nftables, its evaluation.
//!
//! Pure and stateless. Every object (policy, profile, endpoint, the static skeleton) is rendered by itself to a
//! [`Fragment`]; the desired tables are the union of all fragments. [`ir`] is the typed middle: `render` lowers it to
//! the kernel's vocabulary in [`nft`], [`eval`] says what it does to a packet and why.
//!
//! ```text
//! Policy, Profile ──policy──▶ ┐
//! Workload ───────endpoint──▶ ├─ Fragment (ir::Chain, sets, elements) ──render──▶ nft::Chain
//! HostEndpoint ───host──────▶ │                └──────eval──▶ verdict + trace
//! Config ─────────statics───▶ ┘
//! ```

pub mod config;
pub mod endpoint;
pub mod eval;
pub mod fragment;
pub mod graph;
pub mod host;
pub mod interval;
pub mod ir;
pub mod mark;
pub mod name;
pub mod nft;
pub mod policy;
pub mod render;
pub mod sets;
pub mod statics;

#[cfg(test)]
mod world;

pub use config::Config;
pub use endpoint::workload;
pub use fragment::{Fragment, Part, Set};
pub use host::{HostChains, host_dispatch, host_endpoint};
pub use mark::MarkBits;
pub use policy::{policy, profile};
pub use sets::ip_set;
pub use statics::statics;
