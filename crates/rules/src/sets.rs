//! The kernel's sets: which ones an IP set becomes, constant sets of rules, and the bytes of their keys.
//!
//! An IP set of addresses becomes four kernel sets, always all four: for each family a hash of single addresses and an
//! interval set of real prefixes. Rules look into both, so a set's first prefix, or its last one going, changes no
//! rule. The interval set of a selector that matches only workloads is empty, and looking into it costs next to nothing.
//! A named port becomes two: one per family.

use std::net::IpAddr;

use calico_calc::change::{IpSetId, IpSetKind, Member};
use calico_net::{Cidr, Family, PortRange, Protocol};
use smallvec::{SmallVec, smallvec};
use smol_str::{SmolStr, format_smolstr};

use crate::fragment::Set;
use crate::interval;
use crate::ir::{End, Match, Transport};
use crate::name;
use crate::nft::{Data, Element, KeyField, SetSpec};

/// Ids of the sets that the rules of [`crate::statics()`] use; the dataplane fills them.
pub mod id {
    /// Pools whose workloads are masqueraded when they leave the pools: prefixes.
    pub const MASQUERADED_POOLS: &str = "masq-ipam-pools";
    /// All pools with workloads: prefixes.
    pub const POOLS: &str = "network-ip-pools";
    /// Addresses of all nodes.
    pub const HOSTS: &str = "all-hosts-net";
    /// Addresses of the nodes that speak VXLAN.
    pub const VXLAN_HOSTS: &str = "all-vxlan-net";
}

/// Calico's limit, the kernel's for ipset names.
const NAME_MAX: usize = 31;

/// `cali40` or `cali60` and the id, cut to 31 bytes, `:` as `-` (spec 3 §6.3, §6.5).
fn base_name(family: Family, id: &str) -> SmolStr {
    let mut full = format!("cali{}0{}", family.number(), id.replace(':', "-"));
    let mut end = full.len().min(NAME_MAX);
    while !full.is_char_boundary(end) {
        end -= 1;
    }
    full.truncate(end);
    SmolStr::new(full)
}

/// The hash of single addresses of an IP set; also the one set of a named port's family.
pub fn exact_name(family: Family, id: &str) -> SmolStr {
    base_name(family, id)
}

/// The interval set of an IP set's prefixes: the name of the hash and `/nets`.
pub fn nets_name(family: Family, id: &str) -> SmolStr {
    format_smolstr!("{}/nets", base_name(family, id))
}

/// A family's address as a key's field.
pub fn address_field(family: Family) -> KeyField {
    match family {
        Family::V4 => KeyField::Ipv4Addr,
        Family::V6 => KeyField::Ipv6Addr,
    }
}

fn spec(key: impl IntoIterator<Item = KeyField>, interval: bool) -> SetSpec {
    SetSpec { key: key.into_iter().collect(), interval, verdict_map: false }
}

/// A map from interface names to chains.
pub(crate) fn dispatch_map(name: &'static str) -> Set {
    let spec = SetSpec { key: smallvec![KeyField::IfName], interval: false, verdict_map: true };
    Set { name: SmolStr::new_static(name), spec, elements: Vec::new() }
}

/// The kernel sets of an IP set, without elements.
pub fn ip_set(id: &IpSetId, kind: IpSetKind) -> Vec<Set> {
    let set = |name, spec| Set { name, spec, elements: Vec::new() };
    Family::ALL
        .into_iter()
        .flat_map(|family| {
            let address = address_field(family);
            let sets: SmallVec<[Set; 2]> = match kind {
                IpSetKind::Net => smallvec![
                    set(exact_name(family, &id.0), spec([address], false)),
                    set(nets_name(family, &id.0), spec([address], true)),
                ],
                IpSetKind::IpPort => smallvec![set(
                    exact_name(family, &id.0),
                    spec([address, KeyField::InetProto, KeyField::InetService], false)
                )],
            };
            sets
        })
        .collect()
}

/// Where a member of an IP set goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// An element of this set, as it is.
    Exact(SmolStr, Element),
    /// Part of the disjoint union that this interval set holds; see [`interval::net_union`].
    Net(SmolStr, Cidr),
}

/// The kernel set that a member belongs in, and how.
pub fn place(id: &IpSetId, member: &Member) -> Placement {
    match *member {
        Member::Net(net) if net.is_host() => {
            Placement::Exact(exact_name(net.family(), &id.0), Element::Exact(address_key(net.addr())))
        }
        Member::Net(net) => Placement::Net(nets_name(net.family(), &id.0), net),
        Member::IpPort { addr, protocol, port } => Placement::Exact(
            exact_name(Family::of(addr), &id.0),
            Element::Exact(addr_port_key(addr, protocol, port)),
        ),
    }
}

/// The key of an address.
pub fn address_key(addr: IpAddr) -> Data {
    interval::address_key(interval::number(addr), Family::of(addr))
}

/// The key (address, protocol, port), each field padded to four bytes.
pub fn addr_port_key(addr: IpAddr, protocol: Protocol, port: u16) -> Data {
    let mut key = address_key(addr);
    key.extend_from_slice(&protocol_port_key(protocol, port));
    key
}

/// The key (protocol, port), each field padded to four bytes.
pub fn protocol_port_key(protocol: Protocol, port: u16) -> Data {
    let [high, low] = port.to_be_bytes();
    Data::from_slice(&[protocol.number(), 0, 0, 0, high, low, 0, 0])
}

/// The key of an interface's name: 16 bytes, zero-padded; longer names are cut as the kernel would.
pub fn interface_key(name: &str) -> Data {
    let mut key = Data::from_elem(0, 16);
    let len = name.len().min(15);
    key[..len].copy_from_slice(&name.as_bytes()[..len]);
    key
}

/// The key (interface, IPv4 address) of [`name::chain::ARP_OWN`].
pub(crate) fn interface_addr_key(interface: &str, addr: IpAddr) -> Data {
    let mut key = interface_key(interface);
    key.extend_from_slice(&address_key(addr));
    key
}

/// The set that [`name::chain::ARP_OWN`] is.
pub(crate) fn arp_own() -> Set {
    Set {
        name: SmolStr::new_static(name::chain::ARP_OWN),
        spec: spec([KeyField::IfName, KeyField::Ipv4Addr], false),
        elements: Vec::new(),
    }
}

/// The protocols that have ports: what [`Transport::Any`] is looked up in.
pub(crate) fn port_protocols() -> Set {
    Set {
        name: SmolStr::new_static(name::chain::PORT_PROTOCOLS),
        spec: spec([KeyField::InetProto], false),
        elements: Transport::Any
            .protocols()
            .iter()
            .map(|p| Element::Exact(Data::from_slice(&[p.number()])))
            .collect(),
    }
}

/// A set that is fully known when the rule is rendered, named by its contents.
fn constant(prefix: &str, spec: SetSpec, elements: Vec<Element>) -> Set {
    Set { name: name::by_content(prefix, &(&spec, &elements[..])), spec, elements }
}

/// Single keys in a hash, or ranges in an interval set.
fn constant_ranges(prefix: &str, field: KeyField, ranges: Vec<(Data, Data)>) -> Set {
    let exact = ranges.iter().all(|(first, last)| first == last);
    let elements = ranges
        .into_iter()
        .map(|(first, last)| if exact { Element::Exact(first) } else { Element::Interval { first, last } });
    constant(prefix, spec([field], !exact), elements.collect())
}

/// One condition for "the address is in (or, inverted, outside) these prefixes of this family", with the set that it
/// needs, if any; `None` if there are no prefixes of the family.
pub(crate) fn match_nets(
    end: End,
    nets: &[Cidr],
    family: Family,
    invert: bool,
) -> Option<(Match, Option<Set>)> {
    let ranges = interval::net_union(nets, family);
    match ranges[..] {
        [] => None,
        [range] if interval::as_net(range, family).is_some() => {
            let net = interval::as_net(range, family)?;
            Some((Match::Net { end, net, invert }, None))
        }
        _ => {
            let keys = ranges.iter().map(|&(first, last)| {
                (interval::address_key(first, family), interval::address_key(last, family))
            });
            let prefix = format!("cali{}0c-", family.number());
            let set = constant_ranges(&prefix, address_field(family), keys.collect());
            Some((Match::InSet { end, family, set: set.name.clone(), invert }, Some(set)))
        }
    }
}

/// One condition for "the port is in (or, inverted, outside) these ranges", with the set that it needs, if any;
/// `None` if there are no ranges.
pub(crate) fn match_ports(
    end: End,
    transport: Transport,
    ports: &[PortRange],
    invert: bool,
) -> Option<(Match, Option<Set>)> {
    let ranges = interval::port_union(ports);
    match ranges[..] {
        [] => None,
        [range] => Some((Match::Port { end, transport, range, invert }, None)),
        _ => {
            let key = |port: u16| Data::from_slice(&port.to_be_bytes());
            let keys = ranges.iter().map(|r| (key(r.first), key(r.last)));
            let set = constant_ranges("cali-ports-", KeyField::InetService, keys.collect());
            Some((Match::PortInSet { end, transport, set: set.name.clone(), invert }, Some(set)))
        }
    }
}

/// A constant set of (protocol, port).
pub(crate) fn protocol_ports(keys: impl IntoIterator<Item = (Protocol, u16)>) -> Option<Set> {
    let mut elements: Vec<Element> =
        keys.into_iter().map(|(p, port)| Element::Exact(protocol_port_key(p, port))).collect();
    elements.sort();
    elements.dedup();
    let spec = spec([KeyField::InetProto, KeyField::InetService], false);
    (!elements.is_empty()).then(|| constant("cali-failsafe-", spec, elements))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Spec 3 §6.3: the set of `all()`.
    #[test]
    fn sets_are_named_as_calico_names_them() {
        let id = "s:5y5I3VdRZfDU01O--xXAPx2yxCQQqMf0M6IWug";
        assert_eq!(exact_name(Family::V4, id), "cali40s-5y5I3VdRZfDU01O--xXAPx2");
        assert_eq!(nets_name(Family::V6, id), "cali60s-5y5I3VdRZfDU01O--xXAPx2/nets");
    }

    #[test]
    fn members_go_where_rules_look() {
        let id = IpSetId("s:x".into());
        let sets = ip_set(&id, IpSetKind::Net);
        assert_eq!(sets.len(), 4);
        for member in ["10.0.0.1/32", "10.0.0.0/8", "fd00::1/128", "fd00::/8"] {
            let net: Cidr = member.parse().unwrap();
            let (name, interval) = match place(&id, &Member::Net(net)) {
                Placement::Exact(name, _) => (name, false),
                Placement::Net(name, _) => (name, true),
            };
            let set = sets.iter().find(|s| s.name == name).unwrap();
            assert_eq!(
                (set.spec.interval, &set.spec.key[..]),
                (interval, &[address_field(net.family())][..])
            );
        }
    }

    #[test]
    fn constant_sets_are_shared_by_content() {
        let nets: Vec<Cidr> = ["10.0.0.0/8", "192.168.0.0/16"].map(|n| n.parse().unwrap()).into();
        let mut turned = nets.clone();
        turned.reverse();
        turned.push("10.1.0.0/16".parse().unwrap());
        let (_, a) = match_nets(End::Source, &nets, Family::V4, false).unwrap();
        let (_, b) = match_nets(End::Destination, &turned, Family::V4, true).unwrap();
        assert_eq!(a, b);
        assert_eq!(match_nets(End::Source, &nets, Family::V6, false), None);
    }
}
