//! [`BgpIntent`]: everything that this node's BGP speaker must do, as one value that any speaker can carry out.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use calico_net::{Asn, Cidr, Family};
use smol_str::SmolStr;

use crate::birdc::PeerName;
use crate::filter::Filter;
use crate::password::Password;

/// The port of BGP (RFC 4271 §8.2.1).
pub const BGP_PORT: u16 = 179;

/// The highest metric of a route, so that the local preference that stands for it stays above 0.
pub const MAX_PRIORITY: u32 = 2_147_483_646;

/// The metric of the agent's routes to other nodes' blocks (`CLUSTER_PRIORITY` of the dataplane), whatever protocol number
/// the operator has chosen for them.
pub const AGENT_CLUSTER_METRIC: u32 = 1025;

/// What this node's BGP speaker must do. Lists are sorted and free of duplicates, so equal intents are equal values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpIntent {
    /// BGP identifier (RFC 4271 §4.2).
    pub router_id: Ipv4Addr,
    /// How much the speaker logs.
    pub log_level: LogLevel,
    /// Where it listens.
    pub listen: Listen,
    /// Interfaces whose own prefixes are not looked at, by name with `*`; in the order given.
    pub ignored_interfaces: Vec<SmolStr>,
    /// The sessions, by protocol name; those of BGPPeers of some nodes that wait for a call come first.
    pub sessions: Vec<Session>,
    /// The BGPFilters, by name, whether a session has them or not.
    pub filters: BTreeMap<SmolStr, Filter>,
    /// The Secrets in which the sessions' passwords are, found or not, by name.
    pub secrets: Vec<SmolStr>,
    /// This node's IPAM blocks: each is announced whole, and nothing beneath it.
    pub blocks: Vec<Cidr>,
    /// Addresses of this node's workloads in pools but in none of its blocks: announced one by one.
    pub borrowed: Vec<Cidr>,
    /// Peers that are reached over a gateway.
    pub gateways: Vec<Gateway>,
    /// The pools, by prefix.
    pub pools: Vec<PoolIntent>,
    /// Addresses of Kubernetes' services.
    pub services: ServiceIntent,
    /// Communities to add to announced prefixes.
    pub advertisements: Vec<Advertisement>,
    /// Kernel metric of ordinary routes; a lower one marks a route that must win (live migration).
    pub normal_priority: NormalPriority,
}

impl BgpIntent {
    /// The blocks of a family.
    pub fn blocks_of(&self, family: Family) -> impl Iterator<Item = &Cidr> {
        self.blocks.iter().filter(move |b| b.family() == family)
    }

    /// The pools of a family.
    pub fn pools_of(&self, family: Family) -> impl Iterator<Item = &PoolIntent> {
        self.pools.iter().filter(move |p| p.cidr.family() == family)
    }
}

/// How much the speaker logs (BGPConfiguration.logSeverityScreen, spec 6 §3.4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogLevel {
    /// `None`: nothing but what the daemon cannot keep to itself.
    Silent,
    /// Every other level: changes of state, and for sessions routes, filters and events.
    #[default]
    Normal,
    /// `Debug`: everything.
    Debug,
}

/// Where the speaker listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// A port other than [`BGP_PORT`].
    pub port: Option<u16>,
    /// Only on the node's own addresses (`bindMode: NodeIP`).
    pub node_ip_only: bool,
}

/// Metrics of ordinary routes, by family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormalPriority {
    /// IPv4.
    pub v4: u32,
    /// IPv6.
    pub v6: u32,
}

impl Default for NormalPriority {
    fn default() -> NormalPriority {
        NormalPriority { v4: 1024, v6: 1024 }
    }
}

impl NormalPriority {
    /// That of a family.
    pub fn of(self, family: Family) -> u32 {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// One BGP session. It carries routes of the family of the neighbour's address only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Kind, address and, for explicit peers, port of the neighbour.
    pub name: PeerName,
    /// The neighbour's port, if not [`BGP_PORT`]. (A mesh session's name does not carry it.)
    pub port: Option<u16>,
    /// The neighbour's AS.
    pub remote_as: Asn,
    /// Our AS in this session.
    pub local_as: Asn,
    /// This node's address in the family of the session.
    pub own_addr: IpAddr,
    /// Whether connections are made from `own_addr` rather than from what the kernel chooses.
    pub from_own_addr: bool,
    /// Wait for the neighbour to connect.
    pub passive: bool,
    /// Accept packets from at most so many hops away (RFC 5082); anything from anywhere with `None`.
    pub ttl_security_hops: Option<u8>,
    /// Reflect this client's routes, as this cluster (RFC 4456).
    pub reflect_as: Option<Ipv4Addr>,
    /// How long the neighbour keeps our routes when we are away.
    pub restart_time_secs: Option<u32>,
    /// Time between keepalives.
    pub keepalive_secs: Option<u32>,
    /// What next hop is announced.
    pub next_hop: NextHopMode,
    /// How often our own AS may occur in a received path.
    pub allow_local_as: Option<u8>,
    /// Names of the filters that routes pass before anything else, in order.
    pub filters: Vec<SmolStr>,
    /// The password of the connection (RFC 2385).
    pub password: Option<Password>,
    /// Watch the way to the neighbour with BFD (RFC 5883).
    pub bfd: bool,
    /// The neighbour keeps our routes through any number of restarts (RFC 9494), for as long as it would through one.
    pub long_lived: bool,
}

impl Session {
    /// The family of the session.
    pub fn family(&self) -> Family {
        Family::of(self.name.addr)
    }

    /// Whether both ends are in one AS.
    pub fn is_internal(&self) -> bool {
        self.local_as == self.remote_as
    }
}

/// What next hop a session announces (BGPPeer.nextHopMode).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NextHopMode {
    /// As BGP says: kept to internal peers, own address to external ones.
    #[default]
    Auto,
    /// This node.
    Own,
    /// That of the received route.
    Keep,
}

/// A peer that is reached over a gateway (BGPPeer.reachableBy).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Gateway {
    /// The peer.
    pub peer: IpAddr,
    /// The gateway, of the same family.
    pub via: IpAddr,
}

/// What the speaker does with a pool's prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PoolIntent {
    /// The pool.
    pub cidr: Cidr,
    /// Announced to peers (not `disableBGPExport`).
    pub export: bool,
    /// Who installs learned routes of the pool in the kernel.
    pub programmed_by: Programmer,
}

/// What the speaker does with addresses of Kubernetes' services: kube-proxy answers for them on every node, so routes
/// to them are for others. Lists are sorted and free of duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceIntent {
    /// Announced as this node's own, with everything beneath them.
    pub routes: Vec<Cidr>,
    /// Never installed, nor anything beneath them, whoever announces it.
    pub rejects: Vec<Cidr>,
    /// A reflector passes on what it hears of these.
    pub reflected: Vec<Cidr>,
}

/// Who installs routes in the kernel (spec 6 §3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Programmer {
    /// The BGP speaker.
    Speaker,
    /// The speaker, through the IPIP device; without it where the next hop is in this prefix, the node's subnet.
    SpeakerTunnel(Option<Cidr>),
    /// The agent.
    Agent,
}

/// Communities for prefixes within a prefix (BGPConfiguration.prefixAdvertisements).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advertisement {
    /// The prefix.
    pub cidr: Cidr,
    /// What to add, in the order given.
    pub communities: Vec<Community>,
}

/// A BGP community.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Community {
    /// `aa:nn` (RFC 1997).
    Standard(u16, u16),
    /// `aa:nn:mm` (RFC 8092).
    Large(u32, u32, u32),
}

impl Community {
    /// Whether it is a large one.
    pub fn is_large(self) -> bool {
        matches!(self, Community::Large(..))
    }
}

impl std::str::FromStr for Community {
    type Err = String;

    fn from_str(text: &str) -> Result<Community, String> {
        let bad =
            || format!("{text:?} is no community: aa:nn with 16-bit parts or aa:nn:mm with 32-bit parts");
        let parts: Vec<u32> =
            text.split(':').map(|p| p.parse().map_err(|_| bad())).collect::<Result<_, _>>()?;
        let short = |n: u32| u16::try_from(n).map_err(|_| bad());
        match parts[..] {
            [a, n] => Ok(Community::Standard(short(a)?, short(n)?)),
            [a, n, m] => Ok(Community::Large(a, n, m)),
            _ => Err(bad()),
        }
    }
}
