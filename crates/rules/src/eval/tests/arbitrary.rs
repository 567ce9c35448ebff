//! Random rules, sets and packets from a small world, so that they meet often: overlapping nets, /0, negations.

use std::net::IpAddr;

use calico_calc::change::{Action, Icmp, IpSetId, Member, Rule, Side};
use calico_net::{Cidr, Family, PortRange, Protocol};
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::naive::Members;
use crate::eval::{Header, Packet};
use crate::fragment::Set;
use crate::ir::{End, IcmpType, Interface, Match, Transport, ct};
use crate::sets;

pub(super) const V4: [&str; 6] =
    ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.1.0.1", "192.168.0.1", "255.255.255.255"];
pub(super) const V6: [&str; 6] = ["fd00::1", "fd00::2", "fd00:0:0:1::1", "fd01::1", "fe80::1", "::"];
const NETS: [&str; 15] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.0.0.0/16",
    "10.0.0.0/31",
    "10.0.0.1/32",
    "10.0.1.0/25",
    "192.0.0.0/3",
    "128.0.0.0/1",
    "::/0",
    "fd00::/8",
    "fd00::/64",
    "fd00::1/128",
    "fd00::/127",
    "8000::/1",
    "fd01::/16",
];
const PORTS: [u16; 6] = [0, 79, 80, 443, 8080, 65535];
const PROTOCOLS: [u8; 8] = [1, 4, 6, 17, 47, 58, 132, 136];
pub(super) const NET_SETS: [&str; 3] = ["s:one", "s:two", "svcnoport:three"];
pub(super) const PORT_SETS: [&str; 2] = ["n:http", "n:dns"];

fn protocol() -> impl Strategy<Value = Protocol> {
    select(&PROTOCOLS[..]).prop_map(|n| Protocol::new(n).unwrap())
}

fn port_range() -> impl Strategy<Value = PortRange> {
    (select(&PORTS[..]), select(&PORTS[..])).prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) })
}

/// Mostly nothing, sometimes a few.
fn few<T: std::fmt::Debug + Clone + 'static>(
    one: impl Strategy<Value = T> + Clone + 'static,
) -> impl Strategy<Value = Vec<T>> {
    prop_oneof![4 => Just(Vec::new()), 2 => prop::collection::vec(one.clone(), 1), 1 => prop::collection::vec(one, 2..4)]
}

fn ids(from: &'static [&'static str]) -> impl Strategy<Value = Vec<IpSetId>> {
    prop_oneof![
        5 => Just(Vec::new()),
        2 => subsequence(from, 1..=2).prop_map(|ids| ids.into_iter().map(|i| IpSetId(i.into())).collect::<Vec<_>>()),
    ]
}

fn side() -> impl Strategy<Value = Side> {
    let net = || select(&NETS[..]).prop_map(|n| n.parse::<Cidr>().unwrap()).boxed();
    (
        (few(net()), few(net()), ids(&NET_SETS), ids(&NET_SETS)),
        (few(port_range().boxed()), ids(&PORT_SETS), few(port_range().boxed()), ids(&PORT_SETS)),
    )
        .prop_map(
            |((nets, not_nets, ip_sets, not_ip_sets), (ports, named_ports, not_ports, not_named_ports))| {
                Side { nets, not_nets, ip_sets, not_ip_sets, ports, named_ports, not_ports, not_named_ports }
            },
        )
}

fn icmp() -> impl Strategy<Value = Option<Icmp>> {
    let some = (select(&[0u8, 8, 128][..]), prop::option::of(0u8..2))
        .prop_map(|(icmp_type, code)| Some(Icmp { icmp_type, code }));
    prop_oneof![6 => Just(None), 1 => some]
}

/// Sides are thinned out, or no packet would ever match.
pub(super) fn rule() -> impl Strategy<Value = Rule> {
    let sometimes = || prop_oneof![1 => Just(Side::default()), 1 => side()];
    (
        select(&[Action::Allow, Action::Deny, Action::Pass, Action::Log][..]),
        prop_oneof![4 => Just(None), 1 => Just(Some(Family::V4)), 1 => Just(Some(Family::V6))],
        prop::option::of(protocol()),
        prop_oneof![5 => Just(None), 1 => protocol().prop_map(Some)],
        icmp(),
        icmp(),
        sometimes(),
        sometimes(),
    )
        .prop_map(|(action, family, protocol, not_protocol, icmp, not_icmp, source, destination)| Rule {
            action,
            family,
            protocol,
            not_protocol,
            icmp,
            not_icmp,
            source,
            destination,
        })
}

pub(super) fn members() -> impl Strategy<Value = Members> {
    let net = select(&NETS[..]).prop_map(|n| Member::Net(n.parse().unwrap()));
    let host = prop_oneof![select(&V4[..]), select(&V6[..])]
        .prop_map(|a| Member::Net(Cidr::host(a.parse::<IpAddr>().unwrap())));
    let port = (
        prop_oneof![select(&V4[..]), select(&V6[..])],
        select(&[Protocol::TCP, Protocol::UDP, Protocol::SCTP][..]),
        select(&PORTS[..]),
    )
        .prop_map(|(addr, protocol, port)| Member::IpPort {
            addr: addr.parse().unwrap(),
            protocol,
            port,
        });
    (
        prop::collection::vec(prop::collection::vec(prop_oneof![1 => net, 3 => host], 0..4), NET_SETS.len()),
        prop::collection::vec(prop::collection::vec(port, 0..12), PORT_SETS.len()),
    )
        .prop_map(|(nets, ports)| {
            let ids = NET_SETS.iter().chain(&PORT_SETS).map(|id| IpSetId((*id).into()));
            ids.zip(nets.into_iter().chain(ports)).collect()
        })
}

pub(super) fn packet() -> impl Strategy<Value = Packet> {
    let addresses = prop_oneof![(select(&V4[..]), select(&V4[..])), (select(&V6[..]), select(&V6[..]))];
    (
        addresses,
        select(&PROTOCOLS[..]),
        (select(&PORTS[..]), select(&PORTS[..]), 0u8..10),
        (
            select(&["cali1", "cali2", "cali9", "eth0", "lo"][..]),
            select(&["cali1", "cali2", "cali9", "eth0"][..]),
        ),
        (
            select(
                &[ct::INVALID, ct::ESTABLISHED, ct::RELATED, ct::NEW, ct::NEW, ct::NEW, ct::UNTRACKED][..],
            ),
            any::<bool>(),
        ),
        any::<u32>(),
        (0u8..4, any::<bool>(), any::<bool>()),
    )
        .prop_map(
            |((source, destination), protocol, (sport, dport, whole), interfaces, ct, mark, routing)| {
                let header = match protocol {
                    _ if whole == 0 => Header::Opaque,
                    6 | 17 | 132 => Header::Ports(sport, dport),
                    1 | 58 => Header::Icmp(
                        (sport % 2 * 8) as u8 + if protocol == 58 { 120 } else { 0 },
                        (dport % 2) as u8,
                    ),
                    _ => Header::Opaque,
                };
                Packet {
                    source: source.parse().unwrap(),
                    destination: destination.parse().unwrap(),
                    protocol,
                    header,
                    in_interface: interfaces.0.into(),
                    out_interface: interfaces.1.into(),
                    ct_state: ct.0,
                    dnatted: ct.1,
                    mark,
                    reverse_path: routing.0 != 0,
                    source_local: routing.1,
                    destination_local: routing.2,
                }
            },
        )
}

/// Sets that [`ir_match`] names besides the IP sets'.
pub(super) fn constant_sets() -> Vec<Set> {
    let nets: Vec<Cidr> = NETS.iter().skip(3).take(4).map(|n| n.parse().unwrap()).collect();
    let ports: Vec<PortRange> = PORTS.iter().map(|p| PortRange::single(*p)).take(3).collect();
    let mut sets: Vec<Set> = Vec::new();
    sets.extend(sets::match_nets(End::Source, &nets, Family::V4, false).and_then(|(_, set)| set));
    sets.extend(sets::match_ports(End::Source, Transport::Any, &ports, false).and_then(|(_, set)| set));
    sets.extend(sets::protocol_ports([(Protocol::TCP, 80), (Protocol::UDP, 0)]));
    sets
}

pub(super) fn ir_match() -> impl Strategy<Value = Match> {
    let [net_set, port_set, failsafe_set] =
        <[Set; 3]>::try_from(constant_sets()).expect("three sets").map(|s| s.name);
    let end = || select(&[End::Source, End::Destination][..]);
    let family = || select(&Family::ALL[..]);
    let transport = || select(&[Transport::Tcp, Transport::Udp, Transport::Sctp, Transport::Any][..]);
    let interface = || {
        prop_oneof![
            select(&["cali1", "eth0", "lo"][..]).prop_map(|n| Interface::Is(n.into())),
            select(&["cali", "eth", "cali1"][..]).prop_map(|n| Interface::StartsWith(n.into())),
        ]
    };
    let icmp = (select(&[0u8, 8, 128][..]), prop::option::of(0u8..2))
        .prop_map(|(icmp_type, code)| IcmpType { icmp_type, code });
    let net = select(&NETS[..]).prop_map(|n| n.parse::<Cidr>().unwrap());
    prop_oneof![
        family().prop_map(Match::Family),
        (protocol(), any::<bool>()).prop_map(|(protocol, invert)| Match::Protocol { protocol, invert }),
        (family(), icmp, any::<bool>()).prop_map(|(family, icmp, invert)| Match::Icmp {
            family,
            icmp,
            invert
        }),
        (end(), net, any::<bool>()).prop_map(|(end, net, invert)| Match::Net { end, net, invert }),
        (end(), family(), select(&NET_SETS[..]), any::<bool>(), any::<bool>()).prop_map(
            |(end, family, id, nets, invert)| {
                let set = if nets { sets::nets_name(family, id) } else { sets::exact_name(family, id) };
                Match::InSet { end, family, set, invert }
            }
        ),
        (end(), any::<bool>()).prop_map(move |(end, invert)| Match::InSet {
            end,
            family: Family::V4,
            set: net_set.clone(),
            invert
        }),
        (end(), transport(), port_range(), any::<bool>())
            .prop_map(|(end, transport, range, invert)| Match::Port { end, transport, range, invert }),
        (end(), transport(), any::<bool>()).prop_map(move |(end, transport, invert)| Match::PortInSet {
            end,
            transport,
            set: port_set.clone(),
            invert
        }),
        end().prop_map(move |end| Match::ProtocolPortInSet { end, set: failsafe_set.clone() }),
        (end(), family(), transport(), select(&PORT_SETS[..]), any::<bool>()).prop_map(
            |(end, family, transport, id, invert)| Match::AddrPortInSet {
                end,
                family,
                transport,
                set: sets::exact_name(family, id),
                invert
            }
        ),
        (0u32..128).prop_map(Match::CtState),
        Just(Match::Dnatted),
        (interface(), any::<bool>()).prop_map(|(interface, invert)| Match::InInterface { interface, invert }),
        (interface(), any::<bool>())
            .prop_map(|(interface, invert)| Match::OutInterface { interface, invert }),
        (any::<u32>(), any::<u32>(), any::<bool>()).prop_map(|(mask, value, invert)| Match::Mark {
            mask,
            value: mask & value,
            invert
        }),
        select(&[Match::ReversePathFails, Match::SourceLocal, Match::DestinationLocal][..]),
    ]
}
