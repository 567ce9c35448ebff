//! The ways to other nodes' addresses: blocks by their owners, single addresses by who borrowed them.
//!
//! ```text
//! blocks ──▶ who has which destination ─┐
//! pools  ──▶ which overlay, and when   ─┼─▶ one ClusterRoute for each destination
//! nodes, VTEPs ──▶ where that node is  ─┘
//! ```
//!
//! A change touches the destinations that it is about; the flush resolves those and no others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_api::{AffinityOwner, AllocationAttribute, IpamBlock};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::change::{Change, ClusterRoute, Encap, NodeInfo, Overlay, Path, Pool};
use crate::cluster::Mirror;
use crate::planted::{Bug, planted};
use crate::vteps::Vteps;

/// The attribute of an allocation that names the node of its owner.
const NODE_ATTRIBUTE: &str = "node";

/// Which node has which destination, and what is told of it.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// By block: its destinations.
    blocks: BTreeMap<Cidr, BTreeMap<Cidr, SmolStr>>,
    /// By destination: who has it, by the length of the block that says so. The smallest block knows best.
    claims: BTreeMap<Cidr, BTreeMap<u8, SmolStr>>,
    by_node: BTreeMap<SmolStr, BTreeSet<Cidr>>,
    touched: BTreeSet<Cidr>,
    told: Mirror<Cidr, ClusterRoute>,
}

impl Routes {
    /// Adds, replaces or removes a block.
    pub(crate) fn set_block(&mut self, cidr: Cidr, block: Option<&IpamBlock>) {
        let new = block.map(|block| destinations(cidr, block)).unwrap_or_default();
        let old = match new.is_empty() {
            true => self.blocks.remove(&cidr),
            false => self.blocks.insert(cidr, new.clone()),
        }
        .unwrap_or_default();
        let length = cidr.prefix_len();
        for (destination, node) in old.iter().filter(|(d, node)| new.get(*d) != Some(*node)) {
            self.unclaim(*destination, length, node);
        }
        for (destination, node) in new.into_iter().filter(|(d, node)| old.get(d) != Some(node)) {
            self.claims.entry(destination).or_default().insert(length, node.clone());
            self.by_node.entry(node).or_default().insert(destination);
            self.touched.insert(destination);
        }
    }

    fn unclaim(&mut self, destination: Cidr, length: u8, node: &SmolStr) {
        self.touched.insert(destination);
        if let Some(claims) = self.claims.get_mut(&destination) {
            claims.remove(&length);
            if claims.values().any(|other| other == node) {
                return;
            }
            if claims.is_empty() {
                self.claims.remove(&destination);
            }
        }
        if let Some(destinations) = self.by_node.get_mut(node) {
            destinations.remove(&destination);
            if destinations.is_empty() {
                self.by_node.remove(node);
            }
        }
    }

    /// A node is not what it was.
    pub(crate) fn touch_node(&mut self, node: &SmolStr) {
        self.touched.extend(self.by_node.get(node).into_iter().flatten());
    }

    /// A pool is not what it was. (Prefixes inside another come right after it, in one run.)
    pub(crate) fn touch_range(&mut self, pool: &Cidr) {
        let inside = self.claims.range(pool..).map(|(destination, _)| destination);
        self.touched.extend(inside.take_while(|destination| pool.covers(destination)));
    }

    /// This node is not what it was.
    pub(crate) fn touch_all(&mut self) {
        self.touched.extend(self.claims.keys());
    }

    /// Reports what changed.
    pub(crate) fn flush(
        &mut self,
        own: &SmolStr,
        pools: &BTreeMap<Cidr, Pool>,
        nodes: &BTreeMap<SmolStr, NodeInfo>,
        vteps: &Vteps,
        out: &mut Vec<Change>,
    ) {
        let cluster = Resolver { own, pools, nodes, vteps };
        for destination in std::mem::take(&mut self.touched) {
            let owner = self.claims.get(&destination).and_then(|claims| claims.values().next_back());
            let route = owner.and_then(|node| {
                let path = cluster.path(&destination, node)?;
                Some(ClusterRoute { node: node.clone(), path })
            });
            self.told.set(destination, route);
        }
        self.told.flush(|destination, route| {
            out.push(match route {
                Some(route) => Change::RouteChanged(*destination, route.clone()),
                None => Change::RouteRemoved(*destination),
            });
        });
    }

    /// Whether there is nothing.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let told = self.told.current().is_empty();
        told && self.blocks.is_empty() && self.claims.is_empty() && self.by_node.is_empty()
    }
}

/// The destinations that a block speaks of, and who has them: the block itself, and addresses of others than its owner.
fn destinations(cidr: Cidr, block: &IpamBlock) -> BTreeMap<Cidr, SmolStr> {
    let mut destinations = BTreeMap::new();
    if block.deleted {
        return destinations;
    }
    let owner = match block.owner() {
        Some(AffinityOwner::Host(owner)) => Some(owner),
        _ => None,
    };
    for (ordinal, attribute) in block.allocations.iter().enumerate() {
        let Some(node) = attribute.and_then(|index| holder(block.attributes.get(index)?)) else { continue };
        if owner.as_ref() != Some(node)
            && let Some(address) = cidr.nth(ordinal as u128)
        {
            destinations.insert(Cidr::host(address), node.clone());
        }
    }
    // Last: of a block of one address its owner is the only one that counts.
    destinations.extend(owner.map(|owner| (cidr, owner)));
    destinations
}

/// The node of an allocation's owner. What was released and rests is nobody's.
fn holder(attribute: &AllocationAttribute) -> Option<&SmolStr> {
    let AllocationAttribute { secondary, released_at, .. } = attribute;
    secondary.as_ref().filter(|_| released_at.is_none())?.get(NODE_ATTRIBUTE).filter(|node| !node.is_empty())
}

struct Resolver<'a> {
    own: &'a SmolStr,
    pools: &'a BTreeMap<Cidr, Pool>,
    nodes: &'a BTreeMap<SmolStr, NodeInfo>,
    vteps: &'a Vteps,
}

impl Resolver<'_> {
    /// How packets reach a destination of a node; `None` for this node's own, and where it cannot be known.
    fn path(&self, destination: &Cidr, node: &SmolStr) -> Option<Path> {
        if node == self.own {
            return None;
        }
        let Some((overlay, mode)) = self.pool_of(destination)?.overlay() else { return Some(Path::Plain) };
        let family = destination.family();
        let (host, _) = self.address(node, family)?;
        if mode == Encap::CrossSubnet && self.on_own_subnet(host, family) && !planted(Bug::SubnetIgnored) {
            return Some(Path::Subnet(overlay, host));
        }
        let through = match overlay {
            Overlay::Vxlan => self.vteps.usable(family, node).map(|vtep| vtep.addr),
            Overlay::Ipip => self.nodes.get(node).and_then(|node| node.ipip_addr).map(|_| host),
        };
        Some(through.map_or(Path::Awaited(overlay, host), |through| Path::Tunnel(overlay, through)))
    }

    /// The smallest pool around a destination.
    fn pool_of(&self, destination: &Cidr) -> Option<&Pool> {
        let around = |len| Cidr::new(destination.addr(), len).ok();
        (0..=destination.prefix_len()).rev().filter_map(around).find_map(|cidr| self.pools.get(&cidr))
    }

    fn address(&self, node: &SmolStr, family: Family) -> Option<(IpAddr, u8)> {
        let node = self.nodes.get(node)?;
        match family {
            Family::V4 => node.v4,
            Family::V6 => node.v6,
        }
    }

    fn on_own_subnet(&self, host: IpAddr, family: Family) -> bool {
        let own = self.address(self.own, family);
        own.and_then(|(addr, len)| Cidr::new(addr, len).ok()).is_some_and(|subnet| subnet.contains(host))
    }
}
