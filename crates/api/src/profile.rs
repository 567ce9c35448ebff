//! Profile: rules and labels that endpoints inherit by naming it (spec 1 §1.3).

use serde::{Deserialize, Serialize};

use crate::key::Kind;
use crate::meta::{Labels, NoStatus, Resource, Spec};
use crate::rule::{Action, Rule};

/// A profile.
pub type Profile = Resource<ProfileSpec>;

/// The read-only profile that allows everything and exists in every cluster.
pub const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// What a profile says.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProfileSpec {
    /// Rules for traffic to the endpoint, asked after all policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ingress: Vec<Rule>,
    /// Rules for traffic from the endpoint, asked after all policies.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub egress: Vec<Rule>,
    /// Labels that its endpoints inherit; their own win.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub labels_to_apply: Labels,
}

impl ProfileSpec {
    /// Everything allowed both ways: the content of [`DEFAULT_ALLOW`].
    pub fn allow_all() -> ProfileSpec {
        let allow = vec![Rule::new(Action::Allow)];
        ProfileSpec { ingress: allow.clone(), egress: allow, labels_to_apply: Labels::new() }
    }
}

impl Spec for ProfileSpec {
    const KIND: Kind = Kind::Profile;
    type Status = NoStatus;
}
