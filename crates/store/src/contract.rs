//! The contract: one suite that every back end must pass, against the real thing.
//!
//! For tests. A back end implements [`Subject`] and calls [`check`]; each case starts on an empty store. A broken
//! promise panics with the case's name. Nothing sleeps: what takes time is awaited with a deadline.
//!
//! Where back ends legitimately differ, the suite asks them and holds each to what it promises:
//!
//! - [`Store::atomicity`]. On an atomic store the steps of a commit share a revision, a failed commit leaves nothing, a
//!   list shows all steps of a commit or none, and a delete's revision is the one that watches report. On a sequential
//!   store each put has its own revision, the steps before a failed one stay, and a list shows the first steps of a
//!   commit, never the later without the earlier.
//! - A put of what is there already may be no change: the revision stays, and watches say nothing. The suite always
//!   writes something new.
//! - [`Store::keeps`]. What a store has no place for it refuses to write, reads as absent, and lists as nothing; that
//!   includes everything with a time to live.
//! - [`Subject::keeps_bytes`]. A store that knows its documents keeps what they mean, not how they are written.
//! - [`Subject::forgotten`]. A store that compacts by itself names a revision that is surely gone.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "this is a test suite that lives in the crate so that several back ends can share it"
)]

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use calico_api::{Entry, Expect, Key, Kind, Revision, Selection, Write};

use crate::error::CommitError;
use crate::store::Store;
use crate::syncer::{SyncEvent, Syncer};
use crate::watch::{Watch, WatchEvent};

mod commits;
mod document;
mod lists;
mod syncs;
mod watches;

use document::document;

/// How long anything in the suite may take: far more than a loaded machine needs.
const DEADLINE: Duration = Duration::from_secs(60);

/// A back end under test.
#[async_trait]
pub trait Subject: Send + Sync {
    /// Empties the store and connects to it.
    async fn fresh(&self) -> Arc<dyn Store>;

    /// A connection of its own to the same store, as another process would have.
    async fn again(&self) -> Arc<dyn Store>;

    /// Whether values are any bytes, kept as they are.
    fn keeps_bytes(&self) -> bool {
        true
    }

    /// A revision whose history is surely gone, where [`Store::compact`] does not make one.
    fn forgotten(&self) -> Option<Revision> {
        None
    }

    /// How many entries a long list has: more than two pages of the back end's.
    fn long_list(&self) -> usize {
        5_000
    }
}

/// One case.
pub type Case = for<'a> fn(&'a dyn Subject) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

macro_rules! cases {
    ($($module:ident :: $name:ident,)*) => {
        /// Every case, by name.
        pub const CASES: &[(&str, Case)] =
            &[$((stringify!($name), |subject| Box::pin($module::$name(subject)))),*];
    };
}

cases! {
    commits::a_key_is_created_once,
    commits::updates_and_deletes_need_the_current_revision,
    commits::ipam_records_are_created_updated_and_deleted,
    commits::anything_goes_without_an_expectation,
    commits::a_commit_is_all_or_nothing,
    commits::the_first_failing_step_is_named,
    commits::checks_change_nothing,
    commits::impossible_commits_are_refused,
    commits::large_values_survive,
    commits::any_bytes_survive,
    commits::concurrent_increments_are_not_lost,
    commits::what_has_a_time_to_live_dies,
    lists::a_list_is_exact,
    lists::namespaces_and_name_prefixes,
    lists::one_object_of_a_kind,
    lists::ipam_records_and_statuses,
    lists::a_long_list_is_one_snapshot,
    lists::what_is_read_at_once_is_what_is_read_one_by_one,
    watches::every_event_once_in_order,
    watches::a_watch_from_nothing_begins_with_what_is_there,
    watches::a_watch_sees_only_its_selection,
    watches::a_watch_of_one_object_sees_no_other,
    watches::a_watch_resumes_on_another_connection,
    watches::old_history_is_compacted,
    watches::revisions_of_nowhere_are_compacted,
    watches::a_slow_reader_misses_nothing,
    watches::large_commits_come_whole,
    watches::an_expiry_is_a_deletion,
    syncs::a_syncer_follows_random_changes,
    syncs::a_syncer_survives_compaction,
}

/// Runs the whole suite, or the cases whose name contains `only`.
pub async fn check(subject: &dyn Subject, only: Option<&str>) {
    for (name, case) in CASES.iter().filter(|(name, _)| only.is_none_or(|o| name.contains(o))) {
        let start = Instant::now();
        within(name, case(subject)).await;
        println!("{name}: {} ms", start.elapsed().as_millis());
    }
}

/// Stores entries and reads them back by get and list; bytes must be the same. For reference data.
pub async fn check_round_trip(store: &dyn Store, pairs: &[(Key, Bytes)]) {
    for chunk in pairs.chunks(50) {
        let puts: Vec<Write> = chunk.iter().map(|(k, v)| Write::create(k.clone(), v.clone())).collect();
        store.commit(&puts).await.unwrap();
    }
    let mut listed = BTreeMap::new();
    for selection in everything() {
        let listing = store.list(&selection).await.unwrap();
        listed.extend(listing.entries.into_iter().map(|e| (e.key, e.value)));
    }
    for (key, value) in pairs {
        assert_eq!(store.get(key).await.unwrap().unwrap().value, value, "get {key}");
        // The configuration and the host markers of IPAM are read one by one, never listed.
        if !matches!(key, Key::IpamConfig | Key::IpamHost(_)) {
            assert_eq!(listed.get(key), Some(value), "list {key}");
        }
    }
}

/// Reads reference data: a key line, a value line, a blank line; `#` begins a comment.
pub fn parse_pairs(text: &str) -> Vec<(Key, Bytes)> {
    let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    lines.chunks(2).map(|pair| (Key::parse(pair[0]).unwrap(), Bytes::from(pair[1].to_owned()))).collect()
}

/// Selections that together hold every key that can be listed.
fn everything() -> Vec<Selection> {
    let mut all: Vec<Selection> = Kind::ALL.iter().map(|kind| Selection::all(*kind)).collect();
    all.extend([calico_net::Family::V4, calico_net::Family::V6].map(Selection::Blocks));
    all.extend([
        Selection::Affinities { owner: None, family: None },
        Selection::Handles,
        Selection::Statuses(None),
    ]);
    all
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: not within {DEADLINE:?}"),
    }
}

fn policy(namespace: &str, name: &str) -> Key {
    Key::resource(Kind::NetworkPolicy, namespace, name)
}

fn policies() -> Selection {
    Selection::all(Kind::NetworkPolicy)
}

/// A put without expectation of a document that carries a text.
fn put(key: &Key, text: &str) -> Write {
    Write::put(key.clone(), document(key, text))
}

/// A create of a document that carries a text.
fn create(key: &Key, text: &str) -> Write {
    Write::create(key.clone(), document(key, text))
}

/// Whether the store has a place for a key; if not, it must say so.
async fn is_kept(store: &dyn Store, key: &Key) -> bool {
    if store.keeps(key) {
        return true;
    }
    let refused = store.commit(&[put(key, "1")]).await;
    assert!(matches!(&refused, Err(CommitError::Refused { key: k, .. }) if k == key), "{refused:?}");
    assert_eq!(store.get(key).await.unwrap(), None, "{key}");
    let delete = Write::Delete { key: key.clone(), expect: Expect::Any };
    store.commit(&[delete]).await.unwrap();
    false
}

/// Commits one write that must succeed, and says at which revision.
async fn write(store: &dyn Store, write: Write) -> Revision {
    store.commit(&[write]).await.unwrap().revisions.remove(0)
}

/// The next event that is no progress.
async fn next_change(watch: &mut Watch) -> WatchEvent {
    loop {
        match within("an event", watch.next()).await.unwrap() {
            WatchEvent::Progress(_) => {}
            event => return event,
        }
    }
}

/// The state of the store, as a list tells it.
async fn state(store: &dyn Store, selections: &[Selection]) -> BTreeMap<Key, Entry> {
    let mut state = BTreeMap::new();
    for selection in selections {
        let listing = store.list(selection).await.unwrap();
        state.extend(listing.entries.into_iter().map(|e| (e.key.clone(), e)));
    }
    state
}

/// Follows a syncer until its view holds, counting how often it said that it was in sync.
pub async fn follow_until(
    syncer: &mut Syncer,
    view: &mut BTreeMap<Key, Entry>,
    mut done: impl FnMut(&BTreeMap<Key, Entry>, bool) -> bool,
) {
    let mut in_sync = syncer.health().is_in_sync();
    within("the syncer's view", async {
        while !done(view, in_sync) {
            match syncer.next().await.unwrap() {
                SyncEvent::InSync => in_sync = true,
                SyncEvent::Updates(updates) => {
                    for (key, entry) in updates {
                        match entry {
                            Some(entry) => view.insert(key, entry),
                            None => view.remove(&key),
                        };
                    }
                }
            }
        }
    })
    .await;
}

/// A small deterministic source of choices (xorshift64).
struct Choices(u64);

impl Choices {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}
