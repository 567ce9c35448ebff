//! The generated CustomResourceDefinitions: `deploy/crds/v1` (group crd.projectcalico.org, what a cluster stores) and
//! `deploy/crds/v3` (group projectcalico.org, where the API server serves the users' API itself).
//!
//! One table of kinds; the tables of their fields are in the files below. A field that is missing here is pruned by the
//! API server from every object, also from objects that another version wrote: nothing leaves this table.

mod bgp;
mod felix;
mod ipam;
mod policy;
mod schema;
mod system;
#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Result;
use serde_json::{Map, Value, json};

use self::schema::{Schema, any_object, atomic_list, int64, list, map_of, moment, object, text, word};
use crate::generated::{self, Page};

/// The group that a definition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `crd.projectcalico.org/v1`.
    V1,
    /// `projectcalico.org/v3`.
    V3,
    /// `policy.networking.k8s.io`, which belongs to Kubernetes; installed with v1.
    Policy,
}

impl Group {
    fn name(self) -> &'static str {
        match self {
            Group::V1 => "crd.projectcalico.org",
            Group::V3 => "projectcalico.org",
            Group::Policy => "policy.networking.k8s.io",
        }
    }

    fn version(self) -> &'static str {
        match self {
            Group::V1 => "v1",
            Group::V3 => "v3",
            Group::Policy => "v1alpha2",
        }
    }
}

/// A kind.
struct CustomKind {
    /// Name in v3.
    kind: &'static str,
    /// Name in v1 where it differs.
    v1: Option<&'static str>,
    about: &'static str,
    namespaced: bool,
    /// Short names, for groups that users meet.
    short: &'static [&'static str],
    /// Printer columns, for the same groups.
    columns: &'static [Column],
    spec: fn(Group) -> Schema,
    status: Option<fn(Group) -> Schema>,
    /// Conditions on the object as a whole.
    rules: fn(Schema) -> Schema,
    /// Fields by which the API server can select, for the same groups.
    selectable: &'static [&'static str],
    /// Whether v1 requires the parts of the object too, as v3 does.
    whole: bool,
}

/// Title, type, path.
type Column = (&'static str, &'static str, &'static str);

const AGE: Column = ("Age", "date", ".metadata.creationTimestamp");
const TIER: Column = ("Tier", "string", ".spec.tier");
const ORDER: Column = ("Order", "number", ".spec.order");

const fn kind(kind: &'static str, spec: fn(Group) -> Schema, about: &'static str) -> CustomKind {
    CustomKind {
        kind,
        v1: None,
        about,
        namespaced: false,
        short: &[],
        columns: &[],
        spec,
        status: None,
        rules: |object| object,
        selectable: &[],
        whole: false,
    }
}

impl CustomKind {
    const fn namespaced(self) -> Self {
        Self { namespaced: true, ..self }
    }
    const fn short(self, short: &'static [&'static str]) -> Self {
        Self { short, ..self }
    }
    const fn columns(self, columns: &'static [Column]) -> Self {
        Self { columns, ..self }
    }
    const fn status(self, status: fn(Group) -> Schema) -> Self {
        Self { status: Some(status), ..self }
    }
    const fn tiered(self) -> Self {
        Self { selectable: &[".spec.tier"], ..self }
    }
}

const CLUSTER_POLICY: CustomKind = CustomKind {
    whole: true,
    ..kind("ClusterNetworkPolicy", policy::cluster_network_policy, "Policy of the cluster's administrator.")
        .short(&["cnp"])
        .columns(&[TIER, ("Priority", "string", ".spec.priority"), AGE])
        .status(policy::cluster_network_policy_status)
};

/// Every kind of ours.
const KINDS: [CustomKind; 22] = [
    kind("BGPConfiguration", bgp::configuration, "BGP of the cluster (`default`) or of a node (`node.…`).")
        .short(&["bgpconfig", "bgpconfigs"]),
    kind("BGPFilter", bgp::filter, "Which routes go to and come from BGP peers."),
    kind("BGPPeer", bgp::peer, "A BGP session of nodes.").columns(&[
        ("Node Selector", "string", ".spec.nodeSelector"),
        ("Node", "string", ".spec.node"),
        ("Local ASN", "string", ".spec.localASNumber"),
        ("Peer Selector", "string", ".spec.peerSelector"),
        ("Peer IP", "string", ".spec.peerIP"),
        ("Peer ASN", "string", ".spec.asNumber"),
    ]),
    kind("BlockAffinity", ipam::affinity, "Record of IPAM: a node has a block, or takes it.")
        .short(&["affinity", "affinities"])
        .columns(&[
            ("CIDR", "string", ".spec.cidr"),
            ("Node", "string", ".spec.node"),
            ("Type", "string", ".spec.type"),
        ]),
    kind("CalicoNodeStatus", bgp::node_status, "What a node reports of its daemons, sessions and routes.")
        .columns(&[("Node", "string", ".spec.node"), ("Classes", "string", ".spec.classes")])
        .status(bgp::node_status_report),
    kind(
        "ClusterInformation",
        system::cluster_information,
        "The cluster; only `default`, written by the system.",
    )
    .short(&["clusterinfo", "clusterinfos"])
    .columns(&[
        ("Version", "string", ".spec.calicoVersion"),
        ("Ready", "boolean", ".spec.datastoreReady"),
        ("Types", "string", ".spec.clusterType"),
    ]),
    CustomKind {
        rules: felix::object_rules,
        ..kind(
            "FelixConfiguration",
            felix::configuration,
            "Options of the agent: `default` for all nodes, `node.…` for one, others by nodeSelector.",
        )
    },
    kind("GlobalNetworkPolicy", policy::global_network_policy, "Policy for all namespaces and for hosts.")
        .short(&["gnp", "cgnp"])
        .columns(&[TIER, ORDER, AGE])
        .tiered(),
    kind("GlobalNetworkSet", policy::network_set, "Addresses that policies find by labels.")
        .short(&["gns"])
        .columns(&[AGE]),
    kind("HostEndpoint", system::host_endpoint, "An interface of a node, so that policies apply to it.")
        .short(&["hep", "heps"])
        .columns(&[("Node", "string", ".spec.node"), ("Interface", "string", ".spec.interfaceName")]),
    kind("IPAMBlock", ipam::block, "Record of IPAM: a block and who has its addresses.").columns(&[
        ("CIDR", "string", ".spec.cidr"),
        ("Affinity", "string", ".spec.affinity"),
        ("ClaimTime", "date", ".spec.affinityClaimTime"),
    ]),
    CustomKind {
        v1: Some("IPAMConfig"),
        ..kind("IPAMConfiguration", ipam::configuration, "How addresses are given out; only `default`.")
            .short(&["ipamconfig", "ipamconfigs"])
            .columns(&[
                ("StrictAffinity", "boolean", ".spec.strictAffinity"),
                ("MaxBlocksPerHost", "integer", ".spec.maxBlocksPerHost"),
                ("AutoAllocateBlocks", "boolean", ".spec.autoAllocateBlocks"),
            ])
    },
    kind("IPAMHandle", ipam::handle, "Record of IPAM: what one owner has.").columns(&[(
        "ID",
        "string",
        ".spec.handleID",
    )]),
    kind("IPPool", ipam::pool, "A range of addresses for workloads, tunnels or load balancers.")
        .columns(&[
            ("CIDR", "string", ".spec.cidr"),
            ("VXLAN", "string", ".spec.vxlanMode"),
            ("IPIP", "string", ".spec.ipipMode"),
            ("NAT", "boolean", ".spec.natOutgoing"),
            ("Allocatable", "string", ".status.conditions[?(@.type=='Allocatable')].status"),
            AGE,
        ])
        .status(ipam::pool_status),
    kind("IPReservation", ipam::reservation, "Addresses that are not given out."),
    kind("KubeControllersConfiguration", system::controllers, "Settings of the controllers; only `default`.")
        .short(&["kcc", "kccs"])
        .status(system::controllers_status),
    kind("NetworkPolicy", policy::network_policy, "Policy for a namespace.")
        .namespaced()
        .short(&["cnp", "caliconetworkpolicy"])
        .columns(&[TIER, ORDER])
        .tiered(),
    kind("NetworkSet", policy::network_set, "Addresses that policies of the namespace find by labels.")
        .namespaced(),
    kind(
        "StagedGlobalNetworkPolicy",
        policy::staged_global_network_policy,
        "A GlobalNetworkPolicy on trial.",
    )
    .short(&["sgnp"])
    .columns(&[TIER, ORDER])
    .tiered(),
    kind(
        "StagedKubernetesNetworkPolicy",
        policy::staged_kubernetes_network_policy,
        "A policy of Kubernetes on trial.",
    )
    .namespaced()
    .short(&["sknp"]),
    kind("StagedNetworkPolicy", policy::staged_network_policy, "A NetworkPolicy on trial.")
        .namespaced()
        .short(&["scnp", "snp"])
        .columns(&[TIER, ORDER])
        .tiered(),
    CustomKind {
        rules: policy::tier_rules,
        whole: true,
        ..kind("Tier", policy::tier, "A step in the order of policies.")
            .columns(&[
                ("Order", "integer", ".spec.order"),
                ("DefaultAction", "string", ".spec.defaultAction"),
                ("Status", "string", ".status.conditions[?(@.type=='Ready')].reason"),
            ])
            .status(policy::tier_status)
    },
];

/// Conditions as Kubernetes' API conventions have them.
fn conditions() -> Schema {
    let name = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
    let label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    let condition = object([
        (
            "type",
            text().longest(316).pattern(&format!(r"^({label}(\.{label})*/)?({name})$")),
            "What the condition is about.",
        ),
        ("status", word(&["True", "False", "Unknown"]), "Whether it holds."),
        (
            "reason",
            text().with("minLength", 1).longest(1024).pattern("^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"),
            "Why, in one word.",
        ),
        ("message", text().longest(32_768), "Why, for people."),
        ("lastTransitionTime", moment(), "When it became so."),
        ("observedGeneration", int64().with("minimum", 0), "Generation of the object that was looked at."),
    ])
    .required(&["lastTransitionTime", "message", "reason", "status", "type"]);
    list(condition).with("x-kubernetes-list-map-keys", ["type"]).with("x-kubernetes-list-type", "map")
}

/// A label selector of Kubernetes.
fn selectors() -> Schema {
    let expression = object([
        ("key", text(), "Label."),
        ("operator", text(), "In, NotIn, Exists or DoesNotExist."),
        ("values", atomic_list(text()), "Values, for In and NotIn."),
    ])
    .required(&["key", "operator"]);
    object([
        ("matchLabels", map_of(text()), "Labels that must have these values."),
        ("matchExpressions", atomic_list(expression), "Conditions on labels, all of which must hold."),
    ])
    .atomic()
}

/// The definition of a kind in a group, as JSON.
fn definition(custom: &CustomKind, group: Group) -> (String, Value) {
    let kind = match (group, custom.v1) {
        (Group::V1, Some(name)) => name,
        _ => custom.kind,
    };
    let singular = kind.to_ascii_lowercase();
    let plural = plural(&singular);
    // Objects of v1 are the system's records: users see them through the API in front.
    let for_users = group != Group::V1;

    let mut names = Map::new();
    names.insert("kind".to_owned(), json!(kind));
    names.insert("listKind".to_owned(), json!(format!("{kind}List")));
    names.insert("plural".to_owned(), json!(plural));
    if for_users && !custom.short.is_empty() {
        names.insert("shortNames".to_owned(), json!(custom.short));
    }
    names.insert("singular".to_owned(), json!(singular));

    let mut whole = object([
        ("apiVersion", text(), ""),
        ("kind", text(), ""),
        ("metadata", any_object(), ""),
        ("spec", (custom.spec)(group), ""),
    ]);
    if let Some(status) = custom.status {
        whole = whole.property(("status", status(group), "Written by the system."));
    }
    whole = (custom.rules)(whole);
    if for_users || custom.whole {
        whole = whole.required(&["metadata", "spec"]);
    }

    let mut version = Map::new();
    version.insert("name".to_owned(), json!(group.version()));
    version.insert("served".to_owned(), json!(true));
    version.insert("storage".to_owned(), json!(true));
    if for_users && !custom.columns.is_empty() {
        let columns = custom
            .columns
            .iter()
            .map(|(title, kind, path)| json!({ "name": title, "type": kind, "jsonPath": path }));
        version.insert("additionalPrinterColumns".to_owned(), columns.collect());
    }
    if for_users && !custom.selectable.is_empty() {
        let fields = custom.selectable.iter().map(|path| json!({ "jsonPath": path }));
        version.insert("selectableFields".to_owned(), fields.collect());
    }
    if custom.status.is_some() {
        version.insert("subresources".to_owned(), json!({ "status": {} }));
    }
    version.insert("schema".to_owned(), json!({ "openAPIV3Schema": whole.about(custom.about).into_json() }));

    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(format!("{plural}.{}", group.name())));
    if group == Group::Policy {
        // The API server refuses definitions in Kubernetes' own domain that name no review.
        let review = "https://github.com/kubernetes-sigs/network-policy-api/pull/347";
        metadata.insert("annotations".to_owned(), json!({ "api-approved.kubernetes.io": review }));
    }
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": {
            "group": group.name(),
            "names": names,
            "scope": if custom.namespaced { "Namespaced" } else { "Cluster" },
            "versions": [version],
        },
    });
    (plural, definition)
}

fn plural(singular: &str) -> String {
    match (singular.strip_suffix('y'), singular.ends_with('s')) {
        (Some(stem), _) => format!("{stem}ies"),
        (None, true) => format!("{singular}es"),
        (None, false) => format!("{singular}s"),
    }
}

/// Everything that `kubectl apply` needs for one of the two groups, in order of names.
pub fn definitions(group: Group) -> Vec<(String, Value)> {
    let mut all: Vec<(String, Value)> = KINDS.iter().map(|kind| definition(kind, group)).collect();
    if group == Group::V1 {
        all.push(definition(&CLUSTER_POLICY, Group::Policy));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

/// The files.
pub fn pages() -> Vec<Page> {
    [(Group::V1, "deploy/crds/v1"), (Group::V3, "deploy/crds/v3")]
        .into_iter()
        .flat_map(|(group, directory)| {
            definitions(group).into_iter().map(move |(plural, definition)| Page {
                path: format!("{directory}/{plural}.yaml"),
                text: generated::yaml("crds", &[definition]),
            })
        })
        .collect()
}

/// Writes the files.
pub fn write(root: &Path) -> Result<()> {
    generated::write(root, &["deploy/crds/v1", "deploy/crds/v3"], &pages())
}
