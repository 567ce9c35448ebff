//! What a policy means (spec 2 §5.6), word for word, with no thought of a kernel.

use std::collections::HashMap;
use std::net::IpAddr;

use calico_calc::change::{Action, IpSetId, Member, Rule, Side};
use calico_net::{Family, Protocol};

use crate::eval::{Header, Packet};

pub(super) type Members = HashMap<IpSetId, Vec<Member>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    Allow,
    Deny,
    Pass,
    Nothing,
}

pub(super) fn decide(rules: &[Rule], packet: &Packet, members: &Members) -> Decision {
    for rule in rules {
        if !matches(rule, packet, members) {
            continue;
        }
        match rule.action {
            Action::Allow => return Decision::Allow,
            Action::Deny => return Decision::Deny,
            Action::Pass => return Decision::Pass,
            Action::Log => {}
        }
    }
    Decision::Nothing
}

fn matches(rule: &Rule, packet: &Packet, members: &Members) -> bool {
    // A new field must be judged here too, or the reference lets everything pass that the renderer drops.
    let Rule {
        action: _,
        family: only,
        protocol,
        not_protocol,
        icmp: want,
        not_icmp,
        source: from,
        destination: to,
    } = rule;
    let family = Family::of(packet.source);
    if only.is_some_and(|f| f != family) {
        return false;
    }
    if protocol.is_some_and(|p| p.number() != packet.protocol) {
        return false;
    }
    if not_protocol.is_some_and(|p| p.number() == packet.protocol) {
        return false;
    }
    let icmp = match packet.header {
        Header::Icmp(t, c) => {
            let of_family = if family == Family::V4 { 1 } else { 58 };
            (packet.protocol == of_family).then_some((t, c))
        }
        _ => None,
    };
    if let Some(want) = want
        && !icmp.is_some_and(|(t, c)| t == want.icmp_type && want.code.is_none_or(|w| w == c))
    {
        return false;
    }
    if let Some(not) = not_icmp {
        match icmp {
            Some((t, c)) if t != not.icmp_type || not.code.is_some_and(|n| n != c) => {}
            _ => return false,
        }
    }
    let (source, destination) = match packet.header {
        Header::Ports(s, d) => (Some(s), Some(d)),
        _ => (None, None),
    };
    let any_protocol = protocol.is_none();
    side(from, any_protocol, packet.source, source, packet, members)
        && side(to, any_protocol, packet.destination, destination, packet, members)
}

fn side(
    side: &Side,
    any_protocol: bool,
    addr: IpAddr,
    port: Option<u16>,
    packet: &Packet,
    members: &Members,
) -> bool {
    let in_set = |id: &IpSetId| {
        members[id].iter().any(|m| match m {
            Member::Net(net) => net.contains(addr),
            Member::IpPort { .. } => false,
        })
    };
    if !side.nets.is_empty() && !side.nets.iter().any(|n| n.contains(addr)) {
        return false;
    }
    if side.not_nets.iter().any(|n| n.contains(addr)) {
        return false;
    }
    // A rule with only prefixes of the other family says nothing about this one, even if it excludes them.
    let of_family = |n: &calico_net::Cidr| n.family() == Family::of(addr);
    if !side.not_nets.is_empty() && !side.not_nets.iter().any(of_family) {
        return false;
    }
    if !side.ip_sets.iter().all(in_set) || side.not_ip_sets.iter().any(in_set) {
        return false;
    }
    // "Not the port called so" takes away those that have it, and asks no more unless the rule names a protocol.
    let asks_ports = !(side.ports.is_empty()
        && side.named_ports.is_empty()
        && side.not_ports.is_empty()
        && (side.not_named_ports.is_empty() || any_protocol));
    let has_ports = Protocol::new(packet.protocol).is_some_and(|p| p.has_ports());
    let Some(port) = port.filter(|_| has_ports) else { return !asks_ports };
    let named = |id: &IpSetId| {
        members[id].iter().any(|m| match m {
            Member::IpPort { addr: a, protocol, port: p } => {
                *a == addr && protocol.number() == packet.protocol && *p == port
            }
            Member::Net(_) => false,
        })
    };
    let any_port = side.ports.is_empty() && side.named_ports.is_empty();
    let listed = side.ports.iter().any(|r| r.contains(port)) || side.named_ports.iter().any(named);
    if !any_port && !listed {
        return false;
    }
    !side.not_ports.iter().any(|r| r.contains(port)) && !side.not_named_ports.iter().any(named)
}
