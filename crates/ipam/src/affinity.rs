//! Claims of blocks: how one is made, mended and given up (spec 5 §2.6, §2.10), one commit at a time.
//!
//! ```text
//!  claim    affinity pending ─▶ block (owner set) ─▶ affinity confirmed
//!  release  affinity pendingDeletion ─▶ block deleted, or its owner cleared ─▶ affinity deleted
//! ```
//! Each function says what the next commit is for the state that is known, whoever left it so: a writer that died is
//! continued or undone by the next one. Every commit writes the block whenever two claims could disagree about it, so
//! that the slower one fails.

use calico_api::{AffinityOwner, AffinityState, IpamBlock, Key};
use calico_net::Cidr;

use crate::block;
use crate::known::{Known, Need, Record};
use crate::machine::Change;
use crate::time::UnixTime;

/// How far a claim is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Claim {
    /// The block is the owner's. An affinity that is not confirmed yet: confirm it in the next commit, before use.
    Ready {
        /// The write that confirms it.
        confirm: Option<Change>,
    },
    /// Not yet: commit this, then look again.
    Next(Vec<Change>),
    /// The block is somebody else's; commit this, if anything, to withdraw.
    Lost(Vec<Change>),
    /// This, the claim or the block, cannot be read: whose mistake it is nobody knows, so both stay as they are.
    Damaged(Key),
}

/// The next step of claiming a block. The affinity and the block must be known.
pub(crate) fn claim(known: &Known, owner: &AffinityOwner, cidr: Cidr, now: UnixTime) -> Result<Claim, Need> {
    let affinity_key = Key::Affinity { owner: owner.clone(), block: cidr };
    known.require([affinity_key.clone(), Key::Block(cidr)], [])?;
    if let Some(problem) = known.problem(&affinity_key).or_else(|| known.problem(&Key::Block(cidr))) {
        return Ok(Claim::Damaged(problem.key));
    }
    let affinity = known.affinity(owner, cidr);
    let state = affinity.map(|(a, _)| &a.state);
    let set = |state| Change::affinity(owner, cidr, state, affinity);
    let claim = match known.record(&Key::Block(cidr)) {
        None => {
            // The claim is on record before the block is; an affinity that is there must still be.
            let first = match (state, affinity) {
                (Some(AffinityState::Pending), Some((_, revision))) => Change::check(affinity_key, revision),
                _ => set(AffinityState::Pending),
            };
            Claim::Next(vec![first, Change::block(block::new(cidr, owner, now), None)])
        }
        Some((Record::Block(b), revision)) if block::is_owned_by(b, owner) => match state {
            Some(AffinityState::Confirmed) => Claim::Ready { confirm: None },
            Some(AffinityState::Pending) => Claim::Ready { confirm: Some(set(AffinityState::Confirmed)) },
            // Somebody is giving it up, or it was never on record: writing the block stops a releaser that is at it.
            _ => {
                let mut fence = b.clone();
                block::bump(&mut fence);
                Claim::Next(vec![set(AffinityState::Pending), Change::block(fence, Some(revision))])
            }
        },
        Some(_) => Claim::Lost(affinity.map(|(_, r)| Change::delete(affinity_key, r)).into_iter().collect()),
    };
    Ok(claim)
}

/// How far a release of an affinity is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Release {
    /// Commit this, then look again.
    Next(Vec<Change>),
    /// Nothing is left of it.
    Gone,
    /// It must be empty and is not; commit this, if anything, to leave it as it was.
    Refused(Vec<Change>),
    /// This, the claim or the block, cannot be read: who has addresses nobody can tell, so both stay as they are.
    Damaged(Key),
}

/// The next step of giving up a block. The affinity and the block must be known.
pub(crate) fn release(
    known: &Known,
    owner: &AffinityOwner,
    cidr: Cidr,
    must_be_empty: bool,
    now: UnixTime,
    cooldown_secs: u32,
) -> Result<Release, Need> {
    let affinity_key = Key::Affinity { owner: owner.clone(), block: cidr };
    known.require([affinity_key.clone(), Key::Block(cidr)], [])?;
    if let Some(problem) = known.problem(&affinity_key).or_else(|| known.problem(&Key::Block(cidr))) {
        return Ok(Release::Damaged(problem.key));
    }
    let affinity = known.affinity(owner, cidr);
    let held = known.block(cidr).filter(|(b, _)| block::is_owned_by(b, owner));
    let is_empty = held.is_none_or(|(b, _)| block::is_empty(b, now, cooldown_secs));
    let set = |state| Change::affinity(owner, cidr, state, affinity);
    let is_leaving = affinity.is_some_and(|(a, _)| a.state == AffinityState::PendingDeletion);
    if must_be_empty && !is_empty {
        return Ok(Release::Refused(if is_leaving {
            vec![set(AffinityState::Confirmed)]
        } else {
            Vec::new()
        }));
    }
    if affinity.is_some() && !is_leaving {
        return Ok(Release::Next(vec![set(AffinityState::PendingDeletion)]));
    }
    let mut changes = Vec::new();
    if let Some((b, revision)) = held {
        changes.push(if is_empty {
            Change::delete(Key::Block(cidr), revision)
        } else {
            Change::block(disowned(b), Some(revision))
        });
    }
    changes.extend(affinity.map(|(_, revision)| Change::delete(affinity_key, revision)));
    Ok(if changes.is_empty() { Release::Gone } else { Release::Next(changes) })
}

/// A block that belongs to nobody any more; its addresses stay valid.
fn disowned(block: &IpamBlock) -> IpamBlock {
    let mut block =
        IpamBlock { affinity: None, affinity_claim_time: None, host_affinity: None, ..block.clone() };
    block::bump(&mut block);
    block
}
