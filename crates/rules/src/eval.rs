//! The evaluator: what the IR does to a packet, and why.
//!
//! It knows the IR only, none of its renderings: tests hold the renderings against it. Sets
//! come as their elements; conntrack's and the routing table's answers come with the packet.

use std::net::IpAddr;

use calico_net::{Family, Protocol};
use smol_str::SmolStr;

use crate::ir::{Action, End, Match, Rule, ct};
use crate::nft::{ChainType, Data, Hook, Verdict};
use crate::sets;

pub mod ruleset;

pub use ruleset::{Contents, Ruleset};

/// What follows the IP header, as far as rules can read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Header {
    /// TCP, UDP, SCTP: source and destination port.
    Ports(u16, u16),
    /// ICMP or ICMPv6: type and code.
    Icmp(u8, u8),
    /// Nothing readable: a later fragment, or another protocol.
    Opaque,
}

/// A packet and what the kernel knows about it. Both addresses are of one family.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Packet {
    /// From.
    pub source: IpAddr,
    /// To.
    pub destination: IpAddr,
    /// Transport protocol.
    pub protocol: u8,
    /// Transport header.
    pub header: Header,
    /// Where it came in; empty if it started here.
    pub in_interface: SmolStr,
    /// Where it goes out; empty before routing and if it ends here.
    pub out_interface: SmolStr,
    /// One conntrack state ([`ct`]).
    pub ct_state: u32,
    /// Its connection's destination was translated.
    pub dnatted: bool,
    /// The packet mark.
    pub mark: u32,
    /// The way back to its source leads through its input interface.
    pub reverse_path: bool,
    /// Its source is this host's address.
    pub source_local: bool,
    /// Its destination is this host's address.
    pub destination_local: bool,
}

impl Packet {
    /// A new connection's packet, routed back as it came, on no interface yet.
    pub fn new(source: IpAddr, destination: IpAddr, protocol: Protocol, header: Header) -> Packet {
        Packet {
            source,
            destination,
            protocol: protocol.number(),
            header,
            in_interface: SmolStr::default(),
            out_interface: SmolStr::default(),
            ct_state: ct::NEW,
            dnatted: false,
            mark: 0,
            reverse_path: true,
            source_local: false,
            destination_local: false,
        }
    }

    /// Its family.
    pub fn family(&self) -> Family {
        Family::of(self.source)
    }

    /// Whether it is ICMP of its own family.
    fn is_icmp(&self) -> bool {
        let of_family = match self.family() {
            Family::V4 => Protocol::ICMP,
            Family::V6 => Protocol::ICMPV6,
        };
        self.protocol == of_family.number()
    }

    fn address(&self, end: End) -> IpAddr {
        match end {
            End::Source => self.source,
            End::Destination => self.destination,
        }
    }

    fn port(&self, end: End) -> Option<u16> {
        match (self.header, end) {
            (Header::Ports(source, _), End::Source) => Some(source),
            (Header::Ports(_, destination), End::Destination) => Some(destination),
            _ => None,
        }
    }
}

/// How a packet leaves a chain, a hook, or this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// A rule accepted it.
    Accept,
    /// A rule dropped it.
    Drop,
    /// A rule refused it.
    Reject,
    /// No rule decided: it goes on.
    Continue,
}

impl Fate {
    /// Whether it is gone.
    pub fn is_gone(self) -> bool {
        matches!(self, Fate::Drop | Fate::Reject)
    }
}

/// A rule that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its chain.
    pub chain: SmolStr,
    /// Its place in the chain, from 0.
    pub index: usize,
    /// How deep the chain was entered; base chains are 0.
    pub depth: usize,
    /// The rule.
    pub rule: Rule,
}

/// A ruleset that the kernel would have refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// A rule leads to a chain that is not there.
    #[error("chain {0} does not exist")]
    NoChain(SmolStr),
    /// Chains nest deeper than the kernel allows, or in a circle.
    #[error("chain {0} is nested too deeply")]
    TooDeep(SmolStr),
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// How it left.
    pub fate: Fate,
    /// The packet as it left: its mark, and its state if it is no longer tracked.
    pub packet: Packet,
    /// It is masqueraded, or its source becomes this address.
    pub source_nat: Option<Option<IpAddr>>,
    /// Every rule that matched, in order.
    pub trace: Vec<Step>,
    /// Why the walk ended early; the fate is then [`Fate::Drop`].
    pub broken: Option<Broken>,
}

/// NFT_JUMP_STACK_SIZE (net/netfilter/nf_tables.h).
const KERNEL_DEPTH: usize = 16;

/// The hooks that a packet meets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Journey {
    /// Through this host.
    Forward,
    /// To this host.
    Input,
    /// From this host.
    Output,
}

impl Journey {
    fn hooks(self) -> &'static [Hook] {
        match self {
            Journey::Forward => &[Hook::Prerouting, Hook::Forward, Hook::Postrouting],
            Journey::Input => &[Hook::Prerouting, Hook::Input],
            Journey::Output => &[Hook::Output, Hook::Postrouting],
        }
    }
}

/// How a chain ended.
enum Flow {
    Decided(Fate),
    Back,
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    outcome: Outcome,
}

impl Ruleset {
    /// Runs a packet through one chain, as if it were a base chain.
    pub fn run_chain(&self, chain: &str, packet: Packet) -> Outcome {
        let outcome =
            Outcome { fate: Fate::Continue, packet, source_nat: None, trace: Vec::new(), broken: None };
        let mut walk = Walk { ruleset: self, outcome };
        if let Flow::Decided(fate) = walk.enter(chain, 0) {
            walk.outcome.fate = fate;
        }
        walk.outcome
    }

    /// Runs a packet through all base chains of all hooks of its journey. What it came in by and goes out by must be
    /// set; each hook sees only what the kernel knows by then.
    pub fn run(&self, journey: Journey, packet: Packet) -> Outcome {
        let out_interface = packet.out_interface.clone();
        let mut total =
            Outcome { fate: Fate::Continue, packet, source_nat: None, trace: Vec::new(), broken: None };
        for hook in journey.hooks() {
            let routed = *hook != Hook::Prerouting;
            total.packet.out_interface = if routed { out_interface.clone() } else { SmolStr::default() };
            for (chain, chain_type) in self.base_chains(*hook) {
                if chain_type == ChainType::Nat && total.packet.ct_state != ct::NEW {
                    continue;
                }
                let Outcome { fate, packet, source_nat, trace, broken } =
                    self.run_chain(&chain.name, total.packet);
                total.packet = packet;
                total.trace.extend(trace);
                total.source_nat = total.source_nat.or(source_nat);
                if fate.is_gone() {
                    return Outcome { fate, broken, ..total };
                }
                total.fate = fate;
            }
        }
        total
    }
}

impl Walk<'_> {
    fn enter(&mut self, name: &str, depth: usize) -> Flow {
        let ruleset = self.ruleset;
        let Some(chain) = ruleset.chains.get(name) else {
            return self.refuse(Broken::NoChain(name.into()));
        };
        if depth >= KERNEL_DEPTH {
            return self.refuse(Broken::TooDeep(name.into()));
        }
        for (index, rule) in chain.rules.iter().enumerate() {
            if !rule.matches.iter().all(|m| holds(m, &self.outcome.packet, ruleset)) {
                continue;
            }
            self.outcome.trace.push(Step { chain: chain.name.clone(), index, depth, rule: rule.clone() });
            if let Some(flow) = self.act(rule, depth) {
                return flow;
            }
        }
        Flow::Back
    }

    fn refuse(&mut self, broken: Broken) -> Flow {
        self.outcome.broken = Some(broken);
        Flow::Decided(Fate::Drop)
    }

    /// What a rule does; `None` to go on with the next rule.
    fn act(&mut self, rule: &Rule, depth: usize) -> Option<Flow> {
        for action in &rule.actions {
            match action {
                Action::Accept => return Some(Flow::Decided(Fate::Accept)),
                Action::Drop => return Some(Flow::Decided(Fate::Drop)),
                Action::Reject => return Some(Flow::Decided(Fate::Reject)),
                Action::Return => return Some(Flow::Back),
                Action::Jump(to) => {
                    if let decided @ Flow::Decided(_) = self.enter(to, depth + 1) {
                        return Some(decided);
                    }
                }
                Action::Goto(to) => return Some(self.enter(to, depth + 1)),
                Action::GotoByInInterface { map } => {
                    let key = sets::interface_key(&self.outcome.packet.in_interface);
                    if let Some(flow) = self.by_map(map, &key, depth) {
                        return Some(flow);
                    }
                }
                Action::GotoByOutInterface { map } => {
                    let key = sets::interface_key(&self.outcome.packet.out_interface);
                    if let Some(flow) = self.by_map(map, &key, depth) {
                        return Some(flow);
                    }
                }
                Action::SetMark { mask, value } => {
                    let mark = &mut self.outcome.packet.mark;
                    *mark = (*mark & !mask) | value;
                }
                Action::Log { .. } => {}
                Action::NoTrack => self.outcome.packet.ct_state = ct::UNTRACKED,
                Action::Masquerade { .. } => {
                    self.outcome.source_nat = Some(None);
                    return Some(Flow::Decided(Fate::Accept));
                }
                Action::Snat { addr, .. } => {
                    if Family::of(*addr) != self.outcome.packet.family() {
                        return None;
                    }
                    self.outcome.source_nat = Some(Some(*addr));
                    return Some(Flow::Decided(Fate::Accept));
                }
            }
        }
        None
    }

    fn by_map(&mut self, map: &SmolStr, key: &Data, depth: usize) -> Option<Flow> {
        let verdict = self.ruleset.sets.get(map)?.verdict(key)?;
        Some(match verdict {
            Verdict::Accept => Flow::Decided(Fate::Accept),
            Verdict::Drop => Flow::Decided(Fate::Drop),
            Verdict::Return => Flow::Back,
            Verdict::Goto(to) => self.enter(to, depth + 1),
            Verdict::Jump(to) => match self.enter(to, depth + 1) {
                Flow::Back => return None,
                decided => decided,
            },
        })
    }
}

/// Whether a condition holds for a packet.
pub fn holds(matched: &Match, packet: &Packet, ruleset: &Ruleset) -> bool {
    let contains = |set: &SmolStr, key: &Data| ruleset.sets.get(set).is_some_and(|s| s.contains(key));
    match matched {
        Match::Family(family) => packet.family() == *family,
        Match::Protocol { protocol, invert } => (packet.protocol == protocol.number()) != *invert,
        Match::Icmp { family, icmp, invert } => match packet.header {
            Header::Icmp(icmp_type, code) if packet.family() == *family && packet.is_icmp() => {
                let same = icmp.icmp_type == icmp_type && icmp.code.is_none_or(|c| c == code);
                same != *invert
            }
            _ => false,
        },
        Match::Net { end, net, invert } => {
            packet.family() == net.family() && net.contains(packet.address(*end)) != *invert
        }
        Match::InSet { end, family, set, invert } => {
            packet.family() == *family && contains(set, &sets::address_key(packet.address(*end))) != *invert
        }
        Match::Port { end, transport, range, invert } => {
            transport.includes(packet.protocol)
                && packet.port(*end).is_some_and(|port| range.contains(port) != *invert)
        }
        Match::PortInSet { end, transport, set, invert } => {
            let inside = |port: u16| contains(set, &Data::from_slice(&port.to_be_bytes()));
            transport.includes(packet.protocol)
                && packet.port(*end).is_some_and(|port| inside(port) != *invert)
        }
        Match::ProtocolPortInSet { end, set } => match (packet.port(*end), Protocol::new(packet.protocol)) {
            (Some(port), Some(protocol)) => contains(set, &sets::protocol_port_key(protocol, port)),
            _ => false,
        },
        Match::AddrPortInSet { end, family, transport, set, invert } => {
            match (packet.port(*end), Protocol::new(packet.protocol)) {
                (Some(port), Some(protocol)) => {
                    let key = sets::addr_port_key(packet.address(*end), protocol, port);
                    packet.family() == *family
                        && transport.includes(packet.protocol)
                        && contains(set, &key) != *invert
                }
                _ => false,
            }
        }
        Match::CtState(states) => packet.ct_state & states != 0,
        Match::Dnatted => packet.dnatted && packet.ct_state != ct::UNTRACKED,
        Match::InInterface { interface, invert } => interface.matches(&packet.in_interface) != *invert,
        Match::OutInterface { interface, invert } => interface.matches(&packet.out_interface) != *invert,
        Match::Mark { mask, value, invert } => (packet.mark & mask == *value) != *invert,
        Match::ReversePathFails => !packet.reverse_path,
        Match::SourceLocal => packet.source_local,
        Match::DestinationLocal => packet.destination_local,
        // An IP packet is no ARP packet.
        Match::ArpSenderInSet { .. } => false,
    }
}

#[cfg(test)]
mod tests;
