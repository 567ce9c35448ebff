//! 10,000 services as the API server shows them: what is kept of them, what reading them costs, what one change costs,
//! and what the configuration costs that announces each of them by itself.
//!
//! Each line reads: letter, name, figure, unit, and what is compared, if anything.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement: it prints, reads the kernel's clock of its own thread, and stops at the first surprise"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use calico_api::kubernetes::{decode, endpoint_slice, service};
use calico_api::{Entry, Key, Kind};
use calico_mesh::{Index, Local, Services, bird};
use serde_json::{Value, json};

const SERVICES: usize = 10_000;
const NODE: &str = "node-1";
/// How often what takes little is done.
const ROUNDS: usize = 2_000;

static LIVE: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting the bytes asked for and not given back.
struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static HEAP: Counting = Counting;

/// CPU time of this thread in nanoseconds, which other work on the machine does not lengthen.
fn cpu_ns() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

fn report(name: &str, figure: f64, unit: &str) {
    println!("M {name} {figure:.3} {unit}");
}

fn metadata(name: &str, labels: &Value) -> Value {
    let fields: Value = (0..20).map(|i| (format!("f:field{i}"), json!({ ".": {} }))).collect();
    json!({
        "name": name, "namespace": "team-7", "uid": "c0ffee00-0000-4000-8000-000000000000", "resourceVersion": "4711",
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": labels,
        "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "x".repeat(400) },
        "managedFields": [{ "manager": "kubectl", "operation": "Update", "fieldsType": "FieldsV1", "fieldsV1": fields }],
    })
}

/// A service of its own address, and one that a load balancer gave it; only nodes that serve it announce it.
fn service_entry(n: usize) -> Entry {
    let object = json!({
        "metadata": metadata(&format!("web-{n}"), &json!({ "app": "web", "team": "t7" })),
        "spec": {
            "type": "LoadBalancer", "clusterIP": format!("10.96.{}.{}", n / 250, n % 250),
            "clusterIPs": [format!("10.96.{}.{}", n / 250, n % 250)], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack",
            "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster", "healthCheckNodePort": 30000,
            "ports": [{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": 8080, "nodePort": 30080 }],
            "selector": { "app": "web" }, "sessionAffinity": "None",
        },
        "status": { "loadBalancer": { "ingress": [{ "ip": format!("100.64.{}.{}", n / 250, n % 250) }] } },
    });
    service::entry(&decode(object.to_string().as_bytes()).unwrap())
}

/// Its endpoints: three, of which the first is on the node that is named.
fn slice_entry(n: usize, node: &str) -> Entry {
    let endpoint = |i: usize, node: &str| {
        json!({ "addresses": [format!("10.{i}.{}.{}", n / 250, n % 250)], "nodeName": node,
            "conditions": { "ready": true, "serving": true, "terminating": false },
            "targetRef": { "kind": "Pod", "name": format!("web-{n}-{i}"), "namespace": "team-7" } })
    };
    let labels = json!({ "kubernetes.io/service-name": format!("web-{n}") });
    let object = json!({
        "metadata": metadata(&format!("web-{n}-abcde"), &labels), "addressType": "IPv4",
        "endpoints": [endpoint(1, node), endpoint(2, "node-2"), endpoint(3, "node-3")],
        "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
    });
    endpoint_slice::entry(&decode(object.to_string().as_bytes()).unwrap()).unwrap()
}

fn configuration() -> Entry {
    let value = json!({
        "kind": "BGPConfiguration", "metadata": { "name": "default" },
        "spec": {
            "serviceClusterIPs": [{ "cidr": "10.96.0.0/12" }], "serviceLoadBalancerIPs": [{ "cidr": "100.64.0.0/10" }],
        },
    });
    let key = Key::resource(Kind::BGPConfiguration, "", "default");
    Entry { key, value: value.to_string().into(), revision: 1.into() }
}

fn put(index: &mut Index, entry: &Entry) {
    index.update(&entry.key, Some(entry));
}

fn main() {
    let before = LIVE.load(Ordering::Relaxed);
    let mut index = Index::new(NODE.into()).with_services(Services::new(NODE.into(), None), None);
    put(&mut index, &configuration());
    let mut spent = 0.0;
    for n in 0..SERVICES {
        for entry in [service_entry(n), slice_entry(n, NODE)] {
            let start = cpu_ns();
            put(&mut index, &entry);
            spent += cpu_ns() - start;
        }
    }
    let kept = (LIVE.load(Ordering::Relaxed) - before) as f64;
    assert!(index.problems().is_empty());
    report("services_10000_heap", kept / 1e6, "MB");
    report("services_10000_heap_each", kept / SERVICES as f64, "bytes");
    report("services_10000_read", spent / 1e9, "cpu-s");

    let (away, back) = (slice_entry(77, "node-9"), slice_entry(77, NODE));
    index.take_changed();
    let computed = index.world().services.computations();
    let start = cpu_ns();
    for _ in 0..ROUNDS {
        put(&mut index, &away);
        put(&mut index, &back);
    }
    report("endpoint_moves", (cpu_ns() - start) / (2 * ROUNDS) as f64 / 1e3, "cpu-us");
    let computed = index.world().services.computations() - computed;
    report("endpoint_moves_services_computed", computed as f64 / (2 * ROUNDS) as f64, "services");
    assert!(index.take_changed());
    let other = slice_entry(77, NODE);
    put(&mut index, &other);
    assert!(!index.take_changed(), "what changes no route must cost no configuration");

    let local = Local { node: NODE.into(), ..Local::default() };
    let start = cpu_ns();
    let (intent, _) = index.world().resolve(&local);
    let text = bird::render(&intent, "/var/log/calico/bird.log");
    report("configuration_of_10000", (cpu_ns() - start) / 1e6, "cpu-ms");
    report("configuration_of_10000_routes", intent.services.routes.len() as f64, "routes");
    report("configuration_of_10000_text", text.len() as f64 / 1e6, "MB");
    if let Some(path) = std::env::args().nth(1).filter(|argument| !argument.starts_with('-')) {
        std::fs::write(path, text).unwrap();
    }
}
