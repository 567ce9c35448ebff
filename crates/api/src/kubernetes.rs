//! The Kubernetes datastore's words: its objects, and what they are in Calico's data model (spec 1 §3). Pure.
//!
//! | Calico | Kubernetes object | module |
//! |---|---|---|
//! | most kinds, IPAM blocks, affinities, handles, configuration | custom resource of [`ApiGroup`] | [`crd`] |
//! | WorkloadEndpoint | Pod; written as annotations of `pods/status` | [`pod`] |
//! | Profile `kns.…` | Namespace, read only | [`namespace`] |
//! | Profile `ksa.…` | ServiceAccount, read only | [`service_account`] |
//! | KubernetesNetworkPolicy | NetworkPolicy of `networking.k8s.io/v1`, read only | [`network_policy`] |
//! | KubernetesClusterNetworkPolicy | ClusterNetworkPolicy of `policy.networking.k8s.io`, read only | [`cluster_network_policy`] |
//! | KubernetesEndpointSlice | EndpointSlice of `discovery.k8s.io/v1`, read only | [`endpoint_slice`] |
//! | KubernetesSecret | Secret, read only, one by one | [`secret`] |
//! | KubernetesService | Service, read only | [`service`] |
//! | Node | Node; written as annotations of `nodes/status` | [`node`] |
//!
//! Native objects are decoded, with [`decode`], into types that hold only the fields in use. Custom resources stay JSON,
//! so that what a newer version stored there survives.
//!
//! Each module of a native object has the object's type and `entry`, which gives the entry as etcd would hold it; `None`
//! where Calico has no part in the object (any more), which is to be treated as its deletion. What is written has a
//! `patch`. What is shared: [`names`] of objects, [`uid`]s, revisions of [`profile`]s, label [`selector`]s, limits in
//! annotations ([`qos`]).

pub mod cluster_network_policy;
pub mod crd;
pub mod endpoint_slice;
pub mod group;
pub mod names;
pub mod namespace;
pub mod network_policy;
pub mod node;
pub mod object;
pub mod pod;
pub mod profile;
pub mod qos;
pub mod secret;
pub mod selector;
pub mod service;
pub mod service_account;
pub mod uid;

pub use group::ApiGroup;
pub use object::{ObjectMeta, decode};

use crate::record::Entry;

/// An object in Calico's words, and what of it could not be put so.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// What is to be used.
    pub entry: Entry,
    /// What was left out or changed, for people.
    pub problems: Vec<ConversionError>,
}

/// A Kubernetes object is not what its kind promises, or a value cannot be written as one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {reason}")]
pub struct ConversionError {
    /// Which object, such as `IPAMBlock(10-0-0-0-26)`.
    pub object: String,
    /// What is wrong, and where.
    pub reason: String,
}

impl ConversionError {
    pub(crate) fn new(object: impl std::fmt::Display, reason: impl std::fmt::Display) -> ConversionError {
        ConversionError { object: object.to_string(), reason: reason.to_string() }
    }
}
