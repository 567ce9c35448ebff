//! A running mesh becomes route reflectors, and then a mesh again, and no packet is lost.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says when a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/lab.rs"]
mod lab;

use std::process::{Child, Stdio};

use lab::{Lab, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const NODES: [&str; 4] = ["node1", "node2", "node3", "node4"];

/// A ping that goes on until it is asked for its summary.
struct Stream {
    name: String,
    child: Child,
}

impl Stream {
    fn start(lab: &Lab, from: &str, to: &str) -> Stream {
        let name = format!("{from}-{to}");
        let line = format!("echo $$ > {}/ping-{name}.pid; exec ping -q -i 0.01 {to}", lab.dir().display());
        let child = lab.command(from, &line).stdout(Stdio::piped()).spawn().expect("ping");
        Stream { name, child }
    }

    /// Ends it; nothing may be lost.
    fn finish(self, lab: &Lab) {
        let path = lab.dir().join(format!("ping-{}.pid", self.name));
        let pid = std::fs::read_to_string(path).expect("ping's pid");
        kill(Pid::from_raw(pid.trim().parse().expect("a number")), Signal::SIGINT).expect("ping lives");
        let output = self.child.wait_with_output().expect("ping's summary");
        let summary = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{}: {summary}", self.name);
        assert!(summary.contains(" 0% packet loss"), "{}: {summary}", self.name);
    }
}

/// The sessions of a node: their types, and whether all are up.
fn sessions(lab: &Lab, node: &str) -> (Vec<String>, bool) {
    let status: Value =
        serde_json::from_str(&lab.sh(node, "calicoctl node status -o json")).expect("one document");
    let peers = status["peers"].as_array().expect("a list");
    let kinds = peers.iter().map(|peer| peer["type"].as_str().expect("a word").to_owned()).collect();
    (kinds, peers.iter().all(|peer| peer["bgpState"] == "Established"))
}

fn patch(lab: &Lab, kind: &str, name: &str, patch: &str) {
    lab.sh("node1", &format!("calicoctl patch {kind} {name} -p '{patch}'"));
}

#[test]
fn from_a_mesh_to_reflectors_and_back_without_a_packet_lost() {
    let Some(lab) = Lab::up("reflectors", &["--nodes", "4"]) else { return };
    lab.add("on-reflector", &["--node", "node1"]);
    lab.add("a", &["--node", "node3"]);
    let b = lab.add("b", &["--node", "node4"]);
    for from in ["on-reflector", "a"] {
        wait_for("a way to b", || lab.try_sh(from, &format!("ping -c 1 -W 1 {b}")).status.success());
    }
    let streams = ["on-reflector", "a"].map(|from| Stream::start(&lab, from, &b));

    let said = lab.sh("node4", "calicoctl bgp make-reflectors node1,node2 --timeout 60");
    println!("{said}");
    assert!(said.contains("Done: 4 node(s), 2 of them reflectors, 0 in the mesh: 10 session(s)"), "{said}");
    // In both families.
    for (node, expected) in NODES.into_iter().zip([6, 6, 4, 4]) {
        let (kinds, all_up) = sessions(&lab, node);
        assert!(all_up && kinds == vec!["node specific"; expected], "{node}: {kinds:?}");
    }
    assert!(lab.sh("node1", "calicoctl get caliconodestatuses -o json").contains("\"items\": []"));
    answers_of_a_node(&lab, &b);

    // Back, as the book says.
    let mark = r#"{"metadata":{"annotations":{"calico-rs/keep-mesh":"true"}}}"#;
    ["node1", "node2"].iter().for_each(|node| patch(&lab, "node", node, mark));
    patch(&lab, "bgpconfiguration", "default", r#"{"spec":{"nodeToNodeMeshEnabled":true}}"#);
    wait_for("the mesh beside the reflectors", || {
        NODES.iter().all(|node| {
            let (kinds, all_up) = sessions(&lab, node);
            all_up && kinds.iter().filter(|kind| *kind == "node-to-node mesh").count() == 6
        })
    });
    lab.sh("node1", "calicoctl delete bgppeer route-reflectors route-reflectors-244-0-0-1");
    let unmark = r#"{"metadata":{"annotations":{"calico-rs/keep-mesh":null},"labels":{"route-reflector":null}},"spec":{"bgp":{"routeReflectorClusterID":null}}}"#;
    ["node1", "node2"].iter().for_each(|node| patch(&lab, "node", node, unmark));
    wait_for("the mesh alone", || {
        NODES.iter().all(|node| {
            let (kinds, all_up) = sessions(&lab, node);
            all_up && kinds == vec!["node-to-node mesh"; 6]
        })
    });
    assert!(lab.sh("node1", "calicoctl bgp plan").contains("No warnings."));
    streams.into_iter().for_each(|stream| stream.finish(&lab));
}

/// What a node says of itself, in each of the ways to ask it.
fn answers_of_a_node(lab: &Lab, b: &str) {
    let wide = lab.sh("node3", "calicoctl node status -o wide");
    assert!(wide.contains("OUT FILTERED") && wide.contains("64512"), "{wide}");

    let metrics = lab.metrics("node3");
    let of_peers = |name: &str| -> Vec<f64> {
        metrics
            .iter()
            .filter(|(series, _)| series.starts_with(&format!("{name}{{")))
            .map(|(_, v)| *v)
            .collect()
    };
    assert_eq!(of_peers("calico_bgp_peer_established"), [1.0; 4], "{metrics:?}");
    assert!(of_peers("calico_bgp_peer_prefixes_imported").iter().all(|n| *n > 0.0), "{metrics:?}");

    lab.ctl(
        "apply",
        "apiVersion: projectcalico.org/v3\nkind: CalicoNodeStatus\nmetadata: {name: node3}\n\
         spec: {node: node3, classes: [Agent, BGP, Routes], updatePeriodSeconds: 1}\n",
    );
    let mut status = Value::Null;
    wait_for("an answer", || {
        let text = lab.sh("node1", "calicoctl get caliconodestatus node3 -o json");
        status = serde_json::from_str::<Value>(&text).expect("one document")["status"].take();
        status["lastUpdated"].is_string()
    });
    println!("{status:#}");
    assert_eq!(status["agent"]["birdV4"]["state"], "Ready");
    assert_eq!(status["bgp"]["numberEstablishedV4"], 2);
    assert_eq!(status["bgp"]["peersV4"][0]["type"], "NodePeer");
    let routes = status["routes"]["routesV4"].as_array().expect("routes");
    let learned = |route: &&Value| route["type"] == "FIB" && route["learnedFrom"]["sourceType"] == "BGPPeer";
    assert!(routes.iter().find(learned).is_some_and(|route| route["gateway"].is_string()), "{routes:?}");
    lab.sh("node1", "calicoctl delete caliconodestatus node3");

    // The block of b, of which its address tells.
    let why = |node: &str, prefix: &str| {
        let output = lab.try_sh(node, &format!("calicoctl bgp why {prefix} -o json"));
        let text = String::from_utf8(output.stdout).expect("text");
        (serde_json::from_str::<Value>(&text).expect("one document"), output.status.code())
    };
    let (address, code) = why("node4", b);
    assert_eq!((address["origin"]["kind"].as_str(), code), (Some("InOwnBlock"), Some(0)), "{address:#}");
    let block = address["origin"]["block"].as_str().expect("a block");
    let (own, code) = why("node4", block);
    assert_eq!((own["askedBIRD"].as_bool(), code), (Some(true), Some(0)));
    let all_yes = |why: &Value| why["announced"].as_array().expect("peers").iter().all(|p| p["yes"] == true);
    assert!(all_yes(&own), "{own:#}");
    let (learned, code) = why("node3", block);
    assert_eq!((learned["installed"]["yes"].as_bool(), code), (Some(true), Some(0)), "{learned:#}");
    assert!(!all_yes(&learned), "a client tells nobody of it: {learned:#}");
    let (reflected, _) = why("node1", block);
    let to_node3 = reflected["announced"].as_array().expect("peers").iter().find(|p| p["node"] == "node3");
    assert!(to_node3.is_some_and(|p| p["yes"] == true), "{reflected:#}");
    let (unknown, code) = why("node3", "203.0.113.0/24");
    assert_eq!((unknown["outcome"].as_str(), code), (Some("Unknown"), Some(3)));
}
