//! Who this node speaks BGP with and what it tells them: datastore objects → `BgpIntent` → BIRD 2 configuration.
//!
//! Pure: no socket, no clock, no file. `node` feeds it with the datastore and carries its text to BIRD.
#![forbid(unsafe_code)]

pub mod birdc;
