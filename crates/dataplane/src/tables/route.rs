//! Routes: the entries, and which of the kernel's are ours.

use std::fmt;
use std::net::IpAddr;

use calico_net::{Cidr, Family, IfName};

use crate::tables::tunnel::{self, Overlay};

/// `RT_TABLE_MAIN`.
pub const MAIN_TABLE: u32 = 254;
/// `RTPROT_BOOT`: Calico's default for the routes of local workloads (`DeviceRouteProtocol`, spec 3 §6.6).
pub const PROTOCOL_BOOT: u8 = 3;
/// Calico's protocol for blackholes and, where the device protocol is boot, for routes between nodes (spec 3 §6.6).
pub const PROTOCOL_CALICO: u8 = 80;
/// `RTPROT_BIRD`: routes that a BIRD made.
pub const PROTOCOL_BIRD: u8 = 12;
/// The metric of local workloads' routes in both families (spec 3 §6.6; also IPv6's own default).
pub const WORKLOAD_PRIORITY: u32 = 1024;
/// The metric of routes between nodes. One more than the ordinary: a route of the BGP speaker's to the same place wins
/// while both are there, so that a pool can change hands without a moment in which nobody routes it.
pub const CLUSTER_PRIORITY: u32 = WORKLOAD_PRIORITY + 1;
/// `RT_SCOPE_UNIVERSE`.
pub const SCOPE_GLOBAL: u8 = 0;
/// `RT_SCOPE_LINK`.
pub const SCOPE_LINK: u8 = 253;

/// What tells routes apart: the kernel keeps one route of ours for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteKey {
    /// Routing table.
    pub table: u32,
    /// Where it leads.
    pub destination: Cidr,
    /// Metric; lower wins.
    pub priority: u32,
}

/// What a route does with a packet (`rtm_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// Sends it on.
    Unicast,
    /// Discards it silently.
    Blackhole,
    /// Any other type, by number: never made by us.
    Other(u8),
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Route {
    /// Its identity.
    pub key: RouteKey,
    /// What it does.
    pub kind: RouteKind,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// How far the destination is (`RT_SCOPE_*`); always global in IPv6.
    pub scope: u8,
    /// Outgoing interface; none for blackholes and for routes over several next hops.
    pub device: Option<IfName>,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// The next hop is taken to be on the link even if no address says so.
    pub onlink: bool,
    /// Preferred source address.
    pub source: Option<IpAddr>,
}

impl Route {
    /// The key of the route to a local workload's address.
    pub fn workload_key(destination: Cidr) -> RouteKey {
        RouteKey { table: MAIN_TABLE, destination, priority: WORKLOAD_PRIORITY }
    }

    /// The route to a local workload's address over its veth. The CNI plugin makes the same one, so that the agent
    /// finds nothing to change.
    pub fn workload(destination: Cidr, device: IfName, protocol: u8) -> Route {
        let scope = match destination.family() {
            Family::V4 => SCOPE_LINK,
            Family::V6 => SCOPE_GLOBAL,
        };
        Route {
            key: Route::workload_key(destination),
            kind: RouteKind::Unicast,
            protocol,
            scope,
            device: Some(device),
            gateway: None,
            onlink: false,
            source: None,
        }
    }

    /// The key of the route to another node's addresses.
    pub fn cluster_key(destination: Cidr) -> RouteKey {
        RouteKey { table: MAIN_TABLE, destination, priority: CLUSTER_PRIORITY }
    }

    /// The route to another node's addresses, by an address on `device`'s link; `onlink` where the kernel cannot know
    /// that it is. What leads to that very address needs no next hop.
    pub fn cluster(destination: Cidr, device: IfName, via: IpAddr, onlink: bool, protocol: u8) -> Route {
        let to_itself = destination == Cidr::host(via);
        Route {
            key: Route::cluster_key(destination),
            kind: RouteKind::Unicast,
            protocol,
            scope: if to_itself && via.is_ipv4() { SCOPE_LINK } else { SCOPE_GLOBAL },
            device: Some(device),
            gateway: (!to_itself).then_some(via),
            onlink: onlink && !to_itself,
            source: None,
        }
    }

    /// The blackhole of a local IPAM block: traffic to unused addresses must not leave by the default route.
    pub fn blackhole(block: Cidr) -> Route {
        Route {
            key: RouteKey { table: MAIN_TABLE, destination: block, priority: WORKLOAD_PRIORITY },
            kind: RouteKind::Blackhole,
            protocol: PROTOCOL_CALICO,
            scope: SCOPE_GLOBAL,
            device: None,
            gateway: None,
            onlink: false,
            source: None,
        }
    }
}

/// One change to the routing table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RouteOp {
    /// Add the route where there is none with its key: whose it would be is not known.
    Add(Route),
    /// Add the route, or put it in the place of the one with its key.
    Replace(Route),
    /// Remove exactly this route.
    Delete(Route),
}

impl RouteOp {
    /// The route that is to come or to go.
    pub fn route(&self) -> &Route {
        match self {
            RouteOp::Add(route) | RouteOp::Replace(route) | RouteOp::Delete(route) => route,
        }
    }
}

/// Which routes are ours (spec 3 §6.6, ownership in the main table).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOwnership {
    /// Prefixes of workload interfaces' names (`InterfacePrefix`).
    pub interface_prefixes: Vec<String>,
    /// `DeviceRouteProtocol`.
    pub device_protocol: u8,
    /// `RemoveExternalRoutes`: every route on a workload interface is ours, whoever made it; but those that the BGP
    /// speaker has from a workload and leads to it.
    pub remove_external: bool,
    /// IPIP routes are the agent's: BIRD's, of a time before this, are too. Others on that device never are, since the
    /// kernel makes it for everybody.
    pub programs_ipip: bool,
}

impl Default for RouteOwnership {
    fn default() -> RouteOwnership {
        RouteOwnership {
            interface_prefixes: vec!["cali".into()],
            device_protocol: PROTOCOL_BOOT,
            remove_external: true,
            programs_ipip: true,
        }
    }
}

/// `RTPROT_KERNEL`: the kernel's own routes follow addresses and devices and are nobody's to remove.
const PROTOCOL_KERNEL: u8 = 2;
/// The eBPF dataplane's device, whose routes are ours as those of tunnel devices are.
const BPF_DEVICE: &str = "bpfin.cali";

impl RouteOwnership {
    /// Whether an interface belongs to a workload.
    pub fn is_workload(&self, device: &IfName) -> bool {
        self.interface_prefixes.iter().any(|prefix| device.as_str().starts_with(prefix.as_str()))
    }

    /// Whether a route is ours to change or remove.
    pub fn is_ours(&self, route: &Route) -> bool {
        if route.key.table != MAIN_TABLE || route.protocol == PROTOCOL_KERNEL {
            return false;
        }
        let calico = route.protocol == PROTOCOL_CALICO
            || (self.device_protocol != PROTOCOL_BOOT && route.protocol == self.device_protocol);
        match (&route.device, route.kind) {
            (_, RouteKind::Other(_)) => false,
            (None, _) => calico,
            (Some(device), _) if self.is_workload(device) => {
                let is_told_by_it = route.protocol == PROTOCOL_BIRD && route.gateway.is_some();
                calico || route.protocol == PROTOCOL_BOOT || (self.remove_external && !is_told_by_it)
            }
            (Some(device), _) if device.as_str() == BPF_DEVICE => true,
            (Some(device), _) => match tunnel::overlay_of(device) {
                Some(Overlay::Vxlan) => true,
                Some(Overlay::Ipip) => calico || (self.programs_ipip && route.protocol == PROTOCOL_BIRD),
                None => calico,
            },
        }
    }
}

impl fmt::Display for Route {
    /// As `ip route` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            RouteKind::Unicast => {}
            RouteKind::Blackhole => f.write_str("blackhole ")?,
            RouteKind::Other(number) => write!(f, "type {number} ")?,
        }
        write!(f, "{}", self.key.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        if let Some(device) = &self.device {
            write!(f, " dev {device}")?;
        }
        if self.key.table != MAIN_TABLE {
            write!(f, " table {}", self.key.table)?;
        }
        write!(f, " proto {} scope {} metric {}", self.protocol, self.scope, self.key.priority)?;
        if let Some(source) = self.source {
            write!(f, " src {source}")?;
        }
        if self.onlink { f.write_str(" onlink") } else { Ok(()) }
    }
}

impl fmt::Display for RouteOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RouteOp::Add(route) => write!(f, "route add {route}"),
            RouteOp::Replace(route) => write!(f, "route replace {route}"),
            RouteOp::Delete(route) => write!(f, "route delete {route}"),
        }
    }
}

#[cfg(test)]
mod tests;
