//! When the kernel does not do as it is told, or somebody else was faster.

use super::*;
use crate::tables::nft::NftOp;

fn state_of(report: &Report, name: &str) -> Option<WorkloadState> {
    report.workloads.iter().find(|(found, _)| *found == id(name)).map(|(_, state)| *state)
}

fn foreign(address: &str) -> Route {
    Route {
        protocol: 12,
        ..Route::workload(address.parse().unwrap(), "eth0".parse().unwrap(), PROTOCOL_BOOT)
    }
}

#[test]
fn an_unseen_route_of_others_is_left_and_the_endpoint_is_not_up_until_it_goes() {
    let mut node = Node::new();
    let theirs = foreign("10.65.0.2/32");
    node.kernel.add_route(theirs.clone());
    node.link("cali2", true);
    node.update([changed("two", "cali2", "10.65.0.2/32", &["a"])]);
    let report = node.apply();
    assert!(!report.complete);
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].object, "route 10.65.0.2/32");
    assert_eq!(state_of(&report, "two"), Some(WorkloadState::Error));
    assert!(node.kernel.routes().any(|r| *r == theirs));

    node.kernel.apply_routes(&[RouteOp::Delete(theirs.clone())]).unwrap();
    node.desired.route_changed(theirs, false);
    let report = node.apply();
    assert_eq!((report.complete, &report.problems[..]), (true, &[][..]));
    assert_eq!(state_of(&report, "two"), Some(WorkloadState::Up));
    node.assert_settled();
}

#[test]
fn an_unseen_route_that_is_as_wanted_is_taken_over() {
    let mut node = Node::new();
    let ours = |address: &str, device: &str| {
        Route::workload(address.parse().unwrap(), device.parse().unwrap(), PROTOCOL_BOOT)
    };
    for (number, name) in ["two", "three", "four"].into_iter().enumerate() {
        let (device, address) = (format!("cali{}", number + 2), format!("10.65.0.{}/32", number + 2));
        node.link(&device, true);
        // One that nobody told of, one that was heard of, one that leads elsewhere.
        let found = ours(&address, if name == "four" { "cali1" } else { &device });
        node.kernel.add_route(found.clone());
        if name == "three" {
            node.desired.route_found(found);
        }
        node.update([changed(name, &device, &address, &["a"])]);
        let report = node.apply();
        assert_eq!((report.complete, &report.problems[..]), (true, &[][..]));
        assert_eq!(state_of(&report, name), Some(WorkloadState::Up));
        assert_eq!(report.routes, usize::from(name == "four"), "{name}");
        node.assert_settled();
    }
}

#[test]
fn connections_that_could_not_be_forgotten_are_forgotten_later() {
    let mut node = Node::new();
    node.kernel.conntrack_fails = true;
    node.update([Change::WorkloadRemoved(id("one"))]);
    assert!(!node.apply().complete);
    node.kernel.conntrack_fails = false;
    node.kernel.log.clear();
    assert!(node.apply().complete);
    assert_eq!(node.kernel.log, ["conntrack delete 10.65.0.1"]);
    node.assert_settled();
}

#[test]
fn a_transaction_whose_answer_was_lost_is_looked_at() {
    let mut node = Node::new();
    node.link("cali2", true);
    node.update([changed("two", "cali2", "10.65.0.2/32", &["a"])]);
    node.kernel.lose_answer = true;
    let report = node.apply();
    assert!(!report.complete);
    assert_eq!(state_of(&report, "two"), Some(WorkloadState::Error));
    let report = node.apply();
    assert_eq!((report.complete, report.nft_ops, &report.problems[..]), (true, 0, &[][..]));
    assert_eq!(state_of(&report, "two"), Some(WorkloadState::Up));
    node.assert_settled();
}

#[test]
fn a_renamed_interface_has_one_name() {
    let mut node = Node::new();
    let link = node.kernel.set_link("cali1", true);
    node.desired.link_changed(Link { name: "cali9".parse().unwrap(), ..link });
    node.desired.render();
    assert_eq!(node.desired.workload_state(&id("one")), Some(WorkloadState::Down));
    assert!(node.desired.routes().is_empty());
}

#[test]
fn an_endpoint_can_not_take_an_interface_of_the_host() {
    let mut node = Node::new();
    node.link("eth0", true);
    node.update([changed("two", "eth0", "10.65.0.2/32", &["a"])]);
    let report = node.apply();
    assert_eq!(state_of(&report, "two"), Some(WorkloadState::Error));
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert_eq!(report.problems[0].object, "workload interface eth0");
    assert!(node.kernel.routes().all(|r| r.device.as_ref().unwrap().as_str() != "eth0"));
    assert!(node.kernel.sysctls.keys().all(|name| !name.contains("eth0")));
    node.update([Change::WorkloadRemoved(id("two"))]);
    assert_eq!(node.apply().problems, []);
}

#[test]
fn blackholes_carry_the_protocol_that_the_operator_chose() {
    for (device_route_protocol, expected) in [(PROTOCOL_BOOT, 80), (99, 99)] {
        let mut desired = Desired::new(Settings { device_route_protocol, ..Settings::default() });
        desired.update(Change::BlockAdded("10.65.0.0/26".parse().unwrap()));
        assert_eq!(desired.routes().values().map(|r| r.protocol).collect::<Vec<_>>(), [expected]);
    }
}

#[test]
fn a_chain_that_asks_a_denied_set_denies_whatever_its_rules_become() {
    let mut node = Node::new();
    let set = calico_rules::sets::nets_name(Family::V4, "s:a");
    let spec = node.inet().sets[&set].spec.clone().unwrap();
    assert!(node.desired.ruleset.deny(&NftOp::AddSet { table: Table::Inet, set, spec }));
    for policies in [&["s:a"][..], &["s:a", "s:a"]] {
        node.update([Change::PolicyChanged(policy_key("a"), policy(policies))]);
        let report = node.apply();
        assert!(!report.complete);
        assert_eq!(node.inet().chains["cali-pi-gnp/a"].rules.len(), 1);
    }
    // The set comes anew, and is trusted.
    node.update([net_set("s:a", &["10.0.0.0/8"])]);
    assert!(node.apply().complete);
    assert!(node.inet().chains["cali-pi-gnp/a"].rules.len() > 1);
    node.assert_settled();
}

/// A node on a kernel that knows no way to make or to fill some chains.
fn on_kernel_without(chain: &str) -> Node {
    let mut node = Node { desired: Desired::new(Settings::default()), kernel: FakeKernel::new() };
    node.kernel.refused_chains.insert(chain.to_owned());
    node.link("cali1", true);
    node.update([
        Change::ProfileChanged("kns.default".into(), Arc::new(Profile::default())),
        changed("one", "cali1", "10.65.0.1/32", &[]),
    ]);
    node
}

#[test]
fn a_kernel_without_nat_enforces_and_says_what_is_missing_every_time() {
    let mut node = on_kernel_without("nat-POSTROUTING");
    for _ in 0..2 {
        let report = node.apply();
        assert!(report.enforced && !report.complete, "{report:?}");
        assert!(report.problems.iter().any(|p| p.object.contains("nat-POSTROUTING")), "{report:?}");
        assert_eq!(node.kernel.routes().count(), 1);
    }
    node.kernel.refused_chains.clear();
    resync(&mut node.desired, &mut node.kernel).unwrap();
    let report = node.apply();
    assert_eq!((report.complete, report.problems), (true, vec![]));
    node.assert_settled();
}

#[test]
fn a_hook_that_can_not_be_served_holds_up_the_update_and_cuts_nobody_off() {
    let mut node = on_kernel_without("filter-INPUT");
    for _ in 0..2 {
        let report = node.apply();
        assert!(!report.enforced && !report.complete, "{report:?}");
        assert!(report.problems.iter().any(|p| p.object.contains("filter-INPUT")), "{report:?}");
        assert_eq!(state_of(&report, "one"), Some(WorkloadState::Error));
        assert_eq!((node.kernel.read_nft().unwrap().len(), node.kernel.routes().count()), (0, 0));
    }
    node.kernel.refused_chains.clear();
    assert!(node.apply().complete);
    assert_eq!(node.kernel.routes().count(), 1);
    node.assert_settled();
}

#[test]
fn a_dispatch_that_can_not_be_removed_denies_nobody_else() {
    let mut node = Node::new();
    let map = SmolStr::new_static(calico_rules::name::chain::FROM_WORKLOAD);
    let elements = node.set(&map);
    let op = NftOp::DeleteElements { table: Table::Inet, set: map, elements: elements[..1].to_vec() };
    assert!(node.desired.ruleset.deny(&op));
    assert_eq!(node.desired.ruleset.denied(), []);
}

/// The counts are kept, not counted: they must be what the kernel holds.
#[test]
fn counts_follow_every_change() {
    let mut node = Node::new();
    let check = |node: &mut Node| {
        let mut found = [0; 4];
        for table in node.kernel.read_nft().unwrap().into_values() {
            found[0] += table.chains.len();
            found[1] += table.chains.values().map(|c| c.rules.len()).sum::<usize>();
            found[2] += table.sets.len();
            found[3] += table.sets.values().map(|s| s.elements.len()).sum::<usize>();
        }
        let counts = node.desired.ruleset().counts();
        assert_eq!([counts.chains, counts.rules, counts.sets, counts.elements], found);
    };
    check(&mut node);
    node.link("cali2", true);
    let changes = [
        changed("two", "cali2", "10.65.0.2/32", &["a"]),
        net_set("s:a", &["10.0.0.0/8", "10.65.0.7/32"]),
        Change::PolicyChanged(policy_key("a"), policy(&["s:a", "s:a"])),
        Change::WorkloadRemoved(id("one")),
        Change::WorkloadRemoved(id("two")),
        Change::PolicyRemoved(policy_key("a")),
        Change::IpSetRemoved(IpSetId("s:a".into())),
    ];
    for change in changes {
        node.update([change]);
        assert!(node.apply().complete);
        check(&mut node);
    }
}
