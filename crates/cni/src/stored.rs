//! What the datastore holds of a container, its profile and the cluster: read at once, before a verb changes anything.

use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_api::{Entry, Key, Kind, Resource, Selection, decode};
use calico_net::IfName;
use smol_str::SmolStr;

use crate::context::{Context, judge_ready, ready_key, unavailable};
use crate::endpoint::Identity;
use crate::error::CniError;
use crate::netconf::NetConf;

/// An endpoint that is stored, and how.
pub type Stored = (Entry, Resource<WorkloadEndpointSpec>);

/// What a verb finds when it begins.
pub struct Before {
    /// The workload's endpoint.
    pub existing: Option<Stored>,
    /// Whether the network's profile is there. Pods that are looked up have those of their namespace and service account.
    pub has_profile: bool,
}

impl Before {
    /// What an ADD finds. It fails where the datastore is not ready, and for a container whose interface would have the
    /// name of another's: making it would cut that one off. Pods' names are hashed; of a container's id only the first
    /// characters have room.
    pub async fn add(context: &Context, conf: &NetConf, identity: &Identity) -> Result<Before, CniError> {
        let profile = (!conf.reads_pods()).then(|| Key::resource(Kind::Profile, "", &conf.name));
        let others = identity.pod.is_none().then(|| containers(identity));
        let found = read(context, identity, profile.as_ref(), others).await?;
        if identity.pod.is_none() {
            let host = identity.host_interface(&context.interface_prefix)?;
            if let Some(other) = user_among(&found.others, identity, &host) {
                let details = format!(
                    "{host} belongs to container {other}, whose id begins as that of {}",
                    identity.container_id
                );
                return Err(CniError::generic("the host's interface is another container's", details));
            }
        }
        let has_profile = profile.is_none() || found.profile.is_some();
        Ok(Before { existing: endpoint_among(found.endpoints, identity)?, has_profile })
    }

    /// The endpoint that a DEL finds. It fails where the datastore is not ready.
    pub async fn del(context: &Context, identity: &Identity) -> Result<Option<Stored>, CniError> {
        endpoint_among(read(context, identity, None, None).await?.endpoints, identity)
    }
}

/// What was read.
struct Read {
    profile: Option<Entry>,
    endpoints: Vec<Entry>,
    others: Vec<Entry>,
}

async fn read(
    context: &Context,
    identity: &Identity,
    profile: Option<&Key>,
    others: Option<Selection>,
) -> Result<Read, CniError> {
    let (key, selection) = place(context, identity);
    let mut keys = vec![ready_key()];
    keys.extend(profile.cloned());
    keys.extend(key);
    let mut selections: Vec<Selection> = selection.into_iter().collect();
    let listed = selections.len();
    selections.extend(others);
    let found = context.store.read(&keys, &selections).await.map_err(|e| unavailable(&e))?;
    let mut entries = found.entries.into_iter();
    judge_ready(entries.next().flatten().as_ref())?;
    let profile = profile.and_then(|_| entries.next().flatten());
    let mut endpoints: Vec<Entry> = entries.flatten().collect();
    let mut listings = found.listings.into_iter();
    endpoints.extend(listings.by_ref().take(listed).flatten());
    Ok(Read { profile, endpoints, others: listings.flatten().collect() })
}

/// Where a workload's endpoints are: by name where no others can be told of, else among all of the workload, whatever
/// interface they were made for (one interface per pod, spec 5 §1.6).
fn place(context: &Context, identity: &Identity) -> (Option<Key>, Option<Selection>) {
    if !context.keeps_endpoints {
        return (Some(identity.key()), None);
    }
    let selection = Selection::Resources {
        kind: Kind::WorkloadEndpoint,
        namespace: Some(identity.namespace.clone()),
        name_prefix: identity.name_prefix(),
    };
    (None, Some(selection))
}

/// The endpoint of the workload.
pub async fn find_endpoint(context: &Context, identity: &Identity) -> Result<Option<Stored>, CniError> {
    let (key, selection) = place(context, identity);
    let (keys, selections) = (Vec::from_iter(key), Vec::from_iter(selection));
    let found = context.store.read(&keys, &selections).await.map_err(|e| unavailable(&e))?;
    let entries = found.entries.into_iter().flatten().chain(found.listings.into_iter().flatten());
    endpoint_among(entries.collect(), identity)
}

fn endpoint_among(entries: Vec<Entry>, identity: &Identity) -> Result<Option<Stored>, CniError> {
    let named = |entry: &Entry| match &entry.key {
        Key::Resource(key) => identity.owns_name(&key.name),
        _ => false,
    };
    for entry in entries.into_iter().filter(named) {
        let endpoint = decode::<WorkloadEndpointSpec>(&entry)
            .map_err(|e| CniError::generic("cannot read the workload's endpoint", e))?;
        let spec = &endpoint.spec;
        let workload = if identity.pod.is_some() { &spec.pod } else { &spec.container_id };
        if workload == identity.workload() && spec.orchestrator == identity.orchestrator {
            return Ok(Some((entry, endpoint)));
        }
    }
    Ok(None)
}

/// All containers of no orchestrator on this node.
fn containers(identity: &Identity) -> Selection {
    Selection::Resources {
        kind: Kind::WorkloadEndpoint,
        namespace: Some(identity.namespace.clone()),
        name_prefix: identity.orchestrator_prefix(),
    }
}

/// Another container of no orchestrator on this node that has this interface.
pub async fn other_user(
    context: &Context,
    identity: &Identity,
    host: &IfName,
) -> Result<Option<SmolStr>, CniError> {
    let listing = context.store.list(&containers(identity)).await.map_err(|e| unavailable(&e))?;
    Ok(user_among(&listing.entries, identity, host))
}

fn user_among(entries: &[Entry], identity: &Identity, host: &IfName) -> Option<SmolStr> {
    // What cannot be read names no interface.
    let endpoints = entries.iter().filter_map(|entry| decode::<WorkloadEndpointSpec>(entry).ok());
    let mut others = endpoints.map(|endpoint| endpoint.spec).filter(|spec| {
        spec.node == identity.node
            && spec.interface_name == host.as_str()
            && spec.container_id != identity.container_id
    });
    others.next().map(|spec| spec.container_id)
}
