//! What ends unexpectedly in a Kubernetes cluster of the lab: its programs come back, and a lab whose builder or first
//! processes were killed still goes without a trace.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a cluster says, and how long it took")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/k8s.rs"]
mod k8s;

use std::process::Stdio;

use k8s::{Cluster, PATIENCE, until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const WEB: &str = include_str!("k8s/web.yaml");

/// Only with `CALICO_K8S_CASES=all`: a cluster takes its time.
#[test]
fn crashes() {
    if !std::env::var("CALICO_K8S_CASES").is_ok_and(|value| value == "all") {
        println!("crashes of a cluster: only with CALICO_K8S_CASES=all, as in `make test-k8s`");
        return;
    }
    the_builder_is_killed();
    programs_and_places_are_killed();
}

fn the_builder_is_killed() {
    let Some(cluster) = Cluster::unbuilt("unfinished") else { return };
    let mut up = cluster.k8s(&["up", "--nodes", "2", "--cni", "none"]);
    let mut up = up.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("calico lab k8s up");
    let loaded = cluster.dir().join("node2/images-loaded");
    let begun = until(PATIENCE, || loaded.exists() || up.try_wait().expect("a child").is_some());
    up.kill().expect("the builder still builds");
    up.wait().expect("a child");
    assert!(begun && loaded.exists(), "the nodes of an unfinished cluster have no images");
    goes(cluster);
    println!("k8s crash: an unfinished cluster is gone");
}

fn programs_and_places_are_killed() {
    let Some(cluster) = Cluster::up("crash", &["--nodes", "1", "--cni", "ptp"]) else { return };
    cluster.apply(WEB);
    cluster.kubectl(&["rollout", "status", "daemonset", "web", "--timeout=300s"]);
    let web = cluster.pod_on("app=web", "node1");
    let started = cluster.field(&web, "{.status.containerStatuses[0].containerID}");
    for program in
        ["etcd", "kube-apiserver", "kube-controller", "kube-scheduler", "containerd", "kubelet", "kube-proxy"]
    {
        cluster.kill(program);
        cluster.eventually(
            &format!("the API after {program} was killed"),
            |said| said.trim() == "ok",
            || cluster.try_kubectl(&["get", "--raw", "/readyz"]),
        );
        println!("k8s crash: {program} came back");
    }
    // The pod outlived them all, and new ones still come.
    cluster.in_pod("the old pod", &web, &["hostname"], |said| web.ends_with(said.trim()));
    assert_eq!(cluster.field(&web, "{.status.containerStatuses[0].containerID}"), started);
    cluster.kubectl(&["delete", &web, "--wait", "--timeout=120s"]);
    cluster.kubectl(&["rollout", "status", "daemonset", "web", "--timeout=300s"]);
    assert_ne!(cluster.pod_on("app=web", "node1"), web);
    println!("k8s crash: the old pod lived on, and a new one came");

    let first = std::fs::read_to_string(cluster.dir().join("control-plane/pid")).expect("a pid");
    kill(Pid::from_raw(first.trim().parse().expect("a number")), Signal::SIGKILL).expect("it lives");
    assert!(until(PATIENCE, || cluster.pid_of("etcd").is_none()), "etcd outlives its place");
    goes(cluster);
    println!("k8s crash: a crashed cluster is gone");
}

fn goes(cluster: Cluster) {
    let traces = cluster.traces();
    assert!(!traces.left().is_empty());
    cluster.down();
    assert_eq!(traces.left(), Vec::<String>::new());
}
