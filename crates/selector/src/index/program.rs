//! Selectors compiled to decision programs over interned labels.
//!
//! A program is a row of steps. Each tests one label and names where to go on either answer: to another step, or to
//! the verdict. "And", "or" and "not" are in the arrows alone, so evaluation is a short loop without recursion, and
//! the same arrows carry whole bitmaps of items when a selector is new:
//!
//! ```text
//!   a == "x" && !has(b)        step 1: a is "x"? ──yes──▶ step 0: has b? ──no──▶ match
//!                                       └──no──▶ miss          └──yes──▶ miss
//! ```

use roaring::RoaringBitmap;
use smol_str::SmolStr;

use super::vocabulary::{Bound, Fact, LabelId, PairId, Vocabulary, pair_of};
use super::{ItemId, SelectorId};
use crate::expr::{Expr, Test};

/// A compiled selector. It is a user of the labels and pairs that it names, until [`Program::release`].
#[derive(Debug)]
pub(super) struct Program {
    /// Arrows point to lower positions only, so that one pass downwards visits every step after its predecessors.
    steps: Box<[Step]>,
    entry: Target,
}

#[derive(Debug)]
struct Step {
    label: LabelId,
    check: Check,
    yes: Target,
    no: Target,
}

/// Where an arrow leads.
#[derive(Clone, Copy, Debug)]
enum Target {
    Step(u32),
    Match,
    Miss,
}

/// What a step asks of its label. An absent label always answers no.
#[derive(Debug)]
enum Check {
    Present,
    Pair(PairId),
    /// Sorted.
    AnyOf(Box<[PairId]>),
    /// The value's text has to be looked at.
    Text(Test),
}

impl Program {
    /// Compiles an expression, acquiring the words that it names.
    pub(super) fn compile(expr: &Expr, words: &mut Vocabulary) -> Program {
        let mut steps = Vec::new();
        let entry = emit(expr, Target::Match, Target::Miss, words, &mut steps);
        Program { steps: steps.into_boxed_slice(), entry }
    }

    /// Gives back the words that the program names.
    pub(super) fn release(self, words: &mut Vocabulary) {
        for step in self.steps {
            match step.check {
                Check::Present | Check::Text(_) => {}
                Check::Pair(pair) => words.release_pair(pair),
                Check::AnyOf(pairs) => pairs.iter().for_each(|pair| words.release_pair(*pair)),
            }
            words.release_label(step.label);
        }
    }

    /// Registers the selector with every label that its answer depends on.
    pub(super) fn add_mentions(&self, selector: SelectorId, words: &mut Vocabulary) {
        self.steps.iter().for_each(|step| words.add_mention(step.label, selector));
    }

    /// Undoes [`Program::add_mentions`].
    pub(super) fn remove_mentions(&self, selector: SelectorId, words: &mut Vocabulary) {
        self.steps.iter().for_each(|step| words.remove_mention(step.label, selector));
    }

    /// Whether the effective labels, sorted by label, satisfy the selector.
    pub(super) fn matches(&self, labels: &[Bound], words: &Vocabulary) -> bool {
        let mut target = self.entry;
        loop {
            let step = match target {
                Target::Step(at) => &self.steps[at as usize],
                Target::Match => return true,
                Target::Miss => return false,
            };
            let answer = pair_of(labels, step.label).is_some_and(|pair| step.check.holds(pair, words));
            target = if answer { step.yes } else { step.no };
        }
    }

    /// The candidates that satisfy the selector. `pair_of` looks up one item's effective label; it is asked only for
    /// tests of a value's text, all others being bitmap operations.
    pub(super) fn select(
        &self,
        candidates: RoaringBitmap,
        words: &Vocabulary,
        pair_of: impl Fn(ItemId, LabelId) -> Option<PairId>,
    ) -> RoaringBitmap {
        let mut arrived = vec![RoaringBitmap::new(); self.steps.len()];
        let mut matched = RoaringBitmap::new();
        let mut deliver = |target: Target, items: RoaringBitmap, arrived: &mut [RoaringBitmap]| match target {
            Target::Step(at) => arrived[at as usize] |= items,
            Target::Match => matched |= items,
            Target::Miss => {}
        };
        deliver(self.entry, candidates, &mut arrived);
        for (at, step) in self.steps.iter().enumerate().rev() {
            let items = std::mem::take(&mut arrived[at]);
            if items.is_empty() {
                continue;
            }
            let yes = step.select(&items, words, &pair_of);
            if !matches!(step.no, Target::Miss) {
                deliver(step.no, items - &yes, &mut arrived);
            }
            deliver(step.yes, yes, &mut arrived);
        }
        matched
    }
}

impl Step {
    fn select(
        &self,
        items: &RoaringBitmap,
        words: &Vocabulary,
        pair_of: impl Fn(ItemId, LabelId) -> Option<PairId>,
    ) -> RoaringBitmap {
        match &self.check {
            Check::Present => words.items(Fact::Label(self.label)).within(items),
            Check::Pair(pair) => words.items(Fact::Pair(*pair)).within(items),
            Check::AnyOf(pairs) => {
                let mut any = RoaringBitmap::new();
                for pair in pairs {
                    any |= words.items(Fact::Pair(*pair)).within(items);
                }
                any
            }
            Check::Text(test) => words
                .items(Fact::Label(self.label))
                .within(items)
                .iter()
                .filter(|item| {
                    pair_of(*item, self.label).is_some_and(|pair| test.holds(Some(words.value(pair))))
                })
                .collect(),
        }
    }
}

impl Check {
    fn holds(&self, pair: PairId, words: &Vocabulary) -> bool {
        match self {
            Check::Present => true,
            Check::Pair(wanted) => pair == *wanted,
            Check::AnyOf(wanted) => wanted.binary_search(&pair).is_ok(),
            Check::Text(test) => test.holds(Some(words.value(pair))),
        }
    }
}

/// Appends the steps of `expr`, which go on to `yes` or `no`, and says where to enter them. Successors come first,
/// hence operands in reverse. The recursion is as deep as the tree, which the parser bounds.
fn emit(expr: &Expr, yes: Target, no: Target, words: &mut Vocabulary, steps: &mut Vec<Step>) -> Target {
    match expr {
        Expr::All | Expr::Global => yes,
        Expr::Not(operand) => emit(operand, no, yes, words, steps),
        Expr::And(operands) => {
            operands.iter().rev().fold(yes, |next, operand| emit(operand, next, no, words, steps))
        }
        Expr::Or(operands) => {
            operands.iter().rev().fold(no, |next, operand| emit(operand, yes, next, words, steps))
        }
        Expr::Label(name, test) => {
            let label = words.acquire_label(name);
            let (check, yes, no) = match test {
                Test::Present => (Check::Present, yes, no),
                Test::Equal(value) => (Check::Pair(words.acquire_pair(name, value).pair), yes, no),
                Test::NotEqual(value) => (Check::Pair(words.acquire_pair(name, value).pair), no, yes),
                Test::In(values) => (any_of(name, values, words), yes, no),
                Test::NotIn(values) => (any_of(name, values, words), no, yes),
                Test::Contains(_) | Test::StartsWith(_) | Test::EndsWith(_) => {
                    (Check::Text(test.clone()), yes, no)
                }
            };
            steps.push(Step { label, check, yes, no });
            Target::Step(u32::try_from(steps.len() - 1).expect("a selector's text is far shorter than 2^32"))
        }
    }
}

fn any_of(name: &str, values: &[SmolStr], words: &mut Vocabulary) -> Check {
    let mut pairs: Box<[PairId]> = values.iter().map(|value| words.acquire_pair(name, value).pair).collect();
    pairs.sort_unstable();
    Check::AnyOf(pairs)
}
