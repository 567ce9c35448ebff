//! DEL: endpoint, link, addresses, in that order, so that an address is free only when nothing leads to it any more.

use std::os::fd::OwnedFd;
use std::time::Duration;

use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_api::{Entry, Resource, Write};
use calico_linux::netns::Netns;
use calico_linux::rtnl::Rtnl;
use calico_net::IfName;
use calico_store::CommitError;

use crate::arguments::Arguments;
use crate::context::{Context, unavailable};
use crate::endpoint::Identity;
use crate::error::{CniError, Code};
use crate::netconf::NetConf;
use crate::stored::{Before, find_endpoint, other_user};
use crate::{address, delegate};

/// How often the endpoint's deletion is tried again when somebody changes it meanwhile (spec 5 §1.10).
const MAX_CONFLICTS: usize = 6;

/// How long the kernel may take to remove an interface (spec 5 §1.10).
const LINK_TIMEOUT: Duration = Duration::from_secs(20);

/// Detaches a container; one that is not attached is no error.
pub async fn del(
    context: &Context,
    conf: &NetConf,
    arguments: &Arguments,
    netns: Option<OwnedFd>,
) -> Result<(), CniError> {
    let identity = Identity::new(&context.node, arguments);
    identity.check()?;
    let _turn = context.turns.wait(identity.turn()).await;
    let found = Before::del(context, &identity).await?;
    let owner = delete_endpoint(context, &identity, found).await?;
    delete_interface(context, &identity, arguments, netns, owner).await?;
    if !conf.own_ipam() {
        return delegate::del(conf, arguments).await;
    }
    address::release(context, &conf.handle(&identity.container_id)).await?;
    address::release(context, &identity.legacy_handle()).await?;
    Ok(())
}

/// Whose the workload's endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This container's: it is gone now.
    Us,
    /// Nobody's: there is none.
    Nobody,
    /// A newer sandbox's of the same pod: it stays.
    Newer,
}

/// Deletes the endpoint unless a newer sandbox owns it.
async fn delete_endpoint(
    context: &Context,
    identity: &Identity,
    mut found: Option<(Entry, Resource<WorkloadEndpointSpec>)>,
) -> Result<Owner, CniError> {
    for _ in 0..MAX_CONFLICTS {
        let Some((entry, endpoint)) = found else { return Ok(Owner::Nobody) };
        let container = &endpoint.spec.container_id;
        if !container.is_empty() && *container != identity.container_id {
            tracing::info!(%container, "the endpoint belongs to a newer sandbox; it stays");
            return Ok(Owner::Newer);
        }
        match context.store.commit(&[Write::delete(entry.key, entry.revision)]).await {
            Ok(_) => return Ok(Owner::Us),
            Err(CommitError::Conflict { .. }) => found = find_endpoint(context, identity).await?,
            Err(error) => return Err(unavailable(&error)),
        }
    }
    Err(CniError::new(Code::TryAgainLater, "cannot delete the endpoint", "others keep changing it"))
}

/// Removes the interface from inside the container's namespace, and the host's side goes with it. By its name the
/// host's side is removed only where it is ours for sure: the endpoint said so, or an ADD that died before it wrote
/// one left it and the namespace is not to be had.
async fn delete_interface(
    context: &Context,
    identity: &Identity,
    arguments: &Arguments,
    netns: Option<OwnedFd>,
    owner: Owner,
) -> Result<(), CniError> {
    let failed = |e: &dyn std::fmt::Display| CniError::generic("cannot remove the container's interface", e);
    let inside: IfName = arguments.ifname.parse().map_err(|e| failed(&e))?;
    let host = identity.host_interface(&context.interface_prefix)?;
    let mut by_name = owner == Owner::Us || owner == Owner::Nobody && netns.is_none();
    if by_name && owner == Owner::Nobody && identity.pod.is_none() {
        // One that was refused because of another container's interface of this name must leave it alone.
        by_name = other_user(context, identity, &host).await?.is_none();
    }
    let work = tokio::task::spawn_blocking(move || -> Result<(), CniError> {
        if let Some(netns) = netns {
            calico_linux::veth::delete_in(&Netns::from(netns), &inside).map_err(|e| failed(&e))?;
        }
        if by_name {
            Rtnl::open().and_then(|mut rtnl| rtnl.delete_link(&host)).map_err(|e| failed(&e))?;
        }
        Ok(())
    });
    match tokio::time::timeout(LINK_TIMEOUT, work).await {
        Ok(done) => done.map_err(|e| CniError::generic("cannot remove the container's interface", e))?,
        Err(_) => Err(CniError::generic(
            "cannot remove the container's interface",
            format!("the kernel took longer than {} s", LINK_TIMEOUT.as_secs()),
        )),
    }
}
