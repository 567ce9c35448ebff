//! What native objects share: their metadata, how they are read, and how labels are selected.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use smol_str::SmolStr;

use crate::codec::without_nulls;
use crate::meta::{Labels, Metadata};

/// The part of an object's metadata that Calico uses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Unique within kind (and namespace).
    pub name: SmolStr,
    /// Empty for objects of the cluster.
    pub namespace: SmolStr,
    /// The beginning of a name that the server completed.
    pub generate_name: SmolStr,
    /// Chosen by the server.
    pub uid: SmolStr,
    /// The version of the object; opaque.
    pub resource_version: SmolStr,
    /// RFC 3339.
    pub creation_timestamp: Option<SmolStr>,
    /// Set while the object is being deleted, RFC 3339.
    pub deletion_timestamp: Option<SmolStr>,
    /// What selectors match.
    pub labels: Labels,
    /// Free text.
    pub annotations: Labels,
}

impl ObjectMeta {
    /// An annotation's value; an empty one is none.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.get(key).map(SmolStr::as_str).filter(|text| !text.is_empty())
    }

    /// Metadata of a resource that is made from the object, but for name, labels and annotations. It cannot have the
    /// object's UID, which belongs to another kind: `uid` is the one it has instead.
    pub(crate) fn derived(&self, name: SmolStr, uid: SmolStr) -> Metadata {
        Metadata {
            name,
            namespace: self.namespace.clone(),
            uid,
            creation_timestamp: self.creation_timestamp.clone(),
            ..Metadata::default()
        }
    }
}

/// Reads an object from JSON. Null counts as absent: servers in Go write empty lists and times so.
///
/// # Errors
/// When a field in use has another type.
pub fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(json).or_else(|first| {
        // Nulls are rare; only then is the slow way through a JSON value taken.
        let value: Value = serde_json::from_slice(json)?;
        serde_json::from_value(without_nulls(value)).map_err(|_| first)
    })
}
