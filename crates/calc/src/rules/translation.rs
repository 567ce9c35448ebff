//! Rules in force: selectors, named ports and services become IP sets (spec 2 §4.5, §5.6; spec 3 §6.3).

use calico_net::Protocol;
use calico_selector::{Selector, unique_id};
use smol_str::SmolStr;

use super::{RuleError, RuleLists, SourceRule, SourceSide};
use crate::change::{Action, IpSetId, Rule, Side};
use crate::members::{Contents, Population};
use crate::sets::SetSpec;

/// The label of endpoint slices, among themselves, with `<namespace>/<name>` of their service.
pub(crate) const SERVICE_LABEL: &str = "service";

/// Translated rules and the sets that they name.
#[derive(Debug)]
pub(crate) struct Translation {
    /// To the endpoint.
    pub(crate) ingress: Vec<Rule>,
    /// From the endpoint.
    pub(crate) egress: Vec<Rule>,
    /// Every set that a rule names, each once.
    pub(crate) sets: Vec<SetSpec>,
}

/// Translates the rules of a policy of a namespace, or of a global one or a profile.
///
/// # Errors
/// None if [`RuleLists::check_selectors`] was content and the namespace is a legal name.
pub(crate) fn translate(rules: &RuleLists, namespace: Option<&str>) -> Result<Translation, RuleError> {
    let mut sets = Vec::new();
    let mut all = |rules: &[SourceRule]| -> Result<Vec<Rule>, RuleError> {
        rules.iter().map(|rule| translate_rule(rule, namespace, &mut sets)).collect()
    };
    let (ingress, egress) = (all(&rules.ingress)?, all(&rules.egress)?);
    Ok(Translation { ingress, egress, sets })
}

/// Rules that deny everything both ways.
pub(crate) fn deny_all() -> Translation {
    let deny = Rule::new(Action::Deny);
    Translation { ingress: vec![deny.clone()], egress: vec![deny], sets: Vec::new() }
}

fn translate_rule(
    rule: &SourceRule,
    namespace: Option<&str>,
    sets: &mut Vec<SetSpec>,
) -> Result<Rule, RuleError> {
    let SourceRule { action, family, protocol, not_protocol, icmp, not_icmp, source, destination } = rule;
    let mut side = |side: &Option<Box<SourceSide>>, end| match side {
        None => Ok(Side::default()),
        Some(side) => translate_side(side, end, namespace, *protocol, sets),
    };
    Ok(Rule {
        action: *action,
        family: *family,
        protocol: *protocol,
        not_protocol: *not_protocol,
        icmp: *icmp,
        not_icmp: *not_icmp,
        source: side(source, End::Source)?,
        destination: side(destination, End::Destination)?,
    })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Source,
    Destination,
}

fn translate_side(
    side: &SourceSide,
    end: End,
    namespace: Option<&str>,
    protocol: Option<Protocol>,
    sets: &mut Vec<SetSpec>,
) -> Result<Side, RuleError> {
    let mut note = |spec: SetSpec| {
        let id = spec.id.clone();
        if !sets.iter().any(|known| known.id == id) {
            sets.push(spec);
        }
        id
    };
    let (positive, negative) = merged(side.resolve_selectors(namespace)?)?;
    let mut translated = Side {
        nets: side.nets.to_vec(),
        not_nets: side.not_nets.to_vec(),
        ports: side.ports.to_vec(),
        not_ports: side.not_ports.to_vec(),
        ..Side::default()
    };
    let everybody = Selector::all();
    let port_set = |name: &SmolStr| port_set(name, protocol, positive.as_ref().unwrap_or(&everybody));
    translated.named_ports = side.named_ports.iter().map(|name| note(port_set(name))).collect();
    translated.not_named_ports = side.not_named_ports.iter().map(|name| note(port_set(name))).collect();
    // A set of (address, protocol, port) has the selector in it already; only numeric ports need it beside them.
    let implied = !side.named_ports.is_empty() && side.ports.is_empty();
    if let Some(selector) = positive.as_ref().filter(|_| !implied) {
        translated.ip_sets.push(note(address_set(selector)));
    }
    if let Some(selector) = &negative {
        translated.not_ip_sets.push(note(address_set(selector)));
    }
    if let Some(service) = &side.service {
        let (service_namespace, name) = &**service;
        let own = || namespace.unwrap_or_default();
        let of = if service_namespace.is_empty() { own() } else { service_namespace };
        let spec = service_set(&format!("{of}/{name}"), end)?;
        match end {
            End::Source => translated.ip_sets.push(note(spec)),
            End::Destination => translated.named_ports.push(note(spec)),
        }
    }
    Ok(translated)
}

/// A positive and a negative selector are one set: those who match the one and not the other.
fn merged(
    selectors: (Option<Selector>, Option<Selector>),
) -> Result<(Option<Selector>, Option<Selector>), RuleError> {
    let (Some(positive), Some(negative)) = selectors else { return Ok(selectors) };
    let both = super::parse(&format!("({positive}) && (!({negative}))"))?;
    Ok((Some(both), None))
}

fn address_set(selector: &Selector) -> SetSpec {
    SetSpec {
        id: IpSetId(SmolStr::from(selector.uid())),
        population: Population::Labelled,
        selector: selector.clone(),
        contents: Contents::Nets,
    }
}

/// The set of (address, protocol, port) of those who match the selector and give a port this name.
fn port_set(name: &SmolStr, protocol: Option<Protocol>, selector: &Selector) -> SetSpec {
    let protocol = protocol.filter(|protocol| protocol.has_ports());
    let of = protocol.and_then(Protocol::name).unwrap_or("any").to_ascii_lowercase();
    SetSpec {
        id: IpSetId(SmolStr::from(unique_id("n", &format!("{},{of},{name}", selector.uid())))),
        population: Population::Labelled,
        selector: selector.clone(),
        contents: Contents::Ports { name: name.as_str().into(), protocol },
    }
}

/// The set of a service's addresses; where it is the destination, with the ports that it has there (spec 1 §3.10).
fn service_set(service: &str, end: End) -> Result<SetSpec, RuleError> {
    let (prefix, contents) = match end {
        End::Source => ("svcnoport", Contents::Nets),
        End::Destination => ("svc", Contents::AllPorts),
    };
    // Kubernetes has no service with another name, and such text could change what is selected.
    let plain = service.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'/'));
    let text = if plain { format!("{SERVICE_LABEL} == '{service}'") } else { "!all()".to_owned() };
    Ok(SetSpec {
        id: IpSetId(SmolStr::from(unique_id(prefix, service))),
        population: Population::Slices,
        selector: super::parse(&text)?,
        contents,
    })
}
