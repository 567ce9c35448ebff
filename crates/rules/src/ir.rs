//! The typed chain IR: what rules mean, before any kernel's way to say it.
//!
//! A match that reads packet bytes carries what makes reading them legal: the address family, or a transport that has
//! ports. It holds only where that guard holds, inverted or not: `Net { net: 10.0.0.0/8, invert: true }` is "an IPv4
//! packet from elsewhere", never an IPv6 packet. So no renderer can emit a load without its guard, and a rule with
//! matches of both families holds for no packet. A rule holds when all of its matches do.

use calico_calc::change::Icmp;
use calico_net::{Cidr, Family, PortRange, Protocol};
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::nft::ChainKind;

/// Which end of the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum End {
    /// Where it comes from.
    Source,
    /// Where it goes.
    Destination,
}

/// A transport whose header starts with source and destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// Any of the three.
    Any,
}

impl Transport {
    /// The transport of a protocol, if it has ports that policy can match.
    pub fn of(protocol: Protocol) -> Option<Transport> {
        match protocol {
            Protocol::TCP => Some(Transport::Tcp),
            Protocol::UDP => Some(Transport::Udp),
            Protocol::SCTP => Some(Transport::Sctp),
            _ => None,
        }
    }

    /// Whether a protocol is this transport.
    pub fn includes(self, protocol: u8) -> bool {
        self.protocols().iter().any(|p| p.number() == protocol)
    }

    /// The protocols that this is.
    pub fn protocols(self) -> &'static [Protocol] {
        match self {
            Transport::Tcp => &[Protocol::TCP],
            Transport::Udp => &[Protocol::UDP],
            Transport::Sctp => &[Protocol::SCTP],
            Transport::Any => &[Protocol::TCP, Protocol::UDP, Protocol::SCTP],
        }
    }
}

/// An interface's name, or how it begins.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Interface {
    /// This one.
    Is(SmolStr),
    /// All whose names begin so.
    StartsWith(SmolStr),
}

impl Interface {
    /// Whether a name is meant.
    pub fn matches(&self, name: &str) -> bool {
        match self {
            Interface::Is(is) => is == name,
            Interface::StartsWith(prefix) => name.starts_with(prefix.as_str()),
        }
    }
}

/// Conntrack states as the kernel's bits (`NF_CT_STATE_BIT`).
pub mod ct {
    /// Belongs to no connection that could be.
    pub const INVALID: u32 = 1;
    /// Both directions were seen.
    pub const ESTABLISHED: u32 = 2;
    /// Opened by another connection, or an ICMP error about one.
    pub const RELATED: u32 = 4;
    /// First of its connection.
    pub const NEW: u32 = 8;
    /// Not tracked.
    pub const UNTRACKED: u32 = 64;
}

/// One condition.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Match {
    /// The packet's family.
    Family(Family),
    /// The transport protocol.
    Protocol {
        /// Which.
        protocol: Protocol,
        /// Any other instead.
        invert: bool,
    },
    /// ICMP of this family (ICMPv6 for IPv6) with this type and code.
    Icmp {
        /// The family.
        family: Family,
        /// Type, and code if given.
        icmp: IcmpType,
        /// ICMP of this family with any other type or code instead.
        invert: bool,
    },
    /// The address is in a prefix; only packets of the prefix's family.
    Net {
        /// Whose address.
        end: End,
        /// The prefix.
        net: Cidr,
        /// Outside instead.
        invert: bool,
    },
    /// The address is in a set of addresses; only packets of the set's family.
    InSet {
        /// Whose address.
        end: End,
        /// The set's family.
        family: Family,
        /// Its name.
        set: SmolStr,
        /// Not in it instead.
        invert: bool,
    },
    /// The port is in a range; only packets of the transport, with a readable header.
    Port {
        /// Whose port.
        end: End,
        /// Of which transport.
        transport: Transport,
        /// The range. All ports: "has ports, and they can be read".
        range: PortRange,
        /// Outside instead.
        invert: bool,
    },
    /// The port is in a set of ports.
    PortInSet {
        /// Whose port.
        end: End,
        /// Of which transport.
        transport: Transport,
        /// The set's name.
        set: SmolStr,
        /// Not in it instead.
        invert: bool,
    },
    /// (protocol, port) is in a set.
    ProtocolPortInSet {
        /// Whose port.
        end: End,
        /// The set's name.
        set: SmolStr,
    },
    /// (address, protocol, port) is in a set: a named port.
    AddrPortInSet {
        /// Whose address and port.
        end: End,
        /// The set's family.
        family: Family,
        /// Of which transport.
        transport: Transport,
        /// The set's name.
        set: SmolStr,
        /// Not in it instead.
        invert: bool,
    },
    /// The connection's state is one of these ([`ct`]).
    CtState(u32),
    /// The connection's destination was translated. Turned round it would fail on untracked packets, which have no
    /// connection to ask about: there is no such form.
    Dnatted,
    /// Where the packet came in.
    InInterface {
        /// Which.
        interface: Interface,
        /// Any other instead.
        invert: bool,
    },
    /// Where the packet goes out.
    OutInterface {
        /// Which.
        interface: Interface,
        /// Any other instead.
        invert: bool,
    },
    /// `mark & mask == value`.
    Mark {
        /// Bits looked at.
        mask: u32,
        /// What they must be.
        value: u32,
        /// Must not be, instead.
        invert: bool,
    },
    /// The route back to the source does not lead out of the input interface (strict reverse path).
    ReversePathFails,
    /// The source address is one of this host's.
    SourceLocal,
    /// The destination address is one of this host's.
    DestinationLocal,
    /// ARP table: (output interface, sender's IPv4 address) is in a set.
    ArpSenderInSet {
        /// The set's name.
        set: SmolStr,
    },
}

/// ICMP type and code, ordered so that rules can be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IcmpType {
    /// Type.
    pub icmp_type: u8,
    /// Code; any if absent.
    pub code: Option<u8>,
}

impl From<Icmp> for IcmpType {
    fn from(icmp: Icmp) -> IcmpType {
        let Icmp { icmp_type, code } = icmp;
        IcmpType { icmp_type, code }
    }
}

/// At most so many events per unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Limit {
    /// Events.
    pub rate: u64,
    /// Per so many seconds.
    pub per_secs: u64,
    /// Allowed at once.
    pub burst: u32,
}

/// What a rule does, in order. After one that decides (accept, drop, reject, return, goto) nothing follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// End this hook.
    Accept,
    /// Gone.
    Drop,
    /// Gone, and the sender is told.
    Reject,
    /// Back to the caller.
    Return,
    /// Into a chain, and back.
    Jump(SmolStr),
    /// Into a chain, and back to our caller.
    Goto(SmolStr),
    /// Goto the chain that a verdict map holds for the input interface; go on if it holds none.
    GotoByInInterface {
        /// The map's name.
        map: SmolStr,
    },
    /// Goto the chain that a verdict map holds for the output interface; go on if it holds none.
    GotoByOutInterface {
        /// The map's name.
        map: SmolStr,
    },
    /// `mark = (mark & !mask) | value`.
    SetMark {
        /// Bits changed.
        mask: u32,
        /// To what.
        value: u32,
    },
    /// Kernel log.
    Log {
        /// Text before the packet.
        prefix: SmolStr,
        /// Not more often than this.
        limit: Option<Limit>,
    },
    /// Do not track the packet.
    NoTrack,
    /// Source NAT to the output interface's address.
    Masquerade {
        /// Ports to take.
        ports: Option<PortRange>,
    },
    /// Source NAT to an address of the packet's family.
    Snat {
        /// The address.
        addr: std::net::IpAddr,
        /// Ports to take.
        ports: Option<PortRange>,
    },
}

/// A rule: conditions, actions, a text for the reader.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// All must hold.
    pub matches: Vec<Match>,
    /// Count the packets that it matches.
    pub counter: bool,
    /// Then these, in order.
    pub actions: SmallVec<[Action; 2]>,
    /// What it is for; at most [`Rule::COMMENT_MAX`] bytes.
    pub comment: SmolStr,
}

impl Rule {
    /// Room for a comment beside the identity hash in nftables' 128 bytes.
    pub const COMMENT_MAX: usize = 100;

    /// A rule without a comment.
    pub fn new(matches: impl IntoIterator<Item = Match>, actions: impl IntoIterator<Item = Action>) -> Rule {
        Rule {
            matches: matches.into_iter().collect(),
            counter: false,
            actions: actions.into_iter().collect(),
            comment: SmolStr::default(),
        }
    }

    /// The rule with a comment: cut to fit, and without what the listing's quotes could not hold.
    pub fn comment(mut self, text: &str) -> Rule {
        let clean = |c: char| if c == '"' || c.is_control() { '\'' } else { c };
        let mut used = 0;
        self.comment = text
            .chars()
            .map(clean)
            .take_while(|c| {
                used += c.len_utf8();
                used <= Rule::COMMENT_MAX
            })
            .collect();
        self
    }

    /// The rule with a counter.
    pub fn counted(mut self) -> Rule {
        self.counter = true;
        self
    }
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Chain {
    /// Its name.
    pub name: SmolStr,
    /// Entered by the kernel or by other chains.
    pub kind: ChainKind,
    /// First to last.
    pub rules: Vec<Rule>,
}

impl Chain {
    /// A chain that others jump to.
    pub fn regular(name: impl Into<SmolStr>, rules: Vec<Rule>) -> Chain {
        Chain { name: name.into(), kind: ChainKind::Regular, rules }
    }

    /// The sets and maps that its rules name.
    pub fn sets(&self) -> impl Iterator<Item = &SmolStr> {
        self.rules.iter().flat_map(|rule| {
            let matched = rule.matches.iter().filter_map(Match::set);
            let mapped = rule.actions.iter().filter_map(|a| match a {
                Action::GotoByInInterface { map } | Action::GotoByOutInterface { map } => Some(map),
                _ => None,
            });
            matched.chain(mapped)
        })
    }

    /// The chains that its rules name directly (what verdict maps hold is not among them).
    pub fn targets(&self) -> impl Iterator<Item = &SmolStr> {
        self.rules.iter().flat_map(|rule| {
            rule.actions.iter().filter_map(|a| match a {
                Action::Jump(to) | Action::Goto(to) => Some(to),
                _ => None,
            })
        })
    }
}

impl Match {
    /// The set that it looks into.
    pub fn set(&self) -> Option<&SmolStr> {
        match self {
            Match::InSet { set, .. }
            | Match::PortInSet { set, .. }
            | Match::ProtocolPortInSet { set, .. }
            | Match::AddrPortInSet { set, .. }
            | Match::ArpSenderInSet { set } => Some(set),
            _ => None,
        }
    }

    /// The same condition with its test turned round, its guard unchanged; `None` where there is no such form.
    pub fn inverted(&self) -> Option<Match> {
        let mut turned = self.clone();
        match &mut turned {
            Match::Protocol { invert, .. }
            | Match::Icmp { invert, .. }
            | Match::Net { invert, .. }
            | Match::InSet { invert, .. }
            | Match::Port { invert, .. }
            | Match::PortInSet { invert, .. }
            | Match::AddrPortInSet { invert, .. }
            | Match::InInterface { invert, .. }
            | Match::OutInterface { invert, .. }
            | Match::Mark { invert, .. } => *invert = !*invert,
            Match::Family(_)
            | Match::ProtocolPortInSet { .. }
            | Match::CtState(_)
            | Match::Dnatted
            | Match::ReversePathFails
            | Match::SourceLocal
            | Match::DestinationLocal
            | Match::ArpSenderInSet { .. } => return None,
        }
        Some(turned)
    }
}
