//! What to release, and when to look again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use calico_api::{AffinityOwner, AffinityState, Key};
use calico_ipam::UnixTime;
use calico_ipam::block;
use calico_ipam::check::{Leftover, check};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use super::allocation::{Allocation, AllocationId, PodRef, Verdict, Why, allocations, judge};
use crate::world::World;

/// The most addresses that one plan releases: a cluster that lost thousands of pods at once is cleaned up in portions,
/// between which new events are heard (spec 7 §6.2).
pub const MAX_RELEASES: usize = 10_000;

/// The time of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Since the controller's start; never goes back. Grace periods are measured by it.
    pub since_start: Duration,
    /// The time of day, for addresses that rest after their release.
    pub wall: UnixTime,
}

/// Since when things are as they should not stay.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Addresses without a user.
    pub leaked: BTreeMap<AllocationId, Duration>,
    /// Blocks with nothing in them, whose node has others.
    pub empty: BTreeMap<Cidr, Duration>,
    /// Half-finished work of dead writers.
    pub leftovers: BTreeMap<Leftover, Duration>,
}

/// Why an address is released.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Its pod does not use it any more.
    Pod(PodRef, Why),
    /// The same, and its node is gone too.
    PodAndNode(PodRef, Why, SmolStr),
    /// It was a node's own, and the node is gone.
    Node(SmolStr),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Pod(pod, why) => write!(f, "{pod} {why}"),
            Reason::PodAndNode(pod, why, node) => write!(f, "{pod} {why}, and node {node} is gone"),
            Reason::Node(node) => write!(f, "node {node} is gone"),
        }
    }
}

/// An address to release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leak {
    /// What.
    pub allocation: Allocation,
    /// Why.
    pub reason: Reason,
}

/// One thing to do. What goes wrong with one is no reason not to do the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Release everything that a handle has: all of it, or nothing.
    Release(Vec<Leak>),
    /// Give up an empty block of a node that has others.
    ReleaseBlock {
        /// The node.
        node: SmolStr,
        /// Its block.
        block: Cidr,
    },
    /// Give up all that a node had that is gone: blocks become nobody's, empty ones are deleted. Not if anything of it
    /// that was to be released before could not be.
    ForgetNode(SmolStr),
    /// Finish or undo what a dead writer left.
    Collect(Leftover),
}

/// A plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In this order.
    pub actions: Vec<Action>,
    /// For the next plan.
    pub marks: Marks,
    /// When, since the start, a grace period ends.
    pub next: Option<Duration>,
}

/// Plans. `grace` is how long a thing must have been so; `None`: nothing but what a node left that is gone is ever
/// released. `is_survey` says whether handles are known, as they are not always.
pub fn plan(world: &World, marks: &Marks, grace: Option<Duration>, is_survey: bool, clock: Clock) -> Plan {
    let mut planner = Planner { world, old: marks, grace, clock, plan: Plan::default() };
    let kept = planner.release_addresses();
    planner.release_blocks();
    planner.forget_nodes(&kept);
    if is_survey {
        planner.collect_leftovers();
    } else {
        planner.plan.marks.leftovers.clone_from(&marks.leftovers);
    }
    planner.plan
}

struct Planner<'a> {
    world: &'a World,
    old: &'a Marks,
    grace: Option<Duration>,
    clock: Clock,
    plan: Plan,
}

/// Adds a mark to the new ones, and says whether it is old enough.
fn ripen<K: Ord + Clone>(
    key: &K,
    old: &BTreeMap<K, Duration>,
    new: &mut BTreeMap<K, Duration>,
    next: &mut Option<Duration>,
    grace: Option<Duration>,
    now: Duration,
) -> bool {
    let since = old.get(key).copied().unwrap_or(now);
    new.insert(key.clone(), since);
    let Some(end) = grace.map(|grace| since.saturating_add(grace)) else { return false };
    if end > now {
        *next = Some(next.map_or(end, |next| next.min(end)));
    }
    end <= now
}

impl Planner<'_> {
    fn is_gone(&self, node: &SmolStr) -> bool {
        !self.world.nodes.contains(node)
    }

    /// Plans releases. Gives the nodes that keep an address.
    fn release_addresses(&mut self) -> BTreeSet<SmolStr> {
        let now = self.clock.since_start;
        let mut kept = BTreeSet::new();
        let mut tunnels = Vec::new();
        // By handle: what is to be released of it; `None` if anything of it is to stay.
        let mut handles: BTreeMap<(SmolStr, Option<AllocationId>), Option<Vec<Leak>>> = BTreeMap::new();
        let mut note = |leak: Result<Leak, Allocation>| {
            let id = match &leak {
                Ok(Leak { allocation, .. }) | Err(allocation) => &allocation.id,
            };
            // Addresses without a handle have nothing to do with one another.
            let alone = id.handle.is_empty().then(|| id.clone());
            let leaks = handles.entry((id.handle.clone(), alone)).or_insert_with(|| Some(Vec::new()));
            match leak {
                Ok(leak) => leaks.iter_mut().for_each(|leaks| leaks.push(leak.clone())),
                Err(_) => *leaks = None,
            }
        };
        for allocation in allocations(self.world) {
            let (pod, why) = match judge(&allocation, self.world) {
                Verdict::Leaked(pod, why) => (pod, why),
                Verdict::Tunnel => {
                    tunnels.push(allocation);
                    continue;
                }
                Verdict::Reserved => continue,
                Verdict::Valid | Verdict::Unknown => {
                    kept.extend(allocation.home().cloned());
                    note(Err(allocation));
                    continue;
                }
            };
            let Marks { leaked, .. } = &mut self.plan.marks;
            let next = &mut self.plan.next;
            let is_ripe = ripen(&allocation.id, &self.old.leaked, leaked, next, self.grace, now);
            match allocation.node.clone().filter(|node| self.is_gone(node)) {
                Some(node) => note(Ok(Leak { allocation, reason: Reason::PodAndNode(pod, why, node) })),
                None if is_ripe => note(Ok(Leak { allocation, reason: Reason::Pod(pod, why) })),
                None => note(Err(allocation)),
            }
        }
        // Tunnels are decided last: they stay while anything of their node does.
        for allocation in tunnels {
            match allocation.node.clone().filter(|node| self.is_gone(node) && !kept.contains(node)) {
                Some(node) => {
                    self.plan.marks.leaked.insert(allocation.id.clone(), now);
                    note(Ok(Leak { allocation, reason: Reason::Node(node) }));
                }
                None => note(Err(allocation)),
            }
        }
        let mut releases = 0;
        let mut released = BTreeSet::new();
        for leaks in handles.into_values().flatten() {
            if releases + leaks.len() <= MAX_RELEASES {
                releases += leaks.len();
                released.extend(leaks.iter().map(|leak| leak.allocation.id.clone()));
                self.plan.actions.push(Action::Release(leaks));
            }
        }
        // What waits (for its grace period, for the rest of its handle, for the next portion) keeps its node too.
        let waits = |a: &Allocation| judge(a, self.world) != Verdict::Reserved && !released.contains(&a.id);
        let waiting = allocations(self.world).filter(waits);
        kept.extend(waiting.filter_map(|a| a.home().cloned()));
        kept
    }

    /// Blocks that each node holds by a confirmed claim, of one family.
    fn blocks_of_nodes(&self, family: Family) -> BTreeMap<&SmolStr, Vec<Cidr>> {
        let mut blocks: BTreeMap<&SmolStr, Vec<Cidr>> = BTreeMap::new();
        for (owner, cidr, (affinity, _)) in self.world.known.all_affinities() {
            let AffinityOwner::Host(node) = owner else { continue };
            let held = self.world.known.block(cidr);
            let is_held = held.is_some_and(|(b, _)| block::is_owned_by(b, owner));
            if cidr.family() == family && is_held && affinity.state == AffinityState::Confirmed {
                blocks.entry(node).or_default().push(cidr);
            }
        }
        blocks
    }

    /// Plans the release of empty blocks, of each family all but one: a node that had none would have to claim one for
    /// its next pod.
    fn release_blocks(&mut self) {
        let now = self.clock.since_start;
        let cooldown_secs = self.world.known.config().ip_cooldown_seconds;
        let is_empty = |cidr: &Cidr| {
            let held = self.world.known.block(*cidr);
            held.is_some_and(|(b, _)| block::is_empty(b, self.clock.wall, cooldown_secs))
        };
        let mut actions = Vec::new();
        let (mut marks, mut next) = (BTreeMap::new(), self.plan.next);
        for family in Family::ALL {
            for (node, blocks) in self.blocks_of_nodes(family) {
                if self.is_gone(node) {
                    continue;
                }
                let mut spare = blocks.len() - 1;
                for cidr in blocks.into_iter().filter(is_empty) {
                    if spare == 0 {
                        break;
                    }
                    spare -= 1;
                    if ripen(&cidr, &self.old.empty, &mut marks, &mut next, self.grace, now) {
                        actions.push(Action::ReleaseBlock { node: node.clone(), block: cidr });
                    }
                }
            }
        }
        self.plan.actions.extend(actions);
        (self.plan.marks.empty, self.plan.next) = (marks, next);
    }

    /// Plans the end of nodes that are gone and keep nothing.
    fn forget_nodes(&mut self, kept: &BTreeSet<SmolStr>) {
        let mut nodes = BTreeSet::new();
        let mut doubtful = BTreeSet::new();
        for (owner, cidr, _) in self.world.known.all_affinities() {
            let AffinityOwner::Host(node) = owner else { continue };
            nodes.insert(node);
            if self.world.known.problem(&Key::Block(cidr)).is_some() {
                // Who has addresses in it nobody can tell.
                doubtful.insert(node);
            }
        }
        nodes.retain(|node| self.is_gone(node) && !kept.contains(*node) && !doubtful.contains(*node));
        self.plan.actions.extend(nodes.into_iter().cloned().map(Action::ForgetNode));
    }

    /// Plans to finish or undo what dead writers left, once it has been so for long enough: who is slow is not dead.
    fn collect_leftovers(&mut self) {
        let now = self.clock.since_start;
        for leftover in check(&self.world.known, None).leftovers {
            if owner(&leftover).is_some_and(|node| self.is_gone(node)) {
                // That goes with the node.
                continue;
            }
            let Plan { actions, marks, next } = &mut self.plan;
            let old = &self.old.leftovers;
            if ripen(&leftover, old, &mut marks.leftovers, next, self.grace, now) {
                actions.push(Action::Collect(leftover));
            }
        }
    }
}

/// The node whose claim is left over, where a claim on record is.
fn owner(leftover: &Leftover) -> Option<&SmolStr> {
    match leftover {
        Leftover::AffinityPending { owner, .. }
        | Leftover::AffinityLeaving { owner, .. }
        | Leftover::AffinityAlone { owner, .. }
        | Leftover::AffinityForeign { owner, .. } => match owner {
            AffinityOwner::Host(node) => Some(node),
            AffinityOwner::Virtual(_) => None,
        },
        // Nobody has these on record, so they do not go with their owner.
        Leftover::BlockUnclaimed { .. }
        | Leftover::BlockEmpty { .. }
        | Leftover::HandleAhead { .. }
        | Leftover::HandleEmpty { .. } => None,
    }
}
