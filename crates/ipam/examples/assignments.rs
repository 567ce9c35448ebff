//! How many assignments per second the engine plans and a store in memory takes: the part of an ADD that is IPAM's own.
//! `cargo run --release -p calico-ipam --example assignments`

#![allow(clippy::disallowed_methods, clippy::print_stdout)] // It measures and prints.

use std::time::Instant;

use calico_api::{Key, Kind};
use calico_ipam::memory::MemoryStore;
use calico_ipam::{Assign, AssignRequest, Known, Machine, ReleaseByHandle, UnixTime};

fn cluster(nodes: usize, pool: &str) -> MemoryStore {
    let mut store = MemoryStore::new(false);
    let value = serde_json::json!({"metadata": {"name": "p"}, "spec": {"cidr": pool, "blockSize": 26}});
    store.put(Key::resource(Kind::IPPool, "", "p"), value.to_string());
    for n in 0..nodes {
        let value = serde_json::json!({"metadata": {"name": format!("n{n}")}, "spec": {}});
        store.put(Key::resource(Kind::Node, "", &format!("n{n}")), value.to_string());
    }
    store
}

/// Fills a pool of 4,096 addresses, the nodes taking turns. With `keep`, each keeps what it knows, as the agent does.
fn fill(nodes: usize, keep: bool) {
    let mut store = cluster(nodes, "10.0.0.0/20");
    let mut caches: Vec<Known> = vec![Known::new(); nodes];
    let start = Instant::now();
    for i in 0..4096 {
        let node = i % nodes;
        let mut request =
            AssignRequest::workload(&format!("n{node}"), &format!("k8s-pod-network.{i:064x}"), 1, 0);
        request.max_blocks = Some(64);
        for (name, value) in [("namespace", "default"), ("node", "n"), ("pod", "pod"), ("timestamp", "now")] {
            request.attributes.insert(name.into(), format!("{value}-{i}").into());
        }
        let known = if keep { std::mem::take(&mut caches[node]) } else { Known::new() };
        let mut machine = Machine::new(Assign::new(request, UnixTime::from_secs(1_800_000_000)), known);
        if let Err(e) = store.drive(&mut machine) {
            println!("assignment {i}: {e}");
            return;
        }
        caches[node] = machine.into_known();
    }
    report("assign", nodes, keep, start, &mut store);
    let start = Instant::now();
    for i in 0..4096 {
        let release =
            ReleaseByHandle::new(&format!("k8s-pod-network.{i:064x}"), UnixTime::from_secs(1_800_000_000));
        if let Err(e) = store.run(release) {
            println!("release {i}: {e}");
            return;
        }
    }
    report("release", nodes, false, start, &mut store);
}

fn report(what: &str, nodes: usize, keep: bool, start: Instant, store: &mut MemoryStore) {
    let per_second = 4096.0 / start.elapsed().as_secs_f64();
    let trips = std::mem::take(&mut store.round_trips) as f64 / 4096.0;
    let memory = if keep { "known" } else { "unknown" };
    println!("L {what}_{memory}_{nodes}_nodes {per_second:.0} /s - -");
    println!("L {what}_{memory}_{nodes}_nodes_round_trips {trips:.2} each - -");
}

fn main() {
    for nodes in [1, 16] {
        for keep in [true, false] {
            fill(nodes, keep);
        }
    }
}
