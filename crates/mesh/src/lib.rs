//! Who this node speaks BGP with and what it tells them: datastore objects → [`BgpIntent`] → BIRD 2 configuration.
//!
//! ```text
//! entries ─▶ Index ─▶ World ──resolve──▶ BgpIntent + Problems ──bird::render──▶ bird.cfg
//!                                                      birdc ◀──────── what the daemon says
//! ```
//!
//! A workload's own route reaches BIRD at once, its block by way of the datastore. So that no peer ever sees the route
//! come and go before the block, routes of workloads outside this node's blocks are announced only if the intent lists
//! their addresses as borrowed: those of this node's WorkloadEndpoints that are in a pool and in none of its blocks.
//! A block is claimed before an endpoint has an address of it, so whoever has seen both lists nothing of it, and when a
//! block is given up before its last endpoint, the list takes over in the same configuration.
//!
//! Pure: no socket, no clock, no file. `node` feeds it with the datastore and carries its text to BIRD.
#![forbid(unsafe_code)]

pub mod bird;
pub mod birdc;
pub mod filter;
pub mod index;
pub mod intent;
pub mod password;
pub mod plan;
mod problem;
mod resolve;
mod router_id;
pub mod services;
mod sessions;
mod unrouted;
pub mod why;
pub mod world;

pub use index::Index;
pub use intent::BgpIntent;
pub use plan::Plan;
pub use problem::Problem;
pub use resolve::Local;
pub use router_id::select_router_id;
pub use services::{ServiceRanges, Services};
pub use world::World;
