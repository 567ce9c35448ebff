//! A table of entries by key: what is wanted, what the kernel is known to hold, and which keys may differ.

use std::collections::{BTreeMap, BTreeSet};

/// Wanted and known entries. Asking for the difference costs what changed since it was last settled.
#[derive(Clone, Debug)]
pub struct Tracked<K, V> {
    wanted: BTreeMap<K, V>,
    known: BTreeMap<K, V>,
    dirty: BTreeSet<K>,
}

impl<K, V> Default for Tracked<K, V> {
    fn default() -> Tracked<K, V> {
        Tracked { wanted: BTreeMap::new(), known: BTreeMap::new(), dirty: BTreeSet::new() }
    }
}

/// One key whose wanted and known entries differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// The wanted entry.
    pub wanted: Option<&'a V>,
    /// The kernel's entry.
    pub known: Option<&'a V>,
}

impl<K: Ord + Clone, V: PartialEq> Tracked<K, V> {
    /// Wants an entry, or none. Returns the one that was wanted before.
    pub fn want(&mut self, key: K, entry: Option<V>) -> Option<V> {
        self.dirty.insert(key.clone());
        match entry {
            Some(entry) => self.wanted.insert(key, entry),
            None => self.wanted.remove(&key),
        }
    }

    /// The kernel holds this entry, or none.
    pub fn observe(&mut self, key: K, entry: Option<V>) {
        self.dirty.insert(key.clone());
        match entry {
            Some(entry) => self.known.insert(key, entry),
            None => self.known.remove(&key),
        };
    }

    /// The kernel holds these entries and no others.
    pub fn observe_all(&mut self, entries: impl IntoIterator<Item = (K, V)>) {
        self.known = entries.into_iter().collect();
        self.dirty = self.wanted.keys().chain(self.known.keys()).cloned().collect();
    }

    /// The kernel holds none of the known entries that `gone` picks.
    pub fn forget(&mut self, gone: impl Fn(&V) -> bool) {
        let dirty = &mut self.dirty;
        self.known.retain(|key, entry| {
            let gone = gone(entry);
            if gone {
                dirty.insert(key.clone());
            }
            !gone
        });
    }

    /// The wanted entries.
    pub fn wanted(&self) -> &BTreeMap<K, V> {
        &self.wanted
    }

    /// Whether the kernel is known to hold what is wanted of a key.
    pub fn is_settled(&self, key: &K) -> bool {
        self.wanted.get(key) == self.known.get(key)
    }

    /// The keys whose entries differ.
    pub fn differences(&self) -> impl Iterator<Item = Difference<'_, K, V>> {
        self.dirty
            .iter()
            .map(|key| Difference { key, wanted: self.wanted.get(key), known: self.known.get(key) })
            .filter(|d| d.wanted != d.known)
    }

    /// Whether any key differs.
    pub fn differs(&self) -> bool {
        self.differences().next().is_some()
    }

    /// Forgets keys that do not differ.
    pub fn settle(&mut self) {
        let (wanted, known) = (&self.wanted, &self.known);
        self.dirty.retain(|key| wanted.get(key) != known.get(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_is_looked_at() {
        let mut table: Tracked<u8, char> = Tracked::default();
        table.observe_all([(1, 'a'), (2, 'b'), (9, 'x')]);
        table.want(1, Some('a'));
        table.want(2, Some('c'));
        table.want(3, Some('d'));
        let differences: Vec<_> =
            table.differences().map(|d| (*d.key, d.wanted.copied(), d.known.copied())).collect();
        assert_eq!(differences, [(2, Some('c'), Some('b')), (3, Some('d'), None), (9, None, Some('x'))]);
        table.observe(2, Some('c'));
        table.observe(3, Some('d'));
        table.observe(9, None);
        table.settle();
        assert!(table.dirty.is_empty());
        table.forget(|entry| *entry == 'd');
        assert_eq!(table.differences().count(), 1);
        assert_eq!(table.want(3, None), Some('d'));
        assert_eq!(table.differences().count(), 0);
    }
}
