//! NetworkSet and GlobalNetworkSet: labelled sets of addresses for selectors to match (spec 1 §1.3).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};

/// A set in a namespace.
pub type NetworkSet = Resource<NetworkSetSpec>;
/// A cluster-wide set.
pub type GlobalNetworkSet = Resource<GlobalNetworkSetSpec>;

/// What a NetworkSet says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkSetSpec {
    /// Addresses and CIDRs; host bits may be set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<SmolStr>,
}

/// What a GlobalNetworkSet says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkSetSpec {
    /// Addresses and CIDRs; host bits may be set.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<SmolStr>,
}

impl Spec for NetworkSetSpec {
    const KIND: Kind = Kind::NetworkSet;
    type Status = NoStatus;
}

impl Spec for GlobalNetworkSetSpec {
    const KIND: Kind = Kind::GlobalNetworkSet;
    type Status = NoStatus;
}
