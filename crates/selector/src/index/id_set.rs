//! A set of small numbers that costs little when it is small: most postings and match lists hold one or two.

use roaring::RoaringBitmap;

/// Above this size a set becomes a bitmap…
const LARGEST_LIST: usize = 32;
/// …and below this one a list again. The gap keeps a set at the border from going back and forth.
const SMALLEST_BITMAP: u64 = 16;

/// An ordered set of `u32`, in 24 bytes when it has at most one member.
#[derive(Clone, Debug)]
pub(super) enum IdSet {
    One(u32),
    /// Sorted; also the empty set.
    List(Vec<u32>),
    Bitmap(Box<RoaringBitmap>),
}

impl Default for IdSet {
    fn default() -> IdSet {
        IdSet::List(Vec::new())
    }
}

impl IdSet {
    /// Adds `id`; whether it was new.
    pub(super) fn insert(&mut self, id: u32) -> bool {
        match self {
            IdSet::One(only) if *only == id => false,
            IdSet::One(only) => {
                *self = IdSet::List(vec![id.min(*only), id.max(*only)]);
                true
            }
            IdSet::List(list) if list.is_empty() => {
                *self = IdSet::One(id);
                true
            }
            IdSet::List(list) => match list.binary_search(&id) {
                Ok(_) => false,
                Err(at) if list.len() < LARGEST_LIST => {
                    list.insert(at, id);
                    true
                }
                Err(_) => {
                    let mut bitmap: RoaringBitmap = list.iter().copied().collect();
                    bitmap.insert(id);
                    *self = IdSet::Bitmap(Box::new(bitmap));
                    true
                }
            },
            IdSet::Bitmap(bitmap) => bitmap.insert(id),
        }
    }

    /// Takes `id` away; whether it was there.
    pub(super) fn remove(&mut self, id: u32) -> bool {
        match self {
            IdSet::One(only) if *only == id => {
                *self = IdSet::default();
                true
            }
            IdSet::One(_) => false,
            IdSet::List(list) => match list.binary_search(&id) {
                Ok(at) => {
                    list.remove(at);
                    if let [only] = **list {
                        *self = IdSet::One(only);
                    }
                    true
                }
                Err(_) => false,
            },
            IdSet::Bitmap(bitmap) => {
                let there = bitmap.remove(id);
                if there && bitmap.len() < SMALLEST_BITMAP {
                    *self = IdSet::List(bitmap.iter().collect());
                }
                there
            }
        }
    }

    pub(super) fn contains(&self, id: u32) -> bool {
        match self {
            IdSet::One(only) => *only == id,
            IdSet::List(list) => list.binary_search(&id).is_ok(),
            IdSet::Bitmap(bitmap) => bitmap.contains(id),
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            IdSet::One(_) => 1,
            IdSet::List(list) => list.len(),
            // Members are u32, and the targets have 64-bit sizes.
            IdSet::Bitmap(bitmap) => bitmap.len() as usize,
        }
    }

    /// The members, ascending.
    pub(super) fn iter(&self) -> Iter<'_> {
        match self {
            IdSet::One(only) => Iter::List(std::slice::from_ref(only).iter()),
            IdSet::List(list) => Iter::List(list.iter()),
            IdSet::Bitmap(bitmap) => Iter::Bitmap(bitmap.iter()),
        }
    }

    /// Adds all members to a bitmap.
    pub(super) fn add_to(&self, bitmap: &mut RoaringBitmap) {
        match self {
            IdSet::Bitmap(ours) => *bitmap |= &**ours,
            small => bitmap.extend(small.iter()),
        }
    }

    /// The members that are also in the bitmap.
    pub(super) fn within(&self, bitmap: &RoaringBitmap) -> RoaringBitmap {
        match self {
            IdSet::Bitmap(ours) => &**ours & bitmap,
            small => small.iter().filter(|id| bitmap.contains(*id)).collect(),
        }
    }
}

impl From<RoaringBitmap> for IdSet {
    fn from(bitmap: RoaringBitmap) -> IdSet {
        match bitmap.len() {
            1 => bitmap.min().map(IdSet::One).unwrap_or_default(),
            few if few <= LARGEST_LIST as u64 => IdSet::List(bitmap.iter().collect()),
            _ => IdSet::Bitmap(Box::new(bitmap)),
        }
    }
}

/// Members of an [`IdSet`], ascending.
pub(super) enum Iter<'a> {
    List(std::slice::Iter<'a, u32>),
    Bitmap(roaring::bitmap::Iter<'a>),
}

impl Iterator for Iter<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match self {
            Iter::List(list) => list.next().copied(),
            Iter::Bitmap(bitmap) => bitmap.next(),
        }
    }
}

#[cfg(test)]
mod tests;
