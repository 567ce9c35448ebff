//! What the agent of a node uses, as the kernel counts it.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::k8s::cluster::Cluster;
use crate::process::output;
use crate::wait::until;

/// Prints, from inside the node, one number a line: ticks of the processor, RSS and its peak in KiB, bytes that the
/// container's cgroup is charged with and how many of them are files that nobody used lately.
const USAGE: &str = r#"
for pid in $(pgrep -x calico-node); do
  [ "$(tr '\0' ' ' </proc/$pid/cmdline)" = "/usr/bin/calico-node " ] || continue
  sed 's/.*) //' /proc/$pid/stat | cut -d' ' -f12,13 | tr ' ' '\n'
  sed -nE 's/^Vm(RSS|HWM):[^0-9]*([0-9]+) kB/\1 \2/p' /proc/$pid/status | sort -r | cut -d' ' -f2
  group=$(sed -nE 's/^[0-9]+:memory:(.*)/\/sys\/fs\/cgroup\/memory\1/p' /proc/$pid/cgroup)
  [ -n "$group" ] || group=/sys/fs/cgroup$(sed -nE 's/^0::(.*)/\1/p' /proc/$pid/cgroup)
  cat $group/memory.usage_in_bytes 2>/dev/null || cat $group/memory.current
  sed -nE 's/^(total_)?inactive_file ([0-9]+)/\2/p' $group/memory.stat | tail -n 1
  exit 0
done
exit 1
"#;

/// How often use is looked at while it settles.
const INTERVAL: Duration = Duration::from_secs(3);
const POLL: Duration = Duration::from_millis(100);
/// A quiet agent uses less than this in [`INTERVAL`]: probes, a heartbeat.
const QUIET: Duration = Duration::from_millis(150);
const SETTLE_DEADLINE: Duration = Duration::from_secs(300);

/// What an agent uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of the processor, since it started.
    pub cpu: Duration,
    /// Resident, in bytes.
    pub rss: u64,
    /// The most that was ever resident.
    pub peak: u64,
    /// What kubelet calls the working set of the container.
    pub working_set: u64,
}

/// Reads it.
pub fn read_usage(cluster: &Cluster, node: &str) -> Result<Usage> {
    let said = output(cluster.inside(node, "sh")?.args(["-c", USAGE]))
        .with_context(|| format!("the agent of {node} does not run, or cannot be measured"))?;
    parse(&said).with_context(|| format!("the agent of {node}: {said:?}"))
}

fn parse(text: &str) -> Option<Usage> {
    let numbers: Vec<u64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let [user, system, rss, peak, charged, idle_files] = numbers[..] else { return None };
    Some(Usage {
        // A tick is 10 ms on every architecture that we run on.
        cpu: Duration::from_millis((user + system) * 10),
        rss: rss * 1024,
        peak: peak * 1024,
        working_set: charged.saturating_sub(idle_files),
    })
}

/// Waits until the agent has done what there was to do.
pub fn settle(cluster: &Cluster, node: &str) -> Result<Usage> {
    let mut last = read_usage(cluster, node)?;
    let mut at = Instant::now();
    let mut problem = None;
    let settled = until(SETTLE_DEADLINE, POLL, || {
        if at.elapsed() < INTERVAL {
            return false;
        }
        match read_usage(cluster, node) {
            Ok(usage) => {
                let used = usage.cpu.saturating_sub(last.cpu);
                (last, at) = (usage, Instant::now());
                used < QUIET
            }
            Err(error) => {
                problem = Some(error);
                true
            }
        }
    });
    match problem {
        Some(error) => Err(error),
        None if settled => Ok(last),
        None => bail!("the agent of {node} is still busy after {} s", SETTLE_DEADLINE.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_their_order() {
        let usage = parse("10\n5\n2048\n4096\n9000000\n1000000\n").unwrap();
        assert_eq!((usage.cpu, usage.rss), (Duration::from_millis(150), 2 << 20));
        assert_eq!((usage.peak, usage.working_set), (4 << 20, 8_000_000));
        assert_eq!(parse("10\n5\n"), None);
    }
}
