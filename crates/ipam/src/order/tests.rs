//! Coverage and determinism of the block order.

use super::{blocks, fnv1, seed};
use calico_net::Cidr;
use proptest::prelude::*;
use std::collections::BTreeSet;

#[test]
fn hashes_as_fnv1_does() {
    // The offset basis, and the published vectors of FNV-1 32.
    assert_eq!(fnv1(""), 0x811c_9dc5);
    assert_eq!(fnv1("a"), 0x050c_5d7e);
    assert_eq!(fnv1("foobar"), 0x31f0_b262);
}

#[test]
fn huge_and_degenerate_pools() {
    let pool: Cidr = "fd00::/8".parse().unwrap();
    let first: Vec<Cidr> = blocks(pool, 122, 7).take(3).collect();
    assert!(first.iter().all(|b| pool.covers(b) && b.prefix_len() == 122));
    let one: Cidr = "10.0.0.0/26".parse().unwrap();
    assert_eq!(blocks(one, 26, 1).collect::<Vec<_>>(), [one]);
    assert_eq!(blocks(one, 20, 1).count(), 0);
    assert_eq!(blocks(one, 33, 1).count(), 0);
}

proptest! {
    #[test]
    fn every_block_once(host in "[a-z0-9-]{1,20}", len in 16u8..=26, size in 0u8..=8) {
        let pool = Cidr::new("10.0.0.0".parse().unwrap(), len).unwrap();
        let seed = seed(&host, false, 0);
        let order: Vec<Cidr> = blocks(pool, len + size.min(6), seed).collect();
        let unique: BTreeSet<Cidr> = order.iter().copied().collect();
        prop_assert_eq!(unique.len(), 1usize << size.min(6));
        prop_assert_eq!(order.len(), unique.len());
        prop_assert_eq!(order, blocks(pool, len + size.min(6), seed).collect::<Vec<_>>());
    }
}
