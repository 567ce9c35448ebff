//! The process's writer: commits that wait for each other share one transaction, and so one fsync.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use calico_api::Write;
use rusqlite::Connection;
use tokio::sync::oneshot;

use super::bell::Bell;
use super::database::{self, Outcome};
use super::now_ms;
use super::place::Place;
use crate::error::{CommitError, Fault};
use crate::store::Committed;

/// How many commits share a transaction at most: enough that fsync does not count any more, few enough that the lock
/// is held for milliseconds.
const BATCH: usize = 64;

type Answer = Result<Committed, CommitError>;

/// A commit that waits for its turn.
#[derive(Debug)]
struct Request {
    writes: Vec<Write>,
    answer: oneshot::Sender<Answer>,
}

/// One connection for all commits of the process; SQLite has one writer anyway.
#[derive(Debug)]
pub(super) struct Writer {
    place: Arc<Place>,
    connection: Mutex<Connection>,
    queue: Mutex<Vec<Request>>,
}

/// A panic while a lock was held left a connection whose transaction rolled back, or a queue that is whole: no reason
/// to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Writer {
    pub(super) fn new(place: Arc<Place>, connection: Connection) -> Writer {
        Writer { place, connection: Mutex::new(connection), queue: Mutex::default() }
    }

    /// Forgets history.
    pub(super) fn compact(&self, revision: i64) -> Result<(), Fault> {
        self.place.check()?;
        database::compact(&mut lock(&self.connection), revision)
    }

    fn try_commit(&self, connection: &mut Connection, batch: &[&[Write]]) -> Result<Outcome, Fault> {
        self.place.check()?;
        database::commit(connection, batch, now_ms())
    }

    /// Commits at once, on this thread.
    pub(super) fn commit(&self, writes: &[Write], bell: &Bell) -> Answer {
        let outcome = self.try_commit(&mut lock(&self.connection), &[writes])?;
        if outcome.logged {
            bell.ring();
        }
        // One commit, one answer.
        outcome.results.into_iter().next().unwrap_or(Ok(Committed { revisions: Vec::new() }))
    }

    /// Queues a commit. Whoever queues one must call [`Writer::drain`] afterwards.
    pub(super) fn enqueue(&self, writes: Vec<Write>) -> oneshot::Receiver<Answer> {
        let (answer, receiver) = oneshot::channel();
        lock(&self.queue).push(Request { writes, answer });
        receiver
    }

    /// Carries out what waits. While one thread does, the queue grows for the next, which then finds all of it: the
    /// longer a commit takes, the more share the next.
    pub(super) fn drain(&self, bell: &Bell) {
        let mut connection = lock(&self.connection);
        let batch: Vec<Request> = {
            let mut queue = lock(&self.queue);
            let count = queue.len().min(BATCH);
            queue.drain(..count).collect()
        };
        if batch.is_empty() {
            return;
        }
        let writes: Vec<&[Write]> = batch.iter().map(|request| &request.writes[..]).collect();
        let outcome = self.try_commit(&mut connection, &writes);
        drop(connection);
        match outcome {
            Ok(outcome) => {
                if outcome.logged {
                    bell.ring();
                }
                for (request, result) in batch.into_iter().zip(outcome.results) {
                    // A caller that has gone does not want to know.
                    let _ = request.answer.send(result);
                }
            }
            // Alone, each gets an error of its own, and one that cannot succeed does not fail the others.
            Err(_) => {
                for request in batch {
                    let result = self.commit(&request.writes, bell);
                    let _ = request.answer.send(result);
                }
            }
        }
    }
}
