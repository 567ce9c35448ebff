//! IPAMConfiguration: IPAM's settings as a resource, named `default` (spec 1 §1.5).
//!
//! IPAM itself reads another record, [`IpamConfig`]; whoever writes one writes the other in the same commit.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::ipam::IpamConfig;
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

/// The settings that IPAM reads, in the form of the resource. [`IpamConfig::with_spec`] is the way back.
impl From<&IpamConfig> for IPAMConfigurationSpec {
    fn from(config: &IpamConfig) -> IPAMConfigurationSpec {
        let IpamConfig {
            strict_affinity,
            auto_allocate_blocks,
            max_blocks_per_host,
            kube_virt_vm_address_persistence,
            ip_cooldown_seconds,
            other: _,
        } = config;
        IPAMConfigurationSpec {
            strict_affinity: *strict_affinity,
            max_blocks_per_host: *max_blocks_per_host,
            auto_allocate_blocks: *auto_allocate_blocks,
            kube_virt_vm_address_persistence: kube_virt_vm_address_persistence.clone(),
            ip_cooldown_seconds: (*ip_cooldown_seconds > 0).then_some(*ip_cooldown_seconds),
        }
    }
}

impl Spec for IPAMConfigurationSpec {
    const KIND: Kind = Kind::IPAMConfiguration;
    type Status = NoStatus;
}
