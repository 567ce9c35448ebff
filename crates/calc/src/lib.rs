//! The calculation: datastore updates in, this node's state out, incrementally.
//!
//! Pure. [`change`] is the vocabulary of the output; everything downstream speaks it.

pub mod change;

pub use change::Change;
