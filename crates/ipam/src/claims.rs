//! Claiming and giving up blocks by request (spec 5 §2.10, §2.11): of a range, a host, a pool.

use std::collections::BTreeSet;

use calico_api::{AffinityOwner, AffinityState, Expect, Key, Kind, Selection, Write};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::affinity::{self, Claim, Release};
use crate::known::Known;
use crate::machine::{Act, Change, Contended, Decision, Halt, Operation};
use crate::pools;
use crate::time::UnixTime;

/// The most blocks that one request may claim.
pub const MAX_CLAIMS: u128 = 65_536;

/// Why affinities were not claimed or released.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The range is in no enabled pool.
    #[error("{0} is not in a configured pool")]
    NotInPool(Cidr),
    /// The range is smaller than a block, or has more than [`MAX_CLAIMS`] of them.
    #[error("{cidr} is not a range of 1 to {MAX_CLAIMS} blocks of /{block_len}")]
    Size {
        /// The range.
        cidr: Cidr,
        /// The prefix length of the pool's blocks.
        block_len: u8,
    },
    /// A block, or the claim on it, cannot be read, so it was left as it is; the others are done.
    #[error("{0} cannot be read")]
    Damaged(Key),
    /// Too many conflicts.
    #[error(transparent)]
    Contended(#[from] Contended),
}

/// What became of the blocks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Claimed, or released.
    pub done: Vec<Cidr>,
    /// Left alone: somebody else's, or not empty.
    pub failed: Vec<Cidr>,
}

/// Claims every block of a range for an owner.
#[derive(Clone, Debug)]
pub struct ClaimAffinity {
    cidr: Cidr,
    owner: AffinityOwner,
    now: UnixTime,
    settled: BTreeSet<Cidr>,
    outcome: Claims,
    /// The first that cannot be read.
    damaged: Option<Key>,
}

impl ClaimAffinity {
    /// An operation that starts at `now`.
    pub fn new(cidr: Cidr, owner: AffinityOwner, now: UnixTime) -> ClaimAffinity {
        ClaimAffinity {
            cidr,
            owner,
            now,
            settled: BTreeSet::new(),
            outcome: Claims::default(),
            damaged: None,
        }
    }
}

/// The blocks of a range.
fn blocks(known: &Known, cidr: Cidr) -> Result<impl Iterator<Item = Cidr> + use<>, ClaimError> {
    let pool = known
        .pools()
        .filter(|p| !p.spec.disabled)
        .filter_map(pools::pool)
        .find(|p| p.cidr.covers(&cidr))
        .ok_or(ClaimError::NotInPool(cidr))?;
    let block_len = pool.block_len;
    let count = block_len.checked_sub(cidr.prefix_len()).and_then(|bits| 1u128.checked_shl(bits.into()));
    match count.filter(|n| *n <= MAX_CLAIMS) {
        Some(count) => Ok((0..count).filter_map(move |n| cidr.subnet(block_len, n))),
        None => Err(ClaimError::Size { cidr, block_len }),
    }
}

impl Operation for ClaimAffinity {
    type Outcome = Claims;
    type Error = ClaimError;

    fn decide(&mut self, known: &Known) -> Decision<Claims, ClaimError> {
        if known.has_hints() {
            return Err(Halt::Refresh);
        }
        let family = self.cidr.family();
        let own = Selection::Affinities { owner: Some(self.owner.clone()), family: Some(family) };
        known.require([], [Selection::all(Kind::IPPool), own])?;
        let wanted: Vec<Cidr> =
            blocks(known, self.cidr).map_err(Halt::Fail)?.filter(|c| !self.settled.contains(c)).collect();
        // Many blocks are cheaper listed than read one by one.
        match wanted.len() {
            0..=16 => known.require(wanted.iter().map(|c| Key::Block(*c)), [])?,
            _ => known.require([], [Selection::Blocks(family)])?,
        }
        if wanted.iter().any(|c| known.record(&Key::Block(*c)).is_none()) {
            // A new one may not overlap one that was made when the pool had blocks of another size.
            known.require([], [Selection::Blocks(family)])?;
        }
        let of_size = wanted.first().map_or(0, Cidr::prefix_len);
        let odd: Vec<Cidr> = known
            .blocks(family)
            .map(|(c, _)| c)
            .filter(|c| c.prefix_len() != of_size && c.overlaps(&self.cidr))
            .collect();
        for cidr in wanted {
            if odd.iter().any(|c| c.overlaps(&cidr)) {
                self.outcome.failed.push(cidr);
                self.settled.insert(cidr);
                continue;
            }
            match affinity::claim(known, &self.owner, cidr, self.now)? {
                Claim::Ready { confirm: Some(change) } => return Ok(Act::Commit(vec![change])),
                Claim::Next(changes) => return Ok(Act::Commit(changes)),
                Claim::Lost(changes) if !changes.is_empty() => return Ok(Act::Commit(changes)),
                Claim::Ready { confirm: None } => self.outcome.done.push(cidr),
                Claim::Lost(_) => self.outcome.failed.push(cidr),
                Claim::Damaged(key) => self.damaged = self.damaged.take().or(Some(key)),
            }
            self.settled.insert(cidr);
        }
        match self.damaged.clone() {
            Some(key) => Err(Halt::Fail(ClaimError::Damaged(key))),
            None => Ok(Act::Done(self.outcome.clone())),
        }
    }
}

/// Which affinities to give up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those of an owner inside a range.
    Range {
        /// The owner.
        owner: AffinityOwner,
        /// The range.
        cidr: Cidr,
    },
    /// All of an owner.
    Owner(AffinityOwner),
    /// Everybody's in a pool (before the pool is deleted).
    Pool(Cidr),
    /// Those of a node in pools that do not select it any more.
    Unselected(SmolStr),
}

/// Gives up affinities. Blocks with addresses in use stay, owned by nobody, unless they must be empty.
#[derive(Clone, Debug)]
pub struct ReleaseAffinities {
    scope: Scope,
    must_be_empty: bool,
    now: UnixTime,
    settled: BTreeSet<(AffinityOwner, Cidr)>,
    outcome: Claims,
    /// The first block that cannot be read.
    damaged: Option<Key>,
    /// Remove the host's marker at the end.
    forget_host: bool,
    forgotten: bool,
}

impl ReleaseAffinities {
    /// An operation that starts at `now`. With `must_be_empty`, blocks in use are left alone and reported.
    pub fn new(scope: Scope, must_be_empty: bool, now: UnixTime) -> ReleaseAffinities {
        ReleaseAffinities {
            scope,
            must_be_empty,
            now,
            settled: BTreeSet::new(),
            outcome: Claims::default(),
            damaged: None,
            forget_host: false,
            forgotten: false,
        }
    }

    /// Everything that IPAM knows of a host: its affinities, then its marker.
    pub fn remove_host(host: &str, now: UnixTime) -> ReleaseAffinities {
        let scope = Scope::Owner(AffinityOwner::Host(SmolStr::new(host)));
        ReleaseAffinities { forget_host: true, ..ReleaseAffinities::new(scope, false, now) }
    }

    fn matching(&self, known: &Known) -> Result<Vec<(AffinityOwner, Cidr)>, Halt<ClaimError>> {
        let of = |owner: &AffinityOwner| Selection::Affinities { owner: Some(owner.clone()), family: None };
        let (selection, owner, ranges) = match &self.scope {
            Scope::Range { owner, cidr } => (of(owner), Some(owner.clone()), vec![*cidr]),
            Scope::Owner(owner) => {
                (of(owner), Some(owner.clone()), Family::ALL.map(Cidr::everything).to_vec())
            }
            Scope::Pool(cidr) => (Selection::Affinities { owner: None, family: None }, None, vec![*cidr]),
            Scope::Unselected(node) => {
                let owner = AffinityOwner::Host(node.clone());
                known.require(
                    [Key::resource(Kind::Node, "", node)],
                    [Selection::all(Kind::IPPool), of(&owner)],
                )?;
                // A node that is not there selects nothing to keep or to drop: leave that to its removal.
                let Some(labels) = known.node_labels(node) else { return Ok(Vec::new()) };
                let pools = known.pools().filter(|p| !pools::selects_node(p, Some(labels)));
                let ranges = pools.filter_map(pools::pool).map(|p| p.cidr).collect();
                (of(&owner), Some(owner), ranges)
            }
        };
        known.require([], [selection])?;
        Ok(known
            .all_affinities()
            .filter(|(o, cidr, _)| {
                owner.as_ref().is_none_or(|w| w == *o) && ranges.iter().any(|r| r.covers(cidr))
            })
            .map(|(o, cidr, _)| (o.clone(), cidr))
            .collect())
    }
}

impl Operation for ReleaseAffinities {
    type Outcome = Claims;
    type Error = ClaimError;

    fn decide(&mut self, known: &Known) -> Decision<Claims, ClaimError> {
        if known.has_hints() {
            return Err(Halt::Refresh);
        }
        known.require([Key::IpamConfig], [])?;
        let cooldown_secs = known.config().ip_cooldown_seconds;
        for (owner, cidr) in self.matching(known)? {
            if self.settled.contains(&(owner.clone(), cidr)) {
                continue;
            }
            match affinity::release(known, &owner, cidr, self.must_be_empty, self.now, cooldown_secs)? {
                Release::Next(changes) => {
                    // The last commit takes the affinity away, and with it this block from what matches.
                    let is_last = known
                        .affinity(&owner, cidr)
                        .is_none_or(|(a, _)| a.state == AffinityState::PendingDeletion);
                    if is_last && !self.outcome.done.contains(&cidr) {
                        self.outcome.done.push(cidr);
                    }
                    return Ok(Act::Commit(changes));
                }
                Release::Refused(changes) if !changes.is_empty() => return Ok(Act::Commit(changes)),
                Release::Refused(_) => {
                    self.outcome.done.retain(|c| *c != cidr);
                    self.outcome.failed.push(cidr);
                }
                Release::Damaged(key) => {
                    self.outcome.done.retain(|c| *c != cidr);
                    self.damaged = self.damaged.take().or(Some(key));
                }
                Release::Gone => {}
            }
            self.settled.insert((owner, cidr));
        }
        if let Some(key) = self.damaged.clone() {
            return Err(Halt::Fail(ClaimError::Damaged(key)));
        }
        if let (true, false, Scope::Owner(AffinityOwner::Host(host))) =
            (self.forget_host, self.forgotten, &self.scope)
        {
            let write = Write::Delete { key: Key::IpamHost(host.clone()), expect: Expect::Any };
            self.forgotten = true;
            return Ok(Act::Commit(vec![Change { write, record: None }]));
        }
        Ok(Act::Done(self.outcome.clone()))
    }
}

#[cfg(test)]
mod tests;
