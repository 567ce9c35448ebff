//! The reference's own translation of rules, from the texts of spec 2 §4.5 and spec 3 §6.3.

use std::collections::BTreeMap;

use calico_api::{self as api, EntityRule, Port};
use calico_net::{Cidr, Family, Protocol};
use calico_selector::{Selector, parse, translation::prefixed, unique_id};
use smol_str::SmolStr;

use crate::change::{Action, Icmp, IpSetId, IpSetKind, Rule, Side};

/// What a set is made of.
#[derive(Clone)]
pub(super) enum SetMeaning {
    Addresses(Selector),
    Ports(Selector, String, Option<Protocol>),
    /// Of `<namespace>/<name>`.
    ServiceAddresses(String),
    ServicePorts(String),
}

impl SetMeaning {
    pub(super) fn kind(&self) -> IpSetKind {
        match self {
            SetMeaning::Addresses(_) | SetMeaning::ServiceAddresses(_) => IpSetKind::Net,
            SetMeaning::Ports(..) | SetMeaning::ServicePorts(_) => IpSetKind::IpPort,
        }
    }
}

#[derive(Clone)]
pub(super) struct Translated {
    pub(super) ingress: Vec<Rule>,
    pub(super) egress: Vec<Rule>,
    pub(super) sets: BTreeMap<IpSetId, SetMeaning>,
}

/// One rule each way that takes every packet.
pub(super) fn everything(action: api::Action) -> Translated {
    let rule = [api::Rule::new(action)];
    let nothing = Translated { ingress: vec![], egress: vec![], sets: BTreeMap::new() };
    translate(None, &rule, &rule).unwrap_or(nothing)
}

/// The rules of a policy of a namespace, of a global one, or of a profile; `None` if any is not understood.
pub(super) fn translate(
    namespace: Option<&str>,
    ingress: &[api::Rule],
    egress: &[api::Rule],
) -> Option<Translated> {
    let mut sets = BTreeMap::new();
    let mut all = |rules: &[api::Rule]| -> Option<Vec<Rule>> {
        rules.iter().map(|rule| translate_rule(namespace, rule, &mut sets)).collect()
    };
    let (ingress, egress) = (all(ingress)?, all(egress)?);
    Some(Translated { ingress, egress, sets })
}

fn translate_rule(
    namespace: Option<&str>,
    rule: &api::Rule,
    sets: &mut BTreeMap<IpSetId, SetMeaning>,
) -> Option<Rule> {
    let protocol = match &rule.protocol {
        Some(protocol) => Some(protocol.resolve().ok()?),
        None => None,
    };
    Some(Rule {
        action: match rule.action {
            api::Action::Allow => Action::Allow,
            api::Action::Deny => Action::Deny,
            api::Action::Pass => Action::Pass,
            api::Action::Log => Action::Log,
            api::Action::Other(_) => return None,
        },
        family: match rule.ip_version {
            None => None,
            Some(4) => Some(Family::V4),
            Some(6) => Some(Family::V6),
            Some(_) => return None,
        },
        protocol,
        not_protocol: match &rule.not_protocol {
            Some(protocol) => Some(protocol.resolve().ok()?),
            None => None,
        },
        icmp: icmp(rule.icmp)?,
        not_icmp: icmp(rule.not_icmp)?,
        source: side(namespace, protocol, &rule.source, false, sets)?,
        destination: side(namespace, protocol, &rule.destination, true, sets)?,
    })
}

/// Outer `None`: not understood.
fn icmp(icmp: Option<api::IcmpMatch>) -> Option<Option<Icmp>> {
    match icmp {
        None | Some(api::IcmpMatch { icmp_type: None, code: None }) => Some(None),
        Some(api::IcmpMatch { icmp_type: Some(kind @ 0..=254), code: None }) => {
            Some(Some(Icmp { icmp_type: kind as u8, code: None }))
        }
        Some(api::IcmpMatch { icmp_type: Some(kind @ 0..=254), code: Some(code @ 0..=255) }) => {
            Some(Some(Icmp { icmp_type: kind as u8, code: Some(code as u8) }))
        }
        Some(_) => None,
    }
}

fn side(
    namespace: Option<&str>,
    protocol: Option<Protocol>,
    entity: &EntityRule,
    is_destination: bool,
    sets: &mut BTreeMap<IpSetId, SetMeaning>,
) -> Option<Side> {
    let mut side = Side { nets: nets(&entity.nets)?, not_nets: nets(&entity.not_nets)?, ..Side::default() };
    let text = selector_text(namespace, entity)?;
    let mut positive = if text.is_empty() { None } else { Some(parse(&text).ok()?) };
    let mut negative = match entity.not_selector.trim() {
        "" => None,
        text => Some(parse(text).ok()?),
    };
    if let (Some(yes), Some(no)) = (&positive, &negative) {
        positive = Some(parse(&format!("({yes}) && (!({no}))")).ok()?);
        negative = None;
    }

    let base = positive.clone().unwrap_or_else(Selector::all);
    let port_protocol = protocol.filter(|p| [Protocol::TCP, Protocol::UDP, Protocol::SCTP].contains(p));
    let port_id = |name: &SmolStr| {
        let word = match port_protocol {
            Some(Protocol::TCP) => "tcp",
            Some(Protocol::UDP) => "udp",
            Some(Protocol::SCTP) => "sctp",
            _ => "any",
        };
        IpSetId(unique_id("n", &format!("{},{word},{name}", base.uid())).into())
    };
    for (ports, numbers, names) in [
        (&entity.ports, &mut side.ports, &mut side.named_ports),
        (&entity.not_ports, &mut side.not_ports, &mut side.not_named_ports),
    ] {
        for port in ports {
            match port {
                Port::Range(range) => numbers.push(*range),
                Port::Named(name) => {
                    let id = port_id(name);
                    sets.insert(id.clone(), SetMeaning::Ports(base.clone(), name.to_string(), port_protocol));
                    names.push(id);
                }
            }
        }
    }

    // The named ports' sets hold only those whom the selector matches, unless a number may match instead.
    let needs_selector = side.named_ports.is_empty() || !side.ports.is_empty();
    if let Some(selector) = positive.filter(|_| needs_selector) {
        let id = IpSetId(selector.uid().into());
        side.ip_sets.push(id.clone());
        sets.insert(id, SetMeaning::Addresses(selector));
    }
    if let Some(selector) = negative {
        let id = IpSetId(selector.uid().into());
        side.not_ip_sets.push(id.clone());
        sets.insert(id, SetMeaning::Addresses(selector));
    }
    if let Some(service) = &entity.services {
        let of = if service.namespace.is_empty() { namespace.unwrap_or("") } else { &service.namespace };
        let prefix = if is_destination { "svc" } else { "svcnoport" };
        let service = format!("{of}/{}", service.name);
        let id = IpSetId(unique_id(prefix, &service).into());
        if is_destination {
            sets.insert(id.clone(), SetMeaning::ServicePorts(service));
            side.named_ports.push(id);
        } else {
            sets.insert(id.clone(), SetMeaning::ServiceAddresses(service));
            side.ip_sets.push(id);
        }
    }
    Some(side)
}

/// The positive selector's text; empty for none. `None`: not understood.
fn selector_text(namespace: Option<&str>, entity: &EntityRule) -> Option<String> {
    let mut parts: Vec<String> = Vec::new();
    if let Some(accounts) = &entity.service_accounts {
        if !accounts.selector.trim().is_empty() {
            parts.push(prefixed(&accounts.selector, "pcsa.").ok()?);
        }
        if !accounts.names.is_empty() {
            let quoted: Vec<String> = accounts.names.iter().map(|name| format!("'{name}'")).collect();
            parts.push(format!("projectcalico.org/serviceaccount in {{{}}}", quoted.join(",")));
        }
    }
    let mut own = match parts.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        many => many.iter().map(|part| format!("({part})")).collect::<Vec<_>>().join(" && "),
    };
    if !entity.selector.trim().is_empty() {
        parse(&entity.selector).ok()?;
        own = if own.is_empty() {
            entity.selector.to_string()
        } else {
            format!("({own}) && ({})", entity.selector)
        };
    }
    let has_namespace_selector = !entity.namespace_selector.trim().is_empty();
    let place = if has_namespace_selector {
        prefixed(&entity.namespace_selector, "pcns.")
            .ok()?
            .replace("all()", "has(projectcalico.org/namespace)")
            .replace("global()", "!has(projectcalico.org/namespace)")
    } else {
        namespace.map(|namespace| format!("projectcalico.org/namespace == '{namespace}'")).unwrap_or_default()
    };
    let selects = !own.is_empty() || !entity.not_selector.trim().is_empty() || has_namespace_selector;
    Some(match (place.is_empty(), own.is_empty()) {
        _ if !selects => String::new(),
        (true, _) => own,
        (false, true) => place,
        (false, false) => format!("({place}) && ({own})"),
    })
}

fn nets(texts: &[SmolStr]) -> Option<Vec<Cidr>> {
    texts.iter().map(|text| text.parse().ok()).collect()
}
