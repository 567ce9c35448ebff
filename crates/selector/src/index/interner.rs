//! Strings as numbers: each distinct string is kept once, for as long as somebody uses it.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smol_str::SmolStr;

/// Distinct strings, numbered densely. Numbers of strings that nobody uses any more are given out again, so that
/// unique label values of pods long gone cost nothing.
#[derive(Debug, Default)]
pub struct Interner {
    entries: Vec<Entry>,
    by_text: HashTable<u32>,
    free: Vec<u32>,
    /// Seeded for each interner: users choose the strings, and must not be able to choose collisions.
    hasher: DefaultHashBuilder,
}

#[derive(Debug)]
struct Entry {
    text: SmolStr,
    users: u32,
}

impl Interner {
    /// An interner without strings.
    pub fn new() -> Interner {
        Interner::default()
    }

    /// The number of `text`, for one more user: to be given back by [`Interner::release`].
    pub fn intern(&mut self, text: &str) -> u32 {
        if let Some(id) = self.lookup(text) {
            self.entries[id as usize].users += 1;
            return id;
        }
        let entry = Entry { text: text.into(), users: 1 };
        let id = match self.free.pop() {
            Some(id) => {
                self.entries[id as usize] = entry;
                id
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).expect("fewer than 2^32 strings fit in memory")
            }
        };
        let (entries, hasher) = (&self.entries, &self.hasher);
        let hash = |text: &str| hasher.hash_one(text);
        self.by_text.insert_unique(hash(text), id, |id| hash(&entries[*id as usize].text));
        id
    }

    /// The number of `text`, if somebody uses it.
    pub fn lookup(&self, text: &str) -> Option<u32> {
        self.by_text.find(self.hasher.hash_one(text), |id| self.entries[*id as usize].text == text).copied()
    }

    /// The string of a number in use.
    pub fn text(&self, id: u32) -> &str {
        &self.entries[id as usize].text
    }

    /// One user less; whether it was the last, which frees the number.
    pub fn release(&mut self, id: u32) -> bool {
        let entry = &mut self.entries[id as usize];
        entry.users -= 1;
        if entry.users > 0 {
            return false;
        }
        let text = std::mem::take(&mut entry.text);
        let hash = self.hasher.hash_one(text.as_str());
        if let Ok(found) = self.by_text.find_entry(hash, |candidate| *candidate == id) {
            found.remove();
        }
        self.free.push(id);
        true
    }

    /// How many distinct strings are in use.
    pub fn len(&self) -> usize {
        self.by_text.len()
    }

    /// Whether no string is in use.
    pub fn is_empty(&self) -> bool {
        self.by_text.is_empty()
    }
}

#[cfg(test)]
mod tests;
