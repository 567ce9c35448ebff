//! IPAM's operations on a datastore of damaged records: they end, nothing panics, and no address that the records
//! show as used is given away.
//!
//! Input: a byte that chooses the commit mode, a byte for each operation up to a line break, then lines `key value`.

use std::collections::BTreeSet;
use std::net::IpAddr;

use calico_api::{AffinityOwner, Key, Kind, Selection};
use calico_ipam::check::{Users, check};
use calico_ipam::memory::MemoryStore;
use calico_ipam::{
    Assign, AssignRequest, ClaimAffinity, Collect, Known, Machine, Operation, Record, ReleaseAddresses,
    ReleaseAffinities, ReleaseByHandle, Scope, Step, Target, UnixTime, block,
};
use calico_net::Family;
use serde_json::json;

use crate::texts;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
/// Steps after which an operation hangs: 100 conflicts, each with a read, and as much again.
const MAX_STEPS: usize = 400;

fn base(is_sequential: bool) -> MemoryStore {
    let mut store = MemoryStore::new(is_sequential);
    for (name, cidr, size) in [("four", "10.0.0.0/27", 29), ("six", "fd00::/120", 125)] {
        let pool = json!({"metadata": {"name": name}, "spec": {"cidr": cidr, "blockSize": size}});
        store.put(Key::resource(Kind::IPPool, "", name), pool.to_string());
    }
    for name in ["n", "m"] {
        store.put(Key::resource(Kind::Node, "", name), json!({"metadata": {"name": name}}).to_string());
    }
    store
}

fn run<O: Operation>(store: &mut MemoryStore, operation: O) -> Option<O::Outcome> {
    let mut machine = Machine::new(operation, Known::new());
    for _ in 0..MAX_STEPS {
        let response = match machine.step() {
            Step::Read { keys, selections } => store.read(keys, selections),
            Step::Commit(writes) => store.commit(&writes),
            Step::Done(result) => return result.ok(),
        };
        machine.feed(response);
    }
    panic!("no end after {MAX_STEPS} steps");
}

/// The addresses that records show as used or resting.
fn used(store: &MemoryStore) -> BTreeSet<IpAddr> {
    let blocks = Family::ALL.into_iter().flat_map(|f| store.list(&Selection::Blocks(f)));
    let mut used = BTreeSet::new();
    for entry in blocks {
        let Record::Block(found) = Record::decode(&entry) else { continue };
        let taken = block::used(&found).filter_map(|(n, _)| block::address(&found, n));
        used.extend(taken);
    }
    used
}

/// Some operations on some records.
pub fn blocks(data: &[u8]) {
    let mut lines = data.split(|b| *b == b'\n');
    let Some((mode, operations)) = lines.next().and_then(<[u8]>::split_first) else { return };
    let mut store = base(mode % 2 == 1);
    for line in lines {
        let Some(space) = line.iter().position(|b| *b == b' ') else { continue };
        if let Some(key) = std::str::from_utf8(&line[..space]).ok().and_then(|k| Key::parse(k).ok()) {
            store.put(key, line[space + 1..].to_vec());
        }
    }
    for operation in operations.iter().take(8) {
        let node = if operation % 2 == 0 { "n" } else { "m" };
        let owner = AffinityOwner::Host(node.into());
        let count = usize::from(operation >> 4) % 4;
        match (operation >> 1) % 8 {
            0..=2 => {
                let before = used(&store);
                let request = AssignRequest {
                    all_or_nothing: count % 2 == 0,
                    ..AssignRequest::workload(node, "h", count, count % 2)
                };
                for assigned in
                    run(&mut store, Assign::new(request, NOW)).iter().flat_map(|o| o.v4.iter().chain(&o.v6))
                {
                    assert!(!before.contains(&assigned.address), "{} was in use", assigned.address);
                }
            }
            3 => drop(run(&mut store, ReleaseByHandle::new("h", NOW))),
            4 => {
                let targets = [[10, 0, 0, 1], [10, 0, 0, 9], [10, 9, 0, 0]].map(|a| Target::new(a.into()));
                drop(run(&mut store, ReleaseAddresses::new(targets.to_vec(), NOW)));
            }
            5 => {
                let cidr = "10.0.0.0/28".parse().expect("a prefix");
                drop(run(&mut store, ClaimAffinity::new(cidr, owner, NOW)));
            }
            6 => drop(run(&mut store, ReleaseAffinities::new(Scope::Owner(owner), count % 2 == 0, NOW))),
            _ => {
                let users = Users::default();
                let report = check(&store.known(), Some(&users));
                let _ = run(&mut store, Collect::new(report.leftovers, NOW));
            }
        }
    }
    let _ = check(&store.known(), None);
}

/// Records that our own operations left.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut store = base(false);
    for (node, handle, count) in [("n", "h", 3), ("m", "h", 1), ("n", "g", 9)] {
        drop(run(&mut store, Assign::new(AssignRequest::workload(node, handle, count, 1), NOW)));
    }
    drop(run(&mut store, ReleaseByHandle::new("g", NOW)));
    let mut lines = String::new();
    for (key, _, _) in store.known().records() {
        let entry = store.get(key).expect("it is known");
        lines += &format!("\n{key} {}", String::from_utf8_lossy(&entry.value));
    }
    let settings = "\n/calico/ipam/v2/config {\"strict_affinity\":true,\"auto_allocate_blocks\":true,\"ipCooldownSeconds\":30}";
    let damaged = "\n/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-29 {\"cidr\":\"10.0.0.0/29\",\"affinity\":\"host:n\",\
        \"allocations\":[0,null],\"unallocated\":[1,7],\"attributes\":[{\"releasedAt\":\"2026-01-01T00:00:00.5Z\"}]}";
    vec![(
        "blocks",
        texts([
            &format!("0 @`{lines}"),
            &format!("1\u{6}\u{8}\u{a}\u{c}\u{e}{lines}"),
            &format!("0 0\u{6}{settings}{damaged}"),
        ]),
    )]
}
