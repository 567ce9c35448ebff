//! The syncer against a store that fails as told.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use calico_api::{Kind, Write};

use super::*;
use crate::error::{CommitError, CompactError, Fault, GetError, ListError};
use crate::store::{Atomicity, Committed};
use crate::watch::Watch;

const QUICK: SyncerOptions = SyncerOptions {
    min_resync_interval: Duration::from_millis(1),
    first_retry: Duration::from_millis(1),
    max_retry: Duration::from_millis(2),
};

/// What the store answers to the next list or watch.
enum Answer {
    List(Vec<(&'static str, i64)>, i64, u64),
    ListFails,
    /// Expects a watch from a revision, delivers batches, and ends with an error.
    Watch(i64, Vec<Vec<WatchEvent>>, Option<WatchError>),
}

/// Answers as scripted; then it is unavailable for good.
struct Script(Mutex<VecDeque<Answer>>);

fn lost() -> WatchError {
    WatchError::Lost(Fault::Unavailable("scripted".into()))
}

fn key(name: &str) -> Key {
    Key::resource(Kind::Tier, "", name)
}

fn entry(name: &str, revision: i64) -> Entry {
    Entry { key: key(name), value: Bytes::from(revision.to_string()), revision: revision.into() }
}

fn put(name: &str, revision: i64) -> WatchEvent {
    WatchEvent::Put(entry(name, revision))
}

fn deleted(name: &str, revision: i64) -> WatchEvent {
    WatchEvent::Deleted { key: key(name), revision: revision.into() }
}

fn progress(revision: i64) -> WatchEvent {
    WatchEvent::Progress(revision.into())
}

#[async_trait]
impl Store for Script {
    async fn get(&self, _: &Key) -> Result<Option<Entry>, GetError> {
        unreachable!("the syncer does not get")
    }

    async fn list(&self, selection: &Selection) -> Result<Listing, ListError> {
        match self.0.lock().unwrap().pop_front() {
            Some(Answer::List(entries, revision, history)) => {
                let entries = entries.into_iter().map(|(name, revision)| entry(name, revision)).collect();
                Ok(Listing { entries, revision: revision.into(), history })
            }
            Some(Answer::ListFails) | None => {
                let fault = Fault::Unavailable("scripted".into());
                Err(ListError { selection: selection.clone(), fault })
            }
            Some(Answer::Watch(from, ..)) => panic!("a list instead of a watch from {from}"),
        }
    }

    async fn watch(&self, _: &Selection, from: Option<Revision>) -> Result<Watch, WatchError> {
        let (batches, end) = match self.0.lock().unwrap().pop_front() {
            Some(Answer::Watch(expected, batches, end)) => {
                assert_eq!(from, Some(expected.into()));
                (batches, end)
            }
            Some(_) => panic!("a watch from {from:?} instead of a list"),
            None => return Err(lost()),
        };
        let (sender, watch) = Watch::channel(Vec::new());
        for batch in batches {
            sender.send(batch).await.unwrap();
        }
        match end {
            Some(error) => sender.fail(error).await,
            None => drop(tokio::spawn(async move { sender.closed().await })),
        }
        Ok(watch)
    }

    async fn commit(&self, _: &[Write]) -> Result<Committed, CommitError> {
        unreachable!("the syncer does not commit")
    }

    fn atomicity(&self) -> Atomicity {
        Atomicity::Atomic
    }

    async fn compact(&self, _: &Revision) -> Result<(), CompactError> {
        unreachable!("the syncer does not compact")
    }
}

/// What a script must make the syncer say, in order: `(name, revision)`, `(name, 0)` for a deletion, `("", 0)` for
/// in-sync.
async fn check(script: Vec<Answer>, expected: &[(&str, i64)]) {
    let store = Arc::new(Script(Mutex::new(script.into())));
    let mut syncer = Syncer::spawn(store, vec![Selection::all(Kind::Tier)], QUICK);
    let mut said = Vec::new();
    while said.len() < expected.len() {
        let event = tokio::time::timeout(Duration::from_secs(10), syncer.next()).await;
        match event.unwrap_or_else(|_| panic!("nothing after {said:?}")).unwrap() {
            SyncEvent::InSync => said.push((String::new(), 0)),
            SyncEvent::Updates(updates) => said.extend(updates.into_iter().map(|(key, entry)| {
                let Key::Resource(key) = key else { panic!() };
                (key.name.to_string(), entry.map_or(0, |e| e.revision.0.parse().unwrap()))
            })),
        }
    }
    let expected: Vec<(String, i64)> = expected.iter().map(|(n, r)| ((*n).to_owned(), *r)).collect();
    assert_eq!(said, expected);
}

use Answer::{List, ListFails, Watch as Watching};

#[tokio::test]
async fn a_list_then_its_changes() {
    let script = vec![
        List(vec![("a", 2), ("b", 3)], 5, 1),
        Watching(5, vec![vec![put("a", 6), put("c", 7)], vec![deleted("b", 8), progress(8)]], None),
    ];
    check(script, &[("a", 2), ("b", 3), ("", 0), ("a", 6), ("c", 7), ("b", 0)]).await;
}

#[tokio::test]
async fn a_lost_watch_goes_on_from_its_progress_and_repeats_nothing() {
    let script = vec![
        List(vec![], 5, 1),
        Watching(5, vec![vec![put("a", 6), put("b", 6), deleted("x", 6), progress(5)]], Some(lost())),
        Watching(
            5,
            vec![vec![put("a", 6), put("b", 6), deleted("x", 6), put("c", 7), progress(7)]],
            Some(lost()),
        ),
        Watching(7, vec![vec![put("d", 8)]], None),
    ];
    check(script, &[("", 0), ("a", 6), ("b", 6), ("c", 7), ("d", 8)]).await;
}

#[tokio::test]
async fn progress_without_events_is_remembered() {
    let script = vec![
        List(vec![], 5, 1),
        Watching(5, vec![vec![progress(90)]], Some(lost())),
        Watching(90, vec![vec![put("a", 91)]], None),
    ];
    check(script, &[("", 0), ("a", 91)]).await;
}

#[tokio::test]
async fn compaction_lists_anew_and_deletes_what_is_gone() {
    let script = vec![
        List(vec![("a", 2), ("b", 3), ("c", 4)], 5, 1),
        Watching(5, vec![vec![put("d", 6), progress(6)]], Some(WatchError::Compacted)),
        List(vec![("a", 2), ("c", 9), ("d", 6), ("e", 10)], 12, 1),
        Watching(12, vec![vec![put("f", 13)]], None),
    ];
    let expected =
        [("a", 2), ("b", 3), ("c", 4), ("", 0), ("d", 6), ("c", 9), ("e", 10), ("b", 0), ("f", 13)];
    check(script, &expected).await;
}

#[tokio::test]
async fn another_history_makes_equal_revisions_new() {
    let script = vec![
        List(vec![("a", 2), ("b", 3)], 5, 1),
        Watching(5, vec![], Some(WatchError::Compacted)),
        List(vec![("a", 2)], 2, 7),
        Watching(2, vec![], None),
    ];
    check(script, &[("a", 2), ("b", 3), ("", 0), ("a", 2), ("b", 0)]).await;
}

#[tokio::test]
async fn five_failures_at_one_revision_list_anew() {
    let mut script = vec![ListFails, ListFails, List(vec![("a", 2)], 5, 1)];
    script.extend((0..WATCH_TRIES).map(|_| Watching(5, vec![], Some(lost()))));
    script.extend([List(vec![("a", 3)], 6, 1), Watching(6, vec![], None)]);
    check(script, &[("a", 2), ("", 0), ("a", 3)]).await;
}

#[tokio::test]
async fn no_selections_are_in_sync_at_once_and_several_only_together() {
    let store = Arc::new(Script(Mutex::new(VecDeque::new())));
    let mut none = Syncer::spawn(store.clone(), vec![], QUICK);
    assert_eq!(none.next().await, Some(SyncEvent::InSync));
    assert!(none.health().is_in_sync());

    let store = Arc::new(Script(Mutex::new([List(vec![("a", 2)], 5, 1)].into())));
    let kinds = vec![Selection::all(Kind::Tier), Selection::all(Kind::IPPool)];
    let mut two = Syncer::spawn(store, kinds, QUICK);
    assert!(matches!(two.next().await, Some(SyncEvent::Updates(_))));
    assert!(!two.health().is_in_sync());
    let more = tokio::time::timeout(Duration::from_millis(20), two.next()).await;
    assert!(more.is_err(), "{more:?}");
    assert!(!two.health().is_connected());
}

#[tokio::test]
async fn large_lists_come_in_pieces_and_nothing_is_missed() {
    let dir = tempfile::tempdir().unwrap();
    let store = crate::EmbeddedStore::open(dir.path().join("db")).unwrap();
    for chunk in (0..2000).collect::<Vec<_>>().chunks(100) {
        let puts: Vec<Write> =
            chunk.iter().map(|n| Write::put(key(&format!("t{n}")), Bytes::from_static(b"{}"))).collect();
        store.commit(&puts).await.unwrap();
    }
    let mut syncer = Syncer::spawn(Arc::new(store), vec![Selection::all(Kind::Tier)], QUICK);
    let mut seen = BTreeMap::new();
    loop {
        match syncer.next().await.unwrap() {
            SyncEvent::InSync => break,
            SyncEvent::Updates(updates) => {
                assert!(updates.len() <= BATCH);
                seen.extend(updates);
            }
        }
    }
    assert_eq!(seen.len(), 2000);
}
