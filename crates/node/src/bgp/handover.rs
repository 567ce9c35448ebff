//! Pools that change hands: when the agent begins to route a pool that the BGP speaker has routed, the speaker's routes
//! stay for a while. The agent's come beside them, at a higher metric, and nothing is lost in between.

use std::collections::BTreeMap;
use std::time::Duration;

use calico_mesh::intent::{PoolIntent, Programmer};
use calico_net::Cidr;
use tokio::time::Instant;

/// Until every node has a tunnel address and the agent the routes to all of them.
const HANDOVER: Duration = Duration::from_secs(10);

/// What is remembered of pools.
#[derive(Debug, Default)]
pub struct Handover {
    /// Who was to program each.
    wanted: BTreeMap<Cidr, Programmer>,
    /// Those that the speaker goes on programming, and until when.
    kept: BTreeMap<Cidr, (Programmer, Instant)>,
}

impl Handover {
    /// Leaves to the speaker what it is to keep for a while. Returns when to ask again.
    pub fn adjust(&mut self, pools: &mut [PoolIntent], now: Instant) -> Option<Instant> {
        self.kept.retain(|cidr, (_, until)| *until > now && pools.iter().any(|p| p.cidr == *cidr));
        let mut wanted = BTreeMap::new();
        for pool in pools {
            wanted.insert(pool.cidr, pool.programmed_by);
            if pool.programmed_by != Programmer::Agent {
                self.kept.remove(&pool.cidr);
                continue;
            }
            if let Some(before) = self.wanted.get(&pool.cidr).filter(|before| **before != Programmer::Agent) {
                self.kept.insert(pool.cidr, (*before, now + HANDOVER));
            }
            if let Some((before, _)) = self.kept.get(&pool.cidr) {
                pool.programmed_by = *before;
            }
        }
        self.wanted = wanted;
        self.kept.values().map(|(_, until)| *until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speaker_keeps_what_it_had_for_a_while() {
        let mut handover = Handover::default();
        let start = Instant::now();
        let mut check = |seconds, wanted: &[Programmer], expected: &[Programmer], again: Option<u64>| {
            let cidrs = ["10.1.0.0/16", "10.2.0.0/16"].map(|c| c.parse::<Cidr>().unwrap());
            let pools = cidrs.into_iter().zip(wanted);
            let pools = pools.map(|(cidr, by)| PoolIntent { cidr, export: true, programmed_by: *by });
            let mut pools: Vec<PoolIntent> = pools.collect();
            let next = handover.adjust(&mut pools, start + Duration::from_secs(seconds));
            assert_eq!(pools.iter().map(|p| p.programmed_by).collect::<Vec<_>>(), expected);
            assert_eq!(next, again.map(|seconds| start + Duration::from_secs(seconds)));
        };
        use Programmer::{Agent, Speaker};
        // What was the agent's from the beginning is.
        check(0, &[Speaker, Agent], &[Speaker, Agent], None);
        check(1, &[Agent, Agent], &[Speaker, Agent], Some(11));
        check(5, &[Agent, Agent], &[Speaker, Agent], Some(11));
        check(6, &[Speaker, Agent], &[Speaker, Agent], None);
        check(7, &[Agent, Agent], &[Speaker, Agent], Some(17));
        check(17, &[Agent, Agent], &[Agent, Agent], None);
        // A pool that went and comes again is a new one.
        check(18, &[], &[], None);
        check(19, &[Agent], &[Agent], None);
    }
}
