//! Kubernetes' NetworkPolicy → KubernetesNetworkPolicy, a policy in Calico's words (spec 1 §3.7).
//!
//! Every rule allows; what a policy selects and no rule allows is denied at the end of the tier. So a rule that cannot
//! be converted is left out: that fails closed.

pub(super) mod ports;

use calico_net::Cidr;
use serde::Deserialize;
use smol_str::SmolStr;

use super::object::ObjectMeta;
use super::selector::{self, LabelSelector};
use super::{ConversionError, Converted, uid};
use crate::codec;
use crate::key::{Key, Kind};
use crate::meta::Resource;
use crate::network_policy::{KubernetesNetworkPolicySpec, NetworkPolicySpec};
use crate::number::Order;
use crate::record::{Entry, Revision};
use crate::rule::{Action, EntityRule, PolicyType, Rule};
use crate::tier::DEFAULT_TIER;

/// The place of all of Kubernetes' policies in the default tier.
const ORDER: Order = Order(1000.0);

/// A NetworkPolicy of `networking.k8s.io/v1`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NetworkPolicy {
    /// Name and namespace.
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: NetworkPolicyRules,
}

/// What a NetworkPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkPolicyRules {
    /// The pods of the namespace that it applies to.
    pub pod_selector: LabelSelector,
    /// What may come in.
    pub ingress: Vec<IngressRule>,
    /// What may go out.
    pub egress: Vec<EgressRule>,
    /// `Ingress`, `Egress` or both.
    pub policy_types: Vec<SmolStr>,
}

/// What may come in: from one of the peers, to one of the ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IngressRule {
    /// Any port if empty.
    pub ports: Vec<PolicyPort>,
    /// Anybody if empty.
    pub from: Vec<Peer>,
}

/// What may go out: to one of the peers, to one of the ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct EgressRule {
    /// Any port if empty.
    pub ports: Vec<PolicyPort>,
    /// Anybody if empty.
    pub to: Vec<Peer>,
}

/// A port, or a range of them, of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PolicyPort {
    /// `TCP`, `UDP` or `SCTP`; none means TCP.
    pub protocol: Option<SmolStr>,
    /// A number or a container port's name; none means all.
    pub port: Option<PortWord>,
    /// The last of a range that begins at `port`.
    pub end_port: Option<i64>,
}

/// A port as written: a number or a name.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(untagged, expecting = "must be a number or text")]
pub enum PortWord {
    /// A number.
    Number(i64),
    /// A name.
    Name(SmolStr),
}

/// Somebody: pods, namespaces, pods of namespaces, or addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    /// Pods, of the policy's own namespace or of those of the other selector.
    pub pod_selector: Option<LabelSelector>,
    /// Namespaces.
    pub namespace_selector: Option<LabelSelector>,
    /// Addresses; then the selectors must be absent.
    pub ip_block: Option<IpBlock>,
}

/// Addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct IpBlock {
    /// These…
    pub cidr: SmolStr,
    /// …but not those.
    pub except: Vec<SmolStr>,
}

/// The policy in Calico's words, and the rules that could not be put so.
///
/// # Errors
/// When it cannot be said whom it selects.
pub fn entry(policy: &NetworkPolicy) -> Result<Converted, ConversionError> {
    let NetworkPolicy { metadata: meta, .. } = policy;
    let object = format!("NetworkPolicy({}/{})", meta.namespace, meta.name);
    let (spec, problems) = spec(&policy.spec).map_err(|reason| ConversionError::new(&object, reason))?;
    let uid = uid::reversed(&meta.uid).unwrap_or_else(|| meta.uid.clone());
    let metadata = meta.derived(meta.name.clone(), uid);
    let key = Key::resource(Kind::KubernetesNetworkPolicy, &meta.namespace, &meta.name);
    let value = codec::encode(&Resource { metadata, spec: KubernetesNetworkPolicySpec(spec), status: None });
    let entry = Entry { key, value, revision: Revision(meta.resource_version.clone()) };
    let problems = problems.into_iter().map(|reason| ConversionError::new(&object, reason)).collect();
    Ok(Converted { entry, problems })
}

/// What a policy says in Calico's words, and what of it could not be put so.
///
/// # Errors
/// When it cannot be said whom it selects.
pub fn spec(policy: &NetworkPolicyRules) -> Result<(NetworkPolicySpec, Vec<String>), String> {
    let NetworkPolicyRules { pod_selector, ingress, egress, policy_types } = policy;
    let mut problems = Vec::new();
    let mut convert = |field: String, rules: Result<Vec<Rule>, String>| {
        rules.unwrap_or_else(|reason| {
            problems.push(format!("{field}.{reason}; the rule is left out"));
            Vec::new()
        })
    };
    let mut spec = NetworkPolicySpec {
        tier: SmolStr::new_static(DEFAULT_TIER),
        order: Some(ORDER),
        selector: selector::pods(Some(pod_selector))
            .map_err(|reason| format!("spec.podSelector.{reason}"))?,
        ..NetworkPolicySpec::default()
    };
    for (place, IngressRule { ports, from }) in ingress.iter().enumerate() {
        let rules = rules("from", from, ports, |peer, ports| Rule {
            source: peer,
            destination: EntityRule { ports, ..EntityRule::default() },
            ..Rule::new(Action::Allow)
        });
        spec.ingress.extend(convert(format!("spec.ingress[{place}]"), rules));
    }
    for (place, EgressRule { ports, to }) in egress.iter().enumerate() {
        let rules = rules("to", to, ports, |peer, ports| Rule {
            destination: EntityRule { ports, ..peer },
            ..Rule::new(Action::Allow)
        });
        spec.egress.extend(convert(format!("spec.egress[{place}]"), rules));
    }
    let listed = |word: &str| policy_types.iter().any(|listed| listed == word);
    if listed("Ingress") || !listed("Egress") {
        spec.types.push(PolicyType::Ingress);
    }
    if listed("Egress") {
        spec.types.push(PolicyType::Egress);
    }
    Ok((spec, problems))
}

/// One rule for each protocol and peer.
fn rules(
    field: &str,
    peers: &[Peer],
    ports: &[PolicyPort],
    rule: impl Fn(EntityRule, Vec<crate::number::Port>) -> Rule,
) -> Result<Vec<Rule>, String> {
    let mut entities = Vec::with_capacity(peers.len().max(1));
    for (place, peer) in peers.iter().enumerate() {
        entities.push(entity(peer).map_err(|reason| format!("{field}[{place}].{reason}"))?);
    }
    if entities.is_empty() {
        entities.push(EntityRule::default());
    }
    let mut rules = Vec::new();
    for (protocol, ports) in ports::by_protocol(ports)? {
        for entity in &entities {
            rules.push(Rule { protocol: protocol.clone(), ..rule(entity.clone(), ports.clone()) });
        }
    }
    Ok(rules)
}

fn entity(peer: &Peer) -> Result<EntityRule, String> {
    let Peer { pod_selector, namespace_selector, ip_block } = peer;
    if let Some(IpBlock { cidr, except }) = ip_block {
        // Calico itself takes a prefix that it cannot read for all addresses; here such a rule allows nothing.
        let read = |field: &str, text: &SmolStr| -> Result<SmolStr, String> {
            let cidr: Cidr = text.parse().map_err(|error| format!("ipBlock.{field}: {error}"))?;
            Ok(SmolStr::from(cidr.to_string()))
        };
        return Ok(EntityRule {
            nets: vec![read("cidr", cidr)?],
            not_nets: except.iter().map(|text| read("except", text)).collect::<Result<_, _>>()?,
            ..EntityRule::default()
        });
    }
    Ok(EntityRule {
        selector: selector::pods(pod_selector.as_ref()).map_err(|reason| format!("podSelector.{reason}"))?,
        namespace_selector: selector::namespaces(namespace_selector.as_ref())
            .map_err(|reason| format!("namespaceSelector.{reason}"))?,
        ..EntityRule::default()
    })
}

#[cfg(test)]
mod tests;
