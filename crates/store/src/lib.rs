//! The datastore: one trait for all back ends, the embedded store, and the syncer that keeps a reader up to date.
//!
//! [`Store`] reads, watches and commits ordered compare-and-swaps in the words of `calico_api::record`.
//! [`embedded::EmbeddedStore`] keeps them in one SQLite file that all processes of a host share; etcd lives in its own
//! crate. [`Syncer`] turns any store into one stream of updates that survives restarts, compaction and lost
//! connections. [`config`] says which store a process should use. [`ipam`] runs IPAM's operations over a store.
//! [`contract`] is the suite that every back end must pass.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "this crate is IO: it opens the datastore's files, waits, and compares expiry times with the clock"
)]

pub mod attempt;
pub mod config;
pub mod contention;
pub mod contract;
pub mod embedded;
pub mod error;
pub mod ipam;
pub mod store;
pub mod syncer;
pub mod watch;

pub use attempt::{Attempt, attempt};
pub use config::DatastoreConfig;
pub use embedded::EmbeddedStore;
pub use error::{Cause, CommitError, CompactError, Fault, GetError, ListError, ReadError, WatchError};
pub use store::{Atomicity, Committed, Found, Listing, MAX_WRITES, Store, key_range};
pub use syncer::{SyncEvent, SyncHealth, Syncer, SyncerOptions};
pub use watch::{Watch, WatchEvent, WatchSender};
