//! The union against a naive model: one bit an address.

use proptest::prelude::*;

use super::*;

fn cidr(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn v4(text: &str) -> u128 {
    number(text.parse().unwrap())
}

#[test]
fn removing_an_outer_prefix_shows_the_inner_ones() {
    let mut union = IntervalUnion::new(Family::V4);
    union.insert(cidr("10.1.0.0/16"));
    union.insert(cidr("10.1.2.0/24"));
    union.insert(cidr("10.3.0.0/16"));
    let delta = union.insert(cidr("10.0.0.0/8"));
    assert_eq!(delta.removed.len(), 2);
    assert_eq!(delta.added, [(v4("10.0.0.0"), v4("10.255.255.255"))]);
    let delta = union.remove(&cidr("10.0.0.0/8"));
    assert_eq!(delta.removed, [(v4("10.0.0.0"), v4("10.255.255.255"))]);
    assert_eq!(delta.added, [(v4("10.1.0.0"), v4("10.1.255.255")), (v4("10.3.0.0"), v4("10.3.255.255"))]);
}

#[test]
fn neighbours_join_and_part() {
    let mut union = IntervalUnion::new(Family::V4);
    union.insert(cidr("10.0.0.0/25"));
    let delta = union.insert(cidr("10.0.0.128/25"));
    assert_eq!(delta.added, [(v4("10.0.0.0"), v4("10.0.0.255"))]);
    assert_eq!(union.insert(cidr("10.0.0.0/24")), IntervalDelta::default());
    assert_eq!(union.remove(&cidr("10.0.0.128/25")), IntervalDelta::default());
    let delta = union.remove(&cidr("10.0.0.0/24"));
    assert_eq!(delta.added, [(v4("10.0.0.0"), v4("10.0.0.127"))]);
}

#[test]
fn everything_is_one_interval_in_both_families() {
    for family in Family::ALL {
        let mut union = IntervalUnion::new(family);
        let all = Cidr::everything(family);
        union.insert(Cidr::host(all.addr()));
        union.insert(Cidr::host(all.last()));
        let delta = union.insert(all);
        assert_eq!((delta.removed.len(), delta.added.len()), (2, 1));
        let delta = union.remove(&all);
        assert_eq!((delta.removed.len(), delta.added.len()), (1, 2));
        assert_eq!(
            union.insert(Cidr::everything(if family == Family::V4 { Family::V6 } else { Family::V4 })),
            IntervalDelta::default()
        );
    }
}

#[test]
fn counts_prefixes_that_come_twice() {
    let mut union = IntervalUnion::new(Family::V4);
    union.insert(cidr("10.0.0.0/8"));
    assert_eq!(union.insert(cidr("10.0.0.0/8")), IntervalDelta::default());
    assert_eq!(union.remove(&cidr("10.0.0.0/8")), IntervalDelta::default());
    assert_eq!(union.remove(&cidr("10.0.0.0/8")).removed.len(), 1);
    assert!(union.is_empty());
    assert_eq!(union.remove(&cidr("10.0.0.0/8")), IntervalDelta::default());
}

proptest! {
    /// In a universe of 64 addresses: the intervals cover exactly what the prefixes cover, are disjoint and not
    /// adjacent, and each step's delta leads from one state to the next.
    #[test]
    fn equals_the_bit_model(
        v6 in any::<bool>(),
        steps in proptest::collection::vec((any::<bool>(), 0u8..64, 0u8..=6), 0..60),
    ) {
        let (base, family) = if v6 { ("fd00::/122", Family::V6) } else { ("10.0.0.0/26", Family::V4) };
        let base = cidr(base);
        let start = number(base.addr());
        let mut union = IntervalUnion::new(family);
        let mut model: Vec<Cidr> = Vec::new();
        let mut kernel: std::collections::BTreeSet<Range> = Default::default();
        for (add, offset, len) in steps {
            let addr = base.nth(offset.into()).unwrap();
            let prefix = Cidr::new(addr, base.prefix_len() + len).unwrap();
            let delta = if add {
                model.push(prefix);
                union.insert(prefix)
            } else {
                if let Some(place) = model.iter().position(|p| *p == prefix) {
                    model.remove(place);
                }
                union.remove(&prefix)
            };
            for gone in &delta.removed {
                prop_assert!(kernel.remove(gone), "{:?} was not there", gone);
            }
            for new in &delta.added {
                prop_assert!(kernel.insert(*new), "{:?} was there already", new);
            }
            prop_assert_eq!(kernel.iter().copied().collect::<Vec<_>>(), union.intervals().collect::<Vec<_>>());
            for n in 0..64u128 {
                let inside = |r: &Range| r.0 <= start + n && start + n <= r.1;
                let covered = kernel.iter().any(inside);
                prop_assert_eq!(covered, model.iter().any(|p| inside(&range(p))));
            }
            let all: Vec<_> = kernel.iter().collect();
            prop_assert!(all.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }
}
