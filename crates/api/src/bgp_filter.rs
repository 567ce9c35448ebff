//! BGPFilter: which routes sessions take and give, and what becomes of them (spec 1 §1.6).

use calico_net::Asn;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};
use crate::word::words;

/// A filter.
pub type BGPFilter = Resource<BGPFilterSpec>;

words! {
    /// What happens to a route that a rule matches.
    pub enum FilterAction {
        /// It passes.
        Accept = "Accept",
        /// It does not.
        Reject = "Reject",
    }
}

words! {
    /// How a route's prefix compares to a rule's.
    pub enum MatchOperator {
        /// The same.
        Equal = "Equal",
        /// Another.
        NotEqual = "NotEqual",
        /// Inside, or the same.
        In = "In",
        /// Neither inside nor the same.
        NotIn = "NotIn",
    }
}

/// What a BGPFilter says: lists of rules, in order, by direction and family.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct BGPFilterSpec {
    /// For IPv4 routes that are given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub export_v4: Vec<FilterRule>,
    /// For IPv4 routes that are taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub import_v4: Vec<FilterRule>,
    /// For IPv6 routes that are given.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub export_v6: Vec<FilterRule>,
    /// For IPv6 routes that are taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub import_v6: Vec<FilterRule>,
}

/// One rule. All fields that are set must match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterRule {
    /// What `match_operator` compares to; both are set, or neither.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    pub cidr: SmolStr,
    /// Only prefixes of these lengths; needs a `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix_length: Option<PrefixLengths>,
    /// `RemotePeers`: only routes learnt from peers.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    pub source: SmolStr,
    /// Only routes by this interface; `*` stands for any part.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    pub interface: SmolStr,
    /// How the prefix compares to `cidr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub match_operator: Option<MatchOperator>,
    /// `eBGP` or `iBGP`: only sessions of that kind.
    #[serde(default, skip_serializing_if = "SmolStr::is_empty")]
    pub peer_type: SmolStr,
    /// Only routes with this community.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub communities: Option<FilterCommunities>,
    /// Only routes whose path begins so.
    #[serde(default, rename = "asPathPrefix", skip_serializing_if = "Vec::is_empty")]
    pub as_path_prefix: Vec<Asn>,
    /// Only routes of this metric.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// What to do.
    pub action: FilterAction,
    /// Changes to accepted routes, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub operations: Vec<FilterOperation>,
}

/// Lengths of prefixes, both ends included; an absent end is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct PrefixLengths {
    /// The shortest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<u8>,
    /// The longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u8>,
}

/// Communities to match; exactly one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterCommunities {
    /// `aa:nn` or `aa:nn:mm`.
    pub values: Vec<SmolStr>,
}

/// One change; exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct FilterOperation {
    /// Add a community.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub add_community: Option<AddCommunity>,
    /// Lengthen the path.
    #[serde(rename = "prependASPath", skip_serializing_if = "Option::is_none")]
    pub prepend_as_path: Option<PrependAsPath>,
    /// Set the metric.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub set_priority: Option<SetPriority>,
}

/// A community to add.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddCommunity {
    /// `aa:nn` or `aa:nn:mm`.
    pub value: SmolStr,
}

/// AS numbers to put before a path.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrependAsPath {
    /// In the order of the path.
    pub prefix: Vec<Asn>,
}

/// A metric to set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPriority {
    /// 1–2147483646.
    pub value: u32,
}

impl Spec for BGPFilterSpec {
    const KIND: Kind = Kind::BGPFilter;
    type Status = NoStatus;
}
