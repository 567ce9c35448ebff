//! Race O: packets lost while the agent, BIRD and etcd are killed at random moments.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::fabric::step;
use crate::node;
use crate::probe::Report;
use crate::race::line;
use crate::state::Lab;
use crate::wait::until;
use crate::workload;

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Victim {
    /// Nobody: the control run.
    None,
    /// The agent of one of the two nodes.
    Agent,
    /// BIRD of one of the two nodes.
    Bird,
}

/// Runs the streams under `kills` kills and prints the race's lines.
pub fn run(lab: &mut Lab, victim: Victim, kills: u32) -> Result<Vec<String>> {
    let [first, second] = lab.nodes.get(..2).context("the race needs two nodes")? else { bail!("two nodes") };
    let nodes = [first.name.clone(), second.name.clone()];
    for (name, node) in [("race-receiver", &nodes[0]), ("race-sender", &nodes[1])] {
        workload::add(lab, name, node, "race", &[], &[])?;
    }
    let result = stream(lab, &nodes, victim, kills);
    for name in ["race-receiver", "race-sender"] {
        workload::remove(lab, name)?;
    }
    result
}

fn stream(lab: &Lab, nodes: &[String; 2], victim: Victim, kills: u32) -> Result<Vec<String>> {
    let stop = lab.dir.join("race-stop");
    let report = |end: &str| lab.dir.join(format!("race-{end}.json"));
    let address = lab.workloads["race-receiver"].address.clone();
    let binary = lab.dir.join("bin/calico");
    let spawn = |place: &str, arguments: &[&str]| -> Result<Child> {
        let mut command = lab.in_workload(place, &binary)?;
        command.args(["lab", "probe"]).args(arguments).arg("--stop").arg(&stop);
        command.arg("--report").arg(report(arguments[0]));
        command.stdin(Stdio::null()).spawn().context("probe")
    };
    let mut monitors = Vec::new();
    for node in nodes {
        let log = lab.node_dir(node).join("log/race-routes.log");
        let child =
            lab.on_node(node, "ip")?.args(["monitor", "route"]).stdout(File::create(&log)?).spawn()?;
        monitors.push((child, log));
    }
    let mut receiver = spawn("race-receiver", &["receive"])?;
    let mut sender = None;
    // The receiver's port must be open before the TCP stream starts; the sender says whether it is.
    until(Duration::from_secs(5), Duration::from_millis(50), || {
        let listening = lab
            .in_workload("race-receiver", "ss")
            .and_then(|mut c| crate::process::output(c.args(["-Hltn", "sport", "=", ":9999"])));
        listening.is_ok_and(|text| !text.is_empty())
    });
    sender.get_or_insert(spawn("race-sender", &["send", &address])?);
    let outcome = (0..kills.max(1)).try_for_each(|round| one_round(lab, nodes, victim, round));
    std::fs::write(&stop, "")?;
    if let Some(mut sender) = sender {
        sender.wait()?;
    }
    receiver.wait()?;
    std::fs::remove_file(&stop)?;
    let mut dips = 0;
    for (child, log) in &mut monitors {
        child.kill()?;
        child.wait()?;
        dips += BufReader::new(File::open(log)?).lines().map_while(Result::ok).filter(|l| is_dip(l)).count();
    }
    outcome?;
    let read = |end: &str| -> Result<Report> { Ok(serde_json::from_slice(&std::fs::read(report(end))?)?) };
    let (sent, received) = (read("send")?, read("receive")?);
    let name = victim.to_possible_value().map(|v| v.get_name().to_owned()).unwrap_or_default();
    let figure =
        |what: &str, n: u64, unit: &str| line('O', &format!("restart_{name}_{what}"), n as f64, unit, None);
    Ok(vec![
        figure("kills", if victim == Victim::None { 0 } else { kills.into() }, "kills"),
        figure("udp_sent", sent.udp, "packets"),
        figure("udp_lost", sent.udp - received.udp, "packets"),
        figure("tcp_missing", sent.tcp - received.tcp, "counters"),
        figure("tcp_longest_gap", received.tcp_gap_millis, "ms"),
        figure("route_dips", dips as u64, "routes"),
    ])
}

/// A route of the lab's pools that went away, even for a moment.
fn is_dip(line: &str) -> bool {
    line.starts_with("Deleted") && (line.contains("10.244.") || line.contains("fd00:10:244:"))
}

/// Waits a random moment, kills, and waits until the node is ready again.
fn one_round(lab: &Lab, nodes: &[String; 2], victim: Victim, round: u32) -> Result<()> {
    std::thread::sleep(random_moment()?);
    let node = &nodes[usize::try_from(round)? % 2];
    let pid = match victim {
        Victim::None => return Ok(()),
        Victim::Agent => read_pid(&lab.node_dir(node).join("agent.pid"))?,
        Victim::Bird => bird_pid(lab, node)?,
    };
    step(&format!("kill {} of {victim:?} on {node}", round + 1));
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    let gone =
        until(Duration::from_secs(5), Duration::from_millis(1), || kill(Pid::from_raw(pid), None).is_err());
    if !gone {
        bail!("process {pid} outlives SIGKILL");
    }
    let mut last = String::new();
    let ready =
        until(Duration::from_secs(60), Duration::from_millis(50), || match node::readiness(lab, node) {
            Ok(()) => true,
            Err(error) => {
                last = format!("{error:#}");
                false
            }
        });
    if ready { Ok(()) } else { bail!("{node} is not ready 60 s after kill {round}: {last}") }
}

/// Up to half a second, from the kernel's randomness: a kill must not beat in time with anything.
fn random_moment() -> Result<Duration> {
    use std::io::Read;
    let mut bytes = [0; 2];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(Duration::from_millis(u64::from(u16::from_be_bytes(bytes)) % 500))
}

fn read_pid(path: &std::path::Path) -> Result<i32> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    text.trim().parse().with_context(|| format!("{}: {text:?}", path.display()))
}

fn bird_pid(lab: &Lab, node: &str) -> Result<i32> {
    let mut pid = None;
    until(Duration::from_secs(10), Duration::from_millis(20), || {
        pid = lab
            .on_node(node, "cat")
            .and_then(|mut c| crate::process::output(c.arg("/run/calico/bird.pid")))
            .ok()
            .and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    pid.with_context(|| format!("BIRD of {node} wrote no pid file"))
}
