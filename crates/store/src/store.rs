//! The trait that every back end implements (spec 1 §2.5).

use async_trait::async_trait;
use calico_api::key::AffinityOwner;
use calico_api::{Entry, Key, Revision, Selection, Write};
use futures::future::try_join_all;
use futures::{TryFutureExt, try_join};

use crate::error::{CommitError, CompactError, Fault, GetError, ListError, ReadError, WatchError};
use crate::watch::Watch;

/// The most steps one commit may have: etcd's default `--max-txn-ops`. The longest commit of ours has under ten.
pub const MAX_WRITES: usize = 128;

/// Whether a commit is all or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Atomicity {
    /// All steps happen, or none does (etcd, SQLite).
    Atomic,
    /// Steps happen in order until one fails (Kubernetes): every prefix must be a safe state.
    Sequential,
}

/// The answer to a list: one consistent snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Listing {
    /// The selected entries, in the order of their etcd keys. Stored keys that we cannot parse are left out.
    pub entries: Vec<Entry>,
    /// The store's revision at the snapshot: a watch from here misses nothing.
    pub revision: Revision,
    /// Which history the revisions belong to. It changes when a store is wiped or restored from a backup; revisions
    /// of different histories say nothing about each other.
    pub history: u64,
}

/// The answer to a read of several things at once, in the order in which they were asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// Of each key its entry, if there is one.
    pub entries: Vec<Option<Entry>>,
    /// Of each selection its entries, as a list has them: one consistent snapshot each.
    pub listings: Vec<Vec<Entry>>,
}

/// The answer to a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// For each step, in order: the revision a put entry now has. For deletes and checks a revision from which a watch
    /// misses nothing that happens later: on atomic stores the one of the commit, on sequential ones perhaps an older
    /// one, so that the watch sees the deletion again.
    pub revisions: Vec<Revision>,
}

/// A datastore. Cheap to share (`Arc<dyn Store>`); every method may be called concurrently.
#[async_trait]
pub trait Store: Send + Sync {
    /// Reads one entry; `None` if it does not exist (or its time to live has passed).
    async fn get(&self, key: &Key) -> Result<Option<Entry>, GetError>;

    /// Reads every selected entry as one snapshot.
    async fn list(&self, selection: &Selection) -> Result<Listing, ListError>;

    /// Reads entries and selections at once: in one round trip where the store can, otherwise by as many requests as
    /// there are things to read, side by side. Each listing is a snapshot; how they fit together is not promised.
    async fn read(&self, keys: &[Key], selections: &[Selection]) -> Result<Found, ReadError> {
        let entries = try_join_all(keys.iter().map(|key| self.get(key).err_into::<ReadError>()));
        let listings = selections.iter().map(|selection| self.list(selection).err_into::<ReadError>());
        let (entries, listings) = try_join!(entries, try_join_all(listings))?;
        let listings = listings.into_iter().map(|listing| listing.entries).collect();
        Ok(Found { entries, listings })
    }

    /// Follows a selection. From `Some(revision)`: every later event, once, in the order of revisions. From `None`:
    /// first everything that exists, as puts, ended by a [`crate::WatchEvent::Progress`]; then the changes.
    ///
    /// A revision that is too old (or of another history) is [`WatchError::Compacted`], here or from
    /// [`Watch::next`]. The channel is bounded: a slow reader slows its own watch, nobody else's.
    async fn watch(&self, selection: &Selection, from: Option<Revision>) -> Result<Watch, WatchError>;

    /// Carries out an ordered list of compare-and-swaps. Expectations are about the state before the commit; no key
    /// may be written twice. See [`Store::atomicity`] for what a conflict leaves behind.
    async fn commit(&self, writes: &[Write]) -> Result<Committed, CommitError>;

    /// What a failed commit may leave behind.
    fn atomicity(&self) -> Atomicity;

    /// Whether the store has a place for a key at all. Without one, reading finds nothing and a put is
    /// [`CommitError::Refused`]; a delete of anything ([`calico_api::Expect::Any`]) has nothing to do.
    fn keeps(&self, key: &Key) -> bool {
        let _ = key;
        true
    }

    /// Why what this store holds is not what others find who open the same one, if it is so: a file that was moved away, or
    /// another that stands in its place. Every operation fails until that is mended.
    fn lost(&self) -> Option<Fault> {
        None
    }

    /// Forgets the history up to and including a revision: watches from before it fail with
    /// [`WatchError::Compacted`]. Entries stay. No error if that history is already gone, or if the store cares for
    /// it by itself.
    async fn compact(&self, revision: &Revision) -> Result<(), CompactError>;
}

/// The half-open range of etcd keys that holds every selected key. It may hold others: [`Selection::contains`]
/// decides.
pub fn key_range(selection: &Selection) -> (String, String) {
    if let Selection::Affinities { owner: None, .. } = selection {
        // Between `host/` and the end of `virtual/` nothing else is stored; the common prefix of the two would also
        // bring every block and handle.
        let block = AffinityOwner::Virtual("".into());
        let first = Selection::Affinities { owner: Some(AffinityOwner::Host("".into())), family: None };
        let last = Selection::Affinities { owner: Some(block), family: None };
        let trim = |s: &Selection| s.prefix().trim_end_matches('/').to_owned() + "/";
        return (trim(&first), prefix_end(&trim(&last)));
    }
    let prefix = selection.prefix();
    if let Selection::Resource(_) = selection {
        // Nothing is between a text and the same with a NUL behind it.
        let end = format!("{prefix}\0");
        return (prefix, end);
    }
    let end = prefix_end(&prefix);
    (prefix, end)
}

/// The first text after all texts with a prefix. Key prefixes are ASCII, so the last byte can always grow by one.
fn prefix_end(prefix: &str) -> String {
    let mut end = prefix.to_owned();
    if let Some(last) = end.pop() {
        end.push(char::from_u32(last as u32 + 1).unwrap_or(char::MAX));
    }
    end
}

/// Refuses commits that no back end can carry out.
pub fn check_shape(writes: &[Write]) -> Result<(), CommitError> {
    if writes.len() > MAX_WRITES {
        return Err(CommitError::TooLarge { writes: writes.len() });
    }
    let mut seen = rustc_hash::FxHashSet::default();
    for write in writes.iter().filter(|w| !matches!(w, Write::Check { .. })) {
        if !seen.insert(write.key()) {
            return Err(CommitError::Duplicate { key: write.key().clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
