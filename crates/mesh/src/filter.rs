//! What a BGPFilter says, ready for any speaker: rules by direction and family, each a list of conditions that must all
//! hold, changes to the route, and a verdict (spec 6 §3.4).

use calico_net::{Asn, Cidr, Family};
use smol_str::SmolStr;

use crate::intent::Community;

/// Which way a route goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// From the peer.
    Import,
    /// To the peer.
    Export,
}

/// A BGPFilter. The first rule that matches decides; a route that none matches goes on to the next filter, and at last
/// to what the session does with every route.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// For IPv4 routes that are taken.
    pub import_v4: Vec<FilterRule>,
    /// For IPv4 routes that are given.
    pub export_v4: Vec<FilterRule>,
    /// For IPv6 routes that are taken.
    pub import_v6: Vec<FilterRule>,
    /// For IPv6 routes that are given.
    pub export_v6: Vec<FilterRule>,
}

impl Filter {
    /// The rules for one direction and family.
    pub fn rules(&self, direction: Direction, family: Family) -> &[FilterRule] {
        match (direction, family) {
            (Direction::Import, Family::V4) => &self.import_v4,
            (Direction::Export, Family::V4) => &self.export_v4,
            (Direction::Import, Family::V6) => &self.import_v6,
            (Direction::Export, Family::V6) => &self.export_v6,
        }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterRule {
    /// All must hold; without any the rule matches every route.
    pub conditions: Vec<Condition>,
    /// Done before the verdict, in order.
    pub operations: Vec<Operation>,
    /// Whether the route passes.
    pub accept: bool,
}

/// What a rule asks of a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Its prefix is this one.
    Equal(Cidr),
    /// Its prefix is another one.
    NotEqual(Cidr),
    /// Its prefix is inside.
    In(Prefixes),
    /// Its prefix is not inside.
    NotIn(Prefixes),
    /// It was learned from a BGP peer.
    FromPeers,
    /// It leads out of an interface of this name; `*` stands for any part.
    Interface(SmolStr),
    /// The session is with our own AS (iBGP), or is not (eBGP).
    Internal(bool),
    /// It carries this community.
    Community(Community),
    /// Its AS path begins so.
    PathBegins(Vec<Asn>),
    /// Its metric is this one.
    Priority(u32),
}

/// The prefixes inside a prefix, itself included, whose lengths are in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefixes {
    /// Around all of them.
    pub cidr: Cidr,
    /// The shortest length, at least that of `cidr`.
    pub min: u8,
    /// The longest length, at least `min`.
    pub max: u8,
}

impl Prefixes {
    /// All inside `cidr`.
    pub fn all(cidr: Cidr) -> Prefixes {
        Prefixes { cidr, min: cidr.prefix_len(), max: cidr.family().bits() }
    }

    /// Whether no length inside `cidr` is left out.
    pub fn are_all(&self) -> bool {
        *self == Prefixes::all(self.cidr)
    }
}

/// A change to a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// One more community.
    AddCommunity(Community),
    /// These in front of the path; the first of them comes first.
    Prepend(Vec<Asn>),
    /// Another metric.
    SetPriority(u32),
}
