//! Releases that are refused, and what is found.

use calico_api::{AffinityOwner, Key, Kind, Labels};

use super::{Refusal, ReleaseAddresses, ReleaseByHandle, ReleaseError, Released, Target};
use crate::address::{AddressError, AddressRequest, AssignAddress};
use crate::known::Known;
use crate::lookup::{AddressesOf, AssignmentOf};
use crate::machine::Machine;
use crate::memory::MemoryStore;
use crate::time::UnixTime;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn store() -> MemoryStore {
    let mut store = MemoryStore::new(false);
    let pool =
        serde_json::json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/24", "blockSize": 30}});
    store.put(Key::resource(Kind::IPPool, "", "p"), pool.to_string());
    store
}

fn assign(store: &mut MemoryStore, node: &str, address: &str, handle: &str) -> Result<(), AddressError> {
    let request = AddressRequest {
        address: address.parse().unwrap(),
        handle: handle.into(),
        attributes: Labels::new(),
        owner: AffinityOwner::Host(node.into()),
        intended_use: None,
    };
    store.run(AssignAddress::new(request, NOW)).map(drop)
}

#[test]
fn one_address_by_name() {
    let mut store = store();
    assign(&mut store, "n1", "10.0.0.5", "a").unwrap();
    assert_eq!(assign(&mut store, "n1", "10.0.0.5", "b"), Err(AddressError::AlreadyAssigned));
    assert_eq!(assign(&mut store, "n1", "10.9.0.5", "b"), Err(AddressError::NotInPool));
    assign(&mut store, "n2", "10.0.0.6", "b").unwrap();
    store.put(Key::IpamConfig, r#"{"strict_affinity":true}"#);
    assert_eq!(assign(&mut store, "n2", "10.0.0.7", "b"), Err(AddressError::Foreign));
    let found = store.run(AssignmentOf::new("10.0.0.6".parse().unwrap())).unwrap().unwrap();
    assert_eq!(found.attribute.handle_id.as_deref(), Some("b"));
    assert_eq!(found.owner, Some(AffinityOwner::Host("n1".into())));
    assert_eq!(store.run(AddressesOf::new("b\r")).unwrap()[0].address.to_string(), "10.0.0.6");
}

#[test]
fn a_releaser_may_insist() {
    let mut store = store();
    assign(&mut store, "n1", "10.0.0.5", "a").unwrap();
    let address = "10.0.0.5".parse().unwrap();
    let sequence = store.run(AssignmentOf::new(address)).unwrap().unwrap().sequence.unwrap();
    let wrong = [
        Target { sequence: Some(sequence + 1), ..Target::new(address) },
        Target { handle: Some("b".into()), ..Target::new(address) },
    ];
    let refused = store.run(ReleaseAddresses::new(wrong.to_vec(), NOW)).unwrap().refused;
    assert!(matches!(&refused[..], [Refusal::Sequence { .. }, Refusal::Handle { .. }]), "{refused:?}");

    let right = Target { sequence: Some(sequence), handle: Some("a".into()), ..Target::new(address) };
    let outside = Target::new("192.0.2.1".parse().unwrap());
    let outcome = store.run(ReleaseAddresses::new(vec![right.clone(), outside.clone()], NOW)).unwrap();
    assert_eq!(
        outcome,
        Released { released: vec![address], unallocated: vec![outside.address], refused: Vec::new() }
    );
    assert!(store.get(&Key::Handle("a".into())).is_none());
    let again = store.run(ReleaseAddresses::new(vec![right], NOW)).unwrap();
    assert_eq!(again.unallocated, [address]);
    assert_eq!(
        store.run(ReleaseByHandle::new("a", NOW)),
        Err(ReleaseError::NotFound("a".into())),
        "a second release finds nothing"
    );
}

#[test]
fn an_address_in_a_block_of_an_older_size_is_found() {
    let mut store = store();
    assign(&mut store, "n1", "10.0.0.5", "a").unwrap();
    let pool =
        serde_json::json!({"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/24", "blockSize": 26}});
    store.put(Key::resource(Kind::IPPool, "", "p"), pool.to_string());
    let address = "10.0.0.5".parse().unwrap();
    let found = store.run(AssignmentOf::new(address)).unwrap().unwrap();
    assert_eq!(found.block.to_string(), "10.0.0.4/30");
    let outcome = store.run(ReleaseAddresses::new(vec![Target::new(address)], NOW)).unwrap();
    assert_eq!((outcome.released, outcome.unallocated), (vec![address], vec![]));
}

#[test]
fn a_repaired_block_is_released_by_who_saw_it_damaged() {
    let mut store = store();
    assign(&mut store, "n1", "10.0.0.5", "a").unwrap();
    let block = Key::Block("10.0.0.4/30".parse().unwrap());
    let sound = store.get(&block).unwrap().value;
    store.put(block.clone(), "[");
    let mut known = Known::new();
    let mut release = |store: &mut MemoryStore| {
        let mut machine = Machine::new(ReleaseByHandle::new("a", NOW), std::mem::take(&mut known));
        let released = store.drive(&mut machine);
        known = machine.into_known();
        released
    };
    assert_eq!(release(&mut store), Err(ReleaseError::Damaged(block.clone())));
    store.put(block, sound);
    assert_eq!(release(&mut store), Ok(vec!["10.0.0.5".parse().unwrap()]));
}

#[test]
fn settings_that_cannot_be_read_assign_nothing() {
    let mut store = store();
    store.put(Key::IpamConfig, r#"{"strict_affinity":"yes"}"#);
    let refused = assign(&mut store, "n1", "10.0.0.5", "a").unwrap_err();
    assert!(matches!(&refused, AddressError::Unreadable(p) if p.key == Key::IpamConfig), "{refused}");
}

#[test]
fn an_address_of_a_block_of_another_size_is_found_in_that_block() {
    let mut store = store();
    assign(&mut store, "n1", "10.0.0.5", "a").unwrap();
    let resize = |store: &mut MemoryStore, size: u8| {
        let spec = serde_json::json!({"cidr": "10.0.0.0/24", "blockSize": size});
        let pool = serde_json::json!({"metadata": {"name": "p"}, "spec": spec});
        store.put(Key::resource(Kind::IPPool, "", "p"), pool.to_string());
    };
    resize(&mut store, 31);
    assert_eq!(assign(&mut store, "n2", "10.0.0.5", "b"), Err(AddressError::AlreadyAssigned));
    assign(&mut store, "n2", "10.0.0.6", "b").unwrap();
    resize(&mut store, 28);
    assign(&mut store, "n2", "10.0.0.7", "c").unwrap();
    let (wanted, old) = ("10.0.0.0/28".parse().unwrap(), "10.0.0.4/30".parse().unwrap());
    let refused = assign(&mut store, "n2", "10.0.0.8", "c");
    assert_eq!(refused, Err(AddressError::Overlap { wanted, old }));
    let faults = crate::check::check(&store.known(), None).faults;
    assert!(faults.iter().all(|f| matches!(f, crate::check::Fault::NoNode { .. })), "{faults:?}");
}

#[test]
fn an_address_of_a_block_whose_claim_cannot_be_read_is_refused() {
    let mut store = store();
    let block = "10.0.0.4/30".parse().unwrap();
    let claim = Key::Affinity { owner: AffinityOwner::Host("n1".into()), block };
    store.put(claim.clone(), "[]");
    assert_eq!(assign(&mut store, "n1", "10.0.0.5", "a"), Err(AddressError::Damaged(claim)));
    store.put(Key::Handle("b".into()), "[]");
    let refused = assign(&mut store, "n1", "10.0.0.9", "b").unwrap_err();
    assert!(matches!(refused, AddressError::Unreadable(_)), "{refused}");
}
