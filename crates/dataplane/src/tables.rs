//! The kernel's tables, one module each: what ours should hold, which entries are ours, and the plan between.

pub mod fdb;
pub mod link;
pub mod neigh;
pub mod nft;
pub mod route;
pub mod sysctl;
pub mod tracked;
pub mod tunnel;
