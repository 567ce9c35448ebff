//! What labs of BGP ask: sessions as BIRD has them, routers from outside, streams whose losses are counted.

#![allow(dead_code, reason = "each test uses its part")]

use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::lab::{Lab, text, until, wait_for};

/// How long the sessions of a whole lab may take on a busy machine: BIRD's longest wait between two attempts is 30 s.
pub const CONVERGENCE: Duration = Duration::from_secs(120);
/// Packets per second of a stream: a loss of five milliseconds shows.
const RATE: &str = "200";

/// Whether the long cases are wanted, as `make test-bgp` wants them.
pub fn is_wanted(what: &str) -> bool {
    let wanted = std::env::var("CALICO_BGP_CASES").is_ok_and(|value| value == "all");
    if !wanted {
        println!("{what}: only with CALICO_BGP_CASES=all, as in `make test-bgp`");
    }
    wanted
}

/// `birdcl` on a node.
pub fn birdcl(lab: &Lab, node: &str, question: &str) -> String {
    text(&lab.try_sh(node, &format!("birdcl -s /run/calico/bird.ctl {question}")).stdout)
}

/// The names of a node's BGP sessions with their states, such as `Established`.
pub fn sessions(lab: &Lab, node: &str) -> Vec<(String, String)> {
    let table = birdcl(lab, node, "show protocols");
    let rows = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let sessions = rows.filter(|row| row.get(1) == Some(&"BGP"));
    // Name, protocol, table, state, since, and what BGP says.
    sessions.map(|row| (row[0].to_owned(), (*row.get(5).unwrap_or(&"")).to_owned())).collect()
}

/// How many of a node's sessions are established, and how many there are.
pub fn established(lab: &Lab, node: &str) -> (usize, usize) {
    let all = sessions(lab, node);
    (all.iter().filter(|(_, state)| state == "Established").count(), all.len())
}

/// Waits until every node has exactly so many sessions, all established.
pub fn wait_sessions(lab: &Lab, expected: &[(String, usize)]) {
    for (node, count) in expected {
        let mut seen = (0, 0);
        let complete = until(CONVERGENCE, || {
            seen = established(lab, node);
            seen == (*count, *count)
        });
        assert!(
            complete,
            "{node}: {} of {} sessions established, of {count} expected\n{}",
            seen.0,
            seen.1,
            birdcl(lab, node, "show protocols")
        );
    }
}

/// Kills BIRD of a node.
pub fn kill_bird(lab: &Lab, node: &str) {
    lab.sh(node, "kill -9 $(cat /run/calico/bird.pid)");
}

/// Whether a node's BIRD recovers from a restart.
pub fn recovers(lab: &Lab, node: &str) -> bool {
    birdcl(lab, node, "show status").to_lowercase().contains("graceful restart recovery")
}

/// Whether a node's BIRD keeps routes for neighbours that have not told all since they restarted.
pub fn keeps_for_others(lab: &Lab, node: &str) -> bool {
    birdcl(lab, node, "show protocols all").to_lowercase().contains("graceful restart active")
}

/// A UDP stream between two workloads, with a TCP stream beside it.
pub struct Stream {
    sender: Child,
    receiver: Child,
    stop: PathBuf,
    reports: [PathBuf; 2],
    name: String,
}

/// What a stream has seen.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub sent: u64,
    pub lost: u64,
    pub duplicates: u64,
    pub tcp_missing: u64,
    pub tcp_gap_millis: u64,
}

impl Stream {
    /// Starts it from one workload to an address of another.
    pub fn start(lab: &Lab, from: &str, to: &str, address: &str) -> Stream {
        let name = format!("{from}-{to}-{}", if address.contains(':') { "v6" } else { "v4" });
        let file = |what: &str| lab.dir().join(format!("stream-{name}-{what}"));
        let (stop, reports) = (file("stop"), [file("sent"), file("received")]);
        // An earlier stream of the same name.
        for left in [&stop, &reports[0], &reports[1]] {
            let _ = std::fs::remove_file(left);
        }
        let port = if address.contains(':') { "9996" } else { "9994" };
        let end = |place: &str, words: &str, report: &PathBuf| {
            let line = format!(
                "exec {}/bin/calico lab probe {words} --port {port} --stop {} --report {}",
                lab.dir().display(),
                stop.display(),
                report.display()
            );
            lab.command(place, &line).stderr(Stdio::inherit()).spawn().expect("a probe")
        };
        let receiver = end(to, "receive", &reports[1]);
        wait_for("a listening receiver", || !lab.sh(to, &format!("ss -Hltn sport = :{port}")).is_empty());
        let sender = end(from, &format!("send {address} --rate {RATE}"), &reports[0]);
        Stream { sender, receiver, stop, reports, name }
    }

    /// Ends it and says what was lost.
    pub fn finish(mut self) -> Seen {
        std::fs::write(&self.stop, "").expect("the lab's directory");
        for child in [&mut self.sender, &mut self.receiver] {
            let status = child.wait().expect("a child");
            assert!(status.success(), "a probe of {} failed: {status}", self.name);
        }
        let [sent, received] = &self.reports;
        let read = |path: &PathBuf| -> Value {
            serde_json::from_slice(&std::fs::read(path).expect("a report")).expect("JSON")
        };
        let (sent, received) = (read(sent), read(received));
        let count = |report: &Value, field: &str| report[field].as_u64().expect("a number");
        let seen = Seen {
            sent: count(&sent, "udp"),
            lost: count(&sent, "udp") - count(&received, "udp"),
            duplicates: count(&received, "duplicates"),
            tcp_missing: count(&sent, "tcp") - count(&received, "tcp"),
            tcp_gap_millis: count(&received, "tcp_gap_millis"),
        };
        println!(
            "stream {}: {} sent, {} lost, {} twice; TCP: {} missing, longest gap {} ms",
            self.name, seen.sent, seen.lost, seen.duplicates, seen.tcp_missing, seen.tcp_gap_millis
        );
        seen
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // After `finish` both have ended.
        for child in [&mut self.sender, &mut self.receiver] {
            if !matches!(child.try_wait(), Ok(Some(_))) {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// Nothing was lost of streams that lasted.
pub fn assert_nothing_lost(streams: Vec<Stream>, at_least: u64) {
    let all: Vec<Seen> = streams.into_iter().map(Stream::finish).collect();
    for seen in &all {
        assert!(seen.sent >= at_least, "only {} packets were sent", seen.sent);
        assert_eq!((seen.lost, seen.tcp_missing), (0, 0), "{all:?}");
    }
}

/// What a router from outside says of its sessions and of what it was told over them.
pub fn show(lab: &Lab, router: &str) -> Value {
    let shown = lab.lab(&["router", "show", router]).output().expect("calico lab router show");
    serde_json::from_slice(&shown.stdout).unwrap_or(Value::Null)
}

/// The state of each session of a router, by the other end's address.
pub fn router_sessions(lab: &Lab, router: &str) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let shown = show(lab, router);
    let all = shown["sessions"].as_array().into_iter().flatten();
    all.map(|session| (word(&session["peer"]), word(&session["state"]))).collect()
}

/// The ways to a prefix that a router was told: `from`, next hop and AS path.
pub fn told(lab: &Lab, router: &str, prefix: &str) -> Vec<[String; 3]> {
    let shown = show(lab, router);
    let routes = shown["routes"].as_array().into_iter().flatten().filter(|route| route["prefix"] == prefix);
    let way = |route: &Value| {
        ["from", "next_hop", "as_path"].map(|f| route[f].as_str().unwrap_or_default().to_owned())
    };
    routes.map(way).collect()
}

/// Waits until all sessions of a router are established, `count` of them.
pub fn wait_router(lab: &Lab, router: &str, count: usize) {
    let mut seen = Vec::new();
    let complete = until(CONVERGENCE, || {
        seen = router_sessions(lab, router);
        seen.len() == count && seen.iter().all(|(_, state)| state == "Established")
    });
    assert!(complete, "{router}: {count} sessions expected, {seen:?}");
}

/// Runs `calico lab router` with words.
pub fn router(lab: &Lab, words: &[&str]) -> String {
    let output = lab.lab(&["router"]).args(words).output().expect("calico lab router");
    assert!(output.status.success(), "router {words:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// The block of a family that a node announces.
pub fn block(lab: &Lab, node: &str, v6: bool) -> String {
    let all = birdcl(lab, node, "show route where source = RTS_STATIC");
    let blocks = all.lines().filter(|line| line.contains("blackhole"));
    let block =
        blocks.filter_map(|line| line.split_whitespace().next()).find(|block| block.contains(':') == v6);
    block.unwrap_or_else(|| panic!("no block on {node}:\n{all}")).to_owned()
}
