//! Routes to services in a Kubernetes cluster of the lab, as docs/service-routes.md has it: a router outside, a BIRD that
//! is nobody's but its own, learns them from three nodes, and what asks through its kernel gets answers from kube-proxy.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a cluster says, and how long it took")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/k8s.rs"]
mod k8s;
#[path = "support/k8s_install.rs"]
mod k8s_install;

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::time::Instant;

use k8s::{Cluster, text};
use k8s_install::make;
use serde_json::Value;

const BOOK: &str = include_str!("../../../docs/service-routes.md");
const MANIFEST: &str = include_str!("../../../deploy/calico.yaml");
const SERVICES: &str = include_str!("k8s/services.yaml");
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
const ALL: &[u8] = &[1, 2, 3];

/// The router of the book. It does what a router of a network does, and no more: equal routes share the traffic.
const ROUTER: &str = r#"
log "LOG" all;
router id 10.65.0.253;
protocol device {}
protocol direct { ipv4; }
protocol kernel { merge paths on; ipv4 { import none; export filter { if source = RTS_BGP then accept; reject; }; }; }
template bgp node {
  local 10.65.0.253 as 65000;
  multihop;
  connect delay time 1; connect retry time 2; error wait time 1, 2;
  ipv4 { import all; export none; };
}
protocol bgp node1 from node { neighbor 10.65.0.1 as 64512; }
protocol bgp node2 from node { neighbor 10.65.0.2 as 64512; }
protocol bgp node3 from node { neighbor 10.65.0.3 as 64512; }
"#;

/// Only with `CALICO_K8S_CASES=all`: a cluster takes its time.
#[test]
fn a_router_outside_is_led_to_services() {
    if !std::env::var("CALICO_K8S_CASES").is_ok_and(|value| value == "all") {
        println!("routes to services: only with CALICO_K8S_CASES=all, as in `make test-k8s`");
        return;
    }
    let start = Instant::now();
    let Some(cluster) = k8s_install::up("services", &["--nodes", "3"]) else { return };
    let run = Run { cluster: &cluster, start };
    run.install();
    let router = Router::start(&cluster);
    run.ranges();
    run.traffic_policies();
    run.excluded_node();
    run.moving_endpoint();
    run.aggregation();
    run.nobody_serves();
    run.what_was_said();
    drop(router);
    cluster.down();
}

/// The router's daemon; it ends with this.
struct Router(Child);

impl Router {
    fn start(cluster: &Cluster) -> Router {
        let file = |name: &str| cluster.dir().join(format!("router.{name}")).display().to_string();
        let config = file("conf");
        std::fs::write(&config, ROUTER.replace("LOG", &file("log"))).expect("written");
        let bird = ["bird", "-f", "-c", &config, "-s", &file("ctl"), "-P", &file("pid")];
        let mut command = cluster.k8s(&["exec", "client", "--"]);
        Router(command.args(bird).stdout(Stdio::null()).spawn().expect("bird"))
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        // It may have ended of itself: then the routes that were waited for say so.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The test under way.
struct Run<'a> {
    cluster: &'a Cluster,
    start: Instant,
}

impl Run<'_> {
    fn reached(&self, what: &str) {
        println!("k8s services: {:5.1} s {what}", self.start.elapsed().as_secs_f64());
    }

    /// The manifest with BIRD. All nodes are in one subnet, so plain routes will do.
    fn install(&self) {
        let mode = |mode: &str| format!("- name: CALICO_IPV4POOL_IPIP\n              value: {mode}\n");
        assert!(MANIFEST.contains(&mode("Always")));
        let path = self.cluster.dir().join("calico.yaml");
        std::fs::write(&path, MANIFEST.replace(&mode("Always"), &mode("Never"))).expect("written");
        make(self.cluster, "install", &[("MANIFEST", &path.display().to_string())]);
        self.reached("installed");
        self.cluster.apply(SERVICES);
        self.cluster.kubectl(&["rollout", "status", "deployment", "web", "--timeout=300s"]);
        // What a controller of load balancers would write; one address is outside the range.
        let status =
            r#"{"status":{"loadBalancer":{"ingress":[{"ip":"198.51.100.2"},{"ip":"198.51.99.2"}]}}}"#;
        let patch = ["patch", "service", "local", "--subresource=status", "--type=merge", "-p", status];
        self.cluster.kubectl(&patch);
        self.reached("a web server on node2, and services");
    }

    /// The router's routes that BGP gave: from prefix to the nodes that they lead to.
    fn routes(&self) -> BTreeMap<String, Vec<u8>> {
        let output = self.cluster.exec("client", &["ip", "-j", "route", "show", "proto", "bird"]);
        let routes: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let node = |hop: &Value| hop["gateway"].as_str()?.strip_prefix("10.65.0.")?.parse::<u8>().ok();
        let read = |route: &Value| {
            let several = route["nexthops"].as_array().into_iter().flatten();
            let mut nodes: Vec<u8> = several.filter_map(node).chain(node(route)).collect();
            nodes.sort_unstable();
            (route["dst"].as_str().expect("a prefix").to_owned(), nodes)
        };
        routes.iter().map(read).collect()
    }

    /// Waits until the router's routes to services are these and no others.
    fn await_routes(&self, what: &str, expected: &[(&str, &[u8])]) {
        let expected: BTreeMap<String, Vec<u8>> =
            expected.iter().map(|(prefix, nodes)| ((*prefix).to_owned(), nodes.to_vec())).collect();
        let mut last = BTreeMap::new();
        let held = k8s::until(k8s::PATIENCE, || {
            last = self.routes();
            // Pods' blocks are there all the time.
            last.retain(|prefix, _| !prefix.starts_with("10.244."));
            last == expected
        });
        assert!(held, "{what}: the router has {last:#?} and not {expected:#?}{}", self.cluster.events());
        self.reached(what);
    }

    /// The router's network asks; the answer. It is no member of the cluster: only routes lead it there.
    fn ask(&self, address: &str, expected: &str) {
        let url = format!("http://{address}/");
        let curl = ["curl", "-sS", "--max-time", "3", &url];
        let said = self.cluster.eventually(
            &format!("{url} from outside"),
            |said| said.contains(expected),
            || self.cluster.exec("client", &curl),
        );
        self.reached(&format!("{url} from outside: {}", said.trim()));
    }

    /// Applies a manifest of the book, with some words of it replaced.
    fn calicoctl(&self, replace: &[(&str, &str)]) {
        let (_, rest) = BOOK.split_once("```yaml\n# service-ranges.yaml\n").expect("the manifest");
        let (manifest, _) = rest.split_once("```").expect("its end");
        let manifest = replace.iter().fold(manifest.to_owned(), |text, (old, new)| {
            assert!(text.contains(old), "{old}");
            text.replace(old, new)
        });
        let path = self.cluster.dir().join("service-ranges.yaml");
        std::fs::write(&path, manifest).expect("written");
        let path = path.display().to_string();
        let output = self.cluster.exec("control-plane", &["calicoctl", "apply", "-f", &path]);
        assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    }

    /// Routes as the book's tables have them, for an endpoint on one node.
    fn ranges(&self) {
        self.calicoctl(&[]);
        self.await_routes("the endpoint is on node2", &served_by(2, ALL));
        // The nodes have heard of one another's ranges and services, and install none that is in a range.
        for number in ALL {
            let node = format!("node{number}");
            let installed = self.cluster.exec(&node, &["ip", "-o", "route", "show", "proto", "bird"]);
            let installed = text(&installed.stdout);
            assert!(installed.contains("10.244."), "{node} has no route to others' pods: {installed}");
            let services = ["10.96.", "192.0.2.", "198.51.100."];
            assert!(!services.iter().any(|range| installed.contains(range)), "{node}: {installed}");
        }
        self.reached("no node has installed a service's range");
    }

    fn traffic_policies(&self) {
        let host = format!("host={}", self.cluster.pod_on("app=web", "node2").trim_start_matches("pod/"));
        // By a range, over any of the nodes.
        for address in ["10.96.17.1", "192.0.2.1"] {
            self.ask(address, &host);
        }
        self.ask("203.0.113.7", &host);
        // Local keeps the client's address.
        for address in ["192.0.2.2", "198.51.100.2"] {
            self.ask(address, "client=10.65.0.253");
        }
        self.ask("10.96.17.4", &host);
    }

    fn excluded_node(&self) {
        let label = format!("{EXCLUDED}=true");
        self.cluster.kubectl(&["label", "node", "node2", &label]);
        // What only node2 serves is left to its range.
        let mut left = served_by(2, &[1, 3]);
        left.retain(|(_, nodes)| *nodes != [2]);
        self.await_routes("node2 is excluded", &left);
        let routes = self.routes();
        let pods = routes.iter().find(|(prefix, nodes)| prefix.starts_with("10.244.") && nodes.contains(&2));
        assert!(pods.is_some(), "node2 announces no pods: {routes:?}");
        self.ask("10.96.17.1", "host=web-");
        self.cluster.kubectl(&["label", "node", "node2", &format!("{EXCLUDED}-")]);
        self.await_routes("node2 is back", &served_by(2, ALL));
    }

    fn moving_endpoint(&self) {
        let to = r#"{"spec":{"template":{"spec":{"nodeSelector":{"kubernetes.io/hostname":"node3"}}}}}"#;
        self.cluster.kubectl(&["patch", "deployment", "web", "-p", to]);
        self.cluster.kubectl(&["rollout", "status", "deployment", "web", "--timeout=300s"]);
        self.await_routes("the endpoint moved to node3", &served_by(3, ALL));
        let host = format!("host={}", self.cluster.pod_on("app=web", "node3").trim_start_matches("pod/"));
        for address in ["192.0.2.2", "198.51.100.2", "10.96.17.4", "10.96.17.1"] {
            self.ask(address, &host);
        }
    }

    fn aggregation(&self) {
        let disabled = "metadata: {name: default}\nspec:\n  serviceLoadBalancerAggregation: Disabled";
        self.calicoctl(&[("metadata: {name: default}\nspec:", disabled)]);
        // Every service is announced by itself now: those of the system too, so only the test's are looked at.
        let mut last = BTreeMap::new();
        let held = k8s::until(k8s::PATIENCE, || {
            last = self.routes();
            let is = |prefix: &str, nodes: &[u8]| last.get(prefix).is_some_and(|found| found == nodes);
            !last.contains_key("198.51.100.0/24")
                && is("198.51.100.2", &[3])
                && is("10.96.17.1", ALL)
                && is("192.0.2.1", ALL)
                && is("10.96.17.2", &[3])
                && is("10.96.17.4", &[3])
        });
        assert!(held, "without aggregation the router has {last:#?}");
        self.reached("without aggregation each service is announced by itself");
        self.calicoctl(&[(
            "metadata: {name: default}\nspec:",
            "metadata: {name: default}\nspec:\n  serviceLoadBalancerAggregation: Enabled",
        )]);
        self.await_routes("with aggregation again", &served_by(3, ALL));
    }

    fn nobody_serves(&self) {
        self.cluster.kubectl(&["scale", "deployment", "web", "--replicas=0"]);
        let mut left = served_by(3, ALL);
        left.retain(|(_, nodes)| *nodes != [3]);
        self.await_routes("nobody serves", &left);
        self.cluster.kubectl(&["scale", "deployment", "web", "--replicas=1"]);
        self.await_routes("somebody serves again", &served_by(3, ALL));
    }

    /// Each change was said once.
    fn what_was_said(&self) {
        let selector = ["--field-selector", "spec.nodeName=node2", "-l", "k8s-app=calico-node", "-o", "name"];
        let pod = self.cluster.kubectl(&[&["-n", "kube-system", "get", "pods"], &selector[..]].concat());
        let log = self.cluster.kubectl(&["-n", "kube-system", "logs", pod.trim(), "-c", "calico-node"]);
        let said = |words: &str| {
            log.lines().filter(|line| line.contains("service routes") && line.contains(words)).count()
        };
        // At first, and when it was no longer excluded.
        assert_eq!(said("announced: 10.96.0.0/16"), 2, "{log}");
        assert_eq!(said("withdrawn: 10.96.0.0/16"), 1, "{log}");
        self.reached("the log says each change once");
    }
}

/// The router's routes with the endpoint on one node, while these nodes announce services.
fn served_by(server: u8, announcing: &'static [u8]) -> Vec<(&'static str, &'static [u8])> {
    let server = match server {
        2 => &[2][..],
        3 => &[3],
        other => panic!("node{other}"),
    };
    vec![
        // Whole ranges, and the address that has none; with it, the other address of its service.
        ("10.96.0.0/16", announcing),
        ("192.0.2.0/24", announcing),
        ("198.51.100.0/24", announcing),
        ("203.0.113.7", announcing),
        ("10.96.17.3", announcing),
        // `Local`: of its addresses those in a range, and its cluster address.
        ("10.96.17.2", server),
        ("192.0.2.2", server),
        ("198.51.100.2", server),
        // `internalTrafficPolicy: Local`.
        ("10.96.17.4", server),
    ]
}
