//! WorkloadEndpoint: a container's or VM's interface (spec 1 §1.4).

mod name;

pub use name::NameError;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};
use crate::number::ProtocolForm;

/// A workload endpoint.
pub type WorkloadEndpoint = Resource<WorkloadEndpointSpec>;

/// What a WorkloadEndpoint says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEndpointSpec {
    /// `k8s`, `cni`, `libnetwork`, `openstack`, …
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub orchestrator: SmolStr,
    /// The workload, for orchestrators without a rule of their own.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub workload: SmolStr,
    /// The node that it runs on.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub node: SmolStr,
    /// The container, for `cni` (and for information with `k8s`).
    #[serde(rename = "containerID", skip_serializing_if = "SmolStr::is_empty")]
    pub container_id: SmolStr,
    /// The pod, for `k8s`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub pod: SmolStr,
    /// The endpoint of the workload, usually the interface inside.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub endpoint: SmolStr,
    /// The service account that it runs as.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub service_account_name: SmolStr,
    /// Its addresses, each /32 or /128.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ip_networks: Vec<SmolStr>,
    /// Floating addresses.
    #[serde(rename = "ipNATs", skip_serializing_if = "Vec::is_empty")]
    pub ip_nats: Vec<IpNat>,
    /// Its IPv4 gateway.
    #[serde(rename = "ipv4Gateway", skip_serializing_if = "SmolStr::is_empty")]
    pub ipv4_gateway: SmolStr,
    /// Its IPv6 gateway.
    #[serde(rename = "ipv6Gateway", skip_serializing_if = "SmolStr::is_empty")]
    pub ipv6_gateway: SmolStr,
    /// Its profiles, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<SmolStr>,
    /// The host side of its interface.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub interface_name: SmolStr,
    /// The MAC of the container side.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub mac: SmolStr,
    /// Named ports and host ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<WorkloadPort>,
    /// Source prefixes that it may use besides its own addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_spoofed_source_prefixes: Vec<SmolStr>,
    /// Limits of bandwidth, packets and connections.
    #[serde(rename = "qosControls", skip_serializing_if = "Option::is_none")]
    pub qos_controls: Option<serde_json::Value>,
}

/// A floating address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IpNat {
    /// One of the endpoint's own addresses.
    #[serde(rename = "internalIP")]
    pub internal_ip: SmolStr,
    /// The address that is translated to it.
    #[serde(rename = "externalIP")]
    pub external_ip: SmolStr,
}

/// A port of a workload. Calico stores all five fields always.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WorkloadPort {
    /// Its name; may be empty if it has a host port.
    #[serde(default)]
    pub name: SmolStr,
    /// TCP, UDP or SCTP.
    pub protocol: ProtocolForm,
    /// 1–65535.
    pub port: u16,
    /// The node's port that leads to it; 0 for none.
    #[serde(default)]
    pub host_port: u16,
    /// The node's address that leads to it; empty for all.
    #[serde(rename = "hostIP", default)]
    pub host_ip: SmolStr,
}

impl Spec for WorkloadEndpointSpec {
    const KIND: Kind = Kind::WorkloadEndpoint;
    type Status = NoStatus;
}
