//! What whoever follows the log does for everybody besides: it removes what has expired, and folds the write-ahead log
//! back into the file.
//!
//! Both write, and a disk may be full: then they are tried again later, and reading goes on. Nobody sees an expired entry
//! meanwhile; only its deletion comes late.

use std::time::{Duration, Instant};

use rusqlite::Connection;

use super::{database, schema};
use crate::error::{Fault, chain};

/// How long after a commit the file has it, if somebody follows the log: soon enough for whoever takes a copy, and seldom
/// enough that its two fsyncs do not count.
const FOLD_AFTER: Duration = Duration::from_secs(10);

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Something that is tried again after a while if it fails; each reason is said once.
#[derive(Debug)]
struct Chore {
    what: &'static str,
    failure: Option<Failure>,
}

#[derive(Debug)]
struct Failure {
    reason: String,
    next_try: Instant,
}

impl Chore {
    fn new(what: &'static str) -> Chore {
        Chore { what, failure: None }
    }

    /// `None` if it fails, or has failed lately.
    fn attempt<T>(&mut self, now: Instant, work: impl FnOnce() -> Result<T, Fault>) -> Option<T> {
        let what = self.what;
        if self.failure.as_ref().is_some_and(|failure| now < failure.next_try) {
            return None;
        }
        match work() {
            Ok(done) => {
                if self.failure.take().is_some() {
                    tracing::info!("{what} works again");
                }
                Some(done)
            }
            Err(fault) => {
                let reason = chain(&fault);
                if self.failure.as_ref().is_none_or(|failure| failure.reason != reason) {
                    tracing::warn!(error = reason, "{what} fails; trying again");
                }
                self.failure = Some(Failure { reason, next_try: now + RETRY });
                None
            }
        }
    }
}

/// The chores of one follower.
#[derive(Debug)]
pub(super) struct Upkeep {
    expiry: Chore,
    folding: Chore,
    /// When the first commit was seen that the file may not have.
    unfolded_since: Option<Instant>,
}

impl Upkeep {
    pub(super) fn new() -> Upkeep {
        Upkeep {
            expiry: Chore::new("removing expired entries from the datastore"),
            folding: Chore::new("folding the datastore's write-ahead log"),
            unfolded_since: None,
        }
    }

    /// Somebody has committed.
    pub(super) fn note_commit(&mut self, now: Instant) {
        self.unfolded_since.get_or_insert(now);
    }

    /// Removes what has expired. Says whether there was anything.
    pub(super) fn expire(&mut self, connection: &mut Connection, now: Instant, now_ms: i64) -> bool {
        self.expiry.attempt(now, || database::expire(connection, now_ms)).unwrap_or(false)
    }

    /// Folds, if it is time.
    pub(super) fn fold(&mut self, connection: &Connection, now: Instant) {
        if self.unfolded_since.is_some_and(|since| now.duration_since(since) >= FOLD_AFTER)
            && self.folding.attempt(now, || schema::fold(connection)).is_some()
        {
            self.unfolded_since = None;
        }
    }

    /// How long to wait for an entry that expires in a while: not at all only where its removal is tried then.
    pub(super) fn wait(&self, until_expiry: Duration, now: Instant) -> Duration {
        let until_try = self.expiry.failure.as_ref().map(|failure| failure.next_try.duration_since(now));
        until_expiry.max(until_try.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use calico_api::{Expect, Key, Kind, Write};

    use super::*;
    use crate::EmbeddedStore;

    fn store() -> (tempfile::TempDir, EmbeddedStore, Connection) {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path().join("store.db")).unwrap();
        let connection = schema::open(store.path()).unwrap();
        (dir, store, connection)
    }

    fn put(name: &str, ttl_secs: Option<u32>) -> Write {
        let key = Key::resource(Kind::NetworkPolicy, "ns", name);
        Write::Put { key, value: Bytes::from_static(b"{}"), expect: Expect::Any, ttl_secs }
    }

    #[test]
    fn what_cannot_be_removed_is_tried_again_after_a_while() {
        let (_dir, store, mut connection) = store();
        store.commit_blocking(&[put("p", Some(0))]).unwrap();
        connection
            .execute_batch(
                "CREATE TRIGGER full BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'full'); END",
            )
            .unwrap();
        let (mut upkeep, start, none) = (Upkeep::new(), Instant::now(), Duration::ZERO);
        assert!(!upkeep.expire(&mut connection, start, i64::MAX));
        assert_eq!(upkeep.wait(none, start), RETRY, "no busy loop");
        connection.execute_batch("DROP TRIGGER full").unwrap();
        assert!(!upkeep.expire(&mut connection, start + RETRY / 2, i64::MAX), "too early");
        assert!(upkeep.expire(&mut connection, start + RETRY, i64::MAX));
        assert_eq!(upkeep.wait(none, start + RETRY), none);
    }

    #[test]
    fn the_file_alone_has_everything_after_a_while() {
        let (dir, store, connection) = store();
        store.commit_blocking(&[put("p", None)]).unwrap();
        let copy = dir.path().join("copy.db");
        let entries = || {
            std::fs::copy(store.path(), &copy).unwrap();
            let found =
                schema::open(&copy).unwrap().query_row("SELECT count(*) FROM entry", [], |row| row.get(0));
            for suffix in ["", "-wal", "-shm"] {
                // Not each of them is there.
                let _ = std::fs::remove_file(schema::beside(&copy, suffix));
            }
            found.unwrap()
        };
        let (mut upkeep, start) = (Upkeep::new(), Instant::now());
        upkeep.note_commit(start);
        upkeep.fold(&connection, start + FOLD_AFTER / 2);
        let early: i64 = entries();
        upkeep.fold(&connection, start + FOLD_AFTER);
        assert_eq!((early, entries()), (0, 1));
    }
}
