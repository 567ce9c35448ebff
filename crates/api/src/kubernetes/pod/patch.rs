//! What the CNI plugin's write of an endpoint is in Kubernetes: annotations of the pod, a strategic merge patch of
//! `pods/status` (spec 1 §3.5). The UID in it is a precondition: a new pod of the same name is not touched. The
//! revision is none of a write's, since the kubelet and others change pods all the time.

use serde_json::{Value, json};

use super::{CONTAINER_ID, POD_IP, POD_IPS};
use crate::record::Revision;
use crate::workload_endpoint::WorkloadEndpoint;

/// The patch that writes an endpoint's addresses and container.
pub fn patch(endpoint: &WorkloadEndpoint) -> Value {
    let spec = &endpoint.spec;
    let first = spec.ip_networks.first().map(|net| net.as_str()).unwrap_or_default();
    let mut annotations = serde_json::Map::new();
    annotations.insert(POD_IP.to_owned(), first.into());
    annotations.insert(POD_IPS.to_owned(), spec.ip_networks.join(",").into());
    if !spec.container_id.is_empty() {
        annotations.insert(CONTAINER_ID.to_owned(), spec.container_id.as_str().into());
    }
    of_pod(&endpoint.metadata.uid, annotations.into())
}

/// The patch that deletes an endpoint: no addresses any more. The container stays, so that a late deletion for an older
/// container can still be told apart. A revision is a precondition: who deletes what it has read of one container must
/// not blank the addresses that a newer sandbox has written since.
pub fn blank_patch(uid: &str, revision: Option<&Revision>) -> Value {
    let mut patch = of_pod(uid, json!({ POD_IP: "", POD_IPS: "" }));
    if let Some(Revision(revision)) = revision {
        patch["metadata"]["resourceVersion"] = revision.as_str().into();
    }
    patch
}

fn of_pod(uid: &str, annotations: Value) -> Value {
    let mut metadata = json!({ "annotations": annotations });
    if !uid.is_empty() {
        metadata["uid"] = uid.into();
    }
    json!({ "metadata": metadata })
}
