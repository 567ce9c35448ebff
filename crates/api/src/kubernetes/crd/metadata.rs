//! Metadata of custom resources (spec 1 §3.3). In `projectcalico.org/v3` it is the resource's own. In
//! `crd.projectcalico.org/v1` all of it is in one annotation, so that the object's own labels and annotations are free
//! for others; UIDs are translated.

use serde_json::{Map, Value, json};
use smol_str::SmolStr;

use super::{ApiGroup, OLD_PREFIX};
use crate::codec::without_nulls;
use crate::kubernetes::uid;
use crate::meta::{API_VERSION, Labels, Metadata};
use crate::tier::DEFAULT_TIER;

/// The annotation that holds a resource's metadata.
const ANNOTATION: &str = "projectcalico.org/metadata";
/// Labels and annotations with one of these in the key stand on the object as well.
const CARRIED: [&str; 2] = ["projectcalico.org/", "operator.tigera.io/"];
/// The members of an object's metadata that every write decides; others stay as they are stored.
pub(super) const REWRITTEN: [&str; 7] =
    ["name", "namespace", "uid", "resourceVersion", "labels", "annotations", "ownerReferences"];
/// What the API server keeps for itself, of no use to Calico.
const SERVERS_OWN: [&str; 2] = ["managedFields", "selfLink"];

/// The metadata of a resource in the metadata of its object; `tier` of those in one.
pub(super) fn unpack(group: ApiGroup, tier: Option<&str>, meta: Value) -> Result<Metadata, String> {
    let fail = |error: serde_json::Error| format!("metadata: {error}");
    let mut object: Metadata = serde_json::from_value(without_nulls(meta)).map_err(fail)?;
    object.other.retain(|field, _| !SERVERS_OWN.contains(&field.as_str()));
    match group {
        ApiGroup::ProjectCalicoV3 => Ok(object),
        ApiGroup::CrdV1 => {
            let packed = match object.annotations.remove(ANNOTATION) {
                Some(text) => serde_json::from_str::<Value>(&text)
                    .and_then(|value| serde_json::from_value(without_nulls(value)))
                    .map_err(|error| format!("metadata.annotations[{ANNOTATION}]: {error}"))?,
                None => Metadata::default(),
            };
            Ok(unpack_v1(tier, object, packed))
        }
    }
}

fn unpack_v1(tier: Option<&str>, object: Metadata, packed: Metadata) -> Metadata {
    let merged = |object: Labels, packed: Labels| {
        let mut all = object;
        all.extend(packed);
        all
    };
    let name = match tier {
        Some(_) if !packed.name.is_empty() => packed.name,
        // Old writers kept no name, and put the tier's before it.
        Some("" | DEFAULT_TIER) => match object.name.strip_prefix(OLD_PREFIX) {
            Some(name) if !name.is_empty() => SmolStr::new(name),
            _ => object.name,
        },
        _ => object.name,
    };
    let mut other = packed.other;
    if let Some(owners) = object.other.get("ownerReferences") {
        other.insert("ownerReferences".to_owned(), owners.clone());
    }
    if let Some(owners) = other.get_mut("ownerReferences") {
        for owner in owners.as_array_mut().into_iter().flatten() {
            // Old writers did not translate: what says v3 is of the custom resource, too.
            translate_owner(owner, &[ApiGroup::CrdV1.api_version(), API_VERSION], API_VERSION);
        }
    }
    Metadata {
        name,
        namespace: object.namespace,
        uid: uid::reversed(&object.uid).unwrap_or(object.uid),
        resource_version: object.resource_version,
        creation_timestamp: packed.creation_timestamp.or(object.creation_timestamp),
        labels: merged(object.labels, packed.labels),
        annotations: merged(object.annotations, packed.annotations),
        other,
    }
}

/// The metadata of the object, so named, that holds a resource.
pub(super) fn pack(group: ApiGroup, policy: bool, name: SmolStr, metadata: Metadata) -> Map<String, Value> {
    match group {
        ApiGroup::ProjectCalicoV3 => members(&Metadata { name, ..metadata }),
        ApiGroup::CrdV1 => pack_v1(policy, name, metadata),
    }
}

fn pack_v1(policy: bool, name: SmolStr, mut metadata: Metadata) -> Map<String, Value> {
    let owners = metadata.other.get_mut("ownerReferences");
    let owners = owners.and_then(Value::as_array_mut).map(|owners| {
        for owner in owners.iter_mut() {
            translate_owner(owner, &[API_VERSION], ApiGroup::CrdV1.api_version());
        }
        owners.clone()
    });
    let carried = |labels: &Labels| -> Labels {
        let ours = |key: &SmolStr| CARRIED.iter().any(|prefix| key.contains(prefix));
        labels.iter().filter(|(key, _)| ours(key)).map(|(k, v)| (k.clone(), v.clone())).collect()
    };
    let mut object = Metadata {
        name,
        namespace: std::mem::take(&mut metadata.namespace),
        uid: uid::reversed(&metadata.uid).unwrap_or_else(|| metadata.uid.clone()),
        labels: carried(&metadata.labels),
        annotations: carried(&metadata.annotations),
        ..Metadata::default()
    };
    metadata.uid = SmolStr::default();
    metadata.resource_version = SmolStr::default();
    if !policy {
        metadata.name = SmolStr::default();
    }
    let packed = Value::Object(members(&metadata)).to_string();
    object.annotations.insert(SmolStr::new_static(ANNOTATION), SmolStr::from(packed));
    let mut object = members(&object);
    if let Some(owners) = owners {
        object.insert("ownerReferences".to_owned(), Value::Array(owners));
    }
    object
}

fn members(metadata: &Metadata) -> Map<String, Value> {
    match serde_json::to_value(metadata) {
        Ok(Value::Object(members)) => members,
        _ => unreachable!("metadata is a struct with text keys"),
    }
}

/// Gives an owner of Calico's the other API version and the other UID; owners of other groups stay.
fn translate_owner(owner: &mut Value, from: &[&str], to: &str) {
    let Some(owner) = owner.as_object_mut() else { return };
    if !owner.get("apiVersion").and_then(Value::as_str).is_some_and(|version| from.contains(&version)) {
        return;
    }
    owner.insert("apiVersion".to_owned(), to.into());
    if let Some(other) = owner.get("uid").and_then(Value::as_str).and_then(uid::reversed) {
        owner.insert("uid".to_owned(), json!(other));
    }
}
