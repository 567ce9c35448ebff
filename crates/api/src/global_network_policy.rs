//! GlobalNetworkPolicy: rules for endpoints of any namespace and of hosts (spec 1 §1.3).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};
use crate::number::Order;
use crate::rule::{PolicyType, Rule};
use crate::word::is_false;

/// A cluster-wide policy.
pub type GlobalNetworkPolicy = Resource<GlobalNetworkPolicySpec>;

/// What a GlobalNetworkPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct GlobalNetworkPolicySpec {
    /// The tier that it is in; empty means `default`.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub tier: SmolStr,
    /// Its place in the tier; none comes last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Rules for traffic to the endpoint, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// The endpoints that it applies to; empty means all.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub selector: SmolStr,
    /// The directions that it governs; empty: Ingress, and Egress if there are egress rules only or too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    /// Host endpoints: apply before connection tracking, and bypass it.
    #[serde(skip_serializing_if = "is_false")]
    pub do_not_track: bool,
    /// Host endpoints: apply before destination NAT; ingress only.
    #[serde(rename = "preDNAT", skip_serializing_if = "is_false")]
    pub pre_dnat: bool,
    /// Host endpoints: apply to forwarded traffic as well.
    #[serde(skip_serializing_if = "is_false")]
    pub apply_on_forward: bool,
    /// Only endpoints of service accounts that match.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub service_account_selector: SmolStr,
    /// Only endpoints in namespaces that match.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub namespace_selector: SmolStr,
    /// Hints for the dataplane: `AssumeNeededOnEveryNode`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<SmolStr>,
}

/// A ClusterNetworkPolicy of Kubernetes', in the words of Calico's global policies.
pub type KubernetesClusterNetworkPolicy = Resource<KubernetesClusterNetworkPolicySpec>;

/// What a cluster-wide policy of Kubernetes' says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KubernetesClusterNetworkPolicySpec(pub GlobalNetworkPolicySpec);

impl Spec for KubernetesClusterNetworkPolicySpec {
    const KIND: Kind = Kind::KubernetesClusterNetworkPolicy;
    // No tier: it is not stored as tiered policies are, with their name in an annotation.
    type Status = NoStatus;
}

impl Spec for GlobalNetworkPolicySpec {
    const KIND: Kind = Kind::GlobalNetworkPolicy;
    type Status = NoStatus;

    fn tier(&self) -> Option<&str> {
        Some(&self.tier)
    }
}
