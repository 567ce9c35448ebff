//! BGPPeer: a session between nodes and somebody else (spec 1 §1.6).

use calico_net::Asn;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::bgp_configuration::BgpPassword;
use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};
use crate::number::GoDuration;
use crate::word::{is_false, words};

/// A peering.
pub type BGPPeer = Resource<BGPPeerSpec>;

words! {
    /// What next hop is announced to the peer.
    pub enum NextHopMode {
        /// BGP's own rule.
        Auto = "Auto",
        /// Always the node.
        SelfNode = "Self",
        /// As it was learnt.
        Keep = "Keep",
    }
}

/// What a BGPPeer says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BGPPeerSpec {
    /// The one node that peers; with `node_selector` empty too, all do.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub node: SmolStr,
    /// The nodes that peer.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub node_selector: SmolStr,
    /// The peer: `IP`, `IPv4:port` or `[IPv6]:port`.
    #[serde(rename = "peerIP", skip_serializing_if = "SmolStr::is_empty")]
    pub peer_ip: SmolStr,
    /// The peer's AS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_number: Option<Asn>,
    /// The peers: nodes that match.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub peer_selector: SmolStr,
    /// Deprecated spelling of `nextHopMode: Keep`.
    #[serde(skip_serializing_if = "is_false")]
    pub keep_original_next_hop: bool,
    /// What next hop is announced; none means automatic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_hop_mode: Option<NextHopMode>,
    /// The session's password.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<BgpPassword>,
    /// `UseNodeIP` (default) or `None`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub source_address: SmolStr,
    /// Graceful restart time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_restart_time: Option<GoDuration>,
    /// How often keepalives are sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keepalive_time: Option<GoDuration>,
    /// How often the own AS may occur in a received path.
    #[serde(rename = "numAllowedLocalASNumbers", skip_serializing_if = "Option::is_none")]
    pub num_allowed_local_as_numbers: Option<u32>,
    /// Hops of generalised TTL security (RFC 5082); none for off.
    #[serde(rename = "ttlSecurity", skip_serializing_if = "Option::is_none")]
    pub ttl_security: Option<u8>,
    /// Gateway to a peer that is not on a connected network.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub reachable_by: SmolStr,
    /// BGPFilters, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<SmolStr>,
    /// The local AS towards this peer.
    #[serde(rename = "localASNumber", skip_serializing_if = "Option::is_none")]
    pub local_as_number: Option<Asn>,
    /// The peers: workloads of the node that match.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub local_workload_selector: SmolStr,
    /// `Auto` (default) or `Manual`: whether selected peers peer back by themselves.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reverse_peering: Option<SmolStr>,
}

impl Spec for BGPPeerSpec {
    const KIND: Kind = Kind::BGPPeer;
    type Status = NoStatus;
}
