//! A set's wanted elements, and how the kernel's differ: a change costs what it changes, whatever the set's size.

use calico_rules::nft::{Data, Element, Verdict};
use rustc_hash::{FxHashMap, FxHashSet};

use super::op::element_key;

/// What an element has besides its key. Most have nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tail {
    Last(Data),
    Verdict(Verdict),
}

/// The kernel holds `(wanted − added) ∪ removed`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Elements {
    wanted: FxHashMap<Data, Option<Box<Tail>>>,
    added: FxHashSet<Data>,
    removed: FxHashMap<Data, Option<Box<Tail>>>,
    /// Keys that the kernel refused; not tried again until the element changes.
    refused: FxHashSet<Data>,
    /// Keys that the kernel would not remove; not tried again until the element changes or the set is read.
    kept: FxHashSet<Data>,
}

fn split(element: Element) -> (Data, Option<Box<Tail>>) {
    match element {
        Element::Exact(key) => (key, None),
        Element::Interval { first, last } => (first, Some(Box::new(Tail::Last(last)))),
        Element::Verdict { key, verdict } => (key, Some(Box::new(Tail::Verdict(verdict)))),
    }
}

fn join(key: &Data, tail: &Option<Box<Tail>>) -> Element {
    let key = key.clone();
    match tail.as_deref() {
        None => Element::Exact(key),
        Some(Tail::Last(last)) => Element::Interval { first: key, last: last.clone() },
        Some(Tail::Verdict(verdict)) => Element::Verdict { key, verdict: verdict.clone() },
    }
}

impl Elements {
    /// Wants an element. One of the same key is replaced.
    pub fn insert(&mut self, element: Element) {
        let (key, tail) = split(element);
        match self.wanted.get(&key) {
            Some(old) if *old == tail => return,
            Some(old) if !self.added.contains(&key) => {
                self.removed.insert(key.clone(), old.clone());
            }
            Some(_) | None => {}
        }
        self.refused.remove(&key);
        self.kept.remove(&key);
        if self.removed.get(&key) == Some(&tail) {
            self.removed.remove(&key);
            self.added.remove(&key);
        } else {
            self.added.insert(key.clone());
        }
        self.wanted.insert(key, tail);
    }

    /// Wants an element no more. One that has the same key but is another stays.
    pub fn remove(&mut self, element: &Element) {
        let key = element_key(element);
        if self.wanted.get(key).is_some_and(|tail| join(key, tail) == *element) {
            self.remove_key(&key.clone());
        }
    }

    fn remove_key(&mut self, key: &Data) {
        if let Some(tail) = self.wanted.remove(key) {
            self.refused.remove(key);
            if !self.added.remove(key) {
                self.removed.insert(key.clone(), tail);
            }
        }
    }

    /// Wants none.
    pub fn clear(&mut self) {
        for (key, tail) in std::mem::take(&mut self.wanted) {
            if !self.added.remove(&key) {
                self.removed.insert(key, tail);
            }
        }
        self.refused.clear();
    }

    /// The kernel's set holds these and no others.
    pub fn observe(&mut self, actual: Vec<Element>) {
        self.added = self.wanted.keys().cloned().collect();
        self.removed.clear();
        self.kept.clear();
        for element in actual {
            let (key, tail) = split(element);
            if self.wanted.get(&key) == Some(&tail) {
                self.added.remove(&key);
            } else {
                self.removed.insert(key, tail);
            }
        }
    }

    /// The elements to remove from the kernel's set: those to be replaced, and those to be gone.
    pub fn plan_removals(&self) -> (Vec<Element>, Vec<Element>) {
        let mut sorted: Vec<(&Data, &Option<Box<Tail>>)> =
            self.removed.iter().filter(|(key, _)| !self.kept.contains(*key)).collect();
        sorted.sort_unstable_by_key(|(key, _)| *key);
        let elements = sorted.into_iter().map(|(key, tail)| (self.added.contains(key), join(key, tail)));
        let (replaced, gone): (Vec<_>, Vec<_>) = elements.partition(|(replaced, _)| *replaced);
        (replaced.into_iter().map(|(_, e)| e).collect(), gone.into_iter().map(|(_, e)| e).collect())
    }

    /// The elements to add to the kernel's set.
    pub fn plan_additions(&self) -> Vec<Element> {
        let mut keys: Vec<&Data> = self.added.iter().filter(|key| !self.refused.contains(*key)).collect();
        keys.sort_unstable();
        keys.into_iter().filter_map(|key| Some(join(key, self.wanted.get(key)?))).collect()
    }

    /// The kernel has taken these.
    pub fn note_added(&mut self, elements: &[Element]) {
        for element in elements {
            self.added.remove(element_key(element));
        }
    }

    /// The kernel has removed these.
    pub fn note_removed(&mut self, elements: &[Element]) {
        for element in elements {
            self.removed.remove(element_key(element));
        }
    }

    /// The kernel's set is gone or empty.
    pub fn note_emptied(&mut self) {
        self.observe(Vec::new());
    }

    /// The kernel refused this element: leave it out until it changes.
    pub fn refuse(&mut self, element: &Element) {
        self.refused.insert(element_key(element).clone());
    }

    /// The kernel would not remove this element: leave it in.
    pub fn keep(&mut self, element: &Element) {
        self.kept.insert(element_key(element).clone());
    }

    /// Whether the kernel refused this element.
    pub fn is_refused(&self, element: &Element) -> bool {
        self.refused.contains(element_key(element))
    }

    /// All wanted elements, in no order.
    pub fn wanted(&self) -> impl Iterator<Item = Element> + '_ {
        self.wanted.iter().map(|(key, tail)| join(key, tail))
    }

    /// How many elements are wanted.
    pub fn len(&self) -> usize {
        self.wanted.len()
    }

    /// Whether the kernel holds all that it should and no more, as far as it takes them.
    pub fn is_settled(&self) -> bool {
        self.removed.keys().all(|key| self.kept.contains(key))
            && self.added.iter().all(|key| self.refused.contains(key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn element(key: u8, verdict: u8) -> Element {
        let verdict = match verdict {
            0 => Verdict::Accept,
            1 => Verdict::Drop,
            _ => Verdict::Return,
        };
        Element::Verdict { key: Data::from_slice(&[key]), verdict }
    }

    proptest! {
        /// Whatever happens in whatever order, doing the plan makes the kernel's set the wanted one.
        #[test]
        fn the_plan_leads_to_the_wanted_elements(
            steps in proptest::collection::vec((0u8..4, 0u8..6, 0u8..3), 0..60)
        ) {
            let mut elements = Elements::default();
            let mut kernel: BTreeMap<Data, Element> = BTreeMap::new();
            let mut wanted: BTreeMap<Data, Element> = BTreeMap::new();
            for (what, key, verdict) in steps {
                let e = element(key, verdict);
                match what {
                    0 | 1 => {
                        elements.insert(e.clone());
                        wanted.insert(element_key(&e).clone(), e);
                    }
                    2 => {
                        elements.remove(&e);
                        if wanted.get(element_key(&e)) == Some(&e) {
                            wanted.remove(element_key(&e));
                        }
                    }
                    _ => {
                        let (replaced, gone) = elements.plan_removals();
                        for e in replaced.iter().chain(&gone) {
                            let old = kernel.remove(element_key(e));
                            prop_assert_eq!(old.as_ref(), Some(e));
                        }
                        elements.note_removed(&replaced);
                        elements.note_removed(&gone);
                        let additions = elements.plan_additions();
                        for e in &additions {
                            prop_assert!(kernel.insert(element_key(e).clone(), e.clone()).is_none());
                        }
                        elements.note_added(&additions);
                        prop_assert!(elements.is_settled());
                        prop_assert_eq!(&kernel, &wanted);
                    }
                }
            }
            elements.observe(kernel.values().cloned().collect());
            let differs = kernel != wanted;
            prop_assert_eq!(!elements.is_settled(), differs);
        }
    }
}
