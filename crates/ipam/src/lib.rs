//! IPAM: blocks of addresses that nodes have affinity to, addresses in them, handles that find them again.
//!
//! Pure: each operation is an [`Operation`] that a [`Machine`] runs by saying what to read and what to commit; the
//! driver (a role with a store) answers. Time is an argument. Decisions depend on what is known of the datastore alone
//! ([`Known`]), so conflicts and leftovers of dead writers need no special path.
//!
//! Invariants, in both commit modes of the store and whenever any client dies between two writes:
//!
//! * an address is never assigned twice; blocks never overlap;
//! * every assigned address can be reached from its handle, which was written no later than it;
//! * what is left over is harmless, has a name ([`check::Leftover`]), and is removed by the next release of its handle,
//!   the next assignment of its owner, or [`Collect`].

mod address;
mod affinity;
mod assign;
pub mod block;
pub mod check;
mod claims;
mod collect;
pub mod config;
mod handle;
mod known;
mod lookup;
mod machine;
pub mod memory;
pub mod order;
pub mod pools;
mod release;
mod time;
pub mod utilization;

pub use address::{AddressError, AddressRequest, AssignAddress};
pub use assign::{
    Assign, AssignError, AssignOutcome, AssignRequest, Assigned, DEFAULT_MAX_BLOCKS, Reason, Shortfall,
};
pub use claims::{ClaimAffinity, ClaimError, Claims, MAX_CLAIMS, ReleaseAffinities, Scope};
pub use collect::Collect;
pub use config::{ConfigEdit, ConfigError};
pub use known::{Held, Known, Need, Problem, Record};
pub use lookup::{AddressesOf, Assignment, AssignmentOf, Survey};
pub use machine::{
    Act, Change, Contended, Decision, Halt, MAX_CONFLICTS, Machine, Operation, Response, Step,
};
pub use release::{Refusal, ReleaseAddresses, ReleaseByHandle, ReleaseError, Released, Target};
pub use time::UnixTime;

/// A handle's id as it is stored: cut at the first carriage return (spec 5 §2.2).
pub fn handle_id(text: &str) -> smol_str::SmolStr {
    smol_str::SmolStr::new(text.split('\r').next().unwrap_or_default())
}
