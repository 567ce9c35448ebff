//! Secret → KubernetesSecret: what passwords of BGP sessions are in. An agent follows those that it needs by name, and
//! may have no right to others.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::object::ObjectMeta;
use crate::codec;
use crate::key::{Key, Kind};
use crate::meta::{NoStatus, Resource, Spec};
use crate::record::{Entry, Revision};

/// A Secret as Kubernetes has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Secret {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What it holds.
    pub data: SecretData,
}

/// Values in base64, by key. Never shown.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretData(BTreeMap<SmolStr, String>);

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl SecretData {
    /// The values themselves. One that is not base64 is left out: the API server refuses such.
    pub fn decoded(&self) -> BTreeMap<SmolStr, Vec<u8>> {
        let decode =
            |(key, text): (&SmolStr, &String)| Some((key.clone(), BASE64_STANDARD.decode(text).ok()?));
        self.0.iter().filter_map(decode).collect()
    }
}

/// A secret of Kubernetes'.
pub type KubernetesSecret = Resource<SecretSpec>;

/// What a secret is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SecretSpec {
    /// What it holds.
    pub data: SecretData,
}

impl Spec for SecretSpec {
    const KIND: Kind = Kind::KubernetesSecret;
    type Status = NoStatus;
}

/// The secret.
pub fn entry(secret: &Secret) -> Entry {
    let Secret { metadata: meta, data } = secret;
    let key = Key::resource(Kind::KubernetesSecret, &meta.namespace, &meta.name);
    let metadata = meta.derived(meta.name.clone(), meta.uid.clone());
    let spec = SecretSpec { data: data.clone() };
    let value = codec::encode(&Resource { metadata, spec, status: None });
    Entry { key, value, revision: Revision(meta.resource_version.clone()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubernetes::decode;

    #[test]
    fn values_come_through_and_are_not_shown() {
        let json = br#"{"metadata": {"name": "bgp", "namespace": "kube-system", "resourceVersion": "5"},
            "type": "Opaque", "data": {"mesh": "aGlkZGVu", "bad": "?"}}"#;
        let secret: Secret = decode(json).unwrap();
        let entry = entry(&secret);
        assert_eq!(entry.key, Key::resource(Kind::KubernetesSecret, "kube-system", "bgp"));
        let read = codec::decode::<SecretSpec>(&entry).unwrap();
        assert_eq!(read.spec.data.decoded(), [("mesh".into(), b"hidden".to_vec())].into());
        assert!(!format!("{secret:?} {read:?}").contains("aGlkZGVu"));
        // One without data holds nothing.
        let empty: Secret = decode(br#"{"metadata": {"name": "bgp"}, "data": null}"#).unwrap();
        assert!(empty.data.decoded().is_empty());
    }
}
