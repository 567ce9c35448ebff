//! Who this node speaks BGP with and what it tells them: datastore objects → [`BgpIntent`] → BIRD 2 configuration.
//!
//! ```text
//! entries ─▶ Index ─▶ World ──resolve──▶ BgpIntent + Problems ──bird::render──▶ bird.cfg
//!                                                      birdc ◀──────── what the daemon says
//! ```
//!
//! Pure: no socket, no clock, no file. `node` feeds it with the datastore and carries its text to BIRD.
#![forbid(unsafe_code)]

pub mod bird;
pub mod birdc;
pub mod index;
pub mod intent;
mod problem;
mod resolve;
mod router_id;
mod sessions;
pub mod world;

pub use index::Index;
pub use intent::BgpIntent;
pub use problem::Problem;
pub use resolve::Local;
pub use router_id::select_router_id;
pub use world::World;
