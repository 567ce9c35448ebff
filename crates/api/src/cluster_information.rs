//! ClusterInformation: facts of the whole cluster, named `default` (spec 1 §1.6).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};

/// The cluster's facts.
pub type ClusterInformation = Resource<ClusterInformationSpec>;

/// What a ClusterInformation says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ClusterInformationSpec {
    /// 32 hex digits of a random UUID.
    #[serde(rename = "clusterGUID", skip_serializing_if = "SmolStr::is_empty")]
    pub cluster_guid: SmolStr,
    /// Comma list, such as `k8s,bgp`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub cluster_type: SmolStr,
    /// The version of the node software that wrote last.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub calico_version: SmolStr,
    /// False while a migration holds everybody off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datastore_ready: Option<bool>,
    /// The product's variant.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub variant: SmolStr,
}

impl Spec for ClusterInformationSpec {
    const KIND: Kind = Kind::ClusterInformation;
    type Status = NoStatus;
}
