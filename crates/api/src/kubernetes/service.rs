//! Service → KubernetesService: its addresses, its ports and what decides which nodes announce it (spec 6 §3.8). Rules
//! that name a service look at its endpoint slices.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::object::ObjectMeta;
use crate::codec;
use crate::key::{Key, Kind};
use crate::meta::{NoStatus, Resource, Spec};
use crate::record::{Entry, Revision};

/// A Service as Kubernetes has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Service {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What is asked for.
    pub spec: ServiceFields,
    /// What has become of it.
    pub status: ServiceStatus,
}

/// What a Service asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceFields {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type")]
    pub service_type: SmolStr,
    /// The first of its own addresses; `None` (the word) for headless services.
    #[serde(rename = "clusterIP")]
    pub cluster_ip: SmolStr,
    /// All of its own addresses.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<SmolStr>,
    /// Addresses that somebody leads to the nodes.
    #[serde(rename = "externalIPs")]
    pub external_ips: Vec<SmolStr>,
    /// The load balancer's address that is asked for.
    #[serde(rename = "loadBalancerIP")]
    pub load_balancer_ip: SmolStr,
    /// `IPv4`, `IPv6` or both: the families of its own addresses.
    pub ip_families: Vec<SmolStr>,
    /// What comes from outside: `Cluster`, or `Local` for endpoints of the same node only.
    pub external_traffic_policy: SmolStr,
    /// What comes to its own addresses: `Cluster`, or `Local` for endpoints of the same node only.
    pub internal_traffic_policy: SmolStr,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// A port of a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// Its name.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: SmolStr,
    /// 1–65535.
    pub port: u16,
    /// The port of every node that leads to it; 0 for none.
    #[serde(skip_serializing_if = "is_zero")]
    pub node_port: u16,
}

fn is_zero(port: &u16) -> bool {
    *port == 0
}

/// What has become of a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceStatus {
    /// Its load balancer.
    pub load_balancer: LoadBalancer,
}

/// A load balancer's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadBalancer {
    /// Where traffic comes in.
    pub ingress: Vec<LoadBalancerIngress>,
}

/// Where traffic comes in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct LoadBalancerIngress {
    /// An address; empty for those with a name only.
    pub ip: SmolStr,
}

/// A service of Kubernetes'.
pub type KubernetesService = Resource<ServiceSpec>;

/// What a service is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSpec {
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalName`.
    #[serde(rename = "type", skip_serializing_if = "SmolStr::is_empty")]
    pub service_type: SmolStr,
    /// Its own addresses; none for headless services.
    #[serde(rename = "clusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub cluster_ips: Vec<SmolStr>,
    /// Addresses that somebody leads to the nodes.
    #[serde(rename = "externalIPs", skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<SmolStr>,
    /// The load balancer's address that is asked for.
    #[serde(rename = "loadBalancerIP", skip_serializing_if = "SmolStr::is_empty")]
    pub load_balancer_ip: SmolStr,
    /// The load balancer's addresses.
    #[serde(rename = "loadBalancerIngress", skip_serializing_if = "Vec::is_empty")]
    pub load_balancer_ingress: Vec<SmolStr>,
    /// `IPv4`, `IPv6` or both: the families of its own addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_families: Vec<SmolStr>,
    /// What comes from outside: `Cluster`, or `Local` for endpoints of the same node only.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub external_traffic_policy: SmolStr,
    /// What comes to its own addresses: `Cluster`, or `Local` for endpoints of the same node only.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub internal_traffic_policy: SmolStr,
    /// Its ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<ServicePort>,
}

impl Spec for ServiceSpec {
    const KIND: Kind = Kind::KubernetesService;
    type Status = NoStatus;
}

/// The service.
pub fn entry(service: &Service) -> Entry {
    let Service { metadata: meta, spec, status } = service;
    let ServiceFields {
        service_type,
        cluster_ip,
        cluster_ips,
        external_ips,
        load_balancer_ip,
        ip_families,
        external_traffic_policy,
        internal_traffic_policy,
        ports,
    } = spec;
    let own = if cluster_ips.is_empty() { std::slice::from_ref(cluster_ip) } else { cluster_ips };
    let ingress = status.load_balancer.ingress.iter().map(|ingress| &ingress.ip);
    let spec = ServiceSpec {
        service_type: service_type.clone(),
        cluster_ips: own.iter().filter(|ip| !ip.is_empty() && *ip != "None").cloned().collect(),
        external_ips: external_ips.clone(),
        load_balancer_ip: load_balancer_ip.clone(),
        load_balancer_ingress: ingress.filter(|ip| !ip.is_empty()).cloned().collect(),
        ip_families: ip_families.clone(),
        external_traffic_policy: external_traffic_policy.clone(),
        internal_traffic_policy: internal_traffic_policy.clone(),
        ports: ports.clone(),
    };
    let key = Key::resource(Kind::KubernetesService, &meta.namespace, &meta.name);
    let metadata = meta.derived(meta.name.clone(), meta.uid.clone());
    let value = codec::encode(&Resource { metadata, spec, status: None });
    Entry { key, value, revision: Revision(meta.resource_version.clone()) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::kubernetes::decode;

    fn check(spec: serde_json::Value, expected: serde_json::Value) {
        let object = json!({"metadata": {"name": "web", "namespace": "blue", "resourceVersion": "5"}, "spec": spec,
            "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.9"}, {"hostname": "x"}]}}});
        let entry = entry(&decode(object.to_string().as_bytes()).unwrap());
        assert_eq!(entry.key, Key::resource(Kind::KubernetesService, "blue", "web"));
        assert_eq!(codec::decode::<ServiceSpec>(&entry).unwrap().key().name, "web");
        let value: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
        assert_eq!(value["spec"], expected);
    }

    #[test]
    fn addresses_and_ports() {
        check(
            json!({"type": "NodePort", "clusterIP": "10.96.0.5", "clusterIPs": ["10.96.0.5", "fd00::5"],
                "externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local", "sessionAffinity": "None",
                "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4", "IPv6"],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "targetPort": "web", "nodePort": 30080}]}),
            json!({"type": "NodePort", "clusterIPs": ["10.96.0.5", "fd00::5"], "externalIPs": ["192.0.2.1"],
                "loadBalancerIngress": ["192.0.2.9"], "externalTrafficPolicy": "Local",
                "internalTrafficPolicy": "Cluster", "ipFamilies": ["IPv4", "IPv6"],
                "ports": [{"name": "http", "port": 80, "protocol": "TCP", "nodePort": 30080}]}),
        );
        check(json!({"clusterIP": "None"}), json!({"loadBalancerIngress": ["192.0.2.9"]}));
    }
}
