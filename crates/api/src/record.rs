//! What a datastore holds and how it is changed: entries, revisions, compare-and-swaps (spec 1 §2.5).
//!
//! These are words, not IO: the pure engines plan in them, `store` carries the plans out.

use bytes::Bytes;
use smol_str::SmolStr;

use crate::key::Key;

/// A backend's version of one entry. Opaque: only equality is meaningful across back ends (etcd's are decimal
/// ModRevisions, Kubernetes' are resourceVersions).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub SmolStr);

impl From<i64> for Revision {
    fn from(n: i64) -> Revision {
        Revision(SmolStr::from(n.to_string()))
    }
}

impl std::fmt::Display for Revision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One key with its value (JSON bytes, as stored) and the revision that wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Where it is stored.
    pub key: Key,
    /// The stored JSON, unknown fields included.
    pub value: Bytes,
    /// What a compare-and-swap must name to replace it.
    pub revision: Revision,
}

/// What a write requires of the entry it replaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is none (create).
    Absent,
    /// It is at this revision (update, delete).
    At(Revision),
    /// Anything (apply, forced delete).
    Any,
}

/// One step of a commit. On etcd and SQLite all steps of a commit happen or none does; on Kubernetes they happen in
/// order until one fails, so **every prefix of the list must be a safe state**.
#[derive(Clone, Debug, PartialEq)]
pub enum Write {
    /// Store a value.
    Put {
        /// Where.
        key: Key,
        /// JSON.
        value: Bytes,
        /// What must be there now.
        expect: Expect,
        /// Expire by itself after so many seconds (etcd lease; embedded: an expiry column). Status keys only.
        ttl_secs: Option<u32>,
    },
    /// Remove an entry. With `Expect::Any` an absent one is no error; with `Expect::At` it is a conflict.
    Delete {
        /// Where.
        key: Key,
        /// What must be there now; `Absent` is meaningless here and is a conflict if the entry exists.
        expect: Expect,
    },
    /// Change nothing, but fail the commit unless this holds.
    Check {
        /// Where.
        key: Key,
        /// What must be there now.
        expect: Expect,
    },
}

impl Write {
    /// A create.
    pub fn create(key: Key, value: Bytes) -> Write {
        Write::Put { key, value, expect: Expect::Absent, ttl_secs: None }
    }

    /// A compare-and-swap.
    pub fn update(key: Key, value: Bytes, revision: Revision) -> Write {
        Write::Put { key, value, expect: Expect::At(revision), ttl_secs: None }
    }

    /// An unconditional put.
    pub fn put(key: Key, value: Bytes) -> Write {
        Write::Put { key, value, expect: Expect::Any, ttl_secs: None }
    }

    /// A compare-and-delete.
    pub fn delete(key: Key, revision: Revision) -> Write {
        Write::Delete { key, expect: Expect::At(revision) }
    }

    /// The key that the step concerns.
    pub fn key(&self) -> &Key {
        match self {
            Write::Put { key, .. } | Write::Delete { key, .. } | Write::Check { key, .. } => key,
        }
    }
}

/// What to list or watch: every entry whose key belongs to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Selection {
    /// All objects of a kind; in one namespace, or in all with `None`.
    Resources {
        /// The kind.
        kind: crate::key::Kind,
        /// A namespace, for namespaced kinds.
        namespace: Option<SmolStr>,
        /// Only names that begin so (WorkloadEndpoint prefixes, spec 1 §1.4).
        name_prefix: SmolStr,
    },
    /// The one object of a key.
    Resource(crate::key::ResourceKey),
    /// IPAM blocks of a family.
    Blocks(calico_net::Family),
    /// Block affinities of one owner and family; of all owners with `None`.
    Affinities {
        /// `host:<name>` or `virtual:<name>`; all with `None`.
        owner: Option<crate::key::AffinityOwner>,
        /// Of one family; both with `None` (only together with an owner or for all).
        family: Option<calico_net::Family>,
    },
    /// IPAM handles.
    Handles,
    /// Felix's status reports of one host, without those of its host endpoints; everything of all hosts with `None`.
    Statuses(Option<SmolStr>),
}

impl Selection {
    /// All objects of a kind, everywhere.
    pub fn all(kind: crate::key::Kind) -> Selection {
        Selection::Resources { kind, namespace: None, name_prefix: SmolStr::default() }
    }

    /// One object: in a namespace, or in none where the kind has none.
    pub fn one(kind: crate::key::Kind, namespace: &str, name: &str) -> Selection {
        Selection::Resource(crate::key::ResourceKey { kind, namespace: namespace.into(), name: name.into() })
    }
}
