//! What happens inside one block (spec 5 §2.8): FIFO assignment, shared attributes, release with a rest, collection.
//!
//! A released ordinal is not free at once: it points at an attribute that only says when. Collection, on the next load
//! after the rest is over, puts it at the tail of `unallocated`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use calico_api::ipam::Ordinal;
use calico_api::{AffinityOwner, AllocationAttribute, IpamBlock, Labels};
use calico_net::Cidr;
use indexmap::IndexMap;
use smol_str::SmolStr;

use crate::time::UnixTime;

/// The longest blocks that records can describe: ordinals are 16 bits.
pub const MAX_BLOCK_BITS: u8 = 16;

/// What an ordinal is used for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Slot<'a> {
    /// Nothing.
    Free,
    /// Nothing, but it was released so recently that it may not be used again yet.
    Resting(UnixTime),
    /// An assignment.
    Used(&'a AllocationAttribute),
}

/// The block that holds an address in a pool of blocks of `block_len`.
pub fn cidr_of(addr: IpAddr, block_len: u8) -> Option<Cidr> {
    Cidr::new(addr, block_len).ok()
}

/// An empty block. Its sequence starts at the time of its making, so that a block deleted and made again never repeats
/// a number that some releaser may still hold.
pub fn new(cidr: Cidr, owner: &AffinityOwner, now: UnixTime) -> IpamBlock {
    let size = cidr.size().min(1 << MAX_BLOCK_BITS) as usize;
    IpamBlock {
        cidr,
        affinity: Some(owner.clone()),
        affinity_claim_time: Some(now.rfc3339().into()),
        allocations: vec![None; size],
        unallocated: (0..size).map(|n| n as Ordinal).collect(),
        attributes: Vec::new(),
        sequence_number: now.0,
        sequence_number_for_allocation: BTreeMap::new(),
        deleted: false,
        host_affinity: None,
        other: IndexMap::new(),
    }
}

/// What a stored block of the key `key` says that cannot be true, if anything. A block that contradicts itself cannot
/// be written over without a guess at which of its halves is right, and a wrong guess gives an address to two.
pub fn contradiction(block: &IpamBlock, key: Cidr) -> Option<String> {
    let IpamBlock { cidr, allocations, unallocated, attributes, .. } = block;
    if *cidr != key {
        return Some(format!("cidr: {cidr}: the key says {key}"));
    }
    let size = cidr.size().min(1 << MAX_BLOCK_BITS);
    if allocations.len() as u128 != size {
        return Some(format!("allocations: {} of them for {size} addresses", allocations.len()));
    }
    if let Some(index) = allocations.iter().flatten().find(|index| **index >= attributes.len()) {
        return Some(format!("allocations: {index}: there are only {} attributes", attributes.len()));
    }
    let mut listed = vec![false; allocations.len()];
    for ordinal in unallocated {
        match (allocations.get(usize::from(*ordinal)), listed.get_mut(usize::from(*ordinal))) {
            (Some(None), Some(seen)) if !*seen => *seen = true,
            (Some(None), _) => return Some(format!("unallocated: {ordinal}: is listed twice")),
            (Some(Some(_)), _) => return Some(format!("unallocated: {ordinal}: is allocated")),
            (None, _) => return Some(format!("unallocated: {ordinal}: lies beyond the block")),
        }
    }
    None
}

/// Whether it belongs to `who`.
pub fn is_owned_by(block: &IpamBlock, who: &AffinityOwner) -> bool {
    match (&block.affinity, &block.host_affinity, who) {
        (Some(owner), _, _) => owner == who,
        (None, Some(host), AffinityOwner::Host(name)) => host == name,
        _ => false,
    }
}

/// What an ordinal is used for. One that points at no attribute counts as used by nobody known.
pub fn slot(block: &IpamBlock, ordinal: Ordinal) -> Slot<'_> {
    static NOBODY: std::sync::LazyLock<AllocationAttribute> = std::sync::LazyLock::new(Default::default);
    match block.allocations.get(usize::from(ordinal)) {
        None | Some(None) => Slot::Free,
        Some(Some(index)) => {
            let attribute = block.attributes.get(*index).unwrap_or(&NOBODY);
            match &attribute.released_at {
                None => Slot::Used(attribute),
                // A time that cannot be read is over.
                Some(text) => Slot::Resting(UnixTime::parse_rfc3339(text).unwrap_or_default()),
            }
        }
    }
}

/// The used ordinals, each with whom.
pub fn used(block: &IpamBlock) -> impl Iterator<Item = (Ordinal, &AllocationAttribute)> {
    (0..block.allocations.len()).filter_map(|n| match slot(block, n as Ordinal) {
        Slot::Used(attribute) => Some((n as Ordinal, attribute)),
        _ => None,
    })
}

/// How many addresses a handle has.
pub fn held_by(block: &IpamBlock, handle: &str) -> u32 {
    used(block).filter(|(_, a)| a.handle_id.as_deref() == Some(handle)).count() as u32
}

/// Whether nothing is used, and nothing rests any more.
pub fn is_empty(block: &IpamBlock, now: UnixTime, cooldown_secs: u32) -> bool {
    (0..block.allocations.len()).all(|n| match slot(block, n as Ordinal) {
        Slot::Free => true,
        Slot::Resting(since) => is_rested(since, now, cooldown_secs),
        Slot::Used(_) => false,
    })
}

fn is_rested(since: UnixTime, now: UnixTime, cooldown_secs: u32) -> bool {
    since.secs() + u64::from(cooldown_secs) <= now.secs()
}

/// The free ordinals that are not reserved, in the order in which they will be assigned. One that a damaged block lists
/// as free although it is in use, or lies beyond the block, is not.
pub fn free<'a>(block: &'a IpamBlock, reserved: &'a [Cidr]) -> impl Iterator<Item = Ordinal> + 'a {
    block.unallocated.iter().copied().filter(move |n| match address(block, *n) {
        Some(addr) => is_vacant(block, *n) && !reserved.iter().any(|r| r.contains(addr)),
        None => false,
    })
}

fn is_vacant(block: &IpamBlock, ordinal: Ordinal) -> bool {
    block.allocations.get(usize::from(ordinal)).is_some_and(Option::is_none)
}

/// Whether an unreserved address could be assigned once rested ones are collected. Spares the copy of full blocks.
pub fn has_room(block: &IpamBlock, reserved: &[Cidr], now: UnixTime, cooldown_secs: u32) -> bool {
    let is_open = |n| address(block, n).is_some_and(|addr| !reserved.iter().any(|r| r.contains(addr)));
    free(block, reserved).next().is_some()
        || (0..block.allocations.len()).any(|n| match slot(block, n as Ordinal) {
            Slot::Resting(since) => is_rested(since, now, cooldown_secs) && is_open(n as Ordinal),
            _ => false,
        })
}

/// The address of an ordinal.
pub fn address(block: &IpamBlock, ordinal: Ordinal) -> Option<IpAddr> {
    block.cidr.nth(ordinal.into())
}

/// The ordinal of an address.
pub fn ordinal(block: &IpamBlock, addr: IpAddr) -> Option<Ordinal> {
    block.cidr.offset_of(addr).and_then(|n| Ordinal::try_from(n).ok())
}

/// Puts rested ordinals back at the tail, the longest rested first. Done on every load.
pub fn collect(block: &mut IpamBlock, now: UnixTime, cooldown_secs: u32) {
    let mut rested: Vec<(UnixTime, Ordinal)> = (0..block.allocations.len())
        .filter_map(|n| match slot(block, n as Ordinal) {
            Slot::Resting(since) if is_rested(since, now, cooldown_secs) => Some((since, n as Ordinal)),
            _ => None,
        })
        .collect();
    if rested.is_empty() {
        return;
    }
    rested.sort_unstable();
    for (_, ordinal) in rested {
        block.allocations[usize::from(ordinal)] = None;
        block.sequence_number_for_allocation.remove(&ordinal);
        block.unallocated.push(ordinal);
    }
    compact(block);
}

/// Drops attributes that no ordinal points at and renumbers the rest.
fn compact(block: &mut IpamBlock) {
    let mut place = vec![None; block.attributes.len()];
    for index in block.allocations.iter().flatten() {
        if let Some(slot) = place.get_mut(*index) {
            *slot = Some(0);
        }
    }
    for (next, slot) in place.iter_mut().flatten().enumerate() {
        *slot = next;
    }
    let mut kept = place.iter();
    block.attributes.retain(|_| kept.next().is_some_and(Option::is_some));
    for index in block.allocations.iter_mut().flatten() {
        // An index beyond the attributes stays as it is, and so beyond them: they only shrink.
        if let Some(Some(new)) = place.get(*index) {
            *index = *new;
        }
    }
}

/// The attribute to point at: an equal one that is there, or a new one.
fn attribute(block: &mut IpamBlock, wanted: AllocationAttribute) -> usize {
    block.attributes.iter().position(|a| *a == wanted).unwrap_or_else(|| {
        block.attributes.push(wanted);
        block.attributes.len() - 1
    })
}

fn occupy(block: &mut IpamBlock, ordinal: Ordinal, handle: &SmolStr, attributes: &Labels) {
    let secondary = (!attributes.is_empty()).then(|| Arc::new(attributes.clone()));
    let wanted =
        AllocationAttribute { handle_id: Some(handle.clone()), secondary, ..AllocationAttribute::default() };
    let index = attribute(block, wanted);
    block.allocations[usize::from(ordinal)] = Some(index);
    block.sequence_number_for_allocation.insert(ordinal, block.sequence_number);
}

/// Assigns up to `count` free addresses, from the head of the queue, passing over reserved ones.
pub fn assign(
    block: &mut IpamBlock,
    count: usize,
    handle: &SmolStr,
    attributes: &Labels,
    reserved: &[Cidr],
) -> Vec<IpAddr> {
    let mut chosen: Vec<Ordinal> = Vec::new();
    for ordinal in free(block, reserved) {
        if chosen.len() == count {
            break;
        }
        // A damaged block may list one twice.
        if !chosen.contains(&ordinal) {
            chosen.push(ordinal);
        }
    }
    block.unallocated.retain(|n| !chosen.contains(n));
    for ordinal in &chosen {
        occupy(block, *ordinal, handle, attributes);
    }
    chosen.into_iter().filter_map(|n| address(block, n)).collect()
}

/// Assigns one given address if it is free.
pub fn assign_ordinal(
    block: &mut IpamBlock,
    ordinal: Ordinal,
    handle: &SmolStr,
    attributes: &Labels,
) -> bool {
    let Some(place) = block.unallocated.iter().position(|n| *n == ordinal) else { return false };
    if !is_vacant(block, ordinal) {
        return false;
    }
    block.unallocated.remove(place);
    occupy(block, ordinal, handle, attributes);
    true
}

/// Lays used ordinals to rest.
pub fn release(block: &mut IpamBlock, ordinals: &[Ordinal], now: UnixTime) {
    if ordinals.is_empty() {
        return;
    }
    let released =
        AllocationAttribute { released_at: Some(now.rfc3339().into()), ..AllocationAttribute::default() };
    let index = attribute(block, released);
    for ordinal in ordinals {
        if let Some(slot) = block.allocations.get_mut(usize::from(*ordinal)) {
            *slot = Some(index);
        }
    }
    compact(block);
}

/// The ordinals of a handle.
pub fn ordinals_of(block: &IpamBlock, handle: &str) -> Vec<Ordinal> {
    used(block).filter(|(_, a)| a.handle_id.as_deref() == Some(handle)).map(|(n, _)| n).collect()
}

/// Counts a write: whatever read the block before can no longer replace it, even if nothing else changed.
pub fn bump(block: &mut IpamBlock) {
    block.sequence_number = block.sequence_number.wrapping_add(1);
}

#[cfg(test)]
mod tests;
