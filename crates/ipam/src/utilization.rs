//! How full the pools are (spec 5 §2.11): what `calicoctl ipam show` prints.

use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::block;
use crate::known::Known;
use crate::pools;
use crate::time::UnixTime;

/// The name under which blocks outside every pool are listed.
pub const ORPHANED: &str = "orphaned allocation blocks";

/// One block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockUsage {
    /// Its range.
    pub cidr: Cidr,
    /// Whose it is, as records spell it (`host:node1`).
    pub owner: Option<String>,
    /// Addresses.
    pub capacity: u128,
    /// Assigned.
    pub in_use: u128,
    /// Reserved, or resting after release, and not in use.
    pub reserved: u128,
    /// What can be assigned.
    pub available: u128,
}

/// One pool.
#[derive(Clone, Debug, PartialEq)]
pub struct PoolUsage {
    /// Its name, or [`ORPHANED`].
    pub name: SmolStr,
    /// Its range; none for the orphans.
    pub cidr: Option<Cidr>,
    /// Its blocks.
    pub blocks: Vec<BlockUsage>,
    /// Addresses; of the orphans, in their blocks.
    pub capacity: u128,
    /// Assigned.
    pub in_use: u128,
    /// Reserved, or resting after release, and not in use.
    pub reserved: u128,
    /// What can be assigned.
    pub available: u128,
}

/// How full each pool is at `now`, by name, and last the blocks outside every pool, if there are any. `known` is a
/// survey's.
pub fn report(known: &Known, now: UnixTime) -> Vec<PoolUsage> {
    let reserved = known.reservations();
    let cooldown_secs = known.config().ip_cooldown_seconds;
    let pools: Vec<pools::Pool> = known.pools().filter_map(pools::pool).collect();
    let usages: Vec<BlockUsage> = Family::ALL
        .into_iter()
        .flat_map(|family| known.blocks(family))
        .filter_map(|(_, held)| held)
        .map(|(found, _)| {
            // As the next assignment will find it: what has rested long enough is free.
            let mut b = found.clone();
            block::collect(&mut b, now, cooldown_secs);
            let in_use = block::used(&b).count() as u128;
            let available = block::free(&b, &reserved).count() as u128;
            BlockUsage {
                cidr: b.cidr,
                owner: b.owner().map(|o| o.to_string()),
                capacity: b.cidr.size(),
                in_use,
                reserved: b.cidr.size().saturating_sub(in_use + available),
                available,
            }
        })
        .collect();
    let (inside, orphans): (Vec<_>, Vec<_>) =
        usages.into_iter().partition(|b| pools.iter().any(|p| p.cidr.covers(&b.cidr)));
    let mut report: Vec<PoolUsage> = pools
        .iter()
        .map(|pool| {
            let blocks: Vec<BlockUsage> =
                inside.iter().filter(|b| pool.cidr.covers(&b.cidr)).cloned().collect();
            // Outside the blocks what is reserved is so whole; of the blocks each says it for itself.
            let in_blocks = blocks.iter().map(|b| reserved_in(&b.cidr, &reserved)).sum();
            let outside = reserved_in(&pool.cidr, &reserved).saturating_sub(in_blocks);
            let reserved = outside + blocks.iter().map(|b| b.reserved).sum::<u128>();
            let in_use = blocks.iter().map(|b| b.in_use).sum();
            PoolUsage {
                name: pool.name.clone(),
                cidr: Some(pool.cidr),
                capacity: pool.cidr.size(),
                in_use,
                reserved,
                available: pool.cidr.size().saturating_sub(in_use).saturating_sub(reserved),
                blocks,
            }
        })
        .collect();
    if !orphans.is_empty() {
        let sum = |of: fn(&BlockUsage) -> u128| orphans.iter().map(of).sum();
        report.push(PoolUsage {
            name: SmolStr::new_static(ORPHANED),
            cidr: None,
            capacity: sum(|b| b.capacity),
            in_use: sum(|b| b.in_use),
            reserved: sum(|b| b.reserved),
            available: sum(|b| b.available),
            blocks: orphans,
        });
    }
    report
}

/// How many addresses of a range are reserved, each counted once.
fn reserved_in(range: &Cidr, reserved: &[Cidr]) -> u128 {
    if reserved.iter().any(|r| r.covers(range)) {
        return range.size();
    }
    let inside: Vec<&Cidr> = reserved.iter().filter(|r| range.covers(r)).collect();
    let is_maximal = |i: usize, r: &Cidr| {
        !inside.iter().enumerate().any(|(j, o)| j != i && o.covers(r) && (**o != *r || j < i))
    };
    inside.iter().enumerate().filter(|(i, r)| is_maximal(*i, r)).map(|(_, r)| r.size()).sum()
}

#[cfg(test)]
mod tests;
