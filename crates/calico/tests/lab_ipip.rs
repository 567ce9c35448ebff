//! IP in IP on this kernel: where it has none, what the operator is told, and that everything else works. Where it has,
//! `qemu_ipip` says what is to be seen.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says when a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/packets.rs"]
mod packets;

use std::path::Path;

use lab::{Lab, text, wait_for};
use packets::answers;

fn encapsulate(lab: &Lab, ipip: &str, vxlan: &str) {
    let patch = format!("{{\"spec\":{{\"ipipMode\":\"{ipip}\",\"vxlanMode\":\"{vxlan}\"}}}}");
    lab.sh("node1", &format!("calicoctl patch ippool default-ipv4-ippool -p '{patch}'"));
}

#[test]
fn a_kernel_without_ipip_is_told_and_costs_its_tunnels_alone() {
    let Some(lab) = Lab::up("ipip-kernel", &["--nodes", "2"]) else { return };
    let (a, b) = (lab.add("a", &["--node", "node1"]), lab.add("b", &["--node", "node2"]));
    let c = lab.add("c", &["--node", "node1"]);
    wait_for("ways by BGP", || answers(&lab, "a", &b));
    encapsulate(&lab, "Always", "Never");
    let has_tunnel = |node: &str| lab.routes(node).contains("dev tunl0");
    let readiness =
        |node: &str| text(&lab.try_sh(node, "curl -s --max-time 2 http://localhost:9099/readiness").stdout);
    if Path::new("/sys/module/ipip").exists() {
        wait_for("routes through tunnels", || ["node1", "node2"].iter().all(|node| has_tunnel(node)));
        ["node1", "node2"].iter().for_each(|node| lab.wait_ready(node));
        wait_for("an answer", || answers(&lab, "a", &b));
    } else {
        // Both remedies, by name.
        wait_for("the complaint", || {
            let said = readiness("node1");
            said.contains("`modprobe ipip`")
                && said.contains("\"ipipMode\":\"Never\",\"vxlanMode\":\"Always\"")
        });
        println!("{}", readiness("node1"));
        wait_for("the agent's own words", || lab.log("node1").contains("this kernel has no IP in IP"));
        assert!(!has_tunnel("node1"));
        let node = lab.sh("node1", "calicoctl get node node1 -o yaml");
        assert!(!node.contains("ipv4IPIPTunnelAddr"), "others must not count on it: {node}");
        // Policy and routes of workloads go on.
        let d = lab.add("d", &["--node", "node1"]);
        wait_for("ways on the node", || {
            answers(&lab, "a", &c) && answers(&lab, "d", &a) && answers(&lab, "a", &d)
        });
    }
    encapsulate(&lab, "Never", "Always");
    wait_for("routes through VXLAN", || lab.routes("node1").contains("vxlan.calico"));
    ["node1", "node2"].iter().for_each(|node| lab.wait_ready(node));
    wait_for("an answer", || answers(&lab, "a", &b));
}
