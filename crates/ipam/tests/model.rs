//! A model check: two or three clients on a tiny pool, every interleaving of their actions that a chooser picks, in both
//! commit modes, with clients dying between any two actions. After every action the invariants of the crate hold; at the
//! end what is left over has a name and is collected.

#![allow(clippy::unwrap_used)] // All of this file is a test.

#[path = "model/client.rs"]
mod client;

use std::collections::BTreeSet;
use std::net::IpAddr;

use calico_api::{Key, Kind};
use calico_ipam::check::{self, Leftover};
use calico_ipam::memory::MemoryStore;
use calico_ipam::{Assign, AssignRequest, Collect, Known, Record, ReleaseByHandle, UnixTime, block};
use calico_net::Family;
use client::{Client, Effect, Job, Ledger};

const POOL: &str = "10.0.0.0/30";
const NODES: [&str; 3] = ["n1", "n2", "n3"];
const HANDLES: [&str; 4] = ["a", "b", "c", "d"];
const START: UnixTime = UnixTime::from_secs(1_800_000_000);

/// Where choices come from.
trait Chooser {
    /// A number below `n`.
    fn choose(&mut self, n: usize) -> usize;
}

/// Splitmix64.
struct Random(u64);

impl Chooser for Random {
    fn choose(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
}

/// Every sequence of choices, one after the other. After so many choices, the first client runs to its end, then the
/// next: an assigner and a releaser of one handle that alternate forever only stop each other.
struct Exhaustive {
    depth: usize,
    /// What was chosen out of how many.
    path: Vec<(usize, usize)>,
    place: usize,
}

impl Exhaustive {
    /// On to the next sequence; false after the last.
    fn advance(&mut self) -> bool {
        self.place = 0;
        while let Some((choice, n)) = self.path.pop() {
            if choice + 1 < n {
                self.path.push((choice + 1, n));
                return true;
            }
        }
        false
    }
}

impl Chooser for Exhaustive {
    fn choose(&mut self, n: usize) -> usize {
        if self.place == self.depth {
            return 0;
        }
        if self.place == self.path.len() {
            self.path.push((0, n));
        }
        self.place += 1;
        self.path[self.place - 1].0
    }
}

struct World {
    store: MemoryStore,
    clients: Vec<Client>,
    ledger: Ledger,
    log: Vec<String>,
    deaths: usize,
    ticks: u64,
}

impl World {
    fn new(is_sequential: bool, strict: bool, scripts: &[Vec<Job>], caches: bool, deaths: usize) -> World {
        let mut store = MemoryStore::new(is_sequential);
        let pool = serde_json::json!({"metadata": {"name": "p"}, "spec": {"cidr": POOL, "blockSize": 31}});
        store.put(Key::resource(Kind::IPPool, "", "p"), pool.to_string());
        let config = serde_json::json!({"strict_affinity": strict, "auto_allocate_blocks": true});
        store.put(Key::IpamConfig, config.to_string());
        for node in NODES {
            let value = serde_json::json!({"metadata": {"name": node}, "spec": {}});
            store.put(Key::resource(Kind::Node, "", node), value.to_string());
        }
        let clients = scripts.iter().map(|jobs| Client::new(jobs, caches)).collect();
        World { store, clients, ledger: Ledger::default(), log: Vec::new(), deaths, ticks: 0 }
    }

    fn now(&self) -> UnixTime {
        UnixTime(START.0 + self.ticks * 40_000_000_000)
    }

    /// Lets the clients run as the chooser picks.
    fn run(&mut self, chooser: &mut dyn Chooser) {
        let mut begun: Vec<bool> = vec![false; self.clients.len()];
        loop {
            let alive: Vec<usize> = (0..self.clients.len()).filter(|i| !self.clients[*i].is_done()).collect();
            if alive.is_empty() {
                return;
            }
            let options = alive.len() * if self.deaths > 0 { 2 } else { 1 };
            let choice = chooser.choose(options);
            let i = alive[choice % alive.len()];
            if choice >= alive.len() {
                self.deaths -= 1;
                let job = self.clients[i].die();
                self.log.push(format!("client {i} dies in {job:?}"));
                begun[i] = false;
                continue;
            }
            self.ticks += 1;
            if !begun[i] {
                let job = self.clients[i].job().expect("a client that is not done has a job");
                self.ledger.begin(job);
                begun[i] = true;
            }
            let now = self.now();
            let before = self.store.revision();
            let ended = self.clients[i].act(&mut self.store, now);
            let mut known = None;
            let is_changed = self.store.revision() != before;
            if is_changed {
                let now = known.insert(self.store.known());
                self.note(i, before, now);
            }
            if let Some((job, effect)) = ended {
                self.log.push(format!("client {i} ends {job:?}: {effect:?}"));
                begun[i] = false;
                self.end(effect);
            }
            if let Some(known) = &known {
                self.check(known);
            }
        }
    }

    /// Writes what changed into the log.
    fn note(&mut self, client: usize, before: i64, known: &Known) {
        let mut is_put = false;
        for (key, record, revision) in known.records() {
            if revision.0.parse::<i64>().is_ok_and(|r| r > before) {
                is_put = true;
                let value = match record {
                    Record::Block(b) => {
                        format!("{:?} {:?} #{}", b.affinity, b.allocations, b.sequence_number)
                    }
                    Record::Affinity(a) => a.state.to_string(),
                    Record::Handle(h) => format!("{:?}", h.block),
                    other => format!("{other:?}"),
                };
                self.log.push(format!("client {client} writes {key}: {value}"));
            }
        }
        if !is_put {
            let job = self.clients[client].job();
            self.log.push(format!("client {client} deletes something in {job:?}"));
        }
    }

    fn end(&mut self, effect: Effect) {
        match effect {
            Effect::Holds { handle, addresses } => {
                for address in addresses {
                    // A release that was under way meanwhile may take it again, or has already.
                    let is_safe = !self.clients.iter().any(|c| c.may_release(handle, address));
                    if is_safe && holder(&self.store.known(), address).as_deref() == Some(handle) {
                        let other = self.ledger.holds.insert(address, handle);
                        assert!(
                            other.is_none_or(|o| o == handle),
                            "{address} twice\n{}",
                            self.log.join("\n")
                        );
                    }
                }
            }
            Effect::Nothing => {}
            Effect::Failed(text) => {
                assert!(!text.contains("gave up"), "livelock: {text}\n{}", self.log.join("\n"));
            }
        }
    }

    /// The invariants.
    fn check(&self, known: &Known) {
        let fail = |what: String| -> ! { panic!("{what}\n{}", self.log.join("\n")) };
        let mut used: BTreeSet<IpAddr> = BTreeSet::new();
        let blocks: Vec<_> = known.blocks(Family::V4).filter_map(|(_, held)| held).map(|(b, _)| b).collect();
        for (i, b) in blocks.iter().enumerate() {
            if let Some(other) = blocks[..i].iter().find(|o| o.cidr.overlaps(&b.cidr)) {
                fail(format!("{} and {} overlap", other.cidr, b.cidr));
            }
            let mut ordinals: Vec<_> = b.unallocated.clone();
            ordinals
                .extend((0..b.allocations.len() as u16).filter(|n| block::slot(b, *n) != block::Slot::Free));
            ordinals.sort_unstable();
            if ordinals != (0..b.allocations.len() as u16).collect::<Vec<_>>() {
                fail(format!("{}: ordinals {ordinals:?}", b.cidr));
            }
            for (ordinal, attribute) in block::used(b) {
                let address = block::address(b, ordinal).expect("an ordinal of the block");
                if !used.insert(address) {
                    fail(format!("{address} twice"));
                }
                let handle = attribute.handle_id.clone().unwrap_or_default();
                let counted =
                    known.handle(&handle).and_then(|(h, _)| h.block.get(&b.cidr).copied()).unwrap_or(0);
                if counted < block::held_by(b, &handle) {
                    fail(format!("{address} is not reached from {handle}, which counts {counted}"));
                }
            }
        }
        for (address, handle) in &self.ledger.holds {
            if holder(known, *address).as_deref() != Some(*handle) {
                fail(format!("{address} was taken from {handle}"));
            }
        }
    }

    /// After the last action: leftovers have names, and go.
    fn collect(mut self, seen: &mut BTreeSet<&'static str>) {
        self.ticks += 2;
        let now = self.now();
        let report = check::check(&self.store.known(), None);
        assert!(
            report.problems.is_empty() && report.faults.is_empty(),
            "{report:?}\n{}",
            self.log.join("\n")
        );
        seen.extend(report.leftovers.iter().map(name));
        // Either the handles are released first, or the collection comes first: both must end with nothing.
        if self.ticks.is_multiple_of(2) {
            self.store.run(Collect::new(report.leftovers, now)).unwrap();
            let again = check::check(&self.store.known(), None).leftovers;
            assert!(again.is_empty(), "{again:?}\n{}", self.log.join("\n"));
            self.check(&self.store.known());
        }
        for handle in HANDLES {
            let _ = self.store.run(ReleaseByHandle::new(handle, now));
        }
        let known = self.store.known();
        assert_eq!(known.handles().count(), 0, "{}", self.log.join("\n"));
        let leftovers = check::check(&known, None).leftovers;
        self.store.run(Collect::new(leftovers, now)).unwrap();
        let leftovers = check::check(&self.store.known(), None).leftovers;
        assert!(leftovers.is_empty(), "{leftovers:?}\n{}", self.log.join("\n"));
        // And the whole pool can be assigned.
        let later = UnixTime(now.0 + 600_000_000_000);
        let request = AssignRequest::workload("n3", "all", 4, 0);
        let all = self
            .store
            .run(Assign::new(request, later))
            .unwrap_or_else(|e| panic!("{e}\n{}", self.log.join("\n")));
        assert_eq!(all.v4.len(), 4);
    }
}

fn holder(known: &Known, address: IpAddr) -> Option<String> {
    known.blocks(Family::V4).filter_map(|(_, held)| held).find_map(|(b, _)| {
        let (_, attribute) = block::used(b).find(|(n, _)| block::address(b, *n) == Some(address))?;
        attribute.handle_id.as_ref().map(|h| h.to_string())
    })
}

fn name(leftover: &Leftover) -> &'static str {
    match leftover {
        Leftover::AffinityPending { .. } => "affinity pending",
        Leftover::AffinityLeaving { .. } => "affinity leaving",
        Leftover::AffinityAlone { .. } => "affinity alone",
        Leftover::AffinityForeign { .. } => "affinity foreign",
        Leftover::BlockUnclaimed { .. } => "block unclaimed",
        Leftover::BlockEmpty { .. } => "block empty",
        Leftover::HandleAhead { .. } => "handle ahead",
        Leftover::HandleEmpty { .. } => "handle empty",
    }
}

/// A script of random jobs.
fn script(chooser: &mut dyn Chooser, len: usize) -> Vec<Job> {
    const ADDRESSES: [&str; 4] = ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3"];
    const BLOCKS: [&str; 3] = ["10.0.0.0/31", "10.0.0.2/31", POOL];
    let mut jobs = Vec::new();
    for _ in 0..len {
        let node = NODES[chooser.choose(NODES.len())];
        let handle = HANDLES[chooser.choose(HANDLES.len())];
        let address = ADDRESSES[chooser.choose(4)];
        jobs.push(match chooser.choose(10) {
            0..=3 => Job::Assign { node, handle, count: 1 + chooser.choose(3) },
            4 => Job::AssignIp { node, handle, address },
            5 | 6 => Job::ReleaseHandle { handle },
            7 => Job::ReleaseIp { address },
            8 => Job::Claim { node, cidr: BLOCKS[chooser.choose(3)] },
            _ => Job::GiveUp { node, must_be_empty: chooser.choose(2) == 0 },
        });
    }
    jobs
}

/// How many random runs; more in a soak by `IPAM_MODEL_RUNS`.
#[allow(clippy::disallowed_methods)] // The length of a soak is its caller's choice.
fn runs() -> u64 {
    std::env::var("IPAM_MODEL_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000)
}

fn random(is_sequential: bool) -> BTreeSet<&'static str> {
    let mut seen = BTreeSet::new();
    for seed in 0..runs() {
        let mut chooser = Random(seed);
        let clients = 2 + chooser.choose(2);
        let scripts: Vec<Vec<Job>> = (0..clients).map(|_| script(&mut chooser, 4)).collect();
        let (strict, caches, deaths) = (chooser.choose(3) == 0, chooser.choose(2) == 0, chooser.choose(3));
        let mut world = World::new(is_sequential, strict, &scripts, caches, deaths);
        world.log.push(format!("seed {seed}, sequential {is_sequential}"));
        world.run(&mut chooser);
        world.collect(&mut seen);
    }
    seen
}

#[test]
fn random_interleavings_of_whole_commits() {
    let seen = random(false);
    // Commits are atomic here: a handle never counts too much.
    assert!(!seen.contains("handle ahead") && !seen.contains("handle empty"), "{seen:?}");
}

#[test]
fn random_interleavings_of_single_writes() {
    let seen = random(true);
    for expected in ["affinity pending", "affinity leaving", "block unclaimed", "handle ahead"] {
        assert!(seen.contains(expected), "no run left: {expected}; {seen:?}");
    }
}

/// Every interleaving of some scripts, with so many deaths anywhere, up to a depth. Returns how many there were.
fn exhaustive(
    is_sequential: bool,
    depth: usize,
    deaths: usize,
    scripts: &[&[Job]],
    prepare: &[Job],
) -> usize {
    let mut chooser = Exhaustive { depth, path: Vec::new(), place: 0 };
    let mut runs = 0;
    loop {
        let mut world = World::new(is_sequential, false, &[prepare.to_vec()], false, 0);
        world.run(&mut Random(0));
        world.clients = scripts.iter().map(|jobs| Client::new(jobs, false)).collect();
        world.deaths = deaths;
        world.run(&mut chooser);
        world.collect(&mut BTreeSet::new());
        runs += 1;
        if !chooser.advance() {
            return runs;
        }
    }
}

const ASSIGN_A: Job = Job::Assign { node: "n1", handle: "a", count: 1 };
const ASSIGN_B: Job = Job::Assign { node: "n2", handle: "b", count: 1 };
const RELEASE_A: Job = Job::ReleaseHandle { handle: "a" };
const CLAIM: Job = Job::Claim { node: "n2", cidr: "10.0.0.2/31" };
const GIVE_UP: Job = Job::GiveUp { node: "n1", must_be_empty: false };

/// An assignment and a release of the same handle: the pair that the order of writes is about.
#[test]
fn every_interleaving_of_assign_and_release() {
    for is_sequential in [false, true] {
        let runs = exhaustive(is_sequential, 10, 1, &[&[ASSIGN_A], &[RELEASE_A]], &[ASSIGN_A]);
        assert!(runs > 300, "{runs}");
        println!("assign, release, sequential {is_sequential}: {runs} interleavings");
    }
}

/// Two nodes that want a block of the same pool, and one that gives its block up.
#[test]
fn every_interleaving_of_claims() {
    for is_sequential in [false, true] {
        for scripts in [[&[ASSIGN_A][..], &[ASSIGN_B]], [&[ASSIGN_B], &[CLAIM]], [&[ASSIGN_A], &[GIVE_UP]]] {
            let runs = exhaustive(is_sequential, 9, 1, &scripts, &[]);
            assert!(runs > 250, "{runs}");
            println!("{scripts:?}, sequential {is_sequential}: {runs} interleavings");
        }
    }
}
