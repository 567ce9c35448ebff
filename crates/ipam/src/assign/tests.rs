//! Automatic assignment against a store in memory: what is assigned, in how many round trips, and what is refused.

use std::collections::BTreeSet;
use std::net::IpAddr;

use calico_api::{AffinityOwner, Key, Kind};
use calico_net::Cidr;
use proptest::prelude::*;

use super::{Assign, AssignError, AssignOutcome, AssignRequest, Reason};
use crate::check::{Users, check};
use crate::config::ConfigError;
use crate::known::Known;
use crate::machine::Machine;
use crate::memory::MemoryStore;
use crate::pools::PoolError;
use crate::release::{ReleaseAddresses, ReleaseByHandle, Target};
use crate::time::UnixTime;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

fn pool(store: &mut MemoryStore, name: &str, spec: serde_json::Value) {
    let value = serde_json::json!({
        "kind": "IPPool", "apiVersion": "projectcalico.org/v3", "metadata": {"name": name}, "spec": spec,
    });
    store.put(Key::resource(Kind::IPPool, "", name), value.to_string());
}

fn node(store: &mut MemoryStore, name: &str, labels: serde_json::Value) {
    let value = serde_json::json!({
        "kind": "Node", "apiVersion": "projectcalico.org/v3",
        "metadata": {"name": name, "labels": labels}, "spec": {},
    });
    store.put(Key::resource(Kind::Node, "", name), value.to_string());
}

fn cluster(cidr: &str, block_size: u8) -> MemoryStore {
    let mut store = MemoryStore::new(false);
    pool(&mut store, "pool", serde_json::json!({"cidr": cidr, "blockSize": block_size}));
    for name in ["n1", "n2", "n3"] {
        node(&mut store, name, serde_json::json!({}));
    }
    store
}

fn config(store: &mut MemoryStore, config: serde_json::Value) {
    store.put(Key::IpamConfig, config.to_string());
}

fn assign(store: &mut MemoryStore, node: &str, handle: &str, n: usize) -> Result<AssignOutcome, AssignError> {
    let request = AssignRequest { all_or_nothing: false, ..AssignRequest::workload(node, handle, n, 0) };
    store.run(Assign::new(request, NOW))
}

fn addresses(outcome: &AssignOutcome) -> Vec<IpAddr> {
    outcome.v4.iter().chain(&outcome.v6).map(|a| a.address).collect()
}

/// Nothing is left over and nothing wrong.
fn assert_clean(store: &MemoryStore) {
    let report = check(&store.known(), None);
    assert!(
        report.leftovers.is_empty() && report.faults.is_empty() && report.problems.is_empty(),
        "{report:?}"
    );
}

/// A claim of a larger block than the pool's, with a smaller one in its place: making it would give away what is in use.
#[test]
fn a_claim_of_another_size_makes_no_block() {
    let mut store = cluster("10.0.0.0/27", 29);
    let used = addresses(&assign(&mut store, "n1", "old", 4).unwrap());
    let large: Cidr = Cidr::new(used[0], 28).unwrap();
    let claim = Key::Affinity { owner: AffinityOwner::Host("n1".into()), block: large };
    store.put(claim, serde_json::json!({"state": "confirmed"}).to_string());
    let given = addresses(&assign(&mut store, "n1", "new", 12).unwrap());
    assert!(given.iter().all(|address| !used.contains(address)), "{given:?} of {used:?}");
    assert!(store.get(&Key::Block(large)).is_none() && check(&store.known(), None).faults.is_empty());
    assert_eq!(given.len(), 12);
}

#[test]
fn the_common_assignment_is_one_commit() {
    let mut store = cluster("10.0.0.0/16", 26);
    pool(&mut store, "six", serde_json::json!({"cidr": "fd00::/64"}));
    assign(&mut store, "n1", "first", 1).unwrap();

    // Knowing nothing: the settings, pools and affinities; the blocks; the commit.
    store.round_trips = 0;
    let mut machine =
        Machine::new(Assign::new(AssignRequest::workload("n1", "second", 1, 0), NOW), Known::new());
    store.drive(&mut machine).unwrap();
    assert_eq!(store.round_trips, 3);

    // Knowing what the one before knew: the settings and pools, and the commit.
    store.round_trips = 0;
    let known = machine.into_known();
    let mut machine = Machine::new(Assign::new(AssignRequest::workload("n1", "third", 1, 0), NOW), known);
    store.drive(&mut machine).unwrap();
    assert_eq!(store.round_trips, 2);

    // Somebody else wrote the block meanwhile: the conflict brings it, the next commit succeeds.
    assign(&mut store, "n1", "other", 1).unwrap();
    store.round_trips = 0;
    let mut machine =
        Machine::new(Assign::new(AssignRequest::workload("n1", "fourth", 1, 0), NOW), machine.into_known());
    let outcome = store.drive(&mut machine).unwrap();
    assert_eq!(store.round_trips, 3);
    assert_eq!(outcome.v4.len(), 1);

    // The own affinities known, and not the blocks: one more read. Both families share them.
    let request = AssignRequest::workload("n1", "both", 1, 1);
    store.drive(&mut Machine::new(Assign::new(request.clone(), NOW), Known::new())).unwrap();
    let mut known = Known::new();
    for family in calico_net::Family::ALL {
        let selection = affinities_of("n1", family);
        known.observe_listing(selection.clone(), &store.list(&selection));
    }
    let request = AssignRequest { handle: "b2".into(), ..request };
    let mut machine = Machine::new(Assign::new(request, NOW), known);
    store.round_trips = 0;
    let outcome = store.drive(&mut machine).unwrap();
    assert_eq!((store.round_trips, outcome.v4.len(), outcome.v6.len()), (3, 1, 1));
    assert_clean(&store);
}

fn affinities_of(node: &str, family: calico_net::Family) -> calico_api::Selection {
    calico_api::Selection::Affinities { owner: Some(AffinityOwner::Host(node.into())), family: Some(family) }
}

#[test]
fn records_look_as_they_are_stored() {
    let mut store = cluster("10.0.0.0/30", 30);
    let mut request = AssignRequest::workload("n1", "k8s-pod-network.c1", 1, 0);
    request.attributes.insert("pod".into(), "p".into());
    request.attributes.insert("timestamp".into(), NOW.go_text().into());
    store.run(Assign::new(request, NOW)).unwrap();
    let text =
        |key: &str| String::from_utf8(store.get(&Key::parse(key).unwrap()).unwrap().value.to_vec()).unwrap();
    assert_eq!(
        text("/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30"),
        r#"{"cidr":"10.0.0.0/30","affinity":"host:n1","affinity_claim_time":"2027-01-15T08:00:00Z","allocations":[0,null,null,null],"unallocated":[1,2,3],"attributes":[{"handle_id":"k8s-pod-network.c1","secondary":{"pod":"p","timestamp":"2027-01-15 08:00:00 +0000 UTC"}}],"sequenceNumber":1800000000000000001,"sequenceNumberForAllocation":{"0":1800000000000000000},"deleted":false}"#
    );
    assert_eq!(
        text("/calico/ipam/v2/handle/k8s-pod-network.c1"),
        r#"{"block":{"10.0.0.0/30":1},"deleted":false}"#
    );
    assert_eq!(
        text("/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-30"),
        r#"{"state":"confirmed","deleted":false}"#
    );
}

#[test]
fn strict_affinity_does_not_borrow() {
    let mut store = cluster("10.0.0.0/29", 30);
    config(&mut store, serde_json::json!({"strict_affinity": true, "auto_allocate_blocks": true}));
    assign(&mut store, "n2", "h2", 1).unwrap();
    let outcome = assign(&mut store, "n1", "h1", 6).unwrap();
    assert_eq!(outcome.v4.len(), 4);
    assert_eq!(outcome.shortfalls[0].reason, Reason::Strict);

    config(&mut store, serde_json::json!({"auto_allocate_blocks": true}));
    let outcome = assign(&mut store, "n1", "h1", 6).unwrap();
    assert_eq!(outcome.v4.len(), 3, "the other block's three free ones are borrowed");
    assert_eq!(outcome.shortfalls[0].reason, Reason::Exhausted);
    assert_clean(&store);
}

#[test]
fn the_block_limit_ends_the_request_without_borrowing() {
    let mut store = cluster("10.0.0.0/24", 30);
    assign(&mut store, "n2", "h2", 1).unwrap();
    let outcome = assign(&mut store, "n1", "h1", 100).unwrap();
    assert_eq!(outcome.v4.len(), 80, "twenty blocks of four");
    assert_eq!(outcome.shortfalls[0].reason, Reason::BlockLimit(20));

    config(
        &mut store,
        serde_json::json!({"strict_affinity": true, "auto_allocate_blocks": true, "maxBlocksPerHost": 3}),
    );
    let request = AssignRequest {
        max_blocks: Some(2),
        all_or_nothing: false,
        ..AssignRequest::workload("n3", "h3", 100, 0)
    };
    assert_eq!(store.run(Assign::new(request, NOW)).unwrap().v4.len(), 8, "the lower limit counts");
    assert_eq!(assign(&mut store, "n3", "h3", 100).unwrap().v4.len(), 4);
    assert_clean(&store);
}

#[test]
fn settings_that_nobody_may_write_do_not_stop_every_assignment() {
    let mut store = cluster("10.0.0.0/24", 30);
    // As by kubectl: the limit holds although nodes may borrow.
    config(&mut store, serde_json::json!({"auto_allocate_blocks": true, "maxBlocksPerHost": 2}));
    let outcome = assign(&mut store, "n1", "h1", 100).unwrap();
    assert_eq!((outcome.v4.len(), outcome.shortfalls[0].reason), (8, Reason::BlockLimit(2)));
    // Neither a new block nor a borrowed address could ever be had.
    config(&mut store, serde_json::json!({}));
    assert_eq!(assign(&mut store, "n2", "h2", 1), Err(AssignError::Config(ConfigError::Nothing)));
}

#[test]
fn half_of_a_dual_stack_request_is_released_again() {
    let mut store = cluster("10.0.0.0/28", 30);
    pool(&mut store, "six", serde_json::json!({"cidr": "fd00::/126", "blockSize": 126}));
    store.run(Assign::new(AssignRequest::workload("n1", "full", 0, 4), NOW)).unwrap();
    let error = store.run(Assign::new(AssignRequest::workload("n1", "half", 1, 1), NOW)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Assigned 0 out of 1 requested IPv6 addresses; no more free addresses in any of the pools"
    );
    assert!(store.get(&Key::Handle("half".into())).is_none());
    assert_eq!(check(&store.known(), None).assigned, 4);
    assert_clean(&store);
}

#[test]
fn pools_are_chosen_and_refused() {
    let mut store = MemoryStore::new(false);
    node(&mut store, "n1", serde_json::json!({"rack": "a"}));
    let fails = |store: &mut MemoryStore, request: AssignRequest| match store.run(Assign::new(request, NOW)) {
        Err(AssignError::Pool(e)) => e,
        other => panic!("{other:?}"),
    };
    let request = AssignRequest::workload("n1", "h", 1, 0);
    assert_eq!(fails(&mut store, request.clone()), PoolError::NoneEnabled(calico_net::Family::V4));
    pool(&mut store, "b", serde_json::json!({"cidr": "10.1.0.0/24", "nodeSelector": "rack == 'b'"}));
    pool(&mut store, "off", serde_json::json!({"cidr": "10.2.0.0/24", "disabled": true}));
    assert_eq!(fails(&mut store, request.clone()), PoolError::NoneSelects("n1".into()));
    pool(&mut store, "t", serde_json::json!({"cidr": "10.3.0.0/24", "allowedUses": ["Tunnel"]}));
    assert!(matches!(fails(&mut store, request.clone()), PoolError::NoneForUse(_)));
    let off: Cidr = "10.2.0.0/24".parse().unwrap();
    let asked = AssignRequest { pools4: vec![off], ..request.clone() };
    assert_eq!(fails(&mut store, asked), PoolError::Given(off));
    // Asked for by range, a pool need not select the node.
    let asked = AssignRequest { pools4: vec!["10.1.0.0/24".parse().unwrap()], ..request.clone() };
    assert_eq!(store.run(Assign::new(asked, NOW)).unwrap().v4.len(), 1);
    let nobody = AssignRequest::workload("n9", "h", 1, 0);
    assert_eq!(store.run(Assign::new(nobody, NOW)), Err(AssignError::NoNode("n9".into())));
}

#[test]
fn blocks_of_pools_that_no_longer_select_the_node_are_given_up() {
    let mut store = cluster("10.0.0.0/24", 28);
    let outcome = assign(&mut store, "n1", "h1", 1).unwrap();
    let old = outcome.v4[0].block;
    let unselected =
        serde_json::json!({"cidr": "10.0.0.0/24", "blockSize": 28, "nodeSelector": "rack == 'z'"});
    pool(&mut store, "pool", unselected);
    pool(&mut store, "pool2", serde_json::json!({"cidr": "10.9.0.0/24"}));
    assign(&mut store, "n1", "h2", 1).unwrap();
    assert!(store.get(&Key::Block(old)).is_some(), "in use");
    store.run(ReleaseByHandle::new("h1", NOW)).unwrap();
    assign(&mut store, "n1", "h3", 1).unwrap();
    assert!(store.get(&Key::Block(old)).is_none());
    assert_clean(&store);
}

#[test]
fn an_old_empty_block_of_another_node_is_reclaimed() {
    let mut store = cluster("10.0.0.0/30", 30);
    config(&mut store, serde_json::json!({"strict_affinity": true, "auto_allocate_blocks": true}));
    assign(&mut store, "n1", "h1", 1).unwrap();
    store.run(ReleaseByHandle::new("h1", NOW)).unwrap();
    assert_eq!(assign(&mut store, "n2", "h2", 1).unwrap().v4.len(), 0, "claimed this very minute");
    let later = UnixTime::from_secs(NOW.secs() + 61);
    assert_eq!(store.run(Assign::new(AssignRequest::workload("n2", "h2", 1, 0), later)).unwrap().v4.len(), 1);
    assert_clean(&store);
}

#[test]
fn reserved_addresses_and_wrong_blocks_are_passed_over() {
    let mut store = cluster("10.0.0.0/28", 30);
    let value = serde_json::json!({
        "kind": "IPReservation", "metadata": {"name": "r"},
        "spec": {"reservedCIDRs": ["10.0.0.0/30", "10.0.0.5", "10.0.0.8/31"]},
    });
    store.put(Key::resource(Kind::IPReservation, "", "r"), value.to_string());
    // A block of another size, left from an earlier pool, and one that cannot be read.
    store.put(Key::Block("10.0.0.12/31".parse().unwrap()), "{}");
    let outcome = assign(&mut store, "n1", "h", 16).unwrap();
    let got: BTreeSet<String> = addresses(&outcome).iter().map(|a| a.to_string()).collect();
    let expected = ["10.0.0.10", "10.0.0.11", "10.0.0.4", "10.0.0.6", "10.0.0.7"];
    assert_eq!(got, expected.iter().map(|s| s.to_string()).collect());
}

/// What it keeps free is not known; an address that was given is not taken back.
#[test]
fn a_reservation_that_cannot_be_read_stops_every_assignment() {
    let mut store = cluster("10.0.0.0/28", 30);
    let key = Key::resource(Kind::IPReservation, "", "r");
    for (spec, reason) in [
        (serde_json::json!({"reservedCIDRs": "10.0.0.0/30"}), "r cannot be read: invalid type: string"),
        (serde_json::json!({"reservedCIDRs": ["10.0.0.0/30", "10.0.0.300"]}), "\"10.0.0.300\" is no CIDR"),
    ] {
        store.put(key.clone(), serde_json::json!({"metadata": {"name": "r"}, "spec": spec}).to_string());
        let error = assign(&mut store, "n1", "h", 1).unwrap_err();
        assert!(matches!(&error, AssignError::Unreadable(problem) if problem.key == key), "{error:?}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    let mended = serde_json::json!({"metadata": {"name": "r"}, "spec": {"reservedCIDRs": ["10.0.0.0/30"]}});
    store.put(key, mended.to_string());
    assert_eq!(addresses(&assign(&mut store, "n1", "h", 1).unwrap()).len(), 1);
    assert_clean(&store);
}

#[test]
fn a_load_balancer_needs_no_node() {
    let mut store = cluster("10.0.0.0/24", 28);
    pool(&mut store, "lb", serde_json::json!({"cidr": "10.5.0.0/24", "allowedUses": ["LoadBalancer"]}));
    let request = AssignRequest {
        owner: AffinityOwner::Virtual("load-balancer".into()),
        intended_use: calico_api::AllowedUse::LoadBalancer,
        ..AssignRequest::workload("", "lb-x", 1, 0)
    };
    let outcome = store.run(Assign::new(request, NOW)).unwrap();
    let block = outcome.v4[0].block;
    let key = format!("/calico/ipam/v2/virtual/load-balancer/ipv4/block/{}", block.key_name());
    assert!(store.get(&Key::parse(&key).unwrap()).is_some());
}

#[test]
fn a_released_address_rests_and_goes_to_the_tail() {
    let mut store = cluster("10.0.0.0/30", 30);
    config(&mut store, serde_json::json!({"auto_allocate_blocks": true, "ipCooldownSeconds": 30}));
    let first = addresses(&assign(&mut store, "n1", "h1", 1).unwrap())[0];
    store.run(ReleaseAddresses::new(vec![Target::new(first)], NOW)).unwrap();
    let rest = addresses(&assign(&mut store, "n1", "h2", 4).unwrap());
    assert_eq!(rest.len(), 3);
    assert!(!rest.contains(&first));
    let later = UnixTime::from_secs(NOW.secs() + 30);
    let again = store.run(Assign::new(AssignRequest::workload("n1", "h3", 1, 0), later)).unwrap();
    assert_eq!(addresses(&again), [first]);
    assert_clean(&store);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whoever asks for how many at a time: every address of the pool is assigned exactly once, in both commit modes.
    #[test]
    fn a_pool_is_covered(
        v6 in any::<bool>(),
        block_bits in 0u8..=4,
        is_sequential in any::<bool>(),
        requests in prop::collection::vec((0usize..3, 1usize..9), 80),
    ) {
        let mut store = cluster(if v6 { "fd00::/122" } else { "10.0.0.0/26" }, if v6 { 128 } else { 32 } - block_bits);
        store.is_sequential = is_sequential;
        let mut seen: Users = Users::new();
        let mut caches: [Known; 3] = Default::default();
        for (i, (who, n)) in requests.into_iter().cycle().take(200).enumerate() {
            let node = ["n1", "n2", "n3"][who];
            let (num4, num6) = if v6 { (0, n) } else { (n, 0) };
            let request = AssignRequest {
                all_or_nothing: false,
                max_blocks: Some(1000),
                ..AssignRequest::workload(node, &format!("h{i}"), num4, num6)
            };
            let mut machine = Machine::new(Assign::new(request, NOW), std::mem::take(&mut caches[who]));
            let outcome = store.drive(&mut machine).unwrap();
            caches[who] = machine.into_known();
            for address in addresses(&outcome) {
                prop_assert!(seen.insert(address, vec![format!("h{i}").into()]).is_none(), "{} twice", address);
            }
        }
        prop_assert_eq!(seen.len(), 64);
        let report = check(&store.known(), Some(&seen));
        prop_assert!(report.faults.is_empty() && report.leftovers.is_empty(), "{:?}", report);
    }
}

#[test]
fn settings_that_cannot_be_read_assign_nothing() {
    let mut store = cluster("10.0.0.0/24", 26);
    config(&mut store, serde_json::json!({"strict_affinity": "yes"}));
    let refused = assign(&mut store, "n1", "a", 1).unwrap_err();
    assert!(matches!(&refused, AssignError::Unreadable(p) if p.key == Key::IpamConfig), "{refused}");
    assert!(store.list(&calico_api::Selection::Handles).is_empty(), "nothing was written");
}

#[test]
fn a_block_that_contradicts_itself_assigns_nothing() {
    let mut store = cluster("10.0.0.0/24", 30);
    let first = assign(&mut store, "n1", "a", 1).unwrap().v4[0];
    let key = Key::Block(first.block);
    let mut block: serde_json::Value = serde_json::from_slice(&store.get(&key).unwrap().value).unwrap();
    block["unallocated"] = serde_json::json!([0, 1, 2, 3]);
    store.put(key.clone(), block.to_string());
    let before = store.get(&key);
    let given = assign(&mut store, "n1", "b", 4).unwrap().v4;
    assert_eq!(given.len(), 4);
    assert!(given.iter().all(|a| a.block != first.block), "{given:?}");
    assert_eq!(store.get(&key), before);
    let problems = check(&store.known(), None).problems;
    assert!(problems.iter().any(|p| p.key == key), "{problems:?}");
}

#[test]
fn what_an_operator_changed_counts_at_once() {
    type Edit = fn(&mut MemoryStore);
    let reserve: Edit = |store| {
        let spec = serde_json::json!({"reservedCIDRs": ["10.0.0.0/28"]});
        let value = serde_json::json!({"metadata": {"name": "r"}, "spec": spec});
        store.put(Key::resource(Kind::IPReservation, "", "r"), value.to_string());
    };
    let disable: Edit = |store| {
        let spec = serde_json::json!({"cidr": "10.0.0.0/28", "blockSize": 28, "disabled": true});
        pool(store, "pool", spec);
    };
    let unselect: Edit = |store| {
        let spec = serde_json::json!({"cidr": "10.0.0.0/28", "blockSize": 28, "nodeSelector": "has(rack)"});
        pool(store, "pool", spec);
    };
    let spoil: Edit = |store| config(store, serde_json::json!({"strict_affinity": "yes"}));
    let delete: Edit = |store| {
        store.apply(&calico_api::Write::Delete {
            key: Key::resource(Kind::IPPool, "", "pool"),
            expect: calico_api::Expect::Any,
        });
    };
    for edit in [reserve, disable, unselect, spoil, delete] {
        let mut store = cluster("10.0.0.0/28", 28);
        let mut machine =
            Machine::new(Assign::new(AssignRequest::workload("n1", "first", 1, 0), NOW), Known::new());
        store.drive(&mut machine).unwrap();
        edit(&mut store);
        let request = AssignRequest::workload("n1", "second", 1, 0);
        let mut machine = Machine::new(Assign::new(request, NOW), machine.into_known());
        let outcome = store.drive(&mut machine);
        assert!(outcome.is_err(), "{outcome:?}");
    }
}

#[test]
fn a_pool_that_was_made_anew_is_searched_by_who_knew_the_old_one() {
    let mut store = cluster("10.0.0.0/30", 30);
    let mut machine =
        Machine::new(Assign::new(AssignRequest::workload("n1", "full", 4, 0), NOW), Known::new());
    store.drive(&mut machine).unwrap();
    pool(&mut store, "second", serde_json::json!({"cidr": "10.1.0.0/30", "blockSize": 30}));
    let request = AssignRequest::workload("n1", "more", 1, 0);
    let mut machine = Machine::new(Assign::new(request, NOW), machine.into_known());
    assert_eq!(store.drive(&mut machine).unwrap().v4.len(), 1);
}

#[test]
fn a_claim_that_cannot_be_read_costs_its_block_and_nothing_else() {
    let mut store = cluster("10.0.0.0/29", 30);
    let first = assign(&mut store, "n1", "a", 1).unwrap().v4[0];
    let claim = |block| Key::Affinity { owner: AffinityOwner::Host("n1".into()), block };
    store.put(claim(first.block), "[]");
    let second = assign(&mut store, "n1", "b", 1).unwrap().v4[0];
    assert_ne!(second.block, first.block);
    // Of a block that is not there yet.
    let mut store = cluster("10.0.0.0/29", 30);
    store.put(claim(first.block), "[]");
    assert_eq!(assign(&mut store, "n1", "a", 4).unwrap().v4.len(), 4);
    assert!(store.get(&Key::Block(first.block)).is_none());
}

#[test]
fn a_handle_that_cannot_be_read_is_named() {
    let mut store = cluster("10.0.0.0/29", 30);
    let key = Key::Handle("a".into());
    store.put(key.clone(), "[]");
    let refused = assign(&mut store, "n1", "a", 1).unwrap_err();
    assert!(matches!(&refused, AssignError::Unreadable(p) if p.key == key), "{refused}");
    let refused = store.run(ReleaseByHandle::new("a", NOW)).unwrap_err();
    assert_eq!(refused, crate::release::ReleaseError::Damaged(key.clone()));
    // What it has can be released by address.
    let mut store = cluster("10.0.0.0/29", 30);
    let given = assign(&mut store, "n1", "a", 1).unwrap().v4[0].address;
    store.put(key, "[]");
    let released = store.run(ReleaseAddresses::new(vec![Target::new(given)], NOW)).unwrap().released;
    assert_eq!(released, [given]);
}
