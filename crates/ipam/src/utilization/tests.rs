//! How full pools are.

use calico_api::{Key, Kind};

use super::{ORPHANED, report};
use crate::assign::{Assign, AssignRequest};
use crate::lookup::Survey;
use crate::machine::Machine;
use crate::memory::MemoryStore;
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
    let usage = report(machine.known());
    let [pool, orphans] = &usage[..] else { panic!("{usage:?}") };
    assert_eq!((pool.capacity, pool.in_use, pool.reserved, pool.available), (256, 3, 65, 188));
    assert_eq!((pool.blocks.len(), pool.blocks[0].owner.as_deref()), (1, Some("host:n1")));
    assert_eq!((orphans.name.as_str(), orphans.capacity, orphans.in_use), (ORPHANED, 16, 2));
}
