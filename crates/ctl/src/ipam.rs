//! Runs IPAM's operations against a store.

use std::time::Duration;

use calico_ipam::{Assignment, Known, Machine, Operation, Response, Step, Target, UnixTime};
use calico_store::{Attempt, Store, attempt};

/// Now, for IPAM.
pub(crate) fn now() -> UnixTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    UnixTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The release of exactly this assignment of an address.
pub(crate) fn target(address: std::net::IpAddr, assignment: &Assignment) -> Target {
    let Assignment { block, owner: _, attribute, sequence } = assignment;
    Target { address, block: Some(*block), handle: attribute.handle_id.clone(), sequence: *sequence }
}

/// The first pause after a write conflict is at most this long; each further one may be twice as long.
const PAUSE: Duration = Duration::from_millis(2);
/// No pause is longer: what others hold is one commit, not a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// How long to wait after so many conflicts: any part of a span that doubles, so that writers who met once do not meet
/// again. `chance` is random.
fn pause(conflicts: u32, chance: u16) -> Duration {
    let doublings = conflicts.saturating_sub(1).min(16);
    (PAUSE * (1 << doublings)).min(LONGEST_PAUSE) * u32::from(chance) / u32::from(u16::MAX)
}

/// Waits for other writers to finish, after so many conflicts with them.
pub(crate) async fn wait_for_others(conflicts: u32) {
    let [.., high, low] = uuid::Uuid::new_v4().into_bytes();
    tokio::time::sleep(pause(conflicts, u16::from_be_bytes([high, low]))).await;
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
            Step::Commit(writes) => match attempt(store, &writes).await? {
                Attempt::Committed(revisions) => Response::Committed(revisions),
                Attempt::Conflict { index, current, applied } => {
                    Response::Conflict { index, current, applied }
                }
            },
        };
        let lost = matches!(response, Response::Conflict { .. });
        machine.feed(response);
        if lost {
            wait_for_others(machine.conflicts()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_limit_and_differ_by_chance() {
        assert_eq!(pause(1, 0), Duration::ZERO);
        assert_eq!(pause(1, u16::MAX), PAUSE);
        assert_eq!(pause(3, u16::MAX), PAUSE * 4);
        assert_eq!(pause(u32::MAX, u16::MAX), LONGEST_PAUSE);
        assert!(pause(u32::MAX, u16::MAX / 2) < LONGEST_PAUSE / 2);
    }
}
