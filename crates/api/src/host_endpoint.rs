//! HostEndpoint: an interface of a node that policy applies to (spec 1 §1.4).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};
use crate::number::ProtocolForm;

/// A host endpoint.
pub type HostEndpoint = Resource<HostEndpointSpec>;

/// What a HostEndpoint says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct HostEndpointSpec {
    /// The node.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub node: SmolStr,
    /// The interface; `*` for all of them; empty to match by `expected_ips`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub interface_name: SmolStr,
    /// Addresses to match by when there is no name; also what selectors resolve to.
    #[serde(rename = "expectedIPs", skip_serializing_if = "Vec::is_empty")]
    pub expected_ips: Vec<SmolStr>,
    /// Profiles, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub profiles: Vec<SmolStr>,
    /// Named ports.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<EndpointPort>,
}

/// A port with a name that rules can refer to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EndpointPort {
    /// The name.
    pub name: SmolStr,
    /// TCP, UDP or SCTP.
    pub protocol: ProtocolForm,
    /// 1–65535.
    pub port: u16,
}

impl Spec for HostEndpointSpec {
    const KIND: Kind = Kind::HostEndpoint;
    type Status = NoStatus;
}
