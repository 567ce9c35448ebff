//! Node of Kubernetes ↔ Node of Calico (spec 1 §3.9): what Calico knows of a node is in annotations.

mod annotations;

use std::net::IpAddr;

use bytes::Bytes;
use calico_net::{Cidr, Family};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use smol_str::SmolStr;

use super::object::ObjectMeta;
use super::{ConversionError, Converted};
use crate::codec;
use crate::ipam::{self, IpamBlock};
use crate::key::{AffinityOwner, Key, Kind};
use crate::meta::{Labels, Resource};
use crate::node::{NodeAddress, NodeBgp, NodeInterface, NodeSpec, NodeStatus, NodeWireguard, OrchRef};
use crate::record::{Entry, Revision};

/// Labels that only Calico gave the node, in JSON.
const LABELS: &str = "projectcalico.org/labels";
/// Annotations that only Calico's resource has, in JSON.
const ANNOTATIONS: &str = "projectcalico.org/annotations";
/// The node's interfaces, in JSON.
const INTERFACES: &str = "projectcalico.org/Interfaces";
/// In Calico's resource only: a copy of the labels that are Kubernetes', so that they are told from Calico's own when
/// the resource is written back.
pub const KUBE_LABELS: &str = "projectcalico.org/kube-labels";

/// A node as Kubernetes has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name, labels and annotations.
    pub metadata: ObjectMeta,
    /// What the cluster gave it.
    pub spec: NodeFields,
    /// What it reports.
    pub status: NodeReport,
}

/// What the cluster gave a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeFields {
    /// The first of its pod ranges.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: SmolStr,
    /// All of its pod ranges.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<SmolStr>,
}

/// What a node reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeReport {
    /// Its addresses.
    pub addresses: Vec<NodeReportAddress>,
}

/// An address that a node reports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NodeReportAddress {
    /// `InternalIP`, `ExternalIP`, `Hostname`, …
    #[serde(rename = "type")]
    pub address_type: SmolStr,
    /// The address, or a name.
    pub address: SmolStr,
}

/// Calico's node, and what of the annotations could not be read. With `use_pod_cidr`, for host-local addresses, the
/// tunnels' addresses come from the node's pod range.
pub fn entry(node: &Node, use_pod_cidr: bool) -> Converted {
    let Node { metadata: meta, .. } = node;
    let object = format!("Node({})", meta.name);
    let mut problems = Vec::new();
    let mut calico = Resource {
        metadata: meta.derived(meta.name.clone(), meta.uid.clone()),
        spec: NodeSpec::default(),
        status: Some(NodeStatus { pod_cidrs: pod_cidrs(node), ..NodeStatus::default() }),
    };
    annotations::read(&meta.annotations, &mut calico, &mut problems);
    calico.spec.interfaces = parsed::<Vec<NodeInterface>>(&meta.annotations, INTERFACES, &mut problems);
    calico.spec.orch_refs = vec![OrchRef { node_name: meta.name.clone(), orchestrator: "k8s".into() }];
    calico.spec.addresses = addresses(node, &calico.spec);
    if use_pod_cidr {
        use_pod_range(node, &mut calico);
    }
    calico.metadata.labels = parsed(&meta.annotations, LABELS, &mut problems);
    calico.metadata.labels.extend(meta.labels.clone());
    calico.metadata.annotations = parsed(&meta.annotations, ANNOTATIONS, &mut problems);
    let copy = SmolStr::from(json!(meta.labels).to_string());
    calico.metadata.annotations.insert(SmolStr::new_static(KUBE_LABELS), copy);
    let key = Key::resource(Kind::Node, "", &meta.name);
    let entry =
        Entry { key, value: codec::encode(&calico), revision: Revision(meta.resource_version.clone()) };
    let problems = problems.into_iter().map(|reason| ConversionError::new(&object, reason)).collect();
    Converted { entry, problems }
}

/// Blocks that host-local's pod ranges are, for where there is no IPAM of Calico's: the node's own.
pub fn blocks(node: &Node) -> Vec<Entry> {
    let cidrs = pod_cidrs(node).into_iter().filter_map(|text| text.parse::<Cidr>().ok());
    let block = |cidr: Cidr| -> Bytes {
        ipam::encode_record(&IpamBlock {
            cidr,
            affinity: Some(AffinityOwner::Host(node.metadata.name.clone())),
            affinity_claim_time: None,
            allocations: Vec::new(),
            unallocated: Vec::new(),
            attributes: Vec::new(),
            sequence_number: 0,
            sequence_number_for_allocation: std::collections::BTreeMap::new(),
            deleted: false,
            host_affinity: None,
            other: indexmap::IndexMap::new(),
        })
    };
    let revision = Revision(node.metadata.resource_version.clone());
    cidrs
        .map(|cidr| Entry { key: Key::Block(cidr), value: block(cidr), revision: revision.clone() })
        .collect()
}

/// The merge patch of `nodes/<name>/status` that writes Calico's node back: every annotation of Calico's is set, or
/// removed. Labels of Kubernetes' own are not Calico's to change; the resource says which they are.
///
/// # Errors
/// When a value is not what its field asks for: it would be read as absent.
pub fn patch(node: &crate::Node, revision: Option<&Revision>) -> Result<Value, ConversionError> {
    let fail = |reason: String| ConversionError::new(format!("Node({})", node.metadata.name), reason);
    let mut set = annotations::write(node).map_err(fail)?;
    let json = |value: Value, empty: bool| if empty { Value::Null } else { value.to_string().into() };
    let spec = &node.spec;
    set.insert(INTERFACES.to_owned(), json(json!(spec.interfaces), spec.interfaces.is_empty()));
    let mut annotations = node.metadata.annotations.clone();
    let kube: Labels = match annotations.remove(KUBE_LABELS) {
        Some(text) => serde_json::from_str(&text)
            .map_err(|error| fail(format!("metadata.annotations[{KUBE_LABELS}]: {error}")))?,
        None => Labels::new(),
    };
    let mut labels = node.metadata.labels.clone();
    labels.retain(|key, _| !kube.contains_key(key));
    set.insert(LABELS.to_owned(), json(json!(labels), labels.is_empty()));
    set.insert(ANNOTATIONS.to_owned(), json(json!(annotations), annotations.is_empty()));
    let mut metadata = Map::new();
    metadata.insert("annotations".to_owned(), Value::Object(set));
    if let Some(revision) = revision {
        metadata.insert("resourceVersion".to_owned(), revision.0.as_str().into());
    }
    Ok(json!({ "metadata": metadata }))
}

fn pod_cidrs(node: &Node) -> Vec<SmolStr> {
    let NodeFields { pod_cidr, pod_cidrs } = &node.spec;
    if pod_cidrs.is_empty() && !pod_cidr.is_empty() { vec![pod_cidr.clone()] } else { pod_cidrs.clone() }
}

/// Calico's own addresses first, then those that the node reports.
fn addresses(node: &Node, spec: &NodeSpec) -> Vec<NodeAddress> {
    let bgp = spec.bgp.iter().flat_map(|bgp| [&bgp.ipv4_address, &bgp.ipv6_address]);
    let own = bgp.filter(|address| !address.is_empty()).map(|address| NodeAddress {
        address: address.clone(),
        address_type: SmolStr::new_static("CalicoNodeIP"),
    });
    let reported = ["InternalIP", "ExternalIP"].into_iter().flat_map(|class| {
        node.status.addresses.iter().filter(move |reported| reported.address_type == class)
    });
    let reported = reported.map(|NodeReportAddress { address_type, address }| NodeAddress {
        address: address.clone(),
        address_type: address_type.clone(),
    });
    own.chain(reported).collect()
}

/// The tunnels' address is the first of the pod range, which host-local keeps for the gateway.
fn use_pod_range(node: &Node, calico: &mut crate::Node) {
    let ranges: Vec<Cidr> = pod_cidrs(node).iter().filter_map(|text| text.parse().ok()).collect();
    let first = |family: Family| -> Option<SmolStr> {
        let range = ranges.iter().find(|range| range.family() == family)?;
        next_in_last_octet(range.addr()).map(|addr| SmolStr::from(addr.to_string()))
    };
    let Some(v4) = first(Family::V4) else { return };
    calico.spec.bgp.get_or_insert_with(NodeBgp::default).ipv4_ipip_tunnel_addr = v4.clone();
    let has_key =
        |key: fn(&NodeStatus) -> &SmolStr| calico.status.as_ref().is_some_and(|s| !key(s).is_empty());
    if has_key(|status| &status.wireguard_public_key) {
        calico.spec.wireguard.get_or_insert_with(NodeWireguard::default).interface_ipv4_address = v4;
    }
}

fn next_in_last_octet(addr: IpAddr) -> Option<IpAddr> {
    match addr {
        IpAddr::V4(addr) => u32::from(addr).checked_add(1).map(|next| IpAddr::V4(next.into())),
        IpAddr::V6(addr) => u128::from(addr).checked_add(1).map(|next| IpAddr::V6(next.into())),
    }
}

/// What an annotation holds in JSON; nothing where it is missing or cannot be read.
fn parsed<T: serde::de::DeserializeOwned + Default>(
    annotations: &Labels,
    key: &str,
    problems: &mut Vec<String>,
) -> T {
    let Some(text) = annotations.get(key).filter(|text| !text.is_empty()) else { return T::default() };
    serde_json::from_str::<Option<T>>(text).map(Option::unwrap_or_default).unwrap_or_else(|error| {
        problems.push(format!("metadata.annotations[{key}]: {error}; it is ignored"));
        T::default()
    })
}

#[cfg(test)]
mod tests;
