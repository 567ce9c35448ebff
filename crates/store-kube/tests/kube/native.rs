//! Kubernetes' own objects: profiles of two kinds of object, pods as endpoints, nodes, policies.

use calico_api::codec::decode;
use calico_api::{Expect, Kind, NodeSpec, WorkloadEndpointSpec};
use calico_store::{CommitError, WatchEvent};

use super::*;

/// The next change of a watch: `+name` or `-name`; and the progress seen on the way.
async fn change(watch: &mut calico_store::Watch, progress: &mut Option<Revision>) -> String {
    loop {
        let name = |key: &Key| key.to_string().rsplit('/').next().unwrap_or_default().to_owned();
        match within(watch.next()).await.unwrap() {
            WatchEvent::Put(entry) => return format!("+{}", name(&entry.key)),
            WatchEvent::Deleted { key, .. } => return format!("-{}", name(&key)),
            WatchEvent::Progress(revision) => *progress = Some(revision),
        }
    }
}

#[tokio::test]
async fn profiles_are_namespaces_and_service_accounts() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let store = kube.store();
    let client = store.client();
    let selection = Selection::all(Kind::Profile);
    let listing = store.list(&selection).await.unwrap();
    let names: Vec<String> = listing.entries.iter().map(|e| e.key.to_string()).collect();
    assert!(names.iter().any(|n| n.ends_with("/kns.ns")), "{names:?}");
    let mut progress = None;
    let mut watch = store.watch(&selection, Some(listing.revision)).await.unwrap();
    let account = |name: &str| json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name, "namespace": "ns" } });
    const ACCOUNTS: &str = "/api/v1/namespaces/ns/serviceaccounts";
    assert_eq!(request(client, "POST", ACCOUNTS, Some(account("one"))).await.0, 201);
    assert_eq!(change(&mut watch, &mut progress).await, "+ksa.ns.one");
    let space = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": "extra" } });
    assert_eq!(request(client, "POST", "/api/v1/namespaces", Some(space)).await.0, 201);
    assert_eq!(change(&mut watch, &mut progress).await, "+kns.extra");
    // Where both streams stand is one revision, from which another connection goes on.
    within(async {
        while progress.as_ref().is_none_or(|p: &Revision| !p.0.contains('/')) {
            if let WatchEvent::Progress(revision) = watch.next().await.unwrap() {
                progress = Some(revision);
            }
        }
    })
    .await;
    assert_eq!(request(client, "DELETE", &format!("{ACCOUNTS}/one"), None).await.0, 200);
    let other = kube.store();
    let mut watch = other.watch(&selection, progress.clone()).await.unwrap();
    let mut seen = change(&mut watch, &mut progress).await;
    while seen.starts_with("+kns.") {
        seen = change(&mut watch, &mut progress).await;
    }
    assert_eq!(seen, "-ksa.ns.one");
    let delete = Write::Delete { key: Key::resource(Kind::Profile, "", "kns.ns"), expect: Expect::Any };
    let refused = store.commit(&[delete]).await;
    assert!(matches!(refused, Err(CommitError::Refused { .. })), "{refused:?}");
}

/// A pod that a scheduler placed.
fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "namespace": "ns", "labels": { "app": name } },
        "spec": {
            "nodeName": "n1", "automountServiceAccountToken": false,
            "containers": [{ "name": "c", "image": "none", "ports": [{ "name": "http", "containerPort": 80 }] }],
        },
    })
}

const PODS: &str = "/api/v1/namespaces/ns/pods";

fn endpoint(pod: &str) -> Key {
    Key::resource(Kind::WorkloadEndpoint, "ns", &format!("n1-k8s-{pod}-eth0"))
}

async fn account(client: &KubeClient) {
    let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "default", "namespace": "ns" } });
    request(client, "POST", "/api/v1/namespaces/ns/serviceaccounts", Some(account)).await;
}

#[tokio::test]
async fn endpoints_are_pods() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let store = kube.store();
    let client = store.client();
    account(client).await;
    let selection = Selection::all(Kind::WorkloadEndpoint);
    let mut watch = store.watch(&selection, None).await.unwrap();
    let mut progress = None;
    let (code, created) = request(client, "POST", PODS, Some(pod("web"))).await;
    assert_eq!(code, 201, "{created}");
    assert_eq!(change(&mut watch, &mut progress).await, "+n1-k8s-web-eth0");
    let mut host = pod("host");
    host["spec"]["hostNetwork"] = true.into();
    host["spec"]["containers"][0]["ports"] = json!([]);
    assert_eq!(request(client, "POST", PODS, Some(host)).await.0, 201);

    // The CNI plugin's writes: addresses as annotations, whatever others change in the meantime.
    let key = endpoint("web");
    let entry = store.get(&key).await.unwrap().unwrap();
    let read = |entry: &Entry| decode::<WorkloadEndpointSpec>(entry).unwrap();
    let mut wanted = read(&entry);
    assert!(wanted.spec.ip_networks.is_empty());
    assert_eq!(wanted.spec.profiles, ["kns.ns", "ksa.ns.default"]);
    wanted.spec.ip_networks = vec!["10.0.0.1/32".into()];
    wanted.spec.container_id = "c1".into();
    let value = calico_api::encode(&wanted);
    let revision = write(&store, Write::create(key.clone(), value.clone())).await;
    assert_eq!(change(&mut watch, &mut progress).await, "+n1-k8s-web-eth0");
    let stored = store.get(&key).await.unwrap().unwrap();
    assert_eq!(stored.revision, revision);
    assert_eq!(read(&stored).spec.ip_networks, ["10.0.0.1/32"]);
    assert_eq!(read(&stored).spec.container_id, "c1");
    let again = store.commit(&[Write::create(key.clone(), value.clone())]).await;
    assert!(matches!(again, Err(CommitError::Conflict { current: Some(_), .. })), "{again:?}");
    write(&store, Write::update(key.clone(), value.clone(), entry.revision)).await;
    // Another pod of the same name is not touched.
    let mut other = wanted.clone();
    other.metadata.uid = "00000000-0000-4000-8000-000000000000".into();
    let foreign = store.commit(&[Write::put(key.clone(), calico_api::encode(&other))]).await;
    assert!(matches!(foreign, Err(CommitError::Conflict { .. })), "{foreign:?}");

    // A late deletion for an older container leaves the newer one's addresses.
    let before = store.get(&key).await.unwrap().unwrap();
    wanted.spec.container_id = "c2".into();
    wanted.spec.ip_networks = vec!["10.0.0.2/32".into()];
    write(&store, Write::put(key.clone(), calico_api::encode(&wanted))).await;
    let late = store.commit(&[Write::delete(key.clone(), before.revision)]).await;
    assert!(matches!(late, Err(CommitError::Conflict { current: Some(_), .. })), "{late:?}");
    let newer = store.get(&key).await.unwrap().unwrap();
    assert_eq!(read(&newer).spec.ip_networks, ["10.0.0.2/32"]);
    write(&store, Write::delete(key.clone(), newer.revision)).await;
    assert!(read(&store.get(&key).await.unwrap().unwrap()).spec.ip_networks.is_empty());
    write(&store, Write::create(key.clone(), value.clone())).await;

    // Deleted, it is blank: a terminating pod has no address any more, and a living one can have another.
    write(&store, Write::Delete { key: key.clone(), expect: Expect::Any }).await;
    assert!(read(&store.get(&key).await.unwrap().unwrap()).spec.ip_networks.is_empty());
    write(&store, Write::create(key.clone(), value.clone())).await;
    assert!(state(&store, &selection).await.into_keys().eq([key.clone()]));
    let (code, _) = request(client, "DELETE", &format!("{PODS}/web?gracePeriodSeconds=0"), None).await;
    assert_eq!(code, 200);
    within(async { while change(&mut watch, &mut progress).await != "-n1-k8s-web-eth0" {} }).await;
    assert_eq!(store.get(&key).await.unwrap(), None);
    let gone = store.commit(&[Write::create(key.clone(), value)]).await;
    assert!(matches!(gone, Err(CommitError::Refused { .. })), "{gone:?}");
    write(&store, Write::Delete { key, expect: Expect::Any }).await;
}

#[tokio::test]
async fn nodes_keep_what_is_not_ours() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let store = kube.store();
    let client = store.client();
    let node = json!({
        "apiVersion": "v1", "kind": "Node", "metadata": { "name": "n1", "labels": { "zone": "z" }, "annotations": { "other.io/x": "1" } },
        "spec": { "podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24"] },
    });
    assert_eq!(request(client, "POST", "/api/v1/nodes", Some(node)).await.0, 201);
    let key = Key::resource(Kind::Node, "", "n1");
    let entry = store.get(&key).await.unwrap().unwrap();
    let mut wanted = decode::<NodeSpec>(&entry).unwrap();
    wanted.spec.bgp = Some(calico_api::NodeBgp { ipv4_address: "192.0.2.1/24".into(), ..Default::default() });
    let value = calico_api::encode(&wanted);
    write(&store, Write::update(key.clone(), value.clone(), entry.revision.clone())).await;
    let (_, stored) = request(client, "GET", "/api/v1/nodes/n1", None).await;
    let annotations = &stored["metadata"]["annotations"];
    assert_eq!(annotations["projectcalico.org/IPv4Address"], "192.0.2.1/24", "{annotations}");
    assert_eq!(annotations["other.io/x"], "1");
    assert_eq!(stored["metadata"]["labels"]["zone"], "z");
    let read = decode::<NodeSpec>(&store.get(&key).await.unwrap().unwrap()).unwrap();
    assert_eq!(read.spec.bgp.unwrap().ipv4_address, "192.0.2.1/24");
    let stale = store.commit(&[Write::update(key.clone(), value.clone(), entry.revision)]).await;
    assert!(matches!(stale, Err(CommitError::Conflict { current: Some(_), .. })), "{stale:?}");
    let absent = Key::resource(Kind::Node, "", "n2");
    let refused = store.commit(&[Write::create(absent.clone(), value)]).await;
    assert!(matches!(refused, Err(CommitError::Refused { .. })), "{refused:?}");
    let refused = store.commit(&[Write::Delete { key, expect: Expect::Any }]).await;
    assert!(matches!(refused, Err(CommitError::Refused { .. })), "{refused:?}");

    // With the nodes' pod CIDRs as blocks.
    let config = KubernetesConfig { use_pod_cidr: true, ..kube.config(ADMIN) };
    let by_cidr = KubeStore::open(&config, &|_| None).unwrap();
    let blocks = state(&by_cidr, &Selection::Blocks(calico_net::Family::V4)).await;
    assert_eq!(blocks.into_keys().collect::<Vec<_>>(), [Key::Block("10.1.0.0/24".parse().unwrap())]);
    assert!(state(&by_cidr, &Selection::Handles).await.is_empty());
}

#[tokio::test]
async fn policies_and_services_of_kubernetes_are_read() {
    let Some(kube) = Kube::start(ApiGroup::CrdV1, &[]) else { return };
    let store = kube.store();
    let client = store.client();
    let policy = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": { "name": "deny", "namespace": "ns" },
        "spec": { "podSelector": {}, "policyTypes": ["Ingress"] },
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web", "namespace": "ns" },
        "spec": { "ports": [{ "port": 80 }], "selector": { "app": "web" } },
    });
    let secret = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "bgp", "namespace": "ns" },
        "stringData": { "mesh": "hidden" },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": "web-1", "namespace": "ns", "labels": { "kubernetes.io/service-name": "web" } },
        "endpoints": [{ "addresses": ["10.0.0.1"] }], "ports": [{ "port": 80 }],
    });
    let cluster = json!({
        "apiVersion": "policy.networking.k8s.io/v1alpha2", "kind": "ClusterNetworkPolicy", "metadata": { "name": "admin" },
        "spec": {
            "tier": "Admin", "priority": 10, "subject": { "namespaces": {} },
            "ingress": [{ "name": "r", "action": "Deny", "from": [{ "namespaces": {} }] }],
        },
    });
    for (path, object, kind, name) in [
        (
            "/apis/networking.k8s.io/v1/namespaces/ns/networkpolicies",
            policy,
            Kind::KubernetesNetworkPolicy,
            "deny",
        ),
        ("/api/v1/namespaces/ns/secrets", secret, Kind::KubernetesSecret, "bgp"),
        ("/api/v1/namespaces/ns/services", service, Kind::KubernetesService, "web"),
        (
            "/apis/discovery.k8s.io/v1/namespaces/ns/endpointslices",
            slice,
            Kind::KubernetesEndpointSlice,
            "web-1",
        ),
        (
            "/apis/policy.networking.k8s.io/v1alpha2/clusternetworkpolicies",
            cluster,
            Kind::KubernetesClusterNetworkPolicy,
            "admin",
        ),
    ] {
        let namespace = if kind.scope() == calico_api::Scope::Namespaced { "ns" } else { "" };
        let key = Key::resource(kind, namespace, name);
        let selection = match kind {
            // Nobody looks at all Secrets.
            Kind::KubernetesSecret => Selection::one(kind, namespace, name),
            kind => Selection::all(kind),
        };
        let mut watch = store.watch(&selection, None).await.unwrap();
        let mut progress = None;
        let (code, answer) = request(client, "POST", path, Some(object)).await;
        assert_eq!(code, 201, "{answer}");
        while change(&mut watch, &mut progress).await != format!("+{name}") {}
        assert!(state(&store, &selection).await.contains_key(&key));
        assert!(store.get(&key).await.unwrap().is_some());
        let refused = store.commit(&[Write::Delete { key, expect: Expect::Any }]).await;
        assert!(matches!(refused, Err(CommitError::Refused { .. })), "{refused:?}");
    }
}
