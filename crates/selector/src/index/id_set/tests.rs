//! Sets of ids against a plain set.

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use roaring::RoaringBitmap;

use super::IdSet;

proptest! {
    /// Growing through all shapes and back, the set equals an ordinary one.
    #[test]
    fn equals_an_ordinary_set(steps in vec((any::<bool>(), 0_u32..60), 0..300)) {
        let mut set = IdSet::default();
        let mut model = BTreeSet::new();
        for (insert, id) in steps {
            if insert {
                prop_assert_eq!(set.insert(id), model.insert(id));
            } else {
                prop_assert_eq!(set.remove(id), model.remove(&id));
            }
            prop_assert_eq!(set.len(), model.len());
            prop_assert_eq!(set.contains(id), model.contains(&id));
            prop_assert!(set.iter().eq(model.iter().copied()));
        }
        let bitmap: RoaringBitmap = model.iter().copied().filter(|id| id % 3 == 0).chain([100]).collect();
        let within: Vec<u32> = set.within(&bitmap).iter().collect();
        prop_assert_eq!(within, model.iter().copied().filter(|id| id % 3 == 0).collect::<Vec<_>>());
        let mut union = bitmap.clone();
        set.add_to(&mut union);
        prop_assert!(model.iter().all(|id| union.contains(*id)) && bitmap.is_subset(&union));
        let same = IdSet::from(model.iter().copied().collect::<RoaringBitmap>());
        prop_assert!(same.iter().eq(set.iter()));
    }
}

#[test]
fn a_small_set_is_small() {
    assert_eq!(size_of::<IdSet>(), 24);
}
