//! What one rule of the API demands of a packet of one family: a conjunction of conditions and of alternatives.

use calico_calc::change::{Rule as PolicyRule, Side};
use calico_net::{Family, PortRange, Protocol};

use crate::fragment::{Part, Set};
use crate::ir::{End, Match, Transport};
use crate::sets;

/// All of `all` must hold, of each list in `any` at least one, and none of `none`. What the alternatives take for granted (the family,
/// a transport whose ports can be read) is part of `all`: turned round one by one they are complete.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    pub(super) all: Vec<Match>,
    pub(super) any: Vec<Vec<Match>>,
    /// Turned round these would ask more of a packet: that it has ports, and that they can be read.
    pub(super) none: Vec<Match>,
}

/// Ports as such: "has ports, and they can be read".
const ALL_PORTS: PortRange = PortRange { first: 0, last: u16::MAX };

/// An alternative turned round. Alternatives are only ever conditions that have such a form.
pub(super) fn inverted(alternative: &Match) -> Match {
    alternative.inverted().expect("alternatives are lookups of addresses and ports, which can be inverted")
}

impl Conditions {
    /// The conditions of a rule for packets of one family, or of any if the rule does not care; `None` if no packet of
    /// it can match. The constant sets that they need go to `part`.
    pub(super) fn of(rule: &PolicyRule, family: Option<Family>, part: &mut Part) -> Option<Conditions> {
        let PolicyRule {
            action: _,
            family: only,
            protocol,
            not_protocol,
            icmp,
            not_icmp,
            source,
            destination,
        } = rule;
        if only.is_some() && *only != family {
            return None;
        }
        let mut conditions = Conditions::default();
        conditions.all.extend(family.map(Match::Family));
        conditions.all.extend(protocol.map(|protocol| Match::Protocol { protocol, invert: false }));
        conditions.all.extend(not_protocol.map(|protocol| Match::Protocol { protocol, invert: true }));
        for (icmp, invert) in [(icmp, false), (not_icmp, true)] {
            if let (Some(icmp), Some(family)) = (icmp, family) {
                let of_family = if family == Family::V4 { Protocol::ICMP } else { Protocol::ICMPV6 };
                if protocol.is_some_and(|p| p != of_family) {
                    return None;
                }
                conditions.all.push(Match::Icmp { family, icmp: (*icmp).into(), invert });
            }
        }
        // Ports are the cheapest to look at, prefixes next, sets last.
        for (end, side) in [(End::Source, source), (End::Destination, destination)] {
            conditions.add_ports(end, side, *protocol, family, part)?;
        }
        for (end, side) in [(End::Source, source), (End::Destination, destination)] {
            if let Some(family) = family {
                conditions.add_nets(end, side, family, part)?;
            }
        }
        for (end, side) in [(End::Source, source), (End::Destination, destination)] {
            if let Some(family) = family {
                conditions.add_sets(end, side, family);
            }
        }
        Some(conditions)
    }

    /// `None` if the protocol has no ports: such a rule matches nothing.
    fn add_ports(
        &mut self,
        end: End,
        side: &Side,
        protocol: Option<Protocol>,
        family: Option<Family>,
        part: &mut Part,
    ) -> Option<()> {
        let Side { ports, named_ports, not_ports, not_named_ports, .. } = side;
        if [ports.len(), named_ports.len(), not_ports.len(), not_named_ports.len()] == [0; 4] {
            return Some(());
        }
        let transport = protocol.map_or(Some(Transport::Any), Transport::of)?;
        let mut take = |(matched, set): (Match, Option<Set>)| {
            set.into_iter().for_each(|s| part.add_set(s));
            matched
        };
        let named = |ids: &[calico_calc::change::IpSetId], invert| -> Vec<Match> {
            let sets = ids.iter().zip(family.into_iter().cycle());
            sets.map(|(id, family)| {
                let set = sets::exact_name(family, &id.0);
                Match::AddrPortInSet { end, family, transport, set, invert }
            })
            .collect()
        };
        let mut positive: Vec<Match> =
            sets::match_ports(end, transport, ports, false).map(&mut take).into_iter().collect();
        positive.extend(named(named_ports, false));
        match positive.len() {
            0 => {}
            1 => self.all.append(&mut positive),
            _ => {
                self.all.push(Match::Port { end, transport, range: ALL_PORTS, invert: false });
                self.any.push(positive);
            }
        }
        self.all.extend(sets::match_ports(end, transport, not_ports, true).map(&mut take));
        // Without a protocol a packet that has no ports, or none that can be read, has none of these.
        match protocol {
            Some(_) => self.all.extend(named(not_named_ports, true)),
            None => self.none.extend(named(not_named_ports, false)),
        }
        Some(())
    }

    /// `None` if no address of the family can match: so too where prefixes are given, even excluded ones, and all are of
    /// the other family (spec 2 §5.6).
    fn add_nets(&mut self, end: End, side: &Side, family: Family, part: &mut Part) -> Option<()> {
        for (nets, invert) in [(&side.nets, false), (&side.not_nets, true)] {
            let everything = |m: &Match| matches!(m, Match::Net { net, .. } if net.prefix_len() == 0);
            match sets::match_nets(end, nets, family, invert) {
                // Everything of the family: no condition, or one that nothing meets.
                Some((matched, _)) if everything(&matched) && invert => return None,
                Some((matched, _)) if everything(&matched) => {}
                Some((matched, set)) => {
                    set.into_iter().for_each(|s| part.add_set(s));
                    self.all.push(matched);
                }
                None if !nets.is_empty() => return None,
                None => {}
            }
        }
        Some(())
    }

    fn add_sets(&mut self, end: End, side: &Side, family: Family) {
        let both = |id: &calico_calc::change::IpSetId, invert| {
            let hash = sets::exact_name(family, &id.0);
            let nets = sets::nets_name(family, &id.0);
            [hash, nets].map(|set| Match::InSet { end, family, set, invert })
        };
        for id in &side.not_ip_sets {
            self.all.extend(both(id, true));
        }
        for id in &side.ip_sets {
            self.any.push(both(id, false).into());
        }
    }
}
