//! What a change costs: in proportion to the change, whatever else the node holds; and what it leaves alone.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says when a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/lab.rs"]
mod lab;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{SystemTime, UNIX_EPOCH};

use lab::{Lab, Running, wait_for};

/// How many policies select the workload.
const POLICIES: usize = 1000;
/// How many addresses the set has before one more comes.
const MEMBERS: u32 = 100_000;

/// Policy `number`: allows one TCP port, and pings if told so.
fn policy(number: usize, port: usize, pings: bool) -> String {
    let ping = if pings { "\n  - {action: Allow, protocol: ICMP}" } else { "" };
    format!(
        "---\napiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p{number}}}\nspec:\n  \
         order: {number}\n  selector: app == 'server'\n  types: [Ingress]\n  ingress:\n  \
         - {{action: Allow, protocol: TCP, destination: {{ports: [{port}]}}}}{ping}\n"
    )
}

/// What was sent to the kernel between two readings of the metrics.
fn sent(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> [f64; 5] {
    ["operations", "messages", "bytes", "calls"]
        .map(|what| {
            let name = format!("felix_nft_{what}_total");
            after[&name] - before[&name]
        })
        .into_iter()
        .chain([after["felix_route_table_changes_total"] - before["felix_route_table_changes_total"]])
        .collect::<Vec<_>>()
        .try_into()
        .expect("five")
}

#[test]
fn one_edit_among_a_thousand_policies() {
    let Some(lab) = Lab::up("edit", &["--nodes", "1"]) else { return };
    let server = lab.add("server", &["--node", "node1", "--label", "app=server"]);
    lab.add("client", &["--node", "node1", "--label", "app=client"]);
    let all: String = (0..POLICIES).map(|n| policy(n, 10_000 + n, false)).collect();
    lab.ctl("apply", &all);
    let local = |count: usize| lab.metrics("node1")["felix_active_local_policies"] == count as f64;
    wait_for("all policies", || local(POLICIES));
    lab.wait_quiet("node1");

    // A packet for another policy's counter. It is refused by the server itself, which is an answer.
    let counter = || {
        let chain = lab.sh("node1", "nft list chain inet calico cali-pi-gnp/p5");
        let words: Vec<&str> = chain.split_whitespace().collect();
        let place = words.windows(2).position(|w| w == ["counter", "packets"]).expect("a counter");
        words[place + 2].parse::<u64>().expect("packets")
    };
    assert_eq!(counter(), 0);
    let refused = lab.try_sh("client", &format!("curl -s --max-time 5 http://{server}:10005"));
    assert_eq!(refused.status.code(), Some(7), "curl's exit code for a refused connection");
    let counted = counter();
    assert!(counted > 0);

    let (tables, before) = (lab.tables("node1"), lab.metrics("node1"));
    lab.ctl("apply", &policy(500, 20_500, false));
    wait_for("the edit", || lab.sh("node1", "nft list chain inet calico cali-pi-gnp/p500").contains("20500"));
    let [operations, messages, bytes, calls, routes] = sent(&before, &lab.metrics("node1"));
    println!(
        "one edited rule of one of {POLICIES} policies: {operations} operations, {messages} messages, {bytes} bytes, \
         {calls} transactions, {routes} routes"
    );
    // The old rule goes and the new one comes; finding the old one's handle is one more message.
    assert!(operations <= 3.0 && messages <= 8.0 && bytes <= 2000.0 && calls == 1.0 && routes == 0.0);
    assert_eq!(counter(), counted, "a counter of another policy's rule");
    let after = lab.tables("node1");
    let different = tables.lines().zip(after.lines()).filter(|(a, b)| a != b).count();
    assert_eq!((different, tables.lines().count()), (1, after.lines().count()));

    let ping = lab.dir().join("ping");
    let output = std::fs::File::create(&ping).expect("a file");
    let mut command = lab.command("client", &format!("exec ping -D -i 0.002 {server}"));
    let _ping = Running(command.stdout(Stdio::from(output)).spawn().expect("ping"));
    let began = now();
    lab.ctl("apply", &policy(500, 20_500, true));
    let returned = now();
    let mut first = None;
    wait_for("a ping", || {
        let text = std::fs::read_to_string(&ping).expect("pings");
        first = text.lines().find_map(|l| l.strip_prefix('[')?.split_once(']')?.0.parse::<f64>().ok());
        first.is_some()
    });
    let first = first.expect("the time of the first answer");
    println!(
        "an edited policy at {POLICIES} local policies: the first packet passes {:.1} ms after calicoctl was started, \
         {:.1} ms after it returned",
        (first - began) * 1e3,
        (first - returned) * 1e3
    );
    assert!(first > began);
    assert_eq!(counter(), counted);
}

/// Seconds since 1970, as ping prints them.
fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64()
}

/// A set of single addresses and a few prefixes.
fn network_set(addresses: u32) -> String {
    let mut text = "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: many, labels: {many: 'yes'}}\n\
                    spec:\n  nets:\n  - 172.16.0.0/24\n  - fd00:16::/64\n"
        .to_owned();
    for number in 0..addresses {
        let [_, b, c, d] = number.to_be_bytes();
        writeln!(text, "  - 100.{b}.{c}.{d}/32").expect("memory");
    }
    text
}

#[test]
fn one_member_more_is_one_element_on_the_wire() {
    let Some(lab) = Lab::up("member", &["--nodes", "1"]) else { return };
    lab.add("server", &["--node", "node1", "--label", "app=server"]);
    lab.ctl("apply", &network_set(MEMBERS));
    lab.ctl(
        "apply",
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: many}\n\
         spec: {selector: app == 'server', types: [Ingress], ingress: [{action: Allow, source: {selector: many == 'yes'}}]}\n",
    );
    wait_for("the policy", || lab.metrics("node1")["felix_active_local_policies"] == 1.0);
    lab.wait_quiet("node1");
    let before = lab.metrics("node1");
    lab.ctl("apply", &network_set(MEMBERS + 1));
    wait_for("the member", || {
        lab.metrics("node1")["felix_nft_calls_total"] > before["felix_nft_calls_total"]
    });
    let [operations, messages, bytes, calls, routes] = sent(&before, &lab.metrics("node1"));
    println!(
        "one member more in a set of {MEMBERS}: {operations} operations, {messages} messages, {bytes} bytes, \
         {calls} transactions"
    );
    // The transaction's begin and end, and one message with one element.
    assert_eq!((operations, messages, calls, routes), (1.0, 3.0, 1.0, 0.0));
    assert!(bytes < 300.0, "{bytes} bytes");
}
