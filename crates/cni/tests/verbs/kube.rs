//! Pods on the Kubernetes datastore: a real API server with our definitions, asked with the rights that our manifest
//! gives the agent, and those that it gives the plugin.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use calico_api::cluster_information::ClusterInformationSpec;
use calico_api::document::parse_values;
use calico_api::{IPPoolSpec, Resource, Spec, Write, encode};
use calico_cni::arguments::Verb;
use calico_cni::context::{Context, Nobody};
use calico_cni::error::CniError;
use calico_cni::kubernetes::{Api, Kubernetes};
use calico_cni::request::{PROTOCOL, Plugin, Request};
use calico_cni::{token, work};
use calico_store::Store;
use calico_store::config::KubernetesConfig;
use calico_store_kube::KubeStore;
use calico_testkit::api_server::{ADMIN, ApiServer};
use serde_json::{Value, json};

use crate::world::{Container, NODE, addresses, conf_with, on_host};

const AGENT: &str = "system:serviceaccount:kube-system:calico-node";
const PLUGIN: &str = "system:serviceaccount:kube-system:calico-cni-plugin";
const POD: &str = "/api/v1/namespaces/ns1/pods/web";

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy").join(name)
}

fn documents(path: &Path) -> Vec<Value> {
    parse_values(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A server with what the manifest puts on it, one node, a namespace and pods that are scheduled.
fn start() -> Option<ApiServer> {
    let server = ApiServer::start(&[(AGENT, &[]), (PLUGIN, &[])])?;
    let definitions = std::fs::read_dir(deploy("crds/v1")).unwrap().map(|e| e.unwrap().path());
    server.define(&definitions.flat_map(|path| documents(&path)).collect::<Vec<_>>());
    for document in documents(&deploy("calico.yaml")) {
        let kind = document["kind"].as_str().unwrap_or_default().to_lowercase();
        if kind.starts_with("clusterrole") {
            server.apply(&format!("/apis/rbac.authorization.k8s.io/v1/{kind}s"), &document);
        }
    }
    let v1 = |kind: &str, name: &str, members: Value| {
        let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": name}});
        object.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        object
    };
    server.apply("/api/v1/namespaces", &v1("Namespace", "kube-system", json!({})));
    server.apply("/api/v1/namespaces", &v1("Namespace", "ns1", json!({})));
    let account = v1("ServiceAccount", "calico-cni-plugin", json!({}));
    server.apply("/api/v1/namespaces/kube-system/serviceaccounts", &account);
    server.apply("/api/v1/namespaces/ns1/serviceaccounts", &v1("ServiceAccount", "robot", json!({})));
    server.apply("/api/v1/nodes", &v1("Node", NODE, json!({})));
    put_pod(&server, "web", json!({}));
    Some(server)
}

fn put_pod(server: &ApiServer, name: &str, annotations: Value) {
    let spec = json!({
        "nodeName": NODE, "serviceAccountName": "robot", "automountServiceAccountToken": false,
        "containers": [{"name": "c", "image": "none", "ports": [{"name": "http", "containerPort": 80}]}],
    });
    let metadata = json!({"name": name, "namespace": "ns1", "annotations": annotations});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
    server.apply("/api/v1/namespaces/ns1/pods", &pod);
}

fn store(server: &ApiServer, user: &str) -> KubeStore {
    let config =
        KubernetesConfig { kubeconfig: vec![server.kubeconfig(user)], ..KubernetesConfig::default() };
    KubeStore::open(&config, &|_| None).unwrap()
}

fn context(server: &ApiServer, user: &str) -> Context {
    let store = store(server, user);
    Context {
        kubernetes: Some(Arc::new(Kubernetes(store.client().clone()))),
        keeps_endpoints: false,
        ..Context::new(Arc::new(store), NODE, "cali", Arc::new(Nobody))
    }
}

async fn set_up(server: &ApiServer) {
    let store = store(server, ADMIN);
    async fn put<S: Spec>(store: &KubeStore, resource: Resource<S>) {
        store.commit(&[Write::put(resource.key().into(), encode(&resource))]).await.unwrap();
    }
    let ready = ClusterInformationSpec { datastore_ready: Some(true), ..ClusterInformationSpec::default() };
    put(&store, Resource::new("", "default", ready)).await;
    let pool = IPPoolSpec { cidr: "10.65.0.0/24".into(), ..IPPoolSpec::default() };
    put(&store, Resource::new("", "pool4", pool)).await;
}

async fn run(
    context: &Context,
    verb: Verb,
    container: &Container,
    conf: &Value,
) -> Result<Option<Value>, CniError> {
    let arguments = container.arguments(verb);
    let request = Request { protocol: PROTOCOL, plugin: Plugin::Network, arguments, netconf: conf.clone() };
    work::perform(context, request, container.descriptor()).await
}

fn conf() -> Value {
    conf_with(json!({"policy": {"type": "k8s"}, "ipam": {"type": "calico-ipam"}}))
}

#[test]
fn a_pod_is_attached_with_the_rights_of_the_manifest() {
    on_host(async |_| {
        let Some(server) = start() else { return };
        set_up(&server).await;
        let annotation = |name: &str| {
            let (_, pod) = server.request(ADMIN, "GET", POD, None);
            pod["metadata"]["annotations"][format!("cni.projectcalico.org/{name}")].clone()
        };
        let allocations = || {
            let path = "/apis/crd.projectcalico.org/v1/ipamhandles";
            server.request(ADMIN, "GET", path, None).1["items"].as_array().unwrap().len()
        };
        for (user, id) in [(AGENT, "first"), (PLUGIN, "second")] {
            let context = context(&server, user);
            let container = Container::of_pod(id, "web");
            let result = run(&context, Verb::Add, &container, &conf()).await.unwrap().unwrap();
            let address = format!("{}/32", addresses(&result)[0]);
            assert_eq!(annotation("podIP"), address.as_str(), "{user}");
            assert_eq!(annotation("podIPs"), address.as_str());
            assert_eq!(annotation("containerID"), id);
            let again = run(&context, Verb::Add, &container, &conf()).await.unwrap().unwrap();
            assert_eq!(addresses(&again), addresses(&result), "a repeated ADD keeps the address");
            assert_eq!(run(&context, Verb::Check, &container, &conf()).await, Ok(None));
            assert_eq!(allocations(), 1);

            // A late DEL of an older sandbox takes nothing from this one.
            let old = Container::of_pod("old", "web");
            assert_eq!(run(&context, Verb::Del, &old, &conf()).await, Ok(None));
            assert_eq!(annotation("podIP"), address.as_str());

            for _ in 0..2 {
                assert_eq!(run(&context, Verb::Del, &container, &conf()).await, Ok(None));
            }
            assert_eq!(annotation("podIP"), "");
            assert_eq!(annotation("containerID"), id);
            assert_eq!(allocations(), 0);
            let gc = conf_with(json!({"policy": {"type": "k8s"}, "cni.dev/valid-attachments": []}));
            assert_eq!(run(&context, Verb::Gc, &container, &gc).await, Ok(None));
            assert_eq!(run(&context, Verb::Status, &container, &gc).await, Ok(None));
        }
        // One that is gone from the API can be detached, and not attached.
        let context = context(&server, AGENT);
        let stranger = Container::of_pod("c3", "stranger");
        let error = run(&context, Verb::Add, &stranger, &conf()).await.unwrap_err();
        assert!(error.details.contains("/pods/stranger"), "{error}");
        assert_eq!(run(&context, Verb::Del, &stranger, &conf()).await, Ok(None));
    });
}

#[test]
fn twenty_pods_at_once_get_twenty_addresses() {
    on_host(async |_| {
        let Some(server) = start() else { return };
        set_up(&server).await;
        let context = context(&server, AGENT);
        let containers: Vec<_> =
            (0..20).map(|n| Container::of_pod(&format!("c{n}"), &format!("p{n}"))).collect();
        (0..20).for_each(|n| put_pod(&server, &format!("p{n}"), json!({})));
        let conf = conf();
        let adds = containers.iter().map(|container| run(&context, Verb::Add, container, &conf));
        let results = futures::future::join_all(adds).await;
        let got = results.into_iter().map(|result| addresses(&result.unwrap().unwrap())[0].clone());
        assert_eq!(got.collect::<std::collections::BTreeSet<_>>().len(), 20);
        let dels = containers.iter().map(|container| run(&context, Verb::Del, container, &conf));
        for done in futures::future::join_all(dels).await {
            assert_eq!(done, Ok(None));
        }
        let (_, handles) = server.request(ADMIN, "GET", "/apis/crd.projectcalico.org/v1/ipamhandles", None);
        assert_eq!(handles["items"], json!([]));
    });
}

#[test]
fn the_api_as_the_plugin_asks_it() {
    on_host(async |_| {
        let Some(server) = start() else { return };
        let of = |user: &str| Kubernetes(store(&server, user).client().clone());
        let (agent, plugin) = (of(AGENT), of(PLUGIN));
        assert_eq!(agent.get("/api/v1/namespaces/none").await, Ok(None));
        let refused = plugin.get("/api/v1/namespaces/kube-system/secrets/x").await.unwrap_err();
        assert!(refused.to_string().starts_with("the Kubernetes API answers 403: "), "{refused}");

        let account = token::Account {
            name: "calico-cni-plugin".to_owned(),
            namespace: "kube-system".to_owned(),
            token: "own".to_owned(),
            ca: None,
        };
        let got = token::request(&agent, &account).await.unwrap();
        assert!(got.text.len() > 100 && got.expires.is_some(), "{got:?}");
        // The plugin's account may not make tokens; then the pod's own has to do.
        assert_eq!(token::request(&plugin, &account).await.unwrap().text, "own");

        let patch = json!({"status": {"conditions": [
            {"type": "NetworkUnavailable", "status": "False", "reason": "CalicoIsUp"},
        ]}});
        agent.patch(&format!("/api/v1/nodes/{NODE}/status"), patch).await.unwrap();
        let (_, node) = server.request(ADMIN, "GET", &format!("/api/v1/nodes/{NODE}"), None);
        assert_eq!(node["status"]["conditions"][0]["reason"], "CalicoIsUp");
    });
}
