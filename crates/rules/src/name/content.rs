//! What names are made of: values as bytes that mean the same to every build.
//!
//! The derived `Hash` would do within one build, but it feeds variants by their order and lengths by the machine's width.
//! Here each variant has a tag of its own that is never given to another, and nothing depends on the machine: an agent
//! of another build or another architecture finds its chains and sets by the names that it would choose itself.
//!
//! Every value says where it ends (fixed width, or its length first), so different values have different bytes.

use std::net::IpAddr;

use calico_net::{Cidr, Family, PortRange, Protocol};

use crate::ir::{Action, End, IcmpType, Interface, Limit, Match, Rule, Transport};
use crate::nft::{Element, KeyField, SetSpec, Verdict};

/// A value that a name is made of.
pub(crate) trait Content {
    /// Adds its bytes.
    fn write(&self, out: &mut Vec<u8>);
}

/// Adds a tag and the parts behind it.
macro_rules! put {
    ($out:ident, $($part:expr),+ $(,)?) => {{ $(Content::write(&$part, $out);)+ }};
}

macro_rules! numbers {
    ($($number:ty),+) => {
        $(impl Content for $number {
            fn write(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
        })+
    };
}
numbers!(u8, u16, u32, u64);

impl Content for bool {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl Content for str {
    fn write(&self, out: &mut Vec<u8>) {
        length(self.len()).write(out);
        out.extend_from_slice(self.as_bytes());
    }
}

impl<T: Content> Content for [T] {
    fn write(&self, out: &mut Vec<u8>) {
        length(self.len()).write(out);
        self.iter().for_each(|item| item.write(out));
    }
}

impl<T: Content> Content for Option<T> {
    fn write(&self, out: &mut Vec<u8>) {
        self.is_some().write(out);
        self.iter().for_each(|value| value.write(out));
    }
}

impl<T: Content + ?Sized> Content for &T {
    fn write(&self, out: &mut Vec<u8>) {
        (**self).write(out);
    }
}

impl<A: Content, B: Content> Content for (A, B) {
    fn write(&self, out: &mut Vec<u8>) {
        put!(out, self.0, self.1);
    }
}

/// A rule or a set of more parts than this is none that the kernel would take.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

impl Content for Family {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.number());
    }
}

impl Content for IpAddr {
    fn write(&self, out: &mut Vec<u8>) {
        Family::of(*self).write(out);
        match self {
            IpAddr::V4(addr) => out.extend_from_slice(&addr.octets()),
            IpAddr::V6(addr) => out.extend_from_slice(&addr.octets()),
        }
    }
}

impl Content for Cidr {
    fn write(&self, out: &mut Vec<u8>) {
        put!(out, self.addr(), self.prefix_len());
    }
}

impl Content for Protocol {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(self.number());
    }
}

impl Content for PortRange {
    fn write(&self, out: &mut Vec<u8>) {
        let PortRange { first, last } = self;
        put!(out, first, last);
    }
}

impl Content for End {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(match self {
            End::Source => 1,
            End::Destination => 2,
        });
    }
}

impl Content for Transport {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(match self {
            Transport::Tcp => 1,
            Transport::Udp => 2,
            Transport::Sctp => 3,
            Transport::Any => 4,
        });
    }
}

impl Content for Interface {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Interface::Is(name) => put!(out, 1_u8, **name),
            Interface::StartsWith(prefix) => put!(out, 2_u8, **prefix),
        }
    }
}

impl Content for IcmpType {
    fn write(&self, out: &mut Vec<u8>) {
        let IcmpType { icmp_type, code } = self;
        put!(out, icmp_type, code);
    }
}

impl Content for Limit {
    fn write(&self, out: &mut Vec<u8>) {
        let Limit { rate, per_secs, burst } = self;
        put!(out, rate, per_secs, burst);
    }
}

impl Content for Match {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Match::Family(family) => put!(out, 1_u8, family),
            Match::Protocol { protocol, invert } => put!(out, 2_u8, protocol, invert),
            Match::Icmp { family, icmp, invert } => put!(out, 3_u8, family, icmp, invert),
            Match::Net { end, net, invert } => put!(out, 4_u8, end, net, invert),
            Match::InSet { end, family, set, invert } => put!(out, 5_u8, end, family, **set, invert),
            Match::Port { end, transport, range, invert } => put!(out, 6_u8, end, transport, range, invert),
            Match::PortInSet { end, transport, set, invert } => {
                put!(out, 7_u8, end, transport, **set, invert);
            }
            Match::ProtocolPortInSet { end, set } => put!(out, 8_u8, end, **set),
            Match::AddrPortInSet { end, family, transport, set, invert } => {
                put!(out, 9_u8, end, family, transport, **set, invert);
            }
            Match::CtState(bits) => put!(out, 10_u8, bits),
            Match::Dnatted => out.push(11),
            Match::InInterface { interface, invert } => put!(out, 12_u8, interface, invert),
            Match::OutInterface { interface, invert } => put!(out, 13_u8, interface, invert),
            Match::Mark { mask, value, invert } => put!(out, 14_u8, mask, value, invert),
            Match::ReversePathFails => out.push(15),
            Match::SourceLocal => out.push(16),
            Match::DestinationLocal => out.push(17),
            Match::ArpSenderInSet { set } => put!(out, 18_u8, **set),
        }
    }
}

impl Content for Action {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Action::Accept => out.push(1),
            Action::Drop => out.push(2),
            Action::Reject => out.push(3),
            Action::Return => out.push(4),
            Action::Jump(chain) => put!(out, 5_u8, **chain),
            Action::Goto(chain) => put!(out, 6_u8, **chain),
            Action::GotoByInInterface { map } => put!(out, 7_u8, **map),
            Action::GotoByOutInterface { map } => put!(out, 8_u8, **map),
            Action::SetMark { mask, value } => put!(out, 9_u8, mask, value),
            Action::Log { prefix, limit } => put!(out, 10_u8, **prefix, limit),
            Action::NoTrack => out.push(11),
            Action::Masquerade { ports } => put!(out, 12_u8, ports),
            Action::Snat { addr, ports } => put!(out, 13_u8, addr, ports),
        }
    }
}

impl Content for Rule {
    fn write(&self, out: &mut Vec<u8>) {
        let Rule { matches, counter, actions, comment } = self;
        put!(out, matches[..], counter, actions[..], **comment);
    }
}

impl Content for KeyField {
    fn write(&self, out: &mut Vec<u8>) {
        out.push(match self {
            KeyField::Ipv4Addr => 1,
            KeyField::Ipv6Addr => 2,
            KeyField::InetProto => 3,
            KeyField::InetService => 4,
            KeyField::IfName => 5,
        });
    }
}

impl Content for SetSpec {
    fn write(&self, out: &mut Vec<u8>) {
        let SetSpec { key, interval, verdict_map } = self;
        put!(out, key[..], interval, verdict_map);
    }
}

impl Content for Verdict {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Verdict::Accept => out.push(1),
            Verdict::Drop => out.push(2),
            Verdict::Return => out.push(3),
            Verdict::Jump(chain) => put!(out, 4_u8, **chain),
            Verdict::Goto(chain) => put!(out, 5_u8, **chain),
        }
    }
}

impl Content for Element {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Element::Exact(key) => put!(out, 1_u8, key[..]),
            Element::Interval { first, last } => put!(out, 2_u8, first[..], last[..]),
            Element::Verdict { key, verdict } => put!(out, 3_u8, key[..], verdict),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;
    use smol_str::SmolStr;

    use super::*;
    use crate::ir::ct;
    use crate::name::by_content;

    /// These names are in kernels: a change of any of them makes every agent that is brought up to date build such
    /// chains anew.
    #[test]
    fn names_are_the_same_in_every_build() {
        let net = |text: &str| text.parse().unwrap();
        let established = Rule::new([Match::CtState(ct::ESTABLISHED | ct::RELATED)], [Action::Accept]);
        let web = Rule::new(
            [
                Match::Net { end: End::Source, net: net("10.0.0.0/8"), invert: true },
                Match::Port {
                    end: End::Destination,
                    transport: Transport::Tcp,
                    range: PortRange { first: 80, last: 90 },
                    invert: false,
                },
            ],
            [Action::SetMark { mask: 0x10, value: 0x10 }, Action::Return],
        )
        .comment("web")
        .counted();
        let set =
            SetSpec { key: [KeyField::Ipv4Addr].into_iter().collect(), interval: false, verdict_map: false };
        let elements = [Element::Exact([10, 0, 0, 1].into_iter().collect())];
        let names = [
            by_content("cali-tw-", &[][..] as &[Rule]),
            by_content("cali-tw-", &[established][..]),
            by_content("cali-r-", &("cali-pi-gnp/web", &[web][..])),
            by_content("cali40s:", &(&set, &elements[..])),
        ];
        assert_eq!(
            names,
            [
                "cali-tw-_3z9hmASpL9tAVxktxD3",
                "cali-tw-_7a5WjrNS_NnOx7Rkxqn",
                "cali-r-_k4gvtuDdIa3cjfUJesfM",
                "cali40s:_Lp-DrIECqi6UhP26hvC",
            ]
        );
    }

    fn matches() -> impl Strategy<Value = Vec<Rule>> {
        let text = || "[ab]{0,2}".prop_map(SmolStr::from);
        let condition = prop_oneof![
            (text(), any::<bool>()).prop_map(|(set, invert)| Match::InSet {
                end: End::Source,
                family: Family::V4,
                set,
                invert
            }),
            text().prop_map(|set| Match::ArpSenderInSet { set }),
            (0_u32..3).prop_map(Match::CtState),
            Just(Match::Dnatted),
        ];
        let action = prop_oneof![
            Just(Action::Drop),
            text().prop_map(Action::Jump),
            (text(), prop::option::of(0_u64..2)).prop_map(|(prefix, rate)| Action::Log {
                prefix,
                limit: rate.map(|rate| Limit { rate, per_secs: 1, burst: 1 })
            }),
        ];
        let conditions = prop::collection::vec(condition, 0..3);
        let actions = prop::collection::vec(action, 0..3);
        let rule =
            (conditions, actions, text()).prop_map(|(m, a, comment)| Rule::new(m, a).comment(&comment));
        prop::collection::vec(rule, 0..3)
    }

    proptest! {
        /// Different contents have different bytes: two chains of one name would be one chain.
        #[test]
        fn different_contents_differ(contents in prop::collection::vec(matches(), 0..40)) {
            let mut seen: HashMap<Vec<u8>, Vec<Rule>> = HashMap::new();
            for content in contents {
                let mut bytes = Vec::new();
                content[..].write(&mut bytes);
                let first = seen.entry(bytes).or_insert_with(|| content.clone());
                prop_assert_eq!(&*first, &content);
            }
        }
    }
}
