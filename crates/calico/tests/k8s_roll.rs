//! The DaemonSet rolls from one version to another and back while a packet stream runs between pods of two nodes and 100
//! pods come and go: no packet is lost, and every pod that was deleted is gone.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a cluster says, and how long it took")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/k8s.rs"]
mod k8s;
#[path = "support/k8s_install.rs"]
mod k8s_install;

use std::time::Instant;

use k8s::{Cluster, text};
use k8s_install::make;
use serde_json::Value;

const STREAM: &str = include_str!("k8s/stream.yaml");
const CHURN: &str = include_str!("k8s/churn.yaml");
/// The second version: the same image under another name. Only the name makes kubelet replace the pod.
const NEXT: &str = "localhost/calico:next";
const SET: &str = "daemonset/calico-node";
/// `9999` and `listening` as /proc/net/tcp6 has them.
const LISTENS: [&str; 2] = [":270F ", " 0A "];
/// How many packets a stream must have had for its end to say anything.
const FEWEST: u64 = 5000;

/// Only with `CALICO_K8S_CASES=all`: a cluster takes its time.
#[test]
fn a_roll_loses_no_packet() {
    if !std::env::var("CALICO_K8S_CASES").is_ok_and(|value| value == "all") {
        println!("a roll: only with CALICO_K8S_CASES=all, as in `make test-k8s`");
        return;
    }
    let start = Instant::now();
    let reached = |what: &str| println!("k8s roll: {:5.1} s {what}", start.elapsed().as_secs_f64());
    let Some(cluster) = k8s_install::up("roll", &["--nodes", "2"]) else { return };
    make(&cluster, "install", &[]);
    reached("installed");
    let first = cluster.kubectl(&[
        "-n",
        "kube-system",
        "get",
        SET,
        "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    ]);
    for node in ["node1", "node2"] {
        let tag = ["ctr", "--namespace", "k8s.io", "images", "tag", "--force", &first, NEXT];
        let output = cluster.exec(node, &tag);
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
    let stream = Stream::start(&cluster, &first);
    cluster.apply(CHURN);
    cluster.kubectl(&["rollout", "status", "deployment", "churn", "--timeout=300s"]);
    reached("the stream runs, and pods to delete");
    for image in [NEXT, &first] {
        // Pods that the agent of the moment must remove, and others that it must make.
        cluster.kubectl(&["delete", "pods", "-l", "app=churn", "--wait=false"]);
        make(&cluster, "install", &[("IMAGE", image)]);
        let images = cluster.kubectl(&[
            "-n",
            "kube-system",
            "get",
            "pods",
            "-l",
            "k8s-app=calico-node",
            "-o",
            "jsonpath={.items[*].spec.containers[0].image}",
        ]);
        assert_eq!(images, format!("{image} {image}"));
        reached(&format!("{image} runs on both nodes"));
    }
    cluster.kubectl(&["rollout", "status", "deployment", "churn", "--timeout=300s"]);
    reached("all pods are there again");
    let (sent, received) = stream.end();
    let number = |report: &Value, name: &str| report[name].as_u64().expect("a number");
    println!("k8s roll: sent {sent}, received {received}");
    assert!(number(&sent, "udp") > FEWEST, "{sent}");
    assert_eq!(number(&sent, "udp"), number(&received, "udp"), "lost of {sent}: {received}");
    assert_eq!(number(&sent, "tcp"), number(&received, "tcp"), "lost of {sent}: {received}");

    cluster.kubectl(&["delete", "deployment", "churn", "--timeout=180s"]);
    cluster.kubectl(&["wait", "pods", "-l", "app=churn", "--for=delete", "--timeout=180s"]);
    for node in ["node1", "node2"] {
        // One for each pod that the API knows there, and no other.
        let pods = [
            "get",
            "pods",
            "-A",
            "--field-selector",
            &format!("spec.nodeName={node},spec.hostNetwork=false"),
            "-o",
            "name",
        ];
        let pods = cluster.kubectl(&pods).lines().count();
        cluster.eventually(
            &format!("{pods} interfaces of pods on {node}"),
            |said| said.lines().filter(|line| line.contains(": cali")).count() == pods,
            || cluster.exec(node, &["ip", "-o", "link"]),
        );
    }
    reached("of the pods that went nothing is left");
    cluster.down();
}

/// A stream from a pod on node1 to one on node2: 1,000 packets of UDP in a second, and a TCP stream beside them.
struct Stream<'a> {
    cluster: &'a Cluster,
}

impl Stream<'_> {
    fn start<'a>(cluster: &'a Cluster, image: &str) -> Stream<'a> {
        let pod = |name: &str, node: &str, arguments: &str| {
            let manifest = STREAM.replace("NAME", name).replace("NODE", node).replace("IMAGE", image);
            cluster.apply(&manifest.replace("ARGUMENTS", arguments));
            cluster.kubectl(&["wait", "pod", name, "--for=condition=Ready", "--timeout=300s"]);
        };
        pod("receiver", "node2", "receive");
        let listens = |said: &str| said.lines().any(|line| LISTENS.iter().all(|part| line.contains(part)));
        cluster.in_pod("the receiver listens", "receiver", &["cat", "/proc/net/tcp6"], listens);
        let address = cluster.field("pod/receiver", "{.status.podIP}");
        pod("sender", "node1", &format!("send, {address}"));
        Stream { cluster }
    }

    /// Ends the sender, then the receiver; what each counted.
    fn end(self) -> (Value, Value) {
        let end = |pod: &str| {
            self.cluster.kubectl(&["exec", pod, "-c", "box", "--", "touch", "/shared/stop"]);
            let read = ["exec", pod, "-c", "box", "--", "cat", "/shared/report"];
            let is_whole = |said: &str| serde_json::from_str::<Value>(said).is_ok();
            let said = self
                .cluster
                .eventually(&format!("the report of {pod}"), is_whole, || self.cluster.try_kubectl(&read));
            serde_json::from_str(&said).expect("JSON")
        };
        (end("sender"), end("receiver"))
    }
}
