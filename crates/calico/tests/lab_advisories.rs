//! The advisories of Calico's past: what a workload or a stranger may not do to a node, each beside a control that shows
//! that the test would see it. Injected VXLAN is in `lab_vxlan`; what concerns one crate alone is beside that crate. The
//! table of all of them is in `docs/test-results.md`.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says when a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "lab_advisories/files.rs"]
mod files;
#[path = "lab_advisories/floating.rs"]
mod floating;
#[path = "lab_advisories/ip_in_ip.rs"]
mod ip_in_ip;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/packets.rs"]
mod packets;
#[path = "lab_advisories/router.rs"]
mod router;
#[path = "lab_advisories/silence.rs"]
mod silence;

use std::fs::File;
use std::path::PathBuf;

use lab::Lab;
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

/// The process that holds the network of a node, of a workload or of the fabric.
fn holder(lab: &Lab, place: &str) -> i32 {
    let state = std::fs::read(lab.dir().join("state.json")).expect("the lab's state");
    let state: Value = serde_json::from_slice(&state).expect("JSON");
    let node = state["nodes"].as_array().expect("nodes").iter().find(|node| node["name"] == place);
    let pid = match (place, node) {
        ("fabric", _) => &state["fabric_pid"],
        (_, Some(node)) => &node["init_pid"],
        (workload, None) => &state["workloads"][workload]["pid"],
    };
    i32::try_from(pid.as_i64().expect("a pid")).expect("a pid")
}

/// Does something in the network of a place: its sockets stay there.
fn within<T: Send>(lab: &Lab, place: &str, action: impl FnOnce() -> T + Send) -> T {
    let network = PathBuf::from(format!("/proc/{}/ns/net", holder(lab, place)));
    let there = || {
        let network = File::open(network).expect("the place is there");
        // For this thread alone.
        setns(network, CloneFlags::CLONE_NEWNET).expect("a lab needs root");
        action()
    };
    std::thread::scope(|scope| scope.spawn(there).join().expect("done"))
}

/// The host's interface of the only workload of a node, or of that with this address.
fn interface_to(lab: &Lab, node: &str, address: &str) -> String {
    let route = lab.sh(node, &format!("ip route get {address}"));
    route.split_whitespace().skip_while(|word| *word != "dev").nth(1).expect("a device").to_owned()
}
