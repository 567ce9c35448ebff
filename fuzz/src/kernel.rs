//! What the kernel says over netlink: nf_tables, links, addresses, routes, neighbours, rules, events, connections.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::str::FromStr;

use calico_dataplane::tables::fdb::FdbEntry;
use calico_dataplane::tables::neigh::{Neighbour, NeighbourKey};
use calico_dataplane::tables::nft::{NamedRule, NftOp, Place};
use calico_dataplane::tables::route::{MAIN_TABLE, Route, RouteKey, RouteKind};
use calico_dataplane::tables::tunnel::{Tunnel, TunnelKind};
use calico_linux::attr::{Attrs, Messages};
use calico_linux::decoders::{
    self, assemble, decode_chain, decode_elements, decode_generation, decode_rule, decode_set, decode_table,
};
use calico_linux::nft::{Batch, Features};
use calico_linux::rtnl::iprule::IpRule;
use calico_net::{Family, IfName, Mac};
use calico_rules::nft::{ChainKind, ChainType, Data, Element, Hook, KeyField, Rule, SetSpec, Table, Verdict};
use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use crate::choice;

/// The longest key of an element (`NFT_DATA_VALUE_MAXLEN`).
const KEY_LEN: usize = 64;
/// The longest name (`NFT_NAME_MAXLEN`).
const NAME_LEN: usize = 255;

const FEATURES: Features = Features { persistent_owner: true, destroy: true };

/// The payload of the message that an operation is sent as.
fn payload(op: NftOp) -> Vec<u8> {
    let batch = Batch::encode(&[op], FEATURES, 1);
    let message =
        Messages(batch.writer().bytes()).nth(1).expect("an operation is a message behind the frame");
    message.payload.to_vec()
}

/// A message of a dump of our tables.
pub fn nft(data: &[u8]) {
    let table = if data.first().is_some_and(|b| b % 2 == 1) { Table::Arp } else { Table::Inet };
    let _ = (decode_table(data), decode_rule(data), decode_generation(data));
    if let Some((name, Some(kind))) = decode_chain(table, data)
        && name.len() <= NAME_LEN
    {
        let written = payload(NftOp::AddChain { table, chain: name.clone(), kind });
        assert_eq!(decode_chain(table, &written), Some((name, Some(kind))));
    }
    let mut spec = None;
    if let Some((name, Some(found))) = decode_set(data)
        && name.len() <= NAME_LEN
    {
        let written = payload(NftOp::AddSet { table, set: name.clone(), spec: found.clone() });
        assert_eq!(decode_set(&written), Some((name, Some(found.clone()))));
        spec = Some(found);
    }
    let interval =
        SetSpec { key: [KeyField::Ipv4Addr].into_iter().collect(), interval: true, verdict_map: false };
    for spec in [spec, None, Some(interval)] {
        elements(table, spec, data);
    }
    // Datagrams and nests of any shape end.
    for message in Messages(data) {
        assert!(Attrs(message.payload).count() <= data.len());
    }
}

fn elements(table: Table, spec: Option<SetSpec>, data: &[u8]) {
    let dumped = decode_elements(data);
    let keys: BTreeSet<(&Data, bool)> = dumped.iter().map(|d| d.identity()).collect();
    let len = keys.first().map_or(0, |(key, _)| key.len());
    // The kernel says each key once, and all keys of a set have one length; a reader checks the former.
    let is_possible = keys.len() == dumped.len()
        && (1..=KEY_LEN).contains(&len)
        && keys.iter().all(|(key, _)| key.len() == len);
    let actual = assemble(spec.clone(), dumped.clone());
    if !is_possible || actual.elements.is_empty() || actual.elements.iter().any(|e| !is_writable(e)) {
        return;
    }
    let written = payload(NftOp::AddElements {
        table,
        set: SmolStr::new_static("s"),
        elements: actual.elements.clone(),
    });
    let again = assemble(spec, decode_elements(&written));
    assert_eq!(again.elements, actual.elements);
}

fn is_writable(element: &Element) -> bool {
    match element {
        Element::Verdict { verdict: Verdict::Jump(chain) | Verdict::Goto(chain), .. } => {
            chain.len() <= NAME_LEN
        }
        _ => true,
    }
}

fn name_of(index: u32) -> Option<IfName> {
    if index == 0 { None } else { format!("if{index}").parse().ok() }
}

fn index_of(name: Option<&IfName>) -> u32 {
    name.and_then(|n| n.as_str().strip_prefix("if")?.parse().ok()).unwrap_or(0)
}

/// A message of rtnetlink, as each of the things that it can be.
pub fn rtnl(data: &[u8]) {
    let _ = (decoders::decode_link(data), decoders::decode_address(data));
    if let Some(route) = decoders::decode_route(data, name_of) {
        let written = decoders::encode_route(&route, index_of(route.device.as_ref()));
        assert_eq!(decoders::decode_route(&written, name_of), Some(route));
    }
    if let Some(neighbour) = decoders::decode_neighbour(data, name_of) {
        let written = decoders::encode_neighbour(&neighbour, index_of(Some(&neighbour.key.device)));
        // Whatever is written is permanent.
        let permanent = Neighbour { permanent: true, ..neighbour };
        assert_eq!(decoders::decode_neighbour(&written, name_of), Some(permanent));
    }
    if let Some(entry) = decoders::decode_fdb(data, name_of) {
        let written = decoders::encode_fdb(&entry, index_of(Some(&entry.key.device)));
        assert_eq!(decoders::decode_fdb(&written, name_of), Some(FdbEntry { permanent: true, ..entry }));
    }
    if let Some(vxlan) = decoders::decode_vxlan(data, name_of) {
        let parent = index_of(vxlan.parent.as_ref());
        let tunnel = Tunnel {
            name: IfName::from_str("vxlan.calico").expect("a legal name"),
            kind: TunnelKind::Vxlan(vxlan.clone()),
            mac: None,
            mtu: 1450,
            up: true,
            checksum_offload: false,
        };
        let written = decoders::encode_vxlan(&tunnel, Some(parent).filter(|index| *index != 0));
        assert_eq!(decoders::decode_vxlan(&written, name_of), Some(vxlan));
    }
    if let Some(rule) = decoders::decode_ip_rule(data) {
        // A rule without a mask asks for no mark.
        let rule = if rule.mask == 0 { IpRule { mark: 0, ..rule } } else { rule };
        assert_eq!(decoders::decode_ip_rule(&decoders::encode_ip_rule(&rule)), Some(rule));
    }
}

/// A datagram of events; the names of interfaces are learnt on the way. The kinds are those that the monitor hears of.
pub fn monitor(data: &[u8]) {
    let mut names = FxHashMap::default();
    for message in Messages(data) {
        let _ = decoders::decode_event(&mut names, message.kind, message.payload);
        let _ = decoders::decode_event(&mut names, 16 + message.kind % 10, message.payload);
    }
    if let Some((kind, payload)) = choice(data) {
        let _ = decoders::decode_event(&mut names, 16 + (kind % 10) as u16, payload);
    }
}

/// A connection of a dump.
pub fn conntrack(data: &[u8]) {
    let wanted: HashSet<IpAddr> =
        HashSet::from([IpAddr::from([0; 4]), IpAddr::from([0; 16]), [10, 0, 0, 1].into()]);
    let concerned = decoders::decode_connection(data, &wanted);
    assert!(!concerned || data.len() > 4);
    assert!(!decoders::decode_connection(data, &HashSet::new()), "nobody's address is in it");
}

/// What we write ourselves, which the kernel says back in the same form.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let set = |key: &[KeyField], interval, verdict_map| NftOp::AddSet {
        table: Table::Inet,
        set: "s".into(),
        spec: SetSpec { key: key.iter().copied().collect(), interval, verdict_map },
    };
    let add = |elements| NftOp::AddElements { table: Table::Inet, set: "s".into(), elements };
    let data = |bytes: &[u8]| Data::from_slice(bytes);
    let base = |hook, chain_type| ChainKind::Base { hook, priority: -5, chain_type };
    let chain = |table, kind| NftOp::AddChain { table, chain: "c".into(), kind };
    let NamedRule { id, rule } = Rule { exprs: Vec::new(), comment: "x".into() }.into();
    let rule = NftOp::AddRule { table: Table::Inet, chain: "c".into(), place: Place::Last, rule, id };
    let ops = [
        NftOp::AddTable(Table::Inet),
        chain(Table::Inet, ChainKind::Regular),
        chain(Table::Inet, base(Hook::Forward, ChainType::Filter)),
        chain(Table::Inet, base(Hook::Postrouting, ChainType::Nat)),
        chain(Table::Arp, base(Hook::ArpInput, ChainType::Filter)),
        rule,
        set(&[KeyField::Ipv4Addr], true, false),
        set(&[KeyField::Ipv6Addr, KeyField::InetProto, KeyField::InetService], true, false),
        set(&[KeyField::IfName], false, true),
        add(vec![Element::Exact(data(&[10, 0, 0, 1])), Element::Exact(data(&[10, 0, 0, 2]))]),
        add(vec![
            Element::Interval { first: data(&[10, 0, 0, 0]), last: data(&[10, 255, 255, 255]) },
            Element::Interval { first: data(&[192, 0, 0, 0]), last: data(&[255; 4]) },
        ]),
        add(vec![
            Element::Verdict { key: data(&[b'c'; 16]), verdict: Verdict::Jump("c".into()) },
            Element::Verdict { key: data(&[b'd'; 16]), verdict: Verdict::Drop },
        ]),
    ];
    let route = |destination: &str, device, gateway| Route {
        key: RouteKey { table: MAIN_TABLE, destination: destination.parse().expect("a prefix"), priority: 7 },
        kind: RouteKind::Unicast,
        protocol: 80,
        scope: 253,
        device,
        gateway,
        onlink: true,
        source: gateway,
    };
    let neighbour = |address| Neighbour {
        key: NeighbourKey { device: name_of(3).expect("a name"), address },
        mac: Some(Mac::HOST_VETH),
        permanent: true,
    };
    let rule = IpRule { family: Family::V4, priority: 99, mark: 1, mask: 1, invert: true, table: 1000 };
    let v6 = IpAddr::from([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    let messages = vec![
        decoders::encode_route(&route("10.0.0.1/32", name_of(3), None), 3),
        decoders::encode_route(&route("fd00::/64", name_of(4), Some(v6)), 4),
        decoders::encode_route(&route("0.0.0.0/0", None, Some([10, 0, 0, 1].into())), 0),
        decoders::encode_neighbour(&neighbour([10, 0, 0, 1].into()), 3),
        decoders::encode_neighbour(&neighbour(v6), 3),
        decoders::encode_ip_rule(&rule),
    ];
    let mut datagram = calico_linux::attr::Writer::new();
    datagram.message(16, 0, 1, |w| {
        // An interface of number 3 that is up, by the name if3.
        w.raw(&[0, 0, 0, 0, 3, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0]);
        w.text(3, "if3");
        w.u32(4, 1500);
        w.attr(1, &[2; 6]);
    });
    for (kind, message) in [(24, &messages[0]), (25, &messages[1])] {
        datagram.message(kind, 0, 1, |w| w.raw(message));
    }
    datagram.message(20, 0, 1, |w| {
        w.raw(&[2, 24, 0, 0, 3, 0, 0, 0]);
        w.attr(2, &[10, 0, 0, 1]);
    });
    let mut connection = calico_linux::attr::Writer::new();
    connection.raw(&[2, 0, 0, 0]);
    for tuple in [1, 2] {
        connection.nest(tuple, |w| {
            w.nest(1, |w| {
                w.attr(1, &[10, 0, 0, 1]);
                w.attr(2, &[10, 0, 0, 2]);
            });
        });
    }
    connection.attr(12, &[0, 0, 0, 9]);
    vec![
        ("nft", ops.into_iter().map(payload).collect()),
        ("rtnl", messages.clone()),
        ("monitor", vec![datagram.bytes().to_vec()]),
        ("conntrack", vec![connection.bytes().to_vec()]),
    ]
}
