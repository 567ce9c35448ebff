//! The manifests held to the tree and to a real API server: it takes them, and a node may not write policy.

use std::path::Path;

use calico_testkit::api_server::{ADMIN, ApiServer};
use serde_json::{Value, json};

use super::*;

#[test]
fn the_files_are_those_of_the_model() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let stale = generated::stale(&root, &[], &pages()).expect("the tree is there");
    assert!(stale.is_empty(), "stale: {}: run `cargo xtask manifests`", stale.join(", "));
}

/// The template is JSON once the installer has filled it in.
#[test]
fn the_cni_configuration_is_json() {
    for flavour in Flavour::ALL {
        let map = network::config_map(flavour);
        let template = map["data"]["cni_network_config"].as_str().expect("a text");
        let filled = template.replace("__CNI_MTU__", "1440").replace("__KUBERNETES_NODE_NAME__", "node1");
        let conf: Value = serde_json::from_str(&filled).unwrap_or_else(|e| panic!("{flavour:?}: {e}"));
        assert_eq!(conf["plugins"][0]["type"], "calico");
        assert!(!filled.contains("__"), "{flavour:?}: somebody must fill in what is left: {filled}");
    }
}

/// The words of every container that runs with more rights than its pod has by itself.
#[test]
fn only_the_node_is_privileged() {
    for flavour in Flavour::ALL {
        for document in documents(flavour) {
            let privileged = document.to_string().contains("\"privileged\":true");
            assert_eq!(privileged, document["kind"] == "DaemonSet", "{}", document["metadata"]["name"]);
        }
    }
}

fn collection(document: &Value) -> String {
    let api = document["apiVersion"].as_str().expect("a version");
    let kind = document["kind"].as_str().expect("a kind").to_ascii_lowercase();
    let plural = kind.strip_suffix('y').map_or_else(|| format!("{kind}s"), |stem| format!("{stem}ies"));
    let root = if api == "v1" { "/api/v1".to_owned() } else { format!("/apis/{api}") };
    match document["metadata"]["namespace"].as_str() {
        Some(namespace) => format!("{root}/namespaces/{namespace}/{plural}"),
        None => format!("{root}/{plural}"),
    }
}

const NODE: &str = "system:serviceaccount:kube-system:calico-node";
const PLUGIN: &str = "system:serviceaccount:kube-system:calico-cni-plugin";
const CONTROLLERS: &str = "system:serviceaccount:kube-system:calico-kube-controllers";

/// Asks the server itself, as `kubectl auth can-i` does.
fn may(
    server: &ApiServer,
    user: &str,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: &str,
    name: &str,
) -> bool {
    let (resource, part) = resource.split_once('/').unwrap_or((resource, ""));
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
        "spec": { "user": user, "groups": ["system:serviceaccounts", "system:authenticated"], "resourceAttributes": {
            "verb": verb, "group": group, "resource": resource, "subresource": part, "namespace": namespace, "name": name,
        } },
    });
    let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
    let (status, answer) = server.request(ADMIN, "POST", path, Some(&review));
    assert_eq!(status, 201, "{answer}");
    answer["status"]["allowed"] == true
}

/// Who, verb, group, resource, namespace, name, and whether it may be.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static str, &'static str, bool);

const OURS: &str = "crd.projectcalico.org";
const CASES: &[Case] = &[
    // The passing controls: without these rights the node could not work.
    (NODE, "list", OURS, "networkpolicies", "", "", true),
    (NODE, "watch", "networking.k8s.io", "networkpolicies", "", "", true),
    (NODE, "update", OURS, "ipamblocks", "", "", true),
    (NODE, "create", OURS, "ippools", "", "", true),
    (NODE, "watch", OURS, "caliconodestatuses", "", "", true),
    (NODE, "update", OURS, "caliconodestatuses", "", "", true),
    (NODE, "update", OURS, "caliconodestatuses/status", "", "", true),
    (NODE, "patch", "", "pods/status", "default", "", true),
    (NODE, "patch", "", "nodes/status", "", "", true),
    (NODE, "create", "", "serviceaccounts/token", "kube-system", "calico-cni-plugin", true),
    (NODE, "get", "", "configmaps", "kube-system", "kubeadm-config", true),
    // What it may not: tokens of others, anybody's configuration, pods themselves.
    (NODE, "create", "", "serviceaccounts/token", "kube-system", "calico-kube-controllers", false),
    (NODE, "get", "", "configmaps", "kube-system", "extension-apiserver-authentication", false),
    (NODE, "get", "", "configmaps", "default", "kubeadm-config", false),
    (NODE, "get", "", "secrets", "kube-system", "", false),
    (NODE, "list", "", "secrets", "", "", false),
    (NODE, "create", "", "pods", "default", "", false),
    (NODE, "patch", "", "nodes", "", "", false),
    (NODE, "update", OURS, "felixconfigurations", "", "", false),
    (NODE, "update", OURS, "ippools", "", "", false),
    (NODE, "create", OURS, "bgppeers", "", "", false),
    (PLUGIN, "get", "", "pods", "default", "", true),
    (PLUGIN, "create", OURS, "ipamhandles", "", "", true),
    (PLUGIN, "list", "", "pods", "", "", false),
    (PLUGIN, "create", "", "serviceaccounts/token", "kube-system", "calico-cni-plugin", false),
    (CONTROLLERS, "delete", OURS, "ipamblocks", "", "", true),
    (CONTROLLERS, "list", "", "pods", "", "", true),
    (CONTROLLERS, "delete", "", "pods", "", "", false),
    (CONTROLLERS, "get", "", "secrets", "", "", false),
];

#[test]
fn a_real_api_server_takes_the_manifests_and_a_node_may_not_write_policy() {
    let Some(server) = ApiServer::start(&[]) else { return };
    for flavour in Flavour::ALL {
        let documents = documents(flavour);
        let (definitions, others): (Vec<Value>, Vec<Value>) =
            documents.into_iter().partition(|d| d["kind"] == "CustomResourceDefinition");
        server.define(&definitions);
        for document in &others {
            server.apply(&collection(document), document);
        }
    }
    for (user, verb, group, resource, namespace, name, expected) in CASES {
        let found = may(&server, user, verb, group, resource, namespace, name);
        assert_eq!(found, *expected, "{user}: {verb} {resource}.{group} {namespace}/{name}");
    }
    let policies = [
        (OURS, "networkpolicies"),
        (OURS, "globalnetworkpolicies"),
        (OURS, "stagednetworkpolicies"),
        (OURS, "stagedglobalnetworkpolicies"),
        (OURS, "stagedkubernetesnetworkpolicies"),
        (OURS, "networksets"),
        (OURS, "globalnetworksets"),
        (OURS, "hostendpoints"),
        ("projectcalico.org", "networkpolicies"),
        ("projectcalico.org", "globalnetworkpolicies"),
        ("networking.k8s.io", "networkpolicies"),
        ("policy.networking.k8s.io", "clusternetworkpolicies"),
        ("rbac.authorization.k8s.io", "clusterroles"),
        ("rbac.authorization.k8s.io", "clusterrolebindings"),
    ];
    let mut refused = 0;
    for user in [NODE, PLUGIN] {
        for (group, resource) in policies {
            for verb in ["create", "update", "patch", "delete", "deletecollection"] {
                assert!(
                    !may(&server, user, verb, group, resource, "default", ""),
                    "{user} may {verb} {resource}.{group}"
                );
                refused += 1;
            }
        }
    }
    for verb in ["update", "patch", "delete"] {
        assert!(!may(&server, NODE, verb, OURS, "tiers", "", "default"), "{NODE} may {verb} tiers");
        refused += 1;
    }
    println!(
        "rbac: {} questions about a node's reach answered as they should, {refused} writes of policy refused",
        CASES.len()
    );
}
