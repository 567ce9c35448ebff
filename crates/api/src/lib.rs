//! The data model: Calico's `projectcalico.org/v3` resources and IPAM records, their keys, defaults and validation.
//!
//! Pure. Resources are plain structs that serialise to exactly the JSON that Calico stores. Keys are one enum for
//! everything in the datastore, and print as Calico's etcd keys (spec 1 §2.2).

pub mod key;
pub mod meta;
pub mod record;

pub use key::{Key, KeyError, Kind, ResourceKey, Scope};
pub use meta::{Metadata, Resource};
pub use record::{Entry, Expect, Revision, Selection, Write};
