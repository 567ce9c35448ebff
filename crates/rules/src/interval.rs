//! Disjoint unions: the kernel's interval sets refuse ranges that overlap or nest, and two that touch cost twice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use calico_net::{Cidr, Family, PortRange};

use crate::nft::Data;

/// An inclusive range of numbers.
pub type Range = (u128, u128);

/// The fewest ranges that cover what the given ones cover, in order.
pub fn union(mut ranges: Vec<Range>) -> Vec<Range> {
    ranges.sort_unstable();
    let mut merged: Vec<Range> = Vec::with_capacity(ranges.len());
    for (first, last) in ranges {
        match merged.last_mut() {
            Some(open) if first <= open.1.saturating_add(1) => open.1 = open.1.max(last),
            _ => merged.push((first, last)),
        }
    }
    merged
}

/// The fewest address ranges of one family that cover these prefixes.
pub fn net_union<'a>(nets: impl IntoIterator<Item = &'a Cidr>, family: Family) -> Vec<Range> {
    let of_family = nets.into_iter().filter(|n| n.family() == family);
    union(of_family.map(|n| (number(n.addr()), number(n.last()))).collect())
}

/// The fewest ranges that cover these ports.
pub fn port_union(ports: &[PortRange]) -> Vec<PortRange> {
    let ranges = union(ports.iter().map(|p| (p.first.into(), p.last.into())).collect());
    ranges.into_iter().map(|(first, last)| PortRange { first: first as u16, last: last as u16 }).collect()
}

/// An address as a number.
pub fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

/// The address of a number; for IPv4 the low 32 bits.
pub fn address(number: u128, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(number as u32).into(),
        Family::V6 => Ipv6Addr::from(number).into(),
    }
}

/// The key of a number in a set of addresses.
pub fn address_key(number: u128, family: Family) -> Data {
    match family {
        Family::V4 => Data::from_slice(&(number as u32).to_be_bytes()),
        Family::V6 => Data::from_slice(&number.to_be_bytes()),
    }
}

/// The prefix that a range is, if it is one.
pub fn as_net((first, last): Range, family: Family) -> Option<Cidr> {
    let bits = u32::from(family.bits());
    let host_bits = (first ^ last).checked_ilog2().map_or(0, |high| high + 1);
    let net = Cidr::new(address(first, family), (bits - host_bits) as u8).ok()?;
    (number(net.addr()) == first && number(net.last()) == last).then_some(net)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn neighbours_and_nested_ranges_merge() {
        assert_eq!(union(vec![(5, 9), (0, 1), (2, 3), (6, 7), (11, 11)]), [(0, 3), (5, 9), (11, 11)]);
        assert_eq!(union(vec![(0, u128::MAX), (7, 9)]), [(0, u128::MAX)]);
        let nets: Vec<Cidr> =
            ["10.0.0.0/9", "10.128.0.0/9", "10.1.0.0/16", "fd00::/8"].map(|n| n.parse().unwrap()).into();
        let v4 = net_union(&nets, Family::V4);
        assert_eq!(v4.len(), 1);
        assert_eq!(as_net(v4[0], Family::V4), Some("10.0.0.0/8".parse().unwrap()));
    }

    #[test]
    fn everything_is_a_prefix() {
        assert_eq!(as_net((0, u32::MAX.into()), Family::V4), Some(Cidr::everything(Family::V4)));
        assert_eq!(as_net((0, u128::MAX), Family::V6), Some(Cidr::everything(Family::V6)));
        assert_eq!(as_net((1, 2), Family::V4), None);
        assert_eq!(as_net((7, 7), Family::V4), Some("0.0.0.7/32".parse().unwrap()));
    }

    proptest! {
        #[test]
        fn a_union_covers_the_same_numbers(ranges in prop::collection::vec((0u128..60, 0u128..8), 0..12)) {
            let ranges: Vec<Range> = ranges.into_iter().map(|(first, len)| (first, first + len)).collect();
            let merged = union(ranges.clone());
            for n in 0..70 {
                let inside = |rs: &[Range]| rs.iter().any(|r| r.0 <= n && n <= r.1);
                prop_assert_eq!(inside(&ranges), inside(&merged));
            }
            prop_assert!(merged.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }
}
