//! The data model: Calico's `projectcalico.org/v3` resources and IPAM records, their keys, defaults and validation.
//!
//! Pure. Resources are plain structs that serialise to exactly the JSON that Calico stores. Keys are one enum for
//! everything in the datastore, and print as Calico's etcd keys (spec 1 §2.2).

pub mod any;
pub mod bgp_configuration;
pub mod bgp_filter;
pub mod bgp_peer;
pub mod calico_node_status;
pub mod cluster_information;
pub mod codec;
pub mod defaults;
pub mod document;
pub mod felix_config;
pub mod felix_configuration;
pub mod global_network_policy;
pub mod host_endpoint;
pub mod ip_pool;
pub mod ip_reservation;
pub mod ipam;
pub mod ipam_configuration;
pub mod key;
pub mod kube_controllers_configuration;
pub mod kubernetes;
pub mod meta;
pub mod network_policy;
pub mod network_set;
pub mod node;
pub mod number;
pub mod profile;
pub mod record;
#[cfg(test)]
mod reference;
pub mod rule;
pub mod status_file;
mod strict;
pub mod suggest;
pub mod tier;
pub mod validate;
mod word;
pub mod workload_endpoint;

pub use any::AnyResource;
pub use bgp_configuration::{
    BGPConfiguration, BGPConfigurationSpec, BgpPassword, Community, PrefixAdvertisement, SecretKeyRef,
    ServiceBlock, Toggle,
};
pub use bgp_filter::{BGPFilter, BGPFilterSpec, FilterAction, FilterOperation, FilterRule, MatchOperator};
pub use bgp_peer::{BGPPeer, BGPPeerSpec, NextHopMode};
pub use calico_node_status::{CalicoNodeStatus, CalicoNodeStatusSpec, NodeStatusClass, NodeStatusReport};
pub use cluster_information::{ClusterInformation, ClusterInformationSpec};
pub use codec::{DecodeError, decode, encode, merge};
pub use document::{DocumentError, Manifest, parse_documents, parse_manifests};
pub use felix_configuration::{FelixConfiguration, FelixConfigurationSpec};
pub use global_network_policy::{
    GlobalNetworkPolicy, GlobalNetworkPolicySpec, KubernetesClusterNetworkPolicy,
    KubernetesClusterNetworkPolicySpec,
};
pub use host_endpoint::{EndpointPort, HostEndpoint, HostEndpointSpec};
pub use ip_pool::{AllowedUse, AssignmentMode, EncapMode, IPPool, IPPoolSpec};
pub use ip_reservation::{IPReservation, IPReservationSpec};
pub use ipam::{
    AffinityState, AllocationAttribute, BlockAffinity, IpamBlock, IpamConfig, IpamHandle, decode_record,
    encode_record,
};
pub use ipam_configuration::{IPAMConfiguration, IPAMConfigurationSpec};
pub use key::{AffinityOwner, Key, KeyError, Kind, ResourceKey, Scope};
pub use kube_controllers_configuration::{
    AutoHostEndpointConfig, ControllersConfig, KubeControllersConfiguration,
    KubeControllersConfigurationSpec, KubeControllersConfigurationStatus, NodeControllerConfig,
    ReconcilerConfig,
};
pub use meta::{Condition, Conditions, Labels, Metadata, NoStatus, Resource, Spec};
pub use network_policy::{
    KubernetesNetworkPolicy, KubernetesNetworkPolicySpec, NetworkPolicy, NetworkPolicySpec,
};
pub use network_set::{GlobalNetworkSet, GlobalNetworkSetSpec, NetworkSet, NetworkSetSpec};
pub use node::{Node, NodeAddress, NodeBgp, NodeInterface, NodeSpec, NodeStatus, NodeWireguard, OrchRef};
pub use number::{GoDuration, Order, Port, ProtocolForm};
pub use profile::{Profile, ProfileSpec};
pub use record::{Entry, Expect, Revision, Selection, Write};
pub use rule::{
    Action, EntityRule, HttpMatch, HttpPath, IcmpMatch, PolicyType, Rule, RuleMetadata, ServiceAccountMatch,
    ServiceMatch,
};
pub use tier::{Tier, TierSpec};
pub use validate::{ValidationError, validate, validate_update};
pub use workload_endpoint::{
    IpNat, NameError as EndpointNameError, WorkloadEndpoint, WorkloadEndpointSpec, WorkloadPort,
};
