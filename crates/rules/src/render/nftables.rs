//! IR to nf_tables expressions: registers, guards, byte order.
//!
//! Every load of packet bytes is preceded, in the same rule, by the guard that the IR's match implies: `meta nfproto`
//! before an address, `meta l4proto` before a port or ICMP type. A rule emits each guard once. Later fragments have no
//! transport header: the kernel ends the rule at the load, so a match on ports, inverted or not, fails on them.

use calico_net::{Cidr, Family, PortRange};
use smallvec::smallvec;
use smol_str::SmolStr;

use crate::ir::{self, Action, End, IcmpType, Interface, Limit, Match, Transport};
use crate::name::chain;
use crate::nft::{Chain, CmpOp, CtKey, Data, Expr, Fib, MetaKey, PayloadBase, Reg, Rule, Verdict};
use crate::sets;

/// NFPROTO_IPV4, NFPROTO_IPV6 (linux/netfilter.h).
fn nfproto(family: Family) -> u8 {
    match family {
        Family::V4 => 2,
        Family::V6 => 10,
    }
}

/// RTN_LOCAL (linux/rtnetlink.h).
const RTN_LOCAL: u32 = 2;
/// IPS_DST_NAT (linux/netfilter/nf_conntrack_common.h).
const IPS_DST_NAT: u32 = 32;
/// LOG_NOTICE: the level that Calico logs with.
const LOG_NOTICE: u32 = 5;

/// A chain in the kernel's words.
pub fn render_chain(chain: &ir::Chain) -> Chain {
    let ir::Chain { name: _, kind, rules } = chain;
    Chain { kind: *kind, rules: rules.iter().map(render_rule).collect() }
}

/// A rule in the kernel's words.
pub fn render_rule(rule: &ir::Rule) -> Rule {
    let ir::Rule { matches, counter, actions, comment } = rule;
    let mut lowering = Lowering::default();
    matches.iter().for_each(|m| lowering.add_match(m));
    if *counter {
        lowering.exprs.push(Expr::Counter);
    }
    actions.iter().for_each(|a| lowering.add_action(a));
    Rule { exprs: lowering.exprs, comment: comment.clone() }
}

#[derive(Default)]
struct Lowering {
    exprs: Vec<Expr>,
    /// Guards that this rule has established.
    family: Vec<Family>,
    transport: Vec<Transport>,
    protocol: Vec<u8>,
}

/// Everything is loaded into the first register and used at once.
const R: Reg = Reg(0);

fn host_order(value: u32) -> Data {
    Data::from_slice(&value.to_ne_bytes())
}

fn equality(invert: bool) -> CmpOp {
    if invert { CmpOp::Neq } else { CmpOp::Eq }
}

impl Lowering {
    fn cmp(&mut self, op: CmpOp, data: impl Into<Data>) {
        self.exprs.push(Expr::Cmp { op, sreg: R, data: data.into() });
    }

    fn meta(&mut self, key: MetaKey) {
        self.exprs.push(Expr::Meta { key, dreg: R });
    }

    fn lookup(&mut self, set: &SmolStr, invert: bool) {
        self.exprs.push(Expr::Lookup { set: set.clone(), sreg: R, invert });
    }

    fn guard_family(&mut self, family: Family) {
        if !self.family.contains(&family) {
            self.family.push(family);
            self.meta(MetaKey::NfProto);
            self.cmp(CmpOp::Eq, [nfproto(family)].as_slice());
        }
    }

    fn guard_protocol(&mut self, protocol: u8) {
        if !self.protocol.contains(&protocol) {
            self.protocol.push(protocol);
            self.meta(MetaKey::L4Proto);
            self.cmp(CmpOp::Eq, [protocol].as_slice());
        }
    }

    fn guard_transport(&mut self, transport: Transport) {
        if self.transport.contains(&transport) {
            return;
        }
        self.transport.push(transport);
        match transport.protocols() {
            [one] => self.guard_protocol(one.number()),
            _ => {
                self.meta(MetaKey::L4Proto);
                self.lookup(&SmolStr::new_static(chain::PORT_PROTOCOLS), false);
            }
        }
    }

    /// Loads an address and returns its length.
    fn address(&mut self, end: End, family: Family, dreg: Reg) -> u32 {
        let (offset, len) = match (family, end) {
            (Family::V4, End::Source) => (12, 4),
            (Family::V4, End::Destination) => (16, 4),
            (Family::V6, End::Source) => (8, 16),
            (Family::V6, End::Destination) => (24, 16),
        };
        self.guard_family(family);
        self.exprs.push(Expr::Payload { base: PayloadBase::Network, offset, len, dreg });
        len
    }

    fn port(&mut self, end: End, transport: Transport, dreg: Reg) {
        self.guard_transport(transport);
        let offset = match end {
            End::Source => 0,
            End::Destination => 2,
        };
        self.exprs.push(Expr::Payload { base: PayloadBase::Transport, offset, len: 2, dreg });
    }

    fn net(&mut self, end: End, net: Cidr, invert: bool) {
        let family = net.family();
        if net.prefix_len() == 0 && !invert {
            self.guard_family(family);
            return;
        }
        let len = self.address(end, family, R);
        let key = sets::address_key(net.addr());
        if !net.is_host() {
            let last = sets::address_key(net.last());
            let mask = key.iter().zip(&last).map(|(first, last)| !(first ^ last)).collect();
            let xor = smallvec![0; len as usize];
            self.exprs.push(Expr::Bitwise { sreg: R, dreg: R, mask, xor });
        }
        self.cmp(equality(invert), key);
    }

    fn port_range(&mut self, range: PortRange, invert: bool) {
        let PortRange { first, last } = range;
        let bytes = |port: u16| Data::from_slice(&port.to_be_bytes());
        if first == last {
            self.cmp(equality(invert), bytes(first));
        } else if first == 0 && last == u16::MAX && !invert {
            // The load alone says that there are ports to read; the comparison is for the reader of the listing.
            self.cmp(CmpOp::Gte, bytes(0));
        } else {
            self.exprs.push(Expr::Range { invert, sreg: R, from: bytes(first), to: bytes(last) });
        }
    }

    fn icmp(&mut self, family: Family, icmp: IcmpType, invert: bool) {
        let IcmpType { icmp_type, code } = icmp;
        self.guard_family(family);
        self.guard_protocol(match family {
            Family::V4 => 1,
            Family::V6 => 58,
        });
        let bytes: Data = [icmp_type].into_iter().chain(code).collect();
        let len = bytes.len() as u32;
        self.exprs.push(Expr::Payload { base: PayloadBase::Transport, offset: 0, len, dreg: R });
        self.cmp(equality(invert), bytes);
    }

    fn interface(&mut self, key: MetaKey, interface: &Interface, invert: bool) {
        self.meta(key);
        let data = match interface {
            Interface::Is(name) => sets::interface_key(name),
            // Fewer bytes than the register holds compare as a prefix.
            Interface::StartsWith(prefix) => Data::from_slice(prefix.as_bytes()),
        };
        self.cmp(equality(invert), data);
    }

    /// `register & mask`, in host order.
    fn mask(&mut self, mask: u32) {
        let xor = host_order(0);
        self.exprs.push(Expr::Bitwise { sreg: R, dreg: R, mask: host_order(mask), xor });
    }

    fn fib(&mut self, lookup: Fib, result: u32) {
        self.exprs.push(Expr::Fib { lookup, dreg: R });
        self.cmp(CmpOp::Eq, host_order(result));
    }

    fn add_match(&mut self, matched: &Match) {
        match *matched {
            Match::Family(family) => self.guard_family(family),
            Match::Protocol { protocol, invert: false } => self.guard_protocol(protocol.number()),
            Match::Protocol { protocol, invert: true } => {
                self.meta(MetaKey::L4Proto);
                self.cmp(CmpOp::Neq, [protocol.number()].as_slice());
            }
            Match::Icmp { family, icmp, invert } => self.icmp(family, icmp, invert),
            Match::Net { end, net, invert } => self.net(end, net, invert),
            Match::InSet { end, family, ref set, invert } => {
                self.address(end, family, R);
                self.lookup(set, invert);
            }
            Match::Port { end, transport, range, invert } => {
                self.port(end, transport, R);
                self.port_range(range, invert);
            }
            Match::PortInSet { end, transport, ref set, invert } => {
                self.port(end, transport, R);
                self.lookup(set, invert);
            }
            Match::ProtocolPortInSet { end, ref set } => {
                self.guard_transport(Transport::Any);
                self.exprs.push(Expr::Meta { key: MetaKey::L4Proto, dreg: R });
                self.port(end, Transport::Any, Reg(1));
                self.lookup(set, false);
            }
            Match::AddrPortInSet { end, family, transport, ref set, invert } => {
                self.guard_family(family);
                self.guard_transport(transport);
                let words = (self.address(end, family, R) / 4) as u8;
                self.exprs.push(Expr::Meta { key: MetaKey::L4Proto, dreg: Reg(words) });
                self.port(end, transport, Reg(words + 1));
                self.lookup(set, invert);
            }
            Match::CtState(states) => {
                self.exprs.push(Expr::Ct { key: CtKey::State, dreg: R });
                self.mask(states);
                self.cmp(CmpOp::Neq, host_order(0));
            }
            Match::Dnatted => {
                self.exprs.push(Expr::Ct { key: CtKey::Status, dreg: R });
                self.mask(IPS_DST_NAT);
                self.cmp(CmpOp::Neq, host_order(0));
            }
            Match::InInterface { ref interface, invert } => {
                self.interface(MetaKey::IifName, interface, invert);
            }
            Match::OutInterface { ref interface, invert } => {
                self.interface(MetaKey::OifName, interface, invert);
            }
            Match::Mark { mask, value, invert } => {
                self.meta(MetaKey::Mark);
                self.mask(mask);
                self.cmp(equality(invert), host_order(value));
            }
            Match::ReversePathFails => self.fib(Fib::ReversePath, 0),
            Match::SourceLocal => self.fib(Fib::SourceType, RTN_LOCAL),
            Match::DestinationLocal => self.fib(Fib::DestinationType, RTN_LOCAL),
            Match::ArpSenderInSet { ref set } => self.arp_sender(set),
        }
    }

    /// RFC 826: hardware type, protocol type, lengths 6 and 4, operation, sender's MAC, sender's address. Only
    /// Ethernet and IPv4 have the address at offset 14.
    fn arp_sender(&mut self, set: &SmolStr) {
        self.exprs.push(Expr::Payload { base: PayloadBase::Network, offset: 0, len: 6, dreg: R });
        self.cmp(CmpOp::Eq, [0, 1, 8, 0, 6, 4].as_slice());
        self.exprs.push(Expr::Meta { key: MetaKey::OifName, dreg: R });
        self.exprs.push(Expr::Payload { base: PayloadBase::Network, offset: 14, len: 4, dreg: Reg(4) });
        self.lookup(set, false);
    }

    /// Loads the ports that NAT may choose from.
    fn nat_ports(&mut self, ports: Option<PortRange>) -> Option<(Reg, Reg)> {
        let PortRange { first, last } = ports?;
        let mut load = |dreg, port: u16| {
            self.exprs.push(Expr::Immediate { dreg, data: Data::from_slice(&port.to_be_bytes()) });
            dreg
        };
        Some((load(Reg(8), first), load(Reg(9), last)))
    }

    fn add_action(&mut self, action: &Action) {
        let expr = match action {
            Action::Accept => Expr::Verdict(Verdict::Accept),
            Action::Drop => Expr::Verdict(Verdict::Drop),
            Action::Reject => Expr::Reject,
            Action::Return => Expr::Verdict(Verdict::Return),
            Action::Jump(to) => Expr::Verdict(Verdict::Jump(to.clone())),
            Action::Goto(to) => Expr::Verdict(Verdict::Goto(to.clone())),
            Action::GotoByInInterface { map } => {
                self.meta(MetaKey::IifName);
                Expr::VerdictMap { map: map.clone(), sreg: R }
            }
            Action::GotoByOutInterface { map } => {
                self.meta(MetaKey::OifName);
                Expr::VerdictMap { map: map.clone(), sreg: R }
            }
            Action::SetMark { mask, value } => {
                self.meta(MetaKey::Mark);
                let (mask, xor) = (host_order(!mask), host_order(*value));
                self.exprs.push(Expr::Bitwise { sreg: R, dreg: R, mask, xor });
                Expr::SetMark { sreg: R }
            }
            Action::Log { prefix, limit } => {
                if let Some(Limit { rate, per_secs, burst }) = *limit {
                    self.exprs.push(Expr::Limit { rate, per_secs, burst });
                }
                Expr::Log { prefix: prefix.clone(), level: LOG_NOTICE }
            }
            Action::NoTrack => Expr::NoTrack,
            Action::Masquerade { ports } => Expr::Masquerade { ports: self.nat_ports(*ports) },
            Action::Snat { addr, ports } => {
                let family = Family::of(*addr);
                self.guard_family(family);
                self.exprs.push(Expr::Immediate { dreg: R, data: sets::address_key(*addr) });
                Expr::Snat { addr: R, family, ports: self.nat_ports(*ports) }
            }
        };
        self.exprs.push(expr);
    }
}
