//! Pod ↔ WorkloadEndpoint (spec 1 §3.5, spec 5 §1.7).

mod patch;

use std::net::IpAddr;

use calico_net::{Cidr, Family, Protocol};
use serde::Deserialize;
use serde_json::Value;
use smol_str::SmolStr;

pub use patch::{blank_patch, patch};

use super::object::ObjectMeta;
use super::profile::{NAMESPACE_LABELS, SERVICE_ACCOUNT_LABELS};
use super::{ConversionError, Converted, names, qos};
use crate::codec;
use crate::key::{Key, Kind, ResourceKey};
use crate::meta::{Labels, Metadata, Resource};
use crate::number::ProtocolForm;
use crate::record::{Entry, Revision};
use crate::workload_endpoint::{IpNat, WorkloadEndpointSpec, WorkloadPort};

/// The annotation with a pod's first address, as the CNI plugin wrote it; blank once the pod has none any more.
pub const POD_IP: &str = "cni.projectcalico.org/podIP";
/// The annotation with all of a pod's addresses, parted by commas.
pub const POD_IPS: &str = "cni.projectcalico.org/podIPs";
/// The annotation with the container that the CNI plugin served.
pub const CONTAINER_ID: &str = "cni.projectcalico.org/containerID";
/// The annotation of Amazon's CNI plugin with a pod's addresses.
const AWS_POD_IPS: &str = "vpc.amazonaws.com/pod-ips";
/// Floating addresses, a JSON list.
const FLOATING_IPS: &str = "cni.projectcalico.org/floatingIPs";
/// Prefixes that the pod may send from besides its own addresses, a JSON list.
const ALLOWED_SOURCES: &str = "cni.projectcalico.org/allowedSourcePrefixes";
/// What Multus reports of a pod's networks; the endpoint carries it along.
const NETWORK_STATUS: &str = "k8s.v1.cni.cncf.io/network-status";

/// The interface inside every pod, as its endpoint is named.
const ENDPOINT: &str = "eth0";
/// The orchestrator of pods' endpoints.
const ORCHESTRATOR: &str = "k8s";
/// A label's value holds 63 characters; Calico leaves out names that would need all of them.
const LONGEST_ACCOUNT_LABEL: usize = 62;

/// A pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Pod {
    /// Name, labels and annotations.
    pub metadata: ObjectMeta,
    /// What was asked for.
    pub spec: PodSpec,
    /// What has become of it.
    pub status: PodStatus,
}

/// What a pod asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodSpec {
    /// The node it is scheduled to; empty before.
    pub node_name: SmolStr,
    /// It uses the node's own network.
    pub host_network: bool,
    /// What it runs as.
    pub service_account_name: SmolStr,
    /// Its containers.
    pub containers: Vec<Container>,
    /// Those that run before (or beside) them.
    pub init_containers: Vec<Container>,
}

/// A container of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Container {
    /// The ports it declares.
    pub ports: Vec<ContainerPort>,
}

/// A port that a container declares.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerPort {
    /// Its name, if it has one.
    pub name: SmolStr,
    /// 1–65535.
    pub container_port: u16,
    /// The node's port that leads to it; 0 for none.
    pub host_port: u16,
    /// The node's address that leads to it; empty for all.
    #[serde(rename = "hostIP")]
    pub host_ip: SmolStr,
    /// `TCP`, `UDP` or `SCTP`; empty means TCP.
    pub protocol: SmolStr,
}

/// What has become of a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PodStatus {
    /// `Pending`, `Running`, `Succeeded`, `Failed`, `Unknown`.
    pub phase: SmolStr,
    /// The first address.
    #[serde(rename = "podIP")]
    pub pod_ip: SmolStr,
    /// All addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Vec<PodIp>,
}

/// One of a pod's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PodIp {
    /// The address.
    pub ip: SmolStr,
}

/// Where a workload endpoint of Kubernetes' is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The node that its name says.
    pub node: SmolStr,
    /// The pod's namespace.
    pub namespace: SmolStr,
    /// The pod's name.
    pub pod: SmolStr,
}

/// The pod of a WorkloadEndpoint's key, or of the beginning of such a key's name that ends after the pod. `None` for
/// endpoints of other orchestrators.
pub fn place(key: &ResourceKey) -> Option<Place> {
    // In each part every dash is doubled, so a single one parts them.
    let marked = key.name.replace("--", "\0");
    let mut parts = marked.split('-').map(|part| SmolStr::from(part.replace('\0', "-")));
    let (node, orchestrator, pod, endpoint) = (parts.next()?, parts.next()?, parts.next()?, parts.next());
    let whole = endpoint.is_none_or(|endpoint| endpoint.is_empty() || endpoint == ENDPOINT);
    let named = !node.is_empty() && !pod.is_empty() && orchestrator == ORCHESTRATOR;
    (key.kind == Kind::WorkloadEndpoint && whole && named && parts.next().is_none()).then(|| Place {
        node,
        namespace: key.namespace.clone(),
        pod,
    })
}

/// Whether the pod has an endpoint: it is scheduled, and not in the node's own network.
pub fn is_eligible(pod: &Pod) -> bool {
    !pod.spec.node_name.is_empty() && !pod.spec.host_network
}

/// Whether the pod's addresses are free, or soon will be, though the pod still exists.
pub fn is_finished(pod: &Pod) -> bool {
    if matches!(pod.status.phase.as_str(), "Succeeded" | "Failed" | "Completed") {
        return true;
    }
    // The CNI plugin blanks the annotation when it has taken the network down. A pod that merely terminates still
    // talks.
    let blank = |key: &str| pod.metadata.annotations.get(key).is_some_and(SmolStr::is_empty);
    pod.metadata.deletion_timestamp.is_some() && (blank(POD_IP) || blank(AWS_POD_IPS))
}

/// The key of a pod's endpoint, whatever else of the pod cannot be read; `None` for pods that have none.
pub fn key(pod: &Pod) -> Option<Key> {
    let Pod { metadata: meta, spec, .. } = pod;
    let named = WorkloadEndpointSpec {
        orchestrator: SmolStr::new_static(ORCHESTRATOR),
        node: spec.node_name.clone(),
        pod: meta.name.clone(),
        endpoint: SmolStr::new_static(ENDPOINT),
        ..WorkloadEndpointSpec::default()
    };
    let name = named.name().ok().filter(|_| is_eligible(pod))?;
    Some(Key::resource(Kind::WorkloadEndpoint, &meta.namespace, &name))
}

/// The endpoint of a pod; `None` for pods that have none. `interface_prefix` is the first of Felix's interface
/// prefixes.
///
/// # Errors
/// When an address or an annotation cannot be read that decides what the pod may do.
pub fn entry(pod: &Pod, interface_prefix: &str) -> Result<Option<Converted>, ConversionError> {
    if !is_eligible(pod) {
        return Ok(None);
    }
    let Pod { metadata: meta, .. } = pod;
    let object = format!("Pod({}/{})", meta.namespace, meta.name);
    let mut problems = Vec::new();
    let spec =
        spec(pod, interface_prefix, &mut problems).map_err(|reason| ConversionError::new(&object, reason))?;
    let name = spec.name().map_err(|reason| ConversionError::new(&object, reason))?;
    let mut metadata = Metadata {
        labels: labels(pod),
        annotations: meta
            .annotations
            .get_key_value(NETWORK_STATUS)
            .map(|(key, value)| (key.clone(), value.clone()))
            .into_iter()
            .collect(),
        ..meta.derived(SmolStr::from(name), meta.uid.clone())
    };
    if !meta.generate_name.is_empty() {
        metadata.other.insert("generateName".to_owned(), Value::from(meta.generate_name.as_str()));
    }
    let key = Key::resource(Kind::WorkloadEndpoint, &metadata.namespace, &metadata.name);
    let value = codec::encode(&Resource { metadata, spec, status: None });
    let entry = Entry { key, value, revision: Revision(meta.resource_version.clone()) };
    let problems = problems.into_iter().map(|reason| ConversionError::new(&object, reason)).collect();
    Ok(Some(Converted { entry, problems }))
}

fn spec(pod: &Pod, prefix: &str, problems: &mut Vec<String>) -> Result<WorkloadEndpointSpec, String> {
    let Pod { metadata: meta, spec, .. } = pod;
    let nets = nets(pod)?;
    let mut profiles = vec![names::namespace_profile(&meta.namespace)];
    if !spec.service_account_name.is_empty() {
        profiles.push(names::service_account_profile(&meta.namespace, &spec.service_account_name));
    }
    Ok(WorkloadEndpointSpec {
        orchestrator: SmolStr::new_static(ORCHESTRATOR),
        node: spec.node_name.clone(),
        container_id: meta.annotation(CONTAINER_ID).map(SmolStr::new).unwrap_or_default(),
        pod: meta.name.clone(),
        endpoint: SmolStr::new_static(ENDPOINT),
        service_account_name: spec.service_account_name.clone(),
        ip_nats: floating(meta, &nets, problems)?,
        ip_networks: nets.iter().map(|net| SmolStr::from(net.to_string())).collect(),
        profiles,
        interface_name: names::interface(prefix, &meta.namespace, &meta.name),
        ports: ports(spec),
        allow_spoofed_source_prefixes: allowed_sources(meta)?,
        qos_controls: qos::controls(&meta.annotations, problems),
        ..WorkloadEndpointSpec::default()
    })
}

/// The pod's addresses, from the first source that has any.
fn nets(pod: &Pod) -> Result<Vec<Cidr>, String> {
    let Pod { metadata: meta, status, .. } = pod;
    if is_finished(pod) {
        return Ok(Vec::new());
    }
    fn read<'a>(field: &str, texts: impl Iterator<Item = &'a str>) -> Result<Vec<Cidr>, String> {
        texts
            .map(str::trim)
            .filter(|text| !text.is_empty())
            .map(|text| host_net(text).ok_or_else(|| format!("{field}: {text:?} is no address")))
            .collect()
    }
    let listed = read("status.podIPs", status.pod_ips.iter().map(|ip| ip.ip.as_str()))?;
    if !listed.is_empty() {
        return Ok(listed);
    }
    let single = read("status.podIP", std::iter::once(status.pod_ip.as_str()))?;
    if !single.is_empty() {
        return Ok(single);
    }
    for key in [POD_IPS, POD_IP, AWS_POD_IPS] {
        let found = read(key, meta.annotation(key).into_iter().flat_map(|text| text.split(',')))?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// One address, with or without the length that says so.
fn host_net(text: &str) -> Option<Cidr> {
    text.parse::<Cidr>().ok().filter(Cidr::is_host)
}

/// Floating addresses: each leads to the pod's own address of its family.
fn floating(meta: &ObjectMeta, nets: &[Cidr], problems: &mut Vec<String>) -> Result<Vec<IpNat>, String> {
    let Some(text) = meta.annotation(FLOATING_IPS).filter(|_| !nets.is_empty()) else {
        return Ok(Vec::new());
    };
    let mut nats = Vec::new();
    for external in list(FLOATING_IPS, text)? {
        let addr: IpAddr =
            external.parse().map_err(|_| format!("{FLOATING_IPS}: {external:?} is no address"))?;
        match nets.iter().find(|net| net.family() == Family::of(addr)) {
            Some(own) => nats.push(IpNat {
                internal_ip: SmolStr::from(own.addr().to_string()),
                external_ip: SmolStr::from(addr.to_string()),
            }),
            None => problems
                .push(format!("{FLOATING_IPS}: the pod has no {} address for {addr}", Family::of(addr))),
        }
    }
    Ok(nats)
}

fn allowed_sources(meta: &ObjectMeta) -> Result<Vec<SmolStr>, String> {
    let Some(text) = meta.annotation(ALLOWED_SOURCES) else { return Ok(Vec::new()) };
    let prefixes = list(ALLOWED_SOURCES, text)?.into_iter().map(|prefix| {
        let cidr: Cidr = prefix.parse().map_err(|error| format!("{ALLOWED_SOURCES}: {error}"))?;
        Ok(SmolStr::from(cidr.to_string()))
    });
    prefixes.collect()
}

fn list(key: &str, text: &str) -> Result<Vec<String>, String> {
    serde_json::from_str(text)
        .map_err(|_| format!("{key}: {text:?} is no JSON list of texts, such as [\"192.0.2.1\"]"))
}

/// The pod's labels without those that only namespaces and service accounts may give, and with those of Calico's own.
fn labels(pod: &Pod) -> Labels {
    let forged = |key: &str| key.starts_with(NAMESPACE_LABELS) || key.starts_with(SERVICE_ACCOUNT_LABELS);
    let own = pod.metadata.labels.iter().filter(|(key, _)| !forged(key));
    let mut labels: Labels = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    let mut set = |key: &'static str, value: SmolStr| labels.insert(SmolStr::new_static(key), value);
    set("projectcalico.org/namespace", pod.metadata.namespace.clone());
    set("projectcalico.org/orchestrator", SmolStr::new_static(ORCHESTRATOR));
    let account = &pod.spec.service_account_name;
    if account.is_empty() || account.len() > LONGEST_ACCOUNT_LABEL {
        labels.remove(ACCOUNT_LABEL);
    } else {
        set(ACCOUNT_LABEL, account.clone());
    }
    labels
}

/// The label with what a pod runs as.
const ACCOUNT_LABEL: &str = "projectcalico.org/serviceaccount";

/// Ports that policies or host ports can name.
fn ports(spec: &PodSpec) -> Vec<WorkloadPort> {
    let containers = spec.containers.iter().chain(&spec.init_containers);
    let declared = containers.flat_map(|container| &container.ports);
    let known = declared.filter_map(|port| {
        let ContainerPort { name, container_port, host_port, host_ip, protocol } = port;
        let protocol = match protocol.as_str() {
            "" | "TCP" => Protocol::TCP,
            "UDP" => Protocol::UDP,
            "SCTP" => Protocol::SCTP,
            _ => return None,
        };
        (*container_port != 0 && (!name.is_empty() || *host_port != 0)).then(|| WorkloadPort {
            name: name.clone(),
            protocol: ProtocolForm::from(protocol),
            port: *container_port,
            host_port: *host_port,
            host_ip: host_ip.clone(),
        })
    });
    known.collect()
}

#[cfg(test)]
mod tests;
