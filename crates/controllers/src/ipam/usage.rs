//! How pools and nodes use addresses, for metrics.

use std::collections::BTreeMap;

use calico_api::AffinityOwner;
use calico_ipam::pools;
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use super::allocation::allocations;
use super::plan::Marks;
use crate::world::World;

/// The pool of what is in no pool.
pub const NO_POOL: &str = "no_ippool";
/// The node of what is of no node that is known.
pub const NO_NODE: &str = "unknown_node";

/// A pool and a node.
pub type PoolNode = (SmolStr, SmolStr);

/// Counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Addresses in use, by the node that has them.
    pub in_use: BTreeMap<PoolNode, u64>,
    /// Addresses in use that are in blocks of others.
    pub borrowed: BTreeMap<PoolNode, u64>,
    /// Blocks, by the node whose they are.
    pub blocks: BTreeMap<PoolNode, u64>,
    /// Addresses without a user that wait for their grace period.
    pub candidates: BTreeMap<PoolNode, u64>,
    /// Addresses of each pool.
    pub pool_sizes: BTreeMap<SmolStr, u128>,
}

/// Counts what is known.
pub fn usage(world: &World, marks: &Marks) -> Usage {
    let pools: Vec<pools::Pool> = world.known.pools().filter_map(pools::pool).collect();
    let pool = |block: Cidr| {
        let found = pools.iter().find(|pool| pool.cidr.covers(&block));
        found.map_or(SmolStr::new_static(NO_POOL), |pool| pool.name.clone())
    };
    let mut usage = Usage {
        pool_sizes: pools.iter().map(|pool| (pool.name.clone(), pool.cidr.size())).collect(),
        ..Usage::default()
    };
    let blocks = Family::ALL.into_iter().flat_map(|family| world.known.blocks(family));
    for (cidr, b) in blocks.filter_map(|(cidr, held)| Some((cidr, held?.0))) {
        let node = match b.owner() {
            Some(AffinityOwner::Host(node)) => node,
            _ => SmolStr::new_static(NO_NODE),
        };
        *usage.blocks.entry((pool(cidr), node)).or_default() += 1;
    }
    for allocation in allocations(world) {
        let node = allocation.home().cloned().unwrap_or(SmolStr::new_static(NO_NODE));
        let at = (pool(allocation.block), node);
        if allocation.is_borrowed() {
            *usage.borrowed.entry(at.clone()).or_default() += 1;
        }
        if marks.leaked.contains_key(&allocation.id) {
            *usage.candidates.entry(at.clone()).or_default() += 1;
        }
        *usage.in_use.entry(at).or_default() += 1;
    }
    usage
}
