//! Users' files: YAML or JSON, one or many documents, read strictly into resources.

use serde_json::{Map, Value};

use crate::any::AnyResource;
use crate::felix_config::TABLE;
use crate::key::Kind;
use crate::meta::{API_VERSION, Metadata, Resource, Spec};
use crate::strict;
use crate::validate::ValidationError;
use crate::{
    BGPConfigurationSpec, BGPFilterSpec, BGPPeerSpec, ClusterInformationSpec, FelixConfigurationSpec,
    GlobalNetworkPolicySpec, GlobalNetworkSetSpec, HostEndpointSpec, IPAMConfigurationSpec, IPPoolSpec,
    IPReservationSpec, NetworkPolicySpec, NetworkSetSpec, NodeSpec, ProfileSpec, TierSpec,
    WorkloadEndpointSpec,
};

/// Why a file gives no resources.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentError {
    /// Neither YAML nor JSON.
    #[error("{0}")]
    Syntax(String),
    /// A document is no resource.
    #[error("{place}: {}", list(errors))]
    Invalid {
        /// Which: `document 2 (NetworkPolicy a.b)`.
        place: String,
        /// Everything wrong with it.
        errors: Vec<ValidationError>,
    },
}

fn list(errors: &[ValidationError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

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
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).map_err(|e| DocumentError::Syntax(syntax(&e.to_string())))?;
    Ok(values.into_iter().filter(|v| !v.is_null()).collect())
}

/// The parser's words without its advice to programs that call it.
fn syntax(message: &str) -> String {
    message.replace(", set DuplicateKeyPolicy in Options if acceptable", "").replace("error: line", "line")
}

/// The resources of a file, lists taken apart, without defaults. Every field must be known; case of names is forgiven.
///
/// # Errors
/// At the first document that is not a resource, with everything that is wrong with it.
pub fn parse_documents(text: &str) -> Result<Vec<AnyResource>, DocumentError> {
    let mut resources = Vec::new();
    for (index, value) in parse_values(text)?.into_iter().enumerate() {
        let place = format!("document {}", index + 1);
        for (item_place, item) in items(place, value) {
            resources.push(parse_resource(&item_place, &item)?);
        }
    }
    Ok(resources)
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
    let name = value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let kind_name = value.get("kind").and_then(Value::as_str).unwrap_or_default();
    let place = match (kind_name, name) {
        ("", _) => place.to_owned(),
        (kind, "") => format!("{place} ({kind})"),
        (kind, name) => format!("{place} ({kind} {name})"),
    };
    read_resource(value, kind_name).map_err(|errors| DocumentError::Invalid { place, errors })
}

fn error(field: &str, value: impl Into<String>, reason: impl Into<String>) -> ValidationError {
    ValidationError { field: field.to_owned(), value: value.into(), reason: reason.into() }
}

fn read_resource(value: &Value, kind_name: &str) -> Result<AnyResource, Vec<ValidationError>> {
    let Value::Object(map) = value else {
        return Err(vec![error(
            "",
            value.to_string(),
            "is no resource: kind, apiVersion, metadata and spec are needed",
        )]);
    };
    let Some(kind) = Kind::ALL.iter().copied().find(|k| k.name() == kind_name) else {
        let reason = if kind_name.is_empty() { "is needed" } else { "is no kind of resource" };
        return Err(vec![error("kind", kind_name, reason)]);
    };
    let mut errors = Vec::new();
    match map.get("apiVersion").and_then(Value::as_str) {
        Some(API_VERSION) => {}
        other => {
            errors.push(error("apiVersion", other.unwrap_or_default(), format!("must be {API_VERSION}")))
        }
    }
    for name in
        map.keys().filter(|k| !["kind", "apiVersion", "metadata", "spec", "status"].contains(&k.as_str()))
    {
        errors.push(error(name, "", "this field is not known here: it is misspelt or in the wrong place"));
    }
    let metadata = read_metadata(map.get("metadata"), &mut errors);
    let empty = Value::Object(Map::new());
    let spec = map.get("spec").filter(|v| !v.is_null()).unwrap_or(&empty);
    let status = map.get("status").filter(|v| !v.is_null());
    let read = read_spec(kind, metadata, spec, status);
    match read {
        Ok(resource) if errors.is_empty() => Ok(resource),
        Ok(_) => Err(errors),
        Err(more) => {
            errors.extend(more);
            Err(errors)
        }
    }
}

fn read_metadata(value: Option<&Value>, errors: &mut Vec<ValidationError>) -> Metadata {
    let Some(value) = value.filter(|v| !v.is_null()) else {
        errors.push(error("metadata", "", "is needed"));
        return Metadata::default();
    };
    match strict::from_value::<Metadata>("metadata", value) {
        Ok(metadata) => {
            for name in metadata.other.keys().filter(|k| !OTHER_METADATA.contains(&k.as_str())) {
                let reason = "this field is not known here: it is misspelt or in the wrong place";
                errors.push(error(&strict::join("metadata", name), "", reason));
            }
            metadata
        }
        Err(more) => {
            errors.extend(more);
            Metadata::default()
        }
    }
}

fn read_spec(
    kind: Kind,
    metadata: Metadata,
    spec: &Value,
    status: Option<&Value>,
) -> Result<AnyResource, Vec<ValidationError>> {
    match kind {
        Kind::BGPConfiguration => typed::<BGPConfigurationSpec>(metadata, spec, status),
        Kind::BGPFilter => typed::<BGPFilterSpec>(metadata, spec, status),
        Kind::BGPPeer => typed::<BGPPeerSpec>(metadata, spec, status),
        Kind::ClusterInformation => typed::<ClusterInformationSpec>(metadata, spec, status),
        Kind::FelixConfiguration => typed::<FelixConfigurationSpec>(metadata, &felix_names(spec), status),
        Kind::GlobalNetworkPolicy => typed::<GlobalNetworkPolicySpec>(metadata, spec, status),
        Kind::GlobalNetworkSet => typed::<GlobalNetworkSetSpec>(metadata, spec, status),
        Kind::HostEndpoint => typed::<HostEndpointSpec>(metadata, spec, status),
        Kind::IPAMConfiguration => typed::<IPAMConfigurationSpec>(metadata, spec, status),
        Kind::IPPool => typed::<IPPoolSpec>(metadata, spec, status),
        Kind::IPReservation => typed::<IPReservationSpec>(metadata, spec, status),
        Kind::NetworkPolicy => typed::<NetworkPolicySpec>(metadata, spec, status),
        Kind::NetworkSet => typed::<NetworkSetSpec>(metadata, spec, status),
        Kind::Node => typed::<NodeSpec>(metadata, spec, status),
        Kind::Profile => typed::<ProfileSpec>(metadata, spec, status),
        Kind::Tier => typed::<TierSpec>(metadata, spec, status),
        Kind::WorkloadEndpoint => typed::<WorkloadEndpointSpec>(metadata, spec, status),
        Kind::BlockAffinity
        | Kind::CalicoNodeStatus
        | Kind::KubeControllersConfiguration
        | Kind::KubernetesClusterNetworkPolicy
        | Kind::KubernetesEndpointSlice
        | Kind::KubernetesNetworkPolicy
        | Kind::KubernetesService
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedKubernetesNetworkPolicy
        | Kind::StagedNetworkPolicy => match spec {
            Value::Object(spec) => {
                Ok(AnyResource { kind, metadata, spec: spec.clone(), status: status.cloned() })
            }
            other => Err(vec![error("spec", other.to_string(), "must be an object")]),
        },
    }
}

fn typed<S: Spec>(
    metadata: Metadata,
    spec: &Value,
    status: Option<&Value>,
) -> Result<AnyResource, Vec<ValidationError>> {
    let spec = strict::from_value::<S>("spec", spec);
    let status = status.map(|s| strict::from_value::<S::Status>("status", s)).transpose();
    match (spec, status) {
        (Ok(spec), Ok(status)) => Ok(AnyResource::from(&Resource { metadata, spec, status })),
        (spec, status) => Err(spec.err().into_iter().chain(status.err()).flatten().collect()),
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
