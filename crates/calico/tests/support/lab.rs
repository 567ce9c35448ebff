//! A lab of a test's own: the shipped binary on nodes in namespaces, taken down however the test ends.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_calico");
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(20);
/// How long anything that the agent does by itself may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits for a condition; fails the test with `what` if it never holds.
pub fn wait_for(what: &str, condition: impl FnMut() -> bool) {
    assert!(until(PATIENCE, condition), "waited {} s for: {what}", PATIENCE.as_secs());
}

/// Whether a condition holds before the deadline.
pub fn until(deadline: Duration, condition: impl FnMut() -> bool) -> bool {
    calico_lab::until(deadline, POLL, condition)
}

/// A lab that is up.
pub struct Lab {
    dir: PathBuf,
}

impl Lab {
    /// Builds a lab; `None`, and a word why, where that is impossible.
    pub fn up(name: &str, arguments: &[&str]) -> Option<Lab> {
        if std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() != 0) {
            eprintln!("skipped: a lab needs root");
            return None;
        }
        let lab = Lab { dir: PathBuf::from(format!("/run/calico-test-{name}-{}", std::process::id())) };
        let output = lab.lab(&["up"]).args(arguments).output().expect("calico lab up");
        assert!(output.status.success(), "{}\n{}", text(&output.stderr), lab.log("node1"));
        Some(lab)
    }

    /// A `calico lab` command of this lab.
    pub fn lab(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("lab").arg("--dir").arg(&self.dir).args(arguments);
        command
    }

    /// Attaches a workload; its IPv4 address.
    pub fn add(&self, name: &str, arguments: &[&str]) -> String {
        let said = successful(self.lab(&["workload", "add", name]).args(arguments));
        said.split_whitespace().nth(1).expect("an address").to_owned()
    }

    /// Detaches a workload.
    pub fn del(&self, name: &str) {
        successful(&mut self.lab(&["workload", "del", name]));
    }

    /// A command on a node or in a workload.
    pub fn command(&self, place: &str, line: &str) -> Command {
        let mut command = self.lab(&["exec", place, "sh", "-c", line]);
        command.stdin(Stdio::null());
        command
    }

    /// Runs a shell line; its output, whatever its exit code.
    pub fn try_sh(&self, place: &str, line: &str) -> Output {
        self.command(place, line).output().expect("calico lab exec")
    }

    /// Runs a shell line that must succeed; what it printed.
    pub fn sh(&self, place: &str, line: &str) -> String {
        successful(&mut self.command(place, line))
    }

    /// `calicoctl` with a manifest.
    pub fn ctl(&self, verb: &str, manifest: &str) {
        let mut command = self.lab(&["exec", "node1", "calicoctl", verb, "-f", "-"]);
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("calicoctl");
        child.stdin.take().expect("its input").write_all(manifest.as_bytes()).expect("read by calicoctl");
        let output = child.wait_with_output().expect("calicoctl");
        assert!(output.status.success(), "calicoctl {verb}: {}{manifest}", text(&output.stderr));
    }

    /// Everything that the agent of a node has logged.
    pub fn log(&self, node: &str) -> String {
        std::fs::read_to_string(self.dir.join(node).join("log/agent.log")).unwrap_or_default()
    }

    /// The agent's process.
    pub fn agent_pid(&self, node: &str) -> i32 {
        let path = self.dir.join(node).join("agent.pid");
        let mut pid = None;
        // It may be about to be written.
        wait_for("the agent's pid", || {
            pid = std::fs::read_to_string(&path).ok().and_then(|text| text.trim().parse().ok());
            pid.is_some()
        });
        pid.expect("there is one")
    }

    /// Kills the agent of a node and waits until its successor is ready.
    pub fn kill_agent(&self, node: &str) {
        let old = self.agent_pid(node);
        kill(Pid::from_raw(old), Signal::SIGKILL).expect("the agent lives");
        wait_for("a new agent", || self.agent_pid(node) != old);
        self.wait_ready(node);
    }

    /// Waits until a node is ready.
    pub fn wait_ready(&self, node: &str) {
        wait_for("readiness", || {
            self.try_sh(node, "curl -sf --max-time 2 http://localhost:9099/readiness").status.success()
        });
    }

    /// Ends the agent of a node and keeps it from being started again until the guard goes.
    pub fn stop_agent(&self, node: &str) -> Stopped {
        let state: Value =
            serde_json::from_slice(&std::fs::read(self.dir.join("state.json")).expect("the lab's state"))
                .expect("JSON");
        let nodes = state["nodes"].as_array().expect("nodes");
        let init = nodes.iter().find(|n| n["name"] == node).expect("the node")["init_pid"].as_i64();
        let init = i32::try_from(init.expect("a pid")).expect("a pid");
        let agent = self.agent_pid(node);
        kill(Pid::from_raw(init), Signal::SIGSTOP).expect("the node's first process lives");
        let stopped = Stopped(init);
        kill(Pid::from_raw(agent), Signal::SIGTERM).expect("the agent lives");
        // Its parent is stopped, so it stays a zombie.
        wait_for("the agent's end", || {
            std::fs::read_to_string(format!("/proc/{agent}/status")).is_ok_and(|s| s.contains("State:\tZ"))
        });
        stopped
    }

    /// The agent's metrics.
    pub fn metrics(&self, node: &str) -> BTreeMap<String, f64> {
        let all = self.sh(node, "curl -sf http://localhost:9091/metrics");
        let samples = all.lines().filter(|l| !l.starts_with('#')).filter_map(|l| l.rsplit_once(' '));
        samples.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
    }

    /// Waits until the agent of a node has nothing more to do: no update of the kernel for a while.
    pub fn wait_quiet(&self, node: &str) {
        let applies = "felix_int_dataplane_apply_time_seconds_count";
        let (mut last, mut since) = (-1.0, Instant::now());
        wait_for("quiet", || {
            let now = self.metrics(node)[applies];
            if now != last {
                (last, since) = (now, Instant::now());
            }
            since.elapsed() > Duration::from_millis(500)
        });
    }

    /// Our tables as they may be compared: without counters and handles, and in one order. Empty if one is missing.
    pub fn tables(&self, node: &str) -> String {
        ["inet", "arp"].map(|family| self.table(node, family)).concat()
    }

    fn table(&self, node: &str, family: &str) -> String {
        let listed = self.try_sh(node, &format!("nft -js list table {family} calico"));
        let Ok(listed) = serde_json::from_slice::<Value>(&listed.stdout) else { return String::new() };
        let objects = listed["nftables"].as_array().into_iter().flatten();
        let mut lines: Vec<(String, String)> = objects.filter_map(comparable).collect();
        // Stable: rules keep their order within a chain.
        lines.sort_by(|(a, _), (b, _)| a.cmp(b));
        lines.into_iter().map(|(_, line)| line + "\n").collect()
    }

    /// All routes of both families that somebody made, sorted: the kernel tells no order among equals.
    pub fn routes(&self, node: &str) -> String {
        let all = self.sh(node, "ip -4 route show table all; ip -6 route show table all");
        let mut routes: Vec<&str> = made_by_somebody(&all).collect();
        routes.sort_unstable();
        routes.join("\n")
    }

    /// Files of the lab.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in ["node1", "node2"] {
                eprintln!("--- the log of {node}'s agent\n{}", self.log(node));
            }
        }
        match self.lab(&["down"]).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("calico lab down: {}", text(&output.stderr)),
            Err(error) => eprintln!("calico lab down: {error}"),
        }
    }
}

/// A node whose agent is kept from being started.
pub struct Stopped(i32);

impl Drop for Stopped {
    fn drop(&mut self) {
        if let Err(error) = kill(Pid::from_raw(self.0), Signal::SIGCONT) {
            eprintln!("the node's first process: {error}");
        }
    }
}

/// A child that is killed when the test ends.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The lines of `ip route` or `ip monitor route` that are not the kernel's own (`proto kernel`): those come by
/// themselves a second after an address, once its uniqueness is known.
pub fn made_by_somebody(routes: &str) -> impl Iterator<Item = &str> {
    routes.lines().filter(|line| !line.contains(" proto kernel "))
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// An object of `nft -j` by its place, and as a line without what the kernel gives it by itself.
fn comparable(object: &Value) -> Option<(String, String)> {
    let (kind, fields) = object.as_object()?.iter().next()?;
    let mut fields = fields.as_object()?.clone();
    match kind.as_str() {
        "chain" | "set" | "map" | "rule" => {}
        _ => return None,
    }
    fields.remove("handle");
    if let Some(Value::Array(elements)) = fields.get_mut("elem") {
        elements.sort_by_key(Value::to_string);
    }
    let name = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let place =
        if kind == "rule" { format!("rule {}", name("chain")) } else { format!("{kind} {}", name("name")) };
    Some((place, format!("{kind} {}", Value::Object(fields))))
}

fn successful(command: &mut Command) -> String {
    let output = command.output().expect("a command");
    assert!(output.status.success(), "{command:?}: {}{}", text(&output.stderr), text(&output.stdout));
    text(&output.stdout)
}
