//! Twelve nodes with two reflectors: how many sessions that makes, what happens when a reflector goes for longer than BGP's
//! timers, and a mesh that becomes a lab with reflectors. Nothing is lost of streams between workloads meanwhile.

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

use bgp::{Stream, assert_nothing_lost, birdcl, is_wanted, kill_bird, sessions, wait_sessions};
use lab::{Lab, until, wait_for};
use packets::{answers, v6};

const NODES: usize = 12;
const REFLECTORS: usize = 2;
const FAMILIES: usize = 2;

/// How long neighbours keep the routes of one that restarts, and how long they wait for a word of one that is silent
/// (BIRD's own times, in seconds).
const RESTART_SECS: u64 = 120;
const HOLD_SECS: u64 = 240;
/// What a busy machine may take beyond that.
const SLACK_SECS: u64 = 60;

fn node(number: usize) -> String {
    format!("node{number}")
}

/// What each node is to have: a reflector a session with everybody else, the others one with each reflector.
fn expected() -> Vec<(String, usize)> {
    let count = |number| if number <= REFLECTORS { NODES - 1 } else { REFLECTORS };
    (1..=NODES).map(|number| (node(number), FAMILIES * count(number))).collect()
}

fn ends(lab: &Lab) -> usize {
    (1..=NODES).map(|number| sessions(lab, &node(number)).len()).sum()
}

/// Streams of both families from node11 to node12.
fn streams(lab: &Lab) -> Vec<Stream> {
    lab.add("a", &["--node", "node11"]);
    let b4 = lab.add("b", &["--node", "node12"]);
    let b6 = v6(lab, "b");
    [b4, b6]
        .iter()
        .map(|address| {
            wait_for("a way from a to b", || answers(lab, "a", address));
            Stream::start(lab, "a", "b", address)
        })
        .collect()
}

/// A node's first workload has it claim a block in each family; both are reached from `a`.
fn claim_and_reach(lab: &Lab, workload: &str, node: &str) {
    let blocks = || birdcl(lab, node, "show route where source = RTS_STATIC").matches("blackhole").count();
    assert_eq!(blocks(), 0, "{node} has no block yet");
    let begun = Instant::now();
    let v4 = lab.add(workload, &["--node", node]);
    for address in [v4, v6(lab, workload)] {
        wait_for("a way to the new block", || answers(lab, "a", &address));
    }
    assert_eq!(blocks(), FAMILIES, "blocks that were claimed meanwhile");
    println!(
        "reflectors: blocks claimed on {node} reached {} ms after ADD began",
        begun.elapsed().as_millis()
    );
}

/// Waits until what node11 was told by a reflector is gone.
fn wait_forgotten(lab: &Lab, reflector: usize, seconds: u64) {
    let begun = Instant::now();
    let names = [format!("Node_10_65_0_{reflector}"), format!("Node_fd65__{reflector}")];
    let forgotten = until(Duration::from_secs(seconds + SLACK_SECS), || {
        let all = birdcl(lab, "node11", "show route");
        !names.iter().any(|name| all.contains(&format!("[{name} ")))
    });
    assert!(forgotten, "{}", birdcl(lab, "node11", "show route"));
    println!("reflectors: node11 forgot what node{reflector} had told after {} s", begun.elapsed().as_secs());
}

#[test]
fn a_reflector_goes_for_longer_than_the_timers() {
    if !is_wanted("a reflector goes") {
        return;
    }
    let Some(lab) = Lab::up("reflectors", &["--topology", "reflectors"]) else { return };
    wait_sessions(&lab, &expected());
    let (mesh, reflected) = (NODES * (NODES - 1) / 2, REFLECTORS * (NODES - REFLECTORS) + 1);
    assert_eq!(ends(&lab), 2 * FAMILIES * reflected);
    println!(
        "reflectors: {NODES} nodes, {REFLECTORS} reflectors: {reflected} sessions in each family; a mesh has {mesh}"
    );
    let streams = streams(&lab);
    let begun = Instant::now();

    // Its processes are killed: neighbours see the connection's end, and keep its routes for the restart time.
    let gone = Instant::now();
    let stopped = lab.stop_agent("node1");
    kill_bird(&lab, "node1");
    claim_and_reach(&lab, "c", "node10");
    wait_forgotten(&lab, 1, RESTART_SECS);
    wait_beyond_timers(gone);
    claim_and_reach(&lab, "d", "node9");
    drop(stopped);
    wait_sessions(&lab, &expected());

    // The whole machine goes without a word: neighbours wait until the hold time has passed since its last one.
    let gone = Instant::now();
    lab.sh("fabric", "ip link set port2 down");
    claim_and_reach(&lab, "e", "node8");
    wait_forgotten(&lab, 2, HOLD_SECS);
    wait_beyond_timers(gone);
    claim_and_reach(&lab, "f", "node7");
    lab.sh("fabric", "ip link set port2 up");
    wait_sessions(&lab, &expected());

    let seconds = begun.elapsed().as_secs();
    println!("reflectors: each was away in turn for {} s, {seconds} s in all", HOLD_SECS.max(RESTART_SECS));
    assert_nothing_lost(streams, 100 * seconds);
}

/// Lets one that is gone stay away for longer than either timer, whatever its neighbours have done by then.
fn wait_beyond_timers(gone: Instant) {
    let longest = Duration::from_secs(HOLD_SECS.max(RESTART_SECS));
    assert!(until(longest, || gone.elapsed() > longest));
}

#[test]
fn a_mesh_moves_to_reflectors() {
    if !is_wanted("a mesh moves to reflectors") {
        return;
    }
    let Some(lab) = Lab::up("moves", &["--nodes", "12"]) else { return };
    let mesh: Vec<_> = (1..=NODES).map(|number| (node(number), FAMILIES * (NODES - 1))).collect();
    wait_sessions(&lab, &mesh);
    let streams = streams(&lab);
    let begun = Instant::now();
    lab.ctl(
        "apply",
        "apiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {name: reflectors}\n\
         spec: {nodeSelector: all(), peerSelector: has(route-reflector)}\n",
    );
    let patch = r#"{"metadata":{"labels":{"route-reflector":"true"}},"spec":{"bgp":{"routeReflectorClusterID":"244.0.0.1"}}}"#;
    for reflector in 1..=REFLECTORS {
        lab.sh("node1", &format!("calicoctl patch node node{reflector} -p '{patch}'"));
        let explicit = |number| {
            sessions(&lab, &node(number)).iter().any(|(n, _)| *n == format!("Node_10_65_0_{reflector}"))
        };
        wait_for("sessions with the reflector", || (1..=NODES).filter(|n| *n != reflector).all(explicit));
        // The mesh of the others stays: everybody still has as many sessions as before.
        wait_sessions(&lab, &mesh);
        println!(
            "reflectors: node{reflector} reflects {} ms after the beginning",
            begun.elapsed().as_millis()
        );
    }
    lab.sh(
        "node1",
        r#"calicoctl patch bgpconfiguration default -p '{"spec":{"nodeToNodeMeshEnabled":false}}'"#,
    );
    wait_sessions(&lab, &expected());
    println!("reflectors: the mesh is gone {} ms after the beginning", begun.elapsed().as_millis());
    assert_nothing_lost(streams, 100);
}
