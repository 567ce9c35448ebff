//! GC: removes what this node holds for containers that the runtime does not know any more (CNI 1.1).

use std::collections::BTreeSet;

use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_api::{IpamBlock, Key, Kind, Selection, Write, decode, decode_record};
use calico_linux::rtnl::Rtnl;
use calico_net::{Family, IfName};
use calico_store::CommitError;

use crate::address;
use crate::context::{Context, unavailable};
use crate::error::CniError;
use crate::netconf::NetConf;

/// Collects; goes on after a failure and reports the first.
pub async fn gc(context: &Context, conf: &NetConf) -> Result<(), CniError> {
    context.check_ready().await?;
    let valid: BTreeSet<&str> = conf.valid_attachments.iter().map(|a| a.container_id.as_str()).collect();
    let mut errors = Vec::new();
    for (key, write, host) in stale_endpoints(context, conf, &valid).await? {
        tracing::info!(%key, "removing the endpoint of a container that is gone");
        match context.store.commit(&[write]).await {
            Ok(_) => errors.extend(delete_link(host).await.err()),
            // Somebody changed it just now: then it is in use, or the next GC finds it.
            Err(CommitError::Conflict { .. }) => {}
            Err(error) => errors.push(unavailable(&error)),
        }
    }
    for handle in stale_handles(context, conf, &valid).await? {
        tracing::info!(%handle, "releasing the addresses of a container that is gone");
        errors.extend(address::release(context, &handle).await.err());
    }
    errors.into_iter().next().map_or(Ok(()), Err)
}

/// Endpoints of this network on this node whose containers are not valid.
async fn stale_endpoints(
    context: &Context,
    conf: &NetConf,
    valid: &BTreeSet<&str>,
) -> Result<Vec<(Key, Write, Option<IfName>)>, CniError> {
    let listing =
        context.store.list(&Selection::all(Kind::WorkloadEndpoint)).await.map_err(|e| unavailable(&e))?;
    let mut stale = Vec::new();
    for entry in listing.entries {
        // What cannot be read is not ours to judge.
        let Ok(endpoint) = decode::<WorkloadEndpointSpec>(&entry) else { continue };
        let spec = endpoint.spec;
        let of_network = spec.node == context.node && spec.profiles.iter().any(|p| *p == conf.name);
        if of_network && !spec.container_id.is_empty() && !valid.contains(spec.container_id.as_str()) {
            let write = Write::delete(entry.key.clone(), entry.revision);
            stale.push((entry.key, write, spec.interface_name.parse().ok()));
        }
    }
    Ok(stale)
}

/// Handles of this network with addresses assigned on this node whose containers are not valid.
async fn stale_handles(
    context: &Context,
    conf: &NetConf,
    valid: &BTreeSet<&str>,
) -> Result<BTreeSet<String>, CniError> {
    let prefix = format!("{}.", conf.name);
    let mut stale = BTreeSet::new();
    for family in Family::ALL {
        let listing = context.store.list(&Selection::Blocks(family)).await.map_err(|e| unavailable(&e))?;
        for block in listing.entries.iter().filter_map(|e| decode_record::<IpamBlock>(e).ok()) {
            for attribute in &block.attributes {
                let on_node = attribute.secondary.as_ref().and_then(|s| s.get("node")) == Some(&context.node);
                let handle = attribute.handle_id.as_ref().filter(|_| on_node);
                let container = handle.and_then(|h| h.strip_prefix(&prefix));
                if let Some(container) = container.filter(|c| !valid.contains(*c)) {
                    stale.insert(format!("{prefix}{container}"));
                }
            }
        }
    }
    Ok(stale)
}

async fn delete_link(host: Option<IfName>) -> Result<(), CniError> {
    let Some(host) = host else { return Ok(()) };
    let failed = |e: &dyn std::fmt::Display| CniError::generic("cannot remove an interface", e);
    tokio::task::spawn_blocking(move || Rtnl::open()?.delete_link(&host))
        .await
        .map_err(|e| failed(&e))?
        .map(drop)
        .map_err(|e| failed(&e))
}
