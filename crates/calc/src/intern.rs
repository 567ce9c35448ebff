//! Values by number: equal values are kept once, counted, and forgotten with their last user.
//!
//! The calculation names strings, port lists, profile lists and rule lists by these `u32`s, so that a quarter of a
//! million endpoints cost what is different between them and no more.

use std::borrow::Borrow;
use std::hash::{BuildHasher, Hash};

use hashbrown::{DefaultHashBuilder, HashTable};

use crate::slab::Slab;

#[derive(Debug)]
struct Entry<T> {
    value: T,
    users: u32,
}

/// A table of distinct values with use counts. Numbers of forgotten values are given out again.
#[derive(Debug)]
pub(crate) struct Interner<T> {
    entries: Slab<Entry<T>>,
    by_value: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<T> Default for Interner<T> {
    fn default() -> Self {
        Interner {
            entries: Slab::default(),
            by_value: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
        }
    }
}

impl<T: Hash + Eq> Interner<T> {
    /// The number of a value, one use of it more.
    pub(crate) fn acquire<Q>(&mut self, value: &Q) -> u32
    where
        T: Borrow<Q> + for<'a> From<&'a Q>,
        Q: Hash + Eq + ?Sized,
    {
        match self.find(value) {
            Some(id) => {
                self.retain(id);
                id
            }
            None => self.insert(T::from(value)),
        }
    }

    /// The number of a value that the caller has already made, one use of it more.
    pub(crate) fn acquire_owned(&mut self, value: T) -> u32 {
        match self.find(&value) {
            Some(id) => {
                self.retain(id);
                id
            }
            None => self.insert(value),
        }
    }

    /// The number of a value, if it is in use.
    pub(crate) fn find<Q>(&self, value: &Q) -> Option<u32>
    where
        T: Borrow<Q>,
        Q: Hash + Eq + ?Sized,
    {
        let hash = self.hasher.hash_one(value);
        self.by_value.find(hash, |id| self.entries[*id].value.borrow() == value).copied()
    }

    fn insert(&mut self, value: T) -> u32 {
        let hash = self.hasher.hash_one(&value);
        let id = self.entries.insert(Entry { value, users: 1 });
        let Interner { entries, by_value, hasher } = self;
        by_value.insert_unique(hash, id, |id| hasher.hash_one(&entries[*id].value));
        id
    }

    /// One use more of a number in use.
    pub(crate) fn retain(&mut self, id: u32) {
        self.entries[id].users += 1;
    }

    /// One use less. With the last use the value is forgotten and handed back.
    pub(crate) fn release(&mut self, id: u32) -> Option<T> {
        let entry = &mut self.entries[id];
        entry.users -= 1;
        if entry.users > 0 {
            return None;
        }
        let hash = self.hasher.hash_one(&entry.value);
        if let Ok(found) = self.by_value.find_entry(hash, |other| *other == id) {
            found.remove();
        }
        Some(self.entries.remove(id).value)
    }

    /// The value of a number in use.
    pub(crate) fn get(&self, id: u32) -> &T {
        &self.entries[id].value
    }

    /// How many values are in use.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.by_value.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_share_a_number_until_the_last_use() {
        let mut texts: Interner<Box<str>> = Interner::default();
        let a = texts.acquire("a");
        let b = texts.acquire("b");
        assert_ne!(a, b);
        assert_eq!(texts.acquire("a"), a);
        assert_eq!(&**texts.get(b), "b");
        assert_eq!(texts.release(a), None);
        assert_eq!(texts.release(a).as_deref(), Some("a"));
        assert_eq!(texts.find("a"), None);
        assert_eq!(texts.acquire("c"), a, "the number is free again");
        assert_eq!(texts.len(), 2);
    }
}
