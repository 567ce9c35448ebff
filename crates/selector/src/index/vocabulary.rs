//! The labels that exist: names, (name, value) pairs, who has them and which selectors wait for them.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use super::id_set::IdSet;
use super::interner::Interner;
use super::{ItemId, SelectorId};

/// Number of a label name: its number in the [`Interner`].
pub(super) type LabelId = u32;
/// Number of a (name, value) pair.
pub(super) type PairId = u32;

/// One label of an item: its name and its value, as numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bound {
    pub(super) label: LabelId,
    pub(super) pair: PairId,
}

/// The pair of a label in a list sorted by label.
pub(super) fn pair_of(sorted: &[Bound], label: LabelId) -> Option<PairId> {
    sorted.binary_search_by_key(&label, |bound| bound.label).ok().map(|at| sorted[at].pair)
}

/// A single fact about an item's labels, which selectors can be kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fact {
    /// The item has the label.
    Label(LabelId),
    /// The item has the label with this value.
    Pair(PairId),
}

/// A label name in use.
#[derive(Debug, Default)]
struct Label {
    /// Items that have the label, own or inherited.
    items: IdSet,
    /// Selectors that can match only items that have the label, and are kept here to be found by it.
    keyed: IdSet,
    /// Selectors whose answer depends on the label.
    mentions: IdSet,
}

/// A (name, value) pair in use.
#[derive(Debug)]
struct Pair {
    label: LabelId,
    /// How many times items, parents and selectors name it.
    users: u32,
    value: SmolStr,
    /// Items that have the pair, own or inherited.
    items: IdSet,
}

/// All names and pairs in use, with their postings.
#[derive(Debug, Default)]
pub(super) struct Vocabulary {
    names: Interner,
    /// By label id; boxed because the interner's numbers may also stand for other strings.
    labels: Vec<Option<Box<Label>>>,
    pairs: Vec<Pair>,
    by_text: HashTable<PairId>,
    free: Vec<PairId>,
    /// Seeded for each vocabulary: users choose the values, and must not be able to choose collisions.
    hasher: DefaultHashBuilder,
    /// Selectors kept under a pair. Apart from the pairs, since very few of many pairs have any.
    keyed_by_pair: FxHashMap<PairId, IdSet>,
    nothing: IdSet,
}

impl Vocabulary {
    pub(super) fn names(&self) -> &Interner {
        &self.names
    }

    pub(super) fn names_mut(&mut self) -> &mut Interner {
        &mut self.names
    }

    /// The number of a name, for one more user.
    pub(super) fn acquire_label(&mut self, name: &str) -> LabelId {
        let label = self.names.intern(name);
        let slot = label as usize;
        if slot >= self.labels.len() {
            self.labels.resize_with(slot + 1, || None);
        }
        self.labels[slot].get_or_insert_default();
        label
    }

    pub(super) fn release_label(&mut self, label: LabelId) {
        if self.names.release(label) {
            self.labels[label as usize] = None;
        }
    }

    /// The number of a pair, for one more user.
    pub(super) fn acquire_pair(&mut self, name: &str, value: &str) -> Bound {
        if let Some(bound) = self.lookup_pair(name, value) {
            self.pairs[bound.pair as usize].users += 1;
            return bound;
        }
        let label = self.acquire_label(name);
        let pair = Pair { label, users: 1, value: value.into(), items: IdSet::default() };
        let id = match self.free.pop() {
            Some(id) => {
                self.pairs[id as usize] = pair;
                id
            }
            None => {
                self.pairs.push(pair);
                PairId::try_from(self.pairs.len() - 1).expect("fewer than 2^32 pairs fit in memory")
            }
        };
        let (pairs, hasher) = (&self.pairs, &self.hasher);
        self.by_text.insert_unique(hasher.hash_one((label, value)), id, |id| {
            let pair = &pairs[*id as usize];
            hasher.hash_one((pair.label, pair.value.as_str()))
        });
        Bound { label, pair: id }
    }

    pub(super) fn release_pair(&mut self, id: PairId) {
        let pair = &mut self.pairs[id as usize];
        pair.users -= 1;
        if pair.users > 0 {
            return;
        }
        let label = pair.label;
        let value = std::mem::take(&mut pair.value);
        pair.items = IdSet::default();
        if let Ok(found) = self
            .by_text
            .find_entry(self.hasher.hash_one((label, value.as_str())), |candidate| *candidate == id)
        {
            found.remove();
        }
        self.free.push(id);
        self.release_label(label);
    }

    /// The number of a pair, if somebody uses it.
    pub(super) fn lookup_pair(&self, name: &str, value: &str) -> Option<Bound> {
        let label = self.names.lookup(name)?;
        let matching = |id: &PairId| {
            let pair = &self.pairs[*id as usize];
            pair.label == label && pair.value == value
        };
        let pair = *self.by_text.find(self.hasher.hash_one((label, value)), matching)?;
        Some(Bound { label, pair })
    }

    pub(super) fn value(&self, pair: PairId) -> &str {
        &self.pairs[pair as usize].value
    }

    /// Items of which the fact holds.
    pub(super) fn items(&self, fact: Fact) -> &IdSet {
        match fact {
            Fact::Label(label) => &self.label(label).items,
            Fact::Pair(pair) => &self.pairs[pair as usize].items,
        }
    }

    /// Selectors kept under the fact.
    pub(super) fn keyed(&self, fact: Fact) -> &IdSet {
        match fact {
            Fact::Label(label) => &self.label(label).keyed,
            Fact::Pair(pair) => self.keyed_by_pair.get(&pair).unwrap_or(&self.nothing),
        }
    }

    /// Selectors whose answer depends on the label.
    pub(super) fn mentions(&self, label: LabelId) -> &IdSet {
        &self.label(label).mentions
    }

    pub(super) fn add_item(&mut self, fact: Fact, item: ItemId) {
        self.items_mut(fact).insert(item);
    }

    pub(super) fn remove_item(&mut self, fact: Fact, item: ItemId) {
        self.items_mut(fact).remove(item);
    }

    pub(super) fn add_mention(&mut self, label: LabelId, selector: SelectorId) {
        self.label_mut(label).mentions.insert(selector);
    }

    pub(super) fn remove_mention(&mut self, label: LabelId, selector: SelectorId) {
        self.label_mut(label).mentions.remove(selector);
    }

    pub(super) fn add_key(&mut self, fact: Fact, selector: SelectorId) {
        match fact {
            Fact::Label(label) => self.label_mut(label).keyed.insert(selector),
            Fact::Pair(pair) => self.keyed_by_pair.entry(pair).or_default().insert(selector),
        };
    }

    pub(super) fn remove_key(&mut self, fact: Fact, selector: SelectorId) {
        match fact {
            Fact::Label(label) => {
                self.label_mut(label).keyed.remove(selector);
            }
            Fact::Pair(pair) => {
                if let Some(keyed) = self.keyed_by_pair.get_mut(&pair) {
                    keyed.remove(selector);
                    if keyed.len() == 0 {
                        self.keyed_by_pair.remove(&pair);
                    }
                }
            }
        }
    }

    /// Whether nobody uses any word.
    #[cfg(test)]
    pub(super) fn is_unused(&self) -> bool {
        self.by_text.is_empty()
            && self.keyed_by_pair.is_empty()
            && self.free.len() == self.pairs.len()
            && self.labels.iter().all(Option::is_none)
    }

    fn items_mut(&mut self, fact: Fact) -> &mut IdSet {
        match fact {
            Fact::Label(label) => &mut self.label_mut(label).items,
            Fact::Pair(pair) => &mut self.pairs[pair as usize].items,
        }
    }

    fn label(&self, label: LabelId) -> &Label {
        self.labels[label as usize].as_ref().expect("a label has its entry as long as it is in use")
    }

    fn label_mut(&mut self, label: LabelId) -> &mut Label {
        self.labels[label as usize].as_mut().expect("a label has its entry as long as it is in use")
    }
}
