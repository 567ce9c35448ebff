//! A container's link: the veth pair between a workload's network namespace and the host, with all that belongs to it.
//!
//! This is latency of every pod, so it is few system calls: one request makes the pair with its far end in place, one
//! send each side does the rest. Nothing is renamed and nothing is waited for: MAC addresses are given at birth (so
//! udev leaves them alone), IPv6 addresses skip duplicate address detection, and the host's link-local address, which
//! is the container's IPv6 gateway, is set rather than awaited.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use calico_dataplane::tables::link::{Address, AddressOp};
use calico_dataplane::tables::route::{
    MAIN_TABLE, Route, RouteKey, RouteKind, RouteOp, SCOPE_GLOBAL, SCOPE_LINK,
};
use calico_net::{Cidr, Family, IfName, Mac};
use nix::errno::Errno;
use std::os::fd::AsFd;
use thiserror::Error;

use crate::netns::{Netns, NetnsError};
use crate::rtnl::link::{LinkChange, VethEnd, VethPair};
use crate::rtnl::{Rtnl, RtnlError};
use crate::sysctl::{Sysctl, SysctlError};

/// The IPv4 gateway inside every container: answered by proxy ARP on the host side (spec 5 §1.9).
pub const GATEWAY_V4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The IPv6 gateway inside every container: the link-local address that follows from [`Mac::HOST_VETH`] (EUI-64).
pub const GATEWAY_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0xecee, 0xeeff, 0xfeee, 0xeeee);

/// Why a container's link was not made or removed. What had been made was removed again.
#[derive(Debug, Error)]
pub enum VethError {
    /// The namespace could not be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The kernel refused something.
    #[error(transparent)]
    Rtnl(#[from] RtnlError),
    /// A kernel parameter could not be set.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Another interface has a route to one of the addresses.
    #[error("route to {destination} exists already, over {device}")]
    RouteTaken {
        /// The address.
        destination: Cidr,
        /// The interface that has it.
        device: String,
    },
    /// The pair was made, but is not there: somebody removed it meanwhile.
    #[error("interface {0} vanished while it was being set up")]
    Vanished(IfName),
}

/// What a container's link shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerLink {
    /// Name of the host side (`cali…`).
    pub host: IfName,
    /// Name of the container side (`eth0`).
    pub container: IfName,
    /// MAC of the container side; drawn by the kernel if there is none.
    pub container_mac: Option<Mac>,
    /// MTU of both sides, in bytes.
    pub mtu: u32,
    /// Queues of both sides; at least one is made.
    pub queues: u32,
    /// The container's addresses: /32s and /128s.
    pub addresses: Vec<IpAddr>,
    /// What the container reaches through its gateways, usually everything of each family.
    pub routes: Vec<Cidr>,
    /// Forwarding inside the container (`allow_ip_forwarding`).
    pub forwarding: bool,
    /// Make the host's routes to the addresses, with this protocol (`DeviceRouteProtocol`).
    pub host_routes: Option<u8>,
}

/// What was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedLink {
    /// Number of the host side.
    pub host_index: u32,
    /// Number of the container side, in its namespace.
    pub container_index: u32,
    /// MAC of the container side.
    pub container_mac: Mac,
}

impl ContainerLink {
    /// Makes the link. An interface that has the host side's name already is replaced: it is what an ADD before left.
    /// If anything fails, the pair is removed again.
    pub fn create(&self, host: &mut Rtnl, sysctl: &Sysctl, netns: &Netns) -> Result<CreatedLink, VethError> {
        let pair = VethPair {
            near: VethEnd { name: self.host.clone(), mac: Some(Mac::HOST_VETH) },
            far: VethEnd { name: self.container.clone(), mac: self.container_mac },
            mtu: self.mtu,
            queues: self.queues,
        };
        match host.create_veth(&pair, netns.as_fd()) {
            // The name is taken on one of the sides; only the host's is ours to free.
            Err(error) if error.errno() == Some(Errno::EEXIST) && host.delete_link(&self.host)? => {
                host.create_veth(&pair, netns.as_fd())?;
            }
            other => other?,
        }
        self.set_up(host, sysctl, netns).inspect_err(|_| {
            // Best effort: the first error is the one to report.
            let _ = host.delete_link(&self.host);
        })
    }

    fn set_up(&self, host: &mut Rtnl, sysctl: &Sysctl, netns: &Netns) -> Result<CreatedLink, VethError> {
        self.write_host_sysctls(sysctl)?;
        host.change_link(&self.host, LinkChange { up: Some(true), ..LinkChange::default() })?;
        if self.has(Family::V6) {
            // Before there is a carrier: the kernel's own one would be in doubt until its turn comes.
            let address = Address {
                device: self.host.clone(),
                address: GATEWAY_V6.into(),
                prefix_len: 64,
                scope: SCOPE_LINK,
            };
            host.apply_addresses(&[AddressOp::Add(address)])?;
        }
        let (container_index, container_mac) = netns.run(|| self.set_up_container(sysctl))??;
        // The host side came up first, without a carrier, and would send nothing until the kernel's link watch gets
        // its turn. Being asked, the kernel (6.8 and up) lets it send at once.
        let link = host.read_link(&self.host)?.ok_or_else(|| VethError::Vanished(self.host.clone()))?;
        if let Some(protocol) = self.host_routes {
            for address in &self.addresses {
                self.add_host_route(
                    host,
                    Route::workload(Cidr::host(*address), self.host.clone(), protocol),
                )?;
            }
        }
        Ok(CreatedLink { host_index: link.index, container_index, container_mac })
    }

    fn has(&self, family: Family) -> bool {
        self.addresses.iter().any(|a| Family::of(*a) == family)
    }

    /// The host side's parameters (spec 5 §1.9, spec 3 §6.6).
    fn write_host_sysctls(&self, sysctl: &Sysctl) -> Result<(), VethError> {
        for parameter in calico_dataplane::tables::sysctl::workload(&self.host, self.has(Family::V6)) {
            match sysctl.write(&parameter.name, &parameter.value) {
                Err(error) if parameter.required => return Err(error.into()),
                Err(error) => tracing::debug!(%error, "optional parameter not set"),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Runs inside the container's namespace.
    fn set_up_container(&self, sysctl: &Sysctl) -> Result<(u32, Mac), VethError> {
        let forwarding = if self.forwarding { "1" } else { "0" };
        if self.has(Family::V4) {
            sysctl.write("net/ipv4/ip_forward", forwarding)?;
        }
        if self.has(Family::V6) {
            for name in ["all", "default", "lo", self.container.as_str()] {
                sysctl.write(&format!("net/ipv6/conf/{name}/disable_ipv6"), "0")?;
            }
            // Before it comes up, or its link-local address spends a second in doubt.
            sysctl.write(&format!("net/ipv6/conf/{}/accept_dad", self.container), "0")?;
            sysctl.write("net/ipv6/conf/all/forwarding", forwarding)?;
        }
        let mut rtnl = Rtnl::open()?;
        rtnl.change_link(&self.container, LinkChange { up: Some(true), ..LinkChange::default() })?;
        let link =
            rtnl.read_link(&self.container)?.ok_or_else(|| VethError::Vanished(self.container.clone()))?;
        let addresses: Vec<_> = self
            .addresses
            .iter()
            .map(|address| {
                AddressOp::Add(Address {
                    device: self.container.clone(),
                    address: *address,
                    prefix_len: Family::of(*address).bits(),
                    scope: SCOPE_GLOBAL,
                })
            })
            .collect();
        rtnl.apply_addresses(&addresses)?;
        let routes: Vec<_> = self.container_routes().into_iter().map(RouteOp::Replace).collect();
        if let Some((_, error)) = rtnl.apply_routes(&routes)?.into_iter().next() {
            return Err(error.into());
        }
        let mac = link.mac.ok_or_else(|| VethError::Vanished(self.container.clone()))?;
        Ok((link.index, mac))
    }

    /// First each gateway as a neighbour on the link, then what lies behind it.
    fn container_routes(&self) -> Vec<Route> {
        let route = |destination: Cidr, gateway: Option<IpAddr>| Route {
            key: RouteKey {
                table: MAIN_TABLE,
                destination,
                // IPv6's default metric, made explicit; IPv4 has none.
                priority: if destination.family() == Family::V6 { 1024 } else { 0 },
            },
            kind: RouteKind::Unicast,
            protocol: 3,
            scope: if gateway.is_none() && destination.family() == Family::V4 {
                SCOPE_LINK
            } else {
                SCOPE_GLOBAL
            },
            device: Some(self.container.clone()),
            gateway,
            onlink: false,
            source: None,
        };
        let mut routes = Vec::new();
        for (family, gateway) in [(Family::V4, IpAddr::from(GATEWAY_V4)), (Family::V6, GATEWAY_V6.into())] {
            if self.has(family) {
                routes.push(route(Cidr::host(gateway), None));
                let behind = self.routes.iter().filter(|r| r.family() == family);
                routes.extend(behind.map(|destination| route(*destination, Some(gateway))));
            }
        }
        routes
    }

    /// Adds a route to one of the addresses. One that exists over this very interface is as good.
    fn add_host_route(&self, host: &mut Rtnl, route: Route) -> Result<(), VethError> {
        if host.add_route(&route)? {
            return Ok(());
        }
        host.read_links()?;
        let there = host.read_routes(route.key.destination.family(), route.key.table)?;
        match there.into_iter().find(|r| r.key == route.key) {
            Some(same) if same.device == route.device && same.scope == route.scope => Ok(()),
            other => Err(VethError::RouteTaken {
                destination: route.key.destination,
                device: other.and_then(|r| r.device).map_or("another interface".into(), |d| d.to_string()),
            }),
        }
    }
}

/// Removes an interface inside a namespace, and with it the host side. Whether there was one.
pub fn delete_in(netns: &Netns, container: &IfName) -> Result<bool, VethError> {
    Ok(netns.run(|| Rtnl::open()?.delete_link(container))??)
}

#[cfg(test)]
mod tests;
