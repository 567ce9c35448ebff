//! Runs operations of IPAM over a store.

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use calico_api::Write;
use calico_ipam::{Known, Machine, Operation, Response, Step};
use calico_store::{Attempt, CommitError, Store, attempt};

/// The first pause after a write conflict is at most this long; each further one may be twice as long, up to
/// [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(2);
/// No pause is longer: what others hold is one commit, not a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Why an operation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DriveError<E: Error + 'static> {
    /// The datastore's fault.
    #[error("{0}")]
    Store(String),
    /// The operation's own.
    #[error(transparent)]
    Operation(E),
}

/// An error with its causes, in one line.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Runs an operation that knows nothing yet to its end.
///
/// # Errors
/// The operation's own, or the store's.
pub async fn drive<O: Operation>(store: &dyn Store, operation: O) -> Result<O::Outcome, DriveError<O::Error>>
where
    O::Error: Error + 'static,
{
    let fault = |error: &dyn Error| DriveError::Store(chain(error));
    let mut machine = Machine::new(operation, Known::new());
    loop {
        let response = match machine.step() {
            Step::Done(result) => return result.map_err(DriveError::Operation),
            Step::Read { keys, selections } => {
                let mut entries = Vec::with_capacity(keys.len());
                for key in keys {
                    let entry = store.get(&key).await.map_err(|e| fault(&e))?;
                    entries.push((key, entry));
                }
                let mut listings = Vec::with_capacity(selections.len());
                for selection in selections {
                    let listing = store.list(&selection).await.map_err(|e| fault(&e))?;
                    listings.push((selection, listing.entries));
                }
                Response::Read { entries, listings }
            }
            Step::Commit(writes) => commit(store, &writes).await.map_err(|e| fault(&e))?,
        };
        let lost = matches!(response, Response::Conflict { .. });
        machine.feed(response);
        if lost {
            tokio::time::sleep(pause(machine.conflicts())).await;
        }
    }
}

async fn commit(store: &dyn Store, writes: &[Write]) -> Result<Response, CommitError> {
    Ok(match attempt(store, writes).await? {
        Attempt::Committed(revisions) => Response::Committed(revisions),
        Attempt::Conflict { index, current, applied } => Response::Conflict { index, current, applied },
    })
}

/// How long to wait after so many conflicts: any part of a span that doubles, so that writers who met once do not meet
/// again.
fn pause(conflicts: u32) -> Duration {
    let span = (PAUSE * (1 << conflicts.saturating_sub(1).min(16))).min(LONGEST_PAUSE);
    // A hasher's keys are random; that is all that is wanted of it.
    span * (RandomState::new().hash_one(conflicts) as u32 & 0xff) / 0xff
}
