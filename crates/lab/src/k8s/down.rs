//! Removing a cluster, whatever state it is in: also after a crash, and halfway through its start.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cgroups;
use super::cluster::Cluster;
use crate::process::{is_alive, marked};
use crate::wait::until;

/// How long the kernel may take to end everything in the namespaces of a killed first process.
const END_DEADLINE: Duration = Duration::from_secs(60);

/// Ends every process of a cluster, removes its cgroups and its directory. Its namespaces, mounts, links and routes go with
/// its processes.
pub fn tear_down(dir: &Path) -> Result<()> {
    let cluster = Cluster::load(dir)?;
    let own = i32::try_from(std::process::id())?;
    let others = || marked(&cluster.mark).into_iter().filter(|pid| *pid != own).collect::<Vec<_>>();
    let mut seen = BTreeSet::new();
    let gone = until(END_DEADLINE, Duration::from_millis(20), || {
        let pids = others();
        for pid in &pids {
            // It may end by itself meanwhile, or with its namespace.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        // A process loses its environment, and the mark in it, before it has ended.
        seen.extend(pids);
        seen.retain(|pid| is_alive(*pid));
        seen.is_empty()
    });
    let mut problems = Vec::new();
    if !gone {
        problems.push(format!("processes {seen:?} outlive SIGKILL"));
    }
    // Containers do not carry the lab's mark; they end with their node, or here.
    if let Err(error) = cgroups::remove_all(&cluster.group()) {
        problems.push(format!("{error:#}"));
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    std::fs::remove_dir_all(dir).with_context(|| format!("{}", dir.display()))
}
