//! Writes of Calico's custom resources.
//!
//! A put is a POST, or a PUT at a revision. Resources are read before they are replaced, since an object may carry what
//! entries do not (finalizers); IPAM's records are not. A deletion of an IPAM record is two steps: the mark under
//! compare-and-swap, which is the moment of the deletion, and then the removal (spec 1 §3.4).

use bytes::Bytes;
use calico_api::kubernetes::crd::{self, Table};
use calico_api::{Entry, Expect, Key, Revision};
use calico_store::Fault;
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::{StepError, TRIES, contended, is_blind, require};
use crate::client::Call;
use crate::part::{Doomed, Part, View, is_two_step};
use crate::store::KubeStore;

/// One custom resource to write.
pub(super) struct Place<'a> {
    pub(super) store: &'a KubeStore,
    pub(super) view: &'a View,
    pub(super) key: &'a Key,
    pub(super) table: Table,
    pub(super) path: String,
}

/// What is stored.
struct Stored {
    entry: Entry,
    path: String,
    json: Value,
}

impl Place<'_> {
    pub(super) async fn put(&self, value: &Bytes, expect: &Expect) -> Result<Revision, StepError> {
        if let Expect::At(revision) = expect
            && is_blind(self.table)
            && is_revision(revision)
        {
            return match self.replace(&self.path, value, revision, None).await {
                Err(error) if is_stale(&error) => Err(self.conflict().await),
                outcome => outcome,
            };
        }
        for _ in 0..TRIES {
            let stored = match expect {
                // One request for what usually succeeds; the server knows better whether it is there.
                Expect::Absent if crd::old_object_name(self.key).is_none() => None,
                _ => self.stored().await?,
            };
            require(expect, stored.as_ref().map(|s| &s.entry))?;
            let outcome = match &stored {
                None => self.create(value).await,
                Some(Stored { entry, path, json }) => {
                    self.replace(path, value, &entry.revision, Some(json)).await
                }
            };
            match outcome {
                // Somebody was quicker; look again, which tells what is there if it was expected not to change.
                Err(error) if is_stale(&error) => {
                    if *expect != Expect::Any
                        && let conflict @ StepError::Conflict(Some(_)) = self.conflict().await
                    {
                        return Err(conflict);
                    }
                }
                outcome => return outcome,
            }
        }
        Err(contended())
    }

    pub(super) async fn delete(&self, expect: &Expect) -> Result<Revision, StepError> {
        for _ in 0..TRIES {
            let Some(stored) = self.stored().await? else {
                return match expect {
                    Expect::At(_) => Err(StepError::Conflict(None)),
                    Expect::Any | Expect::Absent => Ok(Revision("0".into())),
                };
            };
            require(expect, Some(&stored.entry))?;
            let Stored { entry, path, json } = stored;
            match self.remove(&path, json).await {
                Ok(()) => return Ok(entry.revision),
                Err(error) if is_stale(&error) && *expect == Expect::Any => {}
                Err(error) if is_stale(&error) => return Err(self.conflict().await),
                Err(error) => return Err(error),
            }
        }
        Err(contended())
    }

    async fn remove(&self, path: &str, mut json: Value) -> Result<(), StepError> {
        if is_two_step(self.table) && crd::mark_deleted(self.table, self.view.group, &mut json) {
            let body = self.store.client().call(&Call::put(path, &json)).await?;
            let marked = decode(&body)?;
            let doomed = Doomed {
                path: path.to_owned(),
                uid: text(&marked, "/metadata/uid").to_owned(),
                revision: text(&marked, "/metadata/resourceVersion").to_owned(),
            };
            // It is deleted, whatever becomes of the second step.
            self.store.finish(&doomed).await;
            return Ok(());
        }
        let preconditions = json!({
            "uid": text(&json, "/metadata/uid"),
            "resourceVersion": text(&json, "/metadata/resourceVersion"),
        });
        self.store.client().call(&Call::delete(path, &json!({ "preconditions": preconditions }))).await?;
        Ok(())
    }

    async fn create(&self, value: &Bytes) -> Result<Revision, StepError> {
        let object = self.object(value, None, None)?;
        // The collection is the path without the name.
        let collection = self.path.rsplit_once('/').map_or("", |(collection, _)| collection);
        let body = self.store.client().call(&Call::post(collection, &object)).await?;
        self.with_status(&self.path, &object, &body).await
    }

    async fn replace(
        &self,
        path: &str,
        value: &Bytes,
        revision: &Revision,
        stored: Option<&Value>,
    ) -> Result<Revision, StepError> {
        let object = self.object(value, Some(revision), stored)?;
        let body = self.store.client().call(&Call::put(path, &object)).await?;
        self.with_status(path, &object, &body).await
    }

    /// Where the status is written by a request of its own, says something and differs: that request. It takes a right
    /// of its own, which who only creates tiers or pools need not have.
    async fn with_status(&self, path: &str, wanted: &Value, body: &[u8]) -> Result<Revision, StepError> {
        let mut written = decode(body)?;
        let status = wanted.get("status").filter(|status| says_something(status));
        if let Some(status) = status
            && self.table.has_status()
            && written.get("status") != Some(status)
        {
            written["status"] = status.clone();
            let body = self.store.client().call(&Call::put(format!("{path}/status"), &written)).await?;
            written = decode(&body)?;
        }
        Ok(Revision(SmolStr::new(text(&written, "/metadata/resourceVersion"))))
    }

    fn object(
        &self,
        value: &[u8],
        revision: Option<&Revision>,
        stored: Option<&Value>,
    ) -> Result<Value, StepError> {
        crd::object(self.view.group, self.key, value, revision, stored)
            .map_err(|error| StepError::Refused(error.reason))
    }

    /// What is there, under its name or the one of old writers.
    async fn stored(&self) -> Result<Option<Stored>, StepError> {
        for path in std::iter::once(self.path.clone()).chain(Part::old_path(self.key, self.view)) {
            let Some((object, body)) = self.store.fetch(Part::Custom(self.table), &path).await? else {
                continue;
            };
            let json = decode(&body)?;
            if let Some(entry) = object.entries.into_iter().find(|entry| entry.key == *self.key) {
                return Ok(Some(Stored { entry, path, json }));
            }
        }
        Ok(None)
    }

    async fn conflict(&self) -> StepError {
        match self.stored().await {
            Ok(stored) => StepError::conflict(stored.map(|s| s.entry)),
            Err(error) => error,
        }
    }
}

/// Whether there is any value in it.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Array(members) => members.iter().any(says_something),
        Value::Object(members) => members.values().any(says_something),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Whether the server refused a write because the object is not as it was.
fn is_stale(error: &StepError) -> bool {
    matches!(error, StepError::Stale)
}

/// Whether a revision can be one of the server's; it refuses others as malformed rather than as old.
fn is_revision(revision: &Revision) -> bool {
    revision.0.parse::<u64>().is_ok_and(|number| number > 0)
}

fn decode(body: &[u8]) -> Result<Value, StepError> {
    serde_json::from_slice(body).map_err(|error| StepError::Fault(Fault::Broken(Box::new(error))))
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object.pointer(field).and_then(Value::as_str).unwrap_or_default()
}
