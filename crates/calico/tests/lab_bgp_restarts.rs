//! Restarts in a mesh of twelve nodes: how long the first and the last route take with a third of the mesh away, and what
//! two restarts in a row cost, the second after or before the node's End-of-RIB.

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

use std::time::{Duration, Instant};

use bgp::{
    CONVERGENCE, Seen, Stream, assert_nothing_lost, birdcl, is_wanted, keeps_for_others, kill_bird, recovers,
    sessions, wait_sessions,
};
use lab::{Lab, until, wait_for};
use packets::{answers, v6};

const NODES: usize = 12;
/// A third of the mesh: node9 to node12.
const LOST: std::ops::RangeInclusive<usize> = 9..=12;
/// The node that claims its first block later.
const LATE: usize = 8;
const FAMILIES: usize = 2;
/// How long a restarted daemon waits for neighbours that stay away.
const RECOVERY: Duration = Duration::from_secs(11);
/// What a busy machine may take beyond that.
const SLACK: Duration = Duration::from_secs(60);

fn node(number: usize) -> String {
    format!("node{number}")
}

/// A mesh in which every node has a block in each family, but for node8.
fn mesh(name: &str) -> Option<Lab> {
    let lab = Lab::up(name, &["--nodes", "12"])?;
    for number in (1..=NODES).filter(|number| *number != LATE) {
        lab.add(&format!("w{number}"), &["--node", &node(number)]);
    }
    let all: Vec<_> = (1..=NODES).map(|number| (node(number), FAMILIES * (NODES - 1))).collect();
    wait_sessions(&lab, &all);
    wait_for("routes to every node", || routes(&lab) == FAMILIES * (NODES - 2));
    Some(lab)
}

/// How many routes of BIRD's node1 has in its kernel.
fn routes(lab: &Lab) -> usize {
    lab.sh("node1", "ip route show proto bird; ip -6 route show proto bird").lines().count()
}

/// The milliseconds until node1 has `first` and `last` routes of BIRD's.
fn time_routes(lab: &Lab, begun: Instant, last: usize) -> (u128, u128) {
    let mut first = None;
    let complete = until(RECOVERY + SLACK, || {
        let count = routes(lab);
        if count > 0 {
            first.get_or_insert(begun.elapsed().as_millis());
        }
        count == last
    });
    assert!(complete, "{} of {last} routes\n{}", routes(lab), birdcl(lab, "node1", "show protocols"));
    (first.expect("there are some"), begun.elapsed().as_millis())
}

/// node1's BIRD, killed and up again: not yet through with its recovery.
fn restart_bird(lab: &Lab) {
    let pid = || lab.sh("node1", "cat /run/calico/bird.pid");
    let before = pid();
    kill_bird(lab, "node1");
    let is_new =
        until(Duration::from_secs(20), || pid() != before && !birdcl(lab, "node1", "show status").is_empty());
    assert!(is_new, "{}", lab.log("node1"));
}

/// Waits until node1 has recovered, and nobody keeps its routes for it any longer.
fn wait_recovered(lab: &Lab) {
    let recovered = until(RECOVERY + SLACK, || !recovers(lab, "node1"));
    assert!(recovered, "{}", birdcl(lab, "node1", "show status"));
    let trusted = until(SLACK, || !keeps_for_others(lab, "node2"));
    assert!(trusted, "{}", birdcl(lab, "node2", "show protocols all"));
}

#[test]
fn a_node_restarts_while_a_third_of_the_mesh_is_away() {
    if !is_wanted("restarts in a mesh") {
        return;
    }
    let Some(lab) = mesh("third") else { return };
    // Neither itself nor the one without a block.
    let expected = FAMILIES * (NODES - LOST.count() - 2);
    for number in LOST {
        lab.sh("fabric", &format!("ip link set port{number} down"));
    }

    // A machine that boots: nothing in its kernel, nothing in /run.
    let stopped = lab.stop_agent("node1");
    kill_bird(&lab, "node1");
    lab.sh("node1", "ip route flush proto bird; ip -6 route flush proto bird; rm -f /run/calico/bird.*");
    assert_eq!(routes(&lab), 0);
    let begun = Instant::now();
    drop(stopped);
    let (first, last) = time_routes(&lab, begun, expected);
    println!(
        "restarts: node1 boots, 4 of 11 peers away: first route after {first} ms, last of {expected} after {last} ms"
    );
    wait_recovered(&lab);

    // A daemon that is started again amid its routes: those stay. What is new meanwhile waits for its recovery.
    let streams =
        [("w2", "w1"), ("w1", "w2")].map(|(from, to)| Stream::start(&lab, from, to, &v6(&lab, to))).into();
    let begun = Instant::now();
    restart_bird(&lab);
    lab.add("late", &["--node", &node(LATE)]);
    let added = Instant::now();
    let least = std::cell::Cell::new(expected);
    let complete = until(RECOVERY + SLACK, || {
        let count = routes(&lab);
        least.set(least.get().min(count));
        count == expected + FAMILIES
    });
    assert!(complete, "{}", birdcl(&lab, "node1", "show protocols"));
    assert_eq!(least.get(), expected, "routes were forgotten meanwhile");
    println!(
        "restarts: node1's BIRD alone, 4 of 11 peers away: its {expected} routes stay; one claimed {} ms after the kill \
         is there {} ms after its ADD",
        (added - begun).as_millis(),
        added.elapsed().as_millis()
    );
    wait_recovered(&lab);
    println!("restarts: node1 recovered {} ms after the kill", begun.elapsed().as_millis());
    assert_nothing_lost(streams, 100);
}

#[test]
fn two_restarts_in_a_row() {
    if !is_wanted("two restarts in a row") {
        return;
    }
    let Some(lab) = mesh("twice") else { return };
    let (there, back) = (v6(&lab, "w1"), v6(&lab, "w2"));
    for (from, address) in [("w2", &there), ("w1", &back)] {
        wait_for("a way", || answers(&lab, from, address));
    }
    let streams = || vec![Stream::start(&lab, "w2", "w1", &there), Stream::start(&lab, "w1", "w2", &back)];

    let running = streams();
    for _ in 0..2 {
        restart_bird(&lab);
        wait_recovered(&lab);
    }
    println!("restarts: twice, the second after End-of-RIB");
    assert_nothing_lost(running, 100);

    println!("restarts: twice, the second before End-of-RIB");
    // The neighbours must forget (RFC 4724, 4.2), and learn it all again.
    for seen in before_end_of_rib(&lab, streams()) {
        assert!(seen.lost < seen.sent && seen.tcp_missing == 0, "{seen:?}");
    }

    let patch = r#"{"metadata":{"annotations":{"calico-rs/long-lived-graceful-restart":"true"}}}"#;
    lab.sh("node1", &format!("calicoctl patch bgpconfiguration default -p '{patch}'"));
    let is_long_lived = |number| {
        let session = birdcl(&lab, &node(number), "show protocols all");
        session.matches("LL stale time").count() >= 2 * FAMILIES * (NODES - 1)
    };
    assert!(
        until(CONVERGENCE, || (1..=2).all(is_long_lived)),
        "{}",
        birdcl(&lab, "node2", "show protocols all Mesh_10_65_0_1")
    );
    let all: Vec<_> = (1..=NODES).map(|number| (node(number), FAMILIES * (NODES - 1))).collect();
    wait_sessions(&lab, &all);
    println!("restarts: the same with long-lived graceful restart (RFC 9494)");
    for seen in before_end_of_rib(&lab, streams()) {
        assert_eq!((seen.lost, seen.tcp_missing), (0, 0), "{seen:?}");
    }
}

/// Kills node1's BIRD twice, the second time when node2 has its session again and node1 has not told it all; what was lost.
fn before_end_of_rib(lab: &Lab, running: Vec<Stream>) -> Vec<Seen> {
    wait_recovered(lab);
    restart_bird(lab);
    let is_node2 = |(name, state): &(String, String)| name == "Mesh_fd65__2" && state == "Established";
    let early = until(SLACK, || sessions(lab, "node1").iter().any(is_node2));
    assert!(early && recovers(lab, "node1"), "{}", birdcl(lab, "node1", "show protocols"));
    restart_bird(lab);
    wait_recovered(lab);
    for (from, to) in [("w2", "w1"), ("w1", "w2")] {
        wait_for("a way again", || answers(lab, from, &v6(lab, to)));
    }
    running.into_iter().map(Stream::finish).collect()
}
