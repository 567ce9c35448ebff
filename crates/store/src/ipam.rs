//! IPAM's operations over a store: what an operation asks for is read and written, and what came of it is fed back to it.
//! Whoever assigns or releases addresses does it by this one loop.

use std::error::Error;

use calico_api::{Key, Selection, Write};
use calico_ipam::{Known, Machine, Operation, Response, Step};

use crate::contention::wait_for_others;
use crate::{Attempt, CommitError, Found, ReadError, Store, attempt};

/// Why an operation did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum DriveError<E: Error + 'static> {
    /// IPAM refused.
    #[error(transparent)]
    Refused(E),
    /// The datastore did not do what it was asked.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What the datastore did not do.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Write.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Runs an operation that knows nothing yet to its end.
///
/// # Errors
/// The operation's own, or the store's.
pub async fn drive<O: Operation>(store: &dyn Store, operation: O) -> Result<O::Outcome, DriveError<O::Error>>
where
    O::Error: Error + 'static,
{
    drive_knowing(store, operation, &mut Known::new()).await?.map_err(DriveError::Refused)
}

/// Runs an operation to its end with what earlier ones have learnt, and leaves what it has learnt. After an error of the
/// store nothing is known. The inner result is the operation's own.
///
/// # Errors
/// When the store cannot be read or written.
pub async fn drive_knowing<O: Operation>(
    store: &dyn Store,
    operation: O,
    known: &mut Known,
) -> Result<Result<O::Outcome, O::Error>, StoreError> {
    let mut machine = Machine::new(operation, std::mem::take(known));
    loop {
        let response = match machine.step() {
            Step::Done(result) => {
                *known = machine.into_known();
                return Ok(result);
            }
            Step::Read { keys, selections } => read(store, keys, selections).await?,
            Step::Commit(writes) => commit(store, &writes).await?,
        };
        let lost = matches!(response, Response::Conflict { .. });
        machine.feed(response);
        if lost {
            wait_for_others(machine.conflicts()).await;
        }
    }
}

async fn read(store: &dyn Store, keys: Vec<Key>, selections: Vec<Selection>) -> Result<Response, StoreError> {
    let Found { entries, listings } = store.read(&keys, &selections).await?;
    Ok(Response::Read {
        entries: keys.into_iter().zip(entries).collect(),
        listings: selections.into_iter().zip(listings).collect(),
    })
}

async fn commit(store: &dyn Store, writes: &[Write]) -> Result<Response, CommitError> {
    Ok(match attempt(store, writes).await? {
        Attempt::Committed(revisions) => Response::Committed(revisions),
        Attempt::Conflict { index, current, applied } => Response::Conflict { index, current, applied },
    })
}

#[cfg(test)]
mod tests;
