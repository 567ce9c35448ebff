//! CHECK: what ADD made is still there, in the datastore, on the host and in the container.

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use calico_linux::netns::Netns;
use calico_linux::rtnl::Rtnl;
use calico_net::IfName;

use crate::arguments::Arguments;
use crate::attach::{addresses_of, find_endpoint};
use crate::context::Context;
use crate::delegate;
use crate::endpoint::Identity;
use crate::error::{CniError, Code};
use crate::netconf::NetConf;
use crate::result::AddResult;

/// Verifies an attachment; the first thing that is wrong.
pub async fn check(
    context: &Context,
    conf: &NetConf,
    arguments: &Arguments,
    netns: OwnedFd,
) -> Result<(), CniError> {
    let identity = Identity::new(&context.node, arguments);
    identity.check()?;
    let unknown =
        |what: String| CniError::new(Code::UnknownContainer, "the attachment is not as ADD left it", what);
    let Some((_, endpoint)) = find_endpoint(context, &identity).await? else {
        return Err(unknown(format!("there is no endpoint {}", identity.name())));
    };
    if endpoint.spec.container_id != identity.container_id {
        return Err(unknown(format!("the endpoint belongs to container {}", endpoint.spec.container_id)));
    }
    let stored = addresses_of(&endpoint);
    if let Some(previous) = &conf.prev_result {
        let previous = AddResult::from_json(previous).ok_or_else(|| {
            CniError::new(
                Code::InvalidConfiguration,
                "invalid network configuration",
                "prevResult is not a CNI result",
            )
        })?;
        if let Some(ip) = previous.ips.iter().find(|ip| !stored.contains(&ip.address)) {
            return Err(unknown(format!("the endpoint does not have {}", ip.address)));
        }
    }
    let failed = |e: &dyn std::fmt::Display| CniError::generic("cannot read the container's interface", e);
    let inside: IfName = arguments.ifname.parse().map_err(|e| failed(&e))?;
    let host: IfName = endpoint.spec.interface_name.parse().map_err(|e| failed(&e))?;
    let found = tokio::task::spawn_blocking(move || -> Result<(bool, Vec<IpAddr>), CniError> {
        let on_host = Rtnl::open().and_then(|mut r| r.read_link(&host)).map_err(|e| failed(&e))?.is_some();
        let addresses = Netns::from(netns)
            .run(|| Rtnl::open()?.read_addresses())
            .map_err(|e| failed(&e))?
            .map_err(|e| failed(&e))?;
        Ok((on_host, addresses.into_iter().filter(|a| a.device == inside).map(|a| a.address).collect()))
    });
    let (on_host, addresses) =
        found.await.map_err(|e| CniError::generic("cannot read the interface", e))??;
    if !on_host {
        return Err(unknown(format!("the host has no interface {}", endpoint.spec.interface_name)));
    }
    if let Some(missing) = stored.iter().find(|a| !addresses.contains(a)) {
        return Err(unknown(format!("{missing} is not on {} in the container", arguments.ifname)));
    }
    if conf.ipam.plugin != "calico-ipam" {
        delegate::check(conf, arguments).await?;
    }
    Ok(())
}
