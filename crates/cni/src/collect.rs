//! GC: removes what this node holds for containers that the runtime does not know any more (CNI 1.1).

use std::collections::BTreeSet;

use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_api::{IpamBlock, Key, Kind, Resource, Selection, Write, decode, decode_record};
use calico_linux::rtnl::Rtnl;
use calico_net::{Family, IfName};
use calico_store::CommitError;
use smol_str::SmolStr;

use crate::arguments::Arguments;
use crate::context::{Context, unavailable};
use crate::endpoint::turn;
use crate::error::CniError;
use crate::netconf::NetConf;
use crate::{address, delegate};

/// Collects endpoints, links and addresses; goes on after a failure and reports the first.
pub async fn gc(context: &Context, conf: &NetConf, arguments: &Arguments) -> Result<(), CniError> {
    context.check_ready().await?;
    let Some(valid) = valid_containers(conf) else { return Ok(()) };
    let mut errors = Vec::new();
    for (endpoint, write) in stale_endpoints(context, conf, &valid).await? {
        errors.extend(remove(context, &endpoint, write).await.err());
    }
    let addresses = if conf.own_ipam() {
        release_stale(context, conf, &valid).await
    } else {
        delegate::gc(conf, arguments).await
    };
    errors.extend(addresses.err());
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// The IPAM plugin's GC: addresses alone.
pub async fn gc_addresses(context: &Context, conf: &NetConf) -> Result<(), CniError> {
    context.check_ready().await?;
    match valid_containers(conf) {
        Some(valid) => release_stale(context, conf, &valid).await,
        None => Ok(()),
    }
}

/// The containers in use; `None` where the runtime did not say. The specification has it say so, yet `cnitool gc` does
/// not: collecting nothing is then right for both, since its library deletes what it knows of by DEL.
fn valid_containers(conf: &NetConf) -> Option<BTreeSet<&str>> {
    let valid = conf.valid_attachments.as_ref();
    if valid.is_none() {
        tracing::warn!("GC without cni.dev/valid-attachments: nothing is collected");
    }
    Some(valid?.iter().map(|a| a.container_id.as_str()).collect())
}

/// Endpoints of this network on this node whose containers are not valid, and the writes that delete them. A pod's
/// endpoint names no network; it is of the one that gave its addresses. On the Kubernetes API it goes with the pod.
async fn stale_endpoints(
    context: &Context,
    conf: &NetConf,
    valid: &BTreeSet<&str>,
) -> Result<Vec<(Resource<WorkloadEndpointSpec>, Write)>, CniError> {
    if !context.keeps_endpoints {
        return Ok(Vec::new());
    }
    let listing =
        context.store.list(&Selection::all(Kind::WorkloadEndpoint)).await.map_err(|e| unavailable(&e))?;
    let mut stale = Vec::new();
    for entry in listing.entries {
        // What cannot be read is not ours to judge.
        let Ok(endpoint) = decode::<WorkloadEndpointSpec>(&entry) else { continue };
        let spec = &endpoint.spec;
        let container = spec.container_id.as_str();
        if spec.node != context.node || container.is_empty() || valid.contains(container) {
            continue;
        }
        let of_network = spec.profiles.iter().any(|p| *p == conf.name)
            || conf.own_ipam() && holds_addresses(context, &conf.handle(container)).await?;
        if of_network {
            stale.push((endpoint, Write::delete(entry.key, entry.revision)));
        }
    }
    Ok(stale)
}

/// Whether IPAM knows the handle.
async fn holds_addresses(context: &Context, handle: &str) -> Result<bool, CniError> {
    context.get(&Key::Handle(calico_ipam::handle_id(handle))).await.map(|found| found.is_some())
}

/// Removes an endpoint and its link.
async fn remove(
    context: &Context,
    endpoint: &Resource<WorkloadEndpointSpec>,
    write: Write,
) -> Result<(), CniError> {
    let spec = &endpoint.spec;
    let _turn = context.turns.wait(turn(&endpoint.metadata.namespace, &spec.pod, &spec.container_id)).await;
    tracing::info!(endpoint = %endpoint.metadata.name, "removing the endpoint of a container that is gone");
    match context.store.commit(&[write]).await {
        Ok(_) => delete_link(context, &spec.interface_name).await,
        // Somebody changed it just now: then it is in use, or the next GC finds it.
        Err(CommitError::Conflict { .. }) => Ok(()),
        Err(error) => Err(unavailable(&error)),
    }
}

/// Releases this network's addresses on this node whose containers are not valid.
async fn release_stale(context: &Context, conf: &NetConf, valid: &BTreeSet<&str>) -> Result<(), CniError> {
    let mut errors = Vec::new();
    for handle in stale_handles(context, conf, valid).await? {
        tracing::info!(%handle, "releasing the addresses of a container that is gone");
        errors.extend(address::release(context, &handle).await.err());
    }
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// Handles of this network with addresses assigned on this node whose containers are not valid.
async fn stale_handles(
    context: &Context,
    conf: &NetConf,
    valid: &BTreeSet<&str>,
) -> Result<BTreeSet<SmolStr>, CniError> {
    let mut stale = BTreeSet::new();
    for family in Family::ALL {
        let listing = context.store.list(&Selection::Blocks(family)).await.map_err(|e| unavailable(&e))?;
        for block in listing.entries.iter().filter_map(|e| decode_record::<IpamBlock>(e).ok()) {
            for attribute in &block.attributes {
                let on_node = attribute.secondary.as_ref().and_then(|s| s.get("node")) == Some(&context.node);
                let handle = attribute.handle_id.as_ref().filter(|_| on_node);
                let container = handle.and_then(|h| container_of(h, &conf.name));
                stale.extend(handle.filter(|_| container.is_some_and(|c| !valid.contains(c))).cloned());
            }
        }
    }
    Ok(stale)
}

/// The container of a handle, if the handle is certainly of this network. Both networks and containers may have dots in
/// their names: `a.b.c` is container `b.c` of network `a` or container `c` of `a.b`, so it is left to DEL. No runtime
/// puts dots into container ids.
fn container_of<'a>(handle: &'a str, network: &str) -> Option<&'a str> {
    handle.strip_prefix(network)?.strip_prefix('.').filter(|container| !container.contains('.'))
}

/// Removes a workload's link. An endpoint may name any interface; only those with a workload's name are removed.
async fn delete_link(context: &Context, name: &str) -> Result<(), CniError> {
    let ours = name.starts_with("cali") || name.starts_with(context.interface_prefix.as_str());
    let Some(host) = name.parse::<IfName>().ok().filter(|_| ours) else { return Ok(()) };
    let failed = |e: &dyn std::fmt::Display| CniError::generic("cannot remove an interface", e);
    tokio::task::spawn_blocking(move || Rtnl::open()?.delete_link(&host))
        .await
        .map_err(|e| failed(&e))?
        .map(drop)
        .map_err(|e| failed(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_that_may_be_another_networks_is_nobodys() {
        assert_eq!(container_of("a.c1", "a"), Some("c1"));
        assert_eq!(container_of("a.b.c1", "a.b"), Some("c1"));
        for (handle, network) in
            [("a.b.c1", "a"), ("ab.c1", "a"), ("vxlan-tunnel-addr-n", "vxlan"), ("c1", "c1")]
        {
            assert_eq!(container_of(handle, network), None, "{handle} {network}");
        }
    }
}
