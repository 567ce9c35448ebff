//! IPPool: a range that addresses are taken from (spec 1 §1.5).

use calico_net::{Cidr, Family};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{Conditions, Resource, Spec};
use crate::word::{is_false, words};

/// A pool.
pub type IPPool = Resource<IPPoolSpec>;

words! {
    /// When traffic between nodes is encapsulated.
    pub enum EncapMode {
        /// Never.
        Never = "Never",
        /// Always.
        Always = "Always",
        /// Between nodes of different subnets.
        CrossSubnet = "CrossSubnet",
    }
}

words! {
    /// What a pool's addresses are for.
    pub enum AllowedUse {
        /// Workloads.
        Workload = "Workload",
        /// Tunnel devices of nodes.
        Tunnel = "Tunnel",
        /// Services of type LoadBalancer.
        LoadBalancer = "LoadBalancer",
    }
}

words! {
    /// Whether addresses are taken without being asked for by pool.
    pub enum AssignmentMode {
        /// For every request.
        Automatic = "Automatic",
        /// Only where the pool is named.
        Manual = "Manual",
    }
}

/// What an IPPool says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IPPoolSpec {
    /// The range.
    pub cidr: SmolStr,
    /// VXLAN; none means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vxlan_mode: Option<EncapMode>,
    /// IPIP; none means never.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipip_mode: Option<EncapMode>,
    /// Masquerade what leaves the pools.
    #[serde(skip_serializing_if = "is_false")]
    pub nat_outgoing: bool,
    /// Take no new addresses from it.
    #[serde(skip_serializing_if = "is_false")]
    pub disabled: bool,
    /// Do not export its blocks by BGP.
    #[serde(rename = "disableBGPExport", skip_serializing_if = "is_false")]
    pub disable_bgp_export: bool,
    /// Prefix length of its blocks; none means [`IPPoolSpec::DEFAULT_BLOCK_SIZE_V4`] or `_V6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub block_size: Option<u8>,
    /// Nodes that may use it; empty means all.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub node_selector: SmolStr,
    /// Namespaces that may use it; empty means all.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub namespace_selector: SmolStr,
    /// What it is for; empty means workloads and tunnels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allowed_uses: Vec<AllowedUse>,
    /// None means automatic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub assignment_mode: Option<AssignmentMode>,
}

impl IPPoolSpec {
    /// Block size of IPv4 pools that name none.
    pub const DEFAULT_BLOCK_SIZE_V4: u8 = 26;
    /// Block size of IPv6 pools that name none.
    pub const DEFAULT_BLOCK_SIZE_V6: u8 = 122;

    /// The block size in force in a pool of `cidr`.
    pub fn effective_block_size(&self, cidr: &Cidr) -> u8 {
        self.block_size.filter(|n| *n != 0).unwrap_or(match cidr.family() {
            Family::V4 => IPPoolSpec::DEFAULT_BLOCK_SIZE_V4,
            Family::V6 => IPPoolSpec::DEFAULT_BLOCK_SIZE_V6,
        })
    }

    /// Whether addresses may be taken for a use.
    pub fn allows(&self, purpose: &AllowedUse) -> bool {
        if self.allowed_uses.is_empty() {
            matches!(purpose, AllowedUse::Workload | AllowedUse::Tunnel)
        } else {
            self.allowed_uses.contains(purpose)
        }
    }
}

impl Spec for IPPoolSpec {
    const KIND: Kind = Kind::IPPool;
    type Status = Conditions;
}
