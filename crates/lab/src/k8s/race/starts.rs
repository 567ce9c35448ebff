//! Race K on a real kubelet: pods that start at once on one node, under policy.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::agent::read_usage;
use super::{field, parse_duration};
use crate::k8s::api::{has_condition, wait_for};
use crate::k8s::cluster::Cluster;
use crate::k8s::node::own_directory;
use crate::process::output;
use crate::race::{line, millis, quantile};

const NAMESPACE: &str = "race";
const READY_DEADLINE: Duration = Duration::from_secs(600);

/// Starts the pods, waits until all are ready, and reads what it cost in the logs of plugin, agent and containerd.
pub fn run(cluster: &Cluster, pods: u16) -> Result<Vec<String>> {
    let node = cluster.nodes().next().context("the race needs a node")?.name.clone();
    apply(cluster, &surroundings())?;
    wait_for("the namespace's account", READY_DEADLINE, || {
        cluster.get(&format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/default")).map(|_| None)
    })?;
    // Logs also have what an earlier run did; no two have pods of one name.
    let prefix = format!("race-{}-", std::process::id());
    let before = read_usage(cluster, &node)?;
    let of_node = cluster.cgroups(&node)?.cpu()?;
    let start = Instant::now();
    apply(cluster, &many(&node, &prefix, pods))?;
    wait_for("the pods to be ready", READY_DEADLINE, || {
        let pods = cluster.list(&format!("/api/v1/namespaces/{NAMESPACE}/pods"))?;
        let waiting = pods.iter().filter(|pod| !has_condition(pod, "Ready")).count();
        Ok((waiting > 0).then(|| format!("{waiting} are not")))
    })?;
    let wall = start.elapsed();
    let of_node = cluster.cgroups(&node)?.cpu()?.saturating_sub(of_node);
    let agent = read_usage(cluster, &node)?.cpu.saturating_sub(before.cpu);
    let lines = lines(cluster, &node, &prefix, pods, &Spent { wall, of_node, agent });
    // Gone with their namespace, whatever came of the figures.
    let mut delete = cluster.kubectl()?;
    output(delete.args(["delete", "namespace", NAMESPACE, "--wait", "--timeout=300s"]))?;
    lines
}

/// What all starts together took.
struct Spent {
    wall: Duration,
    /// Processor of everything on the node: kubelet, containerd, runc, the plugin, the agent, the pods.
    of_node: Duration,
    agent: Duration,
}

fn lines(cluster: &Cluster, node: &str, prefix: &str, pods: u16, spent: &Spent) -> Result<Vec<String>> {
    let dir = cluster.place_dir(node);
    let plugin = read(own_directory(&dir, "/var/log/calico").join("cni/cni.log"))?;
    let of_race = |line: &&str| line.contains("verb=Add") && line.contains(&format!("{NAMESPACE}/{prefix}"));
    let adds = durations(plugin.lines().filter(of_race).filter(|line| line.contains(" done ")), "took");
    let plugins = durations(plugin.lines().filter(of_race), "cpu");
    let agent = agent_log(cluster, node)?;
    // In an endpoint's name dashes of the pod's are doubled.
    let endpoint = prefix.replace('-', "--");
    let in_force = |line: &&str| line.contains("policy is in force") && line.contains(&endpoint);
    let waits = durations(agent.lines().filter(in_force), "waited");
    let sandboxes = sandboxes(&read(cluster.log(node, "containerd"))?, prefix);
    for (what, found) in [("ADDs", &adds), ("waits for policy", &waits), ("sandboxes", &sandboxes)] {
        if found.len() < usize::from(pods) {
            bail!("of {pods} pods the logs have {} {what}", found.len());
        }
    }
    let count = f64::from(pods);
    let plugins = millis(plugins.iter().sum()) / count;
    let (of_agent, of_node) = (millis(spent.agent) / count, millis(spent.of_node) / count);
    let (add, sandbox) = (millis(quantile(&adds, 0.5)), millis(quantile(&sandboxes, 0.5)));
    let figure = |name: &str, value: f64, unit: &str| line('K', &format!("kube_{name}"), value, unit, None);
    Ok(vec![
        figure("pods", count, "pods"),
        figure("start_wall", millis(spent.wall) / count, "ms"),
        figure("start_cpu", of_node, "cpu-ms"),
        figure("sandbox_p50", sandbox, "ms"),
        figure("add_p50", add, "ms"),
        figure("add_p99", millis(quantile(&adds, 0.99)), "ms"),
        figure("add_policy_wait_p50", millis(quantile(&waits, 0.5)), "ms"),
        figure("add_policy_wait_p99", millis(quantile(&waits, 0.99)), "ms"),
        figure("add_cpu_plugin", plugins, "cpu-ms"),
        figure("add_cpu_agent", of_agent, "cpu-ms"),
        figure("add_share_of_sandbox", 100.0 * add / sandbox, "%"),
        figure("add_share_of_cpu", 100.0 * (plugins + of_agent) / of_node, "%"),
    ])
}

fn read(path: PathBuf) -> Result<String> {
    std::fs::read_to_string(&path).with_context(|| format!("{}", path.display()))
}

fn agent_log(cluster: &Cluster, node: &str) -> Result<String> {
    let pods = cluster.list("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dcalico-node")?;
    let pod = pods.iter().find(|pod| pod["spec"]["nodeName"] == node);
    let name = pod.and_then(|pod| pod["metadata"]["name"].as_str()).context("no calico-node on the node")?;
    output(cluster.kubectl()?.args(["logs", "-n", "kube-system", name, "-c", "calico-node", "--tail=-1"]))
}

/// Sorted.
fn durations<'a>(lines: impl Iterator<Item = &'a str>, name: &str) -> Vec<Duration> {
    let mut found: Vec<Duration> = lines.filter_map(|line| parse_duration(field(line, name)?)).collect();
    found.sort();
    found
}

/// How long containerd took for each sandbox of the race: its namespaces, its network, its first process. Sorted.
fn sandboxes(log: &str, prefix: &str) -> Vec<Duration> {
    let mut begun: BTreeMap<&str, Duration> = BTreeMap::new();
    let mut found = Vec::new();
    let of_race = format!("RunPodSandbox for &PodSandboxMetadata{{Name:{prefix}");
    for line in log.lines().filter(|line| line.contains(&of_race)) {
        let name = line.split_once("{Name:").and_then(|(_, rest)| rest.split_once(',')).map(|(name, _)| name);
        let (Some(name), Some(time)) = (name, time_of_day(line)) else { continue };
        if !line.contains("returns sandbox id") {
            begun.insert(name, time);
        } else if let Some(begun) = begun.remove(name) {
            // A start across midnight counts as none, rather than as a day.
            found.push(time.saturating_sub(begun));
        }
    }
    found.sort();
    found
}

/// Of `time="2026-11-27T14:03:09.947594601Z"`.
fn time_of_day(line: &str) -> Option<Duration> {
    let (_, rest) = line.split_once("time=\"")?;
    let (time, _) = rest.split_once("T")?.1.split_once('Z')?;
    let mut parts = time.split(':');
    let (hours, minutes) = (parts.next()?.parse::<u32>().ok()?, parts.next()?.parse::<u32>().ok()?);
    let seconds: f64 = parts.next()?.parse().ok().filter(|seconds| *seconds >= 0.0)?;
    Some(Duration::from_secs(u64::from(hours * 3600 + minutes * 60)) + Duration::from_secs_f64(seconds))
}

fn apply(cluster: &Cluster, object: &Value) -> Result<()> {
    let path = cluster.dir.join("race.json");
    std::fs::write(&path, object.to_string()).context("race.json")?;
    output(cluster.kubectl()?.args(["create", "-f"]).arg(&path))?;
    Ok(())
}

/// A namespace whose pods nobody reaches but one another, so that each has policy to wait for.
fn surroundings() -> Value {
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "race", "namespace": NAMESPACE},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{"from": [{"podSelector": {}}]}]},
    });
    list(vec![json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}), policy])
}

fn many(node: &str, prefix: &str, pods: u16) -> Value {
    let pod = |number: u16| {
        json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": format!("{prefix}{number}"), "namespace": NAMESPACE, "labels": {"app": "race"}},
            "spec": {
                "nodeName": node,
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "box",
                    "image": "busybox:stable",
                    "imagePullPolicy": "Never",
                    "command": ["sleep", "infinity"],
                }],
            },
        })
    };
    list((1..=pods).map(pod).collect())
}

/// Several objects as one.
pub fn list(items: Vec<Value>) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sandboxes_of_containerds_log() {
        let log = r#"time="2026-11-27T14:03:09.500000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:race-1,Uid:u,Namespace:race,Attempt:0,}"
time="2026-11-27T14:03:09.600000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:web-1,Uid:u,Namespace:race,Attempt:0,}"
time="2026-11-27T14:03:10.000000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:race-1,Uid:u,Namespace:race,Attempt:0,} returns sandbox id \"abc\""
time="2026-11-27T14:03:10.100000000Z" level=info msg="RunPodSandbox for &PodSandboxMetadata{Name:race-2,Uid:u,Namespace:race,Attempt:0,} returns sandbox id \"abd\""
"#;
        assert_eq!(sandboxes(log, "race-"), [Duration::from_millis(500)]);
        assert_eq!(sandboxes(log, "race-7-"), [] as [Duration; 0]);
    }
}
