//! The nf_tables object model: tables, sets, chains, rules and expressions as values.
//!
//! One-to-one with the kernel's objects (linux/netfilter/nf_tables.h), so that encoding is mechanical and a ruleset
//! can be printed, compared and hashed. Rules are never written by hand in these terms: [`crate::render`] lowers the
//! typed IR to them and adds the protocol guards that raw payload offsets need.

use smallvec::SmallVec;
use smol_str::SmolStr;

/// Our tables. Nobody else's are ever read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// `inet calico`: filter, NAT, mangle and raw of both families.
    Inet,
    /// `arp calico`: keeps the host's proxy ARP off a workload's own address.
    Arp,
}

impl Table {
    /// The name of both tables.
    pub const NAME: &'static str = "calico";
}

/// Hooks of the `inet` and `arp` families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// Before routing.
    Prerouting,
    /// To this host.
    Input,
    /// Through this host.
    Forward,
    /// From this host.
    Output,
    /// After routing.
    Postrouting,
    /// ARP to this host.
    ArpInput,
    /// ARP from this host.
    ArpOutput,
}

/// `type` of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChainType {
    /// Everything but NAT.
    Filter,
    /// NAT: first packet of a connection only.
    Nat,
    /// Re-routes when the mark changes (output only).
    Route,
}

/// Where a chain is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChainKind {
    /// By the kernel, at a hook. Policy is always accept: ending a base chain means nothing but "not ours".
    Base {
        /// The hook.
        hook: Hook,
        /// Lower runs first.
        priority: i32,
        /// Filter, NAT or route.
        chain_type: ChainType,
    },
    /// By a jump or goto.
    Regular,
}

/// A chain: its kind and its rules in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// How it is entered.
    pub kind: ChainKind,
    /// First to last.
    pub rules: Vec<Rule>,
}

/// A rule: expressions evaluated left to right, and a text for the reader of `nft list ruleset`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What it does.
    pub exprs: Vec<Expr>,
    /// What it is for: shown as the rule's comment, part of its identity. At most 100 bytes.
    pub comment: SmolStr,
}

/// A 4-byte-granular register: `Reg(0)` is the kernel's NFT_REG32_00. A 16-byte value takes four.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(pub u8);

/// Constant bytes, in network order except where the kernel wants host order (marks, ct state: `u32::to_ne_bytes`).
pub type Data = SmallVec<[u8; 16]>;

/// What `meta` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MetaKey {
    /// NFPROTO of the packet: 2 (IPv4) or 10 (IPv6); one byte.
    NfProto,
    /// Transport protocol; one byte.
    L4Proto,
    /// Packet mark; host order.
    Mark,
    /// Input interface's name, 16 bytes zero-padded.
    IifName,
    /// Output interface's name, 16 bytes zero-padded.
    OifName,
}

/// What `payload` offsets count from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PayloadBase {
    /// Link-layer header.
    Link,
    /// IP (or ARP) header.
    Network,
    /// TCP, UDP, ICMP … header.
    Transport,
}

/// Comparisons of `cmp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CmpOp {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
}

/// What `ct` reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CtKey {
    /// State bits, host order: 1 invalid, 2 established, 4 related, 8 new, 64 untracked.
    State,
    /// Status bits, host order: 32 DNAT (IPS_DST_NAT).
    Status,
}

/// What `fib` looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fib {
    /// `fib saddr . mark . iif oif`: 0 when the reverse path does not lead back out of the input interface (strict).
    ReversePath,
    /// `fib daddr type`: RTN_* of the destination (2 = local).
    DestinationType,
    /// `fib saddr type`.
    SourceType,
}

/// Where a rule sends the packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Done with this hook; other tables still see it.
    Accept,
    /// Gone.
    Drop,
    /// Back to the caller.
    Return,
    /// Into a chain, and back.
    Jump(SmolStr),
    /// Into a chain, not back here.
    Goto(SmolStr),
}

/// One kernel expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    /// Load metadata.
    Meta {
        /// What.
        key: MetaKey,
        /// Into.
        dreg: Reg,
    },
    /// `meta mark set` from a register.
    SetMark {
        /// From.
        sreg: Reg,
    },
    /// Load packet bytes.
    Payload {
        /// From which header.
        base: PayloadBase,
        /// Bytes into it.
        offset: u32,
        /// How many bytes.
        len: u32,
        /// Into.
        dreg: Reg,
    },
    /// Stop unless the comparison holds. Fewer bytes than the register is a prefix match.
    Cmp {
        /// How.
        op: CmpOp,
        /// What.
        sreg: Reg,
        /// With.
        data: Data,
    },
    /// Stop unless `from ≤ register ≤ to` (or, inverted, if it is).
    Range {
        /// Outside instead.
        invert: bool,
        /// What.
        sreg: Reg,
        /// Lowest.
        from: Data,
        /// Highest.
        to: Data,
    },
    /// `dreg = (sreg & mask) ^ xor`.
    Bitwise {
        /// From.
        sreg: Reg,
        /// Into.
        dreg: Reg,
        /// And.
        mask: Data,
        /// Then exclusive or.
        xor: Data,
    },
    /// Load a constant.
    Immediate {
        /// Into.
        dreg: Reg,
        /// What.
        data: Data,
    },
    /// Stop unless the key (starting at `sreg`) is in a set (or, inverted, if it is).
    Lookup {
        /// The set, of the same table.
        set: SmolStr,
        /// Key's first register.
        sreg: Reg,
        /// Not in it instead.
        invert: bool,
    },
    /// Look a verdict up in a map and take it; go on with the rule if there is none.
    VerdictMap {
        /// The map, of the same table.
        map: SmolStr,
        /// Key's first register.
        sreg: Reg,
    },
    /// Load connection-tracking data.
    Ct {
        /// What.
        key: CtKey,
        /// Into.
        dreg: Reg,
    },
    /// Look up the routing table.
    Fib {
        /// What.
        lookup: Fib,
        /// Into; 4 bytes, host order.
        dreg: Reg,
    },
    /// Count packets and bytes.
    Counter,
    /// At most so many per unit of time, with a burst; stop when over.
    Limit {
        /// Events.
        rate: u64,
        /// Per so many seconds (1, 60, 3600, 86400).
        per_secs: u64,
        /// Allowed at once.
        burst: u32,
    },
    /// Kernel log.
    Log {
        /// Text before the packet.
        prefix: SmolStr,
        /// Syslog level (5 = notice).
        level: u32,
    },
    /// To user space by NFLOG.
    Nflog {
        /// Text before the packet.
        prefix: SmolStr,
        /// Netlink group.
        group: u16,
    },
    /// Do not track this packet (raw priority only).
    NoTrack,
    /// Source NAT to the outgoing interface's address.
    Masquerade {
        /// Registers with the lowest and highest port, if limited.
        ports: Option<(Reg, Reg)>,
    },
    /// Source NAT to the address in a register.
    Snat {
        /// Address: 4 (IPv4) or 16 bytes.
        addr: Reg,
        /// Which family.
        family: calico_net::Family,
        /// Registers with the lowest and highest port, if limited.
        ports: Option<(Reg, Reg)>,
    },
    /// Refuse with ICMP port unreachable.
    Reject,
    /// Decide.
    Verdict(Verdict),
}

/// One field of a set's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyField {
    /// 4 bytes, network order.
    Ipv4Addr,
    /// 16 bytes.
    Ipv6Addr,
    /// 1 byte, padded to 4 in concatenations.
    InetProto,
    /// 2 bytes, network order, padded to 4 in concatenations.
    InetService,
    /// 16 bytes, zero-padded.
    IfName,
}

/// The shape of a set or map; its elements are apart, since they change at another pace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SetSpec {
    /// One field, or several concatenated.
    pub key: SmallVec<[KeyField; 3]>,
    /// Elements are disjoint intervals (rb-tree); otherwise exact keys (hash).
    pub interval: bool,
    /// A verdict map.
    pub verdict_map: bool,
}

/// One element of a set or map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// A key of an exact set: all fields of the set's key, each padded to four bytes when there are several.
    Exact(Data),
    /// Every key from `first` to `last`, of an interval set.
    Interval {
        /// Lowest key inside.
        first: Data,
        /// Highest key inside.
        last: Data,
    },
    /// A key of a verdict map and what it leads to.
    Verdict {
        /// The key.
        key: Data,
        /// The verdict.
        verdict: Verdict,
    },
}
