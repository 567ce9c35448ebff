//! How long what a pool that has changed hands leaves behind is kept: routes, the device, other nodes' ends.

use std::time::{Duration, Instant};

use calico_dataplane::desired::Kept;

/// Until every node has heard of the change, and its BGP speaker has the routes. Nodes' tunnel addresses and the speaker's
/// own routes are kept as long.
const HANDOVER: Duration = Duration::from_secs(10);
/// Until a node that has heard of the change has done it too. One that takes longer is away, or may never have an end.
const LONGEST: Duration = Duration::from_secs(60);

/// The time of what is kept.
#[derive(Debug, Default)]
pub struct Handover {
    /// Since when, and what.
    kept: Option<(Instant, Kept)>,
}

impl Handover {
    /// Takes what is kept now. What is new has its whole time, however long something else has been kept.
    pub fn note(&mut self, kept: Option<Kept>, now: Instant) {
        self.kept = kept.map(|kept| match self.kept {
            Some((since, before)) if before.begun == kept.begun => (since, kept),
            _ => (now, kept),
        });
    }

    /// When it goes.
    pub fn ends(&self) -> Option<Instant> {
        self.kept.map(|(since, kept)| since + if kept.is_awaited { LONGEST } else { HANDOVER })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_has_its_time_and_a_slow_node_some_more() {
        let start = Instant::now();
        let mut handover = Handover::default();
        let mut check = |second: u64, kept: Option<(u64, bool)>, ends: Option<u64>| {
            let kept = kept.map(|(begun, is_awaited)| Kept { begun, is_awaited });
            handover.note(kept, start + Duration::from_secs(second));
            assert_eq!(
                handover.ends(),
                ends.map(|ends| start + Duration::from_secs(ends)),
                "second {second}"
            );
        };
        check(0, None, None);
        check(1, Some((1, false)), Some(11));
        check(5, Some((1, false)), Some(11));
        // Another pool.
        check(9, Some((2, false)), Some(19));
        check(19, None, None);
        // Another node is not ready yet; then it is, and everything has had its time.
        check(20, Some((3, true)), Some(80));
        check(29, Some((3, true)), Some(80));
        check(41, Some((3, false)), Some(30));
        check(42, None, None);
    }
}
