//! Tier: an ordered group of policies (spec 1 §1.3).

use serde::{Deserialize, Serialize};

use crate::key::Kind;
use crate::meta::{Conditions, Resource, Spec};
use crate::number::Order;
use crate::rule::Action;

/// A tier.
pub type Tier = Resource<TierSpec>;

/// The tier of policies that name none.
pub const DEFAULT_TIER: &str = "default";
/// The tier of cluster administrators' Kubernetes policies.
pub const KUBE_ADMIN_TIER: &str = "kube-admin";
/// The tier of Kubernetes' baseline policies.
pub const KUBE_BASELINE_TIER: &str = "kube-baseline";

/// What a tier says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TierSpec {
    /// Its place; none means 1,000,000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Deny (the default) or Pass, for packets that no policy of the tier decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_action: Option<Action>,
}

impl TierSpec {
    /// The order of tiers that name none.
    pub const DEFAULT_ORDER: Order = Order(1_000_000.0);

    /// The tiers that every cluster has, which may be neither deleted nor changed: name, order, default action.
    pub const BUILT_IN: [(&'static str, Order, Action); 3] = [
        (KUBE_ADMIN_TIER, Order(1_000.0), Action::Pass),
        (DEFAULT_TIER, TierSpec::DEFAULT_ORDER, Action::Deny),
        (KUBE_BASELINE_TIER, Order(10_000_000.0), Action::Pass),
    ];
}

impl Spec for TierSpec {
    const KIND: Kind = Kind::Tier;
    type Status = Conditions;
}
