//! What a check says of records that no writer of ours leaves, and of workloads.

use calico_api::{AffinityOwner, Key, Kind};

use super::{Fault, Leftover, Users, check};
use crate::assign::{Assign, AssignRequest};
use crate::collect::Collect;
use crate::memory::MemoryStore;
use crate::time::UnixTime;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

/// One pool and one node.
fn store() -> MemoryStore {
    let mut store = MemoryStore::new(false);
    let pool =
        serde_json::json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/24", "blockSize": 30}});
    store.put(Key::resource(Kind::IPPool, "", "p"), pool.to_string());
    let node = serde_json::json!({"metadata": {"name": "n1"}, "spec": {}});
    store.put(Key::resource(Kind::Node, "", "n1"), node.to_string());
    store
}

#[test]
fn leaks_strangers_and_orphans() {
    let mut store = store();
    let outcome = store.run(Assign::new(AssignRequest::workload("n1", "h", 2, 0), NOW)).unwrap();
    let [used, leaked] = &outcome.v4[..] else { panic!("{outcome:?}") };
    let stranger = "10.0.0.200".parse().unwrap();
    let mut users = Users::new();
    users.insert(used.address, vec!["default/a".into(), "default/b".into()]);
    users.insert(stranger, vec!["default/c".into()]);
    users.insert("192.0.2.1".parse().unwrap(), vec!["host-networked".into()]);
    let report = check(&store.known(), Some(&users));
    assert!(report.leftovers.is_empty());
    assert!(
        matches!(
            &report.faults[..],
            [Fault::Leaked { address, .. }, Fault::Unassigned { address: s, .. }, Fault::Shared { address: u, .. }]
                if *address == leaked.address && *s == stranger && *u == used.address
        ),
        "{report:?}"
    );

    // Written by others: a block over ours, a claim without a block, an unreadable handle, a handle that counts nothing.
    store.put(
        Key::parse("/calico/ipam/v2/assignment/ipv4/block/10.9.0.0-31").unwrap(),
        r#"{"cidr":"10.9.0.0/31","affinity":"host:gone","allocations":[null,null],"unallocated":[0,1],"attributes":[]}"#,
    );
    store.put(Key::parse("/calico/ipam/v2/host/n1/ipv4/block/10.0.0.128-30").unwrap(), "{}");
    store.put(Key::Handle("broken".into()), "[");
    store.put(Key::Handle("nothing".into()), r#"{"block":{}}"#);
    let report = check(&store.known(), None);
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.faults.len(), 2, "{:?}", report.faults);
    assert!(
        matches!(
            &report.leftovers[..],
            [Leftover::AffinityAlone { .. }, Leftover::BlockUnclaimed { .. }, Leftover::HandleEmpty { .. }]
        ),
        "{:?}",
        report.leftovers
    );
    assert_eq!(store.run(Collect::new(report.leftovers, NOW)).unwrap(), 3);
    let report = check(&store.known(), None);
    assert!(report.leftovers.is_empty() && report.faults.is_empty(), "{report:?}");
}

#[test]
fn what_rests_on_a_record_that_cannot_be_read_is_named_and_left_alone() {
    let mut store = store();
    let taken = store.run(Assign::new(AssignRequest::workload("n1", "h", 2, 0), NOW)).unwrap().v4;
    let block = taken[0].block;
    let users = Users::from([(taken[0].address, vec!["default/a".into()])]);
    let owner = AffinityOwner::Host("n1".into());
    let claim = Key::Affinity { owner: owner.clone(), block };
    let says = |store: &MemoryStore| {
        let report = check(&store.known(), Some(&users));
        assert!(report.leftovers.is_empty(), "{report:?}");
        report.faults.iter().map(ToString::to_string).collect::<Vec<_>>()
    };

    // As a check that took the block for absent would have it.
    let untrue = [
        Leftover::AffinityAlone { owner: owner.clone(), block },
        Leftover::AffinityPending { owner: owner.clone(), block },
        Leftover::BlockEmpty { block },
        Leftover::HandleAhead { handle: "h".into(), block, counted: 2, held: 0 },
    ];
    let cases = [
        (
            Key::Block(block),
            vec![
                format!("{}, which is used by default/a,", taken[0].address),
                format!("the claim of {owner} on {block}"),
                format!("what handle h counts in {block}"),
            ],
        ),
        (claim, vec![format!("the claim of {owner} on {block}")]),
        (Key::Handle("h".into()), vec![format!("what handle h counts in {block}")]),
        (Key::resource(Kind::IPPool, "", "p"), vec![format!("the pool of {block}")]),
        (Key::resource(Kind::Node, "", "n1"), vec![]),
    ];
    let sound = store.clone();
    for (record, subjects) in cases {
        let mut store = sound.clone();
        store.put(record.clone(), "[");
        let expected = subjects.iter().map(|s| format!("{s} cannot be judged: {record} cannot be read"));
        let leak = format!("{} is assigned to handle h and nothing uses it", taken[1].address);
        let leak = Some(leak).filter(|_| !matches!(record, Key::Block(_)));
        assert_eq!(says(&store), leak.into_iter().chain(expected).collect::<Vec<_>>(), "{record}");
        if let Key::Block(_) | Key::Affinity { .. } = record {
            let before = store.revision();
            assert_eq!(store.run(Collect::new(untrue.clone(), NOW)), Ok(0));
            assert_eq!(store.revision(), before, "nothing is written");
        }
    }
}
