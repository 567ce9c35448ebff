//! Collection of IPAM's records that nobody will release any more (spec 7 §6.2): the pure half of it.
//!
//! ```text
//!  World ─ allocations ─ judge ─▶ valid │ tunnel │ unknown │ leaked ─┐ a grace period long, or its node is gone
//!  Marks (since when) ───────────────────────────────────────────────┴─ plan ─▶ actions, new marks, when to look again
//! ```
//! Doubt keeps: an address whose user cannot be told stays, and so does the node that has it.

mod allocation;
mod execute;
mod plan;
mod usage;

pub use allocation::{Allocation, AllocationId, PodRef, User, Verdict, Why, allocations, judge, why_leaked};
pub use execute::{Executor, Outcome};
pub use plan::{Action, Clock, Leak, Marks, Plan, Reason, plan};
pub use usage::{NO_NODE, NO_POOL, PoolNode, Usage, usage};

#[cfg(test)]
mod tests;
