//! Stored JSON ↔ resources: lenient reading, Calico's storage form, and edits that keep what we do not know.

use std::io;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Map, Value};
use smol_str::SmolStr;

use crate::any::AnyResource;
use crate::key::{Key, Kind, ResourceKey};
use crate::meta::{Labels, Metadata, Resource, Spec};
use crate::record::Entry;
use crate::tier::DEFAULT_TIER;

/// The annotation in which stored policies keep the name that the user gave them (spec 1 §1.3).
const METADATA_ANNOTATION: &str = "projectcalico.org/metadata";
/// The label that every policy carries: its tier.
pub const TIER_LABEL: &str = "projectcalico.org/tier";

/// A stored value is not what its key promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {reason}")]
pub struct DecodeError {
    /// The etcd form of the key.
    pub key: String,
    /// What is wrong, and where.
    pub reason: String,
}

impl DecodeError {
    pub(crate) fn new(key: &Key, source: &dyn std::fmt::Display) -> DecodeError {
        DecodeError { key: key.to_string(), reason: source.to_string() }
    }

    pub(crate) fn not_a_resource(key: &Key) -> DecodeError {
        DecodeError { key: key.to_string(), reason: "this key holds no resource".to_owned() }
    }
}

impl Kind {
    /// Whether Calico stores a status of the kind even when it is empty.
    pub(crate) fn stores_status(self) -> bool {
        matches!(self, Kind::Node | Kind::Tier | Kind::KubeControllersConfiguration | Kind::CalicoNodeStatus)
    }

    /// Whether objects of the kind are policies in tiers, which are stored with their name in an annotation.
    pub fn is_tiered_policy(self) -> bool {
        matches!(
            self,
            Kind::NetworkPolicy
                | Kind::GlobalNetworkPolicy
                | Kind::StagedNetworkPolicy
                | Kind::StagedGlobalNetworkPolicy
        )
    }
}

/// Reads a stored resource. Fields unknown to us are passed over (see [`merge`]); null counts as absent; the storage
/// form is undone; `metadata.resource_version` is the entry's revision.
///
/// # Errors
/// When the key belongs to another kind, or the value is no JSON object of the kind's shape.
pub fn decode<S: Spec>(entry: &Entry) -> Result<Resource<S>, DecodeError> {
    match &entry.key {
        Key::Resource(ResourceKey { kind, .. }) if *kind == S::KIND => {}
        key => {
            return Err(DecodeError { key: key.to_string(), reason: format!("not a {}", S::KIND.name()) });
        }
    }
    let mut resource = decode_value::<S>(&entry.value).map_err(|e| DecodeError::new(&entry.key, &e))?;
    undo_storage_form(resource.spec.tier(), &mut resource.metadata);
    resource.metadata.resource_version = entry.revision.0.clone();
    Ok(resource)
}

fn decode_value<S: Spec>(value: &[u8]) -> Result<Resource<S>, serde_json::Error> {
    serde_json::from_slice(value).or_else(|first| {
        // Nulls are rare; only then is the slow way through a JSON value taken.
        let value: Value = serde_json::from_slice(value)?;
        serde_json::from_value(without_nulls(value)).map_err(|_| first)
    })
}

/// The room that most values need.
const TYPICAL_SIZE: usize = 1024;

/// The longest piece of text that is copied byte by byte.
const SHORT: usize = 16;

/// A value as JSON text.
pub(crate) fn to_json(value: &impl Serialize) -> serde_json::Result<Vec<u8>> {
    let mut text = Text(Vec::with_capacity(TYPICAL_SIZE));
    serde_json::to_writer(&mut text, value)?;
    Ok(text.0)
}

/// What JSON is written to. It comes a few bytes at a time, four thousand times for a block of IPAM's, and to call musl's
/// `memcpy` for three bytes takes longer than to push them.
struct Text(Vec<u8>);

impl io::Write for Text {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.write_all(piece)?;
        Ok(piece.len())
    }

    fn write_all(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.len() <= SHORT {
            piece.iter().for_each(|byte| self.0.push(*byte));
        } else {
            self.0.extend_from_slice(piece);
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The value to store for a resource: kind and apiVersion forced, no resourceVersion, storage form applied.
pub fn encode<S: Spec>(resource: &Resource<S>) -> Bytes {
    Bytes::from(to_json(&stored_json(resource)).expect("JSON values always serialise"))
}

fn stored_json<S: Spec>(resource: &Resource<S>) -> Value {
    let mut stored = resource.clone();
    apply_storage_form(S::KIND, &mut stored.metadata);
    if S::KIND.stores_status() && stored.status.is_none() {
        stored.status = Some(S::Status::default());
    }
    serde_json::to_value(&stored).expect("resources are structs with text keys")
}

/// The value to store when `edited` is a changed copy of what [`decode`] made of `stored`: what the edit changed is
/// changed in the stored JSON, and everything else, unknown fields included, stays as it is.
///
/// # Errors
/// As [`decode`].
pub fn merge<S: Spec>(stored: &Entry, edited: &Resource<S>) -> Result<Bytes, DecodeError> {
    let before = stored_json(&decode::<S>(stored)?);
    let after = stored_json(edited);
    let mut raw: Value =
        serde_json::from_slice(&stored.value).map_err(|e| DecodeError::new(&stored.key, &e))?;
    merge_value(&mut raw, &before, &after);
    Ok(Bytes::from(to_json(&raw).expect("JSON values always serialise")))
}

/// As [`merge`], for a resource whose type is known by its kind only.
pub(crate) fn merge_any(stored: &Entry, edited: &AnyResource) -> Result<Bytes, DecodeError> {
    let before = AnyResource::decode(stored)?;
    if before.kind != edited.kind {
        return Err(DecodeError {
            key: stored.key.to_string(),
            reason: format!("not a {}", edited.kind.name()),
        });
    }
    let mut raw: Value =
        serde_json::from_slice(&stored.value).map_err(|e| DecodeError::new(&stored.key, &e))?;
    merge_value(&mut raw, &before.understood(edited).stored_json(), &edited.stored_json());
    Ok(Bytes::from(to_json(&raw).expect("JSON values always serialise")))
}

/// Carries the difference from `before` to `after` over to `raw`, of which `before` is the understood part.
fn merge_value(raw: &mut Value, before: &Value, after: &Value) {
    if before == after {
        return;
    }
    match (raw, before, after) {
        (Value::Object(raw), Value::Object(before), Value::Object(after)) => merge_object(raw, before, after),
        (Value::Array(raw), Value::Array(before), Value::Array(after)) if raw.len() == before.len() => {
            merge_array(raw, before, after);
        }
        (raw, _, after) => *raw = after.clone(),
    }
}

fn merge_object(raw: &mut Map<String, Value>, before: &Map<String, Value>, after: &Map<String, Value>) {
    for key in before.keys().filter(|k| !after.contains_key(*k)) {
        raw.shift_remove(key);
    }
    for (key, value) in after {
        match (raw.get_mut(key), before.get(key)) {
            (Some(raw), Some(before)) => merge_value(raw, before, value),
            (_, Some(before)) if before == value => {}
            _ => {
                raw.insert(key.clone(), value.clone());
            }
        }
    }
}

/// Elements that were there before keep their raw form wherever they stand now; an element changed in place (lists of
/// equal length) is merged; others are new.
fn merge_array(raw: &mut Vec<Value>, before: &[Value], after: &[Value]) {
    // Nothing in it that we do not know: no need to find each element's place (network sets have 100,000).
    if raw == before {
        after.clone_into(raw);
        return;
    }
    let mut used = vec![false; before.len()];
    let mut merged: Vec<Option<Value>> = Vec::with_capacity(after.len());
    for (index, value) in after.iter().enumerate() {
        let same_place = before.get(index).filter(|b| *b == value && !used[index]).map(|_| index);
        let found = same_place.or_else(|| (0..before.len()).find(|i| !used[*i] && before[*i] == *value));
        merged.push(found.map(|i| {
            used[i] = true;
            raw[i].clone()
        }));
    }
    let in_place = before.len() == after.len();
    let elements = merged.into_iter().zip(after).enumerate().map(|(index, (kept, value))| match kept {
        Some(kept) => kept,
        None if in_place && !used[index] => {
            let mut element = raw[index].clone();
            merge_value(&mut element, &before[index], value);
            element
        }
        None => value.clone(),
    });
    *raw = elements.collect();
}

/// What writing does to metadata: no resourceVersion; policies keep their name in an annotation (spec 1 §1.3).
pub(crate) fn apply_storage_form(kind: Kind, metadata: &mut Metadata) {
    metadata.resource_version = SmolStr::default();
    metadata.other.shift_remove("selfLink");
    if kind.is_tiered_policy() {
        let name = serde_json::json!({ "name": metadata.name }).to_string();
        metadata.annotations.insert(SmolStr::new_static(METADATA_ANNOTATION), SmolStr::from(name));
    }
}

/// What reading does to metadata of policies (`tier` is `None` for other kinds): the name comes from the annotation;
/// without one, old writers' `default.` prefix goes in the default tier; a missing tier label is added.
pub(crate) fn undo_storage_form(tier: Option<&str>, metadata: &mut Metadata) {
    let Some(tier) = tier else { return };
    let tier = if tier.is_empty() { DEFAULT_TIER } else { tier };
    match metadata.annotations.remove(METADATA_ANNOTATION) {
        Some(text) => {
            let name = serde_json::from_str::<Value>(&text).ok();
            if let Some(name) = name.as_ref().and_then(|v| v.get("name")).and_then(Value::as_str) {
                metadata.name = SmolStr::new(name);
            }
        }
        None if tier == DEFAULT_TIER => {
            if let Some(name) = metadata.name.strip_prefix("default.") {
                metadata.name = SmolStr::new(name);
            }
        }
        None => {}
    }
    metadata
        .labels
        .entry(SmolStr::new_static(TIER_LABEL))
        .or_insert_with(|| SmolStr::new_static(DEFAULT_TIER));
}

/// The value without object members that are null. Nulls in lists have a meaning and stay.
pub fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (k, without_nulls(v))).collect(),
        ),
        Value::Array(list) => Value::Array(list.into_iter().map(without_nulls).collect()),
        other => other,
    }
}

/// Nulls taken out of `metadata` only: specifications of kinds without a type pass through untouched.
pub(crate) fn without_null_metadata(mut value: Value) -> Value {
    if let Some(metadata) = value.get_mut("metadata") {
        *metadata = without_nulls(metadata.take());
    }
    value
}

/// Labels by text, for literals.
pub fn labels<const N: usize>(pairs: [(&str, &str); N]) -> Labels {
    pairs.into_iter().map(|(k, v)| (SmolStr::new(k), SmolStr::new(v))).collect()
}

#[cfg(test)]
mod tests;
