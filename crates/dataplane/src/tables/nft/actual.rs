//! What the kernel holds in our tables, as a full read reports it.

use std::collections::BTreeMap;

use calico_rules::nft::{ChainKind, Element, SetSpec, Table};
use smol_str::SmolStr;

use super::identity::RuleId;
use super::op::RuleHandle;

/// A rule as it stands in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActualRule {
    /// Its handle.
    pub handle: RuleHandle,
    /// The identity beside it; `None` if it carries none: somebody else's, or damaged, so to be removed.
    pub id: Option<RuleId>,
}

/// A chain as it stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActualChain {
    /// How it is entered; `None` for a base chain of a sort that we never make.
    pub kind: Option<ChainKind>,
    /// Its rules, first to last.
    pub rules: Vec<ActualRule>,
}

/// A set or map as it stands in the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActualSet {
    /// Its shape; `None` for a shape that we never make.
    pub spec: Option<SetSpec>,
    /// Its elements, in no order.
    pub elements: Vec<Element>,
}

/// One of our tables as it stands in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActualTable {
    /// Its chains by name.
    pub chains: BTreeMap<SmolStr, ActualChain>,
    /// Its sets and maps by name.
    pub sets: BTreeMap<SmolStr, ActualSet>,
}

/// All of our tables that exist.
pub type ActualNft = BTreeMap<Table, ActualTable>;
