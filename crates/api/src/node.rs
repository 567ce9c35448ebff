//! Node: what the cluster knows of a machine (spec 1 §1.4).

use calico_net::Asn;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{Resource, Spec};

/// A node.
pub type Node = Resource<NodeSpec>;

/// What a Node says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSpec {
    /// Its part in BGP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgp>,
    /// The address of its VXLAN device, IPv4.
    #[serde(rename = "ipv4VXLANTunnelAddr", skip_serializing_if = "SmolStr::is_empty")]
    pub ipv4_vxlan_tunnel_addr: SmolStr,
    /// The MAC of its VXLAN device, if it is not the computed one.
    #[serde(rename = "vxlanTunnelMACAddr", skip_serializing_if = "SmolStr::is_empty")]
    pub vxlan_tunnel_mac_addr: SmolStr,
    /// The address of its IPv6 VXLAN device.
    #[serde(rename = "ipv6VXLANTunnelAddr", skip_serializing_if = "SmolStr::is_empty")]
    pub ipv6_vxlan_tunnel_addr: SmolStr,
    /// The MAC of its IPv6 VXLAN device, if it is not the computed one.
    #[serde(rename = "vxlanTunnelMACAddrV6", skip_serializing_if = "SmolStr::is_empty")]
    pub vxlan_tunnel_mac_addr_v6: SmolStr,
    /// What orchestrators call it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub orch_refs: Vec<OrchRef>,
    /// Its WireGuard devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wireguard: Option<NodeWireguard>,
    /// All its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<NodeAddress>,
    /// Its interfaces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<NodeInterface>,
}

/// A node's part in BGP.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeBgp {
    /// Its AS, if it is not the cluster's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// Its IPv4 address with subnet length.
    #[serde(rename = "ipv4Address", skip_serializing_if = "SmolStr::is_empty")]
    pub ipv4_address: SmolStr,
    /// Its IPv6 address with subnet length.
    #[serde(rename = "ipv6Address", skip_serializing_if = "SmolStr::is_empty")]
    pub ipv6_address: SmolStr,
    /// The address of its IPIP device.
    #[serde(rename = "ipv4IPIPTunnelAddr", skip_serializing_if = "SmolStr::is_empty")]
    pub ipv4_ipip_tunnel_addr: SmolStr,
    /// Set on route reflectors: the cluster's id, spelt like an IPv4 address.
    #[serde(rename = "routeReflectorClusterID", skip_serializing_if = "SmolStr::is_empty")]
    pub route_reflector_cluster_id: SmolStr,
}

/// What an orchestrator calls the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OrchRef {
    /// Its name there.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub node_name: SmolStr,
    /// `k8s`, …
    pub orchestrator: SmolStr,
}

/// Addresses of a node's WireGuard devices.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeWireguard {
    /// IPv4.
    #[serde(rename = "interfaceIPv4Address", skip_serializing_if = "SmolStr::is_empty")]
    pub interface_ipv4_address: SmolStr,
    /// IPv6.
    #[serde(rename = "interfaceIPv6Address", skip_serializing_if = "SmolStr::is_empty")]
    pub interface_ipv6_address: SmolStr,
}

/// One of a node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeAddress {
    /// Address, with or without subnet length.
    pub address: SmolStr,
    /// `CalicoNodeIP`, `InternalIP` or `ExternalIP`.
    #[serde(rename = "type", skip_serializing_if = "SmolStr::is_empty")]
    pub address_type: SmolStr,
}

/// One of a node's interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeInterface {
    /// Its name.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// Its addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<SmolStr>,
}

/// What a node reports of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatus {
    /// WireGuard public key, base64.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub wireguard_public_key: SmolStr,
    /// WireGuard public key of the IPv6 device, base64.
    #[serde(rename = "wireguardPublicKeyV6", skip_serializing_if = "SmolStr::is_empty")]
    pub wireguard_public_key_v6: SmolStr,
    /// Pod ranges that Kubernetes gave it.
    #[serde(rename = "podCIDRs", skip_serializing_if = "Vec::is_empty")]
    pub pod_cidrs: Vec<SmolStr>,
}

impl Spec for NodeSpec {
    const KIND: Kind = Kind::Node;
    type Status = NodeStatus;
}
