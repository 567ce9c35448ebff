//! NetworkPolicy: rules for endpoints of one namespace (spec 1 §1.3).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::key::Kind;
use crate::meta::{NoStatus, Resource, Spec};
use crate::number::Order;
use crate::rule::{PolicyType, Rule};

/// A namespaced policy.
pub type NetworkPolicy = Resource<NetworkPolicySpec>;

/// What a NetworkPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicySpec {
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
    /// The endpoints of the namespace that it applies to; empty means all.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub selector: SmolStr,
    /// The directions that it governs; empty: Ingress, and Egress if there are egress rules only or too.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<PolicyType>,
    /// Only endpoints of service accounts that match.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub service_account_selector: SmolStr,
    /// Hints for the dataplane: `AssumeNeededOnEveryNode`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub performance_hints: Vec<SmolStr>,
}

impl Spec for NetworkPolicySpec {
    const KIND: Kind = Kind::NetworkPolicy;
    type Status = NoStatus;

    fn tier(&self) -> Option<&str> {
        Some(&self.tier)
    }
}

/// A NetworkPolicy of Kubernetes', in the words of Calico's.
pub type KubernetesNetworkPolicy = Resource<KubernetesNetworkPolicySpec>;

/// What a Kubernetes policy says. A kind of its own: it and a policy of Calico's may have the same name.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KubernetesNetworkPolicySpec(pub NetworkPolicySpec);

impl Spec for KubernetesNetworkPolicySpec {
    const KIND: Kind = Kind::KubernetesNetworkPolicy;
    // No tier: it is not stored as tiered policies are, with their name in an annotation.
    type Status = NoStatus;
}
