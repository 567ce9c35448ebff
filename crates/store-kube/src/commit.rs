//! A commit as a series of requests, each a compare-and-swap of one object: the first that fails ends it.
//!
//! What each kind of object allows differs; see [`custom`] and [`native`].

use calico_api::kubernetes::crd::Table;
use calico_api::{Entry, Expect, Key, Kind, ResourceKey, Revision, Write};
use calico_store::store::check_shape;
use calico_store::{CommitError, Committed, Fault};

use crate::error::{Refusal, RequestError};
use crate::part::Part;
use crate::store::KubeStore;

mod custom;
mod native;

/// How often a write without expectation starts again because somebody else was quicker.
const TRIES: usize = 16;

/// Why a step did not happen.
pub(crate) enum StepError {
    /// The expectation does not hold; this is there instead.
    Conflict(Option<Box<Entry>>),
    /// The object is not as it was when it was read, or not there, or there already: the caller looks again.
    Stale,
    /// The datastore does not take it.
    Refused(String),
    /// The request failed.
    Fault(Fault),
}

impl StepError {
    fn conflict(current: Option<Entry>) -> StepError {
        StepError::Conflict(current.map(Box::new))
    }
}

impl From<RequestError> for StepError {
    fn from(error: RequestError) -> StepError {
        match error {
            RequestError::Fault(fault) => StepError::Fault(fault),
            RequestError::Refused(refusal) => match refusal.code {
                409 => StepError::Stale,
                404 if is_unknown_object(&refusal) => StepError::Stale,
                400 | 404 | 405 | 413 | 415 | 422 => StepError::Refused(refusal_text(&refusal)),
                _ => StepError::Fault(refusal.into_fault()),
            },
        }
    }
}

/// An object that is not there names itself; a path that the server does not know has a status without details, or none
/// at all; a namespace that is not there is no reason to look again.
fn is_unknown_object(refusal: &Refusal) -> bool {
    let Refusal { reason, message, .. } = refusal;
    let path = reason.is_empty() || message.contains("could not find the requested resource");
    !path && !message.starts_with("namespaces ")
}

/// What the server says, and what would help where it says little.
fn refusal_text(refusal: &Refusal) -> String {
    let Refusal { what, code, message, .. } = refusal;
    if *code == 404 && !message.starts_with("namespaces ") {
        return format!(
            "{what}: the API server does not know this resource; is Calico's CustomResourceDefinition installed?"
        );
    }
    message.clone()
}

pub(crate) async fn commit(store: &KubeStore, writes: &[Write]) -> Result<Committed, CommitError> {
    check_shape(writes)?;
    let mut revisions = Vec::with_capacity(writes.len());
    for (index, write) in writes.iter().enumerate() {
        let key = write.key().clone();
        match step(store, write).await {
            Ok(revision) => revisions.push(revision),
            Err(StepError::Conflict(current)) => {
                return Err(CommitError::Conflict { index, key, current });
            }
            // The places that a step can be about all look again by themselves.
            Err(StepError::Stale) => return Err(CommitError::Conflict { index, key, current: None }),
            Err(StepError::Refused(reason)) => return Err(CommitError::Refused { key, reason }),
            Err(StepError::Fault(fault)) => return Err(CommitError::Fault(fault)),
        }
    }
    Ok(Committed { revisions })
}

async fn step(store: &KubeStore, write: &Write) -> Result<Revision, StepError> {
    let view = store.view().await.map_err(StepError::Fault)?;
    let place = Part::of_key(write.key(), view);
    match write {
        Write::Check { key, expect } => {
            let current = store.find(key).await.map_err(StepError::Fault)?;
            require(expect, current.as_ref())?;
            Ok(current.map_or_else(|| Revision("0".into()), |entry| entry.revision))
        }
        Write::Put { key, value, expect, ttl_secs: _ } => match place {
            Some((Part::Custom(table), path)) => {
                custom::Place { store, view, key, table, path }.put(value, expect).await
            }
            Some((Part::Nodes, path)) => native::put_node(store, key, &path, value, expect).await,
            Some((Part::Pods, path)) => native::put_pod(store, key, &path, value, expect).await,
            Some(_) | None => Err(StepError::Refused(why_not(key))),
        },
        Write::Delete { key, expect } => match place {
            Some((Part::Custom(table), path)) => {
                custom::Place { store, view, key, table, path }.delete(expect).await
            }
            Some((Part::Pods, path)) => native::blank_pod(store, key, &path, expect).await,
            // Nothing is there, and nothing is to be.
            None if *expect == Expect::Any => Ok(Revision("0".into())),
            Some(_) | None => Err(StepError::Refused(why_not(key))),
        },
    }
}

/// Why nobody writes there.
fn why_not(key: &Key) -> String {
    let reason = match key {
        Key::Resource(ResourceKey { kind, .. }) => match kind {
            Kind::Profile => "profiles are made from namespaces and service accounts; change those",
            Kind::Node => "nodes are created by the kubelet and deleted with kubectl",
            Kind::WorkloadEndpoint => {
                "workload endpoints are pods; a name must be of the form <node>-k8s-<pod>-eth0"
            }
            _ => "it is an object of Kubernetes' own; change it with kubectl",
        },
        Key::Block(_) | Key::Affinity { .. } | Key::Handle(_) => {
            "with USE_POD_CIDR addresses come from the nodes' pod CIDRs"
        }
        _ => "the Kubernetes datastore does not keep it",
    };
    reason.to_owned()
}

/// Whether what is there is what was expected.
fn require(expect: &Expect, current: Option<&Entry>) -> Result<(), StepError> {
    let holds = match expect {
        Expect::Any => true,
        Expect::Absent => current.is_none(),
        Expect::At(revision) => current.is_some_and(|entry| entry.revision == *revision),
    };
    if holds { Ok(()) } else { Err(StepError::conflict(current.cloned())) }
}

/// Too many others wrote at the same time.
fn contended() -> StepError {
    StepError::Fault(Fault::Unavailable("others change the same object all the time".into()))
}

/// Whether a table's objects are replaced without being read first: IPAM's records, which nobody gives finalizers, and
/// which are written for every pod.
fn is_blind(table: Table) -> bool {
    matches!(table, Table::Blocks | Table::Affinities | Table::Handles | Table::IpamConfig)
}
