//! The engine against the naive reference, under the event adversary.

mod cases;
mod world;

use std::collections::BTreeMap;

use calico_api::Key;
use calico_testkit::adversary::{EventAdversary, Step, Temper};

use super::*;
use crate::planted::plant;
use crate::reference;
use crate::state::NodeState;
use world::{NODE, targets};

/// The product's allocator: small worlds are mostly allocation, and musl's is slow at it.
#[global_allocator]
static HEAP: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Streams of the quick tier.
const QUICK_STREAMS: u64 = 2_000;
/// Target states of a stream.
const TARGETS: usize = 4;

/// Plays one stream; says where the engine and the reference part.
fn play(seed: u64) -> Result<(), String> {
    let targets = targets(seed, TARGETS);
    let steps = EventAdversary::new(seed, Temper::default()).stream(&targets);
    let mut player =
        Player { calc: Calc::new(NODE), state: NodeState::default(), changes: Vec::new(), spoofing: false };
    // Every third stream reports from the beginning, the others once they have seen a whole state.
    if seed.is_multiple_of(3) {
        player.calc.in_sync();
    }
    for (number, step) in steps.into_iter().enumerate() {
        let at = |what: String| format!("seed {seed}, step {number}: {what}");
        match step {
            Step::Event(key, value) => player.update(&key, value),
            Step::Pause => player.flush().map_err(at)?,
            Step::CaughtUp(target) => {
                player.allow_spoofing(!(seed + number as u64).is_multiple_of(3));
                player.calc.in_sync();
                player.flush().map_err(at)?;
                player.compare(&targets[target]).map_err(at)?;
            }
        }
    }
    let last = targets.last().cloned().unwrap_or_default();
    for key in last.keys() {
        player.update(key, None);
    }
    player.flush()?;
    player.compare(&BTreeMap::new()).map_err(|what| format!("seed {seed}, emptied: {what}"))?;
    if player.calc.is_empty() { Ok(()) } else { Err(format!("seed {seed}: something is left in memory")) }
}

struct Player {
    calc: Calc,
    state: NodeState,
    changes: Vec<Change>,
    spoofing: bool,
}

impl Player {
    fn update(&mut self, key: &Key, value: Option<Update>) {
        let update = value.or_else(|| Update::absent(key)).expect("worlds hold keys that calc reads");
        self.calc.update(update);
    }

    fn allow_spoofing(&mut self, allowed: bool) {
        self.spoofing = allowed;
        self.calc.set_source_spoofing(allowed);
    }

    fn flush(&mut self) -> Result<(), String> {
        self.calc.flush(&mut self.changes);
        for change in self.changes.drain(..) {
            self.state.apply(&change).map_err(|error| format!("{error} in {change:?}"))?;
        }
        Ok(())
    }

    fn compare(&self, datastore: &reference::Datastore) -> Result<(), String> {
        let expected = reference::calculate(NODE, self.spoofing, datastore);
        if self.state == expected {
            return Ok(());
        }
        Err(differences(&self.state, &expected))
    }
}

/// What is different, and nothing else.
fn differences(found: &NodeState, expected: &NodeState) -> String {
    fn of<K: Ord + std::fmt::Debug, V: PartialEq + std::fmt::Debug>(
        found: &BTreeMap<K, V>,
        expected: &BTreeMap<K, V>,
    ) -> String {
        let keys: BTreeSet<&K> = found.keys().chain(expected.keys()).collect();
        let differ = keys.into_iter().filter(|key| found.get(key) != expected.get(key));
        differ
            .map(|key| {
                format!("{key:?} is\n  {:?}\nand should be\n  {:?}\n", found.get(key), expected.get(key))
            })
            .collect()
    }
    let NodeState {
        ip_sets,
        policies,
        profiles,
        workloads,
        host_endpoints,
        pools,
        nodes,
        blocks,
        local_vteps,
        local_ipip,
        vteps,
        routes,
    } = found;
    [
        of(ip_sets, &expected.ip_sets),
        of(policies, &expected.policies),
        of(profiles, &expected.profiles),
        of(workloads, &expected.workloads),
        of(host_endpoints, &expected.host_endpoints),
        of(pools, &expected.pools),
        of(nodes, &expected.nodes),
        of(local_vteps, &expected.local_vteps),
        of(vteps, &expected.vteps),
        of(routes, &expected.routes),
        if *blocks == expected.blocks { String::new() } else { format!("blocks are {blocks:?}") },
        if *local_ipip == expected.local_ipip { String::new() } else { format!("IPIP is {local_ipip:?}") },
    ]
    .concat()
}

/// How many streams to play: `CALICO_STREAMS`, or the quick tier.
#[expect(clippy::disallowed_methods, reason = "the environment chooses the length of the test")]
fn streams() -> u64 {
    std::env::var("CALICO_STREAMS").ok().and_then(|text| text.parse().ok()).unwrap_or(QUICK_STREAMS)
}

#[test]
fn the_engine_agrees_with_the_reference() {
    let streams = streams();
    let workers = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
    let play_all = |first| (first..streams).step_by(workers as usize).try_for_each(play);
    let agreed: Result<(), String> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..workers).map(|first| scope.spawn(move || play_all(first))).collect();
        let mut results =
            running.into_iter().map(|worker| worker.join().expect("workers return what differs"));
        results.try_for_each(|result| result)
    });
    if let Err(difference) = agreed {
        panic!("{difference}");
    }
}

#[test]
fn planted_bugs_are_found() {
    use crate::planted::Bug::{
        DeltaNotCoalesced, LateProfileIgnored, OldAddressStays, ParentChangeIgnored, PolicyNeverInactive,
        PolicyOrderStale, SetNeverRemoved, SharedAddressLeaves, SubnetIgnored, TierOrderStale,
    };
    const ENOUGH: u64 = 500;
    for bug in [
        SharedAddressLeaves,
        OldAddressStays,
        ParentChangeIgnored,
        TierOrderStale,
        PolicyOrderStale,
        PolicyNeverInactive,
        SetNeverRemoved,
        LateProfileIgnored,
        DeltaNotCoalesced,
        SubnetIgnored,
    ] {
        plant(Some(bug));
        let found = (0..ENOUGH).find(|seed| play(*seed).is_err());
        plant(None);
        match found {
            Some(seed) => println!("{bug:?} is found by stream {seed}"),
            None => panic!("{bug:?} is not found by {ENOUGH} streams"),
        }
    }
}
