//! nf_tables objects as text: the syntax of `nft`, so that a listing of ours reads like `nft list` and can be loaded
//! by `nft -f`.

use std::fmt::{self, Write};
use std::net::{Ipv4Addr, Ipv6Addr};

use calico_net::Protocol;
use smol_str::SmolStr;

use crate::fragment::Set;
use crate::nft::{
    Chain, ChainKind, ChainType, CmpOp, CtKey, Element, Expr, Fib, Hook, KeyField, MetaKey, PayloadBase, Reg,
    Rule, SetSpec, Table, Verdict,
};

/// What a register holds: how to write it, and how to write constants that it is compared with.
#[derive(Clone, PartialEq)]
struct Term {
    text: String,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Family,
    Protocol,
    Mark,
    Interface,
    V4,
    V6,
    Port,
    IcmpType,
    CtState,
    CtStatus,
    ReversePath,
    AddressType,
    Raw,
}

/// Terms by register, in the order loaded.
#[derive(Default)]
struct Registers {
    terms: Vec<(Reg, Term)>,
    /// The rule is about this ICMP: its header starts with type and code, not with ports.
    icmp: Option<&'static str>,
}

impl Registers {
    fn load(&mut self, reg: Reg, text: impl Into<String>, kind: Kind) {
        self.terms.retain(|(r, _)| *r != reg);
        self.terms.push((reg, Term { text: text.into(), kind }));
    }

    fn get(&self, reg: Reg) -> Term {
        let found = self.terms.iter().find(|(r, _)| *r == reg);
        found.map_or(Term { text: format!("reg{}", reg.0), kind: Kind::Raw }, |(_, t)| t.clone())
    }

    /// The key that starts at a register: all that was loaded behind it, concatenated.
    fn key(&self, reg: Reg) -> String {
        let mut parts: Vec<_> = self.terms.iter().filter(|(r, _)| *r >= reg).collect();
        parts.sort_by_key(|(r, _)| *r);
        parts.iter().map(|(_, t)| t.text.as_str()).collect::<Vec<_>>().join(" . ")
    }
}

fn hex(data: &[u8]) -> String {
    let mut text = "0x".to_owned();
    data.iter().for_each(|b| text.push_str(&format!("{b:02x}")));
    text
}

fn host_order(data: &[u8]) -> u32 {
    data.try_into().map_or(0, u32::from_ne_bytes)
}

fn port(data: &[u8]) -> u16 {
    data.try_into().map_or(0, u16::from_be_bytes)
}

fn protocol(number: u8) -> String {
    match Protocol::new(number) {
        Some(Protocol::ICMPV6) => "ipv6-icmp".to_owned(),
        Some(named) if named.name().is_some() => named.to_string().to_lowercase(),
        _ => number.to_string(),
    }
}

fn v4(data: &[u8]) -> String {
    <[u8; 4]>::try_from(data).map_or_else(|_| hex(data), |b| Ipv4Addr::from(b).to_string())
}

fn v6(data: &[u8]) -> String {
    <[u8; 16]>::try_from(data).map_or_else(|_| hex(data), |b| Ipv6Addr::from(b).to_string())
}

fn interface(data: &[u8]) -> String {
    let name = String::from_utf8_lossy(data);
    match name.find('\0') {
        Some(end) => format!("\"{}\"", &name[..end]),
        None if data.len() == 16 => format!("\"{name}\""),
        None => format!("\"{name}*\""),
    }
}

fn ct_states(bits: u32) -> String {
    let names = [(1, "invalid"), (2, "established"), (4, "related"), (8, "new"), (64, "untracked")];
    names.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, n)| *n).collect::<Vec<_>>().join(",")
}

fn constant(kind: Kind, data: &[u8]) -> String {
    match kind {
        Kind::Family if data == [2] => "ipv4".to_owned(),
        Kind::Family => "ipv6".to_owned(),
        Kind::Protocol => protocol(data.first().copied().unwrap_or(0)),
        Kind::Mark => format!("{:#010x}", host_order(data)),
        Kind::Interface => interface(data),
        Kind::V4 => v4(data),
        Kind::V6 => v6(data),
        Kind::Port => port(data).to_string(),
        Kind::IcmpType => data.first().copied().unwrap_or(0).to_string(),
        Kind::CtState | Kind::CtStatus => format!("{:#x}", host_order(data)),
        Kind::ReversePath => "missing".to_owned(),
        Kind::AddressType if host_order(data) == 2 => "local".to_owned(),
        Kind::AddressType => host_order(data).to_string(),
        Kind::Raw => hex(data),
    }
}

fn operator(op: CmpOp) -> &'static str {
    match op {
        CmpOp::Eq => "",
        CmpOp::Neq => "!= ",
        CmpOp::Lt => "< ",
        CmpOp::Lte => "<= ",
        CmpOp::Gt => "> ",
        CmpOp::Gte => ">= ",
    }
}

fn payload(base: PayloadBase, offset: u32, len: u32) -> (String, Kind) {
    match (base, offset, len) {
        (PayloadBase::Network, 12, 4) => ("ip saddr".to_owned(), Kind::V4),
        (PayloadBase::Network, 16, 4) => ("ip daddr".to_owned(), Kind::V4),
        (PayloadBase::Network, 8, 16) => ("ip6 saddr".to_owned(), Kind::V6),
        (PayloadBase::Network, 24, 16) => ("ip6 daddr".to_owned(), Kind::V6),
        (PayloadBase::Network, 14, 4) => ("arp saddr ip".to_owned(), Kind::V4),
        (PayloadBase::Transport, 0, 2) => ("th sport".to_owned(), Kind::Port),
        (PayloadBase::Transport, 2, 2) => ("th dport".to_owned(), Kind::Port),
        (base, offset, len) => {
            let name = match base {
                PayloadBase::Link => "ll",
                PayloadBase::Network => "nh",
                PayloadBase::Transport => "th",
            };
            (format!("@{name},{},{}", offset * 8, len * 8), Kind::Raw)
        }
    }
}

fn per(secs: u64) -> &'static str {
    match secs {
        1 => "second",
        60 => "minute",
        3600 => "hour",
        _ => "day",
    }
}

fn write_verdict(f: &mut dyn Write, verdict: &Verdict) -> fmt::Result {
    match verdict {
        Verdict::Accept => f.write_str("accept"),
        Verdict::Drop => f.write_str("drop"),
        Verdict::Return => f.write_str("return"),
        Verdict::Jump(to) => write!(f, "jump {to}"),
        Verdict::Goto(to) => write!(f, "goto {to}"),
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut statements: Vec<String> = Vec::new();
        let mut registers = Registers::default();
        for expr in &self.exprs {
            statements.extend(statement(expr, &mut registers));
        }
        if !self.comment.is_empty() {
            statements.push(format!("comment \"{}\"", self.comment));
        }
        f.write_str(&statements.join(" "))
    }
}

/// The statement that an expression ends, if it ends one; loads only change the registers.
fn statement(expr: &Expr, registers: &mut Registers) -> Option<String> {
    match expr {
        Expr::Meta { key, dreg } => {
            let (text, kind) = match key {
                MetaKey::NfProto => ("meta nfproto", Kind::Family),
                MetaKey::L4Proto => ("meta l4proto", Kind::Protocol),
                MetaKey::Mark => ("meta mark", Kind::Mark),
                MetaKey::IifName => ("iifname", Kind::Interface),
                MetaKey::OifName => ("oifname", Kind::Interface),
            };
            // A load into the first register starts a new key.
            if *dreg == Reg(0) {
                registers.terms.clear();
            }
            registers.load(*dreg, text, kind);
            None
        }
        Expr::Payload { base, offset, len, dreg } => {
            if *dreg == Reg(0) {
                registers.terms.clear();
            }
            let (text, kind) = match registers.icmp {
                Some(icmp) if *base == PayloadBase::Transport => match len {
                    1 => (format!("{icmp} type"), Kind::IcmpType),
                    _ => (format!("@th,{},{}", offset * 8, len * 8), Kind::Raw),
                },
                _ => payload(*base, *offset, *len),
            };
            registers.load(*dreg, text, kind);
            None
        }
        Expr::Ct { key, dreg } => {
            registers.terms.clear();
            match key {
                CtKey::State => registers.load(*dreg, "ct state", Kind::CtState),
                CtKey::Status => registers.load(*dreg, "ct status", Kind::CtStatus),
            }
            None
        }
        Expr::Fib { lookup, dreg } => {
            registers.terms.clear();
            match lookup {
                Fib::ReversePath => registers.load(*dreg, "fib saddr . mark . iif oif", Kind::ReversePath),
                Fib::DestinationType => registers.load(*dreg, "fib daddr type", Kind::AddressType),
                Fib::SourceType => registers.load(*dreg, "fib saddr type", Kind::AddressType),
            }
            None
        }
        Expr::Bitwise { sreg, dreg, mask, xor } => {
            let Term { text, kind } = registers.get(*sreg);
            let text = match kind {
                // Conntrack's bits are written by name, without the comparison with zero that follows.
                Kind::CtState => format!("{text} {}", ct_states(host_order(mask))),
                Kind::CtStatus => format!("{text} dnat"),
                _ if xor.iter().all(|b| *b == 0) => format!("{text} & {}", constant(kind, mask)),
                _ => format!("{text} & {} | {}", constant(kind, mask), constant(kind, xor)),
            };
            registers.load(*dreg, text, kind);
            None
        }
        Expr::Cmp { op, sreg, data } => {
            let Term { text, kind } = registers.get(*sreg);
            if kind == Kind::Protocol && *op == CmpOp::Eq {
                registers.icmp = match data[..] {
                    [1] => Some("icmp"),
                    [58] => Some("icmpv6"),
                    _ => None,
                };
            }
            Some(match (kind, op) {
                (Kind::CtState | Kind::CtStatus, CmpOp::Neq) => text,
                _ => {
                    let equal = if text.contains(" & ") && *op == CmpOp::Eq { "== " } else { operator(*op) };
                    format!("{text} {equal}{}", constant(kind, data))
                }
            })
        }
        Expr::Range { invert, sreg, from, to } => {
            let Term { text, kind } = registers.get(*sreg);
            let not = if *invert { "!= " } else { "" };
            Some(format!("{text} {not}{}-{}", constant(kind, from), constant(kind, to)))
        }
        Expr::Immediate { dreg, data } => {
            let kind = match data.len() {
                2 => Kind::Port,
                4 => Kind::V4,
                16 => Kind::V6,
                _ => Kind::Raw,
            };
            registers.load(*dreg, constant(kind, data), kind);
            None
        }
        Expr::Lookup { set, sreg, invert } => {
            Some(format!("{} {}@{set}", registers.key(*sreg), if *invert { "!= " } else { "" }))
        }
        Expr::VerdictMap { map, sreg } => Some(format!("{} vmap @{map}", registers.key(*sreg))),
        Expr::SetMark { sreg } => Some(format!("meta mark set {}", registers.get(*sreg).text)),
        Expr::Counter => Some("counter".to_owned()),
        Expr::Limit { rate, per_secs, burst } => {
            Some(format!("limit rate {rate}/{} burst {burst} packets", per(*per_secs)))
        }
        Expr::Log { prefix, level } => {
            let level = match level {
                5 => "notice".to_owned(),
                other => other.to_string(),
            };
            Some(format!("log prefix \"{prefix}\" level {level}"))
        }
        Expr::Nflog { prefix, group } => Some(format!("log prefix \"{prefix}\" group {group}")),
        Expr::NoTrack => Some("notrack".to_owned()),
        Expr::Masquerade { ports } => Some(match ports {
            None => "masquerade".to_owned(),
            Some((first, last)) => {
                format!("masquerade to :{}-{}", registers.get(*first).text, registers.get(*last).text)
            }
        }),
        Expr::Snat { addr, family, ports } => {
            let ip = if *family == calico_net::Family::V4 { "ip" } else { "ip6" };
            let ports = ports.map_or(String::new(), |(first, last)| {
                format!(":{}-{}", registers.get(first).text, registers.get(last).text)
            });
            Some(format!("snat {ip} to {}{ports}", registers.get(*addr).text))
        }
        Expr::Reject => Some("reject with icmpx type port-unreachable".to_owned()),
        Expr::Verdict(verdict) => {
            let mut text = String::new();
            write_verdict(&mut text, verdict).ok().map(|()| text)
        }
    }
}

fn field_type(field: KeyField) -> &'static str {
    match field {
        KeyField::Ipv4Addr => "ipv4_addr",
        KeyField::Ipv6Addr => "ipv6_addr",
        KeyField::InetProto => "inet_proto",
        KeyField::InetService => "inet_service",
        KeyField::IfName => "ifname",
    }
}

fn key_text(spec: &SetSpec, mut data: &[u8]) -> String {
    let mut fields = Vec::new();
    let alone = spec.key.len() == 1;
    for field in &spec.key {
        let len: usize = match field {
            KeyField::Ipv4Addr => 4,
            KeyField::Ipv6Addr | KeyField::IfName => 16,
            KeyField::InetProto => 1,
            KeyField::InetService => 2,
        };
        let room = if alone { len } else { len.next_multiple_of(4) };
        let (here, rest) = data.split_at(room.min(data.len()));
        let here = &here[..len.min(here.len())];
        fields.push(match field {
            KeyField::Ipv4Addr => v4(here),
            KeyField::Ipv6Addr => v6(here),
            KeyField::InetProto => protocol(here.first().copied().unwrap_or(0)),
            KeyField::InetService => port(here).to_string(),
            KeyField::IfName => interface(here),
        });
        data = rest;
    }
    fields.join(" . ")
}

/// One element as `nft` writes it inside braces.
pub fn element_text(spec: &SetSpec, element: &Element) -> String {
    match element {
        Element::Exact(key) => key_text(spec, key),
        Element::Interval { first, last } => format!("{}-{}", key_text(spec, first), key_text(spec, last)),
        Element::Verdict { key, verdict } => {
            let mut text = format!("{} : ", key_text(spec, key));
            // Writing to a string cannot fail.
            let _ = write_verdict(&mut text, verdict);
            text
        }
    }
}

fn write_set(f: &mut dyn Write, name: &str, spec: &SetSpec, elements: &[&Element]) -> fmt::Result {
    writeln!(f, "\t{} {name} {{", if spec.verdict_map { "map" } else { "set" })?;
    let key = spec.key.iter().map(|k| field_type(*k)).collect::<Vec<_>>().join(" . ");
    writeln!(f, "\t\ttype {key}{}", if spec.verdict_map { " : verdict" } else { "" })?;
    if spec.interval {
        writeln!(f, "\t\tflags interval")?;
    }
    if !elements.is_empty() {
        let texts: Vec<String> = elements.iter().map(|e| element_text(spec, e)).collect();
        writeln!(f, "\t\telements = {{ {} }}", texts.join(", "))?;
    }
    writeln!(f, "\t}}")
}

fn write_chain(f: &mut dyn Write, name: &str, chain: &Chain) -> fmt::Result {
    writeln!(f, "\tchain {name} {{")?;
    if let ChainKind::Base { hook, priority, chain_type } = chain.kind {
        let chain_type = match chain_type {
            ChainType::Filter => "filter",
            ChainType::Nat => "nat",
            ChainType::Route => "route",
        };
        let hook = match hook {
            Hook::Prerouting => "prerouting",
            Hook::Input | Hook::ArpInput => "input",
            Hook::Forward => "forward",
            Hook::Output | Hook::ArpOutput => "output",
            Hook::Postrouting => "postrouting",
        };
        writeln!(f, "\t\ttype {chain_type} hook {hook} priority {priority}; policy accept;")?;
    }
    for rule in &chain.rules {
        writeln!(f, "\t\t{rule}")?;
    }
    writeln!(f, "\t}}")
}

/// A whole table as `nft list table` shows it: sets, maps and chains by name; elements that come from elsewhere go into
/// the set that they name.
pub fn table_text(table: Table, part: &crate::fragment::Part) -> String {
    let family = match table {
        Table::Inet => "inet",
        Table::Arp => "arp",
    };
    let mut text = format!("table {family} {} {{\n", Table::NAME);
    let mut sets: Vec<&Set> = part.sets.iter().collect();
    sets.sort_by(|a, b| a.name.cmp(&b.name));
    for set in sets {
        let mut elements: Vec<&Element> = set.elements.iter().collect();
        elements.extend(part.elements.iter().filter(|(name, _)| *name == set.name).map(|(_, e)| e));
        elements.sort();
        // Writing to a string cannot fail.
        let _ = write_set(&mut text, &set.name, &set.spec, &elements);
    }
    let mut chains: Vec<(&SmolStr, Chain)> =
        part.chains.iter().map(|c| (&c.name, super::render_chain(c))).collect();
    chains.sort_by(|a, b| a.0.cmp(b.0));
    for (name, chain) in chains {
        let _ = write_chain(&mut text, name, &chain);
    }
    text.push_str("}\n");
    text
}
