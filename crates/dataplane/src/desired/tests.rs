//! From changes to tables, on the fake kernel.

mod ipip;
mod overlay;
mod trouble;

use std::net::IpAddr;
use std::sync::Arc;

use calico_api::ResourceKey;
use calico_api::key::Kind;
use calico_calc::change::*;
use calico_net::{Cidr, Family, Mac};
use calico_rules::nft::{Element, Table, Verdict};
use smol_str::SmolStr;

use super::*;
use crate::apply::{Report, apply, cleanup, has_drifted, resync};
use crate::fake::FakeKernel;
use crate::kernel::Kernel;
use crate::tables::nft::ActualTable;
use crate::tables::route::{Route, RouteOp};

fn policy_key(name: &str) -> ResourceKey {
    ResourceKey { kind: Kind::GlobalNetworkPolicy, namespace: "".into(), name: name.into() }
}

fn allow_from(set: &str) -> calico_calc::change::Rule {
    calico_calc::change::Rule {
        source: Side { ip_sets: vec![IpSetId(set.into())], ..Side::default() },
        ..calico_calc::change::Rule::new(Action::Allow)
    }
}

fn policy(sets: &[&str]) -> Arc<Policy> {
    let ingress = sets.iter().map(|s| allow_from(s)).collect();
    Arc::new(Policy { tier: "default".into(), ingress, egress: vec![] })
}

fn net_set(id: &str, members: &[&str]) -> Change {
    let members = members.iter().map(|m| Member::Net(m.parse().unwrap())).collect();
    Change::IpSetAdded { id: IpSetId(id.into()), kind: IpSetKind::Net, members }
}

fn id(name: &str) -> WorkloadId {
    WorkloadId {
        orchestrator: "k8s".into(),
        workload: format!("default/{name}").into(),
        endpoint: "eth0".into(),
    }
}

fn workload(interface: &str, address: &str, policies: &[&str]) -> Arc<Workload> {
    let tier = Tier {
        name: "default".into(),
        end: TierEnd::Deny,
        ingress: policies.iter().map(|p| policy_key(p)).collect(),
        egress: vec![],
    };
    Arc::new(Workload {
        key: ResourceKey {
            kind: Kind::WorkloadEndpoint,
            namespace: "default".into(),
            name: interface.into(),
        },
        interface: interface.parse().unwrap(),
        mac: Some(Mac([2; 6])),
        nets: vec![address.parse().unwrap()],
        allowed_sources: vec![],
        tiers: vec![tier].into(),
        profiles: vec![SmolStr::new("kns.default")].into(),
    })
}

fn changed(name: &str, interface: &str, address: &str, policies: &[&str]) -> Change {
    Change::WorkloadChanged(id(name), workload(interface, address, policies))
}

/// A node in sync: one set, one policy, one profile, one pod.
struct Node {
    desired: Desired,
    kernel: FakeKernel,
}

impl Node {
    fn new() -> Node {
        let mut node = Node { desired: Desired::new(Settings::default()), kernel: FakeKernel::new() };
        node.link("cali1", true);
        node.update([
            net_set("s:a", &["10.65.0.9/32", "10.0.0.0/8", "10.1.0.0/16", "fd00::9/128"]),
            Change::PolicyChanged(policy_key("a"), policy(&["s:a"])),
            Change::ProfileChanged("kns.default".into(), Arc::new(Profile::default())),
            changed("one", "cali1", "10.65.0.1/32", &["a"]),
        ]);
        resync(&mut node.desired, &mut node.kernel).unwrap();
        let report = node.apply();
        assert_eq!((report.complete, report.problems), (true, vec![]));
        node
    }

    fn link(&mut self, name: &str, up: bool) {
        let link = self.kernel.set_link(name, up);
        self.desired.link_changed(link);
    }

    fn update(&mut self, changes: impl IntoIterator<Item = Change>) {
        changes.into_iter().for_each(|c| self.desired.update(c));
    }

    fn apply(&mut self) -> Report {
        self.kernel.log.clear();
        apply(&mut self.desired, &mut self.kernel)
    }

    fn inet(&mut self) -> ActualTable {
        self.kernel.read_nft().unwrap().remove(&Table::Inet).unwrap()
    }

    fn set(&mut self, name: &str) -> Vec<Element> {
        self.inet().sets[name].elements.clone()
    }

    /// The kernel holds exactly what a fresh agent would make of the same state.
    fn assert_settled(&mut self) {
        self.desired.render();
        let plan = self.desired.plan();
        assert!(plan.is_empty(), "{plan}");
        // What is remembered is not believed.
        self.desired.unsure = true;
        resync(&mut self.desired, &mut self.kernel).unwrap();
        self.desired.render();
        let plan = self.desired.plan();
        assert!(plan.is_empty(), "after reading the kernel: {plan}");
    }
}

#[test]
fn a_pod_gets_rules_then_neighbour_then_route() {
    let mut node = Node::new();
    node.link("cali2", true);
    node.update([changed("two", "cali2", "10.65.0.2/32", &["a"])]);
    let report = node.apply();
    let log = node.kernel.log.clone();
    // The endpoint's body is shared with the first pod: only elements are added.
    assert_eq!(report.nft_ops, 3, "{log:#?}");
    assert_eq!(report.transactions, 1);
    assert!(log[..3].iter().all(|l| l.starts_with("add element")), "{log:#?}");
    assert_eq!(log[3], "neigh replace 10.65.0.2 dev cali2 lladdr 02:02:02:02:02:02");
    assert_eq!(log[4], "route add 10.65.0.2/32 dev cali2 proto 3 scope 253 metric 1024");
    assert_eq!(report.workloads, [(id("two"), WorkloadState::Up)]);
    assert_eq!(node.kernel.sysctls["net/ipv4/conf/cali2/proxy_arp"], "1");
    assert_eq!(node.kernel.sysctls["net/ipv4/conf/cali2/rp_filter"], "1");
    node.assert_settled();
}

#[test]
fn a_parameter_is_written_until_it_is_or_its_interface_is_gone() {
    let mut node = Node::new();
    let names = ["net/ipv4/conf/cali2/proxy_arp", "net/ipv4/conf/cali3/proxy_arp"].map(str::to_owned);
    node.kernel.read_only_sysctls.extend(names.clone());
    for (pod, interface, address) in [("two", "cali2", "10.65.0.2/32"), ("three", "cali3", "10.65.0.3/32")] {
        node.link(interface, true);
        node.update([changed(pod, interface, address, &["a"])]);
    }
    let report = node.apply();
    assert!(!report.complete && report.enforced);
    assert_eq!(report.problems.len(), 2, "{:?}", report.problems);
    assert_eq!(node.desired.plan().sysctls.len(), 2, "only what failed is written again");

    node.kernel.read_only_sysctls.remove(&names[0]);
    node.link("cali3", false);
    let report = node.apply();
    assert_eq!((report.complete, report.problems), (true, vec![]));
    assert_eq!(node.kernel.sysctls.get(&names[0]).map(String::as_str), Some("1"));
    assert_eq!(node.kernel.sysctls.get(&names[1]), None);
}

#[test]
fn a_pod_goes_route_then_conntrack_then_rules() {
    let mut node = Node::new();
    node.update([Change::WorkloadRemoved(id("one")), Change::PolicyRemoved(policy_key("a"))]);
    let report = node.apply();
    let log = node.kernel.log.clone();
    assert_eq!(log[0], "route delete 10.65.0.1/32 dev cali1 proto 3 scope 253 metric 1024");
    assert_eq!(log[1], "conntrack delete 10.65.0.1");
    assert_eq!(log[2], "neigh delete 10.65.0.1 dev cali1");
    assert!(log[3].starts_with("delete element"), "{log:#?}");
    assert_eq!(report.transactions, 1);
    node.update([Change::IpSetRemoved(IpSetId("s:a".into()))]);
    node.apply();
    assert_eq!(node.kernel.log.len(), 4);
    node.assert_settled();
    let skeleton = node.inet();
    assert!(!skeleton.chains.keys().any(|c| c.starts_with("cali-pi-") || c.starts_with("cali-tw-")));
    assert_eq!(node.kernel.routes().count(), 0);
}

#[test]
fn an_address_that_moves_loses_its_connections_before_its_route_changes() {
    let mut node = Node::new();
    node.link("cali2", true);
    let address: IpAddr = "10.65.0.1".parse().unwrap();
    node.kernel.connections.insert(address);
    node.update([Change::WorkloadRemoved(id("one")), changed("two", "cali2", "10.65.0.1/32", &["a"])]);
    node.apply();
    let place = |text: &str| node.kernel.log.iter().position(|l| l.starts_with(text)).unwrap();
    let (purge, route) = (place("conntrack delete 10.65.0.1"), place("route replace 10.65.0.1/32 dev cali2"));
    assert!(place("add element") < purge && purge < route && route < place("delete element"));
    assert!(node.kernel.connections.is_empty());
    assert!(!node.kernel.log.iter().any(|l| l.starts_with("route delete")), "replaced, never without");
    node.assert_settled();
}

#[test]
fn services_that_nobody_translated_go_nowhere() {
    let mut node = Node::new();
    let rules = |node: &mut Node| node.inet().chains["cali-cidr-block"].rules.len();
    assert_eq!(rules(&mut node), 0);
    for (nets, expected) in
        [(vec!["10.96.0.0/12", "fd00:96::/112"], 2), (vec!["10.96.0.0/12"], 1), (vec![], 0)]
    {
        let nets: Vec<Cidr> = nets.into_iter().map(|net| net.parse().unwrap()).collect();
        node.desired.set_service_nets(&nets);
        assert!(node.apply().complete);
        assert_eq!(rules(&mut node), expected);
        node.desired.set_service_nets(&nets);
        assert_eq!(node.apply().nft_ops, 0);
        node.assert_settled();
    }
}

/// The kernel tells of everything that is done to it, by the CNI plugin, by others and by us; an update for each would be
/// most of what an ADD costs.
#[test]
fn what_is_nobodys_business_leaves_nothing_to_do() {
    let mut node = Node::new();
    assert!(!node.desired.has_work());
    node.link("cali2", false);
    node.link("cali2", true);
    node.desired.link_removed(&"cali2".parse().unwrap());
    node.link("cali2", true);
    assert!(!node.desired.has_work(), "an interface that no endpoint has");
    let route = node.desired.routes().values().find(|r| r.device.is_some()).unwrap().clone();
    node.desired.route_changed(route.clone(), true);
    assert!(!node.desired.has_work(), "the echo of our own route");
    node.desired.route_changed(route, false);
    assert!(node.desired.has_work(), "a route of ours is gone");
    assert!(node.apply().complete && !node.desired.has_work());
    node.link("cali1", false);
    assert!(node.desired.has_work(), "an endpoint's interface went down");
    assert!(node.apply().complete && !node.desired.has_work());
    node.link("eth7", true);
    assert!(node.desired.has_work(), "an interface of the host");
    assert!(node.apply().complete);
    node.update([changed("two", "cali2", "10.65.0.2/32", &["a"])]);
    assert!(node.apply().complete);
    node.assert_settled();
    assert_eq!(node.desired.workload_state(&id("two")), Some(WorkloadState::Up), "known when it was wanted");
}

/// What came between forgetting and the change of the route was allowed by the policy of whoever had the address.
#[test]
fn an_address_that_moves_loses_connections_made_meanwhile() {
    let mut node = Node::new();
    node.link("cali2", true);
    let address: IpAddr = "10.65.0.1".parse().unwrap();
    node.kernel.busy.insert(address);
    node.update([Change::WorkloadRemoved(id("one")), changed("two", "cali2", "10.65.0.1/32", &["a"])]);
    assert!(node.apply().complete);
    assert!(node.kernel.connections.is_empty(), "{:#?}", node.kernel.log);
    node.assert_settled();
}

/// A pod that comes again under its name has the same interface name, and may have the same address; its predecessor's
/// connections are not its own. Nothing of its route differs, even where the plugin has made it already.
#[test]
fn an_interface_that_is_made_anew_inherits_no_connections() {
    let address: IpAddr = "10.65.0.1".parse().unwrap();
    let name = "cali1".parse().unwrap();
    for removal_is_told in [true, false] {
        let mut node = Node::new();
        node.kernel.connections.insert(address);
        node.kernel.remove_link("cali1");
        if removal_is_told {
            node.desired.link_removed(&name);
        }
        node.link("cali1", true);
        let route = Route::workload("10.65.0.1/32".parse().unwrap(), "cali1".parse().unwrap(), 3);
        assert_eq!(node.kernel.apply_routes(&[RouteOp::Add(route.clone())]), Ok(vec![]));
        node.desired.route_changed(route, true);
        node.apply();
        assert!(node.kernel.connections.is_empty(), "{removal_is_told}: {:#?}", node.kernel.log);
        node.assert_settled();
    }
}

#[test]
fn routes_follow_the_interface() {
    let mut node = Node::new();
    node.link("cali1", false);
    let report = node.apply();
    assert_eq!(report.workloads, [(id("one"), WorkloadState::Down)]);
    assert_eq!(node.kernel.routes().count(), 0);
    node.assert_settled();
    node.link("cali1", true);
    let report = node.apply();
    assert_eq!((report.routes, report.workloads), (1, vec![(id("one"), WorkloadState::Up)]));
    node.kernel.remove_link("cali1");
    node.desired.link_removed(&"cali1".parse().unwrap());
    node.apply();
    node.assert_settled();
}

#[test]
fn the_lowest_id_has_the_interface() {
    let mut node = Node::new();
    node.update([changed("aaa", "cali1", "10.65.0.2/32", &[])]);
    let report = node.apply();
    assert_eq!(report.workloads, [(id("aaa"), WorkloadState::Up), (id("one"), WorkloadState::Error)]);
    let routes: Vec<_> = node.kernel.routes().map(|r| r.key.destination.to_string()).collect();
    assert_eq!(routes, ["10.65.0.2/32"]);
    node.update([Change::WorkloadRemoved(id("aaa"))]);
    node.apply();
    let routes: Vec<_> = node.kernel.routes().map(|r| r.key.destination.to_string()).collect();
    assert_eq!(routes, ["10.65.0.1/32"]);
    node.assert_settled();
}

#[test]
fn sets_hold_the_union_of_their_prefixes() {
    let mut node = Node::new();
    let nets = |node: &mut Node| node.set("cali40s-a/nets").len();
    assert_eq!(nets(&mut node), 1);
    let member = |m: &str| vec![Member::Net(m.parse::<Cidr>().unwrap())];
    let id = IpSetId("s:a".into());
    node.update([Change::IpSetChanged { id: id.clone(), added: member("10.2.0.0/16"), removed: vec![] }]);
    assert_eq!(node.apply().nft_ops, 0, "inside the outer one");
    node.update([Change::IpSetChanged { id: id.clone(), added: vec![], removed: member("10.0.0.0/8") }]);
    assert_eq!(node.apply().nft_ops, 2);
    assert_eq!(
        nets(&mut node),
        1,
        "10.1.0.0/16 and 10.2.0.0/16 do not touch: {:?}",
        node.set("cali40s-a/nets")
    );
    node.assert_settled();
}

#[test]
fn one_policy_among_a_thousand_costs_what_changes() {
    let mut node = Node::new();
    let names: Vec<String> = (0..1000).map(|n| format!("p{n}")).collect();
    node.update(names.iter().map(|n| Change::PolicyChanged(policy_key(n), policy(&["s:a"]))));
    assert!(node.apply().nft_ops > 2000);
    node.update([
        net_set("s:b", &["10.9.0.1/32"]),
        Change::PolicyChanged(policy_key("p500"), policy(&["s:a", "s:b"])),
    ]);
    let report = node.apply();
    let log = &node.kernel.log;
    // Four sets, one element, and the rules (and sub-chains) of one rule of the policy for two families.
    assert!(report.nft_ops <= 20, "{} operations: {log:#?}", report.nft_ops);
    assert!(!log.iter().any(|l| l.starts_with("delete") || l.starts_with("flush")), "{log:#?}");
    node.update([net_set("s:b", &["10.9.0.2/32"])]);
    let report = node.apply();
    assert_eq!(
        node.kernel.log,
        [
            "delete element inet calico cali40s-b { 0a090001 }",
            "add element inet calico cali40s-b { 0a090002 }",
        ]
    );
    assert_eq!(report.transactions, 1);
    node.assert_settled();
}

#[test]
fn a_restart_adopts_everything() {
    let mut node = Node::new();
    let before = node.kernel.read_nft().unwrap();
    let mut next = Desired::new(Settings::default());
    std::mem::swap(&mut node.desired, &mut next);
    node.update([
        net_set("s:a", &["10.65.0.9/32", "10.0.0.0/8", "10.1.0.0/16", "fd00::9/128"]),
        Change::PolicyChanged(policy_key("a"), policy(&["s:a"])),
        Change::ProfileChanged("kns.default".into(), Arc::new(Profile::default())),
        changed("one", "cali1", "10.65.0.1/32", &["a"]),
    ]);
    resync(&mut node.desired, &mut node.kernel).unwrap();
    node.apply();
    // The new process claims the tables, and that is all.
    assert_eq!(node.kernel.log, ["add table inet calico", "add table arp calico"]);
    assert_eq!(node.kernel.read_nft().unwrap(), before);
    node.assert_settled();
}

#[test]
fn a_restart_takes_away_what_is_no_longer_wanted() {
    let mut node = Node::new();
    node.link("cali7", true);
    node.kernel.add_route(Route::workload("10.65.0.7/32".parse().unwrap(), "cali7".parse().unwrap(), 3));
    node.kernel.add_route(Route::blackhole("10.65.9.0/26".parse().unwrap()));
    let foreign = Route { protocol: 12, ..Route::blackhole("10.66.0.0/26".parse().unwrap()) };
    node.kernel.add_route(foreign.clone());
    node.desired = Desired::new(Settings::default());
    resync(&mut node.desired, &mut node.kernel).unwrap();
    let report = node.apply();
    assert_eq!(report.problems, []);
    assert_eq!(node.kernel.routes().collect::<Vec<_>>(), [&foreign]);
    node.assert_settled();
}

#[test]
fn blocks_get_blackholes_and_foreign_routes_are_left_alone() {
    let mut node = Node::new();
    let theirs = Route { protocol: 12, ..Route::blackhole("10.65.1.0/26".parse().unwrap()) };
    node.kernel.add_route(theirs.clone());
    resync(&mut node.desired, &mut node.kernel).unwrap();
    node.update(
        ["10.65.0.0/26", "10.65.1.0/26", "10.65.2.7/32"].map(|b| Change::BlockAdded(b.parse().unwrap())),
    );
    let report = node.apply();
    assert_eq!(report.problems.len(), 1);
    assert_eq!(report.problems[0].object, "route 10.65.1.0/26");
    let routes: Vec<String> = node.kernel.routes().map(ToString::to_string).collect();
    assert_eq!(
        routes,
        [
            "blackhole 10.65.0.0/26 proto 80 scope 0 metric 1024",
            "10.65.0.1/32 dev cali1 proto 3 scope 253 metric 1024",
            "blackhole 10.65.1.0/26 proto 12 scope 0 metric 1024",
        ]
    );
    node.update(["10.65.0.0/26", "10.65.1.0/26"].map(|b| Change::BlockRemoved(b.parse().unwrap())));
    node.apply();
    assert!(node.kernel.routes().any(|r| *r == theirs));
    node.assert_settled();
}

#[test]
fn pools_and_nodes_fill_the_static_sets() {
    let mut node = Node::new();
    let pool = |nat_outgoing, load_balancer_only| Pool {
        nat_outgoing,
        ipip: Encap::Never,
        vxlan: Encap::Never,
        load_balancer_only,
    };
    let net = |n: &str| n.parse::<Cidr>().unwrap();
    let info = NodeInfo { v4: Some(("192.0.2.1".parse().unwrap(), 24)), ..NodeInfo::default() };
    node.update([
        Change::PoolChanged(net("10.65.0.0/16"), pool(true, false)),
        Change::PoolChanged(net("10.66.0.0/16"), pool(false, false)),
        Change::PoolChanged(net("10.70.0.0/16"), pool(true, true)),
        Change::NodeChanged("a".into(), info.clone()),
        Change::NodeChanged("b".into(), info),
    ]);
    node.apply();
    let masq = calico_rules::sets::nets_name(Family::V4, calico_rules::sets::id::MASQUERADED_POOLS);
    let all = calico_rules::sets::nets_name(Family::V4, calico_rules::sets::id::POOLS);
    let hosts = calico_rules::sets::exact_name(Family::V4, calico_rules::sets::id::HOSTS);
    assert_eq!([&masq, &all, &hosts].map(|s| node.set(s).len()), [1, 1, 1]);
    node.update([
        Change::PoolChanged(net("10.65.0.0/16"), pool(false, false)),
        Change::NodeRemoved("a".into()),
    ]);
    node.apply();
    assert_eq!([&masq, &all, &hosts].map(|s| node.set(s).len()), [0, 1, 1]);
    node.update([Change::PoolRemoved(net("10.65.0.0/16")), Change::NodeRemoved("b".into())]);
    node.apply();
    assert_eq!([&masq, &all, &hosts].map(|s| node.set(s).len()), [0, 1, 0]);
    node.assert_settled();
}

#[test]
fn host_endpoints_find_their_interfaces() {
    let mut node = Node::new();
    node.link("eth0", true);
    node.link("eth1", true);
    node.desired.address_changed(&"eth1".parse().unwrap(), "192.0.2.2".parse().unwrap(), true);
    let host = |interface: &str, ips: &[&str]| {
        Arc::new(HostEndpoint {
            interface: interface.into(),
            expected_ips: ips.iter().map(|i| i.parse().unwrap()).collect(),
            tiers: vec![].into(),
            untracked_tiers: vec![].into(),
            pre_dnat_tiers: vec![].into(),
            forward_tiers: vec![].into(),
            profiles: vec![].into(),
        })
    };
    let dispatch = |node: &mut Node| -> Vec<String> {
        let mut names: Vec<String> = node
            .set(calico_rules::name::chain::FROM_HOST)
            .iter()
            .map(|e| match e {
                Element::Verdict { key, verdict: Verdict::Goto(_) } => {
                    String::from_utf8_lossy(key).trim_end_matches('\0').to_owned()
                }
                other => panic!("{other:?}"),
            })
            .collect();
        names.sort();
        names
    };
    node.update([
        Change::HostEndpointChanged("a".into(), host("eth0", &[])),
        Change::HostEndpointChanged("b".into(), host("", &["192.0.2.2"])),
        Change::HostEndpointChanged("c".into(), host("eth9", &[])),
    ]);
    node.apply();
    assert_eq!(dispatch(&mut node), ["eth0", "eth1", "eth9"], "eth9 is to find its policy when it comes");
    node.desired.address_changed(&"eth1".parse().unwrap(), "192.0.2.2".parse().unwrap(), false);
    node.link("eth9", true);
    node.update([Change::HostEndpointRemoved("a".into())]);
    node.apply();
    assert_eq!(dispatch(&mut node), ["eth9"]);
    node.kernel.remove_link("eth9");
    node.desired.link_removed(&"eth9".parse().unwrap());
    assert_eq!((node.apply().nft_ops, dispatch(&mut node)), (0, vec!["eth9".to_owned()]));
    node.assert_settled();
}

#[test]
fn of_host_endpoints_that_mean_one_interface_the_lowest_name_has_it() {
    let host = |interface: &str, ips: &[&str], profile: &str| {
        Arc::new(HostEndpoint {
            interface: interface.into(),
            expected_ips: ips.iter().map(|i| i.parse().unwrap()).collect(),
            tiers: vec![].into(),
            untracked_tiers: vec![].into(),
            pre_dnat_tiers: vec![].into(),
            forward_tiers: vec![].into(),
            profiles: vec![profile.into()].into(),
        })
    };
    let by_name = || host("eth0", &[], "name");
    let by_address = || host("", &["192.0.2.2"], "address");
    // What alone has the interface has it beside another of a higher name, whichever way it means it.
    let dispatch = |endpoints: &[(&str, Arc<HostEndpoint>)]| {
        let mut node = Node::new();
        node.link("eth0", true);
        node.desired.address_changed(&"eth0".parse().unwrap(), "192.0.2.2".parse().unwrap(), true);
        for profile in ["name", "address"] {
            let open = calico_calc::change::Profile { ingress: vec![], egress: vec![] };
            node.update([Change::ProfileChanged(profile.into(), Arc::new(open))]);
        }
        for (name, endpoint) in endpoints {
            node.update([Change::HostEndpointChanged((*name).into(), endpoint.clone())]);
        }
        node.apply();
        node.set(calico_rules::name::chain::FROM_HOST)
    };
    let (name, address) = (dispatch(&[("a", by_name())]), dispatch(&[("a", by_address())]));
    assert_ne!(name, address);
    assert_eq!(dispatch(&[("a", by_name()), ("b", by_address())]), name);
    assert_eq!(dispatch(&[("a", by_address()), ("b", by_name())]), address);
}

/// A policy whose rule no kernel takes: more expressions than a rule may have. It comes from a set that is missing.
#[test]
fn one_bad_object_denies_itself_and_nothing_else() {
    let mut node = Node::new();
    node.link("cali2", true);
    node.update([
        Change::PolicyChanged(policy_key("bad"), policy(&["s:absent"])),
        Change::PolicyChanged(policy_key("good"), policy(&["s:a"])),
        changed("two", "cali2", "10.65.0.2/32", &["bad", "good"]),
    ]);
    let report = node.apply();
    assert!(!report.complete);
    assert!(!report.problems.is_empty());
    assert!(
        report.problems.iter().all(|p| p.object.contains("bad") || p.object.contains("cali-r-")),
        "{report:?}"
    );
    let inet = node.inet();
    assert_eq!(inet.chains["cali-pi-gnp/bad"].rules.len(), 1);
    assert!(!inet.chains["cali-pi-gnp/good"].rules.is_empty());
    let up = ["one", "two"].map(|name| (id(name), WorkloadState::Up));
    assert_eq!(report.workloads, up);
    assert_eq!(node.kernel.routes().count(), 2);
    // It stays denied without further tries, until it changes.
    let again = node.apply();
    assert_eq!((again.nft_ops, again.complete), (0, false));
    node.update([Change::PolicyChanged(policy_key("bad"), policy(&["s:a"]))]);
    let report = node.apply();
    assert_eq!((report.complete, report.problems), (true, vec![]));
    node.assert_settled();
}

#[test]
fn without_memory_the_old_policy_stays() {
    let mut node = Node::new();
    let before = node.kernel.read_nft().unwrap();
    node.kernel.out_of_memory = true;
    node.link("cali2", true);
    node.update([changed("two", "cali2", "10.65.0.2/32", &["a"])]);
    let report = node.apply();
    assert!(!report.complete);
    assert_eq!(report.workloads, [(id("two"), WorkloadState::Error)]);
    assert_eq!(node.kernel.read_nft().unwrap(), before);
    assert_eq!(node.kernel.routes().count(), 1, "no route without rules");
    node.kernel.out_of_memory = false;
    let report = node.apply();
    assert_eq!((report.complete, &report.workloads[..]), (true, &[(id("two"), WorkloadState::Up)][..]));
    assert_eq!(node.kernel.routes().count(), 2);
    node.assert_settled();
}

#[test]
fn a_ruleset_that_nobody_changed_is_not_read_again() {
    let mut node = Node::new();
    node.link("cali2", true);
    node.update([changed("two", "cali2", "10.65.0.2/32", &["a"])]);
    node.apply();
    let reads = node.kernel.ruleset_reads();
    resync(&mut node.desired, &mut node.kernel).unwrap();
    assert_eq!(node.kernel.ruleset_reads(), reads, "only we made transactions");
    node.kernel.flush_ruleset();
    resync(&mut node.desired, &mut node.kernel).unwrap();
    assert_eq!(node.kernel.ruleset_reads(), reads + 1);
    assert!(node.apply().complete);
    // Whether the last transaction was done is not known.
    node.kernel.lose_answer = true;
    node.update([changed("three", "cali3", "10.65.0.3/32", &["a"])]);
    assert!(!node.apply().complete);
    resync(&mut node.desired, &mut node.kernel).unwrap();
    assert_eq!(node.kernel.ruleset_reads(), reads + 2);
    assert!(node.apply().complete);
    node.assert_settled();
}

#[test]
fn a_flushed_ruleset_and_a_removed_route_heal() {
    let mut node = Node::new();
    assert_eq!(has_drifted(&node.desired, &mut node.kernel), Ok(false));
    node.link("cali2", true);
    node.update([changed("two", "cali2", "10.65.0.2/32", &["a"])]);
    node.apply();
    assert_eq!(has_drifted(&node.desired, &mut node.kernel), Ok(false), "our own transaction");
    let before = node.inet();
    node.kernel.flush_ruleset();
    assert_eq!(has_drifted(&node.desired, &mut node.kernel), Ok(true));
    resync(&mut node.desired, &mut node.kernel).unwrap();
    assert!(node.apply().complete);
    let names = |table: &ActualTable| table.chains.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&node.inet()), names(&before));
    let route = node.kernel.routes().next().unwrap().clone();
    node.kernel.apply_routes(&[RouteOp::Delete(route.clone())]).unwrap();
    node.desired.route_changed(route.clone(), false);
    assert_eq!(node.apply().routes, 1);
    assert!(node.kernel.routes().any(|r| *r == route));
    node.assert_settled();
}

#[test]
fn cleanup_leaves_nothing_of_ours_and_all_of_others() {
    let mut node = Node::new();
    let theirs = Route { protocol: 12, ..Route::blackhole("10.66.0.0/26".parse().unwrap()) };
    node.kernel.add_route(theirs.clone());
    node.update([Change::BlockAdded("10.65.0.0/26".parse().unwrap())]);
    node.apply();
    assert_eq!(cleanup(&Settings::default(), &mut node.kernel), []);
    assert!(node.kernel.read_nft().unwrap().is_empty());
    assert_eq!(node.kernel.routes().collect::<Vec<_>>(), [&theirs]);
    assert!(node.kernel.read_neighbours().unwrap().is_empty());
}

/// Killed between any two steps, the next agent ends where an undisturbed one does.
#[test]
fn a_crash_between_any_two_steps_heals() {
    let goal = || {
        vec![
            net_set("s:a", &["10.0.0.0/8"]),
            Change::PolicyChanged(policy_key("a"), policy(&["s:a"])),
            Change::ProfileChanged("kns.default".into(), Arc::new(Profile::default())),
            changed("two", "cali1", "10.65.0.2/32", &["a"]),
            Change::BlockAdded("10.65.0.0/26".parse().unwrap()),
        ]
    };
    let fresh = |kernel: &mut FakeKernel| {
        let mut desired = Desired::new(Settings::default());
        goal().into_iter().for_each(|c| desired.update(c));
        resync(&mut desired, kernel).unwrap();
        desired.render();
        desired
    };
    let shape = |kernel: &mut FakeKernel| {
        let rules = |t: ActualTable| {
            let ids = |rules: Vec<crate::tables::nft::ActualRule>| {
                rules.into_iter().map(|r| r.id).collect::<Vec<_>>()
            };
            (t.chains.into_iter().map(|(n, c)| (n, ids(c.rules))).collect::<Vec<_>>(), t.sets)
        };
        let tables: Vec<_> = kernel.read_nft().unwrap().into_values().map(rules).collect();
        (tables, kernel.read_routes().unwrap(), kernel.read_neighbours().unwrap())
    };
    let mut undisturbed = Node::new();
    let mut desired = fresh(&mut undisturbed.kernel);
    assert!(apply(&mut desired, &mut undisturbed.kernel).complete);
    let wanted = shape(&mut undisturbed.kernel);
    let plan = {
        let mut node = Node::new();
        fresh(&mut node.kernel).plan()
    };
    for crash in 0..6 {
        let mut node = Node::new();
        let kernel = &mut node.kernel;
        let steps: [&dyn Fn(&mut FakeKernel); 6] = [
            &|k| k.apply_nft(&plan.nft.open).unwrap(),
            &|k| assert_eq!(k.apply_neighbours(&plan.neighbours), Ok(vec![])),
            &|k| assert_eq!(k.apply_routes(&plan.routes[..1]), Ok(vec![])),
            &|k| assert_eq!(k.apply_routes(&plan.routes[1..]), Ok(vec![])),
            &|k| assert_eq!(k.apply_neighbours(&plan.gone_neighbours), Ok(vec![])),
            &|k| k.apply_nft(&plan.nft.close).unwrap(),
        ];
        steps[..crash].iter().for_each(|step| step(kernel));
        let mut desired = fresh(kernel);
        assert!(apply(&mut desired, kernel).complete);
        assert_eq!(shape(kernel), wanted, "killed after {crash} steps");
    }
}
