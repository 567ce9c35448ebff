//! Two racks, an AS each, whose routers are not ours: every node speaks with its rack's router alone, in both families;
//! workloads of both racks reach one another, and go on while a router's daemons are killed and come back.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says, and how long it took")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/bgp.rs"]
mod bgp;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/packets.rs"]
mod packets;

use bgp::{
    Stream, assert_nothing_lost, block, is_wanted, kill_bird, router, router_sessions, told, wait_router,
    wait_sessions,
};
use lab::{Lab, until, wait_for};
use packets::{answers, v6};

/// A router's sessions: with the other router and with two nodes, in two families.
const ROUTER_SESSIONS: usize = 6;

#[test]
fn racks_of_frr() {
    racks("frr");
}

#[test]
fn racks_of_bird() {
    racks("bird");
}

fn racks(daemon: &str) {
    if !is_wanted("racks") {
        return;
    }
    let name = format!("racks-{daemon}");
    let Some(lab) = Lab::up(&name, &["--topology", "racks", "--router", daemon]) else { return };
    let nodes = ["node1", "node2", "node3", "node4"];
    let expected = nodes.map(|node| (node.to_owned(), 2));
    wait_sessions(&lab, &expected);
    for name in ["router1", "router2"] {
        wait_router(&lab, name, ROUTER_SESSIONS);
    }
    // node1 and node3 are in one rack.
    let a4 = lab.add("a", &["--node", "node1"]);
    let b4 = lab.add("b", &["--node", "node2"]);
    let c4 = lab.add("c", &["--node", "node3"]);
    let [a6, b6, c6] = ["a", "b", "c"].map(|workload| v6(&lab, workload));
    for (from, to) in
        [("a", &b4), ("a", &b6), ("a", &c4), ("a", &c6), ("b", &a4), ("b", &a6), ("c", &b4), ("c", &b6)]
    {
        wait_for(&format!("a way from {from} to {to}"), || answers(&lab, from, to));
    }

    // On the wire: the other rack's router hears of node1's blocks over the first's AS and the nodes'.
    for (family, from) in [(false, "10.65.0.1"), (true, "fd65::1")] {
        let block = block(&lab, "node1", family);
        let ways = told(&lab, "router2", &block);
        let way =
            ways.iter().find(|[teller, _, _]| teller == from).unwrap_or_else(|| panic!("{block}: {ways:?}"));
        assert_eq!(way[2], "64701 64601", "{block}: {ways:?}");
        println!("racks {daemon}: router2 heard of {block} from {from} by AS path {}", way[2]);
    }
    // Within a rack the router tells the way and is not on it. (FRR gives its own link address with IPv6's, so there it is.)
    let neighbours = [(&c4, "10.65.1.3"), (&c6, "fd65:0:0:1::3")];
    for (to, via) in neighbours.into_iter().filter(|(to, _)| daemon != "frr" || to.contains('.')) {
        let way = lab.sh("node1", &format!("ip route get {to}"));
        assert!(way.contains(&format!("via {via} ")), "{way}");
    }

    let streams = [&b4, &b6].map(|address| Stream::start(&lab, "a", "b", address)).into();
    router(&lab, &["kill", "router1"]);
    // The other router has noticed.
    let noticed = || {
        router_sessions(&lab, "router2")
            .iter()
            .any(|(peer, state)| peer == "10.65.0.1" && state != "Established")
    };
    assert!(until(bgp::CONVERGENCE, noticed), "{:?}", router_sessions(&lab, "router2"));
    router(&lab, &["start", "router1"]);
    for name in ["router1", "router2"] {
        wait_router(&lab, name, ROUTER_SESSIONS);
    }
    wait_sessions(&lab, &expected);
    kill_bird(&lab, "node2");
    wait_router(&lab, "router2", ROUTER_SESSIONS);
    wait_sessions(&lab, &expected);
    println!("racks {daemon}: router1's daemons and node2's BIRD were killed and came back");
    assert_nothing_lost(streams, 100);
    let status = lab.lab(&["status"]).output().expect("calico lab status");
    println!("{}", lab::text(&status.stdout));
}
