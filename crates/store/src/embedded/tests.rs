//! What only the embedded store promises; the contract suite covers the rest.

use bytes::Bytes;
use calico_api::{Expect, Kind};

use super::*;
use crate::error::chain;
use crate::watch::WatchEvent;

fn key(name: &str) -> Key {
    Key::resource(Kind::NetworkPolicy, "ns", name)
}

fn store() -> (tempfile::TempDir, EmbeddedStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(dir.path().join("sub/store.db")).unwrap();
    (dir, store)
}

#[tokio::test]
async fn two_handles_of_one_file_see_each_other() {
    let (_dir, a) = store();
    let b = EmbeddedStore::open(a.path()).unwrap();
    let mut watch = b.watch(&Selection::all(Kind::NetworkPolicy), None).await.unwrap();
    assert_eq!(watch.next().await.unwrap(), WatchEvent::Progress(Revision::from(1)));
    let done = a.commit(&[Write::create(key("p"), Bytes::from_static(b"{}"))]).await.unwrap();
    let entry = b.get(&key("p")).await.unwrap().unwrap();
    assert_eq!(entry.revision, done.revisions[0]);
    assert_eq!(watch.next().await.unwrap(), WatchEvent::Put(entry));
}

#[test]
fn files_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, store) = store();
    store.commit_blocking(&[Write::put(key("p"), Bytes::new())]).unwrap();
    for suffix in ["", "-wal", "-shm", "-bell"] {
        let path = format!("{}{suffix}", store.path().display());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{path}");
    }
}

#[test]
fn what_is_not_a_datastore_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("nodename");
    std::fs::write(&path, "node1, not a database, but long enough to have a header of its own\n".repeat(3))
        .unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(EmbeddedStore::open(&path), Err(Fault::Broken(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_newer_format_is_refused() {
    let (_dir, store) = store();
    schema::open(store.path()).unwrap().execute_batch("PRAGMA user_version = 2").unwrap();
    let error = EmbeddedStore::open(store.path()).unwrap_err();
    let Fault::Broken(cause) = error else { panic!("{error:?}") };
    assert!(cause.to_string().contains("format 2"), "{cause}");
}

#[test]
fn many_may_create_the_file_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.db");
    std::thread::scope(|s| {
        for n in 0..8 {
            let path = &path;
            s.spawn(move || {
                let store = EmbeddedStore::open(path).unwrap();
                store.commit_blocking(&[Write::create(key(&format!("p{n}")), Bytes::new())]).unwrap();
            });
        }
    });
    let store = EmbeddedStore::open(&path).unwrap();
    let listing = store.list_blocking(&Selection::all(Kind::NetworkPolicy)).unwrap();
    assert_eq!((listing.entries.len(), listing.revision), (8, Revision::from(9)));
}

#[test]
fn the_log_stays_within_its_bounds() {
    let (_dir, store) = store();
    let value = Bytes::from(vec![b'x'; 1 << 20]);
    for _ in 0..80 {
        store.commit_blocking(&[Write::put(key("big"), value.clone())]).unwrap();
    }
    let logged: i64 = schema::open(store.path())
        .unwrap()
        .query_row("SELECT sum(length(value)) FROM log", [], |row| row.get(0))
        .unwrap();
    assert!(logged <= 65 << 20, "{logged} bytes of history");
}

#[test]
fn expired_entries_are_absent_for_comparisons_and_get_a_deletion_of_their_own() {
    let (_dir, store) = store();
    let put = Write::Put {
        key: key("p"),
        value: Bytes::from_static(b"1"),
        expect: Expect::Absent,
        ttl_secs: Some(0),
    };
    for _ in 0..3 {
        store.commit_blocking(std::slice::from_ref(&put)).unwrap();
    }
    assert_eq!(store.get_blocking(&key("p")).unwrap(), None);
    let page = database::read_page(&mut schema::open(store.path()).unwrap(), 1).unwrap();
    let puts: Vec<bool> = page.rows.iter().map(|row| row.value.is_some()).collect();
    assert_eq!(puts, [true, false, true, false, true]);
    assert_eq!(page.through, 6);
}

#[tokio::test]
async fn commits_that_share_a_transaction_stay_apart() {
    let (_dir, store) = store();
    let alone = (0..50).map(|n| [Write::create(key(&format!("p{n}")), Bytes::from_static(b"{}"))]);
    // Everybody wants the same key besides one of their own: one wins, and the losers leave nothing.
    let rival = |n: u32| {
        let own = Write::create(key(&format!("own{n}")), Bytes::from_static(b"{}"));
        [own, Write::create(key("prize"), Bytes::from(n.to_string()))]
    };
    let (alone, rivals): (Vec<_>, Vec<_>) = (alone.collect(), (0..50).map(rival).collect());
    let writes = alone.iter().map(|w| &w[..]).chain(rivals.iter().map(|w| &w[..]));
    let results = futures::future::join_all(writes.map(|w| store.commit(w))).await;

    let mut revisions: Vec<&Revision> = results.iter().flatten().map(|done| &done.revisions[0]).collect();
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), 51, "commits share revisions, or failed");
    let lost = |r: &Result<Committed, CommitError>| matches!(r, Err(CommitError::Conflict { index: 1, .. }));
    assert_eq!(results.iter().filter(|r| lost(r)).count(), 49);
    assert_eq!(store.list_blocking(&Selection::all(Kind::NetworkPolicy)).unwrap().entries.len(), 52);
}

#[tokio::test]
async fn a_bell_that_never_rang_costs_time_and_nothing_else() {
    let (_dir, store) = store();
    let mut watch = store.watch(&Selection::all(Kind::NetworkPolicy), Some(Revision::from(1))).await.unwrap();
    // As by a writer that died between its commit and the bell.
    let mut silent = schema::open(store.path()).unwrap();
    let mut commit = |name: &str| {
        let write = Write::put(key(name), Bytes::from_static(b"{}"));
        assert!(database::commit(&mut silent, &[&[write]], now_ms()).unwrap().logged);
    };
    commit("a");
    assert!(matches!(watch.next().await.unwrap(), WatchEvent::Put(e) if e.key == key("a")));
    assert!(matches!(watch.next().await.unwrap(), WatchEvent::Progress(_)));
    // History that goes before anybody was woken to read it: the watch is told, though nothing else happens.
    commit("b");
    commit("c");
    database::compact(&mut silent, 100).unwrap();
    let end = tokio::time::timeout(std::time::Duration::from_secs(10), watch.next()).await.unwrap();
    assert!(matches!(end, Err(WatchError::Compacted)), "{end:?}");
}

#[test]
fn where_there_is_no_database_none_is_made_for_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sub/store.db");
    let error = EmbeddedStore::open_existing(&path).unwrap_err();
    assert!(error.is_transient(), "the agent may make it");
    let text = chain(&error);
    assert!(text.contains("there is no such file") && text.contains("CALICO_DATASTORE_PATH"), "{text}");
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    // An empty file is nobody's cluster.
    let empty = dir.path().join("empty.db");
    std::fs::write(&empty, "").unwrap();
    let text = chain(&EmbeddedStore::open_existing(&empty).unwrap_err());
    assert!(text.contains("has no tables"), "{text}");
    assert_eq!(std::fs::metadata(&empty).unwrap().len(), 0);
    // The control.
    drop(EmbeddedStore::open(&path).unwrap());
    EmbeddedStore::open_existing(&path).unwrap();
}

#[test]
fn commits_without_their_database_are_not_thrown_away() {
    let (dir, store) = store();
    let (path, elsewhere) = (store.path().to_owned(), dir.path().join("elsewhere.db"));
    store.commit_blocking(&[Write::create(key("p"), Bytes::from_static(b"{}"))]).unwrap();
    drop(store);
    let wal = schema::beside(&path, "-wal");
    let before = std::fs::read(&wal).unwrap();
    assert!(!before.is_empty(), "this is about commits that the file does not have");
    std::fs::rename(&path, &elsewhere).unwrap();
    for opened in [EmbeddedStore::open(&path), EmbeddedStore::open_existing(&path)] {
        let text = chain(&opened.unwrap_err());
        assert!(text.contains("store.db-wal is not"), "{text}");
        assert!(!path.exists());
    }
    assert_eq!(std::fs::read(&wal).unwrap(), before);
    std::fs::rename(&elsewhere, &path).unwrap();
    let store = EmbeddedStore::open(&path).unwrap();
    assert!(store.get_blocking(&key("p")).unwrap().is_some());
}

#[test]
fn a_new_database_is_whole_in_its_file() {
    let (dir, store) = store();
    let copy = dir.path().join("copy.db");
    std::fs::copy(store.path(), &copy).unwrap();
    let copy = EmbeddedStore::open_existing(copy).unwrap();
    let history = |s: &EmbeddedStore| s.list_blocking(&Selection::all(Kind::NetworkPolicy)).unwrap().history;
    assert_eq!(history(&copy), history(&store));
}

/// What every operation of a store whose file is not at its path says.
async fn check_lost(store: &EmbeddedStore, expected: &str) {
    let everything = Selection::all(Kind::NetworkPolicy);
    let faults = [
        store.get(&key("p")).await.unwrap_err().fault,
        store.list(&everything).await.unwrap_err().fault,
        match store.commit(&[Write::put(key("q"), Bytes::new())]).await {
            Err(CommitError::Fault(fault)) => fault,
            other => panic!("{other:?}"),
        },
        store.compact(&Revision::from(1)).await.unwrap_err().0,
        match store.watch(&everything, None).await {
            Err(WatchError::Lost(fault)) => fault,
            other => panic!("{other:?}"),
        },
        store.lost().unwrap(),
    ];
    for fault in faults {
        let text = chain(&fault);
        assert!(text.contains(expected) && text.contains(store.path().to_str().unwrap()), "{text}");
    }
}

#[tokio::test]
async fn a_database_that_was_moved_is_lost_until_it_is_back() {
    let (dir, store) = store();
    let (path, elsewhere) = (store.path().to_owned(), dir.path().join("elsewhere.db"));
    store.commit(&[Write::create(key("p"), Bytes::from_static(b"{}"))]).await.unwrap();
    let mut watch = store.watch(&Selection::all(Kind::NetworkPolicy), Some(Revision::from(2))).await.unwrap();
    let mut pages = store.shared.follower.subscribe().unwrap();
    std::fs::rename(&path, &elsewhere).unwrap();
    // Nothing happens there, so it is the follower that has to notice.
    let ends = async { while pages.recv().await.is_ok() {} };
    tokio::time::timeout(std::time::Duration::from_secs(10), ends).await.unwrap();
    assert!(chain(&watch.next().await.unwrap_err()).contains("store.db is gone"));
    check_lost(&store, "is gone").await;
    // Whatever comes in its place, revisions of one history say nothing about the other.
    let other = dir.path().join("other.db");
    drop(EmbeddedStore::open(&other).unwrap());
    std::fs::rename(&other, &path).unwrap();
    check_lost(&store, "another file").await;
    std::fs::rename(&elsewhere, &path).unwrap();
    assert!(store.lost().is_none());
    assert!(store.get(&key("p")).await.unwrap().is_some());
    let mut watch = store.watch(&Selection::all(Kind::NetworkPolicy), None).await.unwrap();
    assert!(matches!(watch.next().await.unwrap(), WatchEvent::Put(_)));
}

/// As on a full disk: reading goes on where nothing can be removed.
#[tokio::test]
async fn a_watch_outlives_what_expires_and_cannot_be_removed() {
    let (_dir, store) = store();
    let mut watch = store.watch(&Selection::all(Kind::NetworkPolicy), Some(Revision::from(1))).await.unwrap();
    let full = "CREATE TRIGGER full BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'disk is full'); END";
    schema::open(store.path()).unwrap().execute_batch(full).unwrap();
    let short = Write::Put {
        key: key("short"),
        value: Bytes::from_static(b"{}"),
        expect: Expect::Any,
        ttl_secs: Some(0),
    };
    store.commit(&[short]).await.unwrap();
    assert!(matches!(watch.next().await.unwrap(), WatchEvent::Put(e) if e.key == key("short")));
    assert!(matches!(watch.next().await.unwrap(), WatchEvent::Progress(_)));
    let mut other = schema::open(store.path()).unwrap();
    // Turns enough to have tried.
    let end = tokio::time::timeout(std::time::Duration::from_secs(2), watch.next()).await;
    assert!(end.is_err(), "{end:?}");
    assert_eq!(store.get(&key("short")).await.unwrap(), None);
    // The disk has room again: what was late comes.
    other.execute_batch("DROP TRIGGER full").unwrap();
    assert!(database::next_expiry(&other).unwrap().is_some(), "it was late");
    let next = tokio::time::timeout(std::time::Duration::from_secs(20), watch.next()).await.unwrap().unwrap();
    assert!(matches!(next, WatchEvent::Deleted { key: k, .. } if k == key("short")));
    assert!(!database::expire(&mut other, i64::MAX).unwrap(), "it is gone");
}
