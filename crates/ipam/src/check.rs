//! What is wrong in IPAM's records: what dead writers left, and what does not fit the workloads (`ipam check`).
//!
//! Pure, over a survey. Every leftover is harmless as it stands: it costs a record or an address, never an address
//! given twice. [`crate::Collect`] removes them, whether or not somebody is at work at the same time. What rests on a
//! record that cannot be read is no leftover: it is named, and left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use calico_api::{AffinityOwner, AffinityState, Key, Kind};
use calico_net::{Cidr, Family};
use smol_str::{SmolStr, format_smolstr};

use crate::block;
use crate::known::{Known, Problem};
use crate::pools;

/// What a writer that died between two writes leaves.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Leftover {
    /// A claim that was begun and not finished.
    AffinityPending {
        /// Who claimed.
        owner: AffinityOwner,
        /// What.
        block: Cidr,
    },
    /// A release of a block that was begun and not finished.
    AffinityLeaving {
        /// Who releases.
        owner: AffinityOwner,
        /// What.
        block: Cidr,
    },
    /// A claim of a block that does not exist.
    AffinityAlone {
        /// Who claims.
        owner: AffinityOwner,
        /// What.
        block: Cidr,
    },
    /// A claim of a block that belongs to somebody else or to nobody.
    AffinityForeign {
        /// Who claims.
        owner: AffinityOwner,
        /// What.
        block: Cidr,
    },
    /// A block whose owner has no claim on record.
    BlockUnclaimed {
        /// Whose it says it is.
        owner: AffinityOwner,
        /// The block.
        block: Cidr,
    },
    /// A block of nobody's with nothing in it.
    BlockEmpty {
        /// The block.
        block: Cidr,
    },
    /// A handle that counts more addresses than it has.
    HandleAhead {
        /// The handle.
        handle: SmolStr,
        /// The block.
        block: Cidr,
        /// What it counts.
        counted: u32,
        /// What it has.
        held: u32,
    },
    /// A handle without blocks.
    HandleEmpty {
        /// The handle.
        handle: SmolStr,
    },
}

impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Leftover::AffinityPending { owner, block } => {
                write!(f, "{owner} began to claim {block} and did not finish")
            }
            Leftover::AffinityLeaving { owner, block } => {
                write!(f, "{owner} began to give up {block} and did not finish")
            }
            Leftover::AffinityAlone { owner, block } => {
                write!(f, "{owner} claims {block}, which does not exist")
            }
            Leftover::AffinityForeign { owner, block } => {
                write!(f, "{owner} claims {block}, which is not its own")
            }
            Leftover::BlockUnclaimed { owner, block } => {
                write!(f, "{block} belongs to {owner}, which has no claim on record")
            }
            Leftover::BlockEmpty { block } => write!(f, "{block} belongs to nobody and is empty"),
            Leftover::HandleAhead { handle, block, counted, held } => {
                write!(f, "handle {handle} counts {counted} addresses in {block} and has {held}")
            }
            Leftover::HandleEmpty { handle } => write!(f, "handle {handle} counts no addresses"),
        }
    }
}

/// What no dead writer of ours leaves: a mistake elsewhere, or a workload that went without releasing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Assigned, and no workload, node or service has it.
    Leaked {
        /// The address.
        address: IpAddr,
        /// Its handle.
        handle: SmolStr,
        /// The number to name when releasing exactly this assignment.
        sequence: Option<u64>,
    },
    /// Used, and not assigned.
    Unassigned {
        /// The address.
        address: IpAddr,
        /// Who uses it.
        user: SmolStr,
    },
    /// Used by two.
    Shared {
        /// The address.
        address: IpAddr,
        /// Who use it.
        users: Vec<SmolStr>,
    },
    /// Assigned to a handle that does not count it: a release of the handle would miss it.
    Unreachable {
        /// The address.
        address: IpAddr,
        /// The handle.
        handle: SmolStr,
    },
    /// Two blocks share addresses.
    Overlap(Cidr, Cidr),
    /// A block in no pool.
    Orphan(Cidr),
    /// A block of a node that does not exist.
    NoNode {
        /// The node.
        node: SmolStr,
        /// The block.
        block: Cidr,
    },
    /// What rests on a record that cannot be read.
    Unjudged {
        /// What it is that may be right or wrong.
        subject: SmolStr,
        /// The record.
        record: Key,
    },
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::Leaked { address, handle, .. } => {
                write!(f, "{address} is assigned to handle {handle} and nothing uses it")
            }
            Fault::Unassigned { address, user } => write!(f, "{address} is used by {user} and not assigned"),
            Fault::Shared { address, users } => write!(f, "{address} is used by {}", users.join(" and ")),
            Fault::Unreachable { address, handle } => {
                write!(f, "{address} is assigned to handle {handle}, which does not count it")
            }
            Fault::Overlap(a, b) => write!(f, "blocks {a} and {b} overlap"),
            Fault::Orphan(block) => write!(f, "{block} is in no pool"),
            Fault::NoNode { node, block } => {
                write!(f, "{block} belongs to node {node}, which does not exist")
            }
            Fault::Unjudged { subject, record } => {
                write!(f, "{subject} cannot be judged: {record} cannot be read")
            }
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckReport {
    /// Of dead writers.
    pub leftovers: Vec<Leftover>,
    /// Worse.
    pub faults: Vec<Fault>,
    /// Records that cannot be read.
    pub problems: Vec<Problem>,
    /// Assigned addresses.
    pub assigned: usize,
}

/// Who uses which address: workloads, nodes' tunnels, services. `None` if it was not looked up; then nothing is said of
/// leaks.
pub type Users = BTreeMap<IpAddr, Vec<SmolStr>>;

/// Checks a survey.
pub fn check(known: &Known, users: Option<&Users>) -> CheckReport {
    let mut report = CheckReport { problems: known.problems(), ..CheckReport::default() };
    check_affinities(known, &mut report);
    check_blocks(known, users, &mut report);
    check_handles(known, &mut report);
    report.leftovers.sort();
    report.faults.sort();
    // Each address of a handle that cannot be read says the same.
    report.faults.dedup();
    report
}

/// The fault of what rests on a record, if that cannot be read.
fn unjudged(known: &Known, record: Key, subject: impl FnOnce() -> SmolStr) -> Option<Fault> {
    known.problem(&record).map(|_| Fault::Unjudged { subject: subject(), record })
}

fn claim(owner: &AffinityOwner, block: Cidr) -> SmolStr {
    format_smolstr!("the claim of {owner} on {block}")
}

fn count(handle: &SmolStr, block: Cidr) -> SmolStr {
    format_smolstr!("what handle {handle} counts in {block}")
}

fn check_affinities(known: &Known, report: &mut CheckReport) {
    for (owner, block, (affinity, _)) in known.all_affinities() {
        if let Some(fault) = unjudged(known, Key::Block(block), || claim(owner, block)) {
            report.faults.push(fault);
            continue;
        }
        let owner = owner.clone();
        let found = known.block(block);
        report.leftovers.extend(match affinity.state {
            AffinityState::Pending => Some(Leftover::AffinityPending { owner, block }),
            AffinityState::PendingDeletion => Some(Leftover::AffinityLeaving { owner, block }),
            _ => match found {
                None => Some(Leftover::AffinityAlone { owner, block }),
                Some((b, _)) if !block::is_owned_by(b, &owner) => {
                    Some(Leftover::AffinityForeign { owner, block })
                }
                Some(_) => None,
            },
        });
    }
}

fn check_blocks(known: &Known, users: Option<&Users>, report: &mut CheckReport) {
    let pools: Vec<pools::Pool> = known.pools().filter_map(pools::pool).collect();
    let unreadable_pool = report.problems.iter().map(|p| &p.key).find(|key| is_pool(key)).cloned();
    let mut assigned: BTreeSet<IpAddr> = BTreeSet::new();
    let mut unreadable: Vec<Cidr> = Vec::new();
    let mut widest: Option<Cidr> = None;
    for (cidr, held) in Family::ALL.into_iter().flat_map(|family| known.blocks(family)) {
        // In numeric order a block that overlaps any earlier one overlaps the one that reaches furthest.
        match widest.filter(|w| w.overlaps(&cidr)) {
            Some(other) => report.faults.push(Fault::Overlap(other, cidr)),
            None => widest = Some(cidr),
        }
        let Some((b, _)) = held else {
            unreadable.push(cidr);
            continue;
        };
        if !pools.iter().any(|p| p.cidr.covers(&cidr)) {
            report.faults.push(match unreadable_pool.clone() {
                Some(record) => Fault::Unjudged { subject: format_smolstr!("the pool of {cidr}"), record },
                None => Fault::Orphan(cidr),
            });
        }
        match b.owner() {
            None if block::used(b).next().is_none() => {
                report.leftovers.push(Leftover::BlockEmpty { block: cidr })
            }
            None => {}
            Some(owner) => {
                if let AffinityOwner::Host(node) = &owner
                    && known.record(&Key::resource(Kind::Node, "", node)).is_none()
                {
                    report.faults.push(Fault::NoNode { node: node.clone(), block: cidr });
                }
                let record = Key::Affinity { owner: owner.clone(), block: cidr };
                if let Some(fault) = unjudged(known, record, || claim(&owner, cidr)) {
                    report.faults.push(fault);
                } else if known.affinity(&owner, cidr).is_none() {
                    report.leftovers.push(Leftover::BlockUnclaimed { owner, block: cidr });
                }
            }
        }
        for (ordinal, attribute) in block::used(b) {
            let Some(address) = block::address(b, ordinal) else { continue };
            assigned.insert(address);
            let handle = attribute.handle_id.clone().unwrap_or_default();
            if users.is_some_and(|u| !u.contains_key(&address)) {
                let sequence = b.sequence_number_for_allocation.get(&ordinal).copied();
                report.faults.push(Fault::Leaked { address, handle: handle.clone(), sequence });
            }
            let counts = known.handle(&handle).is_some_and(|(h, _)| h.block.contains_key(&cidr));
            if !handle.is_empty() && !counts {
                let fault = unjudged(known, Key::Handle(handle.clone()), || count(&handle, cidr));
                report.faults.push(fault.unwrap_or(Fault::Unreachable { address, handle }));
            }
        }
    }
    report.assigned = assigned.len();
    for (address, users) in users.into_iter().flatten() {
        let doubt = unreadable.iter().find(|cidr| cidr.contains(*address));
        match (users.as_slice(), doubt) {
            ([], _) => {}
            ([_], _) if assigned.contains(address) => {}
            ([user], Some(cidr)) => {
                let subject = format_smolstr!("{address}, which is used by {user},");
                report.faults.push(Fault::Unjudged { subject, record: Key::Block(*cidr) });
            }
            ([user, ..], None) if !assigned.contains(address) => {
                // Only what lies in a pool is IPAM's business.
                if pools.iter().any(|p| p.cidr.contains(*address)) {
                    report.faults.push(Fault::Unassigned { address: *address, user: user.clone() });
                }
            }
            (several, _) => report.faults.push(Fault::Shared { address: *address, users: several.to_vec() }),
        }
    }
}

fn is_pool(key: &Key) -> bool {
    matches!(key, Key::Resource(key) if key.kind == Kind::IPPool)
}

fn check_handles(known: &Known, report: &mut CheckReport) {
    for (id, (handle, _)) in known.handles() {
        if handle.block.is_empty() {
            report.leftovers.push(Leftover::HandleEmpty { handle: id.clone() });
        }
        for (block, counted) in &handle.block {
            if let Some(fault) = unjudged(known, Key::Block(*block), || count(id, *block)) {
                report.faults.push(fault);
                continue;
            }
            let held = known.block(*block).map_or(0, |(b, _)| block::held_by(b, id));
            if *counted > held {
                let (handle, block, counted) = (id.clone(), *block, *counted);
                report.leftovers.push(Leftover::HandleAhead { handle, block, counted, held });
            }
        }
    }
}

#[cfg(test)]
mod tests;
