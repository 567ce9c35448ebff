//! The embedded store: one SQLite file in WAL mode that every process of a host shares.
//!
//! ```text
//!  commit ──▶ BEGIN IMMEDIATE, compare, write, log ──▶ COMMIT ──▶ ring the bell file
//!                                                                     │ inotify (or a slow poll)
//!  watch ◀── filter ◀── page of the log ◀── follower thread ◀─────────┘
//! ```
//! Table `entry` is the state; table `log` is the recent history, which makes revisions and watches like etcd's: one
//! revision per commit, watches that resume, a horizon behind which they are told to list again. Every process reads
//! each new page of the log once, however many watches it has; a watch that falls behind reads for itself.
//!
//! The follower also removes what has expired and folds SQLite's write-ahead log into the file. A process keeps to the
//! file that it opened: once the path leads elsewhere, every operation says so.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use calico_api::{Entry, Key, Revision, Selection, Write};
use rusqlite::Connection;

use crate::error::{CommitError, CompactError, Fault, GetError, ListError, ReadError, WatchError};
use crate::store::{Atomicity, Committed, Found, Listing, Store, check_shape};
use crate::watch::Watch;

mod bell;
mod database;
mod follower;
mod place;
mod schema;
mod upkeep;
mod writer;

use bell::Bell;
use follower::Follower;
use place::Place;
use writer::Writer;

/// A datastore in a file. Cheap to clone; clones share connections.
#[derive(Clone, Debug)]
pub struct EmbeddedStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    place: Arc<Place>,
    writer: Writer,
    /// Reads, so that a long list does not hold up this process's commits. Opened when first used: a short-lived
    /// process that only commits pays for one connection.
    reader: Lane,
    bell: Bell,
    follower: Arc<Follower>,
}

/// A connection that is opened when first used.
#[derive(Debug, Default)]
struct Lane(Mutex<Option<Connection>>);

impl Lane {
    /// Does something with the connection. A panic inside leaves a connection whose transaction rolled back, so a
    /// poisoned lock is no reason to stop.
    fn with<T>(
        &self,
        place: &Place,
        f: impl FnOnce(&mut Connection) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let mut slot: MutexGuard<'_, Option<Connection>> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let connection = match slot.as_mut() {
            Some(connection) => {
                place.check()?;
                connection
            }
            None => slot.insert(place.open()?),
        };
        f(connection)
    }
}

/// Milliseconds since 1970: what expiry times are counted in, as several processes compare them.
fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl EmbeddedStore {
    /// Opens the datastore at a path, creating it (and its directory) if there is none. Blocks for a few
    /// milliseconds at most, longer only while another process creates it.
    pub fn open(path: impl Into<PathBuf>) -> Result<EmbeddedStore, Fault> {
        EmbeddedStore::open_by(path.into(), schema::open_or_create)
    }

    /// Opens the datastore at a path. That there is none is an error: for whoever only reads, and for whom an empty one
    /// would be a wrong answer.
    pub fn open_existing(path: impl Into<PathBuf>) -> Result<EmbeddedStore, Fault> {
        EmbeddedStore::open_by(path.into(), schema::open)
    }

    fn open_by(
        path: PathBuf,
        open: impl Fn(&Path) -> Result<Connection, Fault>,
    ) -> Result<EmbeddedStore, Fault> {
        let (place, connection) = Place::find(path, open)?;
        let place = Arc::new(place);
        let bell = Bell::open(place.path()).map_err(|e| schema::io_fault(e, &Bell::path(place.path())))?;
        let writer = Writer::new(place.clone(), connection);
        let follower = Arc::new(Follower::new(place.clone()));
        Ok(EmbeddedStore {
            shared: Arc::new(Shared { place, writer, reader: Lane::default(), bell, follower }),
        })
    }

    /// Where it is stored.
    pub fn path(&self) -> &Path {
        self.shared.place.path()
    }

    /// Commits without leaving the calling thread, for callers that have no async runtime.
    pub fn commit_blocking(&self, writes: &[Write]) -> Result<Committed, CommitError> {
        check_shape(writes)?;
        let Shared { writer, bell, .. } = &*self.shared;
        writer.commit(writes, bell)
    }

    fn get_blocking(&self, key: &Key) -> Result<Option<Entry>, GetError> {
        let Shared { place, reader, .. } = &*self.shared;
        reader
            .with(place, |c| database::get(c, key, now_ms()))
            .map_err(|fault| GetError { key: key.clone(), fault })
    }

    fn read_blocking(&self, keys: &[Key], selections: &[Selection]) -> Result<Found, ReadError> {
        let entries = keys.iter().map(|key| self.get_blocking(key)).collect::<Result<_, _>>()?;
        let listings = selections.iter().map(|selection| Ok(self.list_blocking(selection)?.entries));
        Ok(Found { entries, listings: listings.collect::<Result<_, ListError>>()? })
    }

    fn list_blocking(&self, selection: &Selection) -> Result<Listing, ListError> {
        let Shared { place, reader, .. } = &*self.shared;
        reader
            .with(place, |c| database::list(c, selection, now_ms()))
            .map_err(|fault| ListError { selection: selection.clone(), fault })
    }
}

/// Runs blocking work on the runtime's threads for such work; a panic goes on in the caller.
async fn off_thread<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, Fault> {
    match tokio::task::spawn_blocking(f).await {
        Ok(value) => Ok(value),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(cancelled) => Err(Fault::Unavailable(cancelled.into())),
        },
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, GetError> {
        let (store, wanted) = (self.clone(), key.clone());
        off_thread(move || store.get_blocking(&wanted))
            .await
            .unwrap_or_else(|fault| Err(GetError { key: key.clone(), fault }))
    }

    async fn list(&self, selection: &Selection) -> Result<Listing, ListError> {
        let (store, wanted) = (self.clone(), selection.clone());
        off_thread(move || store.list_blocking(&wanted))
            .await
            .unwrap_or_else(|fault| Err(ListError { selection: selection.clone(), fault }))
    }

    async fn read(&self, keys: &[Key], selections: &[Selection]) -> Result<Found, ReadError> {
        let (store, wanted_keys, wanted_selections) = (self.clone(), keys.to_vec(), selections.to_vec());
        off_thread(move || store.read_blocking(&wanted_keys, &wanted_selections))
            .await
            .unwrap_or_else(|fault| Err(ReadError::of_first(keys, selections, fault)))
    }

    async fn watch(&self, selection: &Selection, from: Option<Revision>) -> Result<Watch, WatchError> {
        follower::watch(self, selection.clone(), from).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Committed, CommitError> {
        check_shape(writes)?;
        let answer = self.shared.writer.enqueue(writes.to_vec());
        let shared = self.shared.clone();
        off_thread(move || shared.writer.drain(&shared.bell)).await?;
        answer.await.map_err(|gone| Fault::Unavailable(gone.into()))?
    }

    fn atomicity(&self) -> Atomicity {
        Atomicity::Atomic
    }

    fn lost(&self) -> Option<Fault> {
        self.shared.place.check().err()
    }

    async fn compact(&self, revision: &Revision) -> Result<(), CompactError> {
        let (store, revision) = (self.clone(), database::number(revision));
        let compacted = off_thread(move || store.shared.writer.compact(revision));
        compacted.await.and_then(|done| done).map_err(CompactError)
    }
}

#[cfg(test)]
mod tests;
