//! The etcd v3 store: Calico's data model, key for key (spec 1 §2), and the door to every back end of this build.
//!
//! [`EtcdStore`] implements `calico_store::Store`: a commit is one transaction, a watch resumes at a revision and
//! tells compaction apart from a lost connection. [`connect()`] opens whatever store a
//! `calico_store::DatastoreConfig` names.

#![forbid(unsafe_code)]
#![allow(
    clippy::disallowed_methods,
    reason = "this crate is IO: it talks to etcd and reads the certificates that its configuration names"
)]

mod client;
mod commit;
mod connect;
mod fault;
mod read;
mod watch;

pub use client::EtcdStore;
pub use connect::{ConnectError, connect, connect_or_create};
