//! Release of addresses, one by one or by handle (spec 5 §2.10).
//!
//! A releaser writes the block first and the handle after it, in one commit (see `handle.rs` for why). A block that
//! becomes empty and belongs to nobody is deleted by the same write.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_api::ipam::Ordinal;
use calico_api::{IpamBlock, Key, Kind, Revision, Selection};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::block::{self, Slot};
use crate::handle;
use crate::known::{Known, Need, Record};
use crate::machine::{Act, Change, Contended, Decision, Halt, Operation};
use crate::pools;
use crate::time::UnixTime;

/// The most writes of one commit; a store allows 128.
const MAX_WRITES: usize = 64;

/// One address to release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The address.
    pub address: IpAddr,
    /// Its block, where the caller knows it; else it is found through the pools.
    pub block: Option<Cidr>,
    /// Release only if this handle has it.
    pub handle: Option<SmolStr>,
    /// Release only if it is still the assignment made at this sequence number of the block.
    pub sequence: Option<u64>,
}

impl Target {
    /// An address, whoever has it.
    pub fn new(address: IpAddr) -> Target {
        Target { address, block: None, handle: None, sequence: None }
    }
}

/// Why one address was not released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The address was released and assigned again since the caller looked.
    #[error("bad sequence number for {address}: expected {expected}, found {found}")]
    Sequence {
        /// The address.
        address: IpAddr,
        /// What the caller saw.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// Another handle has it.
    #[error("bad handle for {address}: expected {expected}, found {found}")]
    Handle {
        /// The address.
        address: IpAddr,
        /// What the caller named.
        expected: SmolStr,
        /// Who has it.
        found: SmolStr,
    },
}

/// What became of the addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Released {
    /// Released by this operation.
    pub released: Vec<IpAddr>,
    /// Not assigned when looked at: no error.
    pub unallocated: Vec<IpAddr>,
    /// Left alone.
    pub refused: Vec<Refusal>,
}

/// Why a release failed as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReleaseError {
    /// No such handle: nothing to release.
    #[error("handle {0} does not exist")]
    NotFound(SmolStr),
    /// The handle or a block of it cannot be read, so its addresses cannot be released.
    #[error("{0} cannot be read")]
    Damaged(Key),
    /// Too many conflicts.
    #[error(transparent)]
    Contended(#[from] Contended),
}

/// The write of a block after a release: deleted if it is empty and nobody's.
fn write_back(after: &IpamBlock, over: &Revision, now: UnixTime, cooldown_secs: u32) -> Change {
    if after.owner().is_none() && block::is_empty(after, now, cooldown_secs) {
        Change::delete(Key::Block(after.cidr), over)
    } else {
        Change::block(after.clone(), Some(over))
    }
}

#[derive(Clone, Debug, Default)]
struct Flight {
    released: Vec<IpAddr>,
    /// Each handle with the place of its write.
    handles: Vec<(usize, SmolStr, Cidr)>,
    mending: bool,
}

/// Releases given addresses.
#[derive(Clone, Debug)]
pub struct ReleaseAddresses {
    targets: Vec<Target>,
    now: UnixTime,
    outcome: Released,
    /// Handles whose block was written but whose count was not yet lowered.
    owed: BTreeSet<(SmolStr, Cidr)>,
    flight: Flight,
}

impl ReleaseAddresses {
    /// An operation that starts at `now`.
    pub fn new(targets: Vec<Target>, now: UnixTime) -> ReleaseAddresses {
        ReleaseAddresses {
            targets,
            now,
            outcome: Released::default(),
            owed: BTreeSet::new(),
            flight: Flight::default(),
        }
    }

    /// Finds the blocks of targets that name none.
    fn locate(&mut self, known: &Known) -> Result<(), Need> {
        if self.targets.iter().all(|t| t.block.is_some()) {
            return Ok(());
        }
        known.require([], [Selection::all(Kind::IPPool)])?;
        let unknown = self.targets.iter().filter(|t| t.block.is_none());
        known.require(unknown.filter_map(|t| by_pool(known, t.address)).map(Key::Block), [])?;
        for target in self.targets.iter_mut().filter(|t| t.block.is_none()) {
            target.block = locate(known, target.address)?;
        }
        let outcome = &mut self.outcome;
        self.targets.retain(|t| {
            if t.block.is_none() {
                outcome.unallocated.push(t.address);
            }
            t.block.is_some()
        });
        Ok(())
    }

    /// Lowers the counts that a conflict left too high.
    fn mend(&mut self, known: &Known) -> Result<Option<Vec<Change>>, Need> {
        while let Some((id, cidr)) = self.owed.first().cloned() {
            if let Some(changes) = handle::mend(known, &id, [cidr])? {
                return Ok(Some(changes));
            }
            self.owed.remove(&(id, cidr));
        }
        Ok(None)
    }

    /// Decides on one block's targets: what is left to release of them.
    fn sort_out(&mut self, found: Option<&IpamBlock>, cidr: Cidr) -> Vec<Ordinal> {
        let mut chosen = BTreeMap::new();
        let Released { unallocated, refused, .. } = &mut self.outcome;
        self.targets.retain(|target| {
            if target.block != Some(cidr) {
                return true;
            }
            let address = target.address;
            let place = found.and_then(|b| Some((b, block::ordinal(b, address)?)));
            let Some((b, ordinal)) = place else {
                unallocated.push(address);
                return false;
            };
            let Slot::Used(attribute) = block::slot(b, ordinal) else {
                unallocated.push(address);
                return false;
            };
            let holder = attribute.handle_id.clone().unwrap_or_default();
            if let Some(expected) = target.handle.clone().filter(|h| *h != holder) {
                refused.push(Refusal::Handle { address, expected, found: holder });
                return false;
            }
            let sequence = b.sequence_number_for_allocation.get(&ordinal).copied().unwrap_or(0);
            if let Some(expected) = target.sequence.filter(|s| *s != sequence) {
                refused.push(Refusal::Sequence { address, expected, found: sequence });
                return false;
            }
            if chosen.len() < MAX_WRITES {
                chosen.insert(ordinal, address);
            }
            true
        });
        chosen.into_keys().collect()
    }
}

/// The block of an address by its pool.
fn by_pool(known: &Known, address: IpAddr) -> Option<Cidr> {
    let pool = known.pools().filter_map(pools::pool).find(|p| p.cidr.contains(address))?;
    block::cidr_of(address, pool.block_len)
}

/// The block that would hold an address: by its pool if that block exists, else by the blocks that exist (the address
/// may lie outside every pool, or in a block made when its pool had blocks of another size).
pub(crate) fn locate(known: &Known, address: IpAddr) -> Result<Option<Cidr>, Need> {
    known.require([], [Selection::all(Kind::IPPool)])?;
    let guess = by_pool(known, address);
    if let Some(cidr) = guess {
        known.require([Key::Block(cidr)], [])?;
        if known.record(&Key::Block(cidr)).is_some() {
            return Ok(guess);
        }
    }
    let family = Family::of(address);
    known.require([], [Selection::Blocks(family)])?;
    Ok(known.blocks(family).map(|(cidr, _)| cidr).find(|c| c.contains(address)).or(guess))
}

impl Operation for ReleaseAddresses {
    type Outcome = Released;
    type Error = ReleaseError;

    fn decide(&mut self, known: &Known) -> Decision<Released, ReleaseError> {
        self.flight = Flight::default();
        known.require([Key::IpamConfig], [])?;
        let cooldown_secs = known.config().ip_cooldown_seconds;
        if let Some(changes) = self.mend(known)? {
            self.flight.mending = true;
            return Ok(Act::Commit(changes));
        }
        self.locate(known)?;
        known.require(self.targets.iter().filter_map(|t| t.block).map(Key::Block), [])?;
        while let Some(cidr) = self.targets.first().and_then(|t| t.block) {
            let held = known.block(cidr);
            if known.has_hints() {
                // Whether it is assigned, and by whom, is answered from the present only.
                return Err(Halt::Refresh);
            }
            let chosen = self.sort_out(held.map(|(b, _)| b), cidr);
            let Some((found, over)) = held.filter(|_| !chosen.is_empty()) else { continue };
            let handles: BTreeSet<SmolStr> = block::used(found)
                .filter(|(n, _)| chosen.contains(n))
                .filter_map(|(_, a)| a.handle_id.clone())
                .collect();
            known.require(handles.iter().cloned().map(Key::Handle), [])?;
            let mut after = found.clone();
            block::collect(&mut after, self.now, cooldown_secs);
            block::release(&mut after, &chosen, self.now);
            block::bump(&mut after);
            let mut changes = vec![write_back(&after, over, self.now, cooldown_secs)];
            for id in handles {
                let change = handle::settle(known, &id, [(cidr, Some(&after))]);
                // What is known of the handle may be older than the block, which a conflict has renewed: one that
                // seems to need no write must still be as it was.
                let key = Key::Handle(id.clone());
                // One that cannot be read stays as it is: what it counts of this block is then too much, and harmless.
                let change = change.unwrap_or_else(|| match known.record(&key) {
                    Some((_, revision)) => Change::check(key, revision),
                    None => Change::check_absent(key),
                });
                self.flight.handles.push((changes.len(), id, cidr));
                changes.push(change);
            }
            self.flight.released = chosen.iter().filter_map(|n| block::address(found, *n)).collect();
            return Ok(Act::Commit(changes));
        }
        Ok(Act::Done(self.outcome.clone()))
    }

    fn settle(&mut self, applied: usize, whole: bool, _known: &Known) {
        let Flight { released, handles, mending } = std::mem::take(&mut self.flight);
        if mending {
            if whole {
                self.owed.pop_first();
            }
        } else if applied > 0 {
            self.targets.retain(|t| !released.contains(&t.address));
            self.outcome.released.extend(released);
            let late = handles.into_iter().filter(|(index, _, _)| *index >= applied);
            self.owed.extend(late.map(|(_, id, cidr)| (id, cidr)));
        }
    }
}

/// Releases everything that a handle has.
#[derive(Clone, Debug)]
pub struct ReleaseByHandle {
    handle: SmolStr,
    now: UnixTime,
    released: Vec<IpAddr>,
    /// Whether the handle has been seen.
    seen: bool,
    /// By write of the commit under way: the addresses that it releases.
    flight: Vec<Vec<IpAddr>>,
}

impl ReleaseByHandle {
    /// An operation that starts at `now`.
    pub fn new(handle: &str, now: UnixTime) -> ReleaseByHandle {
        let handle = crate::handle_id(handle);
        ReleaseByHandle { handle, now, released: Vec::new(), seen: false, flight: Vec::new() }
    }
}

impl Operation for ReleaseByHandle {
    type Outcome = Vec<IpAddr>;
    type Error = ReleaseError;

    fn decide(&mut self, known: &Known) -> Decision<Vec<IpAddr>, ReleaseError> {
        self.flight.clear();
        let key = Key::Handle(self.handle.clone());
        known.require([Key::IpamConfig, key.clone()], [])?;
        // What was damaged when an earlier operation looked may be repaired by now.
        let fail = |error| if known.has_hints() { Halt::Refresh } else { Halt::Fail(error) };
        if known.problem(&key).is_some() {
            return Err(fail(ReleaseError::Damaged(key)));
        }
        let cooldown_secs = known.config().ip_cooldown_seconds;
        let Some((held, revision)) = known.handle(&self.handle) else {
            return match known.has_hints() {
                true => Err(Halt::Refresh),
                false if self.seen => Ok(Act::Done(self.released.clone())),
                false => Err(fail(ReleaseError::NotFound(self.handle.clone()))),
            };
        };
        self.seen = true;
        let blocks: Vec<Cidr> = held.block.keys().copied().collect();
        known.require(blocks.iter().map(|c| Key::Block(*c)), [])?;
        let (readable, damaged): (Vec<Cidr>, Vec<Cidr>) = blocks
            .iter()
            .partition(|c| !matches!(known.record(&Key::Block(**c)), Some((Record::Damaged(_), _))));
        if readable.is_empty() {
            return match damaged.first() {
                Some(cidr) => Err(fail(ReleaseError::Damaged(Key::Block(*cidr)))),
                None => Ok(Act::Commit(vec![Change::delete(Key::Handle(self.handle.clone()), revision)])),
            };
        }
        let mut changes = Vec::new();
        let mut afters = Vec::new();
        for cidr in readable.into_iter().take(MAX_WRITES) {
            let Some((found, over)) = known.block(cidr) else {
                changes.push(Change::check_absent(Key::Block(cidr)));
                self.flight.push(Vec::new());
                afters.push((cidr, None));
                continue;
            };
            // Written even if it has nothing of the handle: that stops an assigner that has raised the handle and is
            // about to write the block.
            let ordinals = block::ordinals_of(found, &self.handle);
            let mut after = found.clone();
            block::collect(&mut after, self.now, cooldown_secs);
            block::release(&mut after, &ordinals, self.now);
            block::bump(&mut after);
            changes.push(write_back(&after, over, self.now, cooldown_secs));
            self.flight.push(ordinals.iter().filter_map(|n| block::address(found, *n)).collect());
            afters.push((cidr, Some(after)));
        }
        changes.extend(handle::settle(known, &self.handle, afters.iter().map(|(c, b)| (*c, b.as_ref()))));
        Ok(Act::Commit(changes))
    }

    fn settle(&mut self, applied: usize, _whole: bool, _known: &Known) {
        let flight = std::mem::take(&mut self.flight);
        self.released.extend(flight.into_iter().take(applied).flatten());
    }
}

#[cfg(test)]
mod tests;
