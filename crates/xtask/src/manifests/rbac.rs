//! Who may do what. A node reads policy and writes none; what it writes are addresses, its own reports, and the defaults
//! of a cluster that has none yet.

use serde_json::{Value, json};

use super::{NAMESPACE, controllers, object, with};

const NODE: &str = "calico-node";
const PLUGIN: &str = "calico-cni-plugin";

/// The groups of our kinds: v1, and v3 where only that is installed.
const OURS: [&str; 2] = ["crd.projectcalico.org", "projectcalico.org"];

const READ: [&str; 3] = ["get", "list", "watch"];

/// A rule: groups, resources, verbs.
fn rule(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Value {
    json!({ "apiGroups": groups, "resources": resources, "verbs": verbs })
}

pub fn accounts() -> Vec<Value> {
    [controllers::NAME, NODE, PLUGIN].map(|name| object("v1", "ServiceAccount", name, true)).into()
}

pub fn roles() -> Vec<Value> {
    let mut all = Vec::new();
    for (name, rules) in
        [(controllers::NAME, controllers_rules()), (NODE, node_rules()), (PLUGIN, plugin_rules())]
    {
        all.push(with(
            object("rbac.authorization.k8s.io/v1", "ClusterRole", name, false),
            json!({ "rules": rules }),
        ));
    }
    for name in [controllers::NAME, NODE, PLUGIN] {
        all.push(with(
            object("rbac.authorization.k8s.io/v1", "ClusterRoleBinding", name, false),
            json!({
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name },
                "subjects": [{ "kind": "ServiceAccount", "name": name, "namespace": NAMESPACE }],
            }),
        ));
    }
    all.extend(installer_facts());
    all
}

/// What installers of clusters left in kube-system, where a node looks for the pods' range; nothing else there.
fn installer_facts() -> [Value; 2] {
    let names = ["kubeadm-config", "full-cluster-state"];
    let rules =
        json!([{ "apiGroups": [""], "resources": ["configmaps"], "resourceNames": names, "verbs": ["get"] }]);
    [
        with(object("rbac.authorization.k8s.io/v1", "Role", NODE, true), json!({ "rules": rules })),
        with(
            object("rbac.authorization.k8s.io/v1", "RoleBinding", NODE, true),
            json!({
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NODE },
                "subjects": [{ "kind": "ServiceAccount", "name": NODE, "namespace": NAMESPACE }],
            }),
        ),
    ]
}

fn node_rules() -> Vec<Value> {
    vec![
        // Tokens for the plugin, where its configuration wants a kubeconfig.
        json!({
            "apiGroups": [""], "resources": ["serviceaccounts/token"], "resourceNames": [PLUGIN], "verbs": ["create"],
        }),
        rule(&[""], &["pods", "nodes", "namespaces", "serviceaccounts", "services", "endpoints"], &READ),
        rule(&["discovery.k8s.io"], &["endpointslices"], &READ),
        // The node's addresses and its network condition; the pods' addresses.
        rule(&[""], &["nodes/status"], &["patch", "update"]),
        rule(&[""], &["pods/status"], &["patch"]),
        rule(&["networking.k8s.io"], &["networkpolicies"], &READ),
        rule(&["policy.networking.k8s.io"], &["clusternetworkpolicies"], &READ),
        rule(
            &OURS,
            &[
                "bgpconfigurations",
                "bgpfilters",
                "bgppeers",
                "blockaffinities",
                "caliconodestatuses",
                "clusterinformations",
                "felixconfigurations",
                "globalnetworkpolicies",
                "globalnetworksets",
                "hostendpoints",
                "ipamblocks",
                "ipamconfigs",
                "ipamconfigurations",
                "ipamhandles",
                "ippools",
                "ipreservations",
                "networkpolicies",
                "networksets",
                "stagedglobalnetworkpolicies",
                "stagedkubernetesnetworkpolicies",
                "stagednetworkpolicies",
                "tiers",
            ],
            &READ,
        ),
        // Defaults of a cluster that has none; the tiers that always exist.
        rule(
            &OURS,
            &[
                "bgpconfigurations",
                "felixconfigurations",
                "ipamconfigs",
                "ipamconfigurations",
                "ippools",
                "tiers",
            ],
            &["create"],
        ),
        rule(&OURS, &["clusterinformations"], &["create", "update"]),
        rule(&OURS, &["caliconodestatuses", "caliconodestatuses/status"], &["update"]),
        addresses(),
    ]
}

/// The records of IPAM.
fn addresses() -> Value {
    rule(
        &OURS,
        &["blockaffinities", "ipamblocks", "ipamhandles"],
        &["get", "list", "create", "update", "delete"],
    )
}

fn plugin_rules() -> Vec<Value> {
    vec![
        rule(&[""], &["pods", "nodes", "namespaces"], &["get"]),
        rule(&[""], &["pods/status"], &["patch"]),
        rule(
            &OURS,
            &["clusterinformations", "ipamconfigs", "ipamconfigurations", "ippools", "ipreservations"],
            &["get", "list"],
        ),
        addresses(),
    ]
}

fn controllers_rules() -> Vec<Value> {
    let whole = ["get", "list", "watch", "create", "update", "delete"];
    vec![
        rule(&[""], &["nodes", "pods", "namespaces"], &READ),
        rule(&OURS, &["ippools", "ipreservations"], &READ),
        rule(
            &OURS,
            &["blockaffinities", "ipamblocks", "ipamhandles", "ipamconfigs", "ipamconfigurations"],
            &whole,
        ),
        rule(&OURS, &["hostendpoints"], &whole),
        rule(&OURS, &["clusterinformations"], &["get", "list", "watch", "create", "update"]),
        rule(&OURS, &["tiers"], &["get", "list", "watch", "create"]),
        rule(&OURS, &["kubecontrollersconfigurations"], &["get", "list", "watch", "create", "update"]),
        rule(&OURS, &["kubecontrollersconfigurations/status"], &["update", "patch"]),
    ]
}
