//! How full pools are.

use calico_api::{Key, Kind};

use super::{ORPHANED, report};
use crate::assign::{Assign, AssignRequest};
use crate::lookup::Survey;
use crate::machine::Machine;
use crate::memory::MemoryStore;
use crate::release::ReleaseByHandle;
use crate::time::UnixTime;

#[test]
fn pools_blocks_reservations_and_orphans() {
    let now = UnixTime::from_secs(1_800_000_000);
    let mut store = MemoryStore::new(false);
    let put = |store: &mut MemoryStore, kind, name: &str, spec| {
        let value = serde_json::json!({"metadata": {"name": name}, "spec": spec});
        store.put(Key::resource(kind, "", name), value.to_string());
    };
    put(&mut store, Kind::IPPool, "old", serde_json::json!({"cidr": "10.9.0.0/28", "blockSize": 28}));
    put(&mut store, Kind::Node, "n1", serde_json::json!({}));
    store.run(Assign::new(AssignRequest::workload("n1", "h", 2, 0), now)).unwrap();
    put(&mut store, Kind::IPPool, "old", serde_json::json!({"cidr": "10.0.0.0/24", "blockSize": 28}));
    let reserved = serde_json::json!({"reservedCIDRs": ["10.0.0.0/26", "10.0.0.0/27", "10.0.0.255"]});
    put(&mut store, Kind::IPReservation, "r", reserved);
    store.run(Assign::new(AssignRequest::workload("n1", "h", 3, 0), now)).unwrap();

    let mut machine = Machine::new(Survey, crate::known::Known::new());
    store.drive(&mut machine).unwrap();
    let usage = report(machine.known(), now);
    let [pool, orphans] = &usage[..] else { panic!("{usage:?}") };
    assert_eq!((pool.capacity, pool.in_use, pool.reserved, pool.available), (256, 3, 65, 188));
    assert_eq!((pool.blocks.len(), pool.blocks[0].owner.as_deref()), (1, Some("host:n1")));
    assert_eq!((orphans.name.as_str(), orphans.capacity, orphans.in_use), (ORPHANED, 16, 2));
}

/// What a node has of a pool of 16 addresses, two of them assigned and one of those released, so long after: in use,
/// reserved, available.
fn after_a_release(cooldown_secs: u32, later_secs: u64) -> (u128, u128, u128) {
    let now = UnixTime::from_secs(1_800_000_000);
    let mut store = MemoryStore::new(false);
    for (kind, name, spec) in [
        (Kind::IPPool, "p", serde_json::json!({"cidr": "10.0.0.0/28", "blockSize": 29})),
        (Kind::Node, "n1", serde_json::json!({})),
        (Kind::IPReservation, "r", serde_json::json!({"reservedCIDRs": ["10.0.0.0/31", "10.0.0.8/31"]})),
    ] {
        let value = serde_json::json!({"metadata": {"name": name}, "spec": spec});
        store.put(Key::resource(kind, "", name), value.to_string());
    }
    let config = serde_json::json!({"auto_allocate_blocks": true, "ipCooldownSeconds": cooldown_secs});
    store.put(Key::IpamConfig, config.to_string());
    for handle in ["gone", "stays"] {
        store.run(Assign::new(AssignRequest::workload("n1", handle, 1, 0), now)).unwrap();
    }
    store.run(ReleaseByHandle::new("gone", now)).unwrap();
    let mut machine = Machine::new(Survey, crate::known::Known::new());
    store.drive(&mut machine).unwrap();
    let usage = report(machine.known(), UnixTime::from_secs(now.secs() + later_secs));
    let [pool] = &usage[..] else { panic!("{usage:?}") };
    let [block] = &pool.blocks[..] else { panic!("{pool:?}") };
    assert_eq!(block.capacity, block.in_use + block.reserved + block.available);
    assert_eq!(pool.capacity, pool.in_use + pool.reserved + pool.available);
    (pool.in_use, pool.reserved, pool.available)
}

#[test]
fn a_released_address_is_free_once_it_has_rested() {
    assert_eq!(after_a_release(0, 0), (1, 4, 11), "the next assignment may have it");
    assert_eq!(after_a_release(60, 59), (1, 5, 10), "it rests");
    assert_eq!(after_a_release(60, 60), (1, 4, 11));
}
