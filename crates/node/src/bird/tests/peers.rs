//! What sessions can be asked for, on real daemons: passwords, TTL security, BFD, filters, and restarts amid members that
//! are away.

use std::time::Instant as Moment;

use calico_mesh::filter::{Condition, Filter, FilterRule, Operation, Prefixes};
use calico_mesh::intent::Community;
use calico_mesh::password::{SecretData, SecretRef};
use calico_mesh::world::{ConfigFacts, PeerFacts, PeerOptions, PeerScope, PeerTarget};

use super::*;

/// The cluster, with a BGPConfiguration.
fn configured(n: u8, dead: bool, config: &ConfigFacts) -> World {
    let mut world = world(n, dead);
    world.configs.insert("default".into(), config.clone());
    world
}

/// The cluster without its mesh: a BGPPeer of all nodes with all nodes.
fn peered(n: u8, options: PeerOptions) -> World {
    let mut world =
        configured(n, false, &ConfigFacts { mesh_enabled: Some(false), ..ConfigFacts::default() });
    let target = PeerTarget::Nodes("all()".parse().unwrap());
    world.peers.insert("all".into(), PeerFacts { scope: PeerScope::Global, target, reverse: true, options });
    world
}

fn tell(node: &TestNode, words: &'static str) -> String {
    let answer = block_on(ask(&node.bird.paths().socket, words));
    let lines = answer.map(|answer| answer.reply.lines).unwrap_or_default();
    lines.into_iter().map(|line| line.text + "\n").collect()
}

fn recovers(node: &TestNode) -> bool {
    let answer = block_on(ask(&node.bird.paths().socket, command::STATUS)).ok();
    answer.and_then(|answer| parse_status(&answer.reply)).is_some_and(|status| status.graceful_restart)
}

/// Kills the daemon and waits for its successor.
fn replace(node: &TestNode) {
    let before = node.pid().unwrap();
    kill(before);
    wait_for("another process", || node.pid().is_some_and(|pid| pid != before));
}

/// How many packets with a wrong TCP MD5 signature, or without one, the node's kernel has dropped.
fn refused_signatures(node: &TestNode) -> u64 {
    let counters =
        node.netns.run(|| std::fs::read_to_string("/proc/thread-self/net/netstat").unwrap()).unwrap();
    let lines: Vec<Vec<&str>> = counters.lines().map(|line| line.split_whitespace().collect()).collect();
    let mut refused = 0;
    for pair in lines.chunks(2) {
        for (name, value) in pair[0].iter().zip(&pair[1]) {
            if name.starts_with("TCPMD5") {
                refused += value.parse::<u64>().unwrap();
            }
        }
    }
    refused
}

#[test]
fn sessions_need_the_same_password() {
    if !is_possible() {
        return;
    }
    let (a, b) = pair();
    let with = |n: u8, text: &str| {
        let reference = SecretRef { name: "bgp".into(), key: "mesh".into(), optional: false };
        let mut world =
            configured(n, false, &ConfigFacts { mesh_password: Some(reference), ..ConfigFacts::default() });
        let data = SecretData([("mesh".into(), text.as_bytes().to_vec())].into());
        world.secrets.insert("bgp".into(), data);
        world
    };
    configure(&a, 1, &with(1, "it's one; # 1"));
    configure(&b, 2, &with(2, "another"));
    wait_for("a refused packet", || refused_signatures(&a) + refused_signatures(&b) > 0);
    assert_eq!((a.established_since(), b.established_since()), (None, None));
    configure(&b, 2, &with(2, "it's one; # 1"));
    a.wait_for_route("10.20.2.0/26 via 10.9.0.2");
    b.wait_for_route("10.20.1.0/26 via 10.9.0.1");
}

#[test]
fn ttl_security_and_bfd_between_neighbours() {
    if !is_possible() {
        return;
    }
    let (a, b) = pair();
    let options = PeerOptions { ttl_security_hops: Some(1), bfd: true, ..PeerOptions::default() };
    configure(&a, 1, &peered(1, options.clone()));
    configure(&b, 2, &peered(2, options));
    a.wait_for_route("10.20.2.0/26 via 10.9.0.2");
    for node in [&a, &b] {
        wait_for("BFD", || tell(node, "show bfd sessions\n").contains(" Up "));
    }
    // The way is lost without a word: BFD finds out in a second, BGP would in minutes.
    b.ip("link set eth0 down");
    let lost = Moment::now();
    wait_for("the loss", || a.established_since().is_none());
    assert!(lost.elapsed() < Duration::from_secs(20), "{:?}", lost.elapsed());
}

#[test]
fn filters_decide_and_change_routes() {
    if !is_possible() {
        return;
    }
    let (a, b) = pair();
    let inside = |cidr: &str| Prefixes::all(cidr.parse().unwrap());
    let rule = |conditions, operations, accept| FilterRule { conditions, operations, accept };
    let filter = Filter {
        export_v4: vec![
            rule(vec![Condition::Equal("10.20.7.0/26".parse().unwrap())], vec![], false),
            rule(
                vec![Condition::In(inside("10.20.1.0/24")), Condition::Internal(true)],
                vec![
                    Operation::AddCommunity(Community::Large(64512, 1, 2)),
                    Operation::SetPriority(512),
                    Operation::Prepend(vec!["65001".parse().unwrap(), "65002".parse().unwrap()]),
                ],
                true,
            ),
        ],
        import_v4: vec![
            rule(vec![Condition::PathBegins(vec!["65009".parse().unwrap()])], vec![], false),
            rule(vec![Condition::Community(Community::Large(64512, 1, 2))], vec![], true),
            rule(vec![], vec![], false),
        ],
        ..Filter::default()
    };
    let with = |n: u8| {
        let mut world = peered(n, PeerOptions { filters: vec!["f.1".into()], ..PeerOptions::default() });
        world.filters.insert("f.1".into(), filter.clone());
        world.blocks.insert("10.20.7.0/26".parse().unwrap());
        world
    };
    configure(&a, 1, &with(1));
    configure(&b, 2, &with(2));
    b.wait_for_route("10.20.1.0/26 via 10.9.0.1 dev eth0 metric 512");
    let known = tell(&b, "show route all 10.20.1.0/26\n");
    assert!(known.contains("65001 65002") && known.contains("(64512, 1, 2)"), "{known}");
    // The one block is not told, the other node's is not taken: it has no community.
    assert!(!b.bird_routes().contains("10.20.7.0/26"));
    assert_eq!(a.bird_routes(), "");
}

#[test]
fn a_workload_of_the_node_connects_and_is_heard() {
    if !is_possible() {
        return;
    }
    let (a, b) = pair();
    let without_mesh = ConfigFacts { mesh_enabled: Some(false), ..ConfigFacts::default() };
    let peer = |target| PeerFacts {
        scope: PeerScope::Global,
        target,
        reverse: true,
        options: PeerOptions::default(),
    };
    // What looks like the other node is a workload of this one.
    let mut node = configured(1, false, &without_mesh);
    node.nodes.remove("n2");
    lend(&mut node, "10.9.0.2/32");
    let workload = node.workloads.values_mut().next().unwrap();
    workload.labels.insert("app".into(), "router".into());
    let selector = "app == 'router'".parse().unwrap();
    let asn = "65100".parse().unwrap();
    node.peers.insert("pods".into(), peer(PeerTarget::Workloads { selector, asn }));
    let mut router = configured(2, false, &without_mesh);
    router.nodes.get_mut("n2").unwrap().asn = Some(asn);
    let to =
        PeerTarget::Address { addr: "10.9.0.1".parse().unwrap(), port: None, asn: "64512".parse().unwrap() };
    router.peers.insert("node".into(), peer(to));
    router.nodes.remove("n1");
    configure(&a, 1, &node);
    configure(&b, 2, &router);
    a.wait_for_route("10.20.2.0/26 via 10.9.0.2");
    assert!(a.protocols().iter().any(|p| p.name == "Local_Workload_10_9_0_2" && p.is_established()));
}

#[test]
fn a_member_that_is_away_does_not_hold_up_one_that_was_restarted() {
    if !is_possible() {
        return;
    }
    let (a, b) = pair();
    configure(&a, 1, &world(1, true));
    configure(&b, 2, &world(2, true));
    a.wait_for_route("10.20.2.0/26 via 10.9.0.2");
    b.wait_for_route("10.20.1.0/26 via 10.9.0.1");
    let monitors: Vec<_> = [&a, &b].map(Monitor::spawn).into_iter().collect();
    replace(&a);
    let restarted = Moment::now();
    assert!(recovers(&a));
    let mut changed = world(2, true);
    changed.blocks.insert("10.20.8.0/26".parse().unwrap());
    configure(&b, 2, &changed);
    a.wait_for_route("10.20.8.0/26 via 10.9.0.2");
    let took = restarted.elapsed();
    assert!(took < Duration::from_secs(25), "{took:?}");
    // What was there stayed.
    for monitor in monitors {
        let seen = monitor.end();
        assert!(!seen.contains("Deleted"), "{seen}");
    }
}

#[test]
fn a_second_restart_amid_the_first_keeps_routes_where_it_is_asked_for() {
    if !is_possible() {
        return;
    }
    let (a, b) = pair();
    let config = ConfigFacts { mesh_long_lived: true, ..ConfigFacts::default() };
    configure(&a, 1, &configured(1, true, &config));
    configure(&b, 2, &configured(2, true, &config));
    a.wait_for_route("10.20.2.0/26 via 10.9.0.2");
    b.wait_for_route("10.20.1.0/26 via 10.9.0.1");
    let monitor = Monitor::spawn(&b);
    for _ in 0..2 {
        replace(&a);
        wait_for("the session", || a.established_since().is_some());
        // The dead member keeps it from the end of its recovery, and its peer from the End-of-RIB.
        assert!(recovers(&a));
    }
    wait_for("the end of the recovery", || !recovers(&a));
    assert!(b.bird_routes().contains("10.20.1.0/26 via 10.9.0.1"));
    let seen = monitor.end();
    assert!(!seen.contains("Deleted"), "{seen}");
}
