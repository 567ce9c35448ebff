//! Pools, nodes and blocks: the static rules' sets, and the blackholes of local blocks.

use std::collections::BTreeMap;
use std::net::IpAddr;

use calico_calc::change::{NodeInfo, Pool};
use calico_net::{Cidr, Family};
use calico_rules::nft::{Element, Table};
use calico_rules::sets::{address_key, exact_name, id, nets_name};
use smol_str::SmolStr;

use super::Desired;
use super::ipset::Unions;
use crate::tables::nft::Ruleset;
use crate::tables::route::Route;

/// The prefixes of pools, for outgoing NAT.
#[derive(Debug, Default)]
pub(super) struct PoolSets {
    masqueraded: Unions,
    all: Unions,
}

/// A set of nodes' addresses. Nodes may wrongly share one; it goes with the last of them.
#[derive(Debug)]
pub(super) struct HostSet {
    id: &'static str,
    refs: BTreeMap<IpAddr, u32>,
}

impl HostSet {
    pub fn new(id: &'static str) -> HostSet {
        HostSet { id, refs: BTreeMap::new() }
    }

    fn change(&mut self, ruleset: &mut Ruleset, address: IpAddr, add: bool) {
        let set = exact_name(Family::of(address), self.id);
        let element = Element::Exact(address_key(address));
        let refs = self.refs.entry(address).or_default();
        *refs = if add { *refs + 1 } else { refs.saturating_sub(1) };
        if *refs == 0 {
            self.refs.remove(&address);
            ruleset.remove_element(Table::Inet, &set, &element);
        } else {
            ruleset.insert_element(Table::Inet, &set, element);
        }
    }
}

impl Desired {
    pub(super) fn change_pool(&mut self, cidr: Cidr, new: Option<Pool>) {
        let old = match new.clone() {
            Some(pool) => self.pools.insert(cidr, pool),
            None => self.pools.remove(&cidr),
        };
        self.overlays.change_pool(cidr.family(), old.as_ref(), new.as_ref());
        for (pool, add) in [(old, false), (new, true)] {
            let Some(Pool { nat_outgoing, ipip: _, vxlan: _, load_balancer_only }) = pool else { continue };
            if load_balancer_only {
                continue;
            }
            let name = |id| nets_name(cidr.family(), id);
            self.pool_sets.all.change(&mut self.ruleset, &name(id::POOLS), cidr, add);
            if nat_outgoing {
                let set = name(id::MASQUERADED_POOLS);
                self.pool_sets.masqueraded.change(&mut self.ruleset, &set, cidr, add);
            }
        }
    }

    pub(super) fn change_node(&mut self, name: SmolStr, new: Option<NodeInfo>) {
        let old = match new.clone() {
            Some(node) => self.nodes.insert(name, node),
            None => self.nodes.remove(&name),
        };
        for (node, add) in [(old, false), (new, true)] {
            let Some(node) = node else { continue };
            // A node sends through the overlay as soon as it knows its own tunnel address, and others may learn of that
            // a moment later: so it is known nodes whose encapsulated packets are accepted, and not known tunnels.
            let NodeInfo { v4, v6, .. } = node;
            for (address, _) in [v4, v6].into_iter().flatten() {
                self.hosts.change(&mut self.ruleset, address, add);
                self.vxlan_hosts.change(&mut self.ruleset, address, add);
            }
        }
    }

    /// A block of one address has no unused ones to discard packets for.
    pub(super) fn change_block(&mut self, block: Cidr, present: bool) {
        if !block.is_host() {
            let route = Route { protocol: self.settings.cluster_route_protocol(), ..Route::blackhole(block) };
            self.routes.want(route.key, present.then_some(route));
        }
    }
}
