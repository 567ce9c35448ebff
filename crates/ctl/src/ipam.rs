//! Runs IPAM's operations against a store.

use calico_ipam::{Known, Machine, Operation, Response, Step, UnixTime};
use calico_store::{Atomicity, CommitError, Store};

/// Now, for IPAM.
pub(crate) fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// Runs an operation to its end; also gives what it has learnt of the datastore.
///
/// # Errors
/// The operation's own, or the store's.
pub(crate) async fn drive<O: Operation>(
    store: &dyn Store,
    operation: O,
) -> anyhow::Result<(O::Outcome, Known)>
where
    O::Error: std::error::Error + Send + Sync + 'static,
{
    let mut machine = Machine::new(operation, Known::new());
    loop {
        let response = match machine.step() {
            Step::Done(result) => {
                let outcome = result?;
                return Ok((outcome, machine.into_known()));
            }
            Step::Read { keys, selections } => {
                let mut entries = Vec::new();
                for key in keys {
                    let entry = store.get(&key).await?;
                    entries.push((key, entry));
                }
                let mut listings = Vec::new();
                for selection in selections {
                    let listing = store.list(&selection).await?;
                    listings.push((selection, listing.entries));
                }
                Response::Read { entries, listings }
            }
            Step::Commit(writes) => match store.commit(&writes).await {
                Ok(committed) => Response::Committed(committed.revisions),
                Err(CommitError::Conflict { index, current, .. })
                    if store.atomicity() == Atomicity::Atomic =>
                {
                    Response::Conflict { index, current: current.map(|e| *e), applied: Vec::new() }
                }
                Err(error) => return Err(error.into()),
            },
        };
        machine.feed(response);
    }
}
