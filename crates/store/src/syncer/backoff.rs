//! How long to wait before the next try.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Doubling waits with jitter, so that the nodes of a cluster do not all return to a restarted store at once.
#[derive(Debug)]
pub(super) struct Backoff {
    first: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(first: Duration, max: Duration) -> Backoff {
        // Every hasher of the standard library has random keys: enough randomness for jitter.
        let random = RandomState::new().hash_one(0) | 1;
        Backoff { first, max, next: first, random }
    }

    /// The next wait: between half and the whole of a time that doubles.
    pub(super) fn next_wait(&mut self) -> Duration {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let share = 0.5 + (self.random >> 12) as f64 / (1u64 << 53) as f64;
        let wait = self.next.mul_f64(share);
        self.next = (self.next * 2).min(self.max);
        wait
    }

    /// After a success: the next failure waits as little as the first did.
    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}
