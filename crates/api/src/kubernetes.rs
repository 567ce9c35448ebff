//! The Kubernetes datastore's words: its objects, and what they are in Calico's data model (spec 1 §3). Pure.
//!
//! | Calico | Kubernetes object | module |
//! |---|---|---|
//! | most kinds, IPAM blocks, affinities, handles, configuration | custom resource of [`ApiGroup`] | [`crd`] |
//! | WorkloadEndpoint | Pod; written as annotations of `pods/status` | `pod` |
//! | Profile `kns.…` | Namespace, read only | `namespace` |
//! | Profile `ksa.…` | ServiceAccount, read only | `service_account` |
//! | KubernetesNetworkPolicy | NetworkPolicy of `networking.k8s.io/v1`, read only | `network_policy` |
//! | KubernetesEndpointSlice | EndpointSlice of `discovery.k8s.io/v1`, read only | `endpoint_slice` |
//! | KubernetesService | Service, read only | `service` |
//! | Node | Node; written as annotations and labels | `node` |
//!
//! Native objects are decoded (serde) into types that hold only the fields in use. Custom resources stay JSON, so that
//! what a newer version stored there survives. What Calico's resources need besides: [`names`] of objects, [`uid`]s.
//!
//! Each module of a native object has the object's type and these functions, where they make sense:
//!
//! ```text
//! pod::entry(&Pod, interface_prefix) -> Result<Option<Entry>, ConversionError>   None: Calico has no part in the pod
//! pod::place(&ResourceKey) -> Option<Place { node, namespace, pod }>             of a WorkloadEndpoint's key
//! pod::patch(&WorkloadEndpoint) -> Value, pod::blank_patch(&uid) -> Value        strategic merge patches of pods/status
//! namespace::entry(&Namespace) -> Entry                                          revision "<nsRev>/"
//! service_account::entry(&ServiceAccount) -> Entry                               revision "/<saRev>"
//! network_policy::entry(&NetworkPolicy) -> Converted                             the entry, and the problems met
//! endpoint_slice::entry(&EndpointSlice) -> Option<Entry>
//! service::entry(&Service) -> Entry
//! node::entry(&Node, NodeOptions) -> Converted
//! node::patch(&Node, &calico_api::Node) -> Result<Value, ConversionError>        merge patch of annotations and labels
//! node::blocks(&Node) -> Vec<Entry>                                              of podCIDRs, with USE_POD_CIDR
//! ```

pub mod crd;
pub mod group;
pub mod names;
pub mod uid;

pub use group::ApiGroup;

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
