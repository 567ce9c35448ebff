//! What an earlier agent, or another Calico, left in the kernel: adopted, and what does not fit removed once everything
//! of ours stands.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says when a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/lab.rs"]
mod lab;

use std::time::Duration;

use lab::{Lab, made_by_somebody, text, until, wait_for};

/// What another Calico leaves, in all of its modes; and what looks like it and is not.
const LEFTOVERS: &str = r#"
nft -f - <<'END'
table ip calico {
    set cali40s-x {
        type ipv4_addr
        elements = { 10.1.1.1 }
    }
    chain filter-cali-FORWARD { ip saddr @cali40s-x drop; }
    chain filter-FORWARD { type filter hook forward priority filter; policy accept; jump filter-cali-FORWARD; }
}
table ip6 calico {
    chain filter-FORWARD { type filter hook forward priority filter; policy accept; }
}
END
ipset create cali40s:abc hash:ip
ipset create cali60all-ipam-pools hash:net family inet6
for program in iptables-legacy iptables-nft ip6tables-nft; do
    $program -N cali-FORWARD
    $program -N cali-from-wl-dispatch
    $program -A FORWARD -m comment --comment cali:wUHhoiAYhphO9Mso -j cali-FORWARD
    $program -A FORWARD -p tcp --dport 22 -j ACCEPT
    $program -A cali-FORWARD -j cali-from-wl-dispatch
done
iptables-legacy -A cali-FORWARD -m set --match-set cali40s:abc src -j DROP
ip route add 10.99.0.0/26 via 10.65.0.254 proto 80
ip route add blackhole 10.98.0.0/26 proto 80
"#;

/// Who is there of them.
const LOOK: &str = "nft list tables | grep -E 'ip6? calico'; ipset list -name; \
    for s in iptables-legacy-save iptables-nft-save ip6tables-nft-save; do $s | grep cali; done; \
    ip route | grep -E '10.9[89]'; true";

#[test]
fn another_calicos_leftovers_go_once_ours_stand() {
    // A marker in the kernel's own order: the monitor prints transactions as they are committed.
    let before =
        format!("{LEFTOVERS}\n(nft monitor > /run/nft-monitor 2>&1 & echo $! > /run/nft-monitor.pid)\n");
    let Some(lab) = Lab::up("leftovers", &["--nodes", "1", "--before", &before]) else { return };
    let mut left = String::new();
    let gone = until(Duration::from_secs(10), || {
        left = lab.sh("node1", LOOK);
        left.is_empty()
    });
    assert!(gone, "left:\n{left}");
    for program in ["iptables-legacy", "iptables-nft", "ip6tables-nft"] {
        assert!(lab.sh("node1", &format!("{program}-save")).contains("--dport 22"), "{program}");
    }
    // Nothing of theirs went before everything of ours was there.
    let log = lab.sh("node1", "kill $(cat /run/nft-monitor.pid); cat /run/nft-monitor");
    let lines: Vec<&str> = log.lines().collect();
    let theirs = lines.iter().position(|l| l.starts_with("delete table ip calico")).expect(&log);
    let ours = lines.iter().rposition(|l| l.starts_with("add rule inet calico")).expect(&log);
    assert!(ours < theirs, "theirs went in line {theirs}, ours stood in line {ours}");
}

#[test]
fn a_killed_agent_leaves_nothing_to_do() {
    let Some(lab) = Lab::up("restart", &["--nodes", "1"]) else { return };
    lab.add("a", &["--node", "node1", "--label", "app=a"]);
    lab.add("b", &["--node", "node1", "--label", "app=b"]);
    lab.ctl("apply", POLICY);
    wait_for("the policy", || lab.metrics("node1")["felix_active_local_policies"] == 1.0);
    lab.wait_quiet("node1");
    let (tables, routes) = (lab.tables("node1"), lab.routes("node1"));
    assert!(tables.contains("dport"), "{tables}");
    let counted = lab.sh("node1", "nft list table inet calico | grep -c counter");
    lab.sh("node1", "nohup ip monitor route > /run/routes 2>&1 & echo $! > /run/routes.pid");
    for _ in 0..3 {
        lab.kill_agent("node1");
        lab.wait_quiet("node1");
        let metrics = lab.metrics("node1");
        // Claiming the two tables is all.
        assert!(metrics["felix_nft_operations_total"] <= 2.0, "{metrics:?}\n{}", lab.log("node1"));
        assert_eq!(metrics["felix_route_table_changes_total"], 0.0, "{}", lab.log("node1"));
        assert_eq!((lab.tables("node1"), lab.routes("node1")), (tables.clone(), routes.clone()));
    }
    let events = lab.sh("node1", "kill $(cat /run/routes.pid); cat /run/routes");
    let changed: Vec<&str> = made_by_somebody(&events).collect();
    assert!(changed.is_empty(), "routes changed: {changed:?}");
    assert_eq!(lab.sh("node1", "nft list table inet calico | grep -c counter"), counted);

    // A fresh start on an empty kernel comes to the same.
    let stopped = lab.stop_agent("node1");
    lab.sh("node1", "calico node cleanup");
    drop(stopped);
    lab.wait_ready("node1");
    wait_for("the same tables", || lab.tables("node1") == tables);
    wait_for("the same routes", || lab.routes("node1") == routes);
}

const POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: a-from-b}
spec:
  selector: app == 'a'
  types: [Ingress, Egress]
  ingress:
  - {action: Allow, protocol: TCP, source: {selector: app == 'b'}, destination: {ports: [80, '8000:8100']}}
  - {action: Deny, source: {nets: [10.1.0.0/16, 192.0.2.1/32]}}
  - {action: Deny, source: {nets: ['fd00:99::/64']}}
  egress:
  - {action: Allow}
";

#[test]
fn an_interface_that_goes_takes_its_route_and_file_and_brings_them_back() {
    let Some(lab) = Lab::up("veth", &["--nodes", "1"]) else { return };
    let address = lab.add("a", &["--node", "node1"]);
    let name = lab.sh("node1", "ls /sys/class/net | grep cali").trim().to_owned();
    let state = || {
        let files = lab.sh("node1", "ls /run/calico/endpoint-status");
        let route = lab.sh("node1", &format!("ip route show {address}"));
        (!files.is_empty(), !route.is_empty())
    };
    wait_for("a route and a file", || state() == (true, true));
    lab.sh("node1", &format!("ip link set {name} down"));
    wait_for("no route and no file while it is down", || state() == (false, false));
    lab.sh("node1", &format!("ip link set {name} up"));
    wait_for("both back when it is up", || state() == (true, true));
    lab.sh("node1", &format!("ip link del {name}"));
    wait_for("no route and no file without it", || state() == (false, false));
    lab.sh(
        "node1",
        &format!(
            "ip link add {name} type veth peer name peer0 && ip link set peer0 up && ip link set {name} up"
        ),
    );
    wait_for("both back with a new interface of the name", || state() == (true, true));
    let neighbours = format!("ip neigh show dev {name} nud permanent");
    wait_for("its neighbour too", || lab.sh("node1", &neighbours).contains(&address));
    lab.sh("node1", "ip link del peer0");
    wait_for("no route and no file at the end", || state() == (false, false));
    let problems = lab.try_sh("node1", "curl -sf http://localhost:9099/readiness");
    assert!(problems.status.success(), "{}", text(&problems.stdout));
}
