//! Namespace → Profile `kns.<namespace>` (spec 1 §3.6).

use serde::Deserialize;

use super::names;
use super::object::ObjectMeta;
use super::profile::{self, NAMESPACE_LABELS, ProfileRevision};
use crate::profile::ProfileSpec;
use crate::record::Entry;

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Namespace {
    /// Name, labels and annotations.
    pub metadata: ObjectMeta,
}

/// The profile of a namespace. It allows everything: pods that no policy selects are open because of it.
pub fn entry(namespace: &Namespace) -> Entry {
    let Namespace { metadata } = namespace;
    let spec = ProfileSpec {
        labels_to_apply: profile::labels_to_apply(NAMESPACE_LABELS, metadata),
        ..ProfileSpec::allow_all()
    };
    let revision =
        ProfileRevision { namespaces: metadata.resource_version.clone(), ..ProfileRevision::default() };
    profile::entry(names::namespace_profile(&metadata.name), metadata, spec, revision)
}
