//! Node state to kernel tables: what the kernel should hold, and the plan that takes it there.
//!
//! Pure. [`tables`] has one module per kernel table.

#![forbid(unsafe_code)]

pub mod tables;
