//! IPAM's operations for tunnel addresses, over a store.

use std::error::Error;
use std::time::SystemTime;

use calico_ipam::{Known, Machine, Operation, Response, Step, UnixTime};
use calico_store::{Attempt, CommitError, GetError, ListError, Store, attempt};

/// Why an operation was not done.
#[derive(Debug, thiserror::Error)]
pub enum IpamError<E: Error + 'static> {
    /// IPAM refused.
    #[error(transparent)]
    Refused(E),
    /// An entry could not be read.
    #[error("cannot read IPAM's records")]
    Get(#[from] GetError),
    /// Entries could not be listed.
    #[error("cannot read IPAM's records")]
    List(#[from] ListError),
    /// Something could not be written.
    #[error("cannot write IPAM's records")]
    Commit(#[from] CommitError),
}

/// Now, for IPAM.
pub fn now() -> UnixTime {
    UnixTime::from_secs(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs())
}

/// Runs an operation to its end.
pub async fn run<O: Operation>(store: &dyn Store, operation: O) -> Result<O::Outcome, IpamError<O::Error>>
where
    O::Error: Error + 'static,
{
    let mut machine = Machine::new(operation, Known::new());
    loop {
        let response = match machine.step() {
            Step::Done(result) => return result.map_err(IpamError::Refused),
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
            Step::Commit(writes) => match attempt(store, &writes).await? {
                Attempt::Committed(revisions) => Response::Committed(revisions),
                Attempt::Conflict { index, current, applied } => {
                    Response::Conflict { index, current, applied }
                }
            },
        };
        machine.feed(response);
    }
}
