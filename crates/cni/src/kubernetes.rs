//! What the Kubernetes API says of a pod, its namespace and its node: the few fields that an attachment needs, whatever
//! the datastore is.

use calico_api::codec::without_nulls;
use calico_api::kubernetes::namespace::Namespace;
use calico_api::kubernetes::pod::Pod;
use calico_net::Cidr;
use serde::Deserialize;
use serde_json::Value;

use crate::error::{CniError, Code};

mod client;

pub use client::{Kubernetes, NoWay};

/// The Kubernetes API, as far as CNI asks it.
#[async_trait::async_trait]
pub trait Api: Send + Sync {
    /// Reads the object at a path such as `/api/v1/namespaces/shop`; `None` if there is none.
    async fn get(&self, path: &str) -> Result<Option<Value>, ApiError>;

    /// Posts an object to a path; what the API made of it.
    async fn create(&self, path: &str, object: Value) -> Result<Value, ApiError>;

    /// Merges a strategic patch into the object at a path.
    async fn patch(&self, path: &str, patch: Value) -> Result<(), ApiError>;
}

/// The API did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// It answered, and refuses: the same request would fail again.
    #[error("the Kubernetes API answers {status}: {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said.
        message: String,
    },
    /// It cannot be reached, or is not ready.
    #[error("the Kubernetes API: {0}")]
    Unavailable(String),
}

impl From<ApiError> for CniError {
    fn from(error: ApiError) -> CniError {
        match error {
            ApiError::Unavailable(why) => {
                CniError::new(Code::TryAgainLater, "the Kubernetes API does not answer", why)
            }
            refused @ ApiError::Refused { .. } => CniError::generic("the Kubernetes API refuses", refused),
        }
    }
}

/// A pod and its namespace.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PodFacts {
    /// The pod.
    pub pod: Pod,
    /// Its namespace.
    pub namespace: Namespace,
}

/// What the mirror of a pod of a kubelet's file says of it.
const MIRROR: &str = "kubernetes.io/config.mirror";

impl PodFacts {
    /// Refuses a sandbox that was begun for an earlier pod of the name: its address would be written to the new one, and
    /// its interface take the place of the new one's. The mirror of a pod of a file has another UID than that one.
    pub fn check_uid(&self, uid: Option<&str>) -> Result<(), CniError> {
        let meta = &self.pod.metadata;
        let is_other = uid.is_some_and(|uid| !meta.uid.is_empty() && meta.uid != uid);
        if !is_other || meta.annotations.contains_key(MIRROR) {
            return Ok(());
        }
        let details =
            format!("K8S_POD_UID is {:?}; pod {} has {:?}", uid.unwrap_or_default(), meta.name, meta.uid);
        Err(CniError::generic("the sandbox is for a pod that has been replaced", details))
    }
}

/// Reads a pod and its namespace at once.
pub async fn read_pod(api: &dyn Api, namespace: &str, name: &str) -> Result<PodFacts, CniError> {
    let of_namespace = format!("/api/v1/namespaces/{namespace}");
    let of_pod = format!("{of_namespace}/pods/{name}");
    let (pod, namespace) = futures::try_join!(api.get(&of_pod), api.get(&of_namespace))?;
    Ok(PodFacts { pod: decode(pod, &of_pod)?, namespace: decode(namespace, &of_namespace)? })
}

/// Reads a namespace.
pub async fn read_namespace(api: &dyn Api, name: &str) -> Result<Namespace, CniError> {
    let path = format!("/api/v1/namespaces/{name}");
    decode(api.get(&path).await?, &path)
}

/// Reads the prefixes that the cluster gave a node for its pods.
pub async fn read_pod_cidrs(api: &dyn Api, node: &str) -> Result<Vec<Cidr>, CniError> {
    #[derive(Default, Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Spec {
        #[serde(rename = "podCIDR")]
        pod_cidr: String,
        #[serde(rename = "podCIDRs")]
        pod_cidrs: Vec<String>,
    }
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Node {
        spec: Spec,
    }
    let path = format!("/api/v1/nodes/{node}");
    let Spec { pod_cidr, mut pod_cidrs } = decode::<Node>(api.get(&path).await?, &path)?.spec;
    // The older field repeats the first of the newer one.
    if pod_cidrs.is_empty() && !pod_cidr.is_empty() {
        pod_cidrs.push(pod_cidr);
    }
    let parsed = pod_cidrs.iter().map(|text| {
        let bad = |e| CniError::generic("cannot read the node's pod CIDRs", format!("{path}: {text:?}: {e}"));
        text.parse::<Cidr>().map_err(bad)
    });
    parsed.collect()
}

fn decode<T: for<'de> Deserialize<'de>>(object: Option<Value>, path: &str) -> Result<T, CniError> {
    let absent = || CniError::generic("not in the Kubernetes API", format!("there is no {path}"));
    let object = object.ok_or_else(absent)?;
    T::deserialize(without_nulls(object))
        .map_err(|e| CniError::generic("cannot read an object of the Kubernetes API", format!("{path}: {e}")))
}

#[cfg(test)]
mod tests;
