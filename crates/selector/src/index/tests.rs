//! The index against a naive matcher over random streams of events.

use std::collections::{BTreeMap, BTreeSet};

use proptest::collection::vec;
use proptest::prelude::*;

use super::{Index, ItemId, MatchEvent, ParentId, SelectorId};
use crate::generated;
use crate::{Selector, parse};

type Map = BTreeMap<String, String>;

/// The index done the plain way: everything against everything, by strings.
#[derive(Default)]
struct Naive {
    items: BTreeMap<ItemId, (Map, Vec<ParentId>)>,
    parents: BTreeMap<ParentId, Map>,
    selectors: BTreeMap<SelectorId, Selector>,
}

impl Naive {
    fn effective(&self, item: ItemId) -> Map {
        let (own, parents) = &self.items[&item];
        let mut labels = own.clone();
        for parent in parents {
            for (name, value) in self.parents.get(parent).into_iter().flatten() {
                labels.entry(name.clone()).or_insert_with(|| value.clone());
            }
        }
        labels
    }

    fn matches(&self) -> BTreeSet<(SelectorId, ItemId)> {
        let mut all = BTreeSet::new();
        for item in self.items.keys() {
            let labels = self.effective(*item);
            let matching = self.selectors.iter().filter(|(_, selector)| selector.matches(&labels));
            all.extend(matching.map(|(selector, _)| (*selector, *item)));
        }
        all
    }
}

#[derive(Clone, Debug)]
enum Step {
    SetItem(ItemId, Map, Vec<ParentId>),
    RemoveItem(ItemId),
    SetParent(ParentId, Map),
    RemoveParent(ParentId),
    AddSelector(SelectorId, Selector),
    RemoveSelector(SelectorId),
    /// The last item set comes again, unchanged.
    Repeat,
}

fn step() -> impl Strategy<Value = Step> {
    let selector =
        generated::expr().prop_map(|expr| parse(&expr.to_string()).expect("canonical text parses"));
    prop_oneof![
        8 => (0_u32..6, generated::labels(), vec(0_u32..4, 0..4))
            .prop_map(|(id, labels, parents)| Step::SetItem(id, labels, parents)),
        2 => (0_u32..6).prop_map(Step::RemoveItem),
        4 => (0_u32..4, generated::labels()).prop_map(|(id, labels)| Step::SetParent(id, labels)),
        1 => (0_u32..4).prop_map(Step::RemoveParent),
        6 => (0_u32..8, selector).prop_map(|(id, selector)| Step::AddSelector(id, selector)),
        2 => (0_u32..8).prop_map(Step::RemoveSelector),
        1 => Just(Step::Repeat),
    ]
}

fn pairs(labels: &Map) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().map(|(name, value)| (name.as_str(), value.as_str()))
}

/// Runs the steps through both, comparing after each: the events are exactly the difference of the naive matches.
fn check(steps: &[Step]) {
    let (mut index, mut naive) = (Index::new(), Naive::default());
    let mut before = BTreeSet::new();
    let mut last_item = None;
    for (at, step) in steps.iter().enumerate() {
        let mut out = Vec::new();
        match step {
            Step::SetItem(id, labels, parents) => {
                index.set_item(*id, pairs(labels), parents, &mut out);
                naive.items.insert(*id, (labels.clone(), parents.clone()));
                last_item = Some(*id);
            }
            Step::RemoveItem(id) => {
                index.remove_item(*id, &mut out);
                naive.items.remove(id);
            }
            Step::SetParent(id, labels) => {
                index.set_parent(*id, pairs(labels), &mut out);
                naive.parents.insert(*id, labels.clone());
            }
            Step::RemoveParent(id) => {
                index.remove_parent(*id, &mut out);
                naive.parents.remove(id);
            }
            Step::AddSelector(id, selector) => {
                index.add_selector(*id, selector, &mut out);
                naive.selectors.insert(*id, selector.clone());
            }
            Step::RemoveSelector(id) => {
                index.remove_selector(*id, &mut out);
                naive.selectors.remove(id);
            }
            Step::Repeat => {
                if let Some((id, (labels, parents))) = last_item.and_then(|id| naive.items.get_key_value(&id))
                {
                    index.set_item(*id, pairs(labels), parents, &mut out);
                    assert_eq!(out, [], "step {at}: nothing changed");
                }
            }
        }
        let after = naive.matches();
        let event = |(selector, item): &(SelectorId, ItemId), started| MatchEvent {
            selector: *selector,
            item: *item,
            started,
        };
        let mut expected: Vec<MatchEvent> =
            before.difference(&after).map(|pair| event(pair, false)).collect();
        expected.extend(after.difference(&before).map(|pair| event(pair, true)));
        expected.sort_unstable();
        out.sort_unstable();
        assert_eq!(out, expected, "events of step {at}: {step:?}");
        check_queries(&index, &naive, &after);
        before = after;
    }
    check_everything_is_given_back(index, &naive);
}

fn check_queries(index: &Index, naive: &Naive, matches: &BTreeSet<(SelectorId, ItemId)>) {
    for selector in 0..8 {
        let items = matches.iter().filter(|pair| pair.0 == selector).map(|pair| pair.1);
        assert!(index.matches(selector).eq(items.clone()), "items of selector {selector}");
        assert_eq!(index.match_count(selector), items.count());
    }
    for item in 0..6 {
        let selectors = matches.iter().filter(|pair| pair.1 == item).map(|pair| pair.0);
        assert!(index.selectors_of(item).eq(selectors), "selectors of item {item}");
        let labels = if naive.items.contains_key(&item) { naive.effective(item) } else { Map::new() };
        for name in ["a", "b", "c", "in"] {
            assert_eq!(index.effective_label(item, name), labels.get(name).map(String::as_str));
        }
    }
}

/// With all items, parents and selectors gone no word is left in use: nothing leaks under churn.
fn check_everything_is_given_back(mut index: Index, naive: &Naive) {
    let mut out = Vec::new();
    naive.parents.keys().for_each(|id| index.remove_parent(*id, &mut out));
    naive.selectors.keys().for_each(|id| index.remove_selector(*id, &mut out));
    naive.items.keys().for_each(|id| index.remove_item(*id, &mut out));
    assert!(index.interner().is_empty(), "label names are left: {:?}", index.interner());
    assert!(index.words.is_unused(), "pairs are left: {:?}", index.words);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn equals_the_naive_index(steps in vec(step(), 0..60)) {
        check(&steps);
    }
}

fn map(labels: &[(&str, &str)]) -> Map {
    labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn selector(text: &str) -> Selector {
    parse(text).expect(text)
}

/// Enough items that postings are bitmaps and selectors work by bitmap operations.
#[test]
fn many_items() {
    let texts = [
        "has(a)",
        "a == 'x' && b != 'y'",
        "a in {'x', 'y'} || !has(b)",
        "b starts with 'y'",
        "!(a == 'x')",
        "all()",
    ];
    let mut index = Index::new();
    let mut naive = Naive::default();
    let mut out = Vec::new();
    for id in 0..200_u32 {
        let values = ["x", "y", "yx"];
        let mut labels = Map::new();
        if id % 2 == 0 {
            labels.insert("a".to_owned(), values[id as usize / 2 % 3].to_owned());
        }
        if id % 5 < 3 {
            labels.insert("b".to_owned(), values[id as usize / 5 % 3].to_owned());
        }
        index.set_item(id, pairs(&labels), &[id % 4], &mut out);
        naive.items.insert(id, (labels, vec![id % 4]));
    }
    index.set_parent(1, [("a", "x")], &mut out);
    naive.parents.insert(1, map(&[("a", "x")]));
    for (id, text) in (0..).zip(texts) {
        index.add_selector(id, &selector(text), &mut out);
        naive.selectors.insert(id, selector(text));
    }
    let compare = |index: &Index, naive: &Naive| {
        let found: BTreeSet<_> =
            (0..texts.len() as u32).flat_map(|id| index.matches(id).map(move |item| (id, item))).collect();
        assert_eq!(found, naive.matches());
    };
    compare(&index, &naive);
    index.set_parent(1, [("b", "y")], &mut out);
    naive.parents.insert(1, map(&[("b", "y")]));
    compare(&index, &naive);
    index.set_parent(3, [("a", "y"), ("b", "x")], &mut out);
    naive.parents.insert(3, map(&[("a", "y"), ("b", "x")]));
    compare(&index, &naive);
    for id in (0..200).filter(|id| id % 3 == 0) {
        index.remove_item(id, &mut out);
        naive.items.remove(&id);
    }
    compare(&index, &naive);
}

#[test]
fn the_first_parent_with_the_label_counts() {
    let mut index = Index::new();
    let mut out = Vec::new();
    index.set_item(0, [("own", "item")], &[7, 3], &mut out);
    index.set_parent(3, [("own", "3"), ("shared", "3"), ("third", "3")], &mut out);
    index.set_parent(7, [("own", "7"), ("shared", "7")], &mut out);
    for (name, value) in [("own", Some("item")), ("shared", Some("7")), ("third", Some("3")), ("none", None)]
    {
        assert_eq!(index.effective_label(0, name), value, "{name}");
    }
    let labels: BTreeMap<&str, &str> = index.labels_of_parent(7).collect();
    assert_eq!(labels, BTreeMap::from([("own", "7"), ("shared", "7")]));
    index.remove_parent(7, &mut out);
    assert_eq!(index.labels_of_parent(7).count() + index.labels_of_parent(100).count(), 0);
    assert_eq!(index.effective_label(0, "shared"), Some("3"));
    assert_eq!(out, []);
}

#[test]
fn of_equal_names_the_last_counts() {
    let mut index = Index::new();
    let mut out = Vec::new();
    index.set_item(0, [("a", "1"), ("b", "2"), ("a", "3")], &[], &mut out);
    assert_eq!(index.effective_label(0, "a"), Some("3"));
    index.remove_item(0, &mut out);
    assert!(index.words.is_unused());
}

#[test]
fn the_callers_strings_share_the_interner() {
    let mut index = Index::new();
    let mut out = Vec::new();
    let mine = index.interner_mut().intern("a");
    index.set_item(0, [("a", "1")], &[], &mut out);
    index.remove_item(0, &mut out);
    assert_eq!(index.interner().text(mine), "a");
    index.set_item(0, [("a", "1")], &[], &mut out);
    assert!(!index.interner_mut().release(mine), "the item still uses it");
    index.add_selector(0, &selector("a == '1'"), &mut out);
    assert_eq!(out, [MatchEvent { selector: 0, item: 0, started: true }]);
}

/// What the index is for: of thousands of selectors that start alike, a change asks only those that it can affect.
#[test]
fn a_change_asks_few_selectors() {
    let mut index = Index::new();
    let mut out = Vec::new();
    for id in 0..1_000 {
        index.add_selector(id, &selector(&format!("alpha == 'beta' && has(set-{id})")), &mut out);
    }
    let asked = |index: &mut Index, labels: &[(&str, &str)]| {
        // The buffer still holds the previous change's candidates when nothing is to be asked.
        index.scratch.candidates.clear();
        let mut out = Vec::new();
        index.set_item(0, labels.iter().copied(), &[], &mut out);
        (index.scratch.candidates.len(), out.len())
    };
    assert!(asked(&mut index, &[("alpha", "beta"), ("set-1", "true")]).0 <= 2);
    assert_eq!(index.selectors_of(0).collect::<Vec<_>>(), [1]);
    assert_eq!(asked(&mut index, &[("alpha", "beta"), ("set-1", "true"), ("other", "x")]), (0, 0));
    assert_eq!(asked(&mut index, &[("alpha", "beta"), ("set-1", "false")]).1, 0);
    assert!(asked(&mut index, &[("alpha", "gamma"), ("set-1", "true")]).0 <= 2);
    assert_eq!(index.match_count(1), 0);
    // Here all share the only key; the label that changes decides.
    let mut index = Index::new();
    for id in 0..1_000 {
        index.add_selector(id, &selector(&format!("alpha == 'beta' && tier-{id} != 'x'")), &mut out);
    }
    assert_eq!(asked(&mut index, &[("alpha", "beta")]), (1_000, 1_000));
    assert_eq!(asked(&mut index, &[("alpha", "beta"), ("tier-7", "x")]), (1, 1));
    assert_eq!(asked(&mut index, &[("alpha", "beta"), ("tier-7", "x"), ("other", "x")]), (0, 0));
}
