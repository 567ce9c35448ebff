//! The cluster, asked directly: before an address or a node's claims are taken away, it is looked up once more at the
//! source, since what was watched may be old.

use std::sync::Arc;

use async_trait::async_trait;
use calico_api::kubernetes::object;
use calico_api::kubernetes::pod::{CONTAINER_ID, Pod, is_eligible, is_finished};
use calico_api::{Key, Kind, Selection};
use calico_net::Cidr;
use calico_store::Store;
use calico_store::error::chain;
use futures::future::BoxFuture;
use serde::Deserialize;

use crate::ipam::{AllocationId, PodRef, why_leaked};
use crate::world::read_endpoint;

/// Why the cluster could not be asked. Then what is asked about stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AskError(pub String);

/// Whoever can be asked.
#[async_trait]
pub trait Cluster: Send + Sync {
    /// Whether a pod uses an allocation's address, or may.
    async fn uses(&self, pod: &PodRef, allocation: &AllocationId) -> Result<bool, AskError>;

    /// Whether there is a node of this name.
    async fn has_node(&self, name: &str) -> Result<bool, AskError>;

    /// Whether it answers at all.
    async fn check(&self) -> Result<(), AskError>;
}

/// A cluster whose nodes and endpoints are in a store, and nowhere else.
#[derive(Clone)]
pub struct StoreCluster(pub Arc<dyn Store>);

fn ask(error: &dyn std::error::Error) -> AskError {
    AskError(chain(error))
}

#[async_trait]
impl Cluster for StoreCluster {
    async fn uses(&self, pod: &PodRef, allocation: &AllocationId) -> Result<bool, AskError> {
        let selection = Selection::Resources {
            kind: Kind::WorkloadEndpoint,
            namespace: Some(pod.namespace.clone()),
            name_prefix: Default::default(),
        };
        let listing = self.0.list(&selection).await.map_err(|e| ask(&e))?;
        let endpoints: Vec<_> = listing
            .entries
            .iter()
            .filter_map(|entry| match &entry.key {
                Key::Resource(key) => read_endpoint(key, entry),
                _ => None,
            })
            .filter(|((_, name), _)| *name == pod.name)
            .map(|(_, endpoint)| endpoint)
            .collect();
        Ok(why_leaked(pod, allocation, endpoints.iter()).is_none())
    }

    async fn has_node(&self, name: &str) -> Result<bool, AskError> {
        let found = self.0.get(&Key::resource(Kind::Node, "", name)).await;
        found.map(|entry| entry.is_some()).map_err(|e| ask(&e))
    }

    async fn check(&self) -> Result<(), AskError> {
        let key = Key::resource(Kind::ClusterInformation, "", "default");
        self.0.get(&key).await.map(drop).map_err(|e| ask(&e))
    }
}

/// GET of a path of the Kubernetes API: status and body.
pub type ApiGet = Arc<dyn Fn(String) -> BoxFuture<'static, Result<(u16, Vec<u8>), String>> + Send + Sync>;

/// A cluster that has a Kubernetes API. Pods are judged as they are there: one that Calico cannot make an endpoint of,
/// for an annotation that cannot be read, still has its address.
#[derive(Clone)]
pub struct ApiCluster(pub ApiGet);

impl ApiCluster {
    /// The body; `None` if the API server itself says that it has no object of this name.
    async fn get(&self, path: String, name: &str) -> Result<Option<Vec<u8>>, AskError> {
        let (status, body) = (self.0)(path.clone()).await.map_err(AskError)?;
        match status {
            200 => Ok(Some(body)),
            404 if is_unknown(&body, name) => Ok(None),
            _ => Err(AskError(format!("GET {path}: status {status}"))),
        }
    }
}

/// Whether an answer is an API server's word that it has no object of a name. Balancers and proxies whose server is
/// away answer 404 as well, to everything.
fn is_unknown(body: &[u8], name: &str) -> bool {
    #[derive(Default, Deserialize)]
    #[serde(default)]
    struct Details {
        name: String,
    }
    #[derive(Deserialize)]
    struct Status {
        reason: String,
        details: Details,
    }
    serde_json::from_slice::<Status>(body).is_ok_and(|s| s.reason == "NotFound" && s.details.name == name)
}

/// Whether a pod uses an allocation's address, or may (spec 7 §6.2).
fn pod_uses(pod: &Pod, expected: &PodRef, allocation: &AllocationId) -> bool {
    let shown = pod.status.pod_ips.iter().map(|ip| &ip.ip).chain([&pod.status.pod_ip]);
    let annotated = [calico_api::kubernetes::pod::POD_IP, calico_api::kubernetes::pod::POD_IPS];
    let written = annotated.iter().filter_map(|name| pod.metadata.annotations.get(*name));
    let written = written.flat_map(|text| text.split(',')).map(str::trim);
    let texts: Vec<&str> = shown.map(|text| text.as_str()).chain(written).filter(|t| !t.is_empty()).collect();
    if is_finished(pod) || !is_eligible(pod) {
        return false;
    }
    // What is said of it as a whole counts before its node does: an address that a live pod has is never taken.
    let is_same = |text: &&str| {
        text.parse::<Cidr>().is_ok_and(|cidr| cidr.is_host() && cidr.addr() == allocation.address)
    };
    let is_of_sandbox = pod.metadata.annotations.get(CONTAINER_ID).is_some_and(|id| allocation.is_of(id));
    if is_of_sandbox || texts.iter().any(is_same) {
        return true;
    }
    let is_elsewhere = expected.node.as_ref().is_some_and(|node| *node != pod.spec.node_name);
    // One without any address waits for it: maybe for this one. One that cannot be read may be it too.
    !is_elsewhere && texts.iter().all(|text| text.parse::<Cidr>().is_err())
}

#[async_trait]
impl Cluster for ApiCluster {
    async fn uses(&self, pod: &PodRef, allocation: &AllocationId) -> Result<bool, AskError> {
        let path = format!("/api/v1/namespaces/{}/pods/{}", pod.namespace, pod.name);
        let Some(body) = self.get(path.clone(), &pod.name).await? else { return Ok(false) };
        let found: Pod = object::decode(&body).map_err(|e| AskError(format!("GET {path}: {e}")))?;
        if found.metadata.name != pod.name {
            return Err(AskError(format!("GET {path}: the answer is no such pod")));
        }
        Ok(pod_uses(&found, pod, allocation))
    }

    async fn has_node(&self, name: &str) -> Result<bool, AskError> {
        Ok(self.get(format!("/api/v1/nodes/{name}"), name).await?.is_some())
    }

    async fn check(&self) -> Result<(), AskError> {
        self.get("/healthz".to_owned(), "").await.map(drop)
    }
}

#[cfg(test)]
mod tests;
