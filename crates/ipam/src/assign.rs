//! Automatic assignment (spec 5 §2.5): from the owner's blocks, then a block newly claimed, then borrowed.
//!
//! The common case is one commit: the handle raised, then the block written over what was known. Both families go in
//! the same commit. Everything else (claims, mending what a dead writer left, reclaiming, borrowing) is decided only
//! when the own blocks have no room, from records read by this operation.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_api::{AffinityOwner, IpamBlock, Key, Kind, Labels, Selection};
use calico_net::{Cidr, Family};

use crate::affinity::{self, Claim, Release};
use crate::block;
use crate::handle::{self, Pledge};
use crate::known::Known;
use crate::machine::{Act, Change, Decision, Halt, Operation};
use crate::pools::{self, Criteria, Pool};
use crate::release::{ReleaseAddresses, Target};
use crate::time::UnixTime;

mod request;
mod search;

pub use request::{AssignError, AssignOutcome, AssignRequest, Assigned, Reason, Shortfall};

/// The block limit where neither the settings nor the request name one (spec 9 item 6).
pub const DEFAULT_MAX_BLOCKS: u32 = 20;

/// The most blocks that one commit takes addresses from. A request needs one or two; the bound keeps a large one far
/// below the 128 steps that a store allows.
const MAX_PICKS: usize = 32;

/// Addresses about to be taken from one block.
struct Pick<'a> {
    family: Family,
    after: IpamBlock,
    over: &'a calico_api::Revision,
    confirm: Option<Change>,
    addresses: Vec<IpAddr>,
}

/// One block's part of a commit under way.
#[derive(Clone, Debug)]
struct Taking {
    /// The place of the block's write in the commit.
    index: usize,
    family: Family,
    block: Cidr,
    addresses: Vec<IpAddr>,
}

/// The commit under way.
#[derive(Clone, Debug, Default)]
enum Flight {
    /// One whose success speaks for itself.
    #[default]
    Plain,
    /// The handle raised at `handle`, then blocks written.
    Take { handle: usize, takings: Vec<Taking> },
    /// The counts of a failed one taken back.
    Redeem,
    /// What was assigned is being released.
    Undo,
}

/// The operation.
#[derive(Clone, Debug)]
pub struct Assign {
    request: AssignRequest,
    now: UnixTime,
    pools: BTreeMap<Family, Vec<Pool>>,
    outcome: AssignOutcome,
    pledge: Option<Pledge>,
    tidied: BTreeSet<Cidr>,
    undo: Option<ReleaseAddresses>,
    flight: Flight,
}

/// What one decision looks at.
struct View<'a> {
    known: &'a Known,
    reserved: Vec<Cidr>,
    cooldown_secs: u32,
    strict: bool,
    auto_allocate: bool,
    max_blocks: u32,
}

impl Assign {
    /// An operation that starts at `now`.
    pub fn new(request: AssignRequest, now: UnixTime) -> Assign {
        Assign {
            request,
            now,
            pools: BTreeMap::new(),
            outcome: AssignOutcome::default(),
            pledge: None,
            tidied: BTreeSet::new(),
            undo: None,
            flight: Flight::Plain,
        }
    }

    fn families(&self) -> impl Iterator<Item = Family> + use<'_> {
        Family::ALL.into_iter().filter(|f| self.request.count(*f) > 0)
    }

    fn missing(&self, family: Family) -> usize {
        if self.outcome.shortfalls.iter().any(|s| s.family == family) {
            return 0;
        }
        self.request.count(family) - self.outcome.assigned(family)
    }

    fn node(&self) -> Option<Key> {
        match &self.request.owner {
            AffinityOwner::Host(name) => Some(Key::resource(Kind::Node, "", name)),
            AffinityOwner::Virtual(_) => None,
        }
    }

    /// Reads what every decision needs; decides on the pools once.
    fn view<'a>(&mut self, known: &'a Known) -> Result<View<'a>, Halt<AssignError>> {
        let keys = [Key::IpamConfig].into_iter().chain(self.node());
        let own = self.families().map(|family| Selection::Affinities {
            owner: Some(self.request.owner.clone()),
            family: Some(family),
        });
        let selections =
            [Selection::all(Kind::IPPool), Selection::all(Kind::IPReservation)].into_iter().chain(own);
        known.require(keys, selections)?;
        let config = known.readable_config().map_err(|e| refuse(known, e))?;
        crate::config::check_usable(&config).map_err(|e| refuse(known, e))?;
        let reserved = known.readable_reservations().map_err(|e| refuse(known, e))?;
        if let Some(problem) = known.problem(&Key::Handle(self.request.handle.clone())) {
            return Err(refuse(known, problem));
        }
        if self.pools.is_empty() {
            let labels = self.node_labels(known)?;
            let mut pools = BTreeMap::new();
            for family in self.families() {
                let criteria = Criteria {
                    family,
                    requested: self.request.pools(family),
                    intended_use: &self.request.intended_use,
                    node: self.request.owner_name(),
                    node_labels: labels,
                    namespace_labels: &self.request.namespace_labels,
                    max_block_len: self.request.max_block_len,
                };
                let chosen = pools::select(known, &criteria).map_err(|e| refuse(known, e))?;
                pools.insert(family, chosen);
            }
            self.pools = pools;
        }
        let configured = Some(config.max_blocks_per_host).filter(|n| *n > 0);
        let requested = self.request.max_blocks.filter(|n| *n > 0);
        Ok(View {
            known,
            reserved,
            cooldown_secs: config.ip_cooldown_seconds,
            strict: config.strict_affinity,
            auto_allocate: config.auto_allocate_blocks,
            max_blocks: configured.into_iter().chain(requested).min().unwrap_or(DEFAULT_MAX_BLOCKS),
        })
    }

    fn node_labels<'a>(&self, known: &'a Known) -> Result<Option<&'a Labels>, Halt<AssignError>> {
        match &self.request.owner {
            AffinityOwner::Virtual(_) => Ok(None),
            AffinityOwner::Host(name) => match known.node_labels(name) {
                Some(labels) => Ok(Some(labels)),
                None => Err(refuse(known, AssignError::NoNode(name.clone()))),
            },
        }
    }

    /// The owner's blocks in the chosen pools.
    fn own_blocks(&self, known: &Known, family: Family) -> Vec<Cidr> {
        let pools = self.pools.get(&family).map_or(&[][..], Vec::as_slice);
        let in_pools = |cidr: &Cidr| pools.iter().any(|p| p.cidr.covers(cidr));
        known.affinities(&self.request.owner, family).map(|(cidr, _)| cidr).filter(in_pools).collect()
    }

    /// Whether the pool of a block has blocks of its size.
    fn has_block_size(&self, block: Cidr) -> bool {
        let pools = self.pools.get(&block.family()).map_or(&[][..], Vec::as_slice);
        pools.iter().any(|pool| pool.cidr.covers(&block) && pool.block_len == block.prefix_len())
    }

    /// Takes what a block can give towards `wanted`.
    fn pick<'a>(
        &self,
        view: &View<'a>,
        cidr: Cidr,
        confirm: Option<Change>,
        wanted: usize,
    ) -> Option<Pick<'a>> {
        let (found, over) = view.known.block(cidr)?;
        if !block::has_room(found, &view.reserved, self.now, view.cooldown_secs) {
            return None;
        }
        let mut after = found.clone();
        block::collect(&mut after, self.now, view.cooldown_secs);
        let AssignRequest { handle, attributes, .. } = &self.request;
        let addresses = block::assign(&mut after, wanted, handle, attributes, &view.reserved);
        block::bump(&mut after);
        Some(Pick { family: cidr.family(), after, over, confirm, addresses })
    }

    /// Takes from the owner's blocks what they have. The second result mends a block of the owner's that could not be
    /// used as it is.
    #[allow(clippy::type_complexity)] // Two results of one walk; a struct for them would be used once.
    fn pick_own<'a>(
        &self,
        view: &View<'a>,
    ) -> Result<(Vec<Pick<'a>>, Option<Vec<Change>>), Halt<AssignError>> {
        let short: Vec<Family> = self.families().filter(|f| self.missing(*f) > 0).collect();
        let own: Vec<Cidr> = short.iter().flat_map(|f| self.own_blocks(view.known, *f)).collect();
        view.known.require(own.iter().map(|c| Key::Block(*c)), [])?;
        let mut picks: Vec<Pick<'_>> = Vec::new();
        let mut mend = None;
        for cidr in own {
            let taken = picks.iter().filter(|p| p.family == cidr.family()).map(|p| p.addresses.len()).sum();
            let wanted = self.missing(cidr.family()).saturating_sub(taken);
            if wanted == 0 || picks.len() == MAX_PICKS {
                continue;
            }
            // A claim of another size than the pool's blocks has now, whose block was never made: that one could overlap
            // others. It is left to collection.
            if view.known.record(&Key::Block(cidr)).is_none() && !self.has_block_size(cidr) {
                continue;
            }
            match affinity::claim(view.known, &self.request.owner, cidr, self.now)? {
                Claim::Ready { confirm } => picks.extend(self.pick(view, cidr, confirm, wanted)),
                Claim::Next(changes) => mend = mend.or(Some(changes)),
                Claim::Lost(changes) if !changes.is_empty() => mend = mend.or(Some(changes)),
                Claim::Lost(_) | Claim::Damaged(_) => {}
            }
        }
        Ok((picks, mend))
    }

    fn take(&mut self, known: &Known, picks: Vec<Pick<'_>>) -> Act<AssignOutcome> {
        let counts = picks.iter().map(|p| (p.after.cidr, p.addresses.len() as u32)).collect();
        let mut changes: Vec<Change> = picks.iter().filter_map(|p| p.confirm.clone()).collect();
        let raise = changes.len();
        changes.push(handle::raise(known, &self.request.handle, &counts));
        let mut takings = Vec::new();
        for Pick { family, after, over, addresses, .. } in picks {
            takings.push(Taking { index: changes.len(), family, block: after.cidr, addresses });
            changes.push(Change::block(after, Some(over)));
        }
        self.flight = Flight::Take { handle: raise, takings };
        Act::Commit(changes)
    }

    fn fall_short(&mut self, family: Family, reason: Reason) {
        let (requested, assigned) = (self.request.count(family), self.outcome.assigned(family));
        self.outcome.shortfalls.push(Shortfall { family, requested, assigned, reason });
    }

    /// One family is short and its own blocks are full: claim, reclaim, borrow, or give up. `None`: it is settled that
    /// no more can be had.
    fn extend(
        &mut self,
        view: &View<'_>,
        family: Family,
    ) -> Result<Option<Act<AssignOutcome>>, Halt<AssignError>> {
        if self.own_blocks(view.known, family).len() >= view.max_blocks as usize {
            self.fall_short(family, Reason::BlockLimit(view.max_blocks));
            return Ok(None);
        }
        view.known.require([], [Selection::Blocks(family)])?;
        if view.auto_allocate
            && let Some(changes) = self.find_block(view, family)?
        {
            return Ok(Some(Act::Commit(changes)));
        }
        if view.strict {
            self.fall_short(family, Reason::Strict);
            return Ok(None);
        }
        let mut picks = Vec::new();
        let mut wanted = self.missing(family);
        for cidr in self.lendable(view, family) {
            if wanted == 0 || picks.len() == MAX_PICKS {
                break;
            }
            let pick = self.pick(view, cidr, None, wanted);
            wanted -= pick.as_ref().map_or(0, |p| p.addresses.len());
            picks.extend(pick);
        }
        if picks.is_empty() {
            self.fall_short(family, Reason::Exhausted);
            return Ok(None);
        }
        Ok(Some(self.take(view.known, picks)))
    }

    /// Gives up empty blocks of the owner's in pools that no longer select its node (spec 5 §2.5, step 3).
    fn tidy(&mut self, view: &View<'_>) -> Result<Option<Vec<Change>>, Halt<AssignError>> {
        let Some(labels) = self.node_labels(view.known)? else { return Ok(None) };
        let strange: Vec<Cidr> = view
            .known
            .pools()
            .filter(|p| !pools::selects_node(p, Some(labels)))
            .filter_map(pools::pool)
            .flat_map(|p| {
                let own = view.known.affinities(&self.request.owner, p.cidr.family());
                own.map(|(cidr, _)| cidr).filter(move |c| p.cidr.covers(c))
            })
            .filter(|c| self.request.count(c.family()) > 0 && !self.tidied.contains(c))
            .collect();
        for cidr in strange {
            match affinity::release(
                view.known,
                &self.request.owner,
                cidr,
                true,
                self.now,
                view.cooldown_secs,
            )? {
                Release::Next(changes) => return Ok(Some(changes)),
                Release::Refused(changes) if !changes.is_empty() => return Ok(Some(changes)),
                Release::Refused(_) | Release::Damaged(_) | Release::Gone => self.tidied.insert(cidr),
            };
        }
        Ok(None)
    }

    fn finish(&mut self) -> Result<(), AssignOutcome> {
        let outcome = &self.outcome;
        if outcome.shortfalls.is_empty() || !self.request.all_or_nothing {
            return Err(outcome.clone());
        }
        let targets = outcome.v4.iter().chain(&outcome.v6).map(|a| Target {
            block: Some(a.block),
            handle: Some(self.request.handle.clone()),
            ..Target::new(a.address)
        });
        self.undo = Some(ReleaseAddresses::new(targets.collect(), self.now));
        Ok(())
    }
}

/// A refusal may rest only on what this operation has read itself.
fn refuse(known: &Known, error: impl Into<AssignError>) -> Halt<AssignError> {
    if known.has_hints() { Halt::Refresh } else { Halt::Fail(error.into()) }
}

impl Operation for Assign {
    type Outcome = AssignOutcome;
    type Error = AssignError;

    fn decide(&mut self, known: &Known) -> Decision<AssignOutcome, AssignError> {
        self.flight = Flight::Plain;
        if let Some(pledge) = &self.pledge {
            if let Some(changes) = pledge.redeem(known)? {
                self.flight = Flight::Redeem;
                return Ok(Act::Commit(changes));
            }
            self.pledge = None;
        }
        if self.undo.is_none() {
            let view = self.view(known)?;
            let (picks, mend) = self.pick_own(&view)?;
            if !picks.is_empty() {
                return Ok(self.take(known, picks));
            }
            let short: Vec<Family> = self.families().filter(|f| self.missing(*f) > 0).collect();
            if !short.is_empty() && known.has_hints() {
                return Err(Halt::Refresh);
            }
            if let Some(changes) = mend {
                return Ok(Act::Commit(changes));
            }
            for family in short {
                if let Some(act) = self.extend(&view, family)? {
                    return Ok(act);
                }
            }
            if let Some(changes) = self.tidy(&view)? {
                return Ok(Act::Commit(changes));
            }
            if let Err(outcome) = self.finish() {
                return Ok(Act::Done(outcome));
            }
        }
        self.flight = Flight::Undo;
        match self.undo.as_mut().map(|undo| undo.decide(known)) {
            Some(Ok(Act::Commit(changes))) => Ok(Act::Commit(changes)),
            Some(Err(Halt::Need(need))) => Err(Halt::Need(need)),
            Some(Err(Halt::Refresh)) => Err(Halt::Refresh),
            // Whatever could not be released stays with the handle, and a release of the handle finds it.
            Some(Ok(Act::Done(_)) | Err(Halt::Fail(_))) | None => {
                Err(Halt::Fail(AssignError::Short(self.outcome.shortfalls.clone())))
            }
        }
    }

    fn settle(&mut self, applied: usize, whole: bool, known: &Known) {
        match std::mem::take(&mut self.flight) {
            Flight::Plain => {}
            Flight::Redeem => {
                if whole {
                    self.pledge = None;
                }
            }
            Flight::Undo => {
                if let Some(undo) = &mut self.undo {
                    undo.settle(applied, whole, known);
                }
            }
            Flight::Take { handle, takings } => {
                let mut owed = BTreeMap::new();
                for Taking { index, family, block, addresses } in takings {
                    if index < applied {
                        let assigned = addresses.into_iter().map(|address| Assigned { address, block });
                        self.outcome.of(family).extend(assigned);
                    } else if handle < applied {
                        owed.insert(block, addresses.len() as u32);
                    }
                }
                self.pledge = Pledge::new(known, &self.request.handle, owed);
            }
        }
    }
}

#[cfg(test)]
mod tests;
