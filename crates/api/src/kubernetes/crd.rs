//! Custom resources ↔ entries of the datastore (spec 1 §3.2–3.4).
//!
//! A custom resource is JSON here: what we do not know in it survives. [`entry`] gives the entry as etcd would hold it;
//! [`object`] gives the object to create or to replace the stored one with.
//!
//! Kubernetes cannot compare and delete: [`mark_deleted`] and put the object at its revision (from then on it counts as
//! absent, see [`is_deleted`]), then delete it with its UID and revision as preconditions. Who finds a marked object
//! finishes its deletion.

mod metadata;
mod record;

use serde_json::{Map, Value, json};
use smol_str::SmolStr;

use super::{ApiGroup, ConversionError, names};
use crate::any::AnyResource;
use crate::key::{Key, Kind, ResourceKey, Scope};
use crate::meta::Metadata;
use crate::record::{Entry, Revision, Selection};

/// How old writers began the names of policies in the default tier.
const OLD_PREFIX: &str = "default.";

/// One resource type of the API server's: the custom resources of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// Calico's resources of a kind.
    Resource(Kind),
    /// IPAM's blocks.
    Blocks,
    /// Claims of blocks.
    Affinities,
    /// IPAM's handles.
    Handles,
    /// IPAM's configuration. The kind IPAMConfiguration is another view of the same object.
    IpamConfig,
}

impl Table {
    /// Where a key's object is; `None` for what is no custom resource (nodes, pods, profiles, Kubernetes' own policies)
    /// and for what the Kubernetes datastore does not hold (status reports).
    pub fn of(key: &Key) -> Option<Table> {
        match key {
            Key::Resource(ResourceKey { kind, .. }) => Table::of_kind(*kind),
            Key::Block(_) => Some(Table::Blocks),
            Key::Affinity { .. } => Some(Table::Affinities),
            Key::Handle(_) => Some(Table::Handles),
            Key::IpamConfig => Some(Table::IpamConfig),
            Key::IpamHost(_)
            | Key::FelixStatus(_)
            | Key::FelixLastStatus(_)
            | Key::WorkloadStatus { .. }
            | Key::HostStatus { .. } => None,
        }
    }

    /// Where the objects of a selection are; `None` as for [`Table::of`].
    pub fn of_selection(selection: &Selection) -> Option<Table> {
        match selection {
            Selection::Resources { kind, .. } => Table::of_kind(*kind),
            Selection::Resource(key) => Table::of_kind(key.kind),
            Selection::Blocks(_) => Some(Table::Blocks),
            Selection::Affinities { .. } => Some(Table::Affinities),
            Selection::Handles => Some(Table::Handles),
            Selection::Statuses(_) => None,
        }
    }

    fn of_kind(kind: Kind) -> Option<Table> {
        match kind {
            Kind::KubernetesClusterNetworkPolicy
            | Kind::KubernetesEndpointSlice
            | Kind::KubernetesNetworkPolicy
            | Kind::KubernetesSecret
            | Kind::KubernetesService
            | Kind::Node
            | Kind::Profile
            | Kind::WorkloadEndpoint => None,
            Kind::BGPConfiguration
            | Kind::BGPFilter
            | Kind::BGPPeer
            | Kind::BlockAffinity
            | Kind::CalicoNodeStatus
            | Kind::ClusterInformation
            | Kind::FelixConfiguration
            | Kind::GlobalNetworkPolicy
            | Kind::GlobalNetworkSet
            | Kind::HostEndpoint
            | Kind::IPAMConfiguration
            | Kind::IPPool
            | Kind::IPReservation
            | Kind::KubeControllersConfiguration
            | Kind::NetworkPolicy
            | Kind::NetworkSet
            | Kind::StagedGlobalNetworkPolicy
            | Kind::StagedKubernetesNetworkPolicy
            | Kind::StagedNetworkPolicy
            | Kind::Tier => Some(Table::Resource(kind)),
        }
    }

    /// `kind` of its objects.
    pub fn kind(self, group: ApiGroup) -> &'static str {
        match (self, group) {
            (Table::IpamConfig | Table::Resource(Kind::IPAMConfiguration), ApiGroup::CrdV1) => "IPAMConfig",
            (Table::IpamConfig, ApiGroup::ProjectCalicoV3) => Kind::IPAMConfiguration.name(),
            (Table::Resource(kind), _) => kind.name(),
            (Table::Blocks, _) => "IPAMBlock",
            (Table::Affinities, _) => Kind::BlockAffinity.name(),
            (Table::Handles, _) => "IPAMHandle",
        }
    }

    /// The segment of its path: `/apis/<group>/<version>/[namespaces/<namespace>/]<plural>/<name>`.
    pub fn plural(self, group: ApiGroup) -> &'static str {
        match (self, group) {
            (Table::IpamConfig | Table::Resource(Kind::IPAMConfiguration), ApiGroup::CrdV1) => "ipamconfigs",
            (Table::IpamConfig, ApiGroup::ProjectCalicoV3) => Kind::IPAMConfiguration.plural(),
            (Table::Resource(kind), _) => kind.plural(),
            (Table::Blocks, _) => "ipamblocks",
            (Table::Affinities, _) => Kind::BlockAffinity.plural(),
            (Table::Handles, _) => "ipamhandles",
        }
    }

    /// Whether its objects live in namespaces.
    pub fn scope(self) -> Scope {
        match self {
            Table::Resource(kind) => kind.scope(),
            Table::Blocks | Table::Affinities | Table::Handles | Table::IpamConfig => Scope::Cluster,
        }
    }

    /// Whether the status of its objects is written by a request of its own (`…/<name>/status`): a put of the object
    /// leaves it as it is.
    pub fn has_status(self) -> bool {
        matches!(
            self,
            Table::Resource(
                Kind::CalicoNodeStatus | Kind::IPPool | Kind::KubeControllersConfiguration | Kind::Tier
            )
        )
    }
}

/// The name of the custom resource of a key; `None` where [`Table::of`] is.
pub fn object_name(key: &Key) -> Option<SmolStr> {
    Table::of(key)?;
    match key {
        Key::Resource(key) => Some(key.name.clone()),
        Key::Block(cidr) => Some(names::block(*cidr)),
        Key::Affinity { owner, block } => Some(names::affinity(owner.name(), *block)),
        Key::Handle(id) => Some(names::handle(id)),
        Key::IpamConfig => Some(SmolStr::new_static(names::DEFAULT)),
        _ => None,
    }
}

/// What old writers called the custom resource of a policy of the default tier, where [`object_name`] finds none.
pub fn old_object_name(key: &Key) -> Option<SmolStr> {
    match key {
        Key::Resource(key) if key.kind.is_tiered_policy() => {
            Some(SmolStr::from(format!("{OLD_PREFIX}{}", key.name)))
        }
        _ => None,
    }
}

/// Reads a custom resource of a table. What is marked as deleted is read like the rest: see [`is_deleted`].
///
/// # Errors
/// When it is no object of the table's kind; the message names it.
pub fn entry(table: Table, group: ApiGroup, object: Value) -> Result<Entry, ConversionError> {
    let label = label(table, group, &object);
    let fail = |reason: String| ConversionError::new(&label, reason);
    let Value::Object(mut object) = object else { return Err(fail("is no JSON object".to_owned())) };
    let meta = object.remove("metadata").unwrap_or_default();
    let revision = match meta.get("resourceVersion").and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Revision(SmolStr::new(text)),
        _ => return Err(fail("metadata.resourceVersion is missing".to_owned())),
    };
    let (key, value) = match table {
        Table::Resource(kind) => {
            let name = meta.get("name").and_then(Value::as_str).unwrap_or_default();
            if name.is_empty() {
                return Err(fail("metadata.name is missing".to_owned()));
            }
            let mut resource = AnyResource::from_json(kind, Value::Object(object))
                .map_err(|error| fail(error.to_string()))?;
            resource.metadata = metadata::unpack(group, resource.tier(), meta).map_err(fail)?;
            (Key::Resource(resource.key()), resource.encode())
        }
        _ => {
            let spec = match object.remove("spec") {
                Some(Value::Object(spec)) => spec,
                _ => return Err(fail("spec is missing".to_owned())),
            };
            record::read(table, spec).map_err(fail)?
        }
    };
    Ok(Entry { key, value, revision })
}

/// The custom resource that holds a value, to create it (no revision) or to replace what is stored at a revision.
/// With the stored object at hand, what it holds outside of specification, status, labels and annotations (finalizers)
/// stays.
///
/// # Errors
/// When the key has no custom resource, or the value is not what the key promises.
pub fn object(
    group: ApiGroup,
    key: &Key,
    value: &[u8],
    revision: Option<&Revision>,
    stored: Option<&Value>,
) -> Result<Value, ConversionError> {
    let fail = |reason: String| ConversionError::new(key, reason);
    let (Some(table), Some(name)) = (Table::of(key), object_name(key)) else {
        return Err(fail("the Kubernetes datastore has no custom resource for this key".to_owned()));
    };
    let Content { metadata, spec, status } = content(group, key, value).map_err(fail)?;
    let stored = stored.and_then(|stored| stored.get("metadata")).and_then(Value::as_object);
    // A policy of old writers' is called otherwise, and stays so.
    let stored_name = stored.and_then(|stored| stored.get("name")).and_then(Value::as_str);
    let name = stored_name.map_or(name, SmolStr::new);
    let policy = matches!(table, Table::Resource(kind) if kind.is_tiered_policy());
    let mut meta = metadata::pack(group, policy, name, metadata);
    for (field, value) in stored.into_iter().flatten() {
        if !metadata::REWRITTEN.contains(&field.as_str()) {
            meta.entry(field.clone()).or_insert_with(|| value.clone());
        }
    }
    if let Some(revision) = revision {
        meta.insert("resourceVersion".to_owned(), revision.0.as_str().into());
    }
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), group.api_version().into());
    object.insert("kind".to_owned(), table.kind(group).into());
    object.insert("metadata".to_owned(), Value::Object(meta));
    object.insert("spec".to_owned(), Value::Object(spec));
    if let Some(status) = status {
        object.insert("status".to_owned(), status);
    }
    Ok(Value::Object(object))
}

/// What a value says, in the words of custom resources.
struct Content {
    metadata: Metadata,
    spec: Map<String, Value>,
    status: Option<Value>,
}

fn content(group: ApiGroup, key: &Key, value: &[u8]) -> Result<Content, String> {
    let Key::Resource(ResourceKey { namespace, name, .. }) = key else {
        let (labels, spec) = record::write(group, key, value)?;
        return Ok(Content { metadata: Metadata { labels, ..Metadata::default() }, spec, status: None });
    };
    let (value, revision) = (value.to_vec().into(), Revision(SmolStr::default()));
    let decoded = AnyResource::decode(&Entry { key: key.clone(), value, revision });
    let AnyResource { kind, metadata, mut spec, status } = decoded.map_err(|error| error.reason)?;
    if kind == Kind::IPAMConfiguration {
        record::complete_config(&mut spec);
    }
    // The key is what counts, not what the value says of itself.
    let metadata = Metadata { name: name.clone(), namespace: namespace.clone(), ..metadata };
    Ok(Content { metadata, spec, status })
}

/// Whether the object is marked as deleted, the first of a deletion's two steps.
pub fn is_deleted(object: &Value) -> bool {
    object.pointer("/spec/deleted").is_some_and(|mark| *mark == json!(true) || *mark == json!("true"))
}

/// Marks an object of IPAM's as deleted; put it at its revision then. Resources have no mark: `false`.
pub fn mark_deleted(table: Table, group: ApiGroup, object: &mut Value) -> bool {
    let mark = match (table, group) {
        (Table::Affinities | Table::Resource(Kind::BlockAffinity), ApiGroup::CrdV1) => json!("true"),
        (Table::Blocks | Table::Affinities | Table::Handles | Table::Resource(Kind::BlockAffinity), _) => {
            json!(true)
        }
        (Table::Resource(_) | Table::IpamConfig, _) => return false,
    };
    match object.get_mut("spec").and_then(Value::as_object_mut) {
        Some(spec) => {
            spec.insert("deleted".to_owned(), mark);
            true
        }
        None => false,
    }
}

/// What to call an object in messages.
fn label(table: Table, group: ApiGroup, object: &Value) -> String {
    let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, namespace, name) = (table.kind(group), text("/metadata/namespace"), text("/metadata/name"));
    if namespace.is_empty() { format!("{kind}({name})") } else { format!("{kind}({namespace}/{name})") }
}

#[cfg(test)]
mod tests;
