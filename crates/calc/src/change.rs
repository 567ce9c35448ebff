//! What the calculation says about this node: the whole vocabulary between `calc` and the dataplane.
//!
//! Values are complete: a `…Changed` carries the whole new object, so the consumer keeps no history. Order within a
//! batch is safe to apply as it comes: sets before the policies that name them, policies before endpoints; removals
//! the other way round (spec 3 §6.2, flush order).

use std::net::IpAddr;
use std::sync::Arc;

use calico_api::ResourceKey;
use calico_net::{Cidr, Family, IfName, Mac, PortRange, Protocol};
use smol_str::SmolStr;

/// Names an IP set by what it contains: `s:…` for a selector, `n:…` for a named port, `svc:…` for a service
/// (spec 3 §6.3). Equal ids mean equal contents.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpSetId(pub SmolStr);

/// What members of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IpSetKind {
    /// Addresses and prefixes of both families.
    Net,
    /// (address, protocol, port) triples: named ports.
    IpPort,
}

/// One member of a set. Members of one set may overlap or nest (`10.0.0.0/8` and `10.1.0.0/16`); each is counted
/// once however many endpoints contribute it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Member {
    /// Of a [`IpSetKind::Net`] set.
    Net(Cidr),
    /// Of a [`IpSetKind::IpPort`] set.
    IpPort {
        /// The endpoint's address.
        addr: IpAddr,
        /// The port's protocol.
        protocol: Protocol,
        /// The port's number.
        port: u16,
    },
}

/// Which way a packet goes, as the endpoint sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// To the endpoint.
    Ingress,
    /// From the endpoint.
    Egress,
}

/// What a rule does with a packet that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Accept; no later policy is asked.
    Allow,
    /// Drop.
    Deny,
    /// Skip the rest of the tier.
    Pass,
    /// Log and go on.
    Log,
}

/// ICMP type, and code if given (spec 2 §5.6: a type without a code is any code).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Icmp {
    /// 0–254.
    pub icmp_type: u8,
    /// 0–255.
    pub code: Option<u8>,
}

/// One side of a rule. All set fields must hold; members of one list are alternatives; `not_` lists must all miss.
/// `ports` and `named_ports` are alternatives of one match, as are `not_ports` and `not_named_ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Side {
    /// The address is in one of these.
    pub nets: Vec<Cidr>,
    /// The address is in none of these.
    pub not_nets: Vec<Cidr>,
    /// The address is in every one of these sets (at most two: selector, service).
    pub ip_sets: Vec<IpSetId>,
    /// The address is in none of these sets.
    pub not_ip_sets: Vec<IpSetId>,
    /// The port is in one of these…
    pub ports: Vec<PortRange>,
    /// …or (address, protocol, port) is in one of these [`IpSetKind::IpPort`] sets.
    pub named_ports: Vec<IpSetId>,
    /// The port is in none of these.
    pub not_ports: Vec<PortRange>,
    /// (address, protocol, port) is in none of these sets.
    pub not_named_ports: Vec<IpSetId>,
}

/// A rule with its selectors resolved to sets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rule {
    /// What to do.
    pub action: Action,
    /// Only packets of this family.
    pub family: Option<Family>,
    /// Only this protocol.
    pub protocol: Option<Protocol>,
    /// Any protocol but this.
    pub not_protocol: Option<Protocol>,
    /// Only this ICMP type (and code).
    pub icmp: Option<Icmp>,
    /// Any but this ICMP type (and code).
    pub not_icmp: Option<Icmp>,
    /// Where the packet comes from.
    pub source: Side,
    /// Where it goes.
    pub destination: Side,
}

impl Rule {
    /// A rule that matches everything.
    pub fn new(action: Action) -> Rule {
        Rule {
            action,
            family: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            source: Side::default(),
            destination: Side::default(),
        }
    }
}

/// The rules of one policy.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    /// The tier that it is in (for comments and metrics).
    pub tier: SmolStr,
    /// Rules for packets to the endpoint, first match wins.
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint, first match wins.
    pub egress: Vec<Rule>,
}

/// The rules of one profile. A profile that does not exist is never reported: its users get it as deny-all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Profile {
    /// Rules for packets to the endpoint.
    pub ingress: Vec<Rule>,
    /// Rules for packets from the endpoint.
    pub egress: Vec<Rule>,
}

/// What happens at the end of a tier whose policies all passed a packet by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TierEnd {
    /// Drop it (the default).
    Deny,
    /// Ask the next tier.
    Pass,
}

/// One tier as it applies to one endpoint. A list that is empty means: the tier is skipped in that direction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tier {
    /// Its name.
    pub name: SmolStr,
    /// Its default action.
    pub end: TierEnd,
    /// Policies that select the endpoint and apply to ingress, in order.
    pub ingress: Vec<ResourceKey>,
    /// Policies that select the endpoint and apply to egress, in order.
    pub egress: Vec<ResourceKey>,
}

/// A workload endpoint's identity: (orchestrator, workload, endpoint) on this node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkloadId {
    /// `k8s`, `cni`, …
    pub orchestrator: SmolStr,
    /// `<namespace>/<pod or workload>`.
    pub workload: SmolStr,
    /// The endpoint's name, usually the container's interface.
    pub endpoint: SmolStr,
}

/// A local workload endpoint, ready to be programmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// The resource that it comes from.
    pub key: ResourceKey,
    /// The host side of its veth.
    pub interface: IfName,
    /// The container side's MAC, when known.
    pub mac: Option<Mac>,
    /// Its addresses: /32s and /128s.
    pub nets: Vec<Cidr>,
    /// Source prefixes that it may use besides its own.
    pub allowed_sources: Vec<Cidr>,
    /// Its policies, tier by tier, in order; tiers without any policy of it are left out. Shared by all endpoints with
    /// the same list, so that pointer equality is a cheap first test.
    pub tiers: Arc<[Tier]>,
    /// Its profiles, in order.
    pub profiles: Arc<[SmolStr]>,
}

/// A host endpoint, ready to be matched to an interface (spec 2 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostEndpoint {
    /// Interface name; `*` for all; empty to match by `expected_ips`.
    pub interface: SmolStr,
    /// Addresses to match by when there is no name.
    pub expected_ips: Vec<IpAddr>,
    /// Policies for traffic that the host ends or starts.
    pub tiers: Arc<[Tier]>,
    /// Policies before conntrack.
    pub untracked_tiers: Arc<[Tier]>,
    /// Policies before destination NAT; ingress only.
    pub pre_dnat_tiers: Arc<[Tier]>,
    /// Policies for traffic that the host forwards.
    pub forward_tiers: Arc<[Tier]>,
    /// Its profiles, in order.
    pub profiles: Arc<[SmolStr]>,
}

/// What the dataplane needs of an IP pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Masquerade traffic that leaves the pools.
    pub nat_outgoing: bool,
    /// IPIP: never, across subnets, always.
    pub ipip: Encap,
    /// VXLAN: never, across subnets, always.
    pub vxlan: Encap,
    /// Only load-balancer addresses: no workloads inside.
    pub load_balancer_only: bool,
}

/// When a pool's traffic is encapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encap {
    /// Never.
    Never,
    /// Between nodes of different subnets.
    CrossSubnet,
    /// Always.
    Always,
}

/// What carries packets between nodes where they are encapsulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Overlay {
    /// VXLAN, both families.
    Vxlan,
    /// IP in IP, IPv4 only.
    Ipip,
}

impl Pool {
    /// What carries the pool's traffic, and when. A pool with two overlays does not get here.
    pub fn overlay(&self) -> Option<(Overlay, Encap)> {
        match (self.vxlan, self.ipip) {
            (Encap::Never, Encap::Never) => None,
            (Encap::Never, mode) => Some((Overlay::Ipip, mode)),
            (mode, _) => Some((Overlay::Vxlan, mode)),
        }
    }
}

/// How packets reach another node. Encapsulation is data here: whoever programs routes has one way for all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Path {
    /// Through the overlay's device, to this address: the other node's tunnel address with VXLAN, its own with IPIP.
    Tunnel(Overlay, IpAddr),
    /// The same, but the node at this address has not said yet that it receives there: it names its tunnel address only
    /// then. Whoever has another way to it keeps that for a while. VXLAN has no way without that address; IPIP has, and
    /// needs it where no pool gives the node one.
    Awaited(Overlay, IpAddr),
    /// To the node's own address, which is on this node's subnet, of a pool that is encapsulated across subnets only.
    Subnet(Overlay, IpAddr),
    /// The pool is not encapsulated: routes are the BGP speaker's or the fabric's.
    Plain,
}

/// The way to addresses of another node: a block of its, or one address that it borrowed from another's block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterRoute {
    /// Who has them.
    pub node: SmolStr,
    /// How to get there.
    pub path: Path,
}

/// Another node's end of VXLAN tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vtep {
    /// Where encapsulated packets are sent: the node's own address.
    pub host: IpAddr,
    /// Its tunnel address, which routes lead to.
    pub addr: IpAddr,
    /// The Ethernet address of its device.
    pub mac: Mac,
}

/// This node's end of VXLAN tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalVtep {
    /// This node's own address: packets are sent from it and expected at it.
    pub host: IpAddr,
    /// The tunnel address, once it has one.
    pub addr: Option<IpAddr>,
    /// The Ethernet address of its device.
    pub mac: Mac,
}

/// What the dataplane needs of a node (this one included).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeInfo {
    /// Its IPv4 address and subnet length.
    pub v4: Option<(IpAddr, u8)>,
    /// Its IPv6 address and subnet length.
    pub v6: Option<(IpAddr, u8)>,
    /// Its IPIP tunnel address.
    pub ipip_addr: Option<IpAddr>,
    /// Its VXLAN tunnel address.
    pub vxlan_v4_addr: Option<IpAddr>,
    /// Its VXLAN MAC, if it does not use the computed one.
    pub vxlan_v4_mac: Option<Mac>,
    /// Its IPv6 VXLAN tunnel address.
    pub vxlan_v6_addr: Option<IpAddr>,
    /// Its IPv6 VXLAN MAC, if it does not use the computed one.
    pub vxlan_v6_mac: Option<Mac>,
}

/// One step of what the calculation tells the dataplane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A new set, whole.
    IpSetAdded {
        /// Its id.
        id: IpSetId,
        /// What its members are.
        kind: IpSetKind,
        /// Its members, each once, in no order.
        members: Vec<Member>,
    },
    /// Members came or went.
    IpSetChanged {
        /// Its id.
        id: IpSetId,
        /// New members, each once.
        added: Vec<Member>,
        /// Gone members, each once.
        removed: Vec<Member>,
    },
    /// Nothing names the set any more.
    IpSetRemoved(IpSetId),
    /// A policy that selects a local endpoint is new or different.
    PolicyChanged(ResourceKey, Arc<Policy>),
    /// The policy is gone or selects no local endpoint.
    PolicyRemoved(ResourceKey),
    /// A profile that a local endpoint uses is new or different.
    ProfileChanged(SmolStr, Arc<Profile>),
    /// The profile is not used any more. (One that is used but missing comes as deny-all.)
    ProfileRemoved(SmolStr),
    /// A local workload endpoint is new or different.
    WorkloadChanged(WorkloadId, Arc<Workload>),
    /// It is gone.
    WorkloadRemoved(WorkloadId),
    /// A host endpoint of this node is new or different.
    HostEndpointChanged(SmolStr, Arc<HostEndpoint>),
    /// It is gone.
    HostEndpointRemoved(SmolStr),
    /// A pool is new or different.
    PoolChanged(Cidr, Pool),
    /// It is gone.
    PoolRemoved(Cidr),
    /// A node is new or different.
    NodeChanged(SmolStr, NodeInfo),
    /// It is gone.
    NodeRemoved(SmolStr),
    /// An IPAM block that this node owns appeared (its blackhole route).
    BlockAdded(Cidr),
    /// It is not ours any more.
    BlockRemoved(Cidr),
    /// This node's own end of a family's VXLAN tunnels is new or different.
    LocalVtepChanged(Family, LocalVtep),
    /// This node has no address of the family any more.
    LocalVtepRemoved(Family),
    /// This node's IPIP tunnel address is new or different.
    LocalIpipChanged(IpAddr),
    /// It has none any more.
    LocalIpipRemoved,
    /// Another node's end of VXLAN tunnels is new or different.
    VtepChanged(Family, SmolStr, Vtep),
    /// It is gone; no route leads to it any more.
    VtepRemoved(Family, SmolStr),
    /// The way to addresses of another node is new or different.
    RouteChanged(Cidr, ClusterRoute),
    /// Nobody has them any more, or nothing is known of who does.
    RouteRemoved(Cidr),
}
