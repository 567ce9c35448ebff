//! Who is killed at random moments while pods come and go, and how each comes back.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::k8s::Cluster;

/// The longest time from one kill to the next. The API server takes seconds to come back, and must get something done.
const LONGEST_WAIT: Duration = Duration::from_secs(12);
/// How long a plugin is waited for: it lives for milliseconds.
const HUNT: Duration = Duration::from_secs(2);

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// Of one node; its first process starts it again.
    Kubelet,
    /// The one there is; the same.
    ApiServer,
    /// Of one node. Its pod goes too, as kubelet would wait longer and longer before it starts the container again.
    Agent,
    /// Whatever of it runs.
    Plugin,
}

pub const ALL: [Victim; 4] = [Victim::Kubelet, Victim::ApiServer, Victim::Agent, Victim::Plugin];

/// Kills until `stop`; who was killed, one entry for each.
pub fn kill_at_random(cluster: &Cluster, nodes: usize, stop: &AtomicBool) -> Vec<Victim> {
    let mut killed = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LONGEST_WAIT.mul_f64(f64::from(random()) / f64::from(u16::MAX)));
        let victim = ALL[usize::from(random()) % ALL.len()];
        if strike(cluster, victim, nodes, stop) {
            killed.push(victim);
        }
    }
    killed
}

/// Whether somebody was killed.
fn strike(cluster: &Cluster, victim: Victim, nodes: usize, stop: &AtomicBool) -> bool {
    let node = format!("node{}", usize::from(random()) % nodes + 1);
    match victim {
        Victim::Kubelet => kill_one(&cluster.pids_of("kubelet")),
        Victim::ApiServer => kill_one(&cluster.pids_of("kube-apiserver")),
        Victim::Agent => {
            let killed = kill_one(&cluster.on_node(&node, "/usr/bin/calico-node"));
            if killed {
                let here = format!("spec.nodeName={node}");
                let pods = ["-n", "kube-system", "delete", "pods", "-l", "k8s-app=calico-node"];
                let now = ["--field-selector", &here, "--wait=false", "--force", "--grace-period=0"];
                // While the API server is away there is nobody to tell; then kubelet starts the container again.
                let _ = cluster.try_kubectl(&[&pods[..], &now[..]].concat());
            }
            killed
        }
        Victim::Plugin => {
            let end = Instant::now() + HUNT;
            while Instant::now() < end && !stop.load(Ordering::Relaxed) {
                if kill_one(&cluster.on_node(&node, "/opt/cni/bin/calico")) {
                    return true;
                }
            }
            false
        }
    }
}

/// Kills one of them by chance; whether it was still there.
fn kill_one(pids: &[i32]) -> bool {
    let Some(pid) = pids.get(usize::from(random()) % pids.len().max(1)) else { return false };
    kill(Pid::from_raw(*pid), Signal::SIGKILL).is_ok()
}

/// From the kernel's randomness: a kill must not beat in time with anything.
fn random() -> u16 {
    use std::io::Read;
    let mut bytes = [0; 2];
    std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("randomness");
    u16::from_be_bytes(bytes)
}
