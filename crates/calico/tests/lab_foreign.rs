//! What is not ours stays byte for byte, whatever happens to what is ours; what is ours heals, and goes with cleanup.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says when a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/lab.rs"]
mod lab;

use lab::{Lab, text, wait_for};

/// What an administrator and other programs may have: tables, and chains on the hooks and at the priorities that we use.
const FOREIGN_TABLES: &str = r#"
nft -f - <<'END'
table inet admin {
    set friends { type ipv4_addr; flags interval; elements = { 192.0.2.0/24 } }
    chain forward { type filter hook forward priority filter; policy accept; ip saddr @friends tcp dport 22 accept comment "cali-like"; }
    chain prerouting { type filter hook prerouting priority raw; policy accept; }
    chain mangle { type filter hook prerouting priority mangle; policy accept; }
    chain nat { type nat hook postrouting priority srcnat; policy accept; ip saddr 203.0.113.7 masquerade; }
    chain input { type filter hook input priority filter - 1; policy accept; }
    chain output { type filter hook output priority filter; policy accept; }
}
table ip calicodocs {
    chain cali-x { accept; }
}
table bridge calico {
    chain forward { accept; }
}
table arp admin {
    chain input { type filter hook input priority filter; policy accept; }
}
END
iptables-nft -A FORWARD -s 198.51.100.0/24 -m comment --comment "california" -j ACCEPT
"#;

/// The rest: an ipset, routes, rules, neighbours, an interface.
const FOREIGN_REST: &str = r#"
ipset create california hash:ip
ipset add california 198.51.100.1
ip route add 198.51.100.0/24 via 10.65.0.254
ip route add blackhole 203.0.113.0/24 proto static
ip route add 10.244.77.0/24 via 10.65.0.254 proto static metric 5
ip route add 192.0.2.0/24 dev eth0 table 100
ip -6 route add 2001:db8::/32 via fd65::fe
ip rule add fwmark 0x100/0xf00 lookup 100 priority 90
ip rule add from 198.51.100.0/24 unreachable priority 99
ip -6 rule add from 2001:db8::/48 lookup 100 priority 98
ip neigh add 10.65.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent
ip link add br-admin0 type bridge
ip addr add 172.31.0.1/24 dev br-admin0
ip link set br-admin0 up
"#;

/// Everything foreign, as the kernel shows it.
const SNAPSHOT: &str = "
nft list table inet admin; nft list table ip calicodocs; nft list table bridge calico; nft list table arp admin;
iptables-nft-save | grep -v '^#'; ipset save;
ip -4 rule; ip -6 rule; ip route show table 100; ip -4 route | grep -v cali | grep -v 10.244.0 | grep -v 'proto 80' | grep -v 'proto bird';
ip -6 route | grep -v cali | grep -v 'proto 80' | grep -v 'proto bird'; ip neigh show nud permanent dev eth0; ip addr show br-admin0 | grep inet
";

const NODES: [&str; 2] = ["node1", "node2"];

fn policy(action: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: web}}\n\
         spec: {{selector: app == 'web', types: [Ingress], ingress: [{{action: {action}, protocol: TCP, \
         destination: {{ports: [80]}}}}]}}\n"
    )
}

#[test]
fn foreign_things_stay_and_ours_heal_and_go() {
    let foreign = format!("{FOREIGN_TABLES}{FOREIGN_REST}");
    let Some(lab) = Lab::up("foreign", &["--nodes", "2", "--before", &foreign]) else { return };
    let snapshots = || NODES.map(|node| lab.sh(node, SNAPSHOT));
    // The first agent has started by now: the script is the same on both nodes, and so must be what is left of it.
    let before = snapshots();
    for expected in
        ["@friends", "calicodocs", "california", "203.0.113.0/24", "fwmark 0x100/0xf00", "10.65.0.99"]
    {
        assert!(before[0].contains(expected), "{expected} is not in\n{}", before[0]);
    }

    lab.add("web", &["--node", "node1", "--label", "app=web"]);
    let client = lab.add("client", &["--node", "node2", "--label", "app=client"]);
    lab.ctl("apply", &policy("Allow"));
    wait_for("policy on node1", || lab.tables("node1").contains("dport"));
    lab.ctl("apply", &policy("Deny"));
    lab.ctl("delete", &policy("Deny"));
    wait_for("no policy on node1", || lab.metrics("node1")["felix_active_local_policies"] == 0.0);
    lab.wait_quiet("node1");
    assert_eq!(snapshots(), before);

    heal(&lab, &client);
    assert_eq!(snapshots(), before);

    lab.del("web");
    assert_eq!(snapshots(), before);

    cleanup(&lab);
    assert_eq!(snapshots(), before);
}

/// Whatever is done to what is ours: refused, or put back.
fn heal(lab: &Lab, client: &str) {
    lab.wait_quiet("node2");
    let (tables, routes) = (lab.tables("node2"), lab.routes("node2"));
    let whole = || lab.tables("node2") == tables && lab.routes("node2") == routes;

    // The kernel lets us own our tables: others' attempts are refused, and a flush of everything passes them by.
    for refused in ["nft delete table inet calico", "nft flush table arp calico"] {
        let output = lab.try_sh("node2", refused);
        assert!(text(&output.stderr).contains("Operation not permitted"), "{refused}: {output:?}");
    }
    // A flush of everything takes others' tables and passes ours by.
    lab.sh("node2", "nft flush ruleset");
    assert_eq!(lab.tables("node2"), tables);
    lab.sh("node2", FOREIGN_TABLES);

    let routes_of_ours = format!(
        "ip route del {client}; ip route del blackhole $(ip route | awk '/^blackhole.*proto 80/ {{print $2}}')"
    );
    lab.sh("node2", &routes_of_ours);
    wait_for("removed routes come back", whole);
    lab.sh("node2", "(ip route flush proto 80; ip -6 route flush proto 80) 2>/dev/null; for d in $(ls /sys/class/net | grep cali); do ip route flush dev $d; ip -6 route flush dev $d proto boot; done");
    wait_for("flushed routes come back", whole);

    // While no agent lives nobody owns the tables; the next one finds what was done to them.
    let stopped = lab.stop_agent("node2");
    let first = |what: &str| {
        let listed = lab.sh("node2", "nft list table inet calico");
        let mut name = String::new();
        for line in listed.lines().map(str::trim) {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["chain" | "set" | "map", found, "{"] => name = found.to_owned(),
                ["elements", ..] if what == "set" => return name,
                ["counter", ..] if what == "chain" => return name,
                _ => {}
            }
        }
        panic!("no {what} with contents in\n{listed}");
    };
    let (chain, set) = (first("chain"), first("set"));
    lab.sh("node2", &format!("nft flush chain inet calico {chain}; nft flush set inet calico {set} || nft flush map inet calico {set}"));
    lab.sh("node2", "nft delete table arp calico; ip route flush proto 80");
    assert_ne!(lab.tables("node2"), tables);
    drop(stopped);
    wait_for("a damaged node is whole again", whole);
    let stopped = lab.stop_agent("node2");
    lab.sh("node2", "nft delete table inet calico");
    drop(stopped);
    wait_for("a node without our table is whole again", whole);
}

/// `calico node cleanup`: refused while the agent lives, whole afterwards.
fn cleanup(lab: &Lab) {
    let refused = lab.try_sh("node2", "calico node cleanup");
    assert!(!refused.status.success());
    assert!(text(&refused.stderr).contains("another agent runs"), "{refused:?}");
    for node in NODES {
        std::mem::forget(lab.stop_agent(node));
    }
    let removed = NODES.map(|node| lab.sh(node, "calico node cleanup"));
    println!("node2:\n{}", removed[1]);
    for line in [
        "removed table inet calico",
        "removed table arp calico",
        "removed route blackhole 10.244",
        "removed BIRD",
    ] {
        assert!(removed[1].contains(line), "{line} is not in\n{}", removed[1]);
    }
    for node in NODES {
        let left = lab.sh(
            node,
            "nft list tables | grep -E 'inet calico|arp calico'; ip route | grep -E 'cali|bird|proto 80'; \
             ip -6 route | grep -E 'cali|bird|proto 80' | grep -v fe80; ip neigh show nud permanent | grep cali; \
             ls /run/calico/endpoint-status /run/calico/bird.pid 2>/dev/null; true",
        );
        assert_eq!(left, "", "left on {node}");
        assert_eq!(lab.sh(node, "calico node cleanup"), "", "a second time there is nothing to remove");
    }
    // The container keeps its interface.
    assert!(lab.sh("node2", "ls /sys/class/net").contains("cali"));
}
