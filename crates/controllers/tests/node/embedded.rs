//! On the embedded store: endpoints and nodes are in it.

use std::sync::Arc;

use calico_api::{
    ClusterInformation, ClusterInformationSpec, Key, Kind, Node, NodeSpec, Resource, Spec,
    WorkloadEndpointSpec, Write, encode,
};
use calico_controllers::StoreCluster;
use calico_store::{EmbeddedStore, Store};

use super::bench::{Ipam, Role, until};

struct Bench {
    ipam: Ipam,
    directory: tempfile::TempDir,
}

impl Bench {
    /// Two nodes, each with a block and the address of its tunnel; pods `a` on the first and `b` on the second.
    async fn new() -> Bench {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path().join("db")).unwrap());
        let bench = Bench { ipam: Ipam(store), directory };
        bench.ipam.set_up().await;
        for (node, block, tunnel) in [("n1", "10.0.0.0/28", "10.0.0.0"), ("n2", "10.0.0.16/28", "10.0.0.16")]
        {
            bench.put(&Node::new("", node, NodeSpec::default())).await;
            bench.ipam.claim(node, block).await;
            let handle = format!("vxlan-tunnel-addr-{node}");
            bench.ipam.assign(node, tunnel, &handle, &[("type", "vxlanTunnelAddress")]).await;
        }
        bench.pod("n1", "a", "10.0.0.1").await;
        bench.pod("n2", "b", "10.0.0.17").await;
        bench
    }

    async fn put<S: Spec>(&self, resource: &Resource<S>) {
        self.ipam.0.commit(&[Write::put(resource.key().into(), encode(resource))]).await.unwrap();
    }

    async fn delete(&self, key: Key) {
        let write = Write::Delete { key, expect: calico_api::Expect::Any };
        self.ipam.0.commit(&[write]).await.unwrap();
    }

    /// A pod with its address.
    async fn pod(&self, node: &str, pod: &str, address: &str) {
        self.ipam.assign_pod(node, pod, address).await;
        let spec = WorkloadEndpointSpec {
            orchestrator: "k8s".into(),
            node: node.into(),
            pod: pod.into(),
            endpoint: "eth0".into(),
            container_id: "c".into(),
            ip_networks: vec![format!("{address}/32").into()],
            ..WorkloadEndpointSpec::default()
        };
        self.put(&Resource::new("shop", &format!("{node}-k8s-{pod}-eth0"), spec)).await;
    }

    /// A pod that goes without a word to IPAM.
    async fn lose_pod(&self, node: &str, pod: &str) {
        self.delete(Key::resource(Kind::WorkloadEndpoint, "shop", &format!("{node}-k8s-{pod}-eth0"))).await;
    }

    async fn lock(&self, ready: bool) {
        let spec = ClusterInformationSpec { datastore_ready: Some(ready), ..Default::default() };
        self.put(&ClusterInformation::new("", "default", spec)).await;
    }

    fn start(&self, name: &str) -> Role {
        let cluster = Arc::new(StoreCluster(self.ipam.0.clone()));
        Role::start(&self.ipam.0, cluster, self.directory.path().join(name))
    }

    async fn has(&self, address: &str) -> bool {
        self.ipam.assigned().await.contains_key(&address.parse().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_went_are_released_and_live_ones_never() {
    let bench = Bench::new().await;
    let role = bench.start("status.json");
    bench.ipam.set_grace(2).await;
    until("it is ready", async || role.status().contains(r#""NodeController":{"Ready":true"#)).await;
    assert!(role.status().contains(r#""CalicoDatastore":{"Ready":true"#), "{}", role.status());

    bench.lose_pod("n1", "a").await;
    until("it is a candidate", async || {
        role.metrics().contains("ipam_allocations_gc_candidates{ippool=\"pool\",node=\"n1\"} 1")
    })
    .await;
    assert!(bench.has("10.0.0.1").await, "its grace period has only begun");
    until("10.0.0.1 is released", async || !bench.has("10.0.0.1").await).await;
    until("the handle is gone", async || {
        !bench.ipam.records().await.iter().any(|key| key.ends_with("k8s-pod-network.a"))
    })
    .await;
    let line = "ipam_allocations_gc_reclamations{ippool=\"pool\",node=\"n1\"} 1";
    until("it was counted", async || role.metrics().contains(line)).await;
    for kept in ["10.0.0.0", "10.0.0.16", "10.0.0.17"] {
        assert!(bench.has(kept).await, "{kept}");
    }
    role.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_went_takes_its_blocks_and_its_tunnel_along() {
    let bench = Bench::new().await;
    // While nobody looks: the node and its pod go, and a handle is left that counts what it has not.
    bench.lose_pod("n2", "b").await;
    bench.delete(Key::resource(Kind::Node, "", "n2")).await;
    let orphan = br#"{"block":{"10.0.0.0/28":1}}"#;
    bench
        .ipam
        .0
        .commit(&[Write::create(Key::Handle("orphan".into()), orphan.to_vec().into())])
        .await
        .unwrap();
    // Two at once do no harm.
    let (first, second) = (bench.start("first.json"), bench.start("second.json"));
    bench.ipam.set_grace(2).await;
    let expected =
        ["vxlan-tunnel-addr-n1", "k8s-pod-network.a"].map(|h| format!("/calico/ipam/v2/handle/{h}"));
    until("only what is of n1 is left", async || {
        let mut records = bench.ipam.records().await;
        records.retain(|key| !expected.contains(key));
        records == ["/calico/ipam/v2/host/n1/ipv4/block/10.0.0.0-28"]
    })
    .await;
    let left: Vec<String> = bench.ipam.assigned().await.into_keys().map(|a| a.to_string()).collect();
    assert_eq!(left, ["10.0.0.0", "10.0.0.1"]);
    let blocks = bench.ipam.keys(calico_api::Selection::Blocks(calico_net::Family::V4)).await;
    assert_eq!(blocks, ["/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-28"]);
    first.stop().await;
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_collected_while_the_datastore_is_locked() {
    let bench = Bench::new().await;
    bench.lock(false).await;
    bench.lose_pod("n1", "a").await;
    let role = bench.start("status.json");
    // Nodes that are gone would be forgotten at once: that this one is not shows that nothing is done.
    bench.delete(Key::resource(Kind::Node, "", "n1")).await;
    until("it says so", async || role.status().contains("the datastore is locked, or not set up yet")).await;
    assert!(bench.has("10.0.0.1").await && bench.has("10.0.0.0").await);
    bench.lock(true).await;
    until("10.0.0.1 and the tunnel are released", async || {
        !bench.has("10.0.0.1").await && !bench.has("10.0.0.0").await
    })
    .await;
    role.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_are_made_reported_and_followed() {
    let bench = Bench::new().await;
    let role = bench.start("status.json");
    // Nothing is ever released with 0; then a pod goes; then the period comes back.
    bench.ipam.set_grace(0).await;
    let in_force = bench.ipam.in_force().await.unwrap();
    assert!(in_force.controllers.node.is_some());
    assert!(in_force.controllers.policy.is_none(), "ENABLED_CONTROLLERS names only one");
    bench.lose_pod("n1", "a").await;
    until("it is a candidate", async || {
        role.metrics().contains("ipam_allocations_gc_candidates{ippool=\"pool\",node=\"n1\"} 1")
    })
    .await;
    assert!(bench.has("10.0.0.1").await);
    bench.ipam.set_grace(1).await;
    until("10.0.0.1 is released", async || !bench.has("10.0.0.1").await).await;
    role.stop().await;
}
