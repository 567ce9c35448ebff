//! What every resource shares: the envelope and its metadata (spec 1 §1.2).

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::{Kind, ResourceKey};

/// `apiVersion` of every resource.
pub const API_VERSION: &str = "projectcalico.org/v3";

/// Labels: sorted, so that equal sets serialise equally.
pub type Labels = std::collections::BTreeMap<SmolStr, SmolStr>;

/// Object metadata, the part of Kubernetes' ObjectMeta that Calico stores.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Metadata {
    /// Unique within kind (and namespace).
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// Empty for cluster-scoped kinds.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub namespace: SmolStr,
    /// Random UUIDv4 that the creating client chose.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub uid: SmolStr,
    /// Set on read from the backend's revision; never stored.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub resource_version: SmolStr,
    /// RFC 3339, UTC, whole seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub creation_timestamp: Option<SmolStr>,
    /// What selectors match.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Free text; Calico keeps some of its own there.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
    /// Fields of metadata that we do not interpret (ownerReferences, finalizers, …): kept as they are.
    #[serde(flatten)]
    pub other: IndexMap<String, serde_json::Value>,
}

/// A resource's specification: what ties a Rust type to its kind.
pub trait Spec: Clone + std::fmt::Debug + PartialEq + Serialize + for<'de> Deserialize<'de> {
    /// The kind that carries this specification.
    const KIND: Kind;
    /// The kind's status; [`NoStatus`] where it has none.
    type Status: Clone + Default + std::fmt::Debug + PartialEq + Serialize + for<'de> Deserialize<'de>;

    /// The tier named, for policies; `None` for other kinds.
    fn tier(&self) -> Option<&str> {
        None
    }
}

/// The status of kinds that have none: whatever is stored there is passed over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoStatus {}

/// A status that is a list of conditions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Conditions {
    /// Each type at most once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// One condition, as Kubernetes defines them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// What it is about, such as `Ready`.
    #[serde(rename = "type")]
    pub condition_type: SmolStr,
    /// `True`, `False` or `Unknown`.
    pub status: SmolStr,
    /// The generation it was observed at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When it last changed, RFC 3339.
    pub last_transition_time: SmolStr,
    /// One word.
    pub reason: SmolStr,
    /// A sentence.
    pub message: SmolStr,
}

/// One object of the API: kind, apiVersion, metadata, spec and, for some kinds, status.
#[derive(Clone, Debug, PartialEq)]
pub struct Resource<S: Spec> {
    /// Name, labels and the rest.
    pub metadata: Metadata,
    /// What the user wants.
    pub spec: S,
    /// What the system reports, where the kind has it.
    pub status: Option<S::Status>,
}

impl<S: Spec> Resource<S> {
    /// A resource with a name (and namespace, `""` for cluster-scoped kinds) and no other metadata.
    pub fn new(namespace: &str, name: &str, spec: S) -> Resource<S> {
        let metadata =
            Metadata { name: SmolStr::new(name), namespace: SmolStr::new(namespace), ..Metadata::default() };
        Resource { metadata, spec, status: None }
    }

    /// The key under which it is stored.
    pub fn key(&self) -> ResourceKey {
        ResourceKey {
            kind: S::KIND,
            namespace: self.metadata.namespace.clone(),
            name: self.metadata.name.clone(),
        }
    }
}

#[derive(Serialize)]
struct EnvelopeRef<'a, S: Spec> {
    kind: &'static str,
    #[serde(rename = "apiVersion")]
    api_version: &'static str,
    metadata: &'a Metadata,
    spec: &'a S,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a S::Status>,
}

#[derive(Deserialize)]
#[serde(bound = "")]
struct Envelope<S: Spec> {
    kind: Option<String>,
    #[serde(default)]
    metadata: Metadata,
    spec: Option<S>,
    #[serde(default = "Option::default")]
    status: Option<S::Status>,
}

impl<S: Spec> Serialize for Resource<S> {
    fn serialize<Z: serde::Serializer>(&self, s: Z) -> Result<Z::Ok, Z::Error> {
        let Resource { metadata, spec, status } = self;
        EnvelopeRef {
            kind: S::KIND.name(),
            api_version: API_VERSION,
            metadata,
            spec,
            status: status.as_ref(),
        }
        .serialize(s)
    }
}

impl<'de, S: Spec> Deserialize<'de> for Resource<S> {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        let Envelope { kind, metadata, spec, status } = Envelope::<S>::deserialize(d)?;
        if let Some(kind) = kind.filter(|k| k != S::KIND.name()) {
            return Err(D::Error::custom(format!("kind is {kind:?}, expected {:?}", S::KIND.name())));
        }
        let spec = match spec {
            Some(spec) => spec,
            None => {
                S::deserialize(serde_json::json!({})).map_err(|e| D::Error::custom(format!("spec: {e}")))?
            }
        };
        Ok(Resource { metadata, spec, status })
    }
}
