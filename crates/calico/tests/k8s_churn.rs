//! 200 pods come and go while kubelet, the API server, the agent and the CNI plugin are killed at random: no address is given
//! twice, none is lost, each pod that lives is reached as policy says, and of each that is gone nothing is left.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a cluster says, and how long it took")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/k8s.rs"]
mod k8s;
#[path = "support/k8s_install.rs"]
mod k8s_install;
#[path = "support/k8s_victims.rs"]
mod k8s_victims;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use k8s::{Cluster, PATIENCE, text, until};
use k8s_install::make;
use k8s_victims::{ALL, kill_at_random};
use serde_json::Value;

const WEB: &str = include_str!("k8s/web.yaml");
const CHURN: &str = include_str!("k8s/churn-web.yaml");
const DENY: &str = include_str!("k8s/deny.yaml");
const ALLOW: &str = include_str!("k8s/allow.yaml");
const NODES: usize = 2;
/// Pods that live at a time, as churn-web.yaml says, and how often all are replaced.
const REPLICAS: usize = 40;
const ROUNDS: usize = 5;
/// Addresses without a user are collected after this; pods that start take less.
const GRACE: &str = r#"{"spec":{"controllers":{"node":{"leakGracePeriod":"20s"}}}}"#;

/// Only with `CALICO_K8S_CASES=all`: a cluster takes its time.
#[test]
fn pods_come_and_go_under_kills() {
    if !std::env::var("CALICO_K8S_CASES").is_ok_and(|value| value == "all") {
        println!("pods under kills: only with CALICO_K8S_CASES=all, as in `make test-k8s`");
        return;
    }
    let Some(cluster) = k8s_install::up("churn", &["--nodes", "2"]) else { return };
    make(&cluster, "install", &[]);
    let controllers = "kubecontrollersconfigurations.crd.projectcalico.org";
    cluster.kubectl(&["patch", controllers, "default", "--type", "merge", "-p", GRACE]);
    cluster.apply(WEB);
    for set in ["web", "box"] {
        cluster.kubectl(&["rollout", "status", "daemonset", set, "--timeout=300s"]);
    }
    cluster.apply(DENY);
    cluster.apply(ALLOW);
    cluster.apply(CHURN);
    let gone = churn(&cluster);
    assert!(gone.len() >= REPLICAS * ROUNDS, "{} pods came and went", gone.len());
    let living = living(&cluster);
    let web: Vec<IpAddr> = living.values().filter(|pod| pod.is_web).map(|pod| pod.address).collect();
    assert_eq!(web.len(), REPLICAS + NODES);
    let now: BTreeSet<IpAddr> = living.values().map(|pod| pod.address).collect();
    assert_eq!(now.len(), living.len(), "an address was given twice: {living:?}");

    reached_as_policy_says(&cluster, &web);
    println!("k8s churn: {} living pods are reached as policy says", web.len());
    nothing_is_left(&cluster, &living);
    let dead: Vec<IpAddr> = gone.iter().copied().filter(|address| !now.contains(address)).collect();
    let answers = ask(&cluster, "app=box", "node1", &dead);
    assert!(answers.values().all(|code| *code != 0), "dead pods answer: {answers:?}");
    println!("k8s churn: of {} dead pods nothing is left", gone.len());
    no_address_is_lost(&cluster, &living);
    println!("k8s churn: IPAM has the addresses of those who live, and no other");
    cluster.down();
}

/// Replaces all pods several times under kills; the addresses that pods had which are gone.
fn churn(cluster: &Cluster) -> Vec<IpAddr> {
    let (start, stop) = (Instant::now(), AtomicBool::new(false));
    let (gone, killed) = std::thread::scope(|scope| {
        let killer = scope.spawn(|| kill_at_random(cluster, NODES, &stop));
        let rounds = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut gone = Vec::new();
            for round in 1..=ROUNDS {
                let old = ready(cluster);
                gone.extend(old.values().copied());
                replace(cluster, &old);
                println!("k8s churn: {:5.1} s round {round} of {ROUNDS}", start.elapsed().as_secs_f64());
            }
            gone
        }));
        // However the rounds end, the killer must.
        stop.store(true, Ordering::Relaxed);
        let killed = killer.join().expect("the killer ends");
        (rounds.unwrap_or_else(|panic| std::panic::resume_unwind(panic)), killed)
    });
    for victim in ALL {
        let count = killed.iter().filter(|other| **other == victim).count();
        println!("k8s churn: {victim:?} killed {count} times");
        assert!(count > 0, "{victim:?} was never killed, so this shows nothing about it");
    }
    ready(cluster);
    gone
}

/// Waits until all of the churn are ready; the address of each.
fn ready(cluster: &Cluster) -> BTreeMap<String, IpAddr> {
    let mut found = BTreeMap::new();
    let complete = until(2 * PATIENCE, || {
        let Some(pods) = pods(cluster, "churn=web") else { return false };
        let is_ready = |pod: &&Value| {
            let conditions = pod["status"]["conditions"].as_array();
            let ready =
                conditions.into_iter().flatten().any(|c| c["type"] == "Ready" && c["status"] == "True");
            ready && pod["metadata"]["deletionTimestamp"].is_null()
        };
        found = pods.iter().filter(is_ready).filter_map(|pod| Some((name(pod), address(pod)?))).collect();
        found.len() == REPLICAS
    });
    assert!(complete, "{} of {REPLICAS} pods are ready{}", found.len(), cluster.events());
    let unique: BTreeSet<&IpAddr> = found.values().collect();
    assert_eq!(unique.len(), found.len(), "an address was given twice: {found:?}");
    found
}

/// Deletes pods and waits until the API knows none of them any more.
fn replace(cluster: &Cluster, old: &BTreeMap<String, IpAddr>) {
    let gone = until(2 * PATIENCE, || {
        let Some(pods) = pods(cluster, "churn=web") else { return false };
        let left: Vec<String> = pods.iter().map(name).filter(|name| old.contains_key(name)).collect();
        if !left.is_empty() {
            // The API server may have been away when it was told.
            let names = left.iter().map(String::as_str);
            let delete: Vec<&str> =
                ["delete", "pods", "--wait=false", "--ignore-not-found"].into_iter().chain(names).collect();
            cluster.try_kubectl(&delete);
        }
        left.is_empty()
    });
    assert!(gone, "old pods stay{}", cluster.events());
}

/// The pods of a label in the default namespace; `None` while the API server is away.
fn pods(cluster: &Cluster, label: &str) -> Option<Vec<Value>> {
    let output = cluster.try_kubectl(&["get", "pods", "-l", label, "-o", "json"]);
    let list: Value = serde_json::from_slice(&output.stdout).ok().filter(|_| output.status.success())?;
    list["items"].as_array().cloned()
}

fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().expect("a name").to_owned()
}

fn address(pod: &Value) -> Option<IpAddr> {
    pod["status"]["podIP"].as_str()?.parse().ok()
}

/// A pod that has an address of ours.
#[derive(Debug)]
struct Living {
    node: String,
    address: IpAddr,
    is_web: bool,
}

fn living(cluster: &Cluster) -> BTreeMap<String, Living> {
    let list: Value =
        serde_json::from_str(&cluster.kubectl(&["get", "pods", "-A", "-o", "json"])).expect("JSON");
    let items = list["items"].as_array().expect("items").iter();
    let ours = items.filter(|pod| pod["spec"]["hostNetwork"] != true);
    let describe = |pod: &Value| {
        let node = pod["spec"]["nodeName"].as_str().expect("a node").to_owned();
        let is_web = pod["metadata"]["labels"]["app"] == "web";
        (name(pod), Living { node, address: address(pod).expect("an address"), is_web })
    };
    ours.map(describe).collect()
}

/// curl's exit code for each address, asked at once from a pod on a node.
fn ask(cluster: &Cluster, label: &str, node: &str, addresses: &[IpAddr]) -> BTreeMap<IpAddr, i32> {
    let from = cluster.pod_on(label, node);
    let mut answers = BTreeMap::new();
    // So many at a time that the pod's node is not what is measured.
    for part in addresses.chunks(25) {
        let list = part.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        let script = format!(
            "for a in {list}; do (curl -sS -o /dev/null --max-time 5 http://$a/ 2>/dev/null; echo $a $?) & done; wait"
        );
        let output = cluster.try_kubectl(&["exec", &from, "--", "sh", "-c", &script]);
        answers.extend(text(&output.stdout).lines().filter_map(|line| {
            let (address, code) = line.split_once(' ')?;
            Some((address.parse::<IpAddr>().ok()?, code.parse::<i32>().ok()?))
        }));
    }
    answers
}

/// Boxes reach every web server, on their own node and on the other; web servers reach none.
fn reached_as_policy_says(cluster: &Cluster, web: &[IpAddr]) {
    for (label, reaches) in [("app=box", true), ("app=web,!churn", false)] {
        for node in 1..=NODES {
            let mut answers = BTreeMap::new();
            let held = until(PATIENCE, || {
                answers = ask(cluster, label, &format!("node{node}"), web);
                // A web server reaches itself.
                let own = if reaches { 0 } else { 1 };
                let reached = answers.values().filter(|code| **code == 0).count();
                answers.len() == web.len() && reached == if reaches { web.len() } else { own }
            });
            assert!(held, "{label} on node{node}, curl's exit codes: {answers:?}{}", cluster.events());
        }
    }
}

/// Nodes have an interface and a route for each of their pods, and none for any other.
fn nothing_is_left(cluster: &Cluster, living: &BTreeMap<String, Living>) {
    for number in 1..=NODES {
        let node = format!("node{number}");
        let mut own: Vec<String> =
            living.values().filter(|pod| pod.node == node).map(|pod| pod.address.to_string()).collect();
        own.sort();
        let routes = |said: &str| {
            let mut routes: Vec<String> = said
                .lines()
                .filter(|line| line.contains("dev cali"))
                .filter_map(|line| line.split(' ').next())
                .map(str::to_owned)
                .collect();
            routes.sort();
            routes
        };
        cluster.eventually(
            &format!("routes on {node} to {own:?}"),
            |said| routes(said) == own,
            || cluster.exec(&node, &["ip", "-4", "route"]),
        );
        cluster.eventually(
            &format!("{} interfaces of pods on {node}", own.len()),
            |said| said.lines().filter(|line| line.contains(": cali")).count() == own.len(),
            || cluster.exec(&node, &["ip", "-o", "link"]),
        );
    }
}

/// Waits until IPAM's blocks hold the addresses of pods that live and of nodes' tunnels, and no other.
fn no_address_is_lost(cluster: &Cluster, living: &BTreeMap<String, Living>) {
    let mut expected: BTreeSet<IpAddr> = living.values().map(|pod| pod.address).collect();
    let tunnels = r"{.items[*].metadata.annotations.projectcalico\.org/IPv4VXLANTunnelAddr}";
    let tunnels = cluster.kubectl(&["get", "nodes", "-o", &format!("jsonpath={tunnels}")]);
    expected.extend(tunnels.split_whitespace().map(|text| text.parse::<IpAddr>().expect("an address")));
    assert_eq!(expected.len(), living.len() + NODES, "{tunnels}");
    let mut held = BTreeSet::new();
    let same = until(PATIENCE, || {
        let blocks = cluster.kubectl(&["get", "ipamblocks.crd.projectcalico.org", "-o", "json"]);
        held = assigned(&serde_json::from_str(&blocks).expect("JSON"));
        held == expected
    });
    let lost: Vec<_> = held.difference(&expected).collect();
    let unknown: Vec<_> = expected.difference(&held).collect();
    assert!(same, "taken, but by nobody: {lost:?}; in use, but not taken: {unknown:?}");
}

/// The addresses that blocks say are taken.
fn assigned(blocks: &Value) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    for block in blocks["items"].as_array().expect("items") {
        let cidr = block["spec"]["cidr"].as_str().expect("a CIDR");
        let base: Ipv4Addr = cidr.split('/').next().expect("a base").parse().expect("IPv4");
        let slots = block["spec"]["allocations"].as_array().expect("allocations");
        let taken = slots.iter().enumerate().filter(|(_, slot)| !slot.is_null());
        found.extend(taken.map(|(ordinal, _)| {
            IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() + u32::try_from(ordinal).expect("small")))
        }));
    }
    found
}
