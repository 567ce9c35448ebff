//! Users' files: YAML or JSON, one or many documents, read strictly into resources.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::any::AnyResource;
use crate::defaults;
use crate::felix_config::TABLE;
use crate::key::{Kind, Scope};
use crate::meta::{API_VERSION, Metadata, Resource, Spec};
use crate::strict::{self, Reading};
use crate::suggest;
use crate::validate::{ValidationError, validate};
use crate::{
    BGPConfigurationSpec, BGPFilterSpec, BGPPeerSpec, CalicoNodeStatusSpec, ClusterInformationSpec,
    FelixConfigurationSpec, GlobalNetworkPolicySpec, GlobalNetworkSetSpec, HostEndpointSpec,
    IPAMConfigurationSpec, IPPoolSpec, IPReservationSpec, NetworkPolicySpec, NetworkSetSpec, NodeSpec,
    ProfileSpec, TierSpec, WorkloadEndpointSpec,
};

/// Why a file gives no resources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Neither YAML nor JSON.
    #[error("{0}")]
    Syntax(String),
    /// Documents are no resources.
    #[error("{}", lines(.0))]
    Invalid(Vec<Mistake>),
}

/// One thing wrong with one document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {error}")]
pub struct Mistake {
    /// Which document: `document 2 (NetworkPolicy shop/web)`.
    pub place: String,
    /// What is wrong with it.
    pub error: ValidationError,
}

/// One thing in the line of what comes before it, more in lines of their own.
pub fn lines<T: std::fmt::Display>(things: &[T]) -> String {
    match things {
        [thing] => thing.to_string(),
        things => things.iter().map(|thing| format!("\n  {thing}")).collect(),
    }
}

/// What a resource is made of.
const MEMBERS: [&str; 5] = ["kind", "apiVersion", "metadata", "spec", "status"];

/// Metadata that Calico knows.
const METADATA: [&str; 7] =
    ["name", "namespace", "labels", "annotations", "uid", "resourceVersion", "creationTimestamp"];

/// Metadata that Kubernetes objects may have and that passes through.
const OTHER_METADATA: [&str; 9] = [
    "generateName",
    "selfLink",
    "generation",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "ownerReferences",
    "finalizers",
    "managedFields",
    "clusterName",
];

/// The JSON values of all documents in a text of YAML (of which JSON is a part). Empty documents are left out.
///
/// # Errors
/// With line and column, when the text is not YAML or a key occurs twice.
pub fn parse_values(text: &str) -> Result<Vec<Value>, DocumentError> {
    let options = serde_saphyr::options! { budget: budget(text) };
    let values: Vec<Value> = serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|e| DocumentError::Syntax(syntax(&e.to_string())))?;
    Ok(values.into_iter().filter(|v| !v.is_null()).collect())
}

/// What a text may hold: as much as its length can spell, so that a large cluster's own export reads back. The limits of
/// depth, anchors and aliases stay, without which a short text could grow.
fn budget(text: &str) -> Option<serde_saphyr::Budget> {
    // A node has one byte at least; a document begins and ends, and so does a collection of two bytes.
    let (nodes, events) = (text.len() + 1, text.len() * 3 + 8);
    let default = serde_saphyr::Budget::default();
    serde_saphyr::budget! {
        max_documents: default.max_documents.max(nodes),
        max_nodes: default.max_nodes.max(nodes),
        max_events: default.max_events.max(events),
        max_total_scalar_bytes: default.max_total_scalar_bytes.max(nodes),
    }
}

/// The parser's words without its advice to programs that call it, and without the lines that show the text: files
/// hold passwords, and the place is said.
fn syntax(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    message.replace(", set DuplicateKeyPolicy in Options if acceptable", "").replace("error: line", "line")
}

/// A resource of a file.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// Where it stands: `document 2 (NetworkPolicy shop/web)`.
    pub place: String,
    /// As it is written there, without defaults.
    pub resource: AnyResource,
}

/// The resources of a file as [`parse_manifests`] reads them, without their places.
///
/// # Errors
/// Those of [`parse_manifests`].
pub fn parse_documents(text: &str) -> Result<Vec<AnyResource>, DocumentError> {
    Ok(parse_manifests(text)?.into_iter().map(|manifest| manifest.resource).collect())
}

/// The resources of a file, lists taken apart, without defaults. Every field must be known; case of names is forgiven.
///
/// # Errors
/// When a document is not a resource, with everything that is wrong with all of them, rules of validation included.
pub fn parse_manifests(text: &str) -> Result<Vec<Manifest>, DocumentError> {
    let mut documents = Vec::new();
    for (index, value) in parse_values(text)?.into_iter().enumerate() {
        let place = format!("document {}", index + 1);
        documents.extend(items(place, value).into_iter().map(|(place, item)| read_document(&place, &item)));
    }
    manifests(documents)
}

/// A document as far as it can be read.
struct Document {
    place: String,
    resource: Option<AnyResource>,
    errors: Vec<ValidationError>,
    /// Where values were left out of `resource`.
    left_out: BTreeSet<String>,
}

fn manifests(documents: Vec<Document>) -> Result<Vec<Manifest>, DocumentError> {
    if documents.iter().all(|d| d.errors.is_empty()) {
        let manifest =
            |document: Document| Some(Manifest { place: document.place, resource: document.resource? });
        return Ok(documents.into_iter().filter_map(manifest).collect());
    }
    let mistakes = documents.into_iter().flat_map(|document| {
        let Document { place, resource, mut errors, left_out } = document;
        errors.extend(resource.into_iter().flat_map(|r| broken_rules(r, &left_out)));
        errors.into_iter().map(move |error| Mistake { place: place.clone(), error })
    });
    Err(DocumentError::Invalid(mistakes.collect()))
}

/// What validation will say of a resource once it can be read.
fn broken_rules(mut resource: AnyResource, left_out: &BTreeSet<String>) -> Vec<ValidationError> {
    if resource.kind.scope() == Scope::Namespaced && resource.metadata.namespace.is_empty() {
        // The command line gives one.
        resource.metadata.namespace = "default".into();
    }
    defaults::apply(&mut resource);
    let errors = validate(&resource).into_iter();
    errors
        .filter_map(|error| {
            Some(ValidationError { field: strict::path_in_document(&error.field, left_out)?, ..error })
        })
        .collect()
}

/// The members of a list (`kind: List`, `kind: <Kind>List`, or a plain JSON list), or the value itself.
fn items(place: String, value: Value) -> Vec<(String, Value)> {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|k| {
        k.strip_suffix("List")
            .is_some_and(|kind| kind.is_empty() || Kind::ALL.iter().any(|k| k.name() == kind))
    });
    let members = match value {
        Value::Array(members) => members,
        Value::Object(mut map) if is_list => match map.remove("items") {
            Some(Value::Array(members)) => members,
            _ => Vec::new(),
        },
        other => return vec![(place, other)],
    };
    members.into_iter().enumerate().map(|(i, member)| (format!("{place}, item {}", i + 1), member)).collect()
}

/// One resource from its JSON value; `place` says in errors where it stands.
///
/// # Errors
/// With everything that is wrong with it.
pub fn parse_resource(place: &str, value: &Value) -> Result<AnyResource, DocumentError> {
    match read_document(place, value) {
        Document { resource: Some(resource), errors, .. } if errors.is_empty() => Ok(resource),
        Document { place, errors, .. } => {
            let mistakes = errors.into_iter().map(|error| Mistake { place: place.clone(), error });
            Err(DocumentError::Invalid(mistakes.collect()))
        }
    }
}

fn read_document(place: &str, value: &Value) -> Document {
    let metadata = |field: &str| {
        let value = value.get("metadata").and_then(|metadata| metadata.get(field));
        value.and_then(Value::as_str).filter(|text| !text.is_empty())
    };
    let kind_name = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    let name = match (metadata("namespace"), metadata("name")) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        (_, name) => name.unwrap_or_default().to_owned(),
    };
    let place = match (kind_name, name.as_str()) {
        ("", "") => place.to_owned(),
        ("", known) | (known, "") => format!("{place} ({known})"),
        (kind, name) => format!("{place} ({kind} {name})"),
    };
    let mut document = Document { place, resource: None, errors: Vec::new(), left_out: BTreeSet::new() };
    document.read(value, kind_name);
    document
}

impl Document {
    fn read(&mut self, value: &Value, kind_name: &str) {
        let Value::Object(map) = value else {
            self.add("", value, "is no resource; kind, apiVersion, metadata and spec are needed");
            return;
        };
        let Some(kind) = Kind::ALL.iter().copied().find(|k| k.name() == kind_name) else {
            self.add("kind", kind_name, &unknown_kind(kind_name));
            return;
        };
        match map.get("apiVersion").and_then(Value::as_str) {
            Some(API_VERSION) => {}
            Some(other) => self.add("apiVersion", other, &format!("must be {API_VERSION}")),
            None => self.add("apiVersion", "", &format!("is needed; use {API_VERSION}")),
        }
        for (name, value) in map.iter().filter(|(name, _)| !MEMBERS.contains(&name.as_str())) {
            self.add(name, strict::shown(value), &suggest::unknown_field(name, MEMBERS));
        }
        let metadata = self.read_metadata(map.get("metadata"));
        let empty = Value::Object(Map::new());
        let spec = map.get("spec").filter(|v| !v.is_null()).unwrap_or(&empty);
        let status = map.get("status").filter(|v| !v.is_null());
        self.resource = self.read_spec(kind, metadata, spec, status);
    }

    fn add(&mut self, field: &str, value: impl std::fmt::Display, reason: &str) {
        self.errors.push(ValidationError::new(field, value, reason));
    }

    /// What can be read of a part of the document.
    fn part<T: for<'de> serde::Deserialize<'de>>(&mut self, path: &str, value: &Value) -> Option<T> {
        let Reading { value, errors, left_out } = strict::read(path, value);
        self.errors.extend(errors);
        self.left_out.extend(left_out);
        if value.is_none() {
            self.left_out.insert(path.to_owned());
        }
        value
    }

    fn read_metadata(&mut self, value: Option<&Value>) -> Metadata {
        let Some(value) = value.filter(|v| !v.is_null()) else {
            self.add("metadata", "", "is needed");
            self.left_out.insert("metadata".to_owned());
            return Metadata::default();
        };
        let metadata: Metadata = self.part("metadata", value).unwrap_or_default();
        for (name, value) in
            metadata.other.iter().filter(|(name, _)| !OTHER_METADATA.contains(&name.as_str()))
        {
            let reason = suggest::unknown_field(name, METADATA.into_iter().chain(OTHER_METADATA));
            self.add(&strict::join("metadata", name), strict::shown(value), &reason);
        }
        metadata
    }

    fn read_spec(
        &mut self,
        kind: Kind,
        metadata: Metadata,
        spec: &Value,
        status: Option<&Value>,
    ) -> Option<AnyResource> {
        match kind {
            Kind::BGPConfiguration => self.typed::<BGPConfigurationSpec>(metadata, spec, status),
            Kind::BGPFilter => self.typed::<BGPFilterSpec>(metadata, spec, status),
            Kind::BGPPeer => self.typed::<BGPPeerSpec>(metadata, spec, status),
            Kind::CalicoNodeStatus => self.typed::<CalicoNodeStatusSpec>(metadata, spec, status),
            Kind::ClusterInformation => self.typed::<ClusterInformationSpec>(metadata, spec, status),
            Kind::FelixConfiguration => {
                self.typed::<FelixConfigurationSpec>(metadata, &felix_names(spec), status)
            }
            Kind::GlobalNetworkPolicy => self.typed::<GlobalNetworkPolicySpec>(metadata, spec, status),
            Kind::GlobalNetworkSet => self.typed::<GlobalNetworkSetSpec>(metadata, spec, status),
            Kind::HostEndpoint => self.typed::<HostEndpointSpec>(metadata, spec, status),
            Kind::IPAMConfiguration => self.typed::<IPAMConfigurationSpec>(metadata, spec, status),
            Kind::IPPool => self.typed::<IPPoolSpec>(metadata, spec, status),
            Kind::IPReservation => self.typed::<IPReservationSpec>(metadata, spec, status),
            Kind::NetworkPolicy => self.typed::<NetworkPolicySpec>(metadata, spec, status),
            Kind::NetworkSet => self.typed::<NetworkSetSpec>(metadata, spec, status),
            Kind::Node => self.typed::<NodeSpec>(metadata, spec, status),
            Kind::Profile => self.typed::<ProfileSpec>(metadata, spec, status),
            Kind::Tier => self.typed::<TierSpec>(metadata, spec, status),
            Kind::WorkloadEndpoint => self.typed::<WorkloadEndpointSpec>(metadata, spec, status),
            Kind::BlockAffinity
            | Kind::KubeControllersConfiguration
            | Kind::KubernetesClusterNetworkPolicy
            | Kind::KubernetesEndpointSlice
            | Kind::KubernetesNetworkPolicy
            | Kind::KubernetesSecret
            | Kind::KubernetesService
            | Kind::StagedGlobalNetworkPolicy
            | Kind::StagedKubernetesNetworkPolicy
            | Kind::StagedNetworkPolicy => match spec {
                Value::Object(spec) => {
                    Some(AnyResource { kind, metadata, spec: spec.clone(), status: status.cloned() })
                }
                other => {
                    self.add("spec", other, "must be a map");
                    None
                }
            },
        }
    }

    fn typed<S: Spec>(
        &mut self,
        metadata: Metadata,
        spec: &Value,
        status: Option<&Value>,
    ) -> Option<AnyResource> {
        let spec = self.part::<S>("spec", spec);
        let status = status.and_then(|s| self.part::<S::Status>("status", s));
        Some(AnyResource::from(&Resource { metadata, spec: spec?, status }))
    }
}

/// What is wrong with a kind that is none, perhaps one in the spelling of the command line.
fn unknown_kind(name: &str) -> String {
    if name.is_empty() {
        return "is needed; use one such as NetworkPolicy".to_owned();
    }
    let nearest = || suggest::nearest(name, Kind::ALL.iter().map(|kind| kind.name()));
    match Kind::from_alias(name).map(Kind::name).or_else(nearest) {
        Some(kind) => format!("is no kind of resource; did you mean {kind:?}?"),
        None => "is no kind of resource; use one of Calico's, such as NetworkPolicy".to_owned(),
    }
}

/// Options of the agent under their canonical names; unknown ones stay, for validation to report.
fn felix_names(spec: &Value) -> Value {
    let Value::Object(map) = spec else { return spec.clone() };
    let canonical = |name: &str| {
        let row = TABLE.iter().find(|r| !r.resource.is_empty() && r.resource.eq_ignore_ascii_case(name));
        match row {
            Some(row) => row.resource.to_owned(),
            None if name.eq_ignore_ascii_case("nodeSelector") => "nodeSelector".to_owned(),
            None => name.to_owned(),
        }
    };
    map.iter().filter(|(_, v)| !v.is_null()).map(|(k, v)| (canonical(k), v.clone())).collect()
}

#[cfg(test)]
mod tests;
