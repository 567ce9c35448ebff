//! Pools, nodes, and the ways to other nodes, written from the specification again: every destination is resolved by
//! looking at everything.

use std::net::IpAddr;

use calico_api::{AffinityOwner, AllowedUse, EncapMode, IPPool, Node};
use calico_net::{Cidr, Family, Mac};
use smol_str::SmolStr;

use super::Datastore;
use crate::change::{ClusterRoute, Encap, LocalVtep, NodeInfo, Overlay, Path, Pool, Vtep};
use crate::state::NodeState;
use crate::update::Update;
use crate::vteps::computed_mac;

/// Adds tunnel ends and routes, given that pools and nodes are there.
pub(super) fn add(own: &str, datastore: &Datastore, state: &mut NodeState) {
    for family in Family::ALL {
        let ends: Vec<(SmolStr, LocalVtep)> = state
            .nodes
            .iter()
            .filter_map(|(name, node)| Some((name.clone(), end(name, node, family)?)))
            .collect();
        for (name, end) in &ends {
            // Only ends that are whole claim anything.
            let rivals = ends.iter().filter(|(other, rival)| other < name && rival.addr.is_some());
            let taken = end.addr.is_some()
                && rivals.into_iter().any(|(_, rival)| {
                    rival.host == end.host || rival.mac == end.mac || rival.addr == end.addr
                });
            let addr = end.addr.filter(|_| !taken);
            if name == own {
                state.local_vteps.insert(family, LocalVtep { addr, ..*end });
            } else if let Some(addr) = addr {
                state.vteps.insert((family, name.clone()), Vtep { host: end.host, addr, mac: end.mac });
            }
        }
    }
    state.local_ipip = state.nodes.get(own).and_then(|node| node.ipip_addr);
    let mut destinations: Vec<(Cidr, Cidr, SmolStr)> =
        datastore.values().flat_map(block_destinations).collect();
    // Of several that speak of one destination the longest block prefix comes last, and wins.
    destinations.sort_by_key(|(_, block, _)| block.prefix_len());
    let winners: std::collections::BTreeMap<Cidr, SmolStr> =
        destinations.into_iter().map(|(destination, _, node)| (destination, node)).collect();
    for (destination, node) in winners {
        if let Some(path) = path(own, state, &destination, &node) {
            state.routes.insert(destination, ClusterRoute { node, path });
        }
    }
}

fn end(name: &str, node: &NodeInfo, family: Family) -> Option<LocalVtep> {
    let (host, addr, mac) = match family {
        Family::V4 => (node.v4, node.vxlan_v4_addr, node.vxlan_v4_mac),
        Family::V6 => (node.v6, node.vxlan_v6_addr, node.vxlan_v6_mac),
    };
    Some(LocalVtep { host: host?.0, addr, mac: mac.unwrap_or(computed_mac(name, family)) })
}

/// Destination, block, node.
fn block_destinations(update: &Update) -> Vec<(Cidr, Cidr, SmolStr)> {
    let Update::IpamBlock(cidr, Some(block)) = update else { return vec![] };
    if block.deleted {
        return vec![];
    }
    let owner = match (&block.affinity, &block.host_affinity) {
        (Some(AffinityOwner::Host(name)), _) | (None, Some(name)) => Some(name.clone()),
        _ => None,
    };
    let mut found = vec![];
    for (ordinal, index) in block.allocations.iter().enumerate() {
        let Some(attribute) = index.and_then(|index| block.attributes.get(index)) else { continue };
        let labels = attribute.secondary.clone().unwrap_or_default();
        let node = labels.get("node").cloned().unwrap_or_default();
        if !node.is_empty() && attribute.released_at.is_none() && Some(&node) != owner.as_ref() {
            found.extend(cidr.nth(ordinal as u128).map(|addr| (Cidr::host(addr), *cidr, node)));
        }
    }
    found.extend(owner.map(|owner| (*cidr, *cidr, owner)));
    found
}

fn path(own: &str, state: &NodeState, destination: &Cidr, node: &SmolStr) -> Option<Path> {
    let around = state.pools.iter().filter(|(cidr, _)| cidr.covers(destination));
    let (_, pool) = around.max_by_key(|(cidr, _)| cidr.prefix_len())?;
    if node == own {
        return None;
    }
    let (overlay, mode) = match (pool.vxlan, pool.ipip) {
        (Encap::Never, Encap::Never) => return Some(Path::Plain),
        (Encap::Never, mode) => (Overlay::Ipip, mode),
        (mode, _) => (Overlay::Vxlan, mode),
    };
    let family = destination.family();
    let place = |name: &str| {
        let info = state.nodes.get(name)?;
        if family == Family::V4 { info.v4 } else { info.v6 }
    };
    let host: IpAddr = place(node)?.0;
    if let (Encap::CrossSubnet, Some((addr, len))) = (mode, place(own))
        && Cidr::new(addr, len).is_ok_and(|subnet| subnet.contains(host))
    {
        return Some(Path::Subnet(overlay, host));
    }
    let through = match overlay {
        Overlay::Vxlan => state.vteps.get(&(family, node.clone())).map(|vtep| vtep.addr),
        Overlay::Ipip if state.nodes.get(node)?.ipip_addr.is_some() => Some(host),
        Overlay::Ipip => None,
    };
    Some(match through {
        Some(through) => Path::Tunnel(overlay, through),
        None => Path::Awaited(overlay, host),
    })
}

fn device_address(text: &str, v4: bool) -> Option<IpAddr> {
    let addr: IpAddr = text.parse().ok()?;
    let odd = addr.is_unspecified() || addr.is_multicast() || addr.is_loopback();
    (addr.is_ipv4() == v4 && !odd).then_some(addr)
}

fn unicast(text: &str) -> Option<Mac> {
    text.parse().ok().filter(|mac: &Mac| mac.0[0].is_multiple_of(2) && mac.0 != [0; 6])
}

pub(super) fn read_pool(pool: &IPPool) -> Option<(Cidr, Pool)> {
    let encap = |mode: &Option<EncapMode>| match mode {
        None | Some(EncapMode::Never) => Some(Encap::Never),
        Some(EncapMode::Always) => Some(Encap::Always),
        Some(EncapMode::CrossSubnet) => Some(Encap::CrossSubnet),
        Some(EncapMode::Other(_)) => None,
    };
    let spec = &pool.spec;
    let cidr: Cidr = spec.cidr.parse().ok()?;
    let (ipip, vxlan) = (encap(&spec.ipip_mode)?, encap(&spec.vxlan_mode)?);
    if ipip != Encap::Never && (vxlan != Encap::Never || cidr.addr().is_ipv6()) {
        return None;
    }
    let pool = Pool {
        nat_outgoing: spec.nat_outgoing,
        ipip,
        vxlan,
        load_balancer_only: spec.allowed_uses == [AllowedUse::LoadBalancer],
    };
    Some((cidr, pool))
}

pub(super) fn read_node(node: &Node) -> NodeInfo {
    let spec = &node.spec;
    let bgp = spec.bgp.clone().unwrap_or_default();
    let own = |text: &str, v4: bool| {
        let detected = spec.addresses.iter().filter(|address| address.address_type == "CalicoNodeIP");
        let internal = spec.addresses.iter().filter(|address| address.address_type == "InternalIP");
        Cidr::parse_interface(text).ok().filter(|(addr, _)| addr.is_ipv4() == v4).or_else(|| {
            let mut parsed = detected.chain(internal).filter_map(|a| Cidr::parse_interface(&a.address).ok());
            parsed.find(|(addr, _)| addr.is_ipv4() == v4)
        })
    };
    NodeInfo {
        v4: own(&bgp.ipv4_address, true),
        v6: own(&bgp.ipv6_address, false),
        ipip_addr: device_address(&bgp.ipv4_ipip_tunnel_addr, true),
        vxlan_v4_addr: device_address(&spec.ipv4_vxlan_tunnel_addr, true),
        vxlan_v4_mac: unicast(&spec.vxlan_tunnel_mac_addr),
        vxlan_v6_addr: device_address(&spec.ipv6_vxlan_tunnel_addr, false),
        vxlan_v6_mac: unicast(&spec.vxlan_tunnel_mac_addr_v6),
    }
}
