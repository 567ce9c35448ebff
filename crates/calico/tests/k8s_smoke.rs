//! A Kubernetes cluster of the lab: pods reach one another on other nodes, services answer by address, by name and from
//! outside, logs and exec work, and nothing is left when it is down.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a cluster says, and how long it took")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/k8s.rs"]
mod k8s;

use std::time::Instant;

use k8s::{Cluster, machine_settings};

const WEB: &str = include_str!("k8s/web.yaml");

/// One cluster: how it is started, and the families that it has.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    nodes: usize,
    dual_stack: bool,
}

const CASES: [Case; 2] = [
    Case { name: "nftables", arguments: &["--nodes", "2"], nodes: 2, dual_stack: true },
    Case {
        name: "iptables",
        arguments: &["--nodes", "3", "--proxy", "iptables"],
        nodes: 3,
        dual_stack: false,
    },
];

/// With `CALICO_K8S_CASES=all` every case, otherwise the first: a cluster takes its time.
#[test]
fn a_cluster_comes_works_and_goes() {
    let all = std::env::var("CALICO_K8S_CASES").is_ok_and(|value| value == "all");
    for case in CASES.iter().take(if all { CASES.len() } else { 1 }) {
        check(case);
    }
}

/// Who gives pods their network: Calico where its image is said (`CALICO_K8S_IMAGE`), otherwise the lab's stand-in. Calico's
/// manifest gives them one family.
fn network(dual_stack: bool) -> (Vec<String>, bool) {
    let Ok(image) = std::env::var("CALICO_K8S_IMAGE") else {
        let mut arguments = vec!["--cni", "ptp"];
        arguments.extend(dual_stack.then_some("--dual-stack"));
        return (arguments.into_iter().map(str::to_owned).collect(), dual_stack);
    };
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/calico-vxlan.yaml");
    let arguments = ["--cni", "calico", "--image", &image, "--manifest", manifest];
    (arguments.map(str::to_owned).to_vec(), false)
}

fn check(case: &Case) {
    let start = Instant::now();
    let reached = |what: &str| println!("k8s {}: {:5.1} s {what}", case.name, start.elapsed().as_secs_f64());
    let settings = machine_settings();
    let (network, dual_stack) = network(case.dual_stack);
    let arguments: Vec<&str> =
        case.arguments.iter().copied().chain(network.iter().map(String::as_str)).collect();
    let Some(cluster) = Cluster::up(case.name, &arguments) else { return };
    reached("up");

    cluster.apply(WEB);
    for set in ["web", "box"] {
        cluster.kubectl(&["rollout", "status", "daemonset", set, "--timeout=300s"]);
    }
    reached("pods run");
    let last = format!("node{}", case.nodes);
    let web = cluster.pod_on("app=web", &last);
    let name = web.trim_start_matches("pod/").to_owned();
    let from = cluster.pod_on("app=box", "node1");
    let says = |url: &str| ["curl", "-sS", "--max-time", "3", url].map(str::to_owned);
    let ask = |what: &str, url: &str, expected: &str| {
        let line = says(url);
        let line: Vec<&str> = line.iter().map(String::as_str).collect();
        cluster.in_pod(what, &from, &line, |said| said.contains(expected));
        reached(what);
    };

    let addresses = cluster.field(&web, "{.status.podIPs[*].ip}");
    let addresses: Vec<&str> = addresses.split_whitespace().collect();
    assert_eq!(addresses.len(), if dual_stack { 2 } else { 1 }, "{addresses:?}");
    for address in &addresses {
        ask("a pod answers one on another node", &url(address), &format!("host={name}"));
    }
    let services = cluster.field("service/web", "{.spec.clusterIPs[*]}");
    for address in services.split_whitespace() {
        ask("the service answers by address", &url(address), "host=web-");
    }
    ask("the service answers by name", "http://web.default.svc.cluster.local/", "host=web-");
    ask("the service answers by its short name", "http://web/", "host=web-");
    let version = cluster.in_pod(
        "the API server answers a pod",
        &from,
        &["curl", "-skS", "--max-time", "5", "https://kubernetes.default.svc/version"],
        |said| said.contains("gitVersion"),
    );
    assert!(version.contains("\"v1."), "{version}");
    reached("the API server answers a pod");

    let port = cluster.field("service/web", "{.spec.ports[0].nodePort}");
    for number in 1..=case.nodes {
        let mut addresses = vec![format!("http://10.65.0.{number}:{port}/")];
        if dual_stack {
            addresses.push(format!("http://[fd65::{number:x}]:{port}/"));
        }
        for address in addresses {
            cluster.eventually(
                &format!("{address} from outside"),
                |said| said.contains("host=web-"),
                || cluster.exec("client", &["curl", "-sS", "--max-time", "3", &address]),
            );
        }
    }
    reached("every node answers from outside");

    cluster.eventually(
        "the web server's log",
        |said| said.contains("GET / HTTP"),
        || cluster.try_kubectl(&["logs", &web]),
    );
    cluster.in_pod("the node's name in a pod on it", &web, &["hostname"], |said| said.trim() == name);
    reached("logs and exec");
    cluster.kubectl(&["delete", &web, "--wait", "--timeout=120s"]);
    cluster.kubectl(&["rollout", "status", "daemonset", "web", "--timeout=300s"]);
    assert_ne!(cluster.pod_on("app=web", &last), web);
    reached("a pod is replaced");

    let traces = cluster.traces();
    // Six for each node, and each pod has some of its own.
    assert!(traces.namespaces.len() > 6 * case.nodes, "{:?}", traces.namespaces);
    assert!(!traces.left().is_empty());
    cluster.down();
    reached("down");
    assert_eq!(traces.left(), Vec::<String>::new());
    assert_eq!(machine_settings(), settings);
}

fn url(address: &str) -> String {
    if address.contains(':') { format!("http://[{address}]/") } else { format!("http://{address}/") }
}
