//! BGPConfiguration: BGP settings of the cluster (`default`) or of a node (`node.<name>`) (spec 1 §1.6).

use calico_net::Asn;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};
use crate::number::GoDuration;
use crate::word::words;

/// BGP settings.
pub type BGPConfiguration = Resource<BGPConfigurationSpec>;

words! {
    /// On or off.
    pub enum Toggle {
        /// On.
        Enabled = "Enabled",
        /// Off.
        Disabled = "Disabled",
    }
}

/// What a BGPConfiguration says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BGPConfigurationSpec {
    /// Trace, Debug, Info (default), Warning, Error, Fatal.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub log_severity_screen: SmolStr,
    /// Whether all nodes peer with one another; none means yes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_to_node_mesh_enabled: Option<bool>,
    /// The cluster's AS; none means 64512.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// Load balancer ranges to advertise.
    #[serde(rename = "serviceLoadBalancerIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_load_balancer_ips: Vec<ServiceBlock>,
    /// External addresses of services to advertise.
    #[serde(rename = "serviceExternalIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_external_ips: Vec<ServiceBlock>,
    /// Cluster addresses of services to advertise.
    #[serde(rename = "serviceClusterIPs", skip_serializing_if = "Vec::is_empty")]
    pub service_cluster_ips: Vec<ServiceBlock>,
    /// Advertise load balancer ranges whole; none means enabled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_load_balancer_aggregation: Option<Toggle>,
    /// Named communities.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<Community>,
    /// Communities by prefix.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prefix_advertisements: Vec<PrefixAdvertisement>,
    /// TCP port; none means 179.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen_port: Option<u16>,
    /// Password of all mesh sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_password: Option<BgpPassword>,
    /// Graceful restart time of mesh sessions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_mesh_max_restart_time: Option<GoDuration>,
    /// `None` or `NodeIP`: listen on all addresses, or on the node's.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub bind_mode: SmolStr,
    /// Interfaces whose networks are not looked at.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ignored_interfaces: Vec<SmolStr>,
    /// Address that local workloads peer with, IPv4.
    #[serde(rename = "localWorkloadPeeringIPV4", skip_serializing_if = "SmolStr::is_empty")]
    pub local_workload_peering_ipv4: SmolStr,
    /// Address that local workloads peer with, IPv6.
    #[serde(rename = "localWorkloadPeeringIPV6", skip_serializing_if = "SmolStr::is_empty")]
    pub local_workload_peering_ipv6: SmolStr,
    /// Which cluster routes BIRD programs: Enabled, Disabled, EnabledIPIPOnly, EnabledNoEncapOnly (default).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program_cluster_routes: Option<SmolStr>,
    /// Metric of programmed IPv4 routes; none means 1024.
    #[serde(rename = "ipv4NormalRoutePriority", skip_serializing_if = "Option::is_none")]
    pub ipv4_normal_route_priority: Option<u32>,
    /// Metric of programmed IPv6 routes; none means 1024.
    #[serde(rename = "ipv6NormalRoutePriority", skip_serializing_if = "Option::is_none")]
    pub ipv6_normal_route_priority: Option<u32>,
}

/// A range of service addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceBlock {
    /// The range.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub cidr: SmolStr,
}

/// A community with a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Community {
    /// Its name.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// `aa:nn` (RFC 1997) or `aa:nn:mm` (RFC 8092).
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub value: SmolStr,
}

/// Communities that a prefix is advertised with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixAdvertisement {
    /// The prefix.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub cidr: SmolStr,
    /// Names or values.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<SmolStr>,
}

/// Where a BGP password is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpPassword {
    /// A key of a Kubernetes Secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// A key of a Secret in the node's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretKeyRef {
    /// The Secret.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// The key.
    pub key: SmolStr,
    /// Whether it may be absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optional: Option<bool>,
}

impl Spec for BGPConfigurationSpec {
    const KIND: Kind = Kind::BGPConfiguration;
    type Status = NoStatus;
}
