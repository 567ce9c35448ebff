//! Writes of nodes and pods: annotations and labels, never the objects themselves (spec 1 §3.2, §3.5, §3.9).

use bytes::Bytes;
use calico_api::codec::decode;
use calico_api::kubernetes::{node, pod};
use calico_api::{Entry, Expect, Key, NodeSpec, Resource, Revision, WorkloadEndpointSpec};
use serde_json::Value;
use smol_str::SmolStr;

use super::{StepError, TRIES, contended, require, why_not};
use crate::client::{Call, MERGE_PATCH, STRATEGIC_PATCH};
use crate::part::Part;
use crate::store::KubeStore;

/// A node's part of Calico's: a patch of the node's status resource at the revision that was read.
pub(super) async fn put_node(
    store: &KubeStore,
    key: &Key,
    path: &str,
    value: &Bytes,
    expect: &Expect,
) -> Result<Revision, StepError> {
    let wanted: Resource<NodeSpec> = read(key, value)?;
    for _ in 0..TRIES {
        let current = current(store, Part::Nodes, key, path).await?;
        require(expect, current.as_ref())?;
        let Some(current) = current else { return Err(StepError::Refused(why_not(key))) };
        let patch = node::patch(&wanted, Some(&current.revision))
            .map_err(|error| StepError::Refused(error.reason))?;
        let call = Call::patch(format!("{path}/status"), MERGE_PATCH, &patch);
        match store.client().call(&call).await {
            Ok(body) => return revision(&body),
            // The kubelet reports every few seconds; what it writes is not what we write.
            Err(error) if error.is(409) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(contended())
}

/// An endpoint's addresses: a patch of the pod's annotations. The pod's revision is no condition, since the kubelet
/// changes it all the time; its UID is, so that a new pod of the same name is not touched. "Absent" means that no
/// address has been written yet.
pub(super) async fn put_pod(
    store: &KubeStore,
    key: &Key,
    path: &str,
    value: &Bytes,
    expect: &Expect,
) -> Result<Revision, StepError> {
    let mut wanted: Resource<WorkloadEndpointSpec> = read(key, value)?;
    let current = current(store, Part::Pods, key, path).await?;
    let Some(current) = current else {
        return match expect {
            Expect::At(_) => Err(StepError::Conflict(None)),
            Expect::Absent | Expect::Any => Err(StepError::Refused(format!("there is no such pod: {path}"))),
        };
    };
    let there: Resource<WorkloadEndpointSpec> = read(key, &current.value)?;
    if *expect == Expect::Absent && !there.spec.ip_networks.is_empty() {
        return Err(StepError::conflict(Some(current)));
    }
    let uid = there.metadata.uid;
    if wanted.metadata.uid.is_empty() {
        wanted.metadata.uid = uid;
    } else if wanted.metadata.uid != uid {
        return Err(StepError::conflict(Some(current)));
    }
    patch_pod(store, path, &pod::patch(&wanted), current).await
}

/// An endpoint's deletion: its annotations are blanked. The pod itself is the kubelet's. Where a revision is expected it
/// is a condition, unlike a put's: the deleter has seen its own container at that revision, and a newer sandbox may have
/// taken the pod since. That the kubelet may have changed it instead costs the deleter another look.
pub(super) async fn blank_pod(
    store: &KubeStore,
    key: &Key,
    path: &str,
    expect: &Expect,
) -> Result<Revision, StepError> {
    let Some(current) = current(store, Part::Pods, key, path).await? else {
        return match expect {
            Expect::At(_) => Err(StepError::Conflict(None)),
            Expect::Absent | Expect::Any => Ok(Revision("0".into())),
        };
    };
    require(expect, Some(&current))?;
    let there: Resource<WorkloadEndpointSpec> = read(key, &current.value)?;
    let revision = match expect {
        Expect::At(revision) => Some(revision),
        Expect::Absent | Expect::Any => None,
    };
    patch_pod(store, path, &pod::blank_patch(&there.metadata.uid, revision), current).await
}

async fn patch_pod(
    store: &KubeStore,
    path: &str,
    patch: &Value,
    current: Entry,
) -> Result<Revision, StepError> {
    match store.client().call(&Call::patch(format!("{path}/status"), STRATEGIC_PATCH, patch)).await {
        Ok(body) => revision(&body),
        // The UID or the revision does not fit, or the pod has gone: another pod, another endpoint.
        Err(error) if error.is(409) => Err(StepError::conflict(Some(current))),
        Err(error) if error.is(404) => Err(StepError::Conflict(None)),
        Err(error) => Err(error.into()),
    }
}

async fn current(store: &KubeStore, part: Part, key: &Key, path: &str) -> Result<Option<Entry>, StepError> {
    let fetched = store.fetch(part, path).await?;
    Ok(fetched.and_then(|(object, _)| object.entries.into_iter().find(|entry| entry.key == *key)))
}

fn read<S: calico_api::Spec>(key: &Key, value: &Bytes) -> Result<Resource<S>, StepError> {
    let entry = Entry { key: key.clone(), value: value.clone(), revision: Revision(SmolStr::default()) };
    decode(&entry).map_err(|error| StepError::Refused(error.reason))
}

fn revision(body: &[u8]) -> Result<Revision, StepError> {
    let object: Value = serde_json::from_slice(body)
        .map_err(|error| StepError::Fault(calico_store::Fault::Broken(Box::new(error))))?;
    let text = object.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
    Ok(Revision(SmolStr::new(text)))
}
