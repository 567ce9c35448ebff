//! The event adversary: turns a sequence of target states into any legal watch stream between them.
//!
//! A watch promises only this: once it has caught up with a state, each key's last event says what that state holds.
//! On the way there keys may come in any order, several versions of a key may melt into one, a version may come
//! twice, an older version may come back for a while (a re-list against a lagging replica), and a delete may be
//! reported for what was never there or is about to come back.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

/// How a key's value looks to a watcher: `None` is a delete.
pub type Event<K, V> = (K, Option<V>);

/// One moment of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<K, V> {
    /// A key has (or has lost) a value.
    Event(K, Option<V>),
    /// The watcher may act on what it has seen so far, which need not be any target state.
    Pause,
    /// The watcher has now seen exactly the target state of this number.
    CaughtUp(usize),
}

/// How often the adversary does what, in percent of its chances.
#[derive(Clone, Copy, Debug)]
pub struct Temper {
    /// Skip a target state wholly, so that its changes melt into the next one's.
    pub coalesce: u32,
    /// Say an event twice.
    pub duplicate: u32,
    /// Say an older value of a key before the right one.
    pub revert: u32,
    /// Say that a key is gone before (or without) giving its value.
    pub spurious_delete: u32,
    /// Let the watcher act in the middle.
    pub pause: u32,
}

impl Default for Temper {
    /// Lively: most streams show each trick a few times.
    fn default() -> Temper {
        Temper { coalesce: 25, duplicate: 10, revert: 10, spurious_delete: 8, pause: 10 }
    }
}

/// Makes streams; equal seeds make equal streams.
#[derive(Debug)]
pub struct EventAdversary {
    rng: SmallRng,
    temper: Temper,
}

impl EventAdversary {
    /// An adversary of a seed.
    pub fn new(seed: u64, temper: Temper) -> EventAdversary {
        EventAdversary { rng: SmallRng::seed_from_u64(seed), temper }
    }

    /// A legal stream that starts from nothing and has caught up with the last target at its end. Targets in between
    /// may be passed over; each one that is not is marked by [`Step::CaughtUp`].
    pub fn stream<K, V>(&mut self, targets: &[BTreeMap<K, V>]) -> Vec<Step<K, V>>
    where
        K: Ord + Clone,
        V: Clone + PartialEq,
    {
        let mut steps = Vec::new();
        let mut seen: BTreeMap<K, V> = BTreeMap::new();
        let mut past: BTreeMap<K, Vec<V>> = BTreeMap::new();
        for (number, target) in targets.iter().enumerate() {
            for (key, value) in target {
                let versions = past.entry(key.clone()).or_default();
                if versions.last() != Some(value) {
                    versions.push(value.clone());
                }
            }
            let last = number + 1 == targets.len();
            if !last && self.chance(self.temper.coalesce) {
                continue;
            }
            self.approach(&mut steps, &seen, target, &past);
            seen.clone_from(target);
            steps.push(Step::CaughtUp(number));
        }
        steps
    }

    /// Events from `seen` to `target`: for each key its detours and then its value, keys interleaved at random.
    fn approach<K, V>(
        &mut self,
        steps: &mut Vec<Step<K, V>>,
        seen: &BTreeMap<K, V>,
        target: &BTreeMap<K, V>,
        past: &BTreeMap<K, Vec<V>>,
    ) where
        K: Ord + Clone,
        V: Clone + PartialEq,
    {
        let keys: BTreeSet<&K> = past.keys().chain(seen.keys()).collect();
        let mut queues: Vec<(K, Vec<Option<V>>)> = Vec::new();
        for key in keys {
            let events = self.events_of(seen.get(key), target.get(key), &past[key]);
            if !events.is_empty() {
                queues.push((key.clone(), events));
            }
        }
        // A shuffled deck of keys: each key's own events stay in order, everything else is chance.
        let mut deck: Vec<usize> = Vec::new();
        for (index, (_, events)) in queues.iter().enumerate() {
            deck.extend(std::iter::repeat_n(index, events.len()));
        }
        deck.shuffle(&mut self.rng);
        for (_, events) in &mut queues {
            events.reverse();
        }
        for index in deck {
            let (key, events) = &mut queues[index];
            if let Some(event) = events.pop() {
                steps.push(Step::Event(key.clone(), event));
            }
            if self.chance(self.temper.pause) {
                steps.push(Step::Pause);
            }
        }
    }

    /// What the watcher hears of one key; the last event is the truth.
    fn events_of<V: Clone + PartialEq>(
        &mut self,
        seen: Option<&V>,
        target: Option<&V>,
        past: &[V],
    ) -> Vec<Option<V>> {
        let mut events = Vec::new();
        if self.chance(self.temper.revert) {
            events.push(Some(past[self.rng.random_range(0..past.len())].clone()));
        }
        if self.chance(self.temper.spurious_delete) {
            events.push(None);
        }
        if seen != target || !events.is_empty() {
            events.push(target.cloned());
        }
        if self.chance(self.temper.duplicate) {
            events.push(target.cloned());
        }
        events
    }

    fn chance(&mut self, percent: u32) -> bool {
        self.rng.random_range(0..100) < percent
    }
}

#[cfg(test)]
mod tests;
