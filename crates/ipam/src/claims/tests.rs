//! Claims of ranges, and their release.

use calico_api::{AffinityOwner, Key, Kind};

use super::{ClaimAffinity, ClaimError, ReleaseAffinities, Scope};
use crate::assign::{Assign, AssignRequest};
use crate::check::check;
use crate::memory::MemoryStore;
use crate::time::UnixTime;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn host(name: &str) -> AffinityOwner {
    AffinityOwner::Host(name.into())
}

fn store() -> MemoryStore {
    let mut store = MemoryStore::new(true);
    let pool =
        serde_json::json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/28", "blockSize": 30}});
    store.put(Key::resource(Kind::IPPool, "", "p"), pool.to_string());
    for name in ["n1", "n2"] {
        let node = serde_json::json!({"metadata": {"name": name}, "spec": {}});
        store.put(Key::resource(Kind::Node, "", name), node.to_string());
    }
    store
}

#[test]
fn a_range_is_claimed_and_given_up() {
    let mut store = store();
    let cidr = |text: &str| text.parse().unwrap();
    let claimed = store.run(ClaimAffinity::new(cidr("10.0.0.0/29"), host("n1"), NOW)).unwrap();
    assert_eq!(claimed.done, [cidr("10.0.0.0/30"), cidr("10.0.0.4/30")]);
    let claimed = store.run(ClaimAffinity::new(cidr("10.0.0.0/28"), host("n2"), NOW)).unwrap();
    assert_eq!((claimed.done.len(), claimed.failed.len()), (2, 2));
    assert!(check(&store.known(), None).leftovers.is_empty());
    let outside = store.run(ClaimAffinity::new(cidr("10.1.0.0/30"), host("n1"), NOW));
    assert_eq!(outside, Err(ClaimError::NotInPool(cidr("10.1.0.0/30"))));
    let small = store.run(ClaimAffinity::new(cidr("10.0.0.0/31"), host("n1"), NOW));
    assert_eq!(small, Err(ClaimError::Size { cidr: cidr("10.0.0.0/31"), block_len: 30 }));

    let taken = store.run(Assign::new(AssignRequest::workload("n1", "h", 1, 0), NOW)).unwrap().v4[0].block;
    let scope = Scope::Owner(host("n1"));
    let freed = store.run(ReleaseAffinities::new(scope.clone(), true, NOW)).unwrap();
    assert_eq!((freed.done.len(), freed.failed.as_slice()), (1, &[taken][..]));
    store.put(Key::IpamHost("n1".into()), "{}");
    let freed = store.run(ReleaseAffinities::remove_host("n1", NOW)).unwrap();
    assert_eq!(freed.done, [taken]);
    assert!(store.get(&Key::IpamHost("n1".into())).is_none());
    let known = store.known();
    let (block, _) = known.block(taken).expect("its address is still in use");
    assert_eq!(block.affinity, None);
    let freed = store.run(ReleaseAffinities::new(Scope::Pool(cidr("10.0.0.0/28")), false, NOW)).unwrap();
    assert_eq!(freed.done.len(), 2);
    let report = check(&store.known(), None);
    assert!(report.leftovers.is_empty() && report.faults.is_empty(), "{report:?}");
}

#[test]
fn a_block_of_another_size_is_in_the_way() {
    let mut store = store();
    let cidr = |text: &str| text.parse().unwrap();
    store.run(Assign::new(AssignRequest::workload("n1", "h", 1, 0), NOW)).unwrap();
    let old = store.known().blocks(calico_net::Family::V4).next().unwrap().0;
    let anew =
        serde_json::json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/28", "blockSize": 31}});
    store.put(Key::resource(Kind::IPPool, "", "p"), anew.to_string());
    let claimed = store.run(ClaimAffinity::new(cidr("10.0.0.0/28"), host("n2"), NOW)).unwrap();
    assert_eq!((claimed.done.len(), claimed.failed.len()), (6, 2));
    assert!(claimed.failed.iter().all(|c| old.covers(c)), "{claimed:?}");
    let faults = check(&store.known(), None).faults;
    assert!(faults.is_empty(), "{faults:?}");
}

#[test]
fn a_claim_on_a_block_that_cannot_be_read_stays() {
    let mut store = store();
    let cidr = |text: &str| text.parse().unwrap();
    store.run(ClaimAffinity::new(cidr("10.0.0.0/29"), host("n1"), NOW)).unwrap();
    let (block, other) = (Key::Block(cidr("10.0.0.0/30")), cidr("10.0.0.4/30"));
    store.put(block.clone(), "[");
    store.put(Key::IpamHost("n1".into()), "{}");
    let claim = Key::Affinity { owner: host("n1"), block: cidr("10.0.0.0/30") };
    let before = store.get(&claim);
    assert!(before.is_some());

    let taken = store.run(Assign::new(AssignRequest::workload("n1", "h", 4, 0), NOW)).unwrap().v4;
    assert!(taken.len() == 4 && taken.iter().all(|a| a.block == other), "{taken:?}");
    let damaged = ClaimError::Damaged(block);
    let again = store.run(ClaimAffinity::new(cidr("10.0.0.0/29"), host("n1"), NOW));
    assert_eq!(again, Err(damaged.clone()));
    let removed = store.run(ReleaseAffinities::remove_host("n1", NOW));
    assert_eq!(removed, Err(damaged));
    assert_eq!(store.get(&claim), before);
    assert!(store.get(&Key::IpamHost("n1".into())).is_some(), "the host is not forgotten");
    let known = store.known();
    assert_eq!(known.block(other).unwrap().0.affinity, None, "the others are done");
    assert!(known.affinity(&host("n1"), other).is_none());
}
