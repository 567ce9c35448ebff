//! What a selector asks of a set of labels: the value of a name, if there is one.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, Hash};

/// A set of labels that a selector can be evaluated against. Inherited labels, if any, are the implementor's affair:
/// a selector sees effective labels (spec 2 §4.4).
pub trait Labels {
    /// The value of the label `name`; `None` when the label is absent, which differs from an empty value.
    fn label(&self, name: &str) -> Option<&str>;
}

impl<L: Labels + ?Sized> Labels for &L {
    fn label(&self, name: &str) -> Option<&str> {
        (**self).label(name)
    }
}

impl<K: Borrow<str> + Ord, V: AsRef<str>> Labels for BTreeMap<K, V> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(AsRef::as_ref)
    }
}

impl<K: Borrow<str> + Hash + Eq, V: AsRef<str>, S: BuildHasher> Labels for HashMap<K, V, S> {
    fn label(&self, name: &str) -> Option<&str> {
        self.get(name).map(AsRef::as_ref)
    }
}

/// A list of (name, value); the first entry of a name counts.
impl<K: AsRef<str>, V: AsRef<str>> Labels for [(K, V)] {
    fn label(&self, name: &str) -> Option<&str> {
        self.iter().find(|(key, _)| key.as_ref() == name).map(|(_, value)| value.as_ref())
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> Labels for [(K, V); N] {
    fn label(&self, name: &str) -> Option<&str> {
        self.as_slice().label(name)
    }
}
