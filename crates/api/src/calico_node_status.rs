//! CalicoNodeStatus: somebody asks a node how it is, and the node answers in the status (spec 6 §3.10).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{Resource, Spec};
use crate::word::words;

/// A question to a node, and its answer.
pub type CalicoNodeStatus = Resource<CalicoNodeStatusSpec>;

words! {
    /// What a node is asked for.
    pub enum NodeStatusClass {
        /// The BGP daemon itself.
        Agent = "Agent",
        /// Its sessions.
        Bgp = "BGP",
        /// Its routes.
        Routes = "Routes",
    }
}

/// Who is asked, for what, and how often.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CalicoNodeStatusSpec {
    /// The node.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub node: SmolStr,
    /// What it is asked for; what is not asked for is absent from the answer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<NodeStatusClass>,
    /// Seconds between answers; with 0 the node answers once, and that stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub update_period_seconds: Option<u32>,
}

impl CalicoNodeStatusSpec {
    /// The longest time between answers: a day.
    pub const MAX_PERIOD_SECS: u32 = 86_400;
}

impl Spec for CalicoNodeStatusSpec {
    const KIND: Kind = Kind::CalicoNodeStatus;
    type Status = NodeStatusReport;
}

/// A node's answer.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeStatusReport {
    /// When it was given, RFC 3339; null, which Calico stores too, until then.
    pub last_updated: Option<SmolStr>,
    /// For [`NodeStatusClass::Agent`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent: Option<NodeAgentStatus>,
    /// For [`NodeStatusClass::Bgp`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bgp: Option<NodeBgpStatus>,
    /// For [`NodeStatusClass::Routes`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routes: Option<NodeRoutesStatus>,
}

/// How the daemons are. Ours is one for both families, and is reported as both.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeAgentStatus {
    /// That of IPv4.
    #[serde(rename = "birdV4")]
    pub bird_v4: BgpDaemonStatus,
    /// That of IPv6.
    #[serde(rename = "birdV6")]
    pub bird_v6: BgpDaemonStatus,
}

words! {
    /// How a daemon is.
    pub enum BgpDaemonState {
        /// It answers, and recovers nothing.
        Ready = "Ready",
        /// It does not answer, or recovers from a restart.
        NotReady = "NotReady",
    }
}

/// How a daemon is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BgpDaemonStatus {
    /// Whether it works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<BgpDaemonState>,
    /// Its version.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub version: SmolStr,
    /// Its BGP identifier.
    #[serde(rename = "routerID", skip_serializing_if = "SmolStr::is_empty")]
    pub router_id: SmolStr,
    /// When it started, in its own words.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub last_boot_time: SmolStr,
    /// When it took its last configuration, in its own words.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub last_reconfiguration_time: SmolStr,
}

/// The sessions.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeBgpStatus {
    /// IPv4 sessions that are up.
    #[serde(rename = "numberEstablishedV4")]
    pub number_established_v4: u32,
    /// IPv4 sessions that are not.
    #[serde(rename = "numberNotEstablishedV4")]
    pub number_not_established_v4: u32,
    /// IPv6 sessions that are up.
    #[serde(rename = "numberEstablishedV6")]
    pub number_established_v6: u32,
    /// IPv6 sessions that are not.
    #[serde(rename = "numberNotEstablishedV6")]
    pub number_not_established_v6: u32,
    /// IPv4 sessions.
    #[serde(rename = "peersV4", skip_serializing_if = "Vec::is_empty")]
    pub peers_v4: Vec<NodeBgpPeer>,
    /// IPv6 sessions.
    #[serde(rename = "peersV6", skip_serializing_if = "Vec::is_empty")]
    pub peers_v6: Vec<NodeBgpPeer>,
}

words! {
    /// Why a session exists.
    pub enum NodePeerType {
        /// Between all nodes.
        Mesh = "NodeMesh",
        /// A BGPPeer of one node or of selected ones.
        Node = "NodePeer",
        /// A BGPPeer of all nodes.
        Global = "GlobalPeer",
    }
}

words! {
    /// The state of a session (RFC 4271 §8.2.2), and BIRD's own for one that ends.
    pub enum NodePeerState {
        /// Nothing is tried.
        Idle = "Idle",
        /// It is being connected.
        Connect = "Connect",
        /// It is to be connected again, or the peer is waited for.
        Active = "Active",
        /// Connected, and said so.
        OpenSent = "OpenSent",
        /// The peer has answered.
        OpenConfirm = "OpenConfirm",
        /// Up.
        Established = "Established",
        /// Ending.
        Close = "Close",
    }
}

/// A session.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeBgpPeer {
    /// The peer's address.
    #[serde(rename = "peerIP", skip_serializing_if = "SmolStr::is_empty")]
    pub peer_ip: SmolStr,
    /// Why it exists.
    #[serde(rename = "type")]
    pub peer_type: NodePeerType,
    /// How it is.
    pub state: NodePeerState,
    /// Since when, in the daemon's words.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub since: SmolStr,
}

impl Default for NodeBgpPeer {
    fn default() -> NodeBgpPeer {
        NodeBgpPeer {
            peer_ip: SmolStr::default(),
            peer_type: NodePeerType::Other(SmolStr::default()),
            state: NodePeerState::Other(SmolStr::default()),
            since: SmolStr::default(),
        }
    }
}

/// The routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct NodeRoutesStatus {
    /// IPv4.
    #[serde(rename = "routesV4", skip_serializing_if = "Vec::is_empty")]
    pub routes_v4: Vec<NodeRoute>,
    /// IPv6.
    #[serde(rename = "routesV6", skip_serializing_if = "Vec::is_empty")]
    pub routes_v6: Vec<NodeRoute>,
}

words! {
    /// Where a route is.
    pub enum NodeRouteType {
        /// In the kernel: the one that BIRD chose.
        Fib = "FIB",
        /// Known to BIRD only.
        Rib = "RIB",
    }
}

words! {
    /// Where a route comes from.
    pub enum NodeRouteSourceType {
        /// The kernel's table.
        Kernel = "Kernel",
        /// BIRD's configuration.
        Static = "Static",
        /// An interface.
        Direct = "Direct",
        /// Another node.
        NodeMesh = "NodeMesh",
        /// A BGPPeer.
        BgpPeer = "BGPPeer",
    }
}

/// A route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRoute {
    /// Where it is.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub route_type: Option<NodeRouteType>,
    /// Its prefix.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub destination: SmolStr,
    /// Its next hop; absent where it leads to an interface or nowhere.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub gateway: SmolStr,
    /// Its interface.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub interface: SmolStr,
    /// Where it comes from.
    pub learned_from: NodeRouteSource,
}

/// Where a route comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeRouteSource {
    /// What kind of source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source_type: Option<NodeRouteSourceType>,
    /// The peer that sent it.
    #[serde(rename = "peerIP", skip_serializing_if = "SmolStr::is_empty")]
    pub peer_ip: SmolStr,
}
