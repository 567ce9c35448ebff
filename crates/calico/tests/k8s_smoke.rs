//! Calico in a Kubernetes cluster of the lab, from the shipped image and manifest: it is installed as users install it; pods
//! reach one another on other nodes, services answer by address, by name and from outside; policy denies and allows; logs and
//! exec work; nodes are as before when it is uninstalled, and nothing is left when the cluster is down.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a cluster says, and how long it took")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/k8s.rs"]
mod k8s;
#[path = "support/k8s_install.rs"]
mod k8s_install;

use std::process::Output;
use std::time::Instant;

use k8s::{Cluster, machine_settings, text};
use k8s_install::{assert_as_before, make, settled_state};

const WEB: &str = include_str!("k8s/web.yaml");
const DENY: &str = include_str!("k8s/deny.yaml");
const ALLOW: &str = include_str!("k8s/allow.yaml");
/// curl's exit code where nobody answered in time.
const TIMED_OUT: i32 = 28;

/// One cluster: how it is started, and what it has.
struct Case {
    name: &'static str,
    arguments: &'static [&'static str],
    nodes: usize,
    dual_stack: bool,
}

const CASES: [Case; 3] = [
    Case { name: "smoke", arguments: &["--nodes", "2"], nodes: 2, dual_stack: false },
    Case { name: "nftables", arguments: &["--nodes", "3", "--dual-stack"], nodes: 3, dual_stack: true },
    Case {
        name: "iptables",
        arguments: &["--nodes", "3", "--dual-stack", "--proxy", "iptables"],
        nodes: 3,
        dual_stack: true,
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

fn check(case: &Case) {
    let start = Instant::now();
    let settings = machine_settings();
    let Some(cluster) = k8s_install::up(case.name, case.arguments) else { return };
    let run = Run { case, cluster: &cluster, start };
    run.reached("up");
    let before = settled_state(&cluster, case.nodes);
    run.install();
    run.pods_and_services();
    run.outside();
    run.policy();
    run.logs_and_exec();
    run.replacement();
    let traces = cluster.traces();
    // Six for each node, and each pod has some of its own.
    assert!(traces.namespaces.len() > 6 * case.nodes, "{:?}", traces.namespaces);
    make(&cluster, "uninstall", &[]);
    cluster.kubectl(&["delete", "daemonset,service", "web", "box", "--ignore-not-found", "--timeout=180s"]);
    assert_as_before(&cluster, case.nodes, &before);
    run.reached("uninstalled, every node as before");

    assert!(!traces.left().is_empty());
    cluster.down();
    println!("k8s {}: {:5.1} s down", case.name, start.elapsed().as_secs_f64());
    assert_eq!(traces.left(), Vec::<String>::new());
    assert_eq!(machine_settings(), settings);
}

/// A case under way.
struct Run<'a> {
    case: &'a Case,
    cluster: &'a Cluster,
    start: Instant,
}

impl Run<'_> {
    fn reached(&self, what: &str) {
        println!("k8s {}: {:5.1} s {what}", self.case.name, self.start.elapsed().as_secs_f64());
    }

    fn last_node(&self) -> String {
        format!("node{}", self.case.nodes)
    }

    fn install(&self) {
        let families = if self.case.dual_stack { "yes" } else { "no" };
        make(self.cluster, "install", &[("DUAL_STACK", families)]);
        self.reached("make install");
        self.cluster.kubectl(&[
            "-n",
            "kube-system",
            "rollout",
            "status",
            "deployment",
            "coredns",
            "--timeout=300s",
        ]);
        self.cluster.apply(WEB);
        for set in ["web", "box"] {
            self.cluster.kubectl(&["rollout", "status", "daemonset", set, "--timeout=300s"]);
        }
        self.reached("CoreDNS and the test's pods run");
    }

    /// The addresses of the web server on the last node, for whoever asks it by them.
    fn web_urls(&self) -> Vec<String> {
        let web = self.cluster.pod_on("app=web", &self.last_node());
        let addresses = self.cluster.field(&web, "{.status.podIPs[*].ip}");
        let urls: Vec<String> = addresses.split_whitespace().map(url).collect();
        assert_eq!(urls.len(), if self.case.dual_stack { 2 } else { 1 }, "{addresses:?}");
        urls
    }

    /// A box on the first node gets an answer.
    fn ask(&self, what: &str, url: &str, expected: &str) {
        let from = self.cluster.pod_on("app=box", "node1");
        let line = ["curl", "-sS", "--max-time", "3", url];
        self.cluster.in_pod(&format!("{what}: {url}"), &from, &line, |said| said.contains(expected));
    }

    fn pods_and_services(&self) {
        let web = self.cluster.pod_on("app=web", &self.last_node());
        let name = web.trim_start_matches("pod/");
        for url in self.web_urls() {
            self.ask("a pod of another node", &url, &format!("host={name}"));
        }
        let services = self.cluster.field("service/web", "{.spec.clusterIPs[*]}");
        for address in services.split_whitespace() {
            self.ask("the service by address", &url(address), "host=web-");
        }
        self.ask("the service by name", "http://web.default.svc.cluster.local/", "host=web-");
        self.ask("the service by its short name", "http://web/", "host=web-");
        self.reached("pods of other nodes and services answer, by address and by name");
        let version = self.cluster.in_pod(
            "the API server answers a pod",
            &self.cluster.pod_on("app=box", "node1"),
            &["curl", "-skS", "--max-time", "5", "https://kubernetes.default.svc/version"],
            |said| said.contains("gitVersion"),
        );
        assert!(version.contains("\"v1."), "{version}");
        self.reached("the API server answers a pod");
    }

    /// Every node answers for every service, wherever the pods are.
    fn outside(&self) {
        let said = make(self.cluster, "check", &[]);
        assert!(said.contains("check: every node answers"), "{said}");
        for address in self.node_ports() {
            self.cluster.eventually(
                &format!("{address} from outside"),
                |said| said.contains("host=web-"),
                || self.curl_from("client", &address),
            );
        }
        self.reached("make check; every node answers from outside");
        let at =
            self.cluster.field("pod", "{.items[?(@.metadata.labels.app=='nginx-demo-1')].spec.nodeName}");
        let port = self.cluster.field("service/nginx-demo-1", "{.spec.ports[0].nodePort}");
        let number = |name: &str| name.trim_start_matches("node").parse::<usize>().expect("a node's number");
        let pod = number(&at);
        let all = 1..=self.case.nodes;
        let pairs = all.clone().flat_map(|client| all.clone().map(move |node| (client, node)));
        for (client, node) in pairs.filter(|(client, node)| *client != pod && *node != pod && client != node)
        {
            let address = format!("http://10.65.0.{node}:{port}/");
            let from = format!("node{client}");
            let expected = |said: &str| said.contains("host=nginx-demo-1-");
            self.cluster
                .eventually(&format!("{address} from {from}"), expected, || self.curl_from(&from, &address));
            let curl = ["curl", "-sS", "--max-time", "3", &address];
            let from = self.cluster.pod_on("app=box", &from);
            self.cluster.in_pod(&format!("{address} from {from}"), &from, &curl, expected);
            self.reached(&format!("node{node} answers a client on node{client} for a pod on node{pod}"));
        }
    }

    fn node_ports(&self) -> Vec<String> {
        let port = self.cluster.field("service/web", "{.spec.ports[0].nodePort}");
        let mut addresses: Vec<String> =
            (1..=self.case.nodes).map(|node| format!("http://10.65.0.{node}:{port}/")).collect();
        if self.case.dual_stack {
            addresses.extend((1..=self.case.nodes).map(|node| format!("http://[fd65::{node:x}]:{port}/")));
        }
        addresses
    }

    fn curl_from(&self, place: &str, url: &str) -> Output {
        self.cluster.exec(place, &["curl", "-sS", "--max-time", "3", url])
    }

    /// Default deny, and one allowed: who may reach whom between nodes, asked with real requests.
    fn policy(&self) {
        let cluster = self.cluster;
        let target = self.cluster.pod_on("app=web", &self.last_node());
        let host = format!("host={}", target.trim_start_matches("pod/"));
        let (boxes, web) = (cluster.pod_on("app=box", "node1"), cluster.pod_on("app=web", "node1"));
        let urls = self.web_urls();
        let curl = |pod: &str, url: &str| {
            cluster.try_kubectl(&["exec", pod, "--", "curl", "-sS", "--max-time", "3", url])
        };
        let reaches = |pod: &str| {
            for url in &urls {
                let what = format!("{pod} reaches {url}");
                cluster.eventually(&what, |said| said.contains(&host), || curl(pod, url));
            }
        };
        let denied = |pod: &str| {
            for url in &urls {
                cluster
                    .eventually_fails(&format!("{pod} does not reach {url}"), TIMED_OUT, || curl(pod, url));
            }
        };
        reaches(&boxes);
        reaches(&web);
        cluster.apply(DENY);
        denied(&boxes);
        denied(&web);
        for address in self.node_ports() {
            let what = format!("{address} does not answer outside");
            cluster.eventually_fails(&what, TIMED_OUT, || self.curl_from("client", &address));
        }
        self.reached("policy denies");
        cluster.apply(ALLOW);
        reaches(&boxes);
        for url in &urls {
            let said = curl(&web, url);
            assert_eq!(said.status.code(), Some(TIMED_OUT), "{web} reaches {url}: {}", text(&said.stdout));
        }
        self.reached("policy allows one, and still denies the other");
        cluster.kubectl(&["delete", "networkpolicy", "--all", "--timeout=180s"]);
        reaches(&boxes);
        reaches(&web);
        self.reached("without policy all answer");
    }

    fn logs_and_exec(&self) {
        let web = self.cluster.pod_on("app=web", &self.last_node());
        self.cluster.eventually(
            "the web server's log",
            |said| said.contains("GET / HTTP"),
            || self.cluster.try_kubectl(&["logs", &web]),
        );
        let name = web.trim_start_matches("pod/");
        self.cluster.in_pod("the pod's name in it", &web, &["hostname"], |said| said.trim() == name);
        self.reached("logs and exec");
    }

    fn replacement(&self) {
        let old = self.cluster.pod_on("app=web", &self.last_node());
        self.cluster.kubectl(&["delete", &old, "--wait", "--timeout=180s"]);
        self.cluster.kubectl(&["rollout", "status", "daemonset", "web", "--timeout=300s"]);
        let new = self.cluster.pod_on("app=web", &self.last_node());
        assert_ne!(new, old);
        let host = format!("host={}", new.trim_start_matches("pod/"));
        for url in self.web_urls() {
            self.ask("the pod's successor", &url, &host);
        }
        self.reached("a pod is replaced");
    }
}

fn url(address: &str) -> String {
    if address.contains(':') { format!("http://[{address}]/") } else { format!("http://{address}/") }
}
