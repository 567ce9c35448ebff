//! CHECK: what ADD made is still there, in the datastore, on the host and in the container. STATUS: would ADD work?

use std::net::IpAddr;
use std::os::fd::OwnedFd;

use calico_api::Resource;
use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_dataplane::tables::route::{MAIN_TABLE, Route};
use calico_linux::netns::Netns;
use calico_linux::rtnl::Rtnl;
use calico_linux::veth::{GATEWAY_V4, GATEWAY_V6};
use calico_net::{Cidr, Family, IfName};

use crate::annotations::{Addresses, Wishes};
use crate::arguments::Arguments;
use crate::attach::{addresses_of, default_routes};
use crate::context::Context;
use crate::endpoint::Identity;
use crate::error::{CniError, Code};
use crate::netconf::NetConf;
use crate::result::AddResult;
use crate::stored::find_endpoint;
use crate::{address, delegate};

/// Verifies an attachment; the first thing that is wrong.
pub async fn check(
    context: &Context,
    conf: &NetConf,
    arguments: &Arguments,
    netns: OwnedFd,
) -> Result<(), CniError> {
    let identity = Identity::new(&context.node, arguments);
    identity.check()?;
    let _turn = context.turns.wait(identity.turn()).await;
    let Some((_, endpoint)) = find_endpoint(context, &identity).await? else {
        return Err(damaged(format!("there is no endpoint {}", identity.name())));
    };
    if endpoint.spec.container_id != identity.container_id {
        return Err(damaged(format!("the endpoint belongs to container {}", endpoint.spec.container_id)));
    }
    let addresses = addresses_of(&endpoint);
    check_previous(conf, &addresses)?;
    let (inside, host) = interfaces(&endpoint, arguments)?;
    let outside = read_in_background(host.clone(), None).await?;
    let Some(outside) = outside else { return Err(damaged(format!("the host has no interface {host}"))) };
    let within = read_in_background(inside.clone(), Some(netns)).await?;
    let Some(within) = within else {
        return Err(damaged(format!("the container has no interface {inside}")));
    };
    for address in &addresses {
        if !within.addresses.contains(address) {
            return Err(damaged(format!("{address} is not on {inside} in the container")));
        }
        if !outside.leads_to(Cidr::host(*address), None) {
            return Err(damaged(format!("the host has no route to {address} over {host}")));
        }
        check_gateway(conf, Family::of(*address), &within)?;
    }
    if !conf.own_ipam() {
        return delegate::check(conf, arguments).await;
    }
    let pod = context.read_pod(conf, &identity).await?;
    let wishes = pod.map(|facts| Wishes::parse(&facts, conf)).transpose()?.unwrap_or_default();
    if matches!(wishes.addresses, Addresses::Verbatim(_)) {
        return Ok(());
    }
    if address::holds(context, conf, &endpoint.spec, &addresses).await? {
        return Ok(());
    }
    Err(damaged(format!("IPAM has not assigned its addresses to {}", conf.handle(&identity.container_id))))
}

/// Whether ADD could work now.
pub async fn status(context: &Context, conf: &NetConf, arguments: &Arguments) -> Result<(), CniError> {
    let ready = context.check_ready().await;
    // The code for it is STATUS's own.
    ready.map_err(|e| CniError { code: Code::NotAvailable.number(), ..e })?;
    if conf.own_ipam() { Ok(()) } else { delegate::status(conf, arguments).await }
}

/// Whether an endpoint's link is there: its interface on the host, and one of its addresses in this namespace. A
/// container's name may come back with another namespace, after a reboot for example.
pub async fn is_linked(
    endpoint: &Resource<WorkloadEndpointSpec>,
    arguments: &Arguments,
    netns: &OwnedFd,
) -> Result<bool, CniError> {
    let (_, host) = interfaces(endpoint, arguments)?;
    let netns = netns.try_clone().map_err(unreadable)?;
    let addresses = addresses_of(endpoint);
    let work = move || -> Result<bool, CniError> {
        if Rtnl::open().and_then(|mut r| r.read_link(&host)).map_err(unreadable)?.is_none() {
            return Ok(false);
        }
        let inside = Netns::from(netns).run(|| {
            let mut rtnl = Rtnl::open()?;
            // Addresses are reported by the names of interfaces that have been read.
            rtnl.read_links()?;
            rtnl.read_addresses()
        });
        let inside = inside.map_err(unreadable)?.map_err(unreadable)?;
        Ok(inside.iter().any(|a| addresses.contains(&a.address)))
    };
    tokio::task::spawn_blocking(work).await.map_err(unreadable)?
}

/// What one side of a link has.
struct Side {
    addresses: Vec<IpAddr>,
    routes: Vec<Route>,
}

impl Side {
    fn leads_to(&self, destination: Cidr, gateway: Option<IpAddr>) -> bool {
        self.routes.iter().any(|r| r.key.destination == destination && r.gateway == gateway)
    }
}

async fn read_in_background(device: IfName, netns: Option<OwnedFd>) -> Result<Option<Side>, CniError> {
    let work = move || match netns {
        Some(netns) => Netns::from(netns).run(|| read(&device)).map_err(unreadable)?,
        None => read(&device),
    };
    tokio::task::spawn_blocking(work).await.map_err(unreadable)?
}

/// Reads a side in the current namespace; `None` if the interface is missing.
fn read(device: &IfName) -> Result<Option<Side>, CniError> {
    let mut rtnl = Rtnl::open().map_err(unreadable)?;
    let links = rtnl.read_links().map_err(unreadable)?;
    if !links.iter().any(|l| l.name == *device) {
        return Ok(None);
    }
    let addresses = rtnl.read_addresses().map_err(unreadable)?;
    let mut side = Side {
        addresses: addresses.into_iter().filter(|a| a.device == *device).map(|a| a.address).collect(),
        routes: Vec::new(),
    };
    for family in Family::ALL {
        let routes = rtnl.read_routes(family, MAIN_TABLE).map_err(unreadable)?;
        side.routes.extend(routes.into_iter().filter(|r| r.device.as_ref() == Some(device)));
    }
    Ok(Some(side))
}

/// The container's way out. Routes beyond the gateway are ours to expect only where our IPAM gave them.
fn check_gateway(conf: &NetConf, family: Family, within: &Side) -> Result<(), CniError> {
    let gateway: IpAddr = match family {
        Family::V4 => GATEWAY_V4.into(),
        Family::V6 => GATEWAY_V6.into(),
    };
    if !within.leads_to(Cidr::host(gateway), None) {
        return Err(damaged(format!("the container has no route to its gateway {gateway}")));
    }
    let behind = default_routes().into_iter().filter(|r| r.family() == family && conf.own_ipam());
    match behind.into_iter().find(|r| !within.leads_to(*r, Some(gateway))) {
        Some(missing) => Err(damaged(format!("the container has no route to {missing} through {gateway}"))),
        None => Ok(()),
    }
}

/// What the runtime remembers of the ADD must be what is stored.
fn check_previous(conf: &NetConf, stored: &[IpAddr]) -> Result<(), CniError> {
    let Some(previous) = &conf.prev_result else { return Ok(()) };
    let previous = AddResult::from_json(previous).ok_or_else(|| {
        let details = "prevResult is not a CNI result";
        CniError::new(Code::InvalidConfiguration, "invalid network configuration", details)
    })?;
    match previous.ips.iter().find(|ip| !stored.contains(&ip.address)) {
        Some(ip) => Err(damaged(format!("the endpoint does not have {}", ip.address))),
        None => Ok(()),
    }
}

/// The names of the container's side and of the host's.
fn interfaces(
    endpoint: &Resource<WorkloadEndpointSpec>,
    arguments: &Arguments,
) -> Result<(IfName, IfName), CniError> {
    let inside = arguments.ifname.parse().map_err(unreadable)?;
    Ok((inside, endpoint.spec.interface_name.parse().map_err(unreadable)?))
}

fn damaged(what: String) -> CniError {
    CniError::new(Code::UnknownContainer, "the attachment is not as ADD left it", what)
}

fn unreadable(error: impl std::fmt::Display) -> CniError {
    CniError::generic("cannot read the container's interface", error)
}
