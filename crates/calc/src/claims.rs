//! Who contributes an address: several endpoints or network sets may claim the same one.
//!
//! One table for all sets. Whether an address is in a set follows from its claimants and from who matches the set's
//! selector, so no set counts its members.

use std::net::IpAddr;

use calico_net::Cidr;
use hashbrown::HashMap;
use roaring::RoaringBitmap;
use rustc_hash::FxBuildHasher;

use crate::slab::Slab;

/// The claimants of one address.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Claimants<'a> {
    /// Nobody.
    None,
    /// One item, as nearly always.
    One(u32),
    /// Several.
    Many(&'a RoaringBitmap),
}

impl Claimants<'_> {
    /// Whether any claimant is also in `matched`.
    pub(crate) fn any_of(self, matched: &RoaringBitmap) -> bool {
        match self {
            Claimants::None => false,
            Claimants::One(item) => matched.contains(item),
            Claimants::Many(items) => !items.is_disjoint(matched),
        }
    }

    /// The lowest claimant that is also in `matched` and passes the test.
    pub(crate) fn find(self, matched: &RoaringBitmap, test: impl Fn(u32) -> bool) -> Option<u32> {
        match self {
            Claimants::None => None,
            Claimants::One(item) => (matched.contains(item) && test(item)).then_some(item),
            Claimants::Many(items) if items.len() <= MANY => {
                items.iter().find(|item| matched.contains(*item) && test(*item))
            }
            // Two long lists are intersected container by container rather than item by item.
            Claimants::Many(items) => (items & matched).iter().find(|item| test(*item)),
        }
    }
}

/// Up to here, asking the other bitmap for each item is cheaper than intersecting.
const MANY: u64 = 16;

/// Marks a claim that is a number of `several`. Items stay below it: 2^31 endpoints do not fit into memory.
const SEVERAL: u32 = 1 << 31;

/// Address → claimants.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// IPv4 host addresses, nearly all there is: eight bytes an entry.
    hosts_v4: HashMap<u32, u32, FxBuildHasher>,
    /// Everything else.
    others: HashMap<Cidr, u32, FxBuildHasher>,
    several: Slab<RoaringBitmap>,
}

impl Claims {
    /// Notes that `item` claims `net`.
    pub(crate) fn add(&mut self, net: Cidr, item: u32) {
        let several = &mut self.several;
        let join = |claim: &mut u32| {
            if *claim & SEVERAL == 0 {
                if *claim != item {
                    *claim = SEVERAL | several.insert(RoaringBitmap::from_iter([*claim, item]));
                }
            } else {
                several[*claim & !SEVERAL].insert(item);
            }
        };
        match host_v4(net) {
            Some(addr) => {
                self.hosts_v4.entry(addr).and_modify(join).or_insert(item);
            }
            None => {
                self.others.entry(net).and_modify(join).or_insert(item);
            }
        }
    }

    /// Takes back [`Claims::add`].
    pub(crate) fn remove(&mut self, net: Cidr, item: u32) {
        let claim = match host_v4(net) {
            Some(addr) => self.hosts_v4.get_mut(&addr),
            None => self.others.get_mut(&net),
        };
        let Some(claim) = claim else { return };
        if *claim & SEVERAL == 0 {
            if *claim == item {
                self.forget(net);
            }
            return;
        }
        let number = *claim & !SEVERAL;
        let items = &mut self.several[number];
        items.remove(item);
        if let (1, Some(last)) = (items.len(), items.min()) {
            *claim = last;
            self.several.remove(number);
        }
    }

    fn forget(&mut self, net: Cidr) {
        match host_v4(net) {
            Some(addr) => {
                self.hosts_v4.remove(&addr);
            }
            None => {
                self.others.remove(&net);
            }
        }
    }

    /// Who claims `net`.
    pub(crate) fn of(&self, net: Cidr) -> Claimants<'_> {
        let claim = match host_v4(net) {
            Some(addr) => self.hosts_v4.get(&addr),
            None => self.others.get(&net),
        };
        match claim {
            None => Claimants::None,
            Some(claim) if claim & SEVERAL == 0 => Claimants::One(*claim),
            Some(claim) => Claimants::Many(&self.several[claim & !SEVERAL]),
        }
    }

    /// Whether nothing is claimed.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.hosts_v4.is_empty() && self.others.is_empty() && self.several.len() == 0
    }
}

fn host_v4(net: Cidr) -> Option<u32> {
    match net.addr() {
        IpAddr::V4(addr) if net.is_host() => Some(addr.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_keeps_all_its_claimants() {
        let mut claims = Claims::default();
        let all = RoaringBitmap::from_iter(0..100);
        for addr in ["10.0.0.1/32", "10.0.0.0/8", "fd00::1/128"] {
            assert!(!claims.of(net(addr)).any_of(&all));
            claims.add(net(addr), 7);
            assert_eq!(claims.of(net(addr)).find(&all, |_| true), Some(7));
            claims.add(net(addr), 3);
            claims.add(net(addr), 9);
            assert_eq!(claims.of(net(addr)).find(&all, |_| true), Some(3));
            assert_eq!(claims.of(net(addr)).find(&RoaringBitmap::from_iter([9]), |_| true), Some(9));
            claims.remove(net(addr), 3);
            claims.remove(net(addr), 7);
            assert_eq!(claims.of(net(addr)).find(&all, |_| true), Some(9));
            claims.remove(net(addr), 9);
        }
        assert!(claims.is_empty());
    }

    #[test]
    fn long_lists_answer_as_short_ones() {
        let mut claims = Claims::default();
        for item in 0..50 {
            claims.add(net("10.0.0.1"), item);
        }
        let matched = RoaringBitmap::from_iter([20, 30, 60]);
        assert_eq!(claims.of(net("10.0.0.1")).find(&matched, |item| item > 20), Some(30));
        assert_eq!(claims.of(net("10.0.0.1")).find(&matched, |item| item > 30), None);
    }
}
