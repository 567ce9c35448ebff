//! Each answer on a small cluster, with and without a daemon.

use std::net::Ipv4Addr;

use calico_selector::Selector;

use super::*;
use crate::world::{
    ConfigFacts, Encapsulation, NodeFacts, PeerFacts, PeerOptions, PeerScope, PeerTarget, PoolFacts,
    WorkloadFacts,
};

fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

/// `n1` … `n3` at 10.0.0.1 …, of which `n1` is asked; each has the block 10.65.n.0/26 of the pool.
fn cluster() -> World {
    let mut world = World::default();
    for n in 1..=3 {
        let v4 = Some((Ipv4Addr::new(10, 0, 0, n), 24));
        world.nodes.insert(format!("n{n}").into(), NodeFacts { v4, ..NodeFacts::default() });
    }
    let pool = |cidr: &str| PoolFacts {
        cidr: cidr.parse().unwrap(),
        disable_bgp_export: false,
        encapsulation: Encapsulation::Never,
    };
    world.pools.insert("main".into(), pool("10.65.0.0/16"));
    world.pools.insert("secret".into(), PoolFacts { disable_bgp_export: true, ..pool("10.66.0.0/16") });
    let tunnels = PoolFacts { encapsulation: Encapsulation::Vxlan, ..pool("10.67.0.0/16") };
    world.pools.insert("tunnels".into(), tunnels);
    world.blocks.insert("10.65.1.0/26".parse().unwrap());
    world.blocks.insert("10.66.1.0/26".parse().unwrap());
    world
}

/// With `n1` as the reflector of all, without a mesh.
fn reflected() -> World {
    let mut world = cluster();
    world.nodes.get_mut("n1").unwrap().cluster_id = Some(Ipv4Addr::new(244, 0, 0, 1));
    world.nodes.get_mut("n1").unwrap().labels.insert("rr".into(), "yes".into());
    let (scope, target) = (PeerScope::Selected(selector("all()")), PeerTarget::Nodes(selector("has(rr)")));
    let peer = PeerFacts { scope, target, reverse: true, options: PeerOptions::default() };
    world.peers.insert("rr".into(), peer);
    world
        .configs
        .insert("default".into(), ConfigFacts { mesh_enabled: Some(false), ..ConfigFacts::default() });
    world
}

fn ask_at(world: &World, node: &str, prefix: &str, live: Option<&Live>) -> Why {
    let owners =
        [("10.65.1.0/26", "n1"), ("10.65.2.0/26", "n2"), ("10.67.2.0/26", "n2"), ("10.66.1.0/26", "n1")];
    let owners = owners.into_iter().map(|(block, node)| (block.parse().unwrap(), node.into())).collect();
    explain(world, node, prefix.parse().unwrap(), &owners, live)
}

/// Whether each peer is told of it, the words of the first sentence, whether it is installed and why.
fn check(why: &Why, peers: &[(bool, &str)], installed: (bool, &str), outcome: Outcome) {
    assert_eq!(why.peers.len(), peers.len(), "{why:#?}");
    for (verdict, (yes, because)) in why.peers.iter().zip(peers) {
        assert!(
            verdict.yes == *yes && verdict.because.contains(because),
            "{verdict:?} is not {yes} {because:?}"
        );
    }
    let Verdict { yes, because, .. } = &why.installed;
    assert!(*yes == installed.0 && because.contains(installed.1), "{:?} is not {installed:?}", why.installed);
    assert_eq!(why.outcome(), outcome);
}

#[test]
fn by_the_model() {
    let world = cluster();
    let ask = |prefix| ask_at(&world, "n1", prefix, None);
    let both = |yes, because| [(yes, because), (yes, because)];
    check(&ask("10.65.1.0/26"), &both(true, "announced whole"), (true, "drops packets"), Outcome::Used);
    check(&ask("10.65.1.7/32"), &both(false, "nothing beneath it"), (false, "no workload"), Outcome::Unused);
    check(&ask("10.66.1.0/26"), &both(false, "disableBGPExport of IPPool secret"), (true, ""), Outcome::Used);
    check(&ask("10.65.9.0/26"), &both(false, "nobody has claimed it"), (false, ""), Outcome::Unused);
    check(&ask("192.0.2.0/24"), &both(false, "only prefixes of pools"), (false, ""), Outcome::Unknown);
    let mesh = [(false, "it is n2's own"), (false, "only by a route reflector")];
    check(&ask("10.65.2.0/26"), &mesh, (true, "BIRD installs routes of the pool"), Outcome::Used);
    check(&ask("10.67.2.0/26"), &mesh, (true, "the agent installs"), Outcome::Used);
    assert!(ask("10.65.2.0/26").facts[0].contains("10.65.2.0/26 is a block of n2."));
    assert_eq!(ask("10.65.2.0/26").peers[0].subject, "n2 (10.0.0.2)");
    check(&ask("fd00::/64"), &[], (false, ""), Outcome::Unknown);
}

#[test]
fn by_reflection() {
    let world = reflected();
    let at = |node| ask_at(&world, node, "10.65.2.0/26", None);
    check(&at("n1"), &[(false, "n2's own"), (true, "from a client")], (true, "BIRD"), Outcome::Used);
    check(&at("n3"), &[(false, "only by a route reflector")], (true, "BIRD"), Outcome::Used);
}

#[test]
fn borrowed_addresses_and_workloads() {
    let mut world = cluster();
    let key = |name: &str| calico_api::ResourceKey {
        kind: calico_api::Kind::WorkloadEndpoint,
        namespace: "default".into(),
        name: name.into(),
    };
    let addrs = vec!["10.65.1.7/32".parse().unwrap(), "10.65.2.9/32".parse().unwrap()];
    world.workloads.insert(key("a"), WorkloadFacts { addrs, ..WorkloadFacts::default() });
    let borrowed = ask_at(&world, "n1", "10.65.2.9/32", None);
    check(&borrowed, &[(true, "alone"), (true, "alone")], (true, "to the workload"), Outcome::Used);
    let own = ask_at(&world, "n1", "10.65.1.7/32", None);
    check(&own, &[(false, "beneath"), (false, "beneath")], (true, "to the workload"), Outcome::Used);
}

#[test]
fn the_daemon_has_the_last_word() {
    let world = cluster();
    let name =
        |addr: &str| PeerName { kind: crate::birdc::PeerKind::Mesh, addr: addr.parse().unwrap(), port: None };
    let route = Route {
        table: "master4".into(),
        prefix: "10.65.1.0/26".parse().unwrap(),
        destination: Destination::Blackhole,
        protocol: "calico_blocks_v4".into(),
        since: "10:00".into(),
        primary: true,
        next_hops: Vec::new(),
    };
    let up =
        |exported, offered| LivePeer { established: true, info: "Established".into(), exported, offered };
    let down = LivePeer { info: "Active Socket: Connection refused".into(), ..LivePeer::default() };
    let mut live = Live {
        routes: vec![route],
        peers: [(name("10.0.0.2"), up(true, true)), (name("10.0.0.3"), down)].into(),
        to_kernel: false,
    };
    let own = ask_at(&world, "n1", "10.65.1.0/26", Some(&live));
    check(&own, &[(true, "whole"), (false, "Connection refused")], (true, "drops"), Outcome::Used);
    assert!(
        own.is_live
            && own.facts.iter().any(|f| f.contains("from calico_blocks_v4 as a blackhole since 10:00"))
    );
    live.peers.insert(name("10.0.0.2"), up(false, true));
    live.peers.remove(&name("10.0.0.3"));
    let own = ask_at(&world, "n1", "10.65.1.0/26", Some(&live));
    check(
        &own,
        &[(false, "a filter of the session"), (false, "does not have the session yet")],
        (true, ""),
        Outcome::Used,
    );
    // What is another's and did not come.
    let none = Live { peers: live.peers.clone(), ..Live::default() };
    let other = ask_at(&world, "n1", "10.65.2.0/26", Some(&none));
    check(
        &other,
        &[(false, "n2's own"), (false, "not have")],
        (false, "not learned it from any peer"),
        Outcome::Unused,
    );
    let learned = Live { to_kernel: true, routes: live.routes, peers: live.peers };
    let other = ask_at(&world, "n1", "10.65.2.0/26", Some(&learned));
    check(&other, &[(false, ""), (false, "")], (true, "BIRD installs it"), Outcome::Used);
    // An external route that the model knows nothing of.
    let outside = ask_at(&world, "n1", "192.0.2.0/24", Some(&learned));
    assert_eq!((outside.installed.yes, outside.outcome()), (true, Outcome::Used));
}
