//! IPAMConfiguration: IPAM's settings as a resource, named `default` (spec 1 §1.5).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};

/// IPAM's settings.
pub type IPAMConfiguration = Resource<IPAMConfigurationSpec>;

/// What an IPAMConfiguration says. The first three are always stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IPAMConfigurationSpec {
    /// Nodes use only blocks of their own.
    pub strict_affinity: bool,
    /// Most blocks of one node; 0 for no limit.
    pub max_blocks_per_host: u32,
    /// Claim new blocks when the own ones are full.
    pub auto_allocate_blocks: bool,
    /// `Enabled` or `Disabled`; none means enabled.
    #[serde(rename = "kubeVirtVMAddressPersistence", skip_serializing_if = "Option::is_none")]
    pub kube_virt_vm_address_persistence: Option<SmolStr>,
    /// Seconds that a released address rests, 0–1200.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ip_cooldown_seconds: Option<u32>,
}

impl Default for IPAMConfigurationSpec {
    fn default() -> IPAMConfigurationSpec {
        IPAMConfigurationSpec {
            strict_affinity: false,
            max_blocks_per_host: 0,
            auto_allocate_blocks: true,
            kube_virt_vm_address_persistence: None,
            ip_cooldown_seconds: None,
        }
    }
}

impl Spec for IPAMConfigurationSpec {
    const KIND: Kind = Kind::IPAMConfiguration;
    type Status = NoStatus;
}
