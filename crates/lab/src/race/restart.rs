//! Race O: packets lost while the agent, BIRD and etcd are killed at random moments.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::fabric::step;
use crate::node;
use crate::probe::Report;
use crate::race::line;
use crate::race::victim::{Victim, random_moment, strike};
use crate::state::Lab;
use crate::wait::until;
use crate::workload;

/// The longest time between a node's recovery and the next kill.
const LONGEST_WAIT: Duration = Duration::from_millis(500);

/// Operations of an agent that finds everything in place: it claims its two tables.
const CLAIMS: u64 = 2;

/// Runs the streams under `kills` kills and prints the race's lines.
pub fn run(lab: &mut Lab, victim: Victim, kills: u32) -> Result<Vec<String>> {
    let [first, second] = lab.nodes.get(..2).context("the race needs two nodes")? else { bail!("two nodes") };
    let nodes = [first.name.clone(), second.name.clone()];
    for (name, node) in [("race-receiver", &nodes[0]), ("race-sender", &nodes[1])] {
        workload::add(lab, name, node, "race", &[], &[])?;
    }
    // What failed is the news; the lab's end sees to the workloads then.
    let lines = stream(lab, &nodes, victim, kills)?;
    for name in ["race-receiver", "race-sender"] {
        workload::remove(lab, name)?;
    }
    Ok(lines)
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
    let planned = if victim == Victim::None { 0 } else { last_plans(lab, nodes)? };
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
        figure("last_plans", planned, "operations"),
    ])
}

/// A route of the lab's pools that went away, even for a moment.
fn is_dip(line: &str) -> bool {
    line.starts_with("Deleted") && (line.contains("10.244.") || line.contains("fd00:10:244:"))
}

/// Waits a random moment, kills, and waits until the nodes are ready and their BIRDs have recovered: a second death
/// before the end-of-RIB costs routes by design (RFC 4724 §4.2, "consecutive restarts").
fn one_round(lab: &Lab, nodes: &[String; 2], victim: Victim, round: u32) -> Result<()> {
    std::thread::sleep(random_moment(LONGEST_WAIT)?);
    if victim == Victim::None {
        return Ok(());
    }
    let node = &nodes[usize::try_from(round)? % 2];
    step(&format!("kill {} of {victim:?} on {node}", round + 1));
    strike(lab, node, victim, round)?;
    let recovered = |node: &String| wait_ready(lab, node).and_then(|()| wait_recovered(lab, node));
    nodes.iter().try_for_each(recovered).with_context(|| format!("kill {}", round + 1))
}

/// Waits until BIRD neither recovers itself nor keeps routes for a neighbour that does.
fn wait_recovered(lab: &Lab, node: &str) -> Result<()> {
    let recovers = |question: &[&str], sign: &str| -> Result<bool> {
        let mut birdcl = lab.on_node(node, "birdcl")?;
        birdcl.args(["-s", "/run/calico/bird.ctl"]).args(question);
        Ok(crate::process::output(&mut birdcl)?.to_lowercase().contains(sign))
    };
    let recovered = until(Duration::from_secs(60), Duration::from_millis(50), || {
        recovers(&["show", "status"], "graceful restart recovery").is_ok_and(|yes| !yes)
            && recovers(&["show", "protocols", "all"], "graceful restart active").is_ok_and(|yes| !yes)
    });
    if recovered { Ok(()) } else { bail!("{node}: BGP has not recovered after 60 s") }
}

fn wait_ready(lab: &Lab, node: &str) -> Result<()> {
    let mut last = String::new();
    let ready =
        until(Duration::from_secs(60), Duration::from_millis(50), || match node::readiness(lab, node) {
            Ok(()) => true,
            Err(error) => {
                last = format!("{error:#}");
                false
            }
        });
    if ready { Ok(()) } else { bail!("{node} is not ready after 60 s: {last}") }
}

/// What agents that start anew would change in the kernel: their first plans, counted. None, if the kernel is as a
/// fresh start would make it.
fn last_plans(lab: &Lab, nodes: &[String; 2]) -> Result<u64> {
    let mut planned = 0;
    for node in nodes {
        strike(lab, node, Victim::Agent, 0)?;
        // Its successor counts from nothing; until it is there nobody answers.
        wait_ready(lab, node)?;
        let counted = |name: &str| node::metric(lab, node, name);
        until(Duration::from_secs(10), Duration::from_millis(50), || {
            counted("felix_int_dataplane_apply_time_seconds_count").is_ok_and(|n| n > 0)
        });
        let operations = counted("felix_nft_operations_total")?.saturating_sub(CLAIMS);
        planned += operations + counted("felix_route_table_changes_total")?;
    }
    Ok(planned)
}
