//! The documents that the suite stores: real ones of each key's kind, since a back end may check and rewrite values.

use bytes::Bytes;
use calico_api::{Entry, Key, Kind, ResourceKey, Revision};
use serde_json::{Value, json};

use crate::watch::WatchEvent;

/// The annotation that carries a test's text.
const ANNOTATION: &str = "contract.test/text";

/// A document that carries a text.
pub(super) fn document(key: &Key, text: &str) -> Bytes {
    let record = match key {
        Key::Resource(ResourceKey { kind, namespace, name }) => resource(*kind, namespace, name, text),
        Key::Block(cidr) => json!({
            "cidr": cidr, "allocations": [], "unallocated": [], "attributes": [],
            "sequenceNumber": number(text),
        }),
        Key::Affinity { .. } => {
            let states = ["confirmed", "pending", "pendingDeletion"];
            json!({ "state": states[number(text) as usize % states.len()], "deleted": false })
        }
        Key::Handle(_) => json!({ "block": { "10.0.0.0/26": number(text) } }),
        Key::IpamConfig => json!({
            "strict_affinity": true, "auto_allocate_blocks": true, "maxBlocksPerHost": number(text) % 1_000,
        }),
        _ => json!({ "x": text }),
    };
    Bytes::from(record.to_string())
}

/// Kinds whose specification a schema does not fill in.
fn resource(kind: Kind, namespace: &str, name: &str, text: &str) -> Value {
    let spec = match kind {
        Kind::IPReservation => json!({ "reservedCIDRs": ["10.0.0.1/32"] }),
        Kind::NetworkSet | Kind::GlobalNetworkSet => json!({ "nets": ["10.0.0.0/8"] }),
        _ => json!({ "tier": "default", "selector": "all()" }),
    };
    let mut metadata = json!({ "name": name, "annotations": { ANNOTATION: text } });
    if !namespace.is_empty() {
        metadata["namespace"] = namespace.into();
    }
    json!({
        "kind": kind.name(), "apiVersion": "projectcalico.org/v3", "metadata": metadata, "spec": spec,
    })
}

/// A number that stands for a text (FNV-1a, of 31 bits so that every schema takes it).
fn number(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)) >> 1
}

/// The text that a resource carries.
pub(super) fn text(value: &[u8]) -> String {
    let document: Value = serde_json::from_slice(value).unwrap_or_default();
    document["metadata"]["annotations"][ANNOTATION].as_str().unwrap_or_default().to_owned()
}

/// What of a value every back end must keep: a resource's text and specification, a record's members that are not
/// their defaults. A server adds metadata and writes members in its own order.
pub(super) fn meaning(value: &[u8]) -> Value {
    match serde_json::from_slice(value) {
        Ok(document @ Value::Object(_)) if document["kind"].is_string() => {
            json!({ "text": text(value), "spec": document["spec"] })
        }
        Ok(Value::Object(record)) => {
            let told = |value: &Value| !value.is_null() && *value != json!(false);
            record.into_iter().filter(|(_, value)| told(value)).collect()
        }
        _ => String::from_utf8_lossy(value).into_owned().into(),
    }
}

/// What a test sees of an entry.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Seen {
    pub(super) key: Key,
    pub(super) meaning: Value,
    pub(super) revision: Revision,
}

/// An entry that carries a text.
pub(super) fn seen(key: &Key, text: &str, revision: &Revision) -> Seen {
    Seen { key: key.clone(), meaning: meaning(&document(key, text)), revision: revision.clone() }
}

impl From<Entry> for Seen {
    fn from(entry: Entry) -> Seen {
        let Entry { key, value, revision } = entry;
        Seen { key, meaning: meaning(&value), revision }
    }
}

/// What a test sees of an event. A deletion's revision is not part of it: not every back end tells the writer.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    Put(Seen),
    Deleted(Key),
}

impl From<WatchEvent> for Event {
    fn from(event: WatchEvent) -> Event {
        match event {
            WatchEvent::Put(entry) => Event::Put(entry.into()),
            WatchEvent::Deleted { key, .. } => Event::Deleted(key),
            WatchEvent::Progress(revision) => panic!("progress to {revision} is not a change"),
        }
    }
}
