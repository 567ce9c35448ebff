//! A whole table ready to be asked: chains by name, sets with fast look-up.

use std::collections::{BTreeMap, HashMap, HashSet};

use smol_str::SmolStr;

use crate::fragment::Part;
use crate::ir::Chain;
use crate::nft::{ChainKind, ChainType, Data, Element, Hook, Verdict};

/// The elements of one set or map.
#[derive(Clone, Debug, Default)]
pub struct Contents {
    exact: HashSet<Data>,
    /// Lowest key to highest key, disjoint.
    intervals: BTreeMap<Data, Data>,
    verdicts: HashMap<Data, Verdict>,
}

impl Contents {
    /// Adds an element.
    pub fn insert(&mut self, element: Element) {
        match element {
            Element::Exact(key) => drop(self.exact.insert(key)),
            Element::Interval { first, last } => drop(self.intervals.insert(first, last)),
            Element::Verdict { key, verdict } => drop(self.verdicts.insert(key, verdict)),
        }
    }

    /// Whether a key is in the set.
    pub fn contains(&self, key: &Data) -> bool {
        self.exact.contains(key)
            || self.intervals.range(..=key.clone()).next_back().is_some_and(|(_, last)| key <= last)
    }

    /// What the map holds for a key.
    pub fn verdict(&self, key: &Data) -> Option<&Verdict> {
        self.verdicts.get(key)
    }
}

/// Chains and sets of `inet calico`.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    pub(super) chains: HashMap<SmolStr, Chain>,
    pub(super) sets: HashMap<SmolStr, Contents>,
}

impl Ruleset {
    /// The ruleset of a table's part.
    pub fn new(part: &Part) -> Ruleset {
        let Part { chains, sets, elements } = part;
        let mut ruleset = Ruleset::default();
        ruleset.chains.extend(chains.iter().map(|c| (c.name.clone(), c.clone())));
        for set in sets {
            let contents = ruleset.sets.entry(set.name.clone()).or_default();
            set.elements.iter().cloned().for_each(|e| contents.insert(e));
        }
        elements.iter().for_each(|(set, element)| ruleset.insert(set, element.clone()));
        ruleset
    }

    /// Adds an element to a set.
    pub fn insert(&mut self, set: &str, element: Element) {
        self.sets.entry(SmolStr::new(set)).or_default().insert(element);
    }

    /// The base chains of a hook, first to last.
    pub fn base_chains(&self, hook: Hook) -> Vec<(&Chain, ChainType)> {
        let of_hook = |chain| match chain {
            &Chain { kind: ChainKind::Base { hook: at, priority, chain_type }, .. } if at == hook => {
                Some((priority, chain_type))
            }
            _ => None,
        };
        let mut found: Vec<_> = self.chains.values().filter_map(|c| Some((of_hook(c)?, c))).collect();
        found.sort_by(|a, b| (a.0.0, &a.1.name).cmp(&(b.0.0, &b.1.name)));
        found.into_iter().map(|((_, chain_type), chain)| (chain, chain_type)).collect()
    }
}
