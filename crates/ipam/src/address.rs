//! Assignment of one given address (spec 5 §2.9).

use std::net::IpAddr;

use calico_api::{AffinityOwner, AllowedUse, Key, Kind, Labels, Selection};
use calico_net::Cidr;
use smol_str::SmolStr;

use crate::affinity::{self, Claim};
use crate::assign::Assigned;
use crate::block;
use crate::handle::{self, Pledge};
use crate::known::Known;
use crate::machine::{Act, Change, Contended, Decision, Halt, Operation};
use crate::pools;
use crate::time::UnixTime;

/// A request for one address.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressRequest {
    /// Which.
    pub address: IpAddr,
    /// The handle that will release it.
    pub handle: SmolStr,
    /// Stored beside it.
    pub attributes: Labels,
    /// Who claims the block if there is none yet.
    pub owner: AffinityOwner,
    /// What for; with none, every pool will do.
    pub intended_use: Option<AllowedUse>,
}

/// Why the address was not assigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// No enabled pool (for the use) has it.
    #[error("The provided IP address is not in a configured pool")]
    NotInPool,
    /// Somebody has it, or it was released too recently.
    #[error("Address already assigned in block")]
    AlreadyAssigned,
    /// Under strict affinity only blocks of the owner serve it.
    #[error("Block host affinity does not match")]
    Foreign,
    /// The block, or the owner's claim on it, cannot be read.
    #[error("{0} cannot be read")]
    Damaged(Key),
    /// The pool had blocks of another size when one in the way was made.
    #[error("a block {wanted} would overlap {old}, made when the pool had blocks of another size")]
    Overlap {
        /// The block that would have to be made.
        wanted: Cidr,
        /// The one in its way.
        old: Cidr,
    },
    /// The settings, or the handle, cannot be read.
    #[error(transparent)]
    Unreadable(#[from] crate::known::Problem),
    /// Too many conflicts.
    #[error(transparent)]
    Contended(#[from] Contended),
}

/// The operation.
#[derive(Clone, Debug)]
pub struct AssignAddress {
    request: AddressRequest,
    now: UnixTime,
    pledge: Option<Pledge>,
    done: Option<Assigned>,
    /// The commit under way raises the handle at this place and takes the address of this block after it.
    flight: Option<(usize, Cidr)>,
    redeeming: bool,
}

impl AssignAddress {
    /// An operation that starts at `now`.
    pub fn new(request: AddressRequest, now: UnixTime) -> AssignAddress {
        AssignAddress { request, now, pledge: None, done: None, flight: None, redeeming: false }
    }

    /// The block to take the address from: the one that has it, else the one that its pool would have. A block of
    /// another size that has it counts: a second block beside it would give the address again.
    fn block_cidr(&self, known: &Known) -> Result<Cidr, Halt<AddressError>> {
        let fail = |error| if known.has_hints() { Halt::Refresh } else { Halt::Fail(error) };
        let AddressRequest { address, intended_use, .. } = &self.request;
        let wanted = known
            .pools()
            .filter(|p| !p.spec.disabled && intended_use.as_ref().is_none_or(|u| p.spec.allows(u)))
            .filter_map(pools::pool)
            .find(|p| p.cidr.contains(*address))
            .and_then(|p| block::cidr_of(*address, p.block_len))
            .ok_or_else(|| fail(AddressError::NotInPool))?;
        known.require([Key::Block(wanted)], [])?;
        if known.record(&Key::Block(wanted)).is_some() {
            return Ok(wanted);
        }
        known.require([], [Selection::Blocks(wanted.family())])?;
        let mut old = known.blocks(wanted.family()).map(|(cidr, _)| cidr).filter(|c| c.overlaps(&wanted));
        match old.next() {
            None => Ok(wanted),
            Some(first) => match std::iter::once(first).chain(old).find(|c| c.contains(*address)) {
                Some(found) => Ok(found),
                None => Err(fail(AddressError::Overlap { wanted, old: first })),
            },
        }
    }
}

impl Operation for AssignAddress {
    type Outcome = Assigned;
    type Error = AddressError;

    fn decide(&mut self, known: &Known) -> Decision<Assigned, AddressError> {
        (self.flight, self.redeeming) = (None, false);
        if let Some(assigned) = self.done {
            return Ok(Act::Done(assigned));
        }
        if let Some(pledge) = &self.pledge {
            if let Some(changes) = pledge.redeem(known)? {
                self.redeeming = true;
                return Ok(Act::Commit(changes));
            }
            self.pledge = None;
        }
        let fail = |error| if known.has_hints() { Halt::Refresh } else { Halt::Fail(error) };
        known.require([Key::IpamConfig], [Selection::all(Kind::IPPool)])?;
        let config = known.readable_config().map_err(|e| fail(e.into()))?;
        if let Some(problem) = known.problem(&Key::Handle(self.request.handle.clone())) {
            return Err(fail(problem.into()));
        }
        let cidr = self.block_cidr(known)?;
        let AddressRequest { address, handle, attributes, owner, .. } = &self.request;
        known.require([Key::Block(cidr), Key::Affinity { owner: owner.clone(), block: cidr }], [])?;
        let is_foreign = match known.block(cidr) {
            Some((found, _)) => !block::is_owned_by(found, owner),
            None if known.record(&Key::Block(cidr)).is_some() => {
                return Err(fail(AddressError::Damaged(Key::Block(cidr))));
            }
            None => false,
        };
        if is_foreign && config.strict_affinity {
            return Err(fail(AddressError::Foreign));
        }
        let mut changes: Vec<Change> = Vec::new();
        if !is_foreign {
            match affinity::claim(known, owner, cidr, self.now)? {
                Claim::Ready { confirm } => changes.extend(confirm),
                Claim::Damaged(key) => return Err(fail(AddressError::Damaged(key))),
                Claim::Next(changes) | Claim::Lost(changes) => return Ok(Act::Commit(changes)),
            }
        }
        let Some((found, over)) = known.block(cidr) else {
            return Err(fail(AddressError::Damaged(Key::Block(cidr))));
        };
        let mut after = found.clone();
        block::collect(&mut after, self.now, config.ip_cooldown_seconds);
        let taken = block::ordinal(&after, *address)
            .is_some_and(|n| block::assign_ordinal(&mut after, n, handle, attributes));
        if !taken {
            return Err(fail(AddressError::AlreadyAssigned));
        }
        block::bump(&mut after);
        self.flight = Some((changes.len(), cidr));
        changes.push(handle::raise(known, handle, &[(cidr, 1)].into()));
        changes.push(Change::block(after, Some(over)));
        Ok(Act::Commit(changes))
    }

    fn settle(&mut self, applied: usize, whole: bool, known: &Known) {
        if self.redeeming {
            if whole {
                self.pledge = None;
            }
        } else if let Some((raise, block)) = self.flight {
            if whole {
                self.done = Some(Assigned { address: self.request.address, block });
            } else if raise < applied {
                self.pledge = Pledge::new(known, &self.request.handle, [(block, 1)].into());
            }
        }
    }
}
