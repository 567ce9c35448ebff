//! The columns of each kind's table (spec 7 §5.5).

use anyhow::bail;
use calico_api::{AnyResource, Kind, suggest};
use serde_json::Value;

/// Longest text of a list in a cell.
const MAX_LIST: usize = 80;

/// What cells show besides their resource.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// The AS of nodes that name none.
    pub cluster_asn: String,
}

/// One column.
#[derive(Clone, Copy)]
pub(crate) struct Column {
    pub heading: &'static str,
    pub value: fn(&AnyResource, &Facts) -> String,
}

const fn column(heading: &'static str, value: fn(&AnyResource, &Facts) -> String) -> Column {
    Column { heading, value }
}

pub(crate) const NAMESPACE: Column = column("NAMESPACE", |r, _| r.metadata.namespace.to_string());
const NAME: Column = column("NAME", |r, _| r.metadata.name.to_string());
const NODE: Column = column("NODE", |r, _| text(r, "/node"));
const PROFILES: Column = column("PROFILES", |r, _| list(r, "/profiles", None));
const NETS: Column = column("NETS", |r, _| list(r, "/nets", Some(MAX_LIST)));
const TIER: Column = column("TIER", |r, _| text(r, "/tier"));
const POLICY_ORDER: Column = column("ORDER", |r, _| order(r));
const SELECTOR: Column = column("SELECTOR", |r, _| text(r, "/selector"));
const CIDR: Column = column("CIDR", |r, _| text(r, "/cidr"));
const POOL_SELECTOR: Column = column("SELECTOR", |r, _| text(r, "/nodeSelector"));
const WORKLOAD: Column = column("WORKLOAD", |r, _| workload(r));
const NETWORKS: Column = column("NETWORKS", |r, _| list(r, "/ipNetworks", None));
const INTERFACE: Column = column("INTERFACE", |r, _| text(r, "/interfaceName"));
const STRICT: Column = column("STRICTAFFINITY", |r, _| flag(r, "/strictAffinity"));
const AUTO: Column = column("AUTOALLOCATEBLOCKS", |r, _| flag(r, "/autoAllocateBlocks"));

/// Columns of `-o ps`.
pub(crate) fn ps(kind: Kind) -> Vec<Column> {
    match kind {
        Kind::GlobalNetworkPolicy
        | Kind::NetworkPolicy
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedNetworkPolicy => vec![NAME, TIER],
        Kind::HostEndpoint => vec![NAME, NODE],
        Kind::IPAMConfiguration => vec![NAME, STRICT, AUTO],
        Kind::IPPool => vec![NAME, CIDR, POOL_SELECTOR],
        Kind::WorkloadEndpoint => vec![WORKLOAD, NODE, NETWORKS, INTERFACE],
        Kind::BGPConfiguration | Kind::BGPFilter | Kind::BGPPeer | Kind::ClusterInformation | Kind::Tier => {
            wide(kind)
        }
        Kind::BlockAffinity
        | Kind::CalicoNodeStatus
        | Kind::FelixConfiguration
        | Kind::GlobalNetworkSet
        | Kind::IPReservation
        | Kind::KubeControllersConfiguration
        | Kind::KubernetesClusterNetworkPolicy
        | Kind::KubernetesEndpointSlice
        | Kind::KubernetesNetworkPolicy
        | Kind::KubernetesSecret
        | Kind::KubernetesService
        | Kind::NetworkSet
        | Kind::Node
        | Kind::Profile
        | Kind::StagedKubernetesNetworkPolicy => vec![NAME],
    }
}

/// Columns of `-o wide`.
pub(crate) fn wide(kind: Kind) -> Vec<Column> {
    match kind {
        Kind::BGPConfiguration => vec![
            NAME,
            column("LOGSEVERITY", |r, _| text(r, "/logSeverityScreen")),
            column("MESHENABLED", |r, _| optional(r, "/nodeToNodeMeshEnabled", "-")),
            column("ASNUMBER", |r, _| optional(r, "/asNumber", "-")),
        ],
        Kind::BGPFilter => vec![
            NAME,
            column("NUMEXPORTV4", |r, _| count(r, "/exportV4")),
            column("NUMIMPORTV4", |r, _| count(r, "/importV4")),
            column("NUMEXPORTV6", |r, _| count(r, "/exportV6")),
            column("NUMIMPORTV6", |r, _| count(r, "/importV6")),
        ],
        Kind::BGPPeer => vec![
            NAME,
            column("PEERIP", |r, _| text(r, "/peerIP")),
            column("NODE", |r, _| peer_node(r)),
            column("ASN", |r, _| optional(r, "/asNumber", "0")),
        ],
        Kind::ClusterInformation => vec![
            NAME,
            column("CLUSTERGUID", |r, _| text(r, "/clusterGUID")),
            column("CLUSTERTYPE", |r, _| text(r, "/clusterType")),
            column("CALICOVERSION", |r, _| text(r, "/calicoVersion")),
            column("DATASTOREREADY", |r, _| optional(r, "/datastoreReady", "")),
        ],
        Kind::GlobalNetworkPolicy
        | Kind::NetworkPolicy
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedNetworkPolicy => vec![NAME, TIER, POLICY_ORDER, SELECTOR],
        Kind::StagedKubernetesNetworkPolicy => {
            vec![NAME, column("PODSELECTOR", |r, _| optional(r, "/podSelector", ""))]
        }
        Kind::GlobalNetworkSet | Kind::NetworkSet => vec![NAME, NETS],
        Kind::HostEndpoint => {
            vec![NAME, NODE, INTERFACE, column("IPS", |r, _| list(r, "/expectedIPs", None)), PROFILES]
        }
        Kind::IPAMConfiguration => {
            vec![NAME, STRICT, AUTO, column("MAXBLOCKSPERHOST", |r, _| optional(r, "/maxBlocksPerHost", "0"))]
        }
        Kind::IPPool => vec![
            NAME,
            CIDR,
            column("NAT", |r, _| flag(r, "/natOutgoing")),
            column("IPIPMODE", |r, _| text(r, "/ipipMode")),
            column("VXLANMODE", |r, _| text(r, "/vxlanMode")),
            column("DISABLED", |r, _| flag(r, "/disabled")),
            column("DISABLEBGPEXPORT", |r, _| flag(r, "/disableBGPExport")),
            POOL_SELECTOR,
            column("ASSIGNMENTMODE", |r, _| text(r, "/assignmentMode")),
        ],
        Kind::IPReservation => vec![NAME, column("CIDRS", |r, _| list(r, "/reservedCIDRs", Some(MAX_LIST)))],
        Kind::Node => vec![
            NAME,
            column("ASN", |r, facts| optional(r, "/bgp/asNumber", &format!("({})", facts.cluster_asn))),
            column("IPV4", |r, _| text(r, "/bgp/ipv4Address")),
            column("IPV6", |r, _| text(r, "/bgp/ipv6Address")),
        ],
        Kind::CalicoNodeStatus => vec![NAME, NODE, column("CLASSES", |r, _| list(r, "/classes", None))],
        Kind::Profile => vec![NAME, column("LABELS", |r, _| map(r, "/labelsToApply"))],
        Kind::Tier => vec![NAME, column("ORDER", |r, _| order(r))],
        Kind::WorkloadEndpoint => {
            vec![NAME, WORKLOAD, NODE, NETWORKS, INTERFACE, PROFILES, column("NATS", |r, _| nats(r))]
        }
        Kind::BlockAffinity
        | Kind::FelixConfiguration
        | Kind::KubeControllersConfiguration
        | Kind::KubernetesClusterNetworkPolicy
        | Kind::KubernetesEndpointSlice
        | Kind::KubernetesNetworkPolicy
        | Kind::KubernetesSecret
        | Kind::KubernetesService => vec![NAME],
    }
}

/// Columns by their headings.
///
/// # Errors
/// When the kind has no such column.
pub(crate) fn custom(kind: Kind, headings: &[String]) -> anyhow::Result<Vec<Column>> {
    let mut known = wide(kind);
    known.extend(ps(kind));
    known.push(NAMESPACE);
    let mut columns = Vec::new();
    for heading in headings {
        match known.iter().find(|c| c.heading == heading) {
            Some(column) => columns.push(*column),
            None => {
                let mut names: Vec<&str> = known.iter().map(|c| c.heading).collect();
                names.sort_unstable();
                names.dedup();
                let all = format!("use some of {}", names.join(", "));
                let remedy = suggest::remedy(heading, names, &all);
                bail!("{} has no column {heading}; {remedy}", kind.name());
            }
        }
    }
    Ok(columns)
}

fn field<'a>(resource: &'a AnyResource, path: &str) -> Option<&'a Value> {
    let mut names = path.split('/').skip(1);
    let first = resource.spec.get(names.next()?)?;
    names.try_fold(first, |value, name| value.get(name))
}

fn text(resource: &AnyResource, path: &str) -> String {
    optional(resource, path, "")
}

fn optional(resource: &AnyResource, path: &str, absent: &str) -> String {
    match field(resource, path) {
        None | Some(Value::Null) => absent.to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    }
}

fn flag(resource: &AnyResource, path: &str) -> String {
    optional(resource, path, "false")
}

fn count(resource: &AnyResource, path: &str) -> String {
    field(resource, path).and_then(Value::as_array).map_or(0, Vec::len).to_string()
}

fn list(resource: &AnyResource, path: &str, longest: Option<usize>) -> String {
    let items = field(resource, path).and_then(Value::as_array);
    let joined = items.into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
    match longest {
        Some(longest) if joined.chars().count() > longest => {
            joined.chars().take(longest - 3).collect::<String>() + "..."
        }
        _ => joined,
    }
}

fn map(resource: &AnyResource, path: &str) -> String {
    let Some(map) = field(resource, path).and_then(Value::as_object) else { return String::new() };
    let mut pairs: Vec<String> =
        map.iter().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default())).collect();
    pairs.sort();
    pairs.join(",")
}

/// Calico prints orders as Go prints floats: shortest, with an exponent from a million on.
fn order(resource: &AnyResource) -> String {
    let Some(order) = field(resource, "/order").and_then(Value::as_f64) else { return "<nil>".to_owned() };
    let scientific = format!("{order:e}");
    let Some((mantissa, exponent)) = scientific.split_once('e') else { return scientific };
    match exponent.parse::<i32>() {
        Ok(e) if order != 0.0 && !(-4..6).contains(&e) => {
            let sign = if e < 0 { '-' } else { '+' };
            format!("{mantissa}e{sign}{:02}", e.abs())
        }
        _ => order.to_string(),
    }
}

fn peer_node(resource: &AnyResource) -> String {
    let (node, selector) = (text(resource, "/node"), text(resource, "/nodeSelector"));
    match (node.is_empty(), selector.is_empty()) {
        (false, _) => node,
        (true, false) => selector,
        (true, true) => "(global)".to_owned(),
    }
}

fn workload(resource: &AnyResource) -> String {
    let by_kind = match text(resource, "/orchestrator").as_str() {
        "k8s" => "/pod",
        "cni" => "/containerID",
        _ => "/workload",
    };
    text(resource, by_kind)
}

fn nats(resource: &AnyResource) -> String {
    let nats = field(resource, "/ipNATs").and_then(Value::as_array);
    let pair = |nat: &Value| {
        let part = |name| nat.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        format!("{}:{}", part("internalIP"), part("externalIP"))
    };
    nats.into_iter().flatten().map(pair).collect::<Vec<_>>().join(",")
}
