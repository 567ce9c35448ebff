//! On a real API server, with the rights that the manifest gives: pods and nodes are Kubernetes' own.

use std::path::Path;
use std::sync::Arc;

use calico_api::document::parse_values;
use calico_api::{Key, Kind, Selection};
use calico_controllers::ApiCluster;
use calico_net::Family;
use calico_store::Store;
use calico_store::config::KubernetesConfig;
use calico_store_kube::KubeStore;
use calico_testkit::api_server::{ADMIN, ApiServer};
use futures::FutureExt;
use serde_json::{Value, json};

use super::bench::{Ipam, Role, until};

/// Who the controllers are in a cluster.
const USER: &str = "system:serviceaccount:kube-system:calico-kube-controllers";

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

struct Kube {
    server: ApiServer,
    ipam: Ipam,
    directory: tempfile::TempDir,
}

impl Kube {
    /// The definitions, the rights, a namespace, two nodes with a block and a tunnel's address each.
    async fn start() -> Option<Kube> {
        let server = ApiServer::start(&[(USER, &["system:authenticated"])])?;
        let mut definitions = Vec::new();
        for file in std::fs::read_dir(Path::new(DEPLOY).join("crds/v1")).unwrap() {
            definitions
                .extend(parse_values(&std::fs::read_to_string(file.unwrap().path()).unwrap()).unwrap());
        }
        server.define(&definitions);
        let manifest = std::fs::read_to_string(Path::new(DEPLOY).join("calico.yaml")).unwrap();
        for document in parse_values(&manifest).unwrap() {
            if document["metadata"]["name"] != "calico-kube-controllers" {
                continue;
            }
            let kind = document["kind"].as_str().unwrap().to_lowercase();
            if ["clusterrole", "clusterrolebinding"].contains(&&*kind) {
                server.apply(&format!("/apis/rbac.authorization.k8s.io/v1/{kind}s"), &document);
            }
        }
        server.apply("/api/v1/namespaces", &named("Namespace", "shop"));
        let mut account = named("ServiceAccount", "default");
        account["metadata"]["namespace"] = "shop".into();
        server.apply("/api/v1/namespaces/shop/serviceaccounts", &account);
        let store = open(&server, ADMIN);
        let kube = Kube { server, ipam: Ipam(Arc::new(store)), directory: tempfile::tempdir().unwrap() };
        kube.ipam.set_up().await;
        for (node, block, tunnel) in [("n1", "10.0.0.0/28", "10.0.0.0"), ("n2", "10.0.0.16/28", "10.0.0.16")]
        {
            kube.server.apply("/api/v1/nodes", &named("Node", node));
            kube.ipam.claim(node, block).await;
            let handle = format!("ipip-tunnel-addr-{node}");
            kube.ipam.assign(node, tunnel, &handle, &[("type", "ipipTunnelAddress")]).await;
        }
        Some(kube)
    }

    /// A pod as the scheduler and the CNI plugin leave it, with further annotations.
    async fn pod(&self, node: &str, pod: &str, address: &str, annotations: Value) {
        self.ipam.assign_pod(node, pod, address).await;
        let mut document = named("Pod", pod);
        document["metadata"]["namespace"] = "shop".into();
        document["metadata"]["annotations"] = annotations;
        document["metadata"]["annotations"]["cni.projectcalico.org/podIP"] = format!("{address}/32").into();
        document["metadata"]["annotations"]["cni.projectcalico.org/containerID"] = "c".into();
        document["spec"] = json!({
            "nodeName": node, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": false,
            "containers": [{ "name": "c", "image": "none" }],
        });
        self.server.apply("/api/v1/namespaces/shop/pods", &document);
        self.set_status(pod, &json!({ "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }] }));
    }

    fn set_status(&self, pod: &str, status: &Value) {
        let path = format!("/api/v1/namespaces/shop/pods/{pod}/status");
        let patch = json!({ "status": status });
        let kind = "application/merge-patch+json";
        let (code, body) = self.server.request_as(ADMIN, "PATCH", &path, kind, Some(&patch));
        assert_eq!(code, 200, "{body}");
    }

    fn delete(&self, path: &str) {
        let now = json!({ "kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0 });
        let (code, body) = self.server.request(ADMIN, "DELETE", path, Some(&now));
        assert_eq!(code, 200, "{body}");
    }

    /// The role with the rights of its own account.
    fn role(&self) -> Role {
        let store = open(&self.server, USER);
        let client = store.client().clone();
        let cluster = ApiCluster(Arc::new(move |path| {
            let client = client.clone();
            async move {
                let answer = client.request("GET", &path, "application/json", None).await;
                answer.map_err(|fault| fault.to_string())
            }
            .boxed()
        }));
        let store: Arc<dyn Store> = Arc::new(store);
        Role::start(&store, Arc::new(cluster), self.directory.path().join("status.json"))
    }

    async fn has(&self, address: &str) -> bool {
        self.ipam.assigned().await.contains_key(&address.parse().unwrap())
    }
}

fn named(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "v1", "kind": kind, "metadata": { "name": name } })
}

fn open(server: &ApiServer, user: &str) -> KubeStore {
    let config =
        KubernetesConfig { kubeconfig: vec![server.kubeconfig(user)], ..KubernetesConfig::default() };
    KubeStore::open(&config, &|_| None).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_in_a_cluster_is_collected() {
    let Some(mut kube) = Kube::start().await else { return };
    kube.pod("n1", "gone", "10.0.0.1", json!({})).await;
    kube.pod("n1", "live", "10.0.0.2", json!({})).await;
    // Calico cannot make an endpoint of it, but it has its address.
    let odd = json!({ "cni.projectcalico.org/allowedSourcePrefixes": "no list" });
    kube.pod("n1", "odd", "10.0.0.3", odd).await;
    kube.pod("n1", "done", "10.0.0.4", json!({})).await;
    kube.pod("n2", "lost", "10.0.0.17", json!({})).await;
    let role = kube.role();
    until("it is ready", async || {
        let status = role.status();
        status.contains(r#""NodeController":{"Ready":true"#)
            && status.contains(r#""KubeAPIServer":{"Ready":true"#)
    })
    .await;
    kube.ipam.set_grace(3).await;

    kube.delete("/api/v1/namespaces/shop/pods/gone");
    kube.set_status("done", &json!({ "phase": "Succeeded" }));
    until("it is a candidate", async || {
        role.metrics().contains("ipam_allocations_gc_candidates{ippool=\"pool\",node=\"n1\"}")
    })
    .await;
    until("what pods left is released", async || !kube.has("10.0.0.1").await && !kube.has("10.0.0.4").await)
        .await;
    assert!(kube.has("10.0.0.17").await);

    // The node goes with its pod, as the garbage collector of Kubernetes has it.
    kube.delete("/api/v1/nodes/n2");
    kube.delete("/api/v1/namespaces/shop/pods/lost");
    let block = |block: &str| Key::Block(block.parse().unwrap()).to_string();
    until("the node's blocks are gone", async || {
        kube.ipam.keys(Selection::Blocks(Family::V4)).await == [block("10.0.0.0/28")]
    })
    .await;
    let affinities = Selection::Affinities { owner: None, family: None };
    until("its claims are gone", async || kube.ipam.keys(affinities.clone()).await.len() == 1).await;
    let handles = kube.ipam.keys(Selection::Handles).await;
    assert!(!handles.iter().any(|key| key.ends_with("-n2") || key.ends_with(".lost")), "{handles:?}");

    // The API server dies and comes back; what happens then is seen.
    kube.server.kill();
    until("probes are told", async || role.status().contains(r#""CalicoDatastore":{"Ready":false"#)).await;
    kube.server.revive();
    until("it is ready again", async || !role.status().contains(r#""Ready":false"#)).await;
    kube.delete("/api/v1/namespaces/shop/pods/live");
    until("what went afterwards is released", async || !kube.has("10.0.0.2").await).await;
    assert!(kube.has("10.0.0.3").await, "a live pod keeps its address, whatever its annotations say");
    assert!(kube.has("10.0.0.0").await, "the tunnel of a node that lives");
    let node = kube.ipam.0.get(&Key::resource(Kind::Node, "", "n1")).await.unwrap();
    assert!(node.is_some());
    role.stop().await;
}
