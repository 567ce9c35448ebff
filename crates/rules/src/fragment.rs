//! What one object contributes to the kernel's tables.
//!
//! The desired tables are the union of the fragments of all live objects. Chains and sets whose names carry a hash of
//! their contents (shared endpoint bodies, sub-chains, constant sets) may come in several fragments; equal names always
//! mean equal contents, so the union needs no order and a reference count per name is all the state there is.

use smol_str::SmolStr;

use crate::ir::Chain;
use crate::nft::{Element, SetSpec};

/// A set or map with the elements that belong to its definition. Sets that others fill (IP sets, dispatch maps) come
/// with none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: SmolStr,
    /// Its shape.
    pub spec: SetSpec,
    /// Its constant elements, disjoint and sorted.
    pub elements: Vec<Element>,
}

/// The contribution to one table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// Whole chains.
    pub chains: Vec<Chain>,
    /// Whole sets and maps.
    pub sets: Vec<Set>,
    /// Single elements of sets that another fragment declares: (set's name, element).
    pub elements: Vec<(SmolStr, Element)>,
}

/// What one object contributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fragment {
    /// To `inet calico`.
    pub inet: Part,
    /// To `arp calico`.
    pub arp: Part,
}

impl Part {
    /// Adds a set unless one of its name is there (then it is the same).
    pub(crate) fn add_set(&mut self, set: Set) {
        if self.sets.iter().all(|s| s.name != set.name) {
            self.sets.push(set);
        }
    }

    /// Adds a chain unless one of its name is there (then it is the same).
    pub(crate) fn add_chain(&mut self, chain: Chain) {
        if self.chains.iter().all(|c| c.name != chain.name) {
            self.chains.push(chain);
        }
    }

    /// Takes over all of another part.
    pub fn merge(&mut self, other: Part) {
        let Part { chains, sets, elements } = other;
        chains.into_iter().for_each(|c| self.add_chain(c));
        sets.into_iter().for_each(|s| self.add_set(s));
        self.elements.extend(elements);
    }
}

impl Fragment {
    /// Takes over all of another fragment.
    pub fn merge(&mut self, other: Fragment) {
        let Fragment { inet, arp } = other;
        self.inet.merge(inet);
        self.arp.merge(arp);
    }
}
