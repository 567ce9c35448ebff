//! Profiles as parents: the profile lists of endpoints and network sets, by number.
//!
//! A hundred thousand endpoints share a few hundred lists. A profile has a number while anything names it, whether it
//! exists or not.

use smol_str::SmolStr;

use crate::intern::Interner;

/// Profile names and lists of them.
#[derive(Debug, Default)]
pub(crate) struct Parents {
    names: Interner<SmolStr>,
    lists: Interner<Box<[u32]>>,
}

impl Parents {
    /// The number of a profile, one use more.
    pub(crate) fn acquire(&mut self, name: &str) -> u32 {
        self.names.acquire(name)
    }

    /// One use of a profile less.
    pub(crate) fn release(&mut self, parent: u32) {
        self.names.release(parent);
    }

    /// The number of a profile, if anything names it.
    pub(crate) fn find(&self, name: &str) -> Option<u32> {
        self.names.find(name)
    }

    /// The name of a profile.
    pub(crate) fn name(&self, parent: u32) -> &SmolStr {
        self.names.get(parent)
    }

    /// The number of a list, one use more.
    pub(crate) fn acquire_list<'a>(&mut self, names: impl IntoIterator<Item = &'a str>) -> u32 {
        let parents: Box<[u32]> = names.into_iter().map(|name| self.names.acquire(name)).collect();
        let Some(list) = self.lists.find(&*parents) else {
            return self.lists.acquire_owned(parents);
        };
        // A list in use holds one use of each of its names, however many use the list.
        for parent in &parents {
            self.names.release(*parent);
        }
        self.lists.retain(list);
        list
    }

    /// One use of a list less.
    pub(crate) fn release_list(&mut self, list: u32) {
        for parent in self.lists.release(list).into_iter().flatten() {
            self.names.release(parent);
        }
    }

    /// The profiles of a list, in order.
    pub(crate) fn list(&self, list: u32) -> &[u32] {
        self.lists.get(list)
    }

    /// How many names and lists are in use.
    #[cfg(test)]
    pub(crate) fn count(&self) -> (usize, usize) {
        (self.names.len(), self.lists.len())
    }
}
