//! Plans of small clusters: who speaks with whom, and what is wrong.

use std::net::Ipv4Addr;

use calico_selector::Selector;
use proptest::prelude::*;

use super::*;
use crate::world::{ConfigFacts, NodeFacts, PeerFacts, PeerOptions, PeerScope, PeerTarget};

fn selector(text: &str) -> Selector {
    calico_selector::parse(text).unwrap()
}

/// A cluster in words: nodes `n1`, `n2`, … at 10.0.0.1, 10.0.0.2, …
#[derive(Clone)]
struct Cluster(World);

impl Cluster {
    fn of(nodes: u8, mesh: bool) -> Cluster {
        let mut world = World::default();
        for n in 1..=nodes {
            let facts = NodeFacts { v4: Some((Ipv4Addr::new(10, 0, 0, n), 24)), ..NodeFacts::default() };
            world.nodes.insert(format!("n{n}").into(), facts);
        }
        world
            .configs
            .insert("default".into(), ConfigFacts { mesh_enabled: Some(mesh), ..ConfigFacts::default() });
        Cluster(world)
    }

    fn node(mut self, n: u8, change: impl FnOnce(&mut NodeFacts)) -> Cluster {
        change(self.0.nodes.get_mut(format!("n{n}").as_str()).unwrap());
        self
    }

    /// Nodes as reflectors of cluster 244.0.0.`id`, with the label `rr` of that number.
    fn reflectors(self, id: u8, nodes: &[u8]) -> Cluster {
        nodes.iter().fold(self, |cluster, n| {
            cluster.label(*n, "rr", &id.to_string()).node(*n, |node| {
                node.cluster_id = Some(Ipv4Addr::new(244, 0, 0, id));
            })
        })
    }

    fn label(self, n: u8, key: &str, value: &str) -> Cluster {
        self.node(n, |node| {
            node.labels.insert(key.into(), value.into());
        })
    }

    fn peer(mut self, scope: PeerScope, target: PeerTarget) -> Cluster {
        let peer = PeerFacts { scope, target, reverse: true, options: PeerOptions::default() };
        self.0.peers.insert(format!("p{}", self.0.peers.len()).into(), peer);
        self
    }

    fn selected(self, nodes: &str, peers: &str) -> Cluster {
        self.peer(PeerScope::Selected(selector(nodes)), PeerTarget::Nodes(selector(peers)))
    }

    fn address(self, scope: PeerScope, addr: &str, asn: u32) -> Cluster {
        self.peer(scope, PeerTarget::Address { addr: addr.parse().unwrap(), port: None, asn: Asn(asn) })
    }

    fn plan(&self) -> Plan {
        Plan::of(&self.0)
    }

    /// The kinds of warnings, and what they say.
    fn check(&self, expected: &[(WarningKind, &str)]) {
        let warnings = self.plan().warnings;
        assert_eq!(warnings.len(), expected.len(), "{warnings:#?}");
        for (warning, (kind, text)) in warnings.iter().zip(expected) {
            assert!(
                warning.kind == *kind && warning.text.contains(text),
                "{warning:?} is not {kind:?} {text:?}"
            );
        }
    }
}

fn node(name: &str) -> PeerScope {
    PeerScope::Node(name.into())
}

#[test]
fn a_mesh_is_whole() {
    let cluster = Cluster::of(5, true);
    cluster.check(&[]);
    let plan = cluster.plan();
    assert_eq!((plan.sessions_between_nodes(), plan.sessions_of_full_mesh(), plan.mesh_size()), (10, 10, 5));
    assert!(plan.nodes["n1"].sessions.iter().all(|s| s.other_end == OtherEnd::Agrees && s.is_of_mesh()));
}

#[test]
fn without_a_mesh_and_without_peers_nobody_hears() {
    Cluster::of(3, false)
        .check(&[(WarningKind::Hole, "n1 and n2, n1 and n3, n2 and n3 have no path of sessions (3 pairs)")]);
}

#[test]
fn one_cluster_of_two_reflectors() {
    let cluster = Cluster::of(6, false).reflectors(1, &[1, 2]).selected("all()", "has(rr)");
    cluster.check(&[]);
    // Four clients with two each, and the reflectors with each other.
    assert_eq!(cluster.plan().sessions_between_nodes(), 9);
}

#[test]
fn reflectors_left_the_mesh_but_nobody_peers_with_them() {
    let cluster = Cluster::of(4, true).reflectors(1, &[1]);
    cluster.check(&[(WarningKind::Hole, "n1 and n2"), (WarningKind::NoClients, "n1")]);
    // In the middle of a change it is still there.
    cluster.node(1, |node| node.keeps_mesh = true).check(&[(WarningKind::NoClients, "n1")]);
}

#[test]
fn clusters_side_by_side_and_above_each_other() {
    // Two racks with a reflector each; the reflectors meshed.
    let racks = (3..=6).fold(Cluster::of(6, false).reflectors(1, &[1]).reflectors(2, &[2]), |cluster, n| {
        cluster.label(n, "rack", if n < 5 { "a" } else { "b" })
    });
    let racks = racks.selected("rack == 'a'", "rr == '1'").selected("rack == 'b'", "rr == '2'");
    racks.check(&[(WarningKind::Hole, "n1 and n2")]);
    racks.clone().selected("has(rr)", "has(rr)").check(&[]);
    // A third level: a reflector of reflectors.
    let tower = Cluster(World {
        nodes: racks
            .0
            .nodes
            .clone()
            .into_iter()
            .chain(Cluster::of(7, false).0.nodes.into_iter().skip(6))
            .collect(),
        ..racks.0
    });
    tower.reflectors(3, &[7]).selected("rr in {'1', '2'}", "rr == '3'").check(&[]);
}

#[test]
fn reflectors_of_one_id_with_clients_of_their_own_take_routes_for_loops() {
    let racks = Cluster::of(4, false).reflectors(1, &[1, 2]).label(3, "rack", "a").label(4, "rack", "b");
    let apart = racks.address(node("n3"), "10.0.0.1", 64512).address(node("n4"), "10.0.0.2", 64512);
    apart.check(&[
        (WarningKind::Hole, "n1 and n2"),
        (WarningKind::ClusterNotMeshed, "n1 and n2 are reflectors of one cluster, 244.0.0.1"),
    ]);
    apart
        .selected("has(rr)", "has(rr)")
        .check(&[(WarningKind::ClusterLoop, "routes of n3 to n2, n3 and n4, n4 to n1 are dropped")]);
}

#[test]
fn ends_that_do_not_fit() {
    let manual = |mut cluster: Cluster| {
        cluster.0.peers.values_mut().for_each(|peer| peer.reverse = false);
        cluster
    };
    manual(Cluster::of(2, true).address(node("n1"), "10.0.0.2", 64512)).check(&[(
        WarningKind::OneSided,
        "n1 has a session with n2 (10.0.0.2), but n2 has none with 10.0.0.1",
    )]);
    Cluster::of(2, true)
        .address(node("n1"), "10.0.0.2", 64999)
        .check(&[(WarningKind::AsMismatch, "n1, AS 64512, takes n2 (10.0.0.2) for AS 64999")]);
    // A node with an AS of its own takes those without one to be in it (spec 6 §3.3, point 5).
    Cluster::of(2, true).node(1, |n| n.asn = Some(Asn(64999))).check(&[
        (WarningKind::Hole, "n1 and n2"),
        (WarningKind::AsMismatch, "n1, AS 64999, takes n2 (10.0.0.2) for AS 64999"),
        (WarningKind::AsMismatch, "n2, AS 64512, takes n1 (10.0.0.1) for AS 64999"),
    ]);
}

#[test]
fn another_as_passes_routes_on() {
    // n1 (AS 1) – n2 (AS 2) – n3 (AS 1): n3 finds its own AS in the path, unless it may.
    let line = |cluster: Cluster| {
        [(1, 1), (2, 2), (3, 1)]
            .into_iter()
            .fold(cluster, |cluster, (n, asn)| cluster.node(n, |node| node.asn = Some(Asn(asn))))
    };
    let line =
        line(Cluster::of(3, false)).address(node("n1"), "10.0.0.2", 2).address(node("n3"), "10.0.0.2", 2);
    line.check(&[(WarningKind::Hole, "n1 and n3")]);
    let mut lenient = line.clone();
    lenient.0.peers.values_mut().for_each(|peer| peer.options.allow_local_as = Some(1));
    lenient.check(&[]);
    line.node(3, |n| n.asn = Some(Asn(3))).check(&[]);
}

#[test]
fn what_is_behind_others_routers_is_said_to_be() {
    let cluster = Cluster::of(3, false).address(PeerScope::Global, "10.0.0.254", 65000);
    cluster.check(&[(WarningKind::Outside, "by way of routers that are not nodes")]);
    assert_eq!(cluster.plan().sessions_with_outside(), 3);
}

#[test]
fn addresses() {
    let twice = Cluster::of(3, true).node(3, |node| node.v4 = Some((Ipv4Addr::new(10, 0, 0, 1), 24)));
    let warnings = twice.plan().warnings;
    assert!(
        warnings.iter().any(|w| w.kind == WarningKind::SameAddress && w.text.contains("n1 and n3")),
        "{warnings:?}"
    );
    Cluster::of(2, true)
        .node(2, |node| node.v4 = None)
        .check(&[(WarningKind::NoAddress, "n2 has no BGP address")]);
}

#[test]
fn a_mesh_of_more_than_a_hundred() {
    Cluster::of(100, true).check(&[]);
    Cluster::of(101, true).check(&[(WarningKind::LargeMesh, "101 nodes, each with 100 sessions")]);
}

/// What [`reach`] says, by brute force: every way that a route can go is walked.
fn naive(plan: &Plan, origin: &str) -> BTreeSet<SmolStr> {
    fn walk(
        plan: &Plan,
        at: &SmolStr,
        came: Option<bool>,
        clusters: &[Ipv4Addr],
        path: &[SmolStr],
        reached: &mut BTreeSet<SmolStr>,
    ) {
        reached.insert(at.clone());
        let own = &plan.nodes[at];
        for session in own.sessions.iter().filter(|s| s.other_end == OtherEnd::Agrees) {
            let to = session.node.clone().unwrap();
            if path.contains(&to) || (came == Some(false) && session.reflect_as.is_none()) {
                continue;
            }
            let mut clusters = clusters.to_vec();
            if came.is_some() {
                clusters.extend(own.cluster_id);
            }
            let node = &plan.nodes[&to];
            if node.cluster_id.is_some_and(|id| clusters.contains(&id)) {
                continue;
            }
            let theirs = node.sessions.iter().find(|s| s.name.addr == session.own_addr).unwrap();
            let path: Vec<SmolStr> = path.iter().cloned().chain([to.clone()]).collect();
            walk(plan, &to, Some(theirs.reflect_as.is_some()), &clusters, &path, reached);
        }
    }
    let mut reached = BTreeSet::new();
    let origin = SmolStr::new(origin);
    walk(plan, &origin, None, &[], std::slice::from_ref(&origin), &mut reached);
    reached
}

proptest! {
    /// Any few nodes, any of them reflectors of any cluster, any peerings by address.
    #[test]
    fn holes_are_what_every_walk_finds(
        clusters in prop::collection::vec(0u8..4, 6),
        peerings in prop::collection::btree_set((1u8..=6, 1u8..=6), 0..12),
    ) {
        let mut cluster = Cluster::of(6, false);
        for (n, id) in (1..).zip(clusters).filter(|(_, id)| *id > 0) {
            cluster = cluster.reflectors(id, &[n]);
        }
        for (from, to) in peerings {
            cluster = cluster.address(node(&format!("n{from}")), &format!("10.0.0.{to}"), 64512);
        }
        let plan = cluster.plan();
        let reach = reach::Reach::new(&plan, Family::V4, true);
        let holes: BTreeSet<(SmolStr, SmolStr)> =
            reach::holes(&reach).none.into_iter().map(|(a, b)| (a.clone(), b.clone())).collect();
        for origin in plan.nodes.keys() {
            let reached = naive(&plan, origin);
            for to in plan.nodes.keys() {
                prop_assert_eq!(!reached.contains(to), holes.contains(&(origin.clone(), to.clone())), "{} {}", origin, to);
            }
        }
    }
}
