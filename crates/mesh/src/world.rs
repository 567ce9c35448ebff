//! What the mesh needs to know of the datastore, typed: nodes, peers, configuration, pools, this node's blocks
//! and workloads.
//!
//! [`World`] is filled object by object, in any order, and [`World::resolve`] turns it into the intent of one node. It
//! depends on present state only.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use calico_api::ResourceKey;
use calico_api::meta::Labels;
use calico_net::{Asn, Cidr, Family};
use calico_selector::Selector;
use smol_str::SmolStr;

use crate::filter::Filter;
use crate::intent::{Advertisement, LogLevel, NextHopMode};
use crate::password::{SecretData, SecretRef};
use crate::services::Services;

/// A node, as far as BGP is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// What selectors of BGPPeers see.
    pub labels: Labels,
    /// Its IPv4 address and the length of its subnet.
    pub v4: Option<(Ipv4Addr, u8)>,
    /// Its IPv6 address and the length of its subnet.
    pub v6: Option<(Ipv6Addr, u8)>,
    /// Its own AS, if it has one.
    pub asn: Option<Asn>,
    /// Its cluster as a route reflector: such a node takes no part in the mesh, unless `keeps_mesh`.
    pub cluster_id: Option<Ipv4Addr>,
    /// A reflector that stays in the mesh until a change of the mesh is complete (annotation [`KEEP_MESH`]).
    pub keeps_mesh: bool,
}

/// The annotation of a Node that keeps a route reflector in the mesh, if it says `true`: so its new sessions are up
/// before those of the mesh go. On the Node, whose cluster id it goes with: everybody sees the two at once.
pub const KEEP_MESH: &str = "calico-rs/keep-mesh";

impl NodeFacts {
    /// Whether it takes part in the mesh, where there is one.
    pub fn is_in_mesh(&self) -> bool {
        self.cluster_id.is_none() || self.keeps_mesh
    }

    /// Its address in a family.
    pub fn addr(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4.map(|(a, _)| IpAddr::V4(a)),
            Family::V6 => self.v6.map(|(a, _)| IpAddr::V6(a)),
        }
    }

    /// The subnet of its address in a family.
    pub fn subnet(&self, family: Family) -> Option<Cidr> {
        let (addr, len) = match family {
            Family::V4 => self.v4.map(|(a, len)| (IpAddr::V4(a), len)),
            Family::V6 => self.v6.map(|(a, len)| (IpAddr::V6(a), len)),
        }?;
        Cidr::new(addr, len).ok()
    }
}

/// Which nodes a BGPPeer is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerScope {
    /// All.
    Global,
    /// One, by name.
    Node(SmolStr),
    /// Those that match.
    Selected(Selector),
}

/// Whom a BGPPeer names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PeerTarget {
    /// An address, and a port if one is given.
    Address {
        /// The neighbour.
        addr: IpAddr,
        /// Its port.
        port: Option<u16>,
        /// Its AS.
        asn: Asn,
    },
    /// Calico nodes that match; address, AS and port come from them.
    Nodes(Selector),
    /// Workloads of the node itself that match.
    Workloads {
        /// By their labels.
        selector: Selector,
        /// Their AS.
        asn: Asn,
    },
}

/// A BGPPeer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// For which nodes.
    pub scope: PeerScope,
    /// With whom.
    pub target: PeerTarget,
    /// The sessions that Calico nodes named by it need at their end come by themselves.
    pub reverse: bool,
    /// Properties of its sessions.
    pub options: PeerOptions,
}

/// What a BGPPeer says of its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerOptions {
    /// Our AS in them, if not the node's.
    pub local_as: Option<Asn>,
    /// Connect from the node's address (`sourceAddress: UseNodeIP`).
    pub from_node_addr: bool,
    /// `maxRestartTime`.
    pub restart_time_secs: Option<u32>,
    /// `keepaliveTime`.
    pub keepalive_secs: Option<u32>,
    /// `nextHopMode`.
    pub next_hop: NextHopMode,
    /// `keepOriginalNextHop`: [`NextHopMode::Keep`] in external sessions.
    pub keep_original_next_hop: bool,
    /// `numAllowedLocalASNumbers`.
    pub allow_local_as: Option<u8>,
    /// `ttlSecurity`; 0 is off.
    pub ttl_security_hops: Option<u8>,
    /// `reachableBy`.
    pub reachable_by: Option<IpAddr>,
    /// `filters`: BGPFilters by name, in order.
    pub filters: Vec<SmolStr>,
    /// `password.secretKeyRef`.
    pub password: Option<SecretRef>,
    /// Watch the way to the peer with BFD.
    pub bfd: bool,
    /// Long-lived graceful restart.
    pub long_lived: bool,
}

impl Default for PeerOptions {
    fn default() -> PeerOptions {
        PeerOptions {
            local_as: None,
            from_node_addr: true,
            restart_time_secs: None,
            keepalive_secs: None,
            next_hop: NextHopMode::Auto,
            keep_original_next_hop: false,
            allow_local_as: None,
            ttl_security_hops: None,
            reachable_by: None,
            filters: Vec::new(),
            password: None,
            bfd: false,
            long_lived: false,
        }
    }
}

/// A BGPConfiguration, either `default` or a node's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigFacts {
    /// `nodeToNodeMeshEnabled`; absent means yes.
    pub mesh_enabled: Option<bool>,
    /// `asNumber`.
    pub asn: Option<Asn>,
    /// `listenPort`.
    pub listen_port: Option<u16>,
    /// `logSeverityScreen`.
    pub log_level: Option<LogLevel>,
    /// `nodeMeshMaxRestartTime`.
    pub mesh_restart_time_secs: Option<u32>,
    /// `nodeMeshPassword.secretKeyRef`.
    pub mesh_password: Option<SecretRef>,
    /// Watch the ways between nodes of the mesh with BFD.
    pub mesh_bfd: bool,
    /// Long-lived graceful restart between nodes of the mesh.
    pub mesh_long_lived: bool,
    /// `bindMode: NodeIP`.
    pub node_ip_only: bool,
    /// `ignoredInterfaces`.
    pub ignored_interfaces: Vec<SmolStr>,
    /// `prefixAdvertisements`, names of communities looked up; absent where the object does not have the list.
    pub advertisements: Option<Vec<Advertisement>>,
    /// `programClusterRoutes`: which learned routes the speaker installs. Absent means plain ones only.
    pub programs: Option<Programs>,
    /// `ipv4NormalRoutePriority`.
    pub normal_priority_v4: Option<u32>,
    /// `ipv6NormalRoutePriority`.
    pub normal_priority_v6: Option<u32>,
}

/// Which routes to other nodes the speaker installs in the kernel (spec 6 §3.7). The agent has its own option for it, and
/// those of VXLAN always.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Programs {
    /// Those of pools that are not encapsulated.
    pub plain: bool,
    /// Those of pools that are encapsulated in IPIP.
    pub ipip: bool,
}

impl Default for Programs {
    fn default() -> Programs {
        Programs { plain: true, ipip: false }
    }
}

/// Whether traffic between nodes is encapsulated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Encapsulation {
    /// Never.
    #[default]
    Never,
    /// In IPIP, between nodes of different subnets.
    CrossSubnet,
    /// In IPIP, always.
    Always,
    /// In VXLAN, whenever: the agent has all its routes.
    Vxlan,
}

/// An IPPool, as far as BGP is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolFacts {
    /// Its prefix.
    pub cidr: Cidr,
    /// Not announced.
    pub disable_bgp_export: bool,
    /// `ipipMode` or `vxlanMode`, whichever does more.
    pub encapsulation: Encapsulation,
}

/// A workload of this node, as far as BGP is concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadFacts {
    /// Its addresses, each whole (/32 or /128).
    pub addrs: Vec<Cidr>,
    /// What `localWorkloadSelector` sees.
    pub labels: Labels,
}

/// The part of the datastore that the mesh is made of.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct World {
    /// Nodes by name.
    pub nodes: BTreeMap<SmolStr, NodeFacts>,
    /// BGPPeers by name.
    pub peers: BTreeMap<SmolStr, PeerFacts>,
    /// BGPFilters by name.
    pub filters: BTreeMap<SmolStr, Filter>,
    /// Secrets by name, of those that passwords are in.
    pub secrets: BTreeMap<SmolStr, SecretData>,
    /// BGPConfigurations by name.
    pub configs: BTreeMap<SmolStr, ConfigFacts>,
    /// IPPools by name.
    pub pools: BTreeMap<SmolStr, PoolFacts>,
    /// Blocks that this node has claimed and not just begun to claim: confirmed or being given up (spec 6 §3.2).
    pub blocks: std::collections::BTreeSet<Cidr>,
    /// This node's workloads, by WorkloadEndpoint.
    pub workloads: BTreeMap<ResourceKey, WorkloadFacts>,
    /// Kubernetes' services.
    pub services: Services,
}

impl World {
    /// The addresses of this node's workloads that are in a pool but in no block of this node, sorted.
    pub fn borrowed(&self) -> Vec<Cidr> {
        let mut borrowed: Vec<Cidr> = self
            .workloads
            .values()
            .flat_map(|workload| &workload.addrs)
            .filter(|addr| self.pools.values().any(|pool| pool.cidr.covers(addr)))
            .filter(|addr| !self.blocks.iter().any(|block| block.covers(addr)))
            .copied()
            .collect();
        borrowed.sort_unstable();
        borrowed.dedup();
        borrowed
    }

    /// Whether a workload of this node has any part in what its speaker does: as a peer, or by an address that no block
    /// of this node covers. Most have none.
    pub fn concerns_speaker(&self, workload: &WorkloadFacts) -> bool {
        let is_peer = |peer: &PeerFacts| match &peer.target {
            PeerTarget::Workloads { selector, .. } => selector.matches(&workload.labels),
            PeerTarget::Address { .. } | PeerTarget::Nodes(_) => false,
        };
        let is_covered = |addr: &Cidr| self.blocks.iter().any(|block| block.covers(addr));
        self.peers.values().any(is_peer) || !workload.addrs.iter().all(is_covered)
    }

    /// The cluster's BGPConfiguration; all defaults where there is none.
    pub fn cluster_config(&self) -> std::borrow::Cow<'_, ConfigFacts> {
        match self.configs.get("default") {
            Some(config) => std::borrow::Cow::Borrowed(config),
            None => std::borrow::Cow::Owned(ConfigFacts::default()),
        }
    }

    /// A node's own BGPConfiguration.
    pub fn node_config(&self, node: &str) -> Option<&ConfigFacts> {
        self.configs.get(format!("node.{node}").as_str())
    }

    /// The AS of the cluster.
    pub fn cluster_as(&self) -> Asn {
        self.cluster_config().asn.unwrap_or(Asn::DEFAULT)
    }

    /// The AS of a node: its own or the cluster's.
    pub fn node_as(&self, node: &NodeFacts) -> Asn {
        node.asn.unwrap_or_else(|| self.cluster_as())
    }

    /// The port that a node was told to listen on: its own or the cluster's; `None` where neither is configured.
    pub fn listen_port(&self, node: &str) -> Option<u16> {
        self.node_config(node).and_then(|c| c.listen_port).or(self.cluster_config().listen_port)
    }
}
