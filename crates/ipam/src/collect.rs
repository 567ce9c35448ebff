//! Collection of what dead writers left ([`Leftover`]). Each is looked at again before it is touched, and every write is
//! a compare-and-swap, so a writer that is slow and not dead loses a race and plans anew; nothing else can happen. What rests
//! on a block that cannot be read stays.

use std::collections::VecDeque;

use calico_api::{AffinityOwner, Key};
use calico_net::Cidr;
use smol_str::SmolStr;

use crate::affinity::{self, Claim, Release};
use crate::block;
use crate::check::Leftover;
use crate::handle;
use crate::known::{Known, Need};
use crate::machine::{Act, Change, Contended, Decision, Halt, Operation};
use crate::time::UnixTime;

/// Collects leftovers. The outcome is how many needed anything.
#[derive(Clone, Debug)]
pub struct Collect {
    leftovers: VecDeque<Leftover>,
    now: UnixTime,
    /// Whether anything was written for the first of them.
    touched: bool,
    collected: usize,
}

impl Collect {
    /// An operation that starts at `now`, on what a check found.
    pub fn new(leftovers: impl IntoIterator<Item = Leftover>, now: UnixTime) -> Collect {
        Collect { leftovers: leftovers.into_iter().collect(), now, touched: false, collected: 0 }
    }

    /// An unfinished claim or release: given up if the block is empty, finished as a claim if it is in use.
    fn affinity(
        &self,
        known: &Known,
        owner: &AffinityOwner,
        cidr: Cidr,
        cooldown_secs: u32,
    ) -> Result<Option<Vec<Change>>, Need> {
        match affinity::release(known, owner, cidr, true, self.now, cooldown_secs)? {
            Release::Next(changes) => Ok(Some(changes)),
            Release::Gone | Release::Damaged(_) => Ok(None),
            Release::Refused(changes) if !changes.is_empty() => Ok(Some(changes)),
            Release::Refused(_) => Ok(match affinity::claim(known, owner, cidr, self.now)? {
                Claim::Ready { confirm } => confirm.map(|change| vec![change]),
                Claim::Next(changes) | Claim::Lost(changes) => Some(changes).filter(|c| !c.is_empty()),
                Claim::Damaged(_) => None,
            }),
        }
    }

    fn empty_block(
        &self,
        known: &Known,
        cidr: Cidr,
        cooldown_secs: u32,
    ) -> Result<Option<Vec<Change>>, Need> {
        known.require([Key::Block(cidr)], [])?;
        Ok(known.block(cidr).and_then(|(b, revision)| {
            let is_left = b.owner().is_none() && block::is_empty(b, self.now, cooldown_secs);
            is_left.then(|| vec![Change::delete(Key::Block(cidr), revision)])
        }))
    }

    fn empty_handle(known: &Known, id: &SmolStr) -> Result<Option<Vec<Change>>, Need> {
        let key = Key::Handle(id.clone());
        known.require([key.clone()], [])?;
        let empty = known.handle(id).filter(|(h, _)| h.block.is_empty());
        Ok(empty.map(|(_, revision)| vec![Change::delete(key, revision)]))
    }

    fn next(&self, known: &Known, leftover: &Leftover) -> Result<Option<Vec<Change>>, Need> {
        let cooldown_secs = known.config().ip_cooldown_seconds;
        match leftover {
            Leftover::AffinityPending { owner, block }
            | Leftover::AffinityLeaving { owner, block }
            | Leftover::AffinityAlone { owner, block }
            | Leftover::AffinityForeign { owner, block }
            | Leftover::BlockUnclaimed { owner, block } => self.affinity(known, owner, *block, cooldown_secs),
            Leftover::BlockEmpty { block } => self.empty_block(known, *block, cooldown_secs),
            Leftover::HandleAhead { handle, block, .. } => handle::mend(known, handle, [*block]),
            Leftover::HandleEmpty { handle } => Collect::empty_handle(known, handle),
        }
    }
}

impl Operation for Collect {
    type Outcome = usize;
    type Error = Contended;

    fn decide(&mut self, known: &Known) -> Decision<usize, Contended> {
        if known.has_hints() {
            return Err(Halt::Refresh);
        }
        known.require([Key::IpamConfig], [])?;
        while let Some(leftover) = self.leftovers.front() {
            if let Some(changes) = self.next(known, leftover)? {
                self.touched = true;
                return Ok(Act::Commit(changes));
            }
            self.collected += usize::from(std::mem::take(&mut self.touched));
            self.leftovers.pop_front();
        }
        Ok(Act::Done(self.collected))
    }
}
