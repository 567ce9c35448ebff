//! Race K: ADD and DEL through the shipped plugin and agent, one after another and 20 at a time.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use crate::cni::{self, Attachment};
use crate::process::output;
use crate::race::{line, millis, quantile};
use crate::state::Lab;
use crate::workload;

/// Calico's plugin with etcd: wall and CPU of one ADD, in milliseconds (the peer's figures, measured alike).
const PEER_ADD_WALL: f64 = 202.0;
const PEER_ADD_CPU: f64 = 206.0;
const PEER_DEL_WALL: f64 = 153.0;
const PEER_DEL_CPU: f64 = 142.0;

/// How many attachments each part of the race makes.
const ROUNDS: usize = 100;
/// How many at a time in the parallel part.
const PARALLEL: usize = 20;

struct Sandbox {
    name: String,
    container_id: String,
    pid: i32,
}

/// CPU used so far: this process, the plugins that it has waited for, and the agent.
struct Cpu {
    driver: Duration,
    plugins: Duration,
    agent: Duration,
}

/// Runs the race on the lab's first node and prints its lines.
pub fn run(lab: &Lab) -> Result<Vec<String>> {
    let node = lab.nodes.first().context("the race needs a node")?.name.clone();
    workload::ensure_profile(lab, &node, "race")?;
    let before = leftovers(lab, &node)?;
    let mut lines = Vec::new();
    let sandboxes = spawn_sandboxes(lab, &node, 2 * ROUNDS)?;
    let (first, second) = sandboxes.split_at(ROUNDS);

    // The first ADD claims a block and warms the agent's caches; it is not part of the sample.
    let warm = &spawn_sandboxes(lab, &node, 1)?[0];
    attach(lab, &node, "ADD", warm)?;

    let start = cpu(lab, &node)?;
    let mut walls = Vec::new();
    for sandbox in first {
        let began = Instant::now();
        attach(lab, &node, "ADD", sandbox)?;
        walls.push(began.elapsed());
    }
    let used = cpu(lab, &node)?.since(&start);
    walls.sort();
    let name = if lab.etcd { "etcd" } else { "embedded" };
    lines.push(line(
        'K',
        &format!("cni_add_{name}_p50"),
        millis(quantile(&walls, 0.5)),
        "ms",
        Some(PEER_ADD_WALL),
    ));
    lines.push(line('K', &format!("cni_add_{name}_p99"), millis(quantile(&walls, 0.99)), "ms", None));
    lines.push(line('K', &format!("cni_add_{name}_cpu"), used.per(ROUNDS), "cpu-ms", Some(PEER_ADD_CPU)));
    lines.push(line(
        'K',
        &format!("cni_add_{name}_cpu_agent"),
        millis(used.agent) / ROUNDS as f64,
        "cpu-ms",
        None,
    ));
    lines.push(line(
        'K',
        &format!("cni_add_{name}_cpu_driver"),
        millis(used.driver) / ROUNDS as f64,
        "cpu-ms",
        None,
    ));

    let began = Instant::now();
    in_parallel(second, |sandbox| attach(lab, &node, "ADD", sandbox))?;
    let wall = millis(began.elapsed()) / ROUNDS as f64;
    lines.push(line('K', &format!("cni_add_{name}_{PARALLEL}_at_a_time"), wall, "ms", Some(PEER_ADD_WALL)));

    let start = cpu(lab, &node)?;
    let mut walls = Vec::new();
    for sandbox in first {
        let began = Instant::now();
        attach(lab, &node, "DEL", sandbox)?;
        walls.push(began.elapsed());
    }
    let used = cpu(lab, &node)?.since(&start);
    walls.sort();
    lines.push(line(
        'K',
        &format!("cni_del_{name}_p50"),
        millis(quantile(&walls, 0.5)),
        "ms",
        Some(PEER_DEL_WALL),
    ));
    lines.push(line('K', &format!("cni_del_{name}_cpu"), used.per(ROUNDS), "cpu-ms", Some(PEER_DEL_CPU)));
    in_parallel(second, |sandbox| attach(lab, &node, "DEL", sandbox))?;
    attach(lab, &node, "DEL", warm)?;
    for sandbox in sandboxes.iter().chain([warm]) {
        workload::end_all_of_network(lab, sandbox.pid)?;
    }

    let clean = crate::wait::until(Duration::from_secs(5), Duration::from_millis(50), || {
        leftovers(lab, &node).is_ok_and(|after| after == before)
    });
    let after = if clean { before.clone() } else { leftovers(lab, &node)? };
    let extra: Vec<&str> = after.lines().filter(|l| before.lines().all(|b| b != *l)).collect();
    lines.push(line('K', &format!("cni_del_{name}_left_over"), extra.len() as f64, "objects", None));
    for object in extra {
        eprintln!("left over after all DELs: {object}");
    }
    Ok(lines)
}

fn spawn_sandboxes(lab: &Lab, node: &str, count: usize) -> Result<Vec<Sandbox>> {
    (0..count)
        .map(|_| {
            let pid = workload::spawn_sandbox(lab, node)?;
            Ok(Sandbox { name: format!("race-{pid}"), container_id: format!("race{pid}"), pid })
        })
        .collect()
}

fn attach(lab: &Lab, node: &str, verb: &str, sandbox: &Sandbox) -> Result<()> {
    let Sandbox { name, container_id, pid } = sandbox;
    cni::run(lab, verb, &Attachment { node, name, namespace: "race", labels: &[], container_id, pid: *pid })?;
    Ok(())
}

fn in_parallel(sandboxes: &[Sandbox], work: impl Fn(&Sandbox) -> Result<()> + Sync) -> Result<()> {
    let queue = Mutex::new(sandboxes.iter());
    let problems = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                while let Some(sandbox) = queue.lock().ok().and_then(|mut q| q.next()) {
                    if let (Err(error), Ok(mut problems)) = (work(sandbox), problems.lock()) {
                        problems.push(format!("{error:#}"));
                    }
                }
            });
        }
    });
    let problems = problems.into_inner().unwrap_or_default();
    if problems.is_empty() { Ok(()) } else { bail!("{}", problems.join("\n")) }
}

impl Cpu {
    fn since(&self, start: &Cpu) -> Cpu {
        Cpu {
            driver: self.driver.saturating_sub(start.driver),
            plugins: self.plugins.saturating_sub(start.plugins),
            agent: self.agent.saturating_sub(start.agent),
        }
    }

    /// Plugin and agent together, per attachment, in milliseconds.
    fn per(&self, count: usize) -> f64 {
        millis(self.plugins + self.agent) / count as f64
    }
}

fn cpu(lab: &Lab, node: &str) -> Result<Cpu> {
    let usage = |who| -> Result<Duration> {
        let usage = getrusage(who)?;
        let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
        Ok(Duration::from_micros(u64::try_from(micros)?))
    };
    let pid = std::fs::read_to_string(lab.node_dir(node).join("agent.pid"))?;
    let schedstat = std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()))?;
    let fields: Vec<&str> =
        schedstat.rsplit_once(") ").map(|(_, r)| r.split(' ').collect()).unwrap_or_default();
    // utime and stime are fields 14 and 15 of proc(5), in ticks of 10 ms.
    let ticks: u64 = [11, 12].iter().filter_map(|i| fields.get(*i)?.parse::<u64>().ok()).sum();
    Ok(Cpu {
        driver: usage(UsageWho::RUSAGE_SELF)?,
        plugins: usage(UsageWho::RUSAGE_CHILDREN)?,
        agent: Duration::from_millis(ticks * 10),
    })
}

/// Everything on the node and in the datastore that an attachment could leave behind, as text to compare.
fn leftovers(lab: &Lab, node: &str) -> Result<String> {
    let mut text = String::new();
    for line in [
        "ip -o link show type veth",
        "ip route show table main",
        "ip -6 route show table main",
        "ip neigh show nud permanent",
        "conntrack -L -s 10.244.0.0/16",
        "calicoctl get wep -A",
        "calicoctl ipam show",
        "nft -s list table inet calico",
    ] {
        let (program, arguments) = line.split_once(' ').unwrap_or((line, ""));
        let answer = output(lab.on_node(node, program)?.args(arguments.split(' ')))?;
        text.push_str(&format!("# {line}\n{}\n", without_counters(&answer)));
    }
    Ok(text)
}

/// Counters and interface indexes move by themselves.
fn without_counters(text: &str) -> String {
    text.lines()
        // Blocks stay the node's when they are empty; so do their blackholes.
        .filter(|line| !line.starts_with("blackhole"))
        .map(|line| line.split(" counter packets ").next().unwrap_or_default())
        .map(|line| {
            line.split_once(": ").filter(|(n, _)| n.parse::<u32>().is_ok()).map_or(line, |(_, rest)| rest)
        })
        .collect::<Vec<_>>()
        .join("\n")
}
