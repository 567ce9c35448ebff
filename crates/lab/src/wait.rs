//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Asks every `interval` until `condition` holds; false when `deadline` passed first.
pub fn until(deadline: Duration, interval: Duration, mut condition: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + deadline;
    loop {
        if condition() {
            return true;
        }
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(interval);
    }
}
