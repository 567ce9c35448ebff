//! What each object contributes to the ruleset, so that its next rendering replaces it and its removal undoes it.

use calico_api::ResourceKey;
use calico_net::IfName;
use calico_rules::nft::{Element, Table};
use calico_rules::render::render_chain;
use calico_rules::{Fragment, Part};
use smol_str::SmolStr;

use super::Desired;

/// An object that contributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// The skeleton.
    Statics,
    /// All host endpoints together.
    Hosts,
    /// A policy.
    Policy(ResourceKey),
    /// A profile.
    Profile(SmolStr),
    /// The workload that has this interface.
    Interface(IfName),
}

/// The names and elements of a fragment; its chains are in the ruleset.
#[derive(Debug, Default)]
pub(super) struct Contribution {
    chains: Vec<(Table, SmolStr)>,
    sets: Vec<(Table, SmolStr)>,
    elements: Vec<(Table, SmolStr, Element)>,
}

impl Desired {
    /// Replaces what an object contributes. What the old and the new have in common never goes away meanwhile.
    pub(super) fn contribute(&mut self, owner: Owner, fragment: Fragment) {
        let Fragment { inet, arp } = fragment;
        let mut new = Contribution::default();
        for (table, part) in [(Table::Inet, inet), (Table::Arp, arp)] {
            let Part { chains, sets, elements } = part;
            for set in sets {
                self.ruleset.retain_set(table, &set.name, set.spec, set.elements);
                new.sets.push((table, set.name));
            }
            for chain in chains {
                self.ruleset.retain_chain(table, &chain.name, render_chain(&chain));
                new.chains.push((table, chain.name));
            }
            new.elements.extend(elements.into_iter().map(|(set, element)| (table, set, element)));
        }
        let old = self.contributions.remove(&owner).unwrap_or_default();
        for (table, set, element) in old.elements.iter().filter(|e| !new.elements.contains(e)) {
            self.ruleset.remove_element(*table, set, element);
        }
        for (table, set, element) in &new.elements {
            self.ruleset.insert_element(*table, set, element.clone());
        }
        self.release(old);
        self.contributions.insert(owner, new);
    }

    /// Undoes what an object contributed.
    pub(super) fn withdraw(&mut self, owner: &Owner) {
        if let Some(old) = self.contributions.remove(owner) {
            for (table, set, element) in &old.elements {
                self.ruleset.remove_element(*table, set, element);
            }
            self.release(old);
        }
    }

    /// Whether the kernel refused a chain or an element that an object contributes.
    pub(super) fn is_denied(&self, owner: &Owner) -> bool {
        self.contributions.get(owner).is_some_and(|Contribution { chains, sets: _, elements }| {
            chains.iter().any(|(table, chain)| self.ruleset.is_denied(*table, chain))
                || elements.iter().any(|(table, set, element)| self.ruleset.is_refused(*table, set, element))
        })
    }

    fn release(&mut self, old: Contribution) {
        for (table, chain) in &old.chains {
            self.ruleset.release_chain(*table, chain);
        }
        for (table, set) in &old.sets {
            self.ruleset.release_set(*table, set);
        }
    }
}
