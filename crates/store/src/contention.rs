//! Pauses of writers who met: who lost a compare-and-swap waits for a while that differs by chance, so that those who met
//! once do not meet again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// The first pause after a write conflict is at most this long; each further one may be twice as long.
const PAUSE: Duration = Duration::from_millis(2);
/// No pause is longer: what others hold is one commit, not a lock.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Waits for other writers to finish, after so many conflicts with them.
pub async fn wait_for_others(conflicts: u32) {
    // A hasher's keys are random; that is all that is wanted of it.
    let [.., high, low] = RandomState::new().hash_one(conflicts).to_be_bytes();
    tokio::time::sleep(pause(conflicts, u16::from_be_bytes([high, low]))).await;
}

/// How long to wait after so many conflicts: any part of a span that doubles. `chance` is random.
fn pause(conflicts: u32, chance: u16) -> Duration {
    let doublings = conflicts.saturating_sub(1).min(16);
    (PAUSE * (1 << doublings)).min(LONGEST_PAUSE) * u32::from(chance) / u32::from(u16::MAX)
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
