//! The label index: all items against all selectors, kept up to date change by change.
//!
//! Items (endpoints, network sets) have labels of their own and inherit from parents (profiles): an item's effective
//! value of a label is its own, else that of its first parent that has the label (spec 2 §4.4). The index reports each
//! match that starts or stops, and costs what a change can affect:
//!
//! ```text
//!  item or parent ──▶ effective labels that differ ──▶ selectors to ask ──▶ MatchEvent
//!                         │ none: done                  (whichever is fewer)
//!                         ▼                             ├ those that mention a differing label
//!                      postings                         └ those that match now, or are keyed under a label there
//!                         ▲
//!  selector ──▶ program ──┴▶ bitmap operations over the postings ──▶ MatchEvent
//! ```
//!
//! - **Posting**: for each label and each (label, value) pair, the items that have it.
//! - **Key**: facts of which every match of a selector has one, chosen so that few selectors share them. A selector
//!   `alpha == "beta" && has(x)` among thousands that start alike is found only by items that have `x`. Selectors that
//!   can match without any label (`!has(x)`, `all()`) have no key and are always asked.
//!
//! Events come in a reproducible order, which is no promise beyond that.

mod clause;
mod id_set;
mod interner;
mod program;
mod vocabulary;

use roaring::RoaringBitmap;
use smallvec::SmallVec;

use crate::selector::Selector;
use clause::{best_key, clauses, narrowest};
use id_set::IdSet;
pub use interner::Interner;
use program::Program;
use vocabulary::{Bound, Fact, LabelId, PairId, Vocabulary, pair_of};

/// Number of an item. The caller chooses it; dense numbers save memory.
pub type ItemId = u32;
/// Number of a selector. The caller chooses it; dense numbers save memory. Equal selectors should share one.
pub type SelectorId = u32;
/// Number of a parent. The caller chooses it; dense numbers save memory.
pub type ParentId = u32;

/// A match that started or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MatchEvent {
    /// The selector…
    pub selector: SelectorId,
    /// …and the item…
    pub item: ItemId,
    /// …that match now (`true`) or no longer (`false`).
    pub started: bool,
}

/// All items, parents and selectors, and which match.
#[derive(Debug, Default)]
pub struct Index {
    words: Vocabulary,
    items: Vec<Option<Item>>,
    parents: Vec<Parent>,
    selectors: Vec<Option<Entry>>,
    /// Items that exist.
    present: IdSet,
    /// Selectors without a key.
    always: IdSet,
    scratch: Scratch,
}

#[derive(Debug)]
struct Item {
    /// Own labels, sorted by label.
    own: Box<[Bound]>,
    /// In order of precedence.
    parents: SmallVec<[ParentId; 4]>,
    /// Selectors that match.
    matched: IdSet,
}

/// A parent, known by its labels, by items that name it, or both.
#[derive(Debug, Default)]
struct Parent {
    /// Sorted by label; empty for a parent that does not exist.
    labels: Box<[Bound]>,
    /// Items that name it.
    items: IdSet,
}

#[derive(Debug)]
struct Entry {
    program: Program,
    /// Facts that the selector is kept under; `None` if it is always asked.
    key: Option<Box<[Fact]>>,
    /// Items that match.
    items: IdSet,
}

/// Buffers that outlive a change, so that a change allocates only what it keeps.
#[derive(Debug, Default)]
struct Scratch {
    own: Vec<Bound>,
    before: Vec<Bound>,
    after: Vec<Bound>,
    changed: Vec<LabelId>,
    candidates: Vec<SelectorId>,
}

impl Index {
    /// An index without items, parents and selectors.
    pub fn new() -> Index {
        Index::default()
    }

    /// The strings that the index knows: label names in use.
    pub fn interner(&self) -> &Interner {
        self.words.names()
    }

    /// For interning further strings beside the label names. Give back only what you took.
    pub fn interner_mut(&mut self) -> &mut Interner {
        self.words.names_mut()
    }

    /// Adds an item, or replaces its labels and parents. Parents come in order of precedence and need not exist (yet).
    /// Of several labels with one name the last counts.
    pub fn set_item<'a>(
        &mut self,
        id: ItemId,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        parents: &[ParentId],
        out: &mut Vec<MatchEvent>,
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        acquire_sorted(labels, &mut self.words, &mut scratch.own);
        let existing = slot_mut(&mut self.items, id).as_ref();
        let is_new = existing.is_none();
        if existing.is_some_and(|item| *item.own == *scratch.own && *item.parents == *parents) {
            release_all(&scratch.own, &mut self.words);
        } else {
            scratch.before.clear();
            let previous = self.items[id as usize].take();
            if let Some(item) = &previous {
                effective(&item.own, &item.parents, |parent| self.parent_labels(parent), &mut scratch.before);
            }
            effective(&scratch.own, parents, |parent| self.parent_labels(parent), &mut scratch.after);
            let old_parents = previous.as_ref().map(|item| item.parents.as_slice()).unwrap_or_default();
            if old_parents != parents {
                self.move_to_parents(id, old_parents, parents);
            }
            let (matched, old_own) = match previous {
                Some(item) => (item.matched, item.own),
                None => (IdSet::default(), Box::default()),
            };
            self.items[id as usize] =
                Some(Item { own: scratch.own.as_slice().into(), parents: parents.into(), matched });
            if is_new {
                self.present.insert(id);
            }
            self.reconcile(id, is_new, &mut scratch, out);
            release_all(&old_own, &mut self.words);
        }
        self.scratch = scratch;
    }

    /// Takes an item away; its matches stop. An item that does not exist is none to take.
    pub fn remove_item(&mut self, id: ItemId, out: &mut Vec<MatchEvent>) {
        let Some(item) = self.items.get_mut(id as usize).and_then(Option::take) else {
            return;
        };
        let mut scratch = std::mem::take(&mut self.scratch);
        effective(&item.own, &item.parents, |parent| self.parent_labels(parent), &mut scratch.before);
        for bound in &scratch.before {
            self.words.remove_item(Fact::Pair(bound.pair), id);
            self.words.remove_item(Fact::Label(bound.label), id);
        }
        for selector in item.matched.iter() {
            if let Some(entry) = &mut self.selectors[selector as usize] {
                entry.items.remove(id);
            }
            out.push(MatchEvent { selector, item: id, started: false });
        }
        self.move_to_parents(id, &item.parents, &[]);
        self.present.remove(id);
        release_all(&item.own, &mut self.words);
        self.scratch = scratch;
    }

    /// Adds a parent, or replaces its labels, for all items that name it.
    pub fn set_parent<'a>(
        &mut self,
        id: ParentId,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        out: &mut Vec<MatchEvent>,
    ) {
        let mut scratch = std::mem::take(&mut self.scratch);
        acquire_sorted(labels, &mut self.words, &mut scratch.own);
        let parent = slot_mut(&mut self.parents, id);
        if *parent.labels == *scratch.own {
            release_all(&scratch.own, &mut self.words);
        } else {
            let new: Box<[Bound]> = scratch.own.as_slice().into();
            let old = std::mem::replace(&mut parent.labels, new);
            // Nothing below changes who names the parent: the set is only lent out.
            let items = std::mem::take(&mut parent.items);
            for item_id in items.iter() {
                let Some(item) = &self.items[item_id as usize] else {
                    continue;
                };
                let labels_before = |parent| if parent == id { &*old } else { self.parent_labels(parent) };
                effective(&item.own, &item.parents, labels_before, &mut scratch.before);
                effective(&item.own, &item.parents, |parent| self.parent_labels(parent), &mut scratch.after);
                self.reconcile(item_id, false, &mut scratch, out);
            }
            self.parents[id as usize].items = items;
            release_all(&old, &mut self.words);
        }
        self.scratch = scratch;
    }

    /// Takes a parent's labels away. Items may go on naming it.
    pub fn remove_parent(&mut self, id: ParentId, out: &mut Vec<MatchEvent>) {
        if (id as usize) < self.parents.len() {
            self.set_parent(id, [], out);
        }
    }

    /// Adds a selector, or replaces the one of that number; of a replacement only the differences are reported.
    pub fn add_selector(&mut self, id: SelectorId, selector: &Selector, out: &mut Vec<MatchEvent>) {
        let program = Program::compile(selector.expr(), &mut self.words);
        let previous = slot_mut(&mut self.selectors, id).take();
        if let Some(entry) = &previous {
            self.unregister(id, entry);
        }
        let clauses = clauses(selector.expr(), &self.words);
        let items = self.select(&program, narrowest(&clauses, &self.words));
        let key = best_key(clauses, &self.words).map(Vec::into_boxed_slice);
        program.add_mentions(id, &mut self.words);
        match &key {
            Some(facts) => facts.iter().for_each(|fact| self.words.add_key(*fact, id)),
            None => {
                self.always.insert(id);
            }
        }
        let old_items = match previous {
            Some(entry) => {
                entry.program.release(&mut self.words);
                entry.items
            }
            None => IdSet::default(),
        };
        for item in old_items.iter().filter(|item| !items.contains(*item)) {
            self.record(id, item, false, out);
        }
        for item in items.iter().filter(|item| !old_items.contains(*item)) {
            self.record(id, item, true, out);
        }
        self.selectors[id as usize] = Some(Entry { program, key, items: items.into() });
    }

    /// Takes a selector away; its matches stop. A selector that does not exist is none to take.
    pub fn remove_selector(&mut self, id: SelectorId, out: &mut Vec<MatchEvent>) {
        let Some(entry) = self.selectors.get_mut(id as usize).and_then(Option::take) else {
            return;
        };
        self.unregister(id, &entry);
        entry.program.release(&mut self.words);
        for item in entry.items.iter() {
            self.record(id, item, false, out);
        }
    }

    /// The items that a selector matches, ascending; none for a selector that does not exist.
    pub fn matches(&self, selector: SelectorId) -> impl Iterator<Item = ItemId> + '_ {
        let entry = self.selectors.get(selector as usize).and_then(Option::as_ref);
        entry.into_iter().flat_map(|entry| entry.items.iter())
    }

    /// How many items a selector matches.
    pub fn match_count(&self, selector: SelectorId) -> usize {
        let entry = self.selectors.get(selector as usize).and_then(Option::as_ref);
        entry.map(|entry| entry.items.len()).unwrap_or_default()
    }

    /// The selectors that match an item, ascending; none for an item that does not exist.
    pub fn selectors_of(&self, item: ItemId) -> impl Iterator<Item = SelectorId> + '_ {
        let item = self.items.get(item as usize).and_then(Option::as_ref);
        item.into_iter().flat_map(|item| item.matched.iter())
    }

    /// An item's effective value of a label; `None` when neither it nor a parent has the label.
    pub fn effective_label(&self, item: ItemId, name: &str) -> Option<&str> {
        let label = self.words.names().lookup(name)?;
        self.effective_pair(item, label).map(|pair| self.words.value(pair))
    }

    /// A parent's labels, by (name, value); none for a parent that does not exist.
    pub fn labels_of_parent(&self, parent: ParentId) -> impl Iterator<Item = (&str, &str)> {
        let text = |bound: &Bound| (self.words.names().text(bound.label), self.words.value(bound.pair));
        self.parent_labels(parent).iter().map(text)
    }

    fn effective_pair(&self, item: ItemId, label: LabelId) -> Option<PairId> {
        let item = self.items.get(item as usize)?.as_ref()?;
        let inherited = || item.parents.iter().find_map(|parent| pair_of(self.parent_labels(*parent), label));
        pair_of(&item.own, label).or_else(inherited)
    }

    fn parent_labels(&self, id: ParentId) -> &[Bound] {
        self.parents.get(id as usize).map(|parent| &*parent.labels).unwrap_or_default()
    }

    /// Items that satisfy a program, of those that a clause finds (`None`: of all).
    fn select(&self, program: &Program, clause: Option<&Vec<Fact>>) -> RoaringBitmap {
        let mut candidates = RoaringBitmap::new();
        match clause {
            Some(facts) => facts.iter().for_each(|fact| self.words.items(*fact).add_to(&mut candidates)),
            None => self.present.add_to(&mut candidates),
        }
        if candidates.is_empty() {
            return candidates;
        }
        program.select(candidates, &self.words, |item, label| self.effective_pair(item, label))
    }

    /// Notes in the item and for the caller that a selector's match started or stopped.
    fn record(&mut self, selector: SelectorId, item: ItemId, started: bool, out: &mut Vec<MatchEvent>) {
        if let Some(found) = &mut self.items[item as usize] {
            if started {
                found.matched.insert(selector);
            } else {
                found.matched.remove(selector);
            }
        }
        out.push(MatchEvent { selector, item, started });
    }

    fn unregister(&mut self, id: SelectorId, entry: &Entry) {
        entry.program.remove_mentions(id, &mut self.words);
        match &entry.key {
            Some(facts) => facts.iter().for_each(|fact| self.words.remove_key(*fact, id)),
            None => {
                self.always.remove(id);
            }
        }
    }

    fn move_to_parents(&mut self, item: ItemId, from: &[ParentId], to: &[ParentId]) {
        for parent in from.iter().filter(|parent| !to.contains(parent)) {
            self.parents[*parent as usize].items.remove(item);
        }
        for parent in to {
            slot_mut(&mut self.parents, *parent).items.insert(item);
        }
    }

    /// Brings postings and matches of an item from its effective labels `before` to those `after`.
    fn reconcile(&mut self, id: ItemId, is_new: bool, scratch: &mut Scratch, out: &mut Vec<MatchEvent>) {
        let Scratch { own: _, before, after, changed, candidates } = scratch;
        changed.clear();
        for_each_difference(before, after, |label, old, new| {
            changed.push(label);
            if let Some(pair) = old {
                self.words.remove_item(Fact::Pair(pair), id);
            }
            match new {
                Some(pair) => self.words.add_item(Fact::Pair(pair), id),
                None => self.words.remove_item(Fact::Label(label), id),
            }
            if old.is_none() {
                self.words.add_item(Fact::Label(label), id);
            }
        });
        if changed.is_empty() && !is_new {
            return;
        }
        let Some(item) = &mut self.items[id as usize] else {
            return;
        };
        let mut matched = std::mem::take(&mut item.matched);
        self.candidates(&matched, is_new, changed, after, candidates);
        for selector in candidates.iter().copied() {
            let Some(entry) = &mut self.selectors[selector as usize] else {
                continue;
            };
            let started = entry.program.matches(after, &self.words);
            let differs = if started { matched.insert(selector) } else { matched.remove(selector) };
            if differs {
                if started {
                    entry.items.insert(id);
                } else {
                    entry.items.remove(id);
                }
                out.push(MatchEvent { selector, item: id, started });
            }
        }
        if let Some(item) = &mut self.items[id as usize] {
            item.matched = matched;
        }
    }

    /// The selectors whose answer for an item may have changed: those that mention a changed label, or those that
    /// match and those that a present label finds, whichever are fewer. Some may come twice.
    fn candidates(
        &self,
        matched: &IdSet,
        is_new: bool,
        changed: &[LabelId],
        after: &[Bound],
        candidates: &mut Vec<SelectorId>,
    ) {
        candidates.clear();
        let mentioned = || changed.iter().map(|label| self.words.mentions(*label));
        let keyed = || {
            after
                .iter()
                .flat_map(|bound| [Fact::Pair(bound.pair), Fact::Label(bound.label)])
                .map(|fact| self.words.keyed(fact))
                .chain([&self.always])
        };
        // A new item may start matches that depend on no label of it, which mentions would not find.
        if !is_new {
            let by_mention: usize = mentioned().map(IdSet::len).sum();
            if by_mention == 0 {
                return;
            }
            if by_mention <= matched.len() + keyed().map(IdSet::len).sum::<usize>() {
                candidates.extend(mentioned().flat_map(IdSet::iter));
                return;
            }
        }
        candidates.extend(matched.iter());
        candidates.extend(keyed().flat_map(IdSet::iter).filter(|selector| !matched.contains(*selector)));
    }
}

/// The slot of a number, made if need be.
fn slot_mut<T: Default>(slots: &mut Vec<T>, id: u32) -> &mut T {
    let at = id as usize;
    if at >= slots.len() {
        slots.resize_with(at + 1, T::default);
    }
    &mut slots[at]
}

/// Acquires labels into `bounds`, sorted by label, each name once.
fn acquire_sorted<'a>(
    labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    words: &mut Vocabulary,
    bounds: &mut Vec<Bound>,
) {
    bounds.clear();
    bounds.extend(labels.into_iter().map(|(name, value)| words.acquire_pair(name, value)));
    // Stable: of equal names the last given stands last.
    bounds.sort_by_key(|bound| bound.label);
    bounds.dedup_by(|later, kept| {
        let same = later.label == kept.label;
        if same {
            words.release_pair(std::mem::replace(kept, *later).pair);
        }
        same
    });
}

fn release_all(bounds: &[Bound], words: &mut Vocabulary) {
    bounds.iter().for_each(|bound| words.release_pair(bound.pair));
}

/// Writes effective labels, sorted by label: own ones, then those of parents in order as far as they are new.
fn effective<'a>(
    own: &[Bound],
    parents: &[ParentId],
    labels_of: impl Fn(ParentId) -> &'a [Bound],
    out: &mut Vec<Bound>,
) {
    out.clear();
    out.extend_from_slice(own);
    for parent in parents {
        out.extend_from_slice(labels_of(*parent));
    }
    if out.len() > own.len() {
        // Stable, so that the first of equal labels is the one that counts.
        out.sort_by_key(|bound| bound.label);
        out.dedup_by_key(|bound| bound.label);
    }
}

/// Calls back for each label whose pair differs, with the old and the new pair. Both lists are sorted by label.
fn for_each_difference(
    before: &[Bound],
    after: &[Bound],
    mut difference: impl FnMut(LabelId, Option<PairId>, Option<PairId>),
) {
    let (mut old, mut new) = (before.iter().peekable(), after.iter().peekable());
    loop {
        let label = match (old.peek(), new.peek()) {
            (Some(left), Some(right)) => left.label.min(right.label),
            (Some(only), None) | (None, Some(only)) => only.label,
            (None, None) => return,
        };
        let left = old.next_if(|bound| bound.label == label).map(|bound| bound.pair);
        let right = new.next_if(|bound| bound.label == label).map(|bound| bound.pair);
        if left != right {
            difference(label, left, right);
        }
    }
}

#[cfg(test)]
mod tests;
