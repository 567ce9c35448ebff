//! ClusterNetworkPolicy of `policy.networking.k8s.io` → KubernetesClusterNetworkPolicy, a global policy in Calico's words
//! (spec 1 §3.8).
//!
//! These policies come before (or after) those of namespaces, and may deny. So a rule that cannot be converted must not
//! be left out unless it allows: one that denies or passes becomes one that denies everything.

use calico_net::Cidr;
use serde::Deserialize;
use smol_str::SmolStr;

use super::network_policy::ports::{self, ProtocolPorts};
use super::object::ObjectMeta;
use super::selector::{self, LabelSelector};
use super::{ConversionError, Converted, uid};
use crate::codec::{self, labels};
use crate::global_network_policy::{GlobalNetworkPolicySpec, KubernetesClusterNetworkPolicySpec};
use crate::key::{Key, Kind};
use crate::meta::Resource;
use crate::number::{Order, Port};
use crate::record::{Entry, Revision};
use crate::rule::{Action, EntityRule, PolicyType, Rule, RuleMetadata};
use crate::tier::{KUBE_ADMIN_TIER, KUBE_BASELINE_TIER};

/// A ClusterNetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClusterNetworkPolicy {
    /// Its name.
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: ClusterNetworkPolicyRules,
}

/// What a ClusterNetworkPolicy says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct ClusterNetworkPolicyRules {
    /// `Admin`, before the policies of namespaces, or `Baseline`, after them.
    pub tier: SmolStr,
    /// Its place in the tier: lower first.
    pub priority: i32,
    /// The pods that it applies to.
    pub subject: Peer,
    /// Rules for traffic to them, in order.
    pub ingress: Vec<PolicyRule>,
    /// Rules for traffic from them, in order.
    pub egress: Vec<PolicyRule>,
}

/// One rule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct PolicyRule {
    /// What people call it.
    pub name: SmolStr,
    /// `Accept`, `Deny` or `Pass`.
    pub action: SmolStr,
    /// Where the traffic comes from, of ingress rules.
    pub from: Vec<Peer>,
    /// Where it goes, of egress rules.
    pub to: Vec<Peer>,
    /// Of which protocols; any if empty.
    pub protocols: Vec<ProtocolMatch>,
}

/// Somebody: exactly one is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Peer {
    /// All pods of some namespaces.
    pub namespaces: Option<LabelSelector>,
    /// Some pods of some namespaces.
    pub pods: Option<NamespacedPods>,
    /// Addresses, of egress rules only.
    pub networks: Option<Vec<SmolStr>>,
}

/// Some pods of some namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NamespacedPods {
    /// The namespaces; all if none.
    pub namespace_selector: Option<LabelSelector>,
    /// The pods.
    pub pod_selector: LabelSelector,
}

/// One protocol, or a port by its name: exactly one is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProtocolMatch {
    /// TCP.
    pub tcp: Option<Transport>,
    /// UDP.
    pub udp: Option<Transport>,
    /// SCTP.
    pub sctp: Option<Transport>,
    /// The name of a container's port, of whatever protocol.
    pub destination_named_port: Option<SmolStr>,
}

/// A protocol with ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Transport {
    /// The ports; all if none.
    pub destination_port: Option<DestinationPort>,
}

/// One port or a range of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DestinationPort {
    /// One.
    pub number: Option<i64>,
    /// Several.
    pub range: Option<DestinationRange>,
}

/// A range of ports.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct DestinationRange {
    /// The first.
    pub start: i64,
    /// The last.
    pub end: i64,
}

/// The policy in Calico's words, and the rules that could not be put so; `None` for a tier that Calico does not know.
///
/// # Errors
/// When it cannot be said whom it selects.
pub fn entry(policy: &ClusterNetworkPolicy) -> Result<Option<Converted>, ConversionError> {
    let ClusterNetworkPolicy { metadata: meta, spec } = policy;
    let object = format!("ClusterNetworkPolicy({})", meta.name);
    let tier = match spec.tier.as_str() {
        "Admin" => KUBE_ADMIN_TIER,
        "Baseline" => KUBE_BASELINE_TIER,
        _ => return Ok(None),
    };
    let (spec, problems) = global(spec, tier).map_err(|reason| ConversionError::new(&object, reason))?;
    let uid = uid::reversed(&meta.uid).unwrap_or_else(|| meta.uid.clone());
    let metadata = meta.derived(meta.name.clone(), uid);
    let key = Key::resource(Kind::KubernetesClusterNetworkPolicy, "", &meta.name);
    let spec = KubernetesClusterNetworkPolicySpec(spec);
    let value = codec::encode(&Resource { metadata, spec, status: None });
    let entry = Entry { key, value, revision: Revision(meta.resource_version.clone()) };
    let problems = problems.into_iter().map(|reason| ConversionError::new(&object, reason)).collect();
    Ok(Some(Converted { entry, problems }))
}

fn global(
    policy: &ClusterNetworkPolicyRules,
    tier: &'static str,
) -> Result<(GlobalNetworkPolicySpec, Vec<String>), String> {
    let ClusterNetworkPolicyRules { tier: _, priority, subject, ingress, egress } = policy;
    if subject.networks.is_some() {
        return Err("spec.subject: addresses cannot be selected".to_owned());
    }
    let subject = entity(subject).map_err(|reason| format!("spec.subject{reason}"))?;
    let mut problems = Vec::new();
    let mut convert = |field: &str,
                       rules: &[PolicyRule],
                       side: fn(&PolicyRule) -> Result<Vec<Rule>, String>| {
        let mut converted = Vec::new();
        for (place, rule) in rules.iter().enumerate() {
            converted.extend(side(rule).unwrap_or_else(|reason| {
                let accepts = rule.action == "Accept";
                let outcome = if accepts { "the rule is left out" } else { "everything is denied instead" };
                problems.push(format!("spec.{field}[{place}]{reason}; {outcome}"));
                if accepts { Vec::new() } else { vec![Rule::new(Action::Deny)] }
            }));
        }
        converted
    };
    let spec = GlobalNetworkPolicySpec {
        tier: SmolStr::new_static(tier),
        order: Some(Order((*priority).into())),
        selector: subject.selector,
        namespace_selector: subject.namespace_selector,
        ingress: convert("ingress", ingress, ingress_rules),
        egress: convert("egress", egress, egress_rules),
        types: [(ingress, PolicyType::Ingress), (egress, PolicyType::Egress)]
            .into_iter()
            .filter(|(rules, _)| !rules.is_empty())
            .map(|(_, direction)| direction)
            .collect(),
        ..GlobalNetworkPolicySpec::default()
    };
    Ok((spec, problems))
}

fn ingress_rules(rule: &PolicyRule) -> Result<Vec<Rule>, String> {
    if rule.from.iter().any(|peer| peer.networks.is_some()) {
        return Err(".from: addresses have no place here".to_owned());
    }
    rules(rule, "from", &rule.from, |peer, ports| (peer, EntityRule { ports, ..EntityRule::default() }))
}

fn egress_rules(rule: &PolicyRule) -> Result<Vec<Rule>, String> {
    rules(rule, "to", &rule.to, |peer, ports| (EntityRule::default(), EntityRule { ports, ..peer }))
}

/// One rule for each protocol and peer; `sides` says what is source and destination.
fn rules(
    rule: &PolicyRule,
    field: &str,
    peers: &[Peer],
    sides: fn(EntityRule, Vec<Port>) -> (EntityRule, EntityRule),
) -> Result<Vec<Rule>, String> {
    let action = match rule.action.as_str() {
        "Accept" => Action::Allow,
        "Deny" => Action::Deny,
        "Pass" => Action::Pass,
        other => return Err(format!(".action: {other:?} is none of Accept, Deny, Pass")),
    };
    if peers.is_empty() {
        return Err(format!(".{field}: nobody is named"));
    }
    let mut entities = Vec::with_capacity(peers.len());
    for (place, peer) in peers.iter().enumerate() {
        entities.push(entity(peer).map_err(|reason| format!(".{field}[{place}]{reason}"))?);
    }
    let named = !rule.name.is_empty();
    let metadata = named.then(|| RuleMetadata { annotations: labels([("name", rule.name.as_str())]) });
    let mut rules = Vec::new();
    for (protocol, ports) in protocols(&rule.protocols)? {
        for entity in &entities {
            let (source, destination) = sides(entity.clone(), ports.clone());
            let (protocol, metadata) = (protocol.clone(), metadata.clone());
            rules.push(Rule { protocol, source, destination, metadata, ..Rule::new(action.clone()) });
        }
    }
    Ok(rules)
}

fn entity(peer: &Peer) -> Result<EntityRule, String> {
    let Peer { namespaces, pods, networks } = peer;
    let pod_terms = |selector: Option<&LabelSelector>| selector::pods(selector);
    match (namespaces, pods, networks) {
        (Some(namespaces), None, None) => Ok(EntityRule {
            selector: pod_terms(None)?,
            namespace_selector: selector::namespaces(Some(namespaces))
                .map_err(|reason| format!(".namespaces.{reason}"))?,
            ..EntityRule::default()
        }),
        (None, Some(NamespacedPods { namespace_selector, pod_selector }), None) => Ok(EntityRule {
            selector: pod_terms(Some(pod_selector))
                .map_err(|reason| format!(".pods.podSelector.{reason}"))?,
            namespace_selector: selector::namespaces(namespace_selector.as_ref())
                .map_err(|reason| format!(".pods.namespaceSelector.{reason}"))?,
            ..EntityRule::default()
        }),
        (None, None, Some(networks)) if !networks.is_empty() => {
            let read = |(place, text): (usize, &SmolStr)| -> Result<SmolStr, String> {
                let cidr: Cidr = text.parse().map_err(|error| format!(".networks[{place}]: {error}"))?;
                Ok(SmolStr::from(cidr.to_string()))
            };
            let nets = networks.iter().enumerate().map(read).collect::<Result<_, _>>()?;
            Ok(EntityRule { nets, ..EntityRule::default() })
        }
        _ => Err(": exactly one of namespaces, pods, networks is needed".to_owned()),
    }
}

fn protocols(protocols: &[ProtocolMatch]) -> Result<Vec<ProtocolPorts>, String> {
    if protocols.is_empty() {
        return Ok(vec![(None, Vec::new())]);
    }
    let mut read = Vec::with_capacity(protocols.len());
    for (place, ProtocolMatch { tcp, udp, sctp, destination_named_port }) in protocols.iter().enumerate() {
        let fail = |reason: String| format!(".protocols[{place}]{reason}");
        let mut found = Vec::new();
        for (name, transport) in [("TCP", tcp), ("UDP", udp), ("SCTP", sctp)] {
            if let Some(Transport { destination_port }) = transport {
                let port = destination_port.as_ref().map(port).transpose().map_err(fail)?;
                found.push((Some(name), port));
            }
        }
        if let Some(name) = destination_named_port {
            match name.parse() {
                Ok(port @ Port::Named(_)) => found.push((None, Some(port))),
                _ => return Err(fail(format!(".destinationNamedPort: {name:?} is not the name of a port"))),
            }
        }
        match <[_; 1]>::try_from(found) {
            Ok([one]) => read.push(one),
            Err(_) => {
                return Err(fail(
                    ": exactly one of tcp, udp, sctp, destinationNamedPort is needed".to_owned(),
                ));
            }
        }
    }
    Ok(ports::gather(read))
}

fn port(port: &DestinationPort) -> Result<Port, String> {
    match (&port.number, &port.range) {
        (Some(number), None) => ports::range("number", *number, "number", *number),
        (None, Some(DestinationRange { start, end })) => ports::range("start", *start, "end", *end),
        _ => Err("destinationPort: exactly one of number, range is needed".to_owned()),
    }
    .map_err(|reason| format!(".{reason}"))
}

#[cfg(test)]
mod tests;
