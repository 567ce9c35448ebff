//! Profiles: which exist, and which a local endpoint uses.

use rustc_hash::FxHashMap;

/// Profiles by number (see [`crate::parents`]).
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    /// Numbers of the rules of those that exist.
    rules: FxHashMap<u32, u32>,
    /// How many local endpoints name each.
    users: FxHashMap<u32, u32>,
}

impl Profiles {
    /// Adds or replaces a profile's rules; the rules that it had.
    pub(crate) fn set(&mut self, parent: u32, rules: u32) -> Option<u32> {
        self.rules.insert(parent, rules)
    }

    /// Takes a profile away; the rules that it had.
    pub(crate) fn remove(&mut self, parent: u32) -> Option<u32> {
        self.rules.remove(&parent)
    }

    /// The rules of a profile that exists.
    pub(crate) fn rules(&self, parent: u32) -> Option<u32> {
        self.rules.get(&parent).copied()
    }

    /// Whether a local endpoint names the profile.
    pub(crate) fn is_used(&self, parent: u32) -> bool {
        self.users.contains_key(&parent)
    }

    /// One more local endpoint names the profile; whether it is the first.
    pub(crate) fn add_user(&mut self, parent: u32) -> bool {
        let users = self.users.entry(parent).or_insert(0);
        *users += 1;
        *users == 1
    }

    /// One local endpoint less names the profile; whether it was the last.
    pub(crate) fn remove_user(&mut self, parent: u32) -> bool {
        let Some(users) = self.users.get_mut(&parent) else { return false };
        *users -= 1;
        let last = *users == 0;
        if last {
            self.users.remove(&parent);
        }
        last
    }

    /// How many exist, and how many are used.
    #[cfg(test)]
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.rules.len(), self.users.len())
    }
}
