//! The disjoint union of prefixes, kept up step by step: what an interval set of the kernel can hold.
//!
//! The kernel refuses intervals that overlap or nest, while IP sets have both. Every prefix that is in is remembered,
//! so that removing an outer one shows the inner ones again.
//!
//! Prefixes nest or are disjoint, never half in each other. So a change touches the one interval that contains the
//! prefix, its neighbours, and, on removal, the prefixes inside it: nothing else is looked at.

use std::collections::BTreeMap;

use calico_net::{Cidr, Family};
use calico_rules::interval::{Range, address_key, number};
use calico_rules::nft::Element;

/// What a step changes in the kernel's set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalDelta {
    /// Intervals that go, in order.
    pub removed: Vec<Range>,
    /// Intervals that come, in order.
    pub added: Vec<Range>,
}

/// The union of the prefixes of one family.
#[derive(Clone, Debug)]
pub struct IntervalUnion {
    family: Family,
    /// How often each prefix is in.
    prefixes: BTreeMap<Cidr, u32>,
    /// The union: first → last, disjoint, never adjacent.
    intervals: BTreeMap<u128, u128>,
}

impl IntervalUnion {
    /// An empty union.
    pub fn new(family: Family) -> IntervalUnion {
        IntervalUnion { family, prefixes: BTreeMap::new(), intervals: BTreeMap::new() }
    }

    /// No prefix is in.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// The intervals, in order.
    pub fn intervals(&self) -> impl Iterator<Item = Range> + '_ {
        self.intervals.iter().map(|(first, last)| (*first, *last))
    }

    /// An interval as an element of the kernel's set.
    pub fn element(&self, (first, last): Range) -> Element {
        Element::Interval { first: address_key(first, self.family), last: address_key(last, self.family) }
    }

    /// Adds a prefix, once more if it is in. One of another family changes nothing.
    pub fn insert(&mut self, prefix: Cidr) -> IntervalDelta {
        if prefix.family() != self.family {
            return IntervalDelta::default();
        }
        let count = self.prefixes.entry(prefix).or_default();
        *count += 1;
        if *count > 1 {
            return IntervalDelta::default();
        }
        let (mut first, mut last) = range(&prefix);
        if self.containing(first).is_some_and(|(_, end)| end >= last) {
            return IntervalDelta::default();
        }
        // Everything that overlaps or touches becomes one.
        let mut removed = Vec::new();
        if let Some((start, end)) = self.intervals.range(..first).next_back().map(|(s, e)| (*s, *e))
            && end >= first.saturating_sub(1)
        {
            removed.push((start, end));
            first = start;
        }
        let reach = last.saturating_add(1);
        removed.extend(self.intervals.range(range(&prefix).0..=reach).map(|(s, e)| (*s, *e)));
        for (start, end) in &removed {
            self.intervals.remove(start);
            last = last.max(*end);
        }
        self.intervals.insert(first, last);
        IntervalDelta { removed, added: vec![(first, last)] }
    }

    /// Takes a prefix out, once. One that is not in changes nothing.
    pub fn remove(&mut self, prefix: &Cidr) -> IntervalDelta {
        let Some(count) = self.prefixes.get_mut(prefix) else {
            return IntervalDelta::default();
        };
        *count -= 1;
        if *count > 0 {
            return IntervalDelta::default();
        }
        self.prefixes.remove(prefix);
        if self.is_covered(prefix) {
            return IntervalDelta::default();
        }
        let (first, last) = range(prefix);
        let Some((start, end)) = self.containing(first) else {
            return IntervalDelta::default();
        };
        // What lies left and right of the prefix stays; inside, the outermost of the inner prefixes show again.
        let mut pieces = Vec::new();
        if start < first {
            pieces.push((start, first - 1));
        }
        pieces.extend(self.outermost_inside(prefix));
        if end > last {
            pieces.push((last + 1, end));
        }
        let added = calico_rules::interval::union(pieces);
        if added == [(start, end)] {
            return IntervalDelta::default();
        }
        self.intervals.remove(&start);
        self.intervals.extend(added.iter().copied());
        IntervalDelta { removed: vec![(start, end)], added }
    }

    /// The interval that an address lies in.
    fn containing(&self, address: u128) -> Option<Range> {
        let (start, end) = self.intervals.range(..=address).next_back()?;
        (*end >= address).then_some((*start, *end))
    }

    /// Whether another prefix contains this one.
    fn is_covered(&self, prefix: &Cidr) -> bool {
        (0..prefix.prefix_len())
            .filter_map(|len| Cidr::new(prefix.addr(), len).ok())
            .any(|outer| self.prefixes.contains_key(&outer))
    }

    /// The outermost of the prefixes strictly inside one that is not in. They sort right behind it: by address, then
    /// by length, so that an outer prefix comes before those inside it.
    fn outermost_inside(&self, prefix: &Cidr) -> Vec<Range> {
        let last = range(prefix).1;
        let mut found: Vec<Range> = Vec::new();
        for (start, end) in
            self.prefixes.range(prefix..).map(|(c, _)| range(c)).take_while(|(s, _)| *s <= last)
        {
            if found.last().is_none_or(|(_, covered)| start > *covered) {
                found.push((start, end));
            }
        }
        found
    }
}

fn range(prefix: &Cidr) -> Range {
    (number(prefix.addr()), number(prefix.last()))
}

#[cfg(test)]
mod tests;
