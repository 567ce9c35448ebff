//! The calculation: datastore updates in, this node's state out, incrementally.
//!
//! Pure. [`Calc`] is the engine, [`change`] the vocabulary of its output, which everything downstream speaks, and
//! [`reference`] the slow and obvious program that it must agree with.

#![forbid(unsafe_code)]

pub mod change;
pub mod reference;
pub mod state;
pub mod update;

mod active;
mod calc;
mod claims;
mod cluster;
mod endpoints;
mod intern;
mod locals;
mod members;
mod names;
mod parents;
mod planted;
mod policies;
mod profiles;
mod programs;
mod routes;
mod rules;
mod sets;
mod slab;
mod vteps;

pub use calc::Calc;
pub use change::Change;
pub use state::NodeState;
pub use update::{Problem, Update};
