//! A vector with holes: values under small stable numbers, holes filled first.

use std::ops::{Index, IndexMut};

/// Values by number. Numbers are dense, so that bitmaps over them stay small.
#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { slots: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Keeps a value; its number is its own until it is removed.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(id) => {
                self.slots[id as usize] = Some(value);
                id
            }
            None => {
                let id = u32::try_from(self.slots.len()).expect("fewer than 2^32 objects fit into memory");
                self.slots.push(Some(value));
                id
            }
        }
    }

    /// Takes a value out.
    pub(crate) fn remove(&mut self, id: u32) -> T {
        self.free.push(id);
        self.slots[id as usize].take().expect("the number is in use")
    }

    /// How many values there are.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

impl<T> Index<u32> for Slab<T> {
    type Output = T;

    fn index(&self, id: u32) -> &T {
        self.slots[id as usize].as_ref().expect("the number is in use")
    }
}

impl<T> IndexMut<u32> for Slab<T> {
    fn index_mut(&mut self, id: u32) -> &mut T {
        self.slots[id as usize].as_mut().expect("the number is in use")
    }
}
