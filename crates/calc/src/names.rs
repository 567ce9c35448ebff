//! Resources by number: compact keys for what there is very much of.

use std::hash::BuildHasher;

use calico_api::{Kind, ResourceKey};
use hashbrown::{DefaultHashBuilder, HashTable};
use smol_str::SmolStr;

use crate::intern::Interner;
use crate::slab::Slab;

#[derive(Debug)]
struct Name {
    kind: Kind,
    /// Number in `namespaces`.
    namespace: u32,
    name: Box<str>,
}

/// Keys ↔ dense numbers. Each namespace is kept once.
#[derive(Debug, Default)]
pub(crate) struct Names {
    names: Slab<Name>,
    namespaces: Interner<Box<str>>,
    by_key: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Names {
    /// The number of a key, if it has one.
    pub(crate) fn find(&self, key: &ResourceKey) -> Option<u32> {
        let namespace = self.namespaces.find(key.namespace.as_str())?;
        let hash = self.hash(key.kind, namespace, &key.name);
        let same = |id: &u32| {
            let name = &self.names[*id];
            name.namespace == namespace && name.kind == key.kind && *name.name == *key.name
        };
        self.by_key.find(hash, same).copied()
    }

    /// Gives a new key a number. The key must not have one.
    pub(crate) fn insert(&mut self, key: &ResourceKey) -> u32 {
        let namespace = self.namespaces.acquire(key.namespace.as_str());
        let hash = self.hash(key.kind, namespace, &key.name);
        let id = self.names.insert(Name { kind: key.kind, namespace, name: key.name.as_str().into() });
        let Names { names, by_key, hasher, .. } = self;
        by_key.insert_unique(hash, id, |id| {
            let Name { kind, namespace, name } = &names[*id];
            hasher.hash_one((*kind, *namespace, &**name))
        });
        id
    }

    /// Takes a number back.
    pub(crate) fn remove(&mut self, id: u32) {
        let Name { kind, namespace, name } = self.names.remove(id);
        let hash = self.hash(kind, namespace, &name);
        if let Ok(entry) = self.by_key.find_entry(hash, |other| *other == id) {
            entry.remove();
        }
        self.namespaces.release(namespace);
    }

    /// The key of a number in use.
    pub(crate) fn key(&self, id: u32) -> ResourceKey {
        let (kind, namespace, name) = self.parts(id);
        ResourceKey { kind, namespace: SmolStr::new(namespace), name: SmolStr::new(name) }
    }

    /// The key of a number in use, not copied: kind, namespace, name.
    pub(crate) fn parts(&self, id: u32) -> (Kind, &str, &str) {
        let Name { kind, namespace, name } = &self.names[id];
        (*kind, self.namespaces.get(*namespace), name)
    }

    /// How many keys have a number.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    fn hash(&self, kind: Kind, namespace: u32, name: &str) -> u64 {
        self.hasher.hash_one((kind, namespace, name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_as_they_went_in() {
        let key = |kind, namespace, name| ResourceKey {
            kind,
            namespace: SmolStr::new(namespace),
            name: SmolStr::new(name),
        };
        let keys = [
            key(Kind::NetworkPolicy, "a", "x"),
            key(Kind::NetworkPolicy, "b", "x"),
            key(Kind::GlobalNetworkPolicy, "", "x"),
        ];
        let mut names = Names::default();
        let ids = keys.clone().map(|key| names.insert(&key));
        for (key, id) in keys.iter().zip(ids) {
            assert_eq!(names.find(key), Some(id));
            assert_eq!(names.key(id), *key);
        }
        names.remove(ids[1]);
        assert_eq!(names.find(&keys[1]), None);
        assert_eq!(names.find(&keys[0]), Some(ids[0]));
        assert_eq!(names.len(), 2);
    }
}
