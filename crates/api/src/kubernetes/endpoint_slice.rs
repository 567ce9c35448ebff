//! EndpointSlice of `discovery.k8s.io/v1` → KubernetesEndpointSlice: the addresses of a service, for rules that name
//! it (spec 1 §3.10), whether they are ready or not; and the nodes that have a ready one, for who announces the service
//! (spec 6 §3.8).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::object::ObjectMeta;
use crate::codec;
use crate::key::{Key, Kind};
use crate::meta::{NoStatus, Resource, Spec};
use crate::number::ProtocolForm;
use crate::record::{Entry, Revision};

/// The label with the service that a slice belongs to.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// An EndpointSlice as Kubernetes has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSlice {
    /// Name, namespace and labels.
    pub metadata: ObjectMeta,
    /// `IPv4`, `IPv6` or `FQDN`.
    pub address_type: SmolStr,
    /// Who serves.
    pub endpoints: Vec<Endpoint>,
    /// On which ports, all of them.
    pub ports: Vec<EndpointPort>,
}

/// One that serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Endpoint {
    /// Its addresses.
    pub addresses: Vec<SmolStr>,
    /// Whether it serves now.
    pub conditions: Conditions,
    /// The node that it is on; empty for what is on none.
    pub node_name: SmolStr,
}

/// Whether an endpoint serves now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// None means yes.
    pub ready: Option<bool>,
}

/// A port that is served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EndpointPort {
    /// Its name in the service.
    pub name: SmolStr,
    /// `TCP`, `UDP` or `SCTP`; empty means TCP.
    pub protocol: SmolStr,
    /// None means all ports.
    pub port: Option<u16>,
}

/// A slice of a service's addresses.
pub type KubernetesEndpointSlice = Resource<EndpointSliceSpec>;

/// What a slice says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EndpointSliceSpec {
    /// The service, of the slice's namespace.
    pub service: SmolStr,
    /// `IPv4` or `IPv6`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub address_type: SmolStr,
    /// The nodes that have an endpoint which is ready, sorted; an empty name stands for those that are on no node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ready_nodes: Vec<SmolStr>,
    /// Addresses of all endpoints.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SmolStr>,
    /// Ports that each of them serves.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<SlicePort>,
}

/// A port that each address of a slice serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlicePort {
    /// Its name in the service.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// TCP, UDP or SCTP.
    pub protocol: ProtocolForm,
    /// 1–65535.
    pub port: u16,
}

impl Spec for EndpointSliceSpec {
    const KIND: Kind = Kind::KubernetesEndpointSlice;
    type Status = NoStatus;
}

/// The slice; `None` for those that no service owns, or that hold names instead of addresses. Ports without a number
/// have no part in it.
pub fn entry(slice: &EndpointSlice) -> Option<Entry> {
    let EndpointSlice { metadata: meta, address_type, endpoints, ports } = slice;
    let service = meta.labels.get(SERVICE_LABEL).filter(|name| !name.is_empty())?;
    if address_type == "FQDN" {
        return None;
    }
    let numbered = ports.iter().filter_map(|EndpointPort { name, protocol, port }| {
        let protocol = if protocol.is_empty() { "TCP" } else { protocol };
        let port = port.filter(|port| *port != 0)?;
        Some(SlicePort { name: name.clone(), protocol: ProtocolForm::from(protocol), port })
    });
    let is_ready = |endpoint: &&Endpoint| endpoint.conditions.ready.unwrap_or(true);
    let mut ready_nodes: Vec<SmolStr> =
        endpoints.iter().filter(is_ready).map(|endpoint| endpoint.node_name.clone()).collect();
    ready_nodes.sort_unstable();
    ready_nodes.dedup();
    let spec = EndpointSliceSpec {
        service: service.clone(),
        address_type: address_type.clone(),
        ready_nodes,
        addresses: endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().cloned()).collect(),
        ports: numbered.collect(),
    };
    let key = Key::resource(Kind::KubernetesEndpointSlice, &meta.namespace, &meta.name);
    let metadata = meta.derived(meta.name.clone(), meta.uid.clone());
    let value = codec::encode(&Resource { metadata, spec, status: None });
    Some(Entry { key, value, revision: Revision(meta.resource_version.clone()) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::decode;

    fn check(object: serde_json::Value, expected: Option<serde_json::Value>) {
        let found = entry(&decode(object.to_string().as_bytes()).unwrap());
        if let Some(entry) = &found {
            assert_eq!(entry.key, Key::resource(Kind::KubernetesEndpointSlice, "blue", "web-x"));
            assert_eq!(entry.revision, Revision("5".into()));
            assert_eq!(codec::decode::<EndpointSliceSpec>(entry).unwrap().key().name, "web-x");
        }
        let spec = found
            .map(|entry| serde_json::from_slice::<serde_json::Value>(&entry.value).unwrap()["spec"].clone());
        assert_eq!(spec, expected);
    }

    #[test]
    fn addresses_of_services_whether_ready_or_not() {
        let slice = |service: &str, kind: &str| {
            json!({"metadata": {"name": "web-x", "namespace": "blue", "resourceVersion": "5",
                    "labels": {"kubernetes.io/service-name": service}},
                "addressType": kind,
                "endpoints": [
                    {"addresses": ["10.0.0.1"], "conditions": {"ready": false}, "nodeName": "c"},
                    {"addresses": ["10.0.0.2", "10.0.0.3"], "targetRef": {"kind": "Pod"}, "nodeName": "b"},
                    {"addresses": ["10.0.0.4"], "conditions": {"ready": true, "serving": true}, "nodeName": "a"},
                    {"addresses": ["10.0.0.5"], "conditions": {"ready": null}, "nodeName": "a"}],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"},
                    {"name": "any", "port": null}, {"port": 90}]})
        };
        check(
            slice("web", "IPv4"),
            Some(json!({"service": "web", "addressType": "IPv4", "readyNodes": ["a", "b"],
                "addresses": ["10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5"],
                "ports": [{"name": "http", "protocol": "TCP", "port": 80}, {"protocol": "UDP", "port": 53},
                    {"protocol": "TCP", "port": 90}]})),
        );
        check(slice("web", "FQDN"), None);
        check(slice("", "IPv4"), None);
        let mut empty = slice("web", "IPv6");
        empty["endpoints"] = json!(null);
        empty["ports"] = json!([]);
        check(empty, Some(json!({"service": "web", "addressType": "IPv6"})));
        let mut homeless = slice("web", "IPv4");
        homeless["endpoints"] = json!([{"addresses": ["10.0.0.1"]}]);
        homeless["ports"] = json!(null);
        check(
            homeless,
            Some(
                json!({"service": "web", "addressType": "IPv4", "readyNodes": [""], "addresses": ["10.0.0.1"]}),
            ),
        );
    }
}
