//! IPAM's records as etcd stores them: blocks, affinities, handles, configuration (spec 5 §2.2).
//!
//! These are not resources: no metadata, and they are always rewritten whole. Fields unknown to us are kept in `other`.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use calico_net::Cidr;
use indexmap::IndexMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use serde_json::Value;
use smol_str::SmolStr;

use crate::codec::{DecodeError, to_json, without_nulls};
use crate::ipam_configuration::IPAMConfigurationSpec;
use crate::key::AffinityOwner;
use crate::meta::Labels;
use crate::record::Entry;
use crate::word::{is_false, words};

/// The place of an address in its block, counted from the block's first address.
pub type Ordinal = u16;

/// A record of IPAM's: read with [`decode_record`], written with [`encode_record`].
pub trait Record: Serialize + for<'de> Deserialize<'de> {}

impl Record for IpamBlock {}
impl Record for BlockAffinity {}
impl Record for IpamHandle {}
impl Record for IpamConfig {}

/// A block: a run of addresses that one node (or nobody) has affinity to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IpamBlock {
    /// Its addresses.
    pub cidr: Cidr,
    /// Who it belongs to; nobody with none.
    #[serde(default)]
    pub affinity: Option<AffinityOwner>,
    /// When it was claimed, RFC 3339.
    #[serde(rename = "affinity_claim_time", default, skip_serializing_if = "Option::is_none")]
    pub affinity_claim_time: Option<SmolStr>,
    /// By ordinal: the index into `attributes` of an assigned address, or none.
    #[serde(default)]
    pub allocations: Vec<Option<usize>>,
    /// Free ordinals: taken from the front, given back at the end.
    #[serde(default)]
    pub unallocated: Vec<Ordinal>,
    /// Who has the addresses.
    #[serde(default)]
    pub attributes: Vec<AllocationAttribute>,
    /// Counts writes.
    #[serde(rename = "sequenceNumber", default)]
    pub sequence_number: u64,
    /// `sequence_number` as it was when an ordinal was assigned.
    #[serde(rename = "sequenceNumberForAllocation", default)]
    pub sequence_number_for_allocation: BTreeMap<Ordinal, u64>,
    /// Being deleted; readers see it as absent.
    #[serde(default)]
    pub deleted: bool,
    /// The owner's bare name, of old writers.
    #[serde(rename = "hostAffinity", default, skip_serializing_if = "Option::is_none")]
    pub host_affinity: Option<SmolStr>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: IndexMap<String, Value>,
}

impl IpamBlock {
    /// Who it belongs to; old writers named the host in another field.
    pub fn owner(&self) -> Option<AffinityOwner> {
        self.affinity.clone().or_else(|| self.host_affinity.clone().map(AffinityOwner::Host))
    }
}

/// Who has an address of a block.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AllocationAttribute {
    /// The handle that releases it.
    #[serde(rename = "handle_id", skip_serializing_if = "Option::is_none")]
    pub handle_id: Option<SmolStr>,
    /// pod, namespace, node, type, timestamp, … of the active owner. Shared: a block is copied for every change of it.
    #[serde(rename = "secondary", skip_serializing_if = "Option::is_none")]
    pub secondary: Option<Arc<Labels>>,
    /// The same of an owner in waiting.
    #[serde(rename = "alternateOwnerAttrs", skip_serializing_if = "Option::is_none")]
    pub alternate_owner_attrs: Option<Arc<Labels>>,
    /// When it was released, while it rests before reuse (RFC 3339).
    #[serde(rename = "releasedAt", skip_serializing_if = "Option::is_none")]
    pub released_at: Option<SmolStr>,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: IndexMap<String, Value>,
}

words! {
    /// How far a claim of a block has come.
    pub enum AffinityState {
        /// The block is the owner's.
        Confirmed = "confirmed",
        /// Claimed, the block not written yet: counts as absent.
        Pending = "pending",
        /// Being given up.
        PendingDeletion = "pendingDeletion",
    }
}

/// A claim of a block by an owner; both are in its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockAffinity {
    /// An empty word, or none, means confirmed.
    #[serde(default = "confirmed", deserialize_with = "affinity_state")]
    pub state: AffinityState,
    /// Being deleted; readers see it as absent.
    #[serde(default, deserialize_with = "loose_bool")]
    pub deleted: bool,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: IndexMap<String, Value>,
}

impl BlockAffinity {
    /// A claim in a state.
    pub fn new(state: AffinityState) -> BlockAffinity {
        BlockAffinity { state, deleted: false, other: IndexMap::new() }
    }
}

fn confirmed() -> AffinityState {
    AffinityState::Confirmed
}

fn affinity_state<'de, D: Deserializer<'de>>(d: D) -> Result<AffinityState, D::Error> {
    let state = AffinityState::deserialize(d)?;
    Ok(if state.as_str().is_empty() { AffinityState::Confirmed } else { state })
}

/// `deleted` is text in one of Calico's two forms of an affinity (spec 1 §3.4).
fn loose_bool<'de, D: Deserializer<'de>>(d: D) -> Result<bool, D::Error> {
    match Value::deserialize(d)? {
        Value::Bool(b) => Ok(b),
        Value::String(s) => Ok(s == "true"),
        Value::Null => Ok(false),
        other => Err(D::Error::custom(format!("{other} is neither true nor false"))),
    }
}

/// A handle: how many addresses of which blocks one owner holds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IpamHandle {
    /// Addresses by block.
    #[serde(default)]
    pub block: BTreeMap<Cidr, u32>,
    /// Being deleted; readers see it as absent.
    #[serde(default)]
    pub deleted: bool,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: IndexMap<String, Value>,
}

/// IPAM's settings, the form that IPAM itself reads. `Default` is what holds while there is no record; in a record, an
/// absent field is false or 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IpamConfig {
    /// Nodes use only blocks of their own.
    #[serde(default, skip_serializing_if = "is_false")]
    pub strict_affinity: bool,
    /// Claim new blocks when the own ones are full.
    #[serde(default, skip_serializing_if = "is_false")]
    pub auto_allocate_blocks: bool,
    /// Most blocks of one node; 0 for no limit.
    #[serde(rename = "maxBlocksPerHost", default, skip_serializing_if = "is_zero")]
    pub max_blocks_per_host: u32,
    /// `Enabled` or `Disabled`; none means enabled.
    #[serde(rename = "kubeVirtVMAddressPersistence", default, skip_serializing_if = "Option::is_none")]
    pub kube_virt_vm_address_persistence: Option<SmolStr>,
    /// Seconds that a released address rests, 0–1200.
    #[serde(rename = "ipCooldownSeconds", default, skip_serializing_if = "is_zero")]
    pub ip_cooldown_seconds: u32,
    /// What this version does not know.
    #[serde(flatten)]
    pub other: IndexMap<String, Value>,
}

impl Default for IpamConfig {
    fn default() -> IpamConfig {
        IpamConfig {
            strict_affinity: false,
            auto_allocate_blocks: true,
            max_blocks_per_host: 0,
            kube_virt_vm_address_persistence: None,
            ip_cooldown_seconds: 0,
            other: IndexMap::new(),
        }
    }
}

impl IpamConfig {
    /// These settings with all that a resource says of them. What the resource does not know stays.
    pub fn with_spec(self, spec: &IPAMConfigurationSpec) -> IpamConfig {
        let IPAMConfigurationSpec {
            strict_affinity,
            max_blocks_per_host,
            auto_allocate_blocks,
            kube_virt_vm_address_persistence,
            ip_cooldown_seconds,
        } = spec;
        IpamConfig {
            strict_affinity: *strict_affinity,
            auto_allocate_blocks: *auto_allocate_blocks,
            max_blocks_per_host: *max_blocks_per_host,
            kube_virt_vm_address_persistence: kube_virt_vm_address_persistence.clone(),
            ip_cooldown_seconds: ip_cooldown_seconds.unwrap_or(0),
            other: self.other,
        }
    }
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

impl Serialize for AffinityOwner {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AffinityOwner {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<AffinityOwner, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(d)?.parse().map_err(D::Error::custom)
    }
}

/// Reads a record. An empty value reads as `{}` (markers of old writers); a null field is an absent one, since Go
/// writes its empty lists and maps so.
///
/// # Errors
/// When the value is not of the record's shape.
pub fn decode_record<R: Record>(entry: &Entry) -> Result<R, DecodeError> {
    let bytes: &[u8] = if entry.value.is_empty() { b"{}" } else { &entry.value };
    serde_json::from_slice(bytes)
        .or_else(|first| {
            // Nulls are rare; only then is the slow way through a JSON value taken.
            let value: Value = serde_json::from_slice(bytes)?;
            serde_json::from_value(without_nulls(value)).map_err(|_| first)
        })
        .map_err(|source| DecodeError::new(&entry.key, &source))
}

/// Writes a record as it is stored.
pub fn encode_record<R: Record>(record: &R) -> Bytes {
    Bytes::from(to_json(record).expect("records have only string keys and plain values"))
}

#[cfg(test)]
mod tests;
