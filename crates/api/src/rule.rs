//! Rules: what policies and profiles are made of (spec 1 §1.3).

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use crate::meta::Labels;
use crate::number::{Port, ProtocolForm};
use crate::word::words;

words! {
    /// What a rule does with a packet that it matches.
    pub enum Action {
        /// Accept.
        Allow = "Allow",
        /// Drop.
        Deny = "Deny",
        /// Log and go on with the next rule.
        Log = "Log",
        /// Skip the rest of the tier.
        Pass = "Pass",
    }
}

words! {
    /// A direction that a policy governs.
    pub enum PolicyType {
        /// Traffic to the endpoint.
        Ingress = "Ingress",
        /// Traffic from the endpoint.
        Egress = "Egress",
    }
}

/// One rule. All fields that are set must match.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What to do.
    pub action: Action,
    /// 4 or 6: only packets of that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip_version: Option<u8>,
    /// Only this protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<ProtocolForm>,
    /// Only this ICMP type and code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<IcmpMatch>,
    /// Any protocol but this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_protocol: Option<ProtocolForm>,
    /// Any ICMP type and code but this.
    #[serde(default, rename = "notICMP", skip_serializing_if = "Option::is_none")]
    pub not_icmp: Option<IcmpMatch>,
    /// Where the packet comes from.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub source: EntityRule,
    /// Where it goes.
    #[serde(default, skip_serializing_if = "EntityRule::is_empty")]
    pub destination: EntityRule,
    /// HTTP criteria (application layer policy).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpMatch>,
    /// Notes of the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<RuleMetadata>,
}

impl Rule {
    /// A rule that matches everything.
    pub fn new(action: Action) -> Rule {
        Rule {
            action,
            ip_version: None,
            protocol: None,
            icmp: None,
            not_protocol: None,
            not_icmp: None,
            source: EntityRule::default(),
            destination: EntityRule::default(),
            http: None,
            metadata: None,
        }
    }
}

/// ICMP type and code.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IcmpMatch {
    /// 0–254; none means any.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<i64>,
    /// 0–255; needs a type.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i64>,
}

/// One side of a rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct EntityRule {
    /// The address is in one of these CIDRs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nets: Vec<SmolStr>,
    /// The endpoint or network set matches this selector.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub selector: SmolStr,
    /// It is in a namespace that matches this selector; `global()` for those in none.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub namespace_selector: SmolStr,
    /// It is an endpoint of this Kubernetes service.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<ServiceMatch>,
    /// The port is one of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// The address is in none of these CIDRs.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_nets: Vec<SmolStr>,
    /// The endpoint or network set does not match this selector.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub not_selector: SmolStr,
    /// The port is none of these.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub not_ports: Vec<Port>,
    /// It runs as one of these service accounts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_accounts: Option<ServiceAccountMatch>,
}

impl EntityRule {
    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        let EntityRule {
            nets,
            selector,
            namespace_selector,
            services,
            ports,
            not_nets,
            not_selector,
            not_ports,
            service_accounts,
        } = self;
        nets.is_empty()
            && selector.is_empty()
            && namespace_selector.is_empty()
            && services.is_none()
            && ports.is_empty()
            && not_nets.is_empty()
            && not_selector.is_empty()
            && not_ports.is_empty()
            && service_accounts.is_none()
    }
}

/// A Kubernetes service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceMatch {
    /// Its name.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub name: SmolStr,
    /// Its namespace; a namespaced policy's own by default.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub namespace: SmolStr,
}

/// Service accounts by name and by selector; both must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServiceAccountMatch {
    /// One of these names; any if empty.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<SmolStr>,
    /// Its labels match.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub selector: SmolStr,
}

/// HTTP criteria; both lists must hold where they are set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpMatch {
    /// One of these methods.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub methods: Vec<SmolStr>,
    /// One of these paths.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<HttpPath>,
}

/// Exactly one of the two is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HttpPath {
    /// The whole path.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub exact: SmolStr,
    /// Its beginning.
    #[serde(skip_serializing_if = "SmolStr::is_empty")]
    pub prefix: SmolStr,
}

/// Notes on a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RuleMetadata {
    /// Free text by key.
    #[serde(skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
}
