//! How fast requests may follow one another: a bucket of tokens.
//!
//! Pure: the caller says what time it is, and waits.

use std::time::{Duration, Instant};

use calico_store::config::Rate;

/// A bucket that fills at a rate and holds a burst.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: Rate,
    /// Below zero: promised to those who wait.
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(rate: Rate, now: Instant) -> Bucket {
        Bucket { rate, tokens: f64::from(rate.burst), filled: now }
    }

    /// Takes one token and says how long to wait for it. Whoever asks later waits longer.
    pub(crate) fn take(&mut self, now: Instant) -> Duration {
        let per_second = f64::from(self.rate.per_second);
        let since = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + since * per_second).min(f64::from(self.rate.burst)) - 1.0;
        Duration::from_secs_f64((-self.tokens / per_second).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(Rate { per_second: 10.0, burst: 3 }, start);
        let waits: Vec<u128> = (0..5).map(|_| bucket.take(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200]);
        // Two are promised, of which half a second pays; the bucket never holds more than the burst.
        let later = start + Duration::from_millis(500);
        assert_eq!((0..4).map(|_| bucket.take(later).as_millis()).collect::<Vec<_>>(), [0, 0, 0, 100]);
        let much_later = later + Duration::from_secs(100);
        let waits: Vec<u128> = (0..4).map(|_| bucket.take(much_later).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100]);
    }
}
