//! Questions about assignments (spec 5 §2.11): the addresses of a handle, and who has an address.
//!
//! A question commits nothing; it fails only if the driver reports conflicts nevertheless.

use std::net::IpAddr;

use calico_api::{AffinityOwner, Kind};
use calico_api::{AllocationAttribute, Key, Selection};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::block::{self, Slot};
use crate::known::Known;
use crate::machine::{Act, Contended, Decision, Halt, Operation};
use crate::release;

fn present(known: &Known) -> Result<(), Halt<Contended>> {
    if known.has_hints() { Err(Halt::Refresh) } else { Ok(()) }
}

/// The addresses of a handle; empty if there is no such handle.
#[derive(Clone, Debug)]
pub struct AddressesOf(SmolStr);

impl AddressesOf {
    /// The question.
    pub fn new(handle: &str) -> AddressesOf {
        AddressesOf(crate::handle_id(handle))
    }
}

impl Operation for AddressesOf {
    type Outcome = Vec<crate::assign::Assigned>;
    type Error = Contended;

    fn decide(&mut self, known: &Known) -> Decision<Self::Outcome, Contended> {
        present(known)?;
        known.require([Key::Handle(self.0.clone())], [])?;
        let blocks: Vec<Cidr> =
            known.handle(&self.0).map_or(Vec::new(), |(h, _)| h.block.keys().copied().collect());
        known.require(blocks.iter().map(|c| Key::Block(*c)), [])?;
        let mut found = Vec::new();
        for (b, _) in blocks.iter().filter_map(|c| known.block(*c)) {
            let addresses = block::ordinals_of(b, &self.0).into_iter().filter_map(|n| block::address(b, n));
            found.extend(addresses.map(|address| crate::assign::Assigned { address, block: b.cidr }));
        }
        Ok(Act::Done(found))
    }
}

/// What is known of an address.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// Its block.
    pub block: Cidr,
    /// Whose block it is.
    pub owner: Option<AffinityOwner>,
    /// The handle and attributes that it was assigned with.
    pub attribute: AllocationAttribute,
    /// The sequence number to name when releasing exactly this assignment.
    pub sequence: Option<u64>,
}

/// Who has an address; `None` if nobody.
#[derive(Clone, Debug)]
pub struct AssignmentOf(IpAddr);

impl AssignmentOf {
    /// The question.
    pub fn new(address: IpAddr) -> AssignmentOf {
        AssignmentOf(address)
    }
}

impl Operation for AssignmentOf {
    type Outcome = Option<Assignment>;
    type Error = Contended;

    fn decide(&mut self, known: &Known) -> Decision<Self::Outcome, Contended> {
        present(known)?;
        let Some(cidr) = release::locate(known, self.0)? else { return Ok(Act::Done(None)) };
        known.require([Key::Block(cidr)], [])?;
        let assignment = known.block(cidr).and_then(|(b, _)| {
            let ordinal = block::ordinal(b, self.0)?;
            let Slot::Used(attribute) = block::slot(b, ordinal) else { return None };
            Some(Assignment {
                block: cidr,
                owner: b.owner(),
                attribute: attribute.clone(),
                sequence: b.sequence_number_for_allocation.get(&ordinal).copied(),
            })
        });
        Ok(Act::Done(assignment))
    }
}

/// Reads all that IPAM has stored, and the pools and nodes: afterwards [`crate::Machine::known`] is what
/// [`crate::check::check`] and [`crate::utilization::report`] work on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Survey;

impl Operation for Survey {
    type Outcome = ();
    type Error = Contended;

    fn decide(&mut self, known: &Known) -> Decision<(), Contended> {
        present(known)?;
        let resources = [Kind::IPPool, Kind::IPReservation, Kind::Node].map(Selection::all);
        let blocks = Family::ALL.map(Selection::Blocks);
        let rest = [Selection::Affinities { owner: None, family: None }, Selection::Handles];
        known.require([Key::IpamConfig], resources.into_iter().chain(blocks).chain(rest))?;
        Ok(Act::Done(()))
    }
}
