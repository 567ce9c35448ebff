//! The API resources behind keys and selections: their paths, and their objects as entries.
//!
//! Pure. A selection is one [`Part`] or several: profiles are made from namespaces and from service accounts.

use calico_api::codec::without_nulls;
use calico_api::key::{Kind, Scope};
use calico_api::kubernetes::crd::{self, Table};
use calico_api::kubernetes::names::{self, ProfileSource, profile_source};
use calico_api::kubernetes::object::{self, ObjectMeta};
use calico_api::kubernetes::{
    ApiGroup, ConversionError, Converted, cluster_network_policy, endpoint_slice, namespace, network_policy,
    node, pod, secret, service, service_account,
};
use calico_api::{Entry, Key, ResourceKey, Selection};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use smol_str::SmolStr;

/// One API resource: what one list or one watch is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Custom resources of Calico's.
    Custom(Table),
    /// Nodes.
    Nodes,
    /// Blocks that stand for the nodes' pod CIDRs.
    PodCidrs,
    /// Workload endpoints.
    Pods,
    /// Profiles `kns.…`.
    Namespaces,
    /// Profiles `ksa.…`.
    ServiceAccounts,
    /// Kubernetes' own policies.
    NetworkPolicies,
    /// Kubernetes' cluster-wide policies, whose definition may not be installed.
    ClusterNetworkPolicies,
    /// Addresses of services.
    EndpointSlices,
    /// Secrets, of which an agent may read those that it is told to.
    Secrets,
    /// Services.
    Services,
}

/// What decides how objects are read.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Where Calico's custom resources are.
    pub(crate) group: ApiGroup,
    /// Whether addresses come from the nodes' pod CIDRs.
    pub(crate) use_pod_cidr: bool,
    /// How the host's side of a pod's interface begins.
    pub(crate) interface_prefix: SmolStr,
}

/// One object, read.
#[derive(Debug)]
pub(crate) struct Object {
    /// What it is in Calico's data model; a node can be several blocks, a pod can be nothing.
    pub(crate) entries: Vec<Entry>,
    /// Its own revision.
    pub(crate) revision: SmolStr,
    /// It is marked as deleted and waits for the second step: it counts as absent.
    pub(crate) doomed: Option<Doomed>,
}

/// Identifies an object whose deletion is half done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doomed {
    /// Its path.
    pub(crate) path: String,
    /// Its UID.
    pub(crate) uid: String,
    /// Its revision.
    pub(crate) revision: String,
}

/// One page of a list.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) objects: Vec<Object>,
    /// Of the whole list.
    pub(crate) revision: SmolStr,
    /// Where the next page begins; empty at the end.
    pub(crate) next: String,
}

/// What a line of a watch says.
#[derive(Debug)]
pub(crate) enum Line {
    /// The object is there, perhaps marked as deleted.
    Put(Object),
    /// It is not any more; this is how it was.
    Deleted(Object),
    /// It cannot be read, or is nothing to Calico any more: it counts as absent. No key where it cannot even be named.
    Absent { key: Option<Key>, revision: SmolStr },
    /// Nothing but the revision.
    Bookmark(SmolStr),
    /// The watch is over: the number of the error, and what the server says.
    Error { code: u16, message: String },
}

impl Part {
    /// What a selection is made from, in the order of the revision's parts; nothing for what Kubernetes does not hold.
    pub(crate) fn of_selection(selection: &Selection, view: &View) -> Vec<Part> {
        match selection {
            // What can have no object is nothing.
            Selection::Resource(key) => {
                Part::of_key(&Key::Resource(key.clone()), view).map(|(part, _)| part).into_iter().collect()
            }
            Selection::Resources { kind: Kind::Profile, .. } => vec![Part::Namespaces, Part::ServiceAccounts],
            Selection::Resources { kind, .. } => Part::of_kind(*kind).into_iter().collect(),
            Selection::Blocks(_) if view.use_pod_cidr => vec![Part::PodCidrs],
            Selection::Affinities { .. } | Selection::Handles if view.use_pod_cidr => Vec::new(),
            Selection::Blocks(_)
            | Selection::Affinities { .. }
            | Selection::Handles
            | Selection::Statuses(_) => {
                Table::of_selection(selection).map(Part::Custom).into_iter().collect()
            }
        }
    }

    fn of_kind(kind: Kind) -> Option<Part> {
        match kind {
            Kind::Node => Some(Part::Nodes),
            Kind::WorkloadEndpoint => Some(Part::Pods),
            Kind::KubernetesNetworkPolicy => Some(Part::NetworkPolicies),
            Kind::KubernetesClusterNetworkPolicy => Some(Part::ClusterNetworkPolicies),
            Kind::KubernetesEndpointSlice => Some(Part::EndpointSlices),
            Kind::KubernetesSecret => Some(Part::Secrets),
            Kind::KubernetesService => Some(Part::Services),
            Kind::Profile => None,
            kind => Table::of_selection(&Selection::all(kind)).map(Part::Custom),
        }
    }

    /// Where the object of a key is: its API resource and its path. `None` where it can have none.
    pub(crate) fn of_key(key: &Key, view: &View) -> Option<(Part, String)> {
        let Key::Resource(resource) = key else {
            let table = Table::of(key).filter(|t| !view.use_pod_cidr || *t == Table::IpamConfig)?;
            return Some((Part::Custom(table), custom_path(key, &crd::object_name(key)?, table, view.group)));
        };
        let ResourceKey { kind, namespace, name } = resource;
        match kind {
            Kind::WorkloadEndpoint => {
                let pod::Place { namespace, pod, .. } = pod::place(resource)?;
                Some((Part::Pods, Part::Pods.path(view, &namespace, &pod)))
            }
            Kind::Profile => match profile_source(name)? {
                ProfileSource::Namespace(name) => {
                    Some((Part::Namespaces, Part::Namespaces.path(view, "", name)))
                }
                ProfileSource::ServiceAccount { namespace, name } => {
                    Some((Part::ServiceAccounts, Part::ServiceAccounts.path(view, namespace, name)))
                }
            },
            kind => {
                let part = Part::of_kind(*kind)?;
                Some((part, part.path(view, namespace, name)))
            }
        }
    }

    /// Where old writers put the object of a key, if anywhere else.
    pub(crate) fn old_path(key: &Key, view: &View) -> Option<String> {
        Some(custom_path(key, &crd::old_object_name(key)?, Table::of(key)?, view.group))
    }

    fn path(self, view: &View, namespace: &str, name: &str) -> String {
        format!("{}/{}", self.collection(view, namespace), escape(name))
    }

    /// The path of all objects; in one namespace, or everywhere with an empty one.
    pub(crate) fn collection(self, view: &View, namespace: &str) -> String {
        let (api, plural) = match self {
            Part::Custom(table) => (format!("/apis/{}", view.group), table.plural(view.group)),
            Part::Nodes | Part::PodCidrs => ("/api/v1".to_owned(), "nodes"),
            Part::Pods => ("/api/v1".to_owned(), "pods"),
            Part::Namespaces => ("/api/v1".to_owned(), "namespaces"),
            Part::ServiceAccounts => ("/api/v1".to_owned(), "serviceaccounts"),
            Part::Secrets => ("/api/v1".to_owned(), "secrets"),
            Part::Services => ("/api/v1".to_owned(), "services"),
            Part::NetworkPolicies => ("/apis/networking.k8s.io/v1".to_owned(), "networkpolicies"),
            Part::ClusterNetworkPolicies => {
                ("/apis/policy.networking.k8s.io/v1alpha2".to_owned(), "clusternetworkpolicies")
            }
            Part::EndpointSlices => ("/apis/discovery.k8s.io/v1".to_owned(), "endpointslices"),
        };
        if namespace.is_empty() || !self.is_namespaced() {
            format!("{api}/{plural}")
        } else {
            format!("{api}/namespaces/{}/{plural}", escape(namespace))
        }
    }

    fn is_namespaced(self) -> bool {
        match self {
            Part::Custom(table) => table.scope() == Scope::Namespaced,
            Part::Nodes | Part::PodCidrs | Part::Namespaces | Part::ClusterNetworkPolicies => false,
            Part::Pods
            | Part::ServiceAccounts
            | Part::NetworkPolicies
            | Part::EndpointSlices
            | Part::Secrets
            | Part::Services => true,
        }
    }

    /// What a list or a watch of a selection asks for: path and first query.
    pub(crate) fn query(self, view: &View, selection: &Selection) -> String {
        match selection {
            Selection::Resource(key) => return self.query_one(view, key),
            Selection::Affinities { owner: Some(owner), .. } => {
                let hash = names::hostname_hash(owner.name());
                return self.labelled(view, &format!("{}={hash}", names::HOSTNAME_HASH_LABEL));
            }
            _ => {}
        }
        let namespace = match selection {
            Selection::Resources { namespace: Some(namespace), .. } => namespace.as_str(),
            _ => "",
        };
        // Profiles of service accounts are one cluster-wide list: their namespace is in the name.
        let namespace = if self == Part::ServiceAccounts { "" } else { namespace };
        format!("{}?", self.collection(view, namespace))
    }

    /// The query for affinities of old writers, which no label tells the owner of.
    pub(crate) fn query_unlabelled(self, view: &View) -> String {
        self.labelled(view, &format!("!{}", names::HOSTNAME_HASH_LABEL))
    }

    fn labelled(self, view: &View, selector: &str) -> String {
        format!("{}?labelSelector={}&", self.collection(view, ""), escape(selector))
    }

    /// The query for one object: the server selects it by its name. A list that it does not select by name holds more
    /// than is asked for, never less: of a policy's two names nobody knows beforehand which it has.
    fn query_one(self, view: &View, key: &ResourceKey) -> String {
        let key = Key::Resource(key.clone());
        let path = Part::of_key(&key, view).map(|(_, path)| path).unwrap_or_default();
        let Some((collection, name)) = path.rsplit_once('/') else {
            return format!("{}?", self.collection(view, ""));
        };
        // A text with one of these would be another selector; no name has any.
        let selects = !name.is_empty() && !["%2C", "%3D", "%5C", "%21"].iter().any(|c| name.contains(c));
        match crd::old_object_name(&key) {
            None if selects => format!("{collection}?fieldSelector=metadata.name%3D{name}&"),
            _ => format!("{collection}?"),
        }
    }

    /// Reads one object.
    pub(crate) fn read(self, view: &View, json: &[u8]) -> Result<Object, ReadError> {
        match self {
            Part::Custom(_) => decode::<Value>(json).and_then(|o| self.custom(view, o)),
            Part::Nodes | Part::PodCidrs => decode(json).and_then(|o| self.node(view, o)),
            Part::Pods => decode(json).and_then(|o| read_pod(view, o)),
            Part::Namespaces => decode(json).and_then(read_namespace),
            Part::ServiceAccounts => decode(json).and_then(read_service_account),
            Part::NetworkPolicies => decode(json).and_then(read_network_policy),
            Part::ClusterNetworkPolicies => decode(json).and_then(read_cluster_network_policy),
            Part::EndpointSlices => decode(json).and_then(read_endpoint_slice),
            Part::Secrets => decode(json).and_then(read_secret),
            Part::Services => decode(json).and_then(read_service),
        }
    }

    /// Reads one page of a list. Objects that cannot be read are reported and left out.
    pub(crate) fn read_page(self, view: &View, json: &[u8]) -> Result<Page, ReadError> {
        match self {
            Part::Custom(_) => page(json, |o: Value| self.custom(view, o)),
            Part::Nodes | Part::PodCidrs => page(json, |o| self.node(view, o)),
            Part::Pods => page(json, |o| read_pod(view, o)),
            Part::Namespaces => page(json, read_namespace),
            Part::ServiceAccounts => page(json, read_service_account),
            Part::NetworkPolicies => page(json, read_network_policy),
            Part::ClusterNetworkPolicies => page(json, read_cluster_network_policy),
            Part::EndpointSlices => page(json, read_endpoint_slice),
            Part::Secrets => page(json, read_secret),
            Part::Services => page(json, read_service),
        }
    }

    /// Reads one line of a watch. An object that cannot be read is reported.
    pub(crate) fn read_line(self, view: &View, json: &[u8]) -> Result<Line, ReadError> {
        let Head { kind } = decode(json)?;
        if kind == "ERROR" {
            let Event { object: Status { code, message } } = decode(json)?;
            return Ok(Line::Error { code, message });
        }
        if kind == "BOOKMARK" {
            let Event { object: Bare { metadata } } = decode(json)?;
            return Ok(Line::Bookmark(metadata.resource_version));
        }
        let object = match self {
            Part::Custom(_) => event(json, |o: Value| self.custom(view, o)),
            Part::Nodes | Part::PodCidrs => event(json, |o| self.node(view, o)),
            Part::Pods => event(json, |o| read_pod(view, o)),
            Part::Namespaces => event(json, read_namespace),
            Part::ServiceAccounts => event(json, read_service_account),
            Part::NetworkPolicies => event(json, read_network_policy),
            Part::ClusterNetworkPolicies => event(json, read_cluster_network_policy),
            Part::EndpointSlices => event(json, read_endpoint_slice),
            Part::Secrets => event(json, read_secret),
            Part::Services => event(json, read_service),
        };
        match object {
            Ok(object) if object.entries.is_empty() && self.can_become_nothing() => Ok(self.absent(json)),
            Ok(object) if kind == "DELETED" => Ok(Line::Deleted(object)),
            Ok(object) => Ok(Line::Put(object)),
            Err(ReadError::Object(error)) => {
                report(&error);
                Ok(self.absent(json))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a change can make an object that was something to Calico nothing to it: a slice loses its service, a
    /// policy its tier. Pods stay what they are.
    fn can_become_nothing(self) -> bool {
        matches!(self, Part::EndpointSlices | Part::ClusterNetworkPolicies)
    }

    /// What can be said of an object that counts as absent.
    fn absent(self, json: &[u8]) -> Line {
        // What has not even metadata that can be read is nobody in particular.
        let nobody = Line::Absent { key: None, revision: SmolStr::default() };
        if self == Part::Pods {
            let Ok(Event { object }) = decode::<Event<Scheduled>>(json) else { return nobody };
            let pod = pod::Pod::from(object);
            return Line::Absent { key: pod::key(&pod), revision: pod.metadata.resource_version };
        }
        let Ok(Event { object: Bare { metadata } }) = decode::<Event<Bare>>(json) else { return nobody };
        let ObjectMeta { name, namespace, resource_version: revision, .. } = metadata;
        let profile = |name: SmolStr| Some(Key::resource(Kind::Profile, "", &name));
        let kind = match self {
            Part::Namespaces => {
                return Line::Absent { key: profile(names::namespace_profile(&name)), revision };
            }
            Part::ServiceAccounts => {
                let key = profile(names::service_account_profile(&namespace, &name));
                return Line::Absent { key, revision };
            }
            Part::Nodes => Some(Kind::Node),
            Part::Secrets => Some(Kind::KubernetesSecret),
            Part::Services => Some(Kind::KubernetesService),
            Part::NetworkPolicies => Some(Kind::KubernetesNetworkPolicy),
            Part::ClusterNetworkPolicies => Some(Kind::KubernetesClusterNetworkPolicy),
            Part::EndpointSlices => Some(Kind::KubernetesEndpointSlice),
            // Names of policies may have been packed; records have keys that only their content says.
            Part::Custom(Table::Resource(kind)) if !kind.is_tiered_policy() => Some(kind),
            _ => None,
        };
        Line::Absent { key: kind.map(|kind| Key::resource(kind, &namespace, &name)), revision }
    }

    fn custom(self, view: &View, object: Value) -> Result<Object, ReadError> {
        let Part::Custom(table) = self else { return Err(ReadError::Form("no custom resource".to_owned())) };
        let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap_or_default();
        let revision = SmolStr::new(text("/metadata/resourceVersion"));
        let marked = crd::is_deleted(&object) && is_two_step(table);
        let doomed = marked.then(|| Doomed {
            path: self.path(view, text("/metadata/namespace"), text("/metadata/name")),
            uid: text("/metadata/uid").to_owned(),
            revision: revision.to_string(),
        });
        let entry = crd::entry(table, view.group, object)?;
        Ok(Object { entries: vec![entry], revision, doomed })
    }

    fn node(self, view: &View, node: node::Node) -> Result<Object, ReadError> {
        let revision = node.metadata.resource_version.clone();
        if self == Part::PodCidrs {
            return Ok(Object { entries: node::blocks(&node), revision, doomed: None });
        }
        Ok(one(node::entry(&node, view.use_pod_cidr), revision))
    }
}

/// Whether deletions of a table's objects take two steps (spec 1 §3.4).
pub(crate) fn is_two_step(table: Table) -> bool {
    matches!(table, Table::Blocks | Table::Affinities | Table::Handles | Table::Resource(Kind::BlockAffinity))
}

fn custom_path(key: &Key, name: &str, table: Table, group: ApiGroup) -> String {
    let namespace = match key {
        Key::Resource(ResourceKey { namespace, .. }) => namespace.as_str(),
        _ => "",
    };
    let (api, plural, name) = (group.api_version(), table.plural(group), escape(name));
    if namespace.is_empty() {
        format!("/apis/{api}/{plural}/{name}")
    } else {
        format!("/apis/{api}/namespaces/{}/{plural}/{name}", escape(namespace))
    }
}

/// A name as a segment of a path: what a URL reserves is encoded, so that no name leads elsewhere.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        // A segment of dots alone would be taken for a directory.
        let plain =
            byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) || (byte == b'.' && text.len() > 2);
        if plain {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// Why an answer of the server's cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    /// One object is not what its kind promises.
    #[error(transparent)]
    Object(#[from] ConversionError),
    /// The answer as a whole is not what was asked for.
    #[error("the API server's answer is not what was asked for: {0}")]
    Form(String),
}

fn decode<T: DeserializeOwned>(json: &[u8]) -> Result<T, ReadError> {
    object::decode(json).map_err(|error| ReadError::Form(error.to_string()))
}

#[derive(Deserialize)]
struct List<T> {
    /// `PodList` and so on.
    #[serde(default)]
    kind: String,
    #[serde(default)]
    metadata: ListMeta,
    #[serde(default = "Vec::new")]
    items: Vec<T>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: SmolStr,
    #[serde(rename = "continue")]
    next: String,
}

#[derive(Deserialize)]
struct Head {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Event<T> {
    object: T,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Bare {
    metadata: ObjectMeta,
}

/// What names a pod's endpoint, whatever of the rest cannot be read.
#[derive(Deserialize)]
struct Scheduled {
    metadata: ObjectMeta,
    #[serde(default)]
    spec: Whereabouts,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Whereabouts {
    node_name: SmolStr,
    host_network: bool,
}

impl From<Scheduled> for pod::Pod {
    fn from(scheduled: Scheduled) -> pod::Pod {
        let Scheduled { metadata, spec: Whereabouts { node_name, host_network } } = scheduled;
        let spec = pod::PodSpec { node_name, host_network, ..pod::PodSpec::default() };
        pod::Pod { metadata, spec, ..pod::Pod::default() }
    }
}

fn page<T: DeserializeOwned>(
    json: &[u8],
    read: impl Fn(T) -> Result<Object, ReadError>,
) -> Result<Page, ReadError> {
    let mut objects = Vec::new();
    let ListMeta { resource_version, next } = match decode::<List<T>>(json) {
        Ok(List { metadata, items, .. }) => {
            objects.extend(items.into_iter().map(&read));
            metadata
        }
        // One object with a field of another type must not take the others with it.
        Err(_) => {
            let List { metadata, items, kind } = decode::<List<Value>>(json)?;
            let kind = kind.strip_suffix("List").unwrap_or(&kind);
            objects.extend(items.into_iter().map(|item| alone(kind, item).and_then(&read)));
            metadata
        }
    };
    let mut read = Vec::with_capacity(objects.len());
    for object in objects {
        match object {
            Ok(object) => read.push(object),
            Err(error) => report(&error),
        }
    }
    Ok(Page { objects: read, revision: resource_version, next })
}

fn event<T: DeserializeOwned>(
    json: &[u8],
    read: impl Fn(T) -> Result<Object, ReadError>,
) -> Result<Object, ReadError> {
    match decode::<Event<T>>(json) {
        Ok(Event { object }) => read(object),
        Err(_) => {
            let Event { object } = decode::<Event<Value>>(json)?;
            let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default().to_owned();
            alone(&kind, object).and_then(read)
        }
    }
}

/// Reads one object that may have a field of another type than its kind promises; the error names it.
fn alone<T: DeserializeOwned>(kind: &str, object: Value) -> Result<T, ReadError> {
    let text = |field: &str| object.pointer(field).and_then(Value::as_str).unwrap_or_default();
    let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
    let label = match namespace {
        "" => format!("{kind}({name})"),
        namespace => format!("{kind}({namespace}/{name})"),
    };
    serde_json::from_value(without_nulls(object))
        .map_err(|error| ReadError::Object(ConversionError { object: label, reason: error.to_string() }))
}

fn report(error: &dyn std::error::Error) {
    tracing::warn!("{error}; it counts as absent");
}

fn one(converted: Converted, revision: SmolStr) -> Object {
    let Converted { entry, problems } = converted;
    for problem in &problems {
        tracing::warn!("{problem}");
    }
    Object { entries: vec![entry], revision, doomed: None }
}

fn plain(entry: Entry, revision: SmolStr) -> Object {
    Object { entries: vec![entry], revision, doomed: None }
}

fn read_pod(view: &View, pod: pod::Pod) -> Result<Object, ReadError> {
    let revision = pod.metadata.resource_version.clone();
    Ok(match pod::entry(&pod, &view.interface_prefix)? {
        Some(converted) => one(converted, revision),
        None => Object { entries: Vec::new(), revision, doomed: None },
    })
}

fn read_namespace(object: namespace::Namespace) -> Result<Object, ReadError> {
    Ok(plain(namespace::entry(&object), object.metadata.resource_version))
}

fn read_service_account(object: service_account::ServiceAccount) -> Result<Object, ReadError> {
    Ok(plain(service_account::entry(&object), object.metadata.resource_version))
}

fn read_network_policy(object: network_policy::NetworkPolicy) -> Result<Object, ReadError> {
    let revision = object.metadata.resource_version.clone();
    Ok(one(network_policy::entry(&object)?, revision))
}

fn read_cluster_network_policy(
    object: cluster_network_policy::ClusterNetworkPolicy,
) -> Result<Object, ReadError> {
    let revision = object.metadata.resource_version.clone();
    Ok(match cluster_network_policy::entry(&object)? {
        Some(converted) => one(converted, revision),
        None => Object { entries: Vec::new(), revision, doomed: None },
    })
}

fn read_endpoint_slice(object: endpoint_slice::EndpointSlice) -> Result<Object, ReadError> {
    let entries = endpoint_slice::entry(&object).into_iter().collect();
    Ok(Object { entries, revision: object.metadata.resource_version, doomed: None })
}

fn read_secret(object: secret::Secret) -> Result<Object, ReadError> {
    Ok(plain(secret::entry(&object), object.metadata.resource_version))
}

fn read_service(object: service::Service) -> Result<Object, ReadError> {
    Ok(plain(service::entry(&object), object.metadata.resource_version))
}

#[cfg(test)]
mod tests;
