//! A small nf_tables machine: registers, packet bytes, sets; written from the kernel's behaviour, not from the renderer.

use std::collections::HashMap;
use std::net::IpAddr;

use smol_str::SmolStr;

use crate::eval::{Fate, Header, Packet};
use crate::fragment::Part;
use crate::nft::{
    Chain, ChainKind, CmpOp, CtKey, Element, Expr, Fib, Hook, KeyField, MetaKey, PayloadBase, SetSpec,
    Verdict,
};
use crate::render::render_chain;

/// The bytes of a packet from its IP header on, and where its transport header is, if it is there to be read.
struct Bytes {
    network: Vec<u8>,
    transport: Option<usize>,
}

fn bytes(packet: &Packet) -> Bytes {
    let mut network = match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut header = vec![0x45, 0, 0, 40, 0x12, 0x34, 0, 0, 64, packet.protocol, 0xab, 0xcd];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut header = vec![0x60, 0, 0, 0, 0, 20, packet.protocol, 64];
            header.extend(source.octets());
            header.extend(destination.octets());
            header
        }
        _ => panic!("one family per packet"),
    };
    let start = network.len();
    let fragment = packet.header == Header::Opaque && [1, 6, 17, 58, 132].contains(&packet.protocol);
    match packet.header {
        Header::Ports(source, destination) => {
            network.extend(source.to_be_bytes());
            network.extend(destination.to_be_bytes());
        }
        Header::Icmp(icmp_type, code) => network.extend([icmp_type, code, 0xff, 0xff]),
        Header::Opaque => network.extend([0, 80, 0, 80]),
    }
    network.extend([0; 16]);
    Bytes { network, transport: (!fragment).then_some(start) }
}

pub(super) struct Machine {
    chains: HashMap<SmolStr, Chain>,
    sets: HashMap<SmolStr, (SetSpec, Vec<Element>)>,
}

enum Stop {
    /// The rule does not match, or is done.
    Next,
    Verdict(Verdict),
    Rejected,
}

impl Machine {
    pub(super) fn new(part: &Part) -> Machine {
        let mut sets: HashMap<_, _> =
            part.sets.iter().map(|s| (s.name.clone(), (s.spec.clone(), s.elements.clone()))).collect();
        for (name, element) in &part.elements {
            sets.get_mut(name).expect("the set is declared").1.push(element.clone());
        }
        let chains = part.chains.iter().map(|c| (c.name.clone(), render_chain(c))).collect();
        Machine { chains, sets }
    }

    pub(super) fn base_chains(&self, hook: Hook) -> Vec<SmolStr> {
        let mut found: Vec<(i32, SmolStr)> = Vec::new();
        for (name, chain) in &self.chains {
            if let ChainKind::Base { hook: at, priority, .. } = chain.kind
                && at == hook
            {
                found.push((priority, name.clone()));
            }
        }
        found.sort();
        found.into_iter().map(|(_, name)| name).collect()
    }

    /// Runs a chain; the mark and the conntrack state change in place.
    pub(super) fn run(&self, chain: &str, packet: &mut Packet) -> Fate {
        match self.enter(chain, packet, 0) {
            Some(fate) => fate,
            None => Fate::Continue,
        }
    }

    fn enter(&self, name: &str, packet: &mut Packet, depth: usize) -> Option<Fate> {
        assert!(depth < 16, "the kernel refuses this depth");
        let chain = self.chains.get(name).unwrap_or_else(|| panic!("no chain {name}"));
        for rule in &chain.rules {
            match self.rule(&rule.exprs, packet) {
                Stop::Next => {}
                Stop::Rejected => return Some(Fate::Reject),
                Stop::Verdict(Verdict::Accept) => return Some(Fate::Accept),
                Stop::Verdict(Verdict::Drop) => return Some(Fate::Drop),
                Stop::Verdict(Verdict::Return) => return None,
                Stop::Verdict(Verdict::Jump(to)) => {
                    if let Some(fate) = self.enter(&to, packet, depth + 1) {
                        return Some(fate);
                    }
                }
                Stop::Verdict(Verdict::Goto(to)) => return self.enter(&to, packet, depth + 1),
            }
        }
        None
    }

    fn rule(&self, exprs: &[Expr], packet: &mut Packet) -> Stop {
        let mut r = [0u8; 64];
        let wire = bytes(packet);
        fn at(reg: &crate::nft::Reg) -> usize {
            usize::from(reg.0) * 4
        }
        fn store(r: &mut [u8; 64], reg: &crate::nft::Reg, data: &[u8]) {
            let start = at(reg);
            // The kernel clears the rest of the last register that it writes to.
            r[start..start + data.len().next_multiple_of(4)].fill(0);
            r[start..start + data.len()].copy_from_slice(data);
        }
        for expr in exprs {
            match expr {
                Expr::Meta { key, dreg } => {
                    let name = |text: &str| {
                        let mut padded = [0u8; 16];
                        padded[..text.len()].copy_from_slice(text.as_bytes());
                        padded
                    };
                    match key {
                        MetaKey::NfProto => {
                            store(&mut r, dreg, &[if packet.source.is_ipv4() { 2 } else { 10 }]);
                        }
                        MetaKey::L4Proto => store(&mut r, dreg, &[packet.protocol]),
                        MetaKey::Mark => store(&mut r, dreg, &packet.mark.to_ne_bytes()),
                        MetaKey::IifName => store(&mut r, dreg, &name(&packet.in_interface)),
                        MetaKey::OifName => store(&mut r, dreg, &name(&packet.out_interface)),
                    }
                }
                Expr::SetMark { sreg } => {
                    packet.mark = u32::from_ne_bytes(r[at(sreg)..at(sreg) + 4].try_into().unwrap());
                }
                Expr::Payload { base, offset, len, dreg } => {
                    let start = match base {
                        PayloadBase::Network => Some(0),
                        PayloadBase::Transport => wire.transport,
                        PayloadBase::Link => None,
                    };
                    let Some(start) = start.map(|s| s + *offset as usize) else { return Stop::Next };
                    let Some(data) = wire.network.get(start..start + *len as usize) else {
                        return Stop::Next;
                    };
                    store(&mut r, dreg, data);
                }
                Expr::Cmp { op, sreg, data } => {
                    let have = &r[at(sreg)..at(sreg) + data.len()];
                    let order = have.cmp(&data[..]);
                    let holds = match op {
                        CmpOp::Eq => order.is_eq(),
                        CmpOp::Neq => order.is_ne(),
                        CmpOp::Lt => order.is_lt(),
                        CmpOp::Lte => order.is_le(),
                        CmpOp::Gt => order.is_gt(),
                        CmpOp::Gte => order.is_ge(),
                    };
                    if !holds {
                        return Stop::Next;
                    }
                }
                Expr::Range { invert, sreg, from, to } => {
                    let have = &r[at(sreg)..at(sreg) + from.len()];
                    if (have >= &from[..] && have <= &to[..]) == *invert {
                        return Stop::Next;
                    }
                }
                Expr::Bitwise { sreg, dreg, mask, xor } => {
                    let have: Vec<u8> = r[at(sreg)..at(sreg) + mask.len()].to_vec();
                    let out: Vec<u8> = (0..mask.len()).map(|i| (have[i] & mask[i]) ^ xor[i]).collect();
                    store(&mut r, dreg, &out);
                }
                Expr::Immediate { dreg, data } => store(&mut r, dreg, data),
                Expr::Lookup { set, sreg, invert } => {
                    let (spec, elements) = self.sets.get(set).unwrap_or_else(|| panic!("no set {set}"));
                    assert!(!spec.verdict_map);
                    let key = &r[at(sreg)..at(sreg) + key_len(spec)];
                    let found = elements.iter().any(|e| match e {
                        Element::Exact(k) => !spec.interval && k[..] == *key,
                        Element::Interval { first, last } => {
                            spec.interval && key >= &first[..] && key <= &last[..]
                        }
                        Element::Verdict { .. } => false,
                    });
                    if found == *invert {
                        return Stop::Next;
                    }
                }
                Expr::VerdictMap { map, sreg } => {
                    let (spec, elements) = self.sets.get(map).unwrap_or_else(|| panic!("no map {map}"));
                    assert!(spec.verdict_map);
                    let key = &r[at(sreg)..at(sreg) + key_len(spec)];
                    for element in elements {
                        if let Element::Verdict { key: k, verdict } = element
                            && k[..] == *key
                        {
                            return Stop::Verdict(verdict.clone());
                        }
                    }
                    return Stop::Next;
                }
                Expr::Ct { key: CtKey::State, dreg } => store(&mut r, dreg, &packet.ct_state.to_ne_bytes()),
                Expr::Ct { key: CtKey::Status, dreg } => {
                    if packet.ct_state == 64 {
                        return Stop::Next;
                    }
                    let status: u32 = if packet.dnatted { 32 | 8 } else { 8 };
                    store(&mut r, dreg, &status.to_ne_bytes());
                }
                Expr::Fib { lookup, dreg } => {
                    let local = |is: bool| if is { 2u32 } else { 1 };
                    let value = match lookup {
                        Fib::ReversePath => u32::from(packet.reverse_path) * 7,
                        Fib::DestinationType => local(packet.destination_local),
                        Fib::SourceType => local(packet.source_local),
                    };
                    store(&mut r, dreg, &value.to_ne_bytes());
                }
                Expr::Counter | Expr::Limit { .. } | Expr::Log { .. } | Expr::Nflog { .. } => {}
                Expr::NoTrack => packet.ct_state = 64,
                Expr::Masquerade { .. } | Expr::Snat { .. } => return Stop::Verdict(Verdict::Accept),
                Expr::Reject => return Stop::Rejected,
                Expr::Verdict(verdict) => return Stop::Verdict(verdict.clone()),
            }
        }
        Stop::Next
    }
}

fn key_len(spec: &SetSpec) -> usize {
    let len = |field: &KeyField| match field {
        KeyField::Ipv4Addr => 4,
        KeyField::Ipv6Addr | KeyField::IfName => 16,
        KeyField::InetProto => 1,
        KeyField::InetService => 2usize,
    };
    match &spec.key[..] {
        [one] => len(one),
        many => many.iter().map(|f| len(f).next_multiple_of(4)).sum(),
    }
}
