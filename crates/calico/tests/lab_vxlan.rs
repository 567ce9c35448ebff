//! VXLAN between real nodes: what is encapsulated and what is not, who may send it, what heals, and that nothing is lost
//! while a pool changes hands.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says when a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/lab.rs"]
mod lab;
#[path = "support/packets.rs"]
mod packets;

use std::process::{Child, Stdio};
use std::time::Duration;

use lab::{Lab, text, until, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use packets::{answers, arrivals, count_arrivals, counted, v6};

/// A pool that changes hands is kept for ten seconds by those who had it.
const HANDOVER: Duration = Duration::from_secs(40);

/// Changes both pools.
fn encapsulate(lab: &Lab, mode: &str) {
    for pool in ["default-ipv4-ippool", "default-ipv6-ippool"] {
        let patch = format!("{{\"spec\":{{\"vxlanMode\":\"{mode}\"}}}}");
        lab.sh("node1", &format!("calicoctl patch ippool {pool} -p '{patch}'"));
    }
}

/// Waits until every node has routes through both of its tunnels.
fn wait_for_tunnels(lab: &Lab, nodes: &[&str]) {
    for node in nodes {
        wait_for("routes through tunnels", || {
            let routes = lab.routes(node);
            ["vxlan.calico", "vxlan-v6.calico"].iter().all(|device| routes.contains(device))
        });
        lab.wait_ready(node);
    }
}

#[test]
fn always_is_encapsulated_and_heals_and_goes() {
    let Some(lab) = Lab::up("vxlan", &["--nodes", "2"]) else { return };
    encapsulate(&lab, "Always");
    wait_for_tunnels(&lab, &["node1", "node2"]);
    let mtu = lab.sh("node1", "cat /var/lib/calico/mtu");
    assert_eq!(mtu.trim(), "1430", "what passes both tunnels");
    let device = lab.sh("node1", "ip -d link show vxlan.calico");
    for part in
        ["66:f9:37:c3:7e:94", "mtu 1450", "id 4096 local 10.65.0.1 dev eth0", "dstport 4789 nolearning"]
    {
        assert!(device.contains(part), "{part} in {device}");
    }
    let offload = lab.sh("node1", "ethtool -k vxlan.calico");
    assert!(offload.contains("tx-checksumming: off"), "{offload}");
    let node = lab.sh("node1", "calicoctl get node node1 -o yaml");
    let has = |field: &str| node.lines().any(|line| line.trim_start().starts_with(field));
    assert!(has("ipv4VXLANTunnelAddr: ") && has("ipv6VXLANTunnelAddr: "), "{node}");
    let leaks = lab.sh("node1", "calicoctl ipam check");
    println!("{leaks}");

    lab.add("a", &["--node", "node1"]);
    let b4 = lab.add("b", &["--node", "node2"]);
    let b6 = v6(&lab, "b");
    assert!(lab.sh("a", "ip link show eth0").contains("mtu 1430"));
    // While a pool changes hands the speaker's routes go on for some seconds.
    for (address, device) in [(&b4, "vxlan.calico"), (&b6, "vxlan-v6.calico")] {
        wait_for("the way through the tunnel", || {
            lab.sh("node1", &format!("ip route get {address}")).contains(&format!("dev {device} "))
        });
    }
    count_arrivals(&lab, "node2", "outer", "udp dport 4789");
    count_arrivals(&lab, "node2", "plain", "iifname eth0 icmp type echo-request");
    for address in [&b4, &b6] {
        wait_for("a way from a to b", || answers(&lab, "a", address));
        // The largest packet that fits.
        lab.sh("a", &format!("ping -c 5 -i 0.05 -W 1 -M do -s 1382 {address}"));
        lab.sh("node1", &format!("ping -c 1 -W 1 {address}"));
    }
    let (outer, plain) = (arrivals(&lab, "node2", "outer"), arrivals(&lab, "node2", "plain"));
    println!("{outer} encapsulated packets, {plain} others");
    assert!(outer >= 12 && plain == 0, "{outer} encapsulated, {plain} not");

    // What others remove comes back: at once for a device, with the next full read for entries.
    lab.sh("node1", "ip link del vxlan.calico");
    wait_for("a device made anew", || answers(&lab, "a", &b4));
    lab.ctl(
        "apply",
        "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\n\
         spec: {routeRefreshInterval: 1s}\n",
    );
    lab.sh(
        "node1",
        "ip neigh flush dev vxlan.calico nud permanent; bridge fdb flush dev vxlan.calico || true",
    );
    wait_for("entries put back", || {
        let fdb = lab.sh("node1", "bridge fdb show dev vxlan.calico");
        fdb.contains("dst 10.65.0.2") && answers(&lab, "a", &b4)
    });

    for node in ["node1", "node2"] {
        let _stopped = lab.stop_agent(node);
        let removed = lab.sh(node, "calico node cleanup");
        assert!(
            removed.contains("device vxlan.calico") && removed.contains("device vxlan-v6.calico"),
            "{removed}"
        );
        let left = lab.sh(node, "ip -o link; ip route; ip -6 route; nft list tables");
        assert!(!left.contains("vxlan") && !left.contains("calico"), "{left}");
    }
}

#[test]
fn cross_subnet_is_encapsulated_only_across_subnets() {
    let Some(lab) = Lab::up("crosssubnet", &["--nodes", "3", "--subnets", "2"]) else { return };
    encapsulate(&lab, "CrossSubnet");
    wait_for_tunnels(&lab, &["node1", "node2", "node3"]);
    lab.add("a", &["--node", "node1"]);
    // node3 is on node1's subnet, node2 is not.
    let (far4, near4) = (lab.add("far", &["--node", "node2"]), lab.add("near", &["--node", "node3"]));
    let (far6, near6) = (v6(&lab, "far"), v6(&lab, "near"));
    let way = |to: &str| lab.sh("node1", &format!("ip route get {to}"));
    for (far, near, through, via) in [
        (&far4, &near4, "dev vxlan.calico", "via 10.65.0.3 dev eth0"),
        (&far6, &near6, "dev vxlan-v6.calico", "via fd65::3 dev eth0"),
    ] {
        wait_for("both ways", || way(far).contains(through) && way(near).contains(via));
    }
    for node in ["node2", "node3"] {
        count_arrivals(&lab, node, "outer", "udp dport 4789");
    }
    for address in [&far4, &far6, &near4, &near6] {
        wait_for("an answer", || answers(&lab, "a", address));
    }
    let (far, near) = (arrivals(&lab, "node2", "outer"), arrivals(&lab, "node3", "outer"));
    println!("{far} encapsulated packets to the other subnet, {near} on the same");
    assert!(far >= 2 && near == 0, "{far} to the other subnet, {near} on the same");

    // The agent's routes between nodes are in the kernel, where BIRD learns them: only who has a block announces it.
    for by in ["10_65_0_1", "10_65_0_3", "fd65__1", "fd65__3"] {
        let line = format!("birdcl -s /run/calico/bird.ctl show route protocol Mesh_{by}");
        let blocks = || {
            let said = lab.sh("node2", &line);
            let first = said.lines().filter_map(|line| line.split(' ').next());
            first.filter(|word| word.starts_with("10.244.") || word.starts_with("fd00:")).count()
        };
        wait_for("a block of each node by the node itself and no other", || blocks() == 1);
    }
}

/// A VXLAN packet as the payload of a UDP one: to `port` of `to` with an inner UDP packet from `from` to 7777 of `inner`.
fn inject(lab: &Lab, place: &str, to: &str, port: u16, mac: &str, from: &str, inner: &str) {
    let bytes =
        |address: &str| -> Vec<u8> { address.split('.').map(|part| part.parse().expect("a byte")).collect() };
    let mut packet = vec![8, 0, 0, 0, 0, 0x10, 0, 0];
    packet.extend(mac.split(':').map(|pair| u8::from_str_radix(pair, 16).expect("a byte")));
    packet.extend([0x66, 0, 0, 0, 0, 0x77, 8, 0]);
    let mut header = vec![0x45, 0, 0, 36, 0, 0, 0x40, 0, 64, 17, 0, 0];
    header.extend(bytes(from));
    header.extend(bytes(inner));
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !(u16::try_from((sum & 0xffff) + (sum >> 16)).expect("few words"));
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(header);
    // Ports, length, no checksum, eight bytes.
    packet.extend([0x1e, 0x61, 0x1e, 0x61, 0, 16, 0, 0]);
    packet.extend(b"injected");
    // In one write, which is one datagram.
    let file = lab.dir().join("packet");
    std::fs::write(&file, &packet).expect("the lab's directory is there");
    lab.sh(place, &format!("exec bash -c 'cat {} > /dev/udp/{to}/{port}'", file.display()));
}

#[test]
fn encapsulated_packets_of_strangers_and_workloads_are_dropped() {
    let Some(lab) = Lab::up("spoof", &["--nodes", "2"]) else { return };
    encapsulate(&lab, "Always");
    wait_for_tunnels(&lab, &["node1", "node2"]);
    let a4 = lab.add("a", &["--node", "node1"]);
    let b4 = lab.add("b", &["--node", "node2"]);
    wait_for("a way from a to b", || answers(&lab, "a", &b4));
    let mac = lab.sh("node2", "cat /sys/class/net/vxlan.calico/address").trim().to_owned();
    count_arrivals(&lab, "b", "inner", "udp dport 7777");
    count_arrivals(&lab, "node2", "outer", "udp dport 4789");
    count_arrivals(&lab, "node2", "control", "udp dport 4790");
    let inner = || arrivals(&lab, "b", "inner");
    let send = |place: &str, to: &str, port: u16| inject(&lab, place, to, port, &mac, &a4, &b4);

    // The control: from a node the very packet passes.
    send("node1", "10.65.0.2", 4789);
    wait_for("the genuine packet", || inner() == 1);

    // A stranger's arrives at the node and no further.
    let before = (arrivals(&lab, "node2", "outer"), counted(&lab, "node2", "VXLAN from elsewhere"));
    send("fabric", "10.65.0.2", 4789);
    wait_for("the stranger's packet", || arrivals(&lab, "node2", "outer") == before.0 + 1);
    wait_for("its end", || counted(&lab, "node2", "VXLAN from elsewhere") == before.1 + 1);

    // A workload's does not leave its node; to another port the same packet does.
    let before = (arrivals(&lab, "node2", "outer"), counted(&lab, "node1", "Workloads may not send VXLAN"));
    send("a", "10.65.0.2", 4789);
    wait_for("its end", || counted(&lab, "node1", "Workloads may not send VXLAN") == before.1 + 1);
    send("a", "10.65.0.2", 4790);
    wait_for("the control", || arrivals(&lab, "node2", "control") == 1);
    // To its own node neither: its address is no node's.
    let refused = counted(&lab, "node1", "VXLAN from elsewhere");
    send("a", "10.65.0.1", 4789);
    wait_for("its end at its own node", || counted(&lab, "node1", "VXLAN from elsewhere") == refused + 1);
    assert_eq!(arrivals(&lab, "node2", "outer"), before.0);

    send("node1", "10.65.0.2", 4789);
    wait_for("the genuine packet after all of them", || inner() == 2);
}

/// A stream of pings that counts.
struct Stream {
    child: Child,
    pid_file: std::path::PathBuf,
}

impl Stream {
    fn start(lab: &Lab, from: &str, to: &str) -> Stream {
        let pid_file = lab.dir().join(format!("ping-{}.pid", to.replace(':', "-")));
        let line = format!("echo $$ > {}; exec ping -q -i 0.01 {to}", pid_file.display());
        let child = lab.command(from, &line).stdout(Stdio::piped()).spawn().expect("ping");
        wait_for("ping's pid", || std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')));
        Stream { child, pid_file }
    }

    /// Ends it; its summary.
    fn finish(self) -> String {
        let pid = std::fs::read_to_string(&self.pid_file).expect("ping's pid");
        kill(Pid::from_raw(pid.trim().parse().expect("a number")), Signal::SIGINT).expect("ping lives");
        let output = self.child.wait_with_output().expect("ping's summary");
        text(&output.stdout)
    }
}

#[test]
fn a_pool_changes_hands_and_agents_die_without_a_packet_lost() {
    let nodes = ["node1", "node2"];
    let Some(lab) = Lab::up("handover", &["--nodes", "2"]) else { return };
    lab.add("a", &["--node", "node1"]);
    let b4 = lab.add("b", &["--node", "node2"]);
    let b6 = v6(&lab, "b");
    for address in [&b4, &b6] {
        wait_for("a way by BGP", || answers(&lab, "a", address));
    }
    let streams = [&b4, &b6].map(|to| Stream::start(&lab, "a", to));
    let routed = |by: &str, not_by: &str| {
        let all = |node: &&str| {
            let routes = lab.routes(node);
            let between: Vec<&str> =
                routes.lines().filter(|l| l.contains("via") && !l.contains("default")).collect();
            between.iter().filter(|l| l.contains(by)).count() >= 2
                && !between.iter().any(|l| l.contains(not_by))
        };
        nodes.iter().all(all)
    };
    assert!(until(HANDOVER, || routed("proto bird", "calico")), "by BGP at first");
    for round in 0..2 {
        encapsulate(&lab, "Always");
        assert!(until(HANDOVER, || routed(".calico", "proto bird")), "round {round}: through tunnels alone");
        encapsulate(&lab, "Never");
        let without_devices = || nodes.iter().all(|node| !lab.sh(node, "ip -o link").contains("calico"));
        assert!(
            until(HANDOVER, || routed("proto bird", "calico") && without_devices()),
            "round {round}: by BGP"
        );
        wait_for("tunnel addresses given back", || {
            !lab.sh("node1", "calicoctl get node -o yaml").contains("VXLANTunnelAddr")
        });
    }
    encapsulate(&lab, "Always");
    assert!(until(HANDOVER, || routed(".calico", "proto bird")), "through tunnels alone");
    for _ in 0..2 {
        for node in nodes {
            lab.kill_agent(node);
            lab.wait_quiet(node);
        }
    }
    for summary in streams.map(Stream::finish) {
        println!("{summary}");
        assert!(summary.contains(" 0% packet loss"), "{summary}");
    }
}
