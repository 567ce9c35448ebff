//! Each rule of spec 6 §3.3 on its own.

use calico_api::ResourceKey;
use calico_selector::Selector;

use super::*;
use crate::world::{ConfigFacts, WorkloadFacts};

fn node(v4: &str, v6: &str) -> NodeFacts {
    NodeFacts {
        v4: (!v4.is_empty()).then(|| (v4.parse().unwrap(), 24)),
        v6: (!v6.is_empty()).then(|| (v6.parse().unwrap(), 64)),
        ..NodeFacts::default()
    }
}

fn labelled(v4: &str, label: (&str, &str)) -> NodeFacts {
    let mut node = node(v4, "");
    node.labels.insert(label.0.into(), label.1.into());
    node
}

fn selector(text: &str) -> Selector {
    text.parse().unwrap()
}

fn peer(scope: PeerScope, target: PeerTarget) -> PeerFacts {
    PeerFacts { scope, target, reverse: true, options: PeerOptions::default() }
}

fn at(addr: &str, port: Option<u16>, asn: u32) -> PeerTarget {
    PeerTarget::Address { addr: addr.parse().unwrap(), port, asn: Asn(asn) }
}

/// Three nodes and a mesh.
fn three() -> World {
    let mut world = World::default();
    world.nodes.insert("a".into(), node("10.0.0.1", ""));
    world.nodes.insert("b".into(), node("10.0.0.2", ""));
    world.nodes.insert("c".into(), node("10.0.0.10", ""));
    world
}

fn without_mesh(mut world: World) -> World {
    world.configs.entry("default".into()).or_default().mesh_enabled = Some(false);
    world
}

fn sessions(world: &World, name: &str) -> Sessions {
    resolve_sessions(world, name, &world.nodes[name])
}

fn names(world: &World, name: &str) -> Vec<String> {
    sessions(world, name).sessions.iter().map(|s| s.name.to_string()).collect()
}

#[test]
fn mesh_is_all_others_by_name_and_passive_by_text() {
    let world = three();
    let seen: Vec<_> =
        sessions(&world, "b").sessions.iter().map(|s| (s.name.to_string(), s.passive)).collect();
    // "10.0.0.10" < "10.0.0.2" as text.
    assert_eq!(seen, [("Mesh_10_0_0_1".into(), false), ("Mesh_10_0_0_10".into(), false)]);
    let seen: Vec<_> =
        sessions(&world, "c").sessions.iter().map(|s| (s.name.to_string(), s.passive)).collect();
    assert_eq!(seen, [("Mesh_10_0_0_1".into(), false), ("Mesh_10_0_0_2".into(), true)]);
}

#[test]
fn exactly_one_end_of_each_mesh_session_is_passive() {
    let world = three();
    for (own, other) in [("a", "b"), ("b", "c"), ("a", "c")] {
        let end = |own: &str, other: &str| {
            let addr = world.nodes[other].addr(Family::V4).unwrap();
            sessions(&world, own).sessions.into_iter().find(|s| s.name.addr == addr).unwrap().passive
        };
        assert_ne!(end(own, other), end(other, own), "{own} {other}");
    }
}

#[test]
fn mesh_in_each_family_that_both_have() {
    let mut world = World::default();
    world.nodes.insert("a".into(), node("10.0.0.1", "fd00::1"));
    world.nodes.insert("b".into(), node("10.0.0.2", "fd00::2"));
    world.nodes.insert("c".into(), node("", "fd00::3"));
    assert_eq!(names(&world, "a"), ["Mesh_10_0_0_2", "Mesh_fd00__2", "Mesh_fd00__3"]);
    assert_eq!(names(&world, "c"), ["Mesh_fd00__1", "Mesh_fd00__2"]);
}

#[test]
fn mesh_off_or_reflector_at_either_end() {
    assert!(names(&without_mesh(three()), "a").is_empty());
    let mut world = three();
    world.nodes.get_mut("b").unwrap().cluster_id = Some(Ipv4Addr::new(1, 0, 0, 1));
    assert_eq!(names(&world, "a"), ["Mesh_10_0_0_10"]);
    assert!(names(&world, "b").is_empty());
}

#[test]
fn mesh_ports_and_as_numbers() {
    let mut world = three();
    let port = |port| ConfigFacts { listen_port: Some(port), ..ConfigFacts::default() };
    world.configs.insert("default".into(), ConfigFacts { asn: Some(Asn(65000)), ..port(180) });
    world.configs.insert("node.b".into(), port(181));
    world.nodes.get_mut("a").unwrap().asn = Some(Asn(65001));
    world.nodes.get_mut("b").unwrap().asn = Some(Asn(65002));
    let seen: Vec<_> = sessions(&world, "a")
        .sessions
        .iter()
        .map(|s| (s.name.to_string(), s.port, s.local_as.0, s.remote_as.0))
        .collect();
    assert_eq!(
        seen,
        [
            ("Mesh_10_0_0_10".into(), Some(180), 65001, 65001),
            ("Mesh_10_0_0_2".into(), Some(181), 65001, 65002),
        ]
    );
}

#[test]
fn two_nodes_with_one_address_are_one_session_and_a_problem() {
    let mut world = three();
    world.nodes.insert("d".into(), node("10.0.0.2", ""));
    world.nodes.insert("e".into(), node("10.0.0.1", ""));
    let seen = sessions(&world, "a");
    assert_eq!(seen.sessions.len(), 2);
    let problems: Vec<String> = seen.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 2);
    assert!(problems[0].starts_with("Node(d): its address 10.0.0.2 is that of b"), "{problems:?}");
    assert!(problems[1].starts_with("Node(e): its address 10.0.0.1 is this node's own"), "{problems:?}");
}

#[test]
fn global_wins_over_node_specific_of_the_same_address_and_port() {
    let mut world = without_mesh(three());
    let mine = PeerScope::Node("a".into());
    world.peers.insert("a-mine".into(), peer(mine.clone(), at("192.0.2.1", Some(179), 65010)));
    world.peers.insert("b-all".into(), peer(PeerScope::Global, at("192.0.2.1", None, 65011)));
    world.peers.insert("c-mine".into(), peer(mine, at("192.0.2.1", Some(180), 65012)));
    assert_eq!(names(&world, "a"), ["Global_192_0_2_1", "Node_192_0_2_1_port_180"]);
    assert_eq!(names(&world, "b"), ["Global_192_0_2_1"]);
}

#[test]
fn node_selectors_and_peer_selectors() {
    let mut world = without_mesh(three());
    world.nodes.insert("r".into(), labelled("10.0.0.20", ("rr", "yes")));
    let target = PeerTarget::Nodes(selector("has(rr)"));
    world.peers.insert("to-rr".into(), peer(PeerScope::Selected(selector("!has(rr)")), target));
    assert_eq!(names(&world, "a"), ["Node_10_0_0_20"]);
    // The reflector gets the reverses of all three.
    assert_eq!(names(&world, "r"), ["Node_10_0_0_1", "Node_10_0_0_10", "Node_10_0_0_2"]);
    world.peers.get_mut("to-rr").unwrap().reverse = false;
    assert!(names(&world, "r").is_empty());
}

#[test]
fn reflectors_reflect_to_internal_clients_outside_their_cluster() {
    let mut world = without_mesh(three());
    let mut reflector = labelled("10.0.0.20", ("rr", "yes"));
    reflector.cluster_id = Some(Ipv4Addr::new(244, 0, 0, 1));
    world.nodes.insert("r".into(), reflector.clone());
    world.nodes.get_mut("b").unwrap().cluster_id = Some(Ipv4Addr::new(244, 0, 0, 1));
    world.nodes.get_mut("c").unwrap().asn = Some(Asn(65009));
    world.peers.insert("all-rr".into(), peer(PeerScope::Global, PeerTarget::Nodes(selector("has(rr)"))));
    let seen: Vec<_> =
        sessions(&world, "r").sessions.iter().map(|s| (s.name.to_string(), s.reflect_as)).collect();
    assert_eq!(
        seen,
        [
            ("Node_10_0_0_1".into(), reflector.cluster_id),
            ("Node_10_0_0_10".into(), None),
            ("Node_10_0_0_2".into(), None),
        ]
    );
}

#[test]
fn an_address_of_a_calico_node_brings_its_port_and_its_reverse() {
    let mut world = without_mesh(three());
    world.configs.insert("node.b".into(), ConfigFacts { listen_port: Some(181), ..ConfigFacts::default() });
    world.peers.insert("p".into(), peer(PeerScope::Node("a".into()), at("10.0.0.2", None, 64512)));
    assert_eq!(names(&world, "a"), ["Node_10_0_0_2_port_181"]);
    assert_eq!(names(&world, "b"), ["Node_10_0_0_1"]);
    // Another AS is not that node.
    world.peers.insert("p".into(), peer(PeerScope::Node("a".into()), at("10.0.0.2", None, 65001)));
    assert_eq!(names(&world, "a"), ["Node_10_0_0_2"]);
    assert!(names(&world, "b").is_empty());
    // Nor is another port.
    world.peers.insert("p".into(), peer(PeerScope::Node("a".into()), at("10.0.0.2", Some(9), 64512)));
    assert!(names(&world, "b").is_empty());
}

#[test]
fn only_global_sessions_with_calico_nodes_are_passive() {
    let mut world = without_mesh(three());
    world.peers.insert("g".into(), peer(PeerScope::Global, at("10.0.0.2", None, 64512)));
    world.peers.insert("h".into(), peer(PeerScope::Global, at("10.0.0.9", None, 64512)));
    world.peers.insert("n".into(), peer(PeerScope::Node("a".into()), at("10.0.0.10", None, 64512)));
    let seen: Vec<_> =
        sessions(&world, "a").sessions.iter().map(|s| (s.name.to_string(), s.passive)).collect();
    assert_eq!(
        seen,
        [
            ("Global_10_0_0_2".into(), true),
            ("Global_10_0_0_9".into(), false),
            ("Node_10_0_0_10".into(), false)
        ]
    );
}

#[test]
fn never_with_itself() {
    let mut world = without_mesh(three());
    world.peers.insert("all".into(), peer(PeerScope::Global, PeerTarget::Nodes(Selector::all())));
    assert_eq!(names(&world, "a"), ["Global_10_0_0_10", "Global_10_0_0_2"]);
    // Both ends come from the global peer; a reverse never overwrites.
    assert_eq!(names(&world, "b"), ["Global_10_0_0_1", "Global_10_0_0_10"]);
}

#[test]
fn options_reach_the_session() {
    let mut world = without_mesh(three());
    let options = PeerOptions {
        local_as: Some(Asn(65100)),
        from_node_addr: false,
        restart_time_secs: Some(10),
        keepalive_secs: Some(5),
        next_hop: NextHopMode::Auto,
        keep_original_next_hop: true,
        allow_local_as: Some(2),
        ttl_security_hops: Some(1),
        reachable_by: Some("10.0.0.254".parse().unwrap()),
        ..PeerOptions::default()
    };
    let target = at("192.0.2.1", None, 65010);
    world.peers.insert("p".into(), PeerFacts { scope: PeerScope::Global, target, reverse: true, options });
    let seen = sessions(&world, "a");
    assert_eq!(
        seen.sessions,
        [Session {
            name: PeerName { kind: PeerKind::Global, addr: "192.0.2.1".parse().unwrap(), port: None },
            port: None,
            remote_as: Asn(65010),
            local_as: Asn(65100),
            own_addr: "10.0.0.1".parse().unwrap(),
            from_own_addr: false,
            passive: false,
            ttl_security_hops: Some(1),
            reflect_as: None,
            restart_time_secs: Some(10),
            keepalive_secs: Some(5),
            next_hop: NextHopMode::Keep,
            allow_local_as: Some(2),
            filters: Vec::new(),
            password: None,
            bfd: false,
            long_lived: false,
        }]
    );
    let gateway = Gateway { peer: "192.0.2.1".parse().unwrap(), via: "10.0.0.254".parse().unwrap() };
    assert_eq!(seen.gateways, [gateway]);
    // An internal session keeps next hops anyway; ttlSecurity 0 is off.
    let p = world.peers.get_mut("p").unwrap();
    p.target = at("192.0.2.1", None, 65100);
    p.options.ttl_security_hops = Some(0);
    let session = sessions(&world, "a").sessions.remove(0);
    assert_eq!((session.next_hop, session.ttl_security_hops), (NextHopMode::Auto, None));
}

#[test]
fn a_gateway_of_the_other_family_leaves_the_peer_out() {
    let mut world = without_mesh(three());
    let mut bad = peer(PeerScope::Global, at("192.0.2.1", None, 65010));
    bad.options.reachable_by = Some("fd00::1".parse().unwrap());
    world.peers.insert("bad".into(), bad);
    world.peers.insert("good".into(), peer(PeerScope::Global, at("192.0.2.2", None, 65010)));
    let seen = sessions(&world, "a");
    assert_eq!(seen.sessions.len(), 1);
    assert!(seen.problems[0].to_string().starts_with("BGPPeer(bad): reachableBy: fd00::1"));
}

#[test]
fn a_reversed_session_meets_the_local_as_of_the_other_end() {
    let mut world = without_mesh(three());
    let mut to_b = peer(PeerScope::Node("a".into()), at("10.0.0.2", None, 64512));
    to_b.options.local_as = Some(Asn(65100));
    world.peers.insert("p".into(), to_b);
    let ends = |name| {
        let session = sessions(&world, name).sessions.remove(0);
        (session.local_as.0, session.remote_as.0)
    };
    assert_eq!((ends("a"), ends("b")), ((65100, 64512), (64512, 65100)));
}

#[test]
fn the_gateway_is_that_of_the_peer_that_won() {
    let mut world = without_mesh(three());
    let via = |addr: &str| {
        let mut facts = peer(PeerScope::Global, at("192.0.2.1", None, 65010));
        facts.options.reachable_by = (!addr.is_empty()).then(|| addr.parse().unwrap());
        facts
    };
    let gateways = |world: &World| -> Vec<String> {
        sessions(world, "a").gateways.iter().map(|g| g.via.to_string()).collect()
    };
    world.peers.insert("1".into(), via("10.0.0.254"));
    world.peers.insert("2".into(), via("10.0.0.253"));
    assert_eq!(gateways(&world), ["10.0.0.254"]);
    // The winner is reached directly.
    world.peers.insert("1".into(), via(""));
    assert_eq!(gateways(&world), Vec::<String>::new());
}

fn filter() -> crate::filter::Filter {
    crate::filter::Filter::default()
}

fn secret(name: &str, key: &str) -> Option<crate::password::SecretRef> {
    Some(crate::password::SecretRef { name: name.into(), key: key.into(), optional: false })
}

fn secret_data(key: &str, text: &str) -> crate::password::SecretData {
    crate::password::SecretData([(key.into(), text.as_bytes().to_vec())].into())
}

fn texts(sessions: &Sessions) -> Vec<String> {
    sessions.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_peer_with_a_filter_that_is_not_there_is_left_out_alone() {
    let mut world = without_mesh(three());
    let mut filtered = peer(PeerScope::Global, at("192.0.2.1", None, 65001));
    filtered.options.filters = vec!["f1".into(), "f2".into()];
    world.peers.insert("filtered".into(), filtered);
    world.peers.insert("plain".into(), peer(PeerScope::Global, at("192.0.2.2", None, 65001)));
    world.filters.insert("f1".into(), filter());
    assert_eq!(names(&world, "a"), ["Global_192_0_2_2"]);
    let seen = texts(&sessions(&world, "a"));
    assert_eq!(
        seen,
        ["BGPPeer(filtered): filters[1]: there is no usable BGPFilter f2; no session comes of it"]
    );
    world.filters.insert("f2".into(), filter());
    let all = sessions(&world, "a");
    assert_eq!(all.sessions[0].filters, ["f1", "f2"]);
    assert!(all.problems.is_empty() && all.sessions.len() == 2);
}

#[test]
fn passwords_of_peers() {
    let mut world = without_mesh(three());
    let mut secured = peer(PeerScope::Global, at("192.0.2.1", None, 65001));
    secured.options.password = secret("bgp", "rr");
    world.peers.insert("secured".into(), secured);
    // Not there: said, and the session goes without.
    let seen = sessions(&world, "a");
    assert_eq!((seen.sessions.len(), &seen.sessions[0].password), (1, &None));
    assert!(texts(&seen)[0].contains("password.secretKeyRef: there is no Secret bgp"), "{:?}", texts(&seen));
    assert_eq!(seen.secrets.iter().collect::<Vec<_>>(), ["bgp"]);
    world.secrets.insert("bgp".into(), secret_data("other", "x"));
    assert!(texts(&sessions(&world, "a"))[0].contains("has no key rr"));
    world.secrets.insert("bgp".into(), secret_data("rr", "so secret"));
    let seen = sessions(&world, "a");
    assert_eq!(seen.sessions[0].password.as_ref().map(Password::reveal), Some("so secret"));
    assert!(seen.problems.is_empty());
    // One that BIRD cannot take: a session without it would be another than what was asked for.
    world.secrets.insert("bgp".into(), secret_data("rr", "a\"b"));
    let seen = sessions(&world, "a");
    assert!(seen.sessions.is_empty());
    assert!(texts(&seen)[0].contains("double quote") && texts(&seen)[0].contains("no session"));
    // Nobody needs to hear of one that may be absent.
    world.secrets.clear();
    world.peers.get_mut("secured").unwrap().options.password.as_mut().unwrap().optional = true;
    assert!(sessions(&world, "a").problems.is_empty());
}

#[test]
fn the_mesh_has_its_password_and_a_reverse_that_of_its_peer() {
    let mut world = three();
    world.configs.entry("default".into()).or_default().mesh_password = secret("bgp", "mesh");
    world.secrets.insert("bgp".into(), secret_data("mesh", "m"));
    let seen = sessions(&world, "a");
    assert!(seen.sessions.iter().all(|s| s.password.as_ref().is_some_and(|p| p.reveal() == "m")));
    world.secrets.clear();
    let seen = sessions(&world, "a");
    assert_eq!(seen.sessions.len(), 2);
    assert_eq!(
        texts(&seen),
        [
            "BGPConfiguration(default): nodeMeshPassword.secretKeyRef: there is no Secret bgp; the session goes without a password"
        ]
    );
    world.secrets.insert("bgp".into(), secret_data("mesh", ""));
    assert!(sessions(&world, "a").sessions.is_empty());
    let mut world = without_mesh(three());
    let mut secured = peer(PeerScope::Node("a".into()), at("10.0.0.2", None, 64512));
    secured.options.password = secret("bgp", "rr");
    world.peers.insert("secured".into(), secured);
    world.secrets.insert("bgp".into(), secret_data("rr", "r"));
    for node in ["a", "b"] {
        let seen = sessions(&world, node);
        assert_eq!(seen.sessions[0].password.as_ref().map(Password::reveal), Some("r"), "{node}");
    }
    assert!(sessions(&world, "c").secrets.is_empty(), "no secret is looked for that no session needs");
}

#[test]
fn workloads_of_the_node_are_passive_peers() {
    let mut world = without_mesh(three());
    world.nodes.insert("a".into(), node("10.0.0.1", "fd00::1"));
    let target = PeerTarget::Workloads { selector: selector("app == 'router'"), asn: Asn(65001) };
    let mut peering = peer(PeerScope::Selected(selector("has(rack)")), target);
    peering.options.filters = vec!["f".into()];
    world.peers.insert("pods".into(), peering);
    world.filters.insert("f".into(), filter());
    for (name, app, addrs) in [
        ("w1", "router", vec!["10.244.0.7/32", "fd00:10::7/128"]),
        ("w2", "web", vec!["10.244.0.8/32"]),
        ("w3", "router", vec!["10.244.0.9/32"]),
    ] {
        let key =
            ResourceKey { kind: Kind::WorkloadEndpoint, namespace: "default".into(), name: name.into() };
        let addrs = addrs.iter().map(|addr| addr.parse().unwrap()).collect();
        let facts = WorkloadFacts { addrs, labels: [("app".into(), app.into())].into() };
        world.workloads.insert(key, facts);
    }
    assert!(names(&world, "a").is_empty(), "the node is not selected");
    world.nodes.get_mut("a").unwrap().labels.insert("rack".into(), "1".into());
    let expected = ["Local_Workload_10_244_0_7", "Local_Workload_10_244_0_9", "Local_Workload_fd00_10__7"];
    assert_eq!(names(&world, "a"), expected);
    for session in sessions(&world, "a").sessions {
        assert!(session.passive && !session.from_own_addr && session.filters == ["f"]);
        assert_eq!((session.remote_as, session.local_as), (Asn(65001), Asn(64512)));
    }
    // No other node peers back.
    assert!(names(&world, "b").is_empty());
}

#[test]
fn a_reflector_that_is_to_keep_the_mesh_keeps_it_at_both_ends() {
    let mut world = three();
    let b = world.nodes.get_mut("b").unwrap();
    (b.cluster_id, b.keeps_mesh) = (Some(Ipv4Addr::new(1, 0, 0, 1)), true);
    assert_eq!(names(&world, "a"), ["Mesh_10_0_0_10", "Mesh_10_0_0_2"]);
    assert_eq!(names(&world, "b"), ["Mesh_10_0_0_1", "Mesh_10_0_0_10"]);
    world.nodes.get_mut("b").unwrap().keeps_mesh = false;
    assert_eq!(names(&world, "a"), ["Mesh_10_0_0_10"]);
}

/// Of each pair of ends: the name, whether it waits, in the order in which connections are matched.
fn pair(world: &World, own: &str, other: &str) -> Vec<(PeerKind, bool)> {
    let addr = world.nodes[other].addr(Family::V4).unwrap();
    let of_pair = sessions(world, own).sessions.into_iter().filter(|s| s.name.addr == addr);
    of_pair.map(|s| (s.name.kind, s.passive)).collect()
}

#[test]
fn a_session_beside_the_mesh_is_told_from_it_at_both_ends() {
    let mut world = three();
    world.nodes.insert("b".into(), labelled("10.0.0.2", ("role", "rr")));
    let to_rr = peer(PeerScope::Selected(selector("all()")), PeerTarget::Nodes(selector("role == 'rr'")));
    world.peers.insert("p".into(), to_rr);
    use PeerKind::{Mesh, Node};
    // Each calls in one of the two, and the first that fits a call is the one that waits for it.
    assert_eq!(pair(&world, "a", "b"), [(Mesh, true), (Node, false)]);
    assert_eq!(pair(&world, "b", "a"), [(Node, true), (Mesh, false)]);
    // The mesh's end changes nothing of the other session: it would be restarted.
    let world = without_mesh(world);
    assert_eq!(pair(&world, "a", "b"), [(Node, false)]);
    assert_eq!(pair(&world, "b", "a"), [(Node, true)]);
}

#[test]
fn nobody_waits_for_an_end_that_may_wait_too_or_not_be_there() {
    let b_waits = |change: &dyn Fn(&mut World)| {
        let mut world = without_mesh(three());
        world.peers.insert("p".into(), peer(PeerScope::Node("a".into()), at("10.0.0.2", None, 64512)));
        world.peers.insert("q".into(), peer(PeerScope::Node("b".into()), at("10.0.0.1", None, 64512)));
        change(&mut world);
        pair(&world, "b", "a") == [(PeerKind::Node, true)]
    };
    assert!(b_waits(&|_| {}));
    // By a BGPPeer of all nodes a's end is a global one, which waits itself.
    let global = || peer(PeerScope::Global, PeerTarget::Nodes(selector("all()")));
    assert!(!b_waits(&|world| drop(world.peers.insert("g".into(), global()))));
    let only = |world: &mut World, change: &dyn Fn(&mut PeerFacts)| {
        world.peers.remove("p");
        change(world.peers.get_mut("q").unwrap());
    };
    assert!(b_waits(&|world| only(world, &|_| {})));
    assert!(!b_waits(&|world| only(world, &|q| q.reverse = false)));
    assert!(!b_waits(&|world| only(world, &|q| q.options.from_node_addr = false)));
    assert!(!b_waits(&|world| only(world, &|q| q.target = at("10.0.0.1", Some(180), 64512))));
    assert!(!b_waits(&|world| only(world, &|q| q.target = at("10.0.0.1", None, 65000))));
    assert!(
        !b_waits(&|world| only(world, &|q| q.options.reachable_by = Some("10.0.0.254".parse().unwrap())))
    );
}
