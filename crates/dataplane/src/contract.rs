//! What every [`Kernel`] must do, run on the fake one and on the real one alike.
//!
//! Each function is one test; it panics where the kernel does not do what the dataplane counts on. The kernel given
//! holds nothing but the interfaces `cali1` and `cali2`, both up, with addresses of the kernel's own at most.

use std::net::IpAddr;
use std::sync::Arc;

use calico_api::ResourceKey;
use calico_api::key::Kind;
use calico_calc::change::{
    Action, Change, ClusterRoute, Encap, IpSetId, IpSetKind, LocalVtep, Member, Overlay, Path, Policy, Pool,
    Profile, Rule as PolicyRule, Side, Tier, TierEnd, Vtep, Workload, WorkloadId,
};
use calico_net::{Cidr, Family, IfName, Mac};
use calico_rules::nft::{
    ChainKind, ChainType, Data, Element, Expr, Hook, KeyField, MetaKey, Reg, Rule, SetSpec, Table, Verdict,
};
use smol_str::{SmolStr, format_smolstr};

use crate::apply::{Report, apply, resync};
use crate::desired::{Desired, Settings, WorkloadState};
use crate::kernel::{Kernel, NftRefusal, RouteRefusal};
use crate::tables::fdb::{FdbEntry, FdbKey, FdbOp};
use crate::tables::link::{Address, AddressOp};
use crate::tables::neigh::{Neighbour, NeighbourOp};
use crate::tables::nft::{NamedRule, NftOp, Place, RuleHandle};
use crate::tables::route::{Route, RouteKey, RouteOp};
use crate::tables::tunnel::{self, Tunnel, TunnelKind, TunnelOp, Vxlan};

/// A part of the contract.
pub type Clause = fn(&mut dyn Kernel);

/// All of the contract, by name.
pub const CLAUSES: &[(&str, Clause)] = &[
    ("objects_read_back_as_written", objects_read_back_as_written),
    ("refusals_name_the_operation_and_change_nothing", refusals_name_the_operation_and_change_nothing),
    ("fifteen_jumps_nest", fifteen_jumps_nest),
    ("an_element_is_replaced_within_one_transaction", an_element_is_replaced_within_one_transaction),
    ("a_table_is_made_anew_within_one_transaction", a_table_is_made_anew_within_one_transaction),
    ("rules_keep_their_handles", rules_keep_their_handles),
    ("the_generation_counts_transactions", the_generation_counts_transactions),
    ("routes_and_neighbours_read_back", routes_and_neighbours_read_back),
    ("a_refused_route_is_named_alone", a_refused_route_is_named_alone),
    ("an_added_route_replaces_none", an_added_route_replaces_none),
    ("tunnels_read_back", tunnels_read_back),
    ("forwarding_entries_read_back", forwarding_entries_read_back),
    ("an_overlay_comes_restarts_and_goes", an_overlay_comes_restarts_and_goes),
    ("a_node_lives_and_restarts", a_node_lives_and_restarts),
    ("a_bad_object_denies_itself_alone", a_bad_object_denies_itself_alone),
    ("a_misfit_table_is_made_anew", a_misfit_table_is_made_anew),
];

/// What a kernel with the module `ipip` must do besides.
pub const IPIP_CLAUSES: &[(&str, Clause)] = &[
    ("ipip_is_switched_on_and_off", ipip_is_switched_on_and_off),
    ("an_ipip_overlay_comes_restarts_and_goes", an_ipip_overlay_comes_restarts_and_goes),
];

const T: Table = Table::Inet;

fn chain(name: impl Into<SmolStr>) -> NftOp {
    NftOp::AddChain { table: T, chain: name.into(), kind: ChainKind::Regular }
}

fn base(name: &str) -> NftOp {
    let kind = ChainKind::Base { hook: Hook::Forward, priority: 0, chain_type: ChainType::Filter };
    NftOp::AddChain { table: T, chain: name.into(), kind }
}

fn rule_at(chain: impl Into<SmolStr>, place: Place, exprs: Vec<Expr>, comment: &str) -> NftOp {
    let NamedRule { id, rule } = Rule { exprs, comment: comment.into() }.into();
    NftOp::AddRule { table: T, chain: chain.into(), place, rule, id }
}

fn rule(chain: impl Into<SmolStr>, exprs: Vec<Expr>) -> NftOp {
    rule_at(chain, Place::Last, exprs, "")
}

fn jump(to: impl Into<SmolStr>) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Jump(to.into()))]
}

fn set(name: &str, key: &[KeyField], interval: bool, verdict_map: bool) -> NftOp {
    let spec = SetSpec { key: key.iter().copied().collect(), interval, verdict_map };
    NftOp::AddSet { table: T, set: name.into(), spec }
}

fn elements(set: &str, elements: Vec<Element>) -> NftOp {
    NftOp::AddElements { table: T, set: set.into(), elements }
}

fn address(last: u8) -> Element {
    Element::Exact(Data::from_slice(&[10, 0, 0, last]))
}

fn interval(first: u8, last: u8) -> Element {
    Element::Interval {
        first: Data::from_slice(&[10, 0, 0, first]),
        last: Data::from_slice(&[10, 0, 0, last]),
    }
}

fn dispatch(interface: &str, verdict: Verdict) -> Element {
    Element::Verdict { key: calico_rules::sets::interface_key(interface), verdict }
}

fn lookup(set: &str) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::Mark, dreg: Reg(0) },
        Expr::Lookup { set: set.into(), sreg: Reg(0), invert: false },
    ]
}

fn vmap(map: &str) -> Vec<Expr> {
    vec![
        Expr::Meta { key: MetaKey::IifName, dreg: Reg(0) },
        Expr::VerdictMap { map: map.into(), sreg: Reg(0) },
    ]
}

/// A small ruleset with one of each thing.
fn ground() -> Vec<NftOp> {
    vec![
        NftOp::AddTable(T),
        base("base"),
        chain("a"),
        chain("b"),
        chain("free"),
        set("hosts", &[KeyField::Ipv4Addr], false, false),
        set("nets", &[KeyField::Ipv4Addr], true, false),
        set("map", &[KeyField::IfName], false, true),
        set("free", &[KeyField::Ipv4Addr, KeyField::InetProto, KeyField::InetService], false, false),
        elements("hosts", vec![address(1), address(2)]),
        elements("nets", vec![interval(0, 15), interval(32, 47)]),
        elements("map", vec![dispatch("cali1", Verdict::Goto("b".into()))]),
        rule("base", vmap("map")),
        rule("base", jump("a")),
        rule("a", lookup("hosts")),
        rule("a", lookup("nets")),
    ]
}

fn objects_read_back_as_written(kernel: &mut dyn Kernel) {
    assert_eq!(kernel.read_nft(), Ok(Default::default()));
    kernel.apply_nft(&ground()).expect("the ground is well formed");
    let tables = kernel.read_nft().expect("reads");
    assert_eq!(tables.keys().collect::<Vec<_>>(), [&T]);
    let (mut chains, mut sets) = (0, 0);
    for op in ground() {
        match op {
            NftOp::AddChain { chain, kind, .. } => {
                chains += 1;
                assert_eq!(tables[&T].chains[&chain].kind, Some(kind), "{chain}");
            }
            NftOp::AddSet { set, spec, .. } => {
                sets += 1;
                assert_eq!(tables[&T].sets[&set].spec, Some(spec), "{set}");
            }
            NftOp::AddElements { set, elements, .. } => {
                let mut found = tables[&T].sets[&set].elements.clone();
                found.sort();
                assert_eq!(found, elements, "{set}");
            }
            NftOp::AddRule { chain, id, .. } => {
                assert!(tables[&T].chains[&chain].rules.iter().any(|r| r.id == Some(id)), "{chain}");
                assert_eq!(kernel.read_chain(T, &chain).as_ref(), Ok(&tables[&T].chains[&chain].rules));
            }
            _ => {}
        }
    }
    assert_eq!((tables[&T].chains.len(), tables[&T].sets.len()), (chains, sets));
}

fn refusals_name_the_operation_and_change_nothing(kernel: &mut dyn Kernel) {
    kernel.apply_nft(&ground()).expect("the ground is well formed");
    let before = kernel.read_nft().expect("reads");
    let many = vec![Expr::Counter; 129];
    let other = vec![dispatch("cali1", Verdict::Goto("a".into()))];
    for (why, bad) in [
        ("a rule of a chain that is not there", rule("absent", vec![Expr::Counter])),
        ("a rule that asks a set that is not there", rule("free", lookup("absent"))),
        ("a jump to a chain that is not there", rule("free", jump("absent"))),
        ("a jump to a base chain", rule("free", jump("base"))),
        ("a jump in a circle", rule("a", jump("a"))),
        ("a rule of too many expressions", rule("free", many)),
        (
            "a place before a rule that is not there",
            rule_at("a", Place::Before(RuleHandle(99_999)), vec![], ""),
        ),
        ("a used chain's removal", NftOp::DeleteChain { table: T, chain: "a".into() }),
        ("a dispatched chain's removal", NftOp::DeleteChain { table: T, chain: "b".into() }),
        ("a used set's removal", NftOp::DeleteSet { table: T, set: "hosts".into() }),
        ("a used map's removal", NftOp::DeleteSet { table: T, set: "map".into() }),
        ("an element of a set that is not there", elements("absent", vec![address(1)])),
        ("an interval inside another", elements("nets", vec![interval(4, 7)])),
        ("an interval around another", elements("nets", vec![interval(30, 63)])),
        ("a key of the wrong length", elements("hosts", vec![Element::Exact(Data::from_slice(&[1]))])),
        ("a second verdict of one key", elements("map", other)),
        (
            "dispatch to a chain that is not there",
            elements("map", vec![dispatch("x", Verdict::Goto("absent".into()))]),
        ),
        ("a set of another shape", set("hosts", &[KeyField::Ipv6Addr], false, false)),
    ] {
        let ops = [chain("new"), bad, chain("newer")];
        match kernel.apply_nft(&ops) {
            Err(NftRefusal::Operation { index: 1, .. }) => {}
            other => panic!("{why}: {other:?}"),
        }
        assert_eq!(kernel.read_nft().as_ref(), Ok(&before), "{why}");
    }
}

fn fifteen_jumps_nest(kernel: &mut dyn Kernel) {
    let name = |n: usize| format_smolstr!("c{n}");
    let mut ops = vec![NftOp::AddTable(T), base("base")];
    ops.extend((1..=16).map(|n| chain(name(n))));
    ops.push(rule("base", jump(name(1))));
    ops.extend((1..15).map(|n| rule(name(n), jump(name(n + 1)))));
    assert_eq!(kernel.apply_nft(&ops), Ok(()));
    let deeper = [rule(name(15), jump(name(16)))];
    assert!(matches!(kernel.apply_nft(&deeper), Err(NftRefusal::Operation { index: 0, .. })));
}

fn an_element_is_replaced_within_one_transaction(kernel: &mut dyn Kernel) {
    kernel.apply_nft(&ground()).expect("the ground is well formed");
    let old = vec![dispatch("cali1", Verdict::Goto("b".into()))];
    let new = vec![dispatch("cali1", Verdict::Goto("a".into()))];
    let wide = vec![interval(0, 63)];
    kernel
        .apply_nft(&[
            NftOp::DeleteElements { table: T, set: "map".into(), elements: old },
            NftOp::DeleteElements {
                table: T,
                set: "nets".into(),
                elements: vec![interval(0, 15), interval(32, 47)],
            },
            elements("map", new.clone()),
            elements("nets", wide.clone()),
        ])
        .expect("replaces");
    let sets = kernel.read_nft().expect("reads").remove(&T).expect("is there").sets;
    assert_eq!((&sets["map"].elements, &sets["nets"].elements), (&new, &wide));
}

fn a_table_is_made_anew_within_one_transaction(kernel: &mut dyn Kernel) {
    kernel.apply_nft(&ground()).expect("the ground is well formed");
    let mut ops = vec![NftOp::DeleteTable(T), NftOp::AddTable(T), chain("base")];
    ops.push(set("hosts", &[KeyField::Ipv6Addr], false, false));
    kernel.apply_nft(&ops).expect("makes it anew");
    let table = kernel.read_nft().expect("reads").remove(&T).expect("is there");
    assert_eq!((table.chains.len(), table.sets.len()), (1, 1));
    assert_eq!(table.chains["base"].kind, Some(ChainKind::Regular));
}

fn rules_keep_their_handles(kernel: &mut dyn Kernel) {
    kernel.apply_nft(&ground()).expect("the ground is well formed");
    let before = kernel.read_chain(T, "a").expect("reads");
    let place = Place::Before(before[1].handle);
    kernel
        .apply_nft(&[
            rule_at("a", place, vec![Expr::Counter], "first"),
            rule_at("a", place, vec![Expr::Counter], "second"),
            NftOp::DeleteRule { table: T, chain: "a".into(), handle: before[0].handle },
        ])
        .expect("inserts");
    let after = kernel.read_chain(T, "a").expect("reads");
    assert_eq!(after.len(), 3);
    assert_eq!(after[2], before[1]);
    let id = |comment: &str| NamedRule::from(Rule { exprs: vec![Expr::Counter], comment: comment.into() }).id;
    assert_eq!([after[0].id, after[1].id], [Some(id("first")), Some(id("second"))]);
}

fn the_generation_counts_transactions(kernel: &mut dyn Kernel) {
    kernel.apply_nft(&ground()).expect("the ground is well formed");
    let before = kernel.read_generation().expect("reads");
    kernel.apply_nft(&[elements("hosts", vec![address(9)])]).expect("adds");
    assert_eq!(kernel.read_generation(), Ok(before + 1));
}

fn interface(name: &str) -> IfName {
    name.parse().expect("a legal name")
}

fn routes_and_neighbours_read_back(kernel: &mut dyn Kernel) {
    let to = |address: &str, name: &str| {
        Route::workload(
            address.parse().expect("a prefix"),
            interface(name),
            crate::tables::route::PROTOCOL_BOOT,
        )
    };
    let routes = [
        to("10.65.0.1/32", "cali1"),
        to("fd00::1/128", "cali1"),
        Route::blackhole("10.65.0.0/26".parse().expect("a prefix")),
    ];
    let ops: Vec<_> = routes.iter().cloned().map(RouteOp::Replace).collect();
    assert_eq!(kernel.apply_routes(&ops), Ok(vec![]));
    let found = kernel.read_routes().expect("reads");
    assert!(routes.iter().all(|r| found.contains(r)), "{found:?}");
    // A route that moves to another interface is replaced in place.
    let moved = to("10.65.0.1/32", "cali2");
    assert_eq!(kernel.apply_routes(&[RouteOp::Replace(moved.clone())]), Ok(vec![]));
    let found = kernel.read_routes().expect("reads");
    assert!(found.contains(&moved) && !found.contains(&routes[0]), "{found:?}");
    let deletes =
        [RouteOp::Delete(moved), RouteOp::Delete(routes[1].clone()), RouteOp::Delete(routes[0].clone())];
    assert_eq!(kernel.apply_routes(&deletes), Ok(vec![]), "removing what is not there is no refusal");

    let entry =
        Neighbour::permanent(interface("cali1"), "10.65.0.1".parse().expect("an address"), Mac([2; 6]));
    assert_eq!(kernel.apply_neighbours(&[NeighbourOp::Replace(entry.clone())]), Ok(vec![]));
    assert!(kernel.read_neighbours().expect("reads").contains(&entry));
    let delete = [NeighbourOp::Delete(entry.key.clone())];
    assert_eq!(kernel.apply_neighbours(&delete), Ok(vec![]));
    assert_eq!(kernel.apply_neighbours(&delete), Ok(vec![]));
    assert!(!kernel.read_neighbours().expect("reads").contains(&entry));
}

fn a_refused_route_is_named_alone(kernel: &mut dyn Kernel) {
    let to = |address: &str, name: &str| {
        RouteOp::Replace(Route::workload(address.parse().expect("a prefix"), interface(name), 3))
    };
    let ops = [to("10.65.0.1/32", "cali1"), to("10.65.0.2/32", "absent"), to("10.65.0.3/32", "cali2")];
    let refused = kernel.apply_routes(&ops).expect("applies");
    assert_eq!(refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1]);
    let found = kernel.read_routes().expect("reads");
    assert!(found.contains(ops[0].route()) && found.contains(ops[2].route()));
}

fn an_added_route_replaces_none(kernel: &mut dyn Kernel) {
    for address in ["10.65.0.1/32", "fd00::1/128"] {
        let to = |name| Route::workload(address.parse().expect("a prefix"), interface(name), 3);
        let theirs = Route { protocol: 12, ..to("cali1") };
        assert_eq!(kernel.apply_routes(&[RouteOp::Add(theirs.clone())]), Ok(vec![]));
        for device in ["cali1", "cali2"] {
            let refused = kernel.apply_routes(&[RouteOp::Add(to(device))]);
            assert_eq!(refused, Ok(vec![(0, RouteRefusal::Exists)]), "{address} dev {device}");
        }
        let found = kernel.read_routes().expect("reads");
        assert_eq!(found.iter().filter(|r| r.key == theirs.key).collect::<Vec<_>>(), [&theirs]);
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// A VXLAN device of a family over `cali1`.
fn tunnel(family: Family) -> Tunnel {
    let local = if family == Family::V4 { "192.0.2.1" } else { "2001:db8::1" };
    let parent = Some(interface("cali1"));
    let vxlan = Vxlan { vni: 4096, port: 4789, local: Some(ip(local)), parent, learning: false };
    Tunnel {
        name: tunnel::device(Overlay::Vxlan, family).expect("VXLAN has a device"),
        kind: TunnelKind::Vxlan(vxlan),
        mac: Some(Mac([0x66, 0, 0, 0, 0, 1])),
        mtu: 1400,
        up: true,
        checksum_offload: false,
    }
}

fn tunnels_read_back(kernel: &mut dyn Kernel) {
    for family in Family::ALL {
        let made = tunnel(family);
        assert_eq!(kernel.apply_tunnel(&TunnelOp::Create(made.clone())), Ok(()));
        assert_eq!(kernel.read_tunnels(), Ok(vec![made.clone()]), "{family}");
        assert!(kernel.read_links().expect("reads").iter().any(|l| l.name == made.name && l.admin_up));
        assert!(kernel.apply_tunnel(&TunnelOp::Create(made.clone())).is_err(), "it is there");
        let other = Tunnel {
            mac: Some(Mac([0x66, 0, 0, 0, 0, 9])),
            mtu: 1350,
            checksum_offload: true,
            ..made.clone()
        };
        assert_eq!(kernel.apply_tunnel(&TunnelOp::Change(other.clone())), Ok(()));
        assert_eq!(kernel.read_tunnels(), Ok(vec![other]), "{family}");

        let address = Address::alone(
            made.name.clone(),
            if family == Family::V4 { ip("10.65.0.7") } else { ip("fd00::7") },
        );
        for _ in 0..2 {
            assert_eq!(
                kernel.apply_addresses(&[AddressOp::Add(address.clone())]),
                Ok(vec![]),
                "twice is once"
            );
            let found = kernel.read_addresses().expect("reads").into_iter();
            let found: Vec<_> = found.filter(|a| a.device == made.name && !a.is_link_local_v6()).collect();
            assert_eq!(found, std::slice::from_ref(&address));
        }
        for _ in 0..2 {
            assert_eq!(kernel.apply_addresses(&[AddressOp::Delete(address.clone())]), Ok(vec![]));
        }
        assert!(!kernel.read_addresses().expect("reads").contains(&address));
        for _ in 0..2 {
            let gone = kernel.apply_tunnel(&TunnelOp::Delete(made.name.clone()));
            assert_eq!(gone, Ok(()), "removing what is not there is no refusal");
        }
        assert_eq!(kernel.read_tunnels(), Ok(vec![]));
        let absent = Address { device: made.name, ..address };
        let refused = kernel.apply_addresses(&[AddressOp::Add(absent)]).expect("applies");
        assert_eq!(refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [0]);
    }
    let mut orphan = tunnel(Family::V4);
    let TunnelKind::Vxlan(vxlan) = &mut orphan.kind else { panic!("{orphan}") };
    vxlan.parent = Some(interface("absent"));
    assert!(kernel.apply_tunnel(&TunnelOp::Create(orphan)).is_err());
    assert_eq!(kernel.read_tunnels(), Ok(vec![]));
}

fn ipip_tunnel() -> Tunnel {
    Tunnel {
        name: tunnel::device(Overlay::Ipip, Family::V4).expect("IPIP has a device"),
        kind: TunnelKind::Ipip,
        mac: None,
        mtu: 1400,
        up: true,
        checksum_offload: true,
    }
}

fn ipip_is_switched_on_and_off(kernel: &mut dyn Kernel) {
    let made = ipip_tunnel();
    let is_up = |kernel: &mut dyn Kernel| {
        kernel.read_links().expect("reads").iter().any(|link| link.name == made.name && link.admin_up)
    };
    assert_eq!(kernel.read_tunnels(), Ok(vec![]), "the one that the module makes is at rest");
    for mtu in [1400, 1380] {
        let made = Tunnel { mtu, ..made.clone() };
        assert_eq!(kernel.apply_tunnel(&TunnelOp::Create(made.clone())), Ok(()));
        assert_eq!(kernel.read_tunnels(), Ok(vec![made.clone()]));
        assert!(is_up(kernel));
        let other = Tunnel { mtu: mtu - 10, ..made.clone() };
        assert_eq!(kernel.apply_tunnel(&TunnelOp::Change(other.clone())), Ok(()));
        assert_eq!(kernel.read_tunnels(), Ok(vec![other]));
        let address = Address::alone(made.name.clone(), ip("10.65.0.7"));
        assert_eq!(kernel.apply_addresses(&[AddressOp::Add(address.clone())]), Ok(vec![]));
        let route = Route::cluster(
            "10.65.1.0/26".parse().expect("a prefix"),
            made.name.clone(),
            ip("192.0.2.2"),
            true,
            80,
        );
        assert_eq!(kernel.apply_routes(&[RouteOp::Add(route.clone())]), Ok(vec![]));
        assert!(kernel.read_routes().expect("reads").contains(&route));
        assert_eq!(kernel.apply_addresses(&[AddressOp::Delete(address)]), Ok(vec![]));
        for _ in 0..2 {
            assert_eq!(kernel.apply_tunnel(&TunnelOp::Delete(made.name.clone())), Ok(()));
            assert_eq!(kernel.read_tunnels(), Ok(vec![]));
            assert!(!is_up(kernel));
        }
        assert!(!kernel.read_routes().expect("reads").contains(&route), "it went with its device");
    }
}

/// A pool in IPIP and another node.
pub fn ipip_overlay() -> Vec<Change> {
    let net = |text: &str| text.parse::<Cidr>().expect("a prefix");
    let pool =
        Pool { nat_outgoing: false, ipip: Encap::Always, vxlan: Encap::Never, load_balancer_only: false };
    let route = |path| ClusterRoute { node: "two".into(), path };
    let local = LocalVtep { host: ip("192.0.2.1"), addr: None, mac: Mac([0x66, 0, 0, 0, 0, 1]) };
    vec![
        Change::PoolChanged(net("10.65.0.0/16"), pool),
        Change::LocalVtepChanged(Family::V4, local),
        Change::LocalIpipChanged(ip("10.65.0.0")),
        Change::RouteChanged(net("10.65.1.0/26"), route(Path::Tunnel(Overlay::Ipip, ip("192.0.2.2")))),
        Change::RouteChanged(net("10.65.2.0/26"), route(Path::Awaited(Overlay::Ipip, ip("192.0.2.9")))),
        Change::RouteChanged(net("10.65.3.7/32"), route(Path::Subnet(Overlay::Ipip, ip("192.0.2.2")))),
    ]
}

fn an_ipip_overlay_comes_restarts_and_goes(kernel: &mut dyn Kernel) {
    let device = interface("cali1");
    let uplink = Address { device, address: ip("192.0.2.1"), prefix_len: 24, scope: 0 };
    assert_eq!(kernel.apply_addresses(&[AddressOp::Add(uplink)]), Ok(vec![]));
    let (mut desired, report) = start(kernel, ipip_overlay());
    assert_eq!((report.complete, &report.problems[..], report.tunnels), (true, &[][..], 1));
    assert_settled(&mut desired, kernel);
    assert!(desired.is_tunnel_ready((Overlay::Ipip, Family::V4)));

    // A restart finds everything in place.
    let (mut desired, report) = start(kernel, ipip_overlay());
    assert_eq!((report.complete, report.tunnels, report.routes), (true, 0, 0));
    assert_settled(&mut desired, kernel);

    // Somebody switches the device off; the next full read heals it.
    kernel.apply_tunnel(&TunnelOp::Delete(ipip_tunnel().name)).expect("switches off");
    resync(&mut desired, kernel).expect("reads");
    let report = apply(&mut desired, kernel);
    assert_eq!((report.complete, &report.problems[..], report.tunnels), (true, &[][..], 1));
    assert_settled(&mut desired, kernel);

    // Everything goes, what somebody else put on the device included.
    let left = Address::alone(ipip_tunnel().name, ip("10.65.0.99"));
    assert_eq!(kernel.apply_addresses(&[AddressOp::Add(left)]), Ok(vec![]));
    let (mut desired, report) = start(kernel, Vec::new());
    assert!(report.complete, "{report:?}");
    assert_settled(&mut desired, kernel);
    assert_eq!(kernel.read_tunnels(), Ok(vec![]));
    assert!(!kernel.read_addresses().expect("reads").iter().any(|a| tunnel::is_ours(&a.device)));
    let ours = Settings::default().routes;
    assert!(!kernel.read_routes().expect("reads").iter().any(|r| ours.is_ours(r)));
}

fn forwarding_entries_read_back(kernel: &mut dyn Kernel) {
    for (family, hosts) in
        [(Family::V4, ["192.0.2.2", "192.0.2.3"]), (Family::V6, ["2001:db8::2", "2001:db8::3"])]
    {
        let made = tunnel(family);
        assert_eq!(kernel.apply_tunnel(&TunnelOp::Create(made.clone())), Ok(()));
        let entry = |last, host: &str| {
            FdbEntry::permanent(made.name.clone(), Mac([0x66, 0, 0, 0, 0, last]), ip(host))
        };
        let replace = |entry: &FdbEntry| FdbOp::Replace(entry.clone());
        let [first, second, moved] = [entry(2, hosts[0]), entry(3, hosts[1]), entry(2, hosts[1])];
        let foreign =
            FdbEntry { key: FdbKey { device: interface("absent"), ..first.key.clone() }, ..first.clone() };
        let refused =
            kernel.apply_fdb(&[replace(&first), replace(&foreign), replace(&second)]).expect("applies");
        assert_eq!(refused.iter().map(|(place, _)| *place).collect::<Vec<_>>(), [1]);
        let mut found = kernel.read_fdb().expect("reads");
        found.sort();
        assert_eq!(found, [first.clone(), second.clone()]);
        assert_eq!(kernel.apply_fdb(&[replace(&moved)]), Ok(vec![]), "an entry leads to one place");
        let delete = [FdbOp::Delete(second.key.clone())];
        for _ in 0..2 {
            assert_eq!(kernel.apply_fdb(&delete), Ok(vec![]));
        }
        assert_eq!(kernel.read_fdb(), Ok(vec![moved]));
        assert_eq!(kernel.apply_tunnel(&TunnelOp::Delete(made.name.clone())), Ok(()));
        assert_eq!(kernel.read_fdb(), Ok(vec![]));
    }
}

/// Both families encapsulated, and another node.
pub fn overlay() -> Vec<Change> {
    let pool =
        Pool { nat_outgoing: false, ipip: Encap::Never, vxlan: Encap::Always, load_balancer_only: false };
    let mut changes = Vec::new();
    for (family, cidr, host, own, others, other) in [
        (Family::V4, "10.65.0.0/16", "192.0.2.1", "10.65.0.0", "192.0.2.2", "10.65.1.0"),
        (Family::V6, "fd00::/48", "2001:db8::1", "fd00::5", "2001:db8::2", "fd00::40"),
    ] {
        let net = |text: &str| text.parse::<Cidr>().expect("a prefix");
        let mac = |last| Mac([0x66, 0, 0, 0, family.number(), last]);
        let block = Cidr::new(ip(other), family.bits() - 6).expect("a prefix");
        let route = |path| ClusterRoute { node: "two".into(), path };
        let borrowed = Cidr::host(block.nth(9).expect("an address"));
        changes.extend([
            Change::PoolChanged(net(cidr), pool.clone()),
            Change::LocalVtepChanged(family, LocalVtep { host: ip(host), addr: Some(ip(own)), mac: mac(1) }),
            Change::VtepChanged(
                family,
                "two".into(),
                Vtep { host: ip(others), addr: ip(other), mac: mac(2) },
            ),
            Change::RouteChanged(block, route(Path::Tunnel(Overlay::Vxlan, ip(other)))),
            Change::RouteChanged(Cidr::host(ip(other)), route(Path::Tunnel(Overlay::Vxlan, ip(other)))),
            Change::RouteChanged(borrowed, route(Path::Subnet(Overlay::Vxlan, ip(others)))),
        ]);
    }
    changes
}

fn an_overlay_comes_restarts_and_goes(kernel: &mut dyn Kernel) {
    let uplink = |address: &str, prefix_len| {
        let device = interface("cali1");
        AddressOp::Add(Address { device, address: ip(address), prefix_len, scope: 0 })
    };
    let addresses = [uplink("192.0.2.1", 24), uplink("2001:db8::1", 64)];
    assert_eq!(kernel.apply_addresses(&addresses), Ok(vec![]));
    // The speaker has routes to the same places, as while a pool changes hands: ours come beside them. (It loses these
    // then, because they lead over a workload's interface.)
    let speakers = ["10.65.1.0/26", "fd00::40/122"].map(|to| {
        let destination: Cidr = to.parse().expect("a prefix");
        let via = if destination.family() == Family::V4 { "192.0.2.2" } else { "2001:db8::2" };
        let route = Route::cluster(destination, interface("cali1"), ip(via), false, 12);
        Route { key: RouteKey { priority: 1024, ..route.key }, ..route }
    });
    let ops = speakers.map(RouteOp::Add);
    assert_eq!(kernel.apply_routes(&ops), Ok(vec![]));
    let (mut desired, report) = start(kernel, overlay());
    assert_eq!((report.complete, &report.problems[..], report.tunnels), (true, &[][..], 2));
    assert_settled(&mut desired, kernel);
    assert!(Family::ALL.iter().all(|family| desired.is_tunnel_ready((Overlay::Vxlan, *family))));

    // A restart finds everything in place.
    let (mut desired, report) = start(kernel, overlay());
    assert_eq!((report.complete, report.tunnels, report.routes), (true, 0, 0));
    assert_settled(&mut desired, kernel);

    // Somebody removes a device; the next full read heals it.
    let device = tunnel::device(Overlay::Vxlan, Family::V4).expect("VXLAN has a device");
    kernel.apply_tunnel(&TunnelOp::Delete(device)).expect("removes");
    resync(&mut desired, kernel).expect("reads");
    let report = apply(&mut desired, kernel);
    assert_eq!((report.complete, &report.problems[..], report.tunnels), (true, &[][..], 1));
    assert_settled(&mut desired, kernel);

    // Everything goes.
    let (mut desired, report) = start(kernel, Vec::new());
    assert!(report.complete, "{report:?}");
    assert_settled(&mut desired, kernel);
    assert_eq!((kernel.read_tunnels(), kernel.read_fdb()), (Ok(vec![]), Ok(vec![])));
    let ours = Settings::default().routes;
    assert!(!kernel.read_routes().expect("reads").iter().any(|r| ours.is_ours(r)));
}

/// The key of a global policy.
pub fn policy_key(name: &str) -> ResourceKey {
    ResourceKey { kind: Kind::GlobalNetworkPolicy, namespace: SmolStr::default(), name: name.into() }
}

/// A policy that allows from one IP set, both ways.
pub fn policy(set: &str) -> Arc<Policy> {
    let rule = PolicyRule {
        source: Side { ip_sets: vec![IpSetId(set.into())], ..Side::default() },
        ..PolicyRule::new(Action::Allow)
    };
    Arc::new(Policy { tier: "default".into(), ingress: vec![rule.clone()], egress: vec![rule] })
}

fn workload_id(name: &str) -> WorkloadId {
    WorkloadId { orchestrator: "k8s".into(), workload: name.into(), endpoint: "eth0".into() }
}

fn workload(device: &str, address: &str, policies: &[&str]) -> Change {
    let tier = Tier {
        name: "default".into(),
        end: TierEnd::Deny,
        ingress: policies.iter().map(|p| policy_key(p)).collect(),
        egress: policies.iter().map(|p| policy_key(p)).collect(),
    };
    let workload = Workload {
        key: ResourceKey { kind: Kind::WorkloadEndpoint, namespace: "default".into(), name: device.into() },
        interface: interface(device),
        mac: Some(Mac([2; 6])),
        nets: vec![address.parse().expect("a prefix")],
        allowed_sources: vec!["192.0.2.0/24".parse().expect("a prefix")],
        tiers: vec![tier].into(),
        profiles: vec![SmolStr::new("kns.default")].into(),
    };
    Change::WorkloadChanged(workload_id(device), Arc::new(workload))
}

/// A node with two pods, a policy and a set of everything.
pub fn world() -> Vec<Change> {
    let net = |n: &str| Member::Net(n.parse().expect("a prefix"));
    vec![
        Change::IpSetAdded {
            id: IpSetId("s:a".into()),
            kind: IpSetKind::Net,
            members: ["10.65.0.9/32", "10.0.0.0/8", "10.1.0.0/16", "fd00::9/128", "::/0"].map(net).into(),
        },
        Change::PolicyChanged(policy_key("a"), policy("s:a")),
        Change::ProfileChanged("kns.default".into(), Arc::new(Profile::default())),
        workload("cali1", "10.65.0.1/32", &["a"]),
        workload("cali2", "fd00::2/128", &["a"]),
        Change::BlockAdded("10.65.0.0/26".parse().expect("a prefix")),
    ]
}

/// An agent that starts, reads the kernel and applies these changes.
pub fn start(kernel: &mut dyn Kernel, changes: Vec<Change>) -> (Desired, Report) {
    let mut desired = Desired::new(Settings::default());
    changes.into_iter().for_each(|c| desired.update(c));
    resync(&mut desired, kernel).expect("reads");
    let report = apply(&mut desired, kernel);
    (desired, report)
}

/// Nothing is left to do, neither by what is remembered nor by what is read.
fn assert_settled(desired: &mut Desired, kernel: &mut dyn Kernel) {
    for _ in 0..2 {
        desired.render();
        let plan = desired.plan();
        assert!(plan.is_empty(), "{plan}");
        // What is remembered is not believed.
        desired.unsure = true;
        resync(desired, kernel).expect("reads");
    }
}

fn a_node_lives_and_restarts(kernel: &mut dyn Kernel) {
    let (mut desired, report) = start(kernel, world());
    assert_eq!((report.complete, &report.problems[..]), (true, &[][..]));
    let state = |name: &str| (workload_id(name), WorkloadState::Up);
    assert_eq!(report.workloads, [state("cali1"), state("cali2")]);
    assert_settled(&mut desired, kernel);

    // A restart finds everything in place.
    let rules = kernel.read_nft().expect("reads");
    let (mut desired, report) = start(kernel, world());
    assert!(report.complete);
    assert_eq!((report.nft_ops, report.routes), (2, 0), "the claims of two tables");
    assert_eq!(kernel.read_nft(), Ok(rules));

    // Edits in the middle of chains keep the other rules' handles.
    let chain = calico_rules::name::policy_chain(&policy_key("a"), calico_calc::change::Direction::Ingress);
    let before = kernel.read_chain(T, &chain).expect("reads");
    let mut longer = (*policy("s:a")).clone();
    let dropped = PolicyRule { action: Action::Deny, ..longer.ingress[0].clone() };
    longer.ingress.push(PolicyRule { source: Side::default(), ..dropped });
    desired.update(Change::PolicyChanged(policy_key("a"), Arc::new(longer)));
    let report = apply(&mut desired, kernel);
    assert!(report.complete, "{report:?}");
    let after = kernel.read_chain(T, &chain).expect("reads");
    assert!(before.iter().any(|r| after.contains(r)), "{before:?} {after:?}");
    assert_settled(&mut desired, kernel);

    // Everything goes.
    let (mut desired, report) = start(kernel, Vec::new());
    assert!(report.complete, "{report:?}");
    assert_settled(&mut desired, kernel);
    let ours = Settings::default().routes;
    assert!(!kernel.read_routes().expect("reads").iter().any(|r| ours.is_ours(r)));
    let chains = &kernel.read_nft().expect("reads")[&T].chains;
    assert!(!chains.keys().any(|c| c.starts_with("cali-pi-") || c.starts_with("cali-tw-")));
}

fn a_bad_object_denies_itself_alone(kernel: &mut dyn Kernel) {
    let mut changes = world();
    // A set that nobody made.
    changes.push(Change::PolicyChanged(policy_key("bad"), policy("s:absent")));
    changes.push(workload("cali2", "10.65.0.2/32", &["bad", "a"]));
    let (mut desired, report) = start(kernel, changes);
    assert!(!report.complete);
    assert!(!report.problems.is_empty());
    assert!(
        report.problems.iter().all(|p| p.object.contains("bad") || p.object.contains("cali-r-")),
        "{report:?}"
    );
    let chains = kernel.read_nft().expect("reads").remove(&T).expect("is there").chains;
    assert_eq!(chains["cali-pi-gnp/bad"].rules.len(), 1);
    assert!(chains["cali-pi-gnp/a"].rules.len() > 1);
    assert_eq!(
        kernel.read_routes().expect("reads").iter().filter(|r| r.device.is_some() && r.protocol == 3).count(),
        2
    );
    desired.update(Change::PolicyChanged(policy_key("bad"), policy("s:a")));
    let report = apply(&mut desired, kernel);
    assert_eq!((report.complete, report.problems), (true, vec![]));
    assert_settled(&mut desired, kernel);
}

fn a_misfit_table_is_made_anew(kernel: &mut dyn Kernel) {
    // An older version might have had objects of our names and another kind.
    let map = calico_rules::name::chain::FROM_WORKLOAD;
    kernel
        .apply_nft(&[
            NftOp::AddTable(T),
            set(map, &[KeyField::Ipv4Addr], false, false),
            chain("old"),
            rule("old", lookup(map)),
        ])
        .expect("makes the old table");
    let (mut desired, report) = start(kernel, world());
    assert_eq!((report.complete, report.problems), (true, vec![]));
    assert!(!kernel.read_nft().expect("reads")[&T].chains.contains_key("old"));
    assert_settled(&mut desired, kernel);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeKernel;

    #[test]
    fn the_fake_kernel_keeps_the_contract() {
        for (name, clause) in CLAUSES.iter().chain(IPIP_CLAUSES) {
            println!("{name}");
            let mut kernel = FakeKernel::new();
            kernel.set_link("cali1", true);
            kernel.set_link("cali2", true);
            clause(&mut kernel);
        }
    }
}
