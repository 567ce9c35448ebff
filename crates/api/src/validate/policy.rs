//! Policies, profiles, tiers and their rules (spec 1 §1.3).

use calico_net::{Cidr, Family, Protocol};
use serde_json::Value;

use super::Report;
use super::metadata::{check_annotations, check_labels};
use super::scalar::{at_most, rule_namespace_selector, selector, strict_net, unique};
use crate::any::AnyResource;
use crate::number::{Port, ProtocolForm};
use crate::rule::{Action, EntityRule, HttpMatch, IcmpMatch, PolicyType, Rule};
use crate::{
    GlobalNetworkPolicy, GlobalNetworkPolicySpec, Kind, NetworkPolicy, NetworkPolicySpec, Profile,
    ProfileSpec, Resource,
};
use crate::{Tier, TierSpec, strict};

/// Most rules of one direction.
const MAX_RULES: usize = 1024;
/// Most prefixes of one match.
const MAX_NETS: usize = 256;
/// Most ports of one match.
const MAX_PORTS: usize = 50;
/// Most HTTP methods or paths of one rule.
const MAX_HTTP: usize = 20;
/// Longest HTTP path.
const MAX_PATH: usize = 1024;

/// Where a rule stands, which decides what it may say.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Ingress,
    Egress,
}

pub(super) fn check_network_policy(policy: &NetworkPolicy, report: &mut Report) {
    let NetworkPolicySpec {
        tier: _,
        order: _,
        ingress,
        egress,
        selector: subject,
        types,
        service_account_selector,
        performance_hints,
    } = &policy.spec;
    selector(report, "spec.selector", subject);
    selector(report, "spec.serviceAccountSelector", service_account_selector);
    check_types(types, report);
    check_hints(performance_hints, report);
    check_rules(ingress, Direction::Ingress, false, report);
    check_rules(egress, Direction::Egress, false, report);
}

pub(super) fn check_global_network_policy(policy: &GlobalNetworkPolicy, report: &mut Report) {
    let GlobalNetworkPolicySpec {
        tier: _,
        order: _,
        ingress,
        egress,
        selector: subject,
        types,
        do_not_track,
        pre_dnat,
        apply_on_forward,
        service_account_selector,
        namespace_selector,
        performance_hints,
    } = &policy.spec;
    selector(report, "spec.selector", subject);
    selector(report, "spec.serviceAccountSelector", service_account_selector);
    selector(report, "spec.namespaceSelector", namespace_selector);
    check_types(types, report);
    check_hints(performance_hints, report);
    report.require(
        !(*do_not_track && *pre_dnat),
        "spec.preDNAT",
        "true",
        "cannot be combined with doNotTrack",
    );
    if *do_not_track || *pre_dnat {
        let reason = "must be true with doNotTrack or preDNAT";
        report.require(*apply_on_forward, "spec.applyOnForward", apply_on_forward, reason);
    }
    if *pre_dnat {
        report.require(egress.is_empty(), "spec.egress", "", "a preDNAT policy has ingress rules only");
        let egress = types.iter().position(|t| *t == PolicyType::Egress);
        if let Some(index) = egress {
            report.add(format!("spec.types[{index}]"), "Egress", "a preDNAT policy governs ingress only");
        }
    }
    check_rules(ingress, Direction::Ingress, true, report);
    check_rules(egress, Direction::Egress, true, report);
}

/// Staged policies are stored as JSON; they say what the enforced kind says, and what becomes of it.
pub(super) fn check_staged(resource: &AnyResource, report: &mut Report) {
    let mut spec = resource.spec.clone();
    let action = spec.shift_remove("stagedAction");
    let action = action.as_ref().and_then(Value::as_str).unwrap_or("Set");
    report.require(
        ["Set", "Delete", "Learn", "Ignore"].contains(&action),
        "spec.stagedAction",
        action,
        "must be one of Set, Delete, Learn, Ignore",
    );
    if action == "Delete" {
        for (name, value) in spec.iter().filter(|(name, _)| *name != "tier") {
            report.add(strict::join("spec", name), value, "must be absent when stagedAction is Delete");
        }
        return;
    }
    let spec = Value::Object(spec);
    if resource.kind == Kind::StagedNetworkPolicy {
        let read = strict::from_value::<NetworkPolicySpec>("spec", &spec);
        check_read(read, resource, report, check_network_policy);
    } else {
        let read = strict::from_value::<GlobalNetworkPolicySpec>("spec", &spec);
        check_read(read, resource, report, check_global_network_policy);
    }
}

fn check_read<S: crate::Spec>(
    read: Result<S, Vec<super::ValidationError>>,
    resource: &AnyResource,
    report: &mut Report,
    check: fn(&Resource<S>, &mut Report),
) {
    match read {
        Ok(spec) => check(&Resource { metadata: resource.metadata.clone(), spec, status: None }, report),
        Err(errors) => report.errors.extend(errors),
    }
}

pub(super) fn check_profile(profile: &Profile, report: &mut Report) {
    let ProfileSpec { ingress, egress, labels_to_apply } = &profile.spec;
    check_rules(ingress, Direction::Ingress, true, report);
    check_rules(egress, Direction::Egress, true, report);
    check_labels("spec.labelsToApply", labels_to_apply, report);
}

pub(super) fn check_tier(tier: &Tier, report: &mut Report) {
    let TierSpec { order, default_action } = &tier.spec;
    if let Some(action) = default_action {
        let good = matches!(action, Action::Deny | Action::Pass);
        report.require(good, "spec.defaultAction", action, "must be Deny or Pass");
    }
    let built_in = TierSpec::BUILT_IN.iter().find(|(name, ..)| *name == tier.metadata.name);
    if let Some((name, fixed_order, fixed_action)) = built_in {
        let reason = |value: &dyn std::fmt::Display| format!("must be {value}; tier {name} is built in");
        let order_shown = order.map_or_else(String::new, |o| o.to_string());
        report.require(*order == Some(*fixed_order), "spec.order", order_shown, reason(fixed_order));
        let action_shown = default_action.as_ref().map_or("", Action::as_str);
        let same = default_action.as_ref() == Some(fixed_action);
        report.require(same, "spec.defaultAction", action_shown, reason(fixed_action));
    }
}

fn check_types(types: &[PolicyType], report: &mut Report) {
    for (index, policy_type) in types.iter().enumerate() {
        let field = format!("spec.types[{index}]");
        report.require(policy_type.is_known(), field, policy_type, "must be Ingress or Egress");
    }
    unique(report, "spec.types", types);
}

fn check_hints(hints: &[smol_str::SmolStr], report: &mut Report) {
    for (index, hint) in hints.iter().enumerate() {
        let good = hint == "AssumeNeededOnEveryNode";
        report.require(
            good,
            format!("spec.performanceHints[{index}]"),
            hint,
            "must be AssumeNeededOnEveryNode",
        );
    }
    unique(report, "spec.performanceHints", hints);
}

fn check_rules(rules: &[Rule], direction: Direction, global: bool, report: &mut Report) {
    let list = if direction == Direction::Ingress { "spec.ingress" } else { "spec.egress" };
    at_most(report, list, rules.len(), MAX_RULES);
    for (index, rule) in rules.iter().enumerate() {
        check_rule(rule, &format!("{list}[{index}]"), direction, global, report);
    }
}

fn check_rule(rule: &Rule, path: &str, direction: Direction, global: bool, report: &mut Report) {
    let Rule {
        action,
        ip_version,
        protocol,
        icmp,
        not_protocol,
        not_icmp,
        source,
        destination,
        http,
        metadata,
    } = rule;
    let field = |name: &str| format!("{path}.{name}");
    report.require(action.is_known(), field("action"), action, "must be one of Allow, Deny, Log, Pass");
    let family = match ip_version {
        None => None,
        Some(4) => Some(Family::V4),
        Some(6) => Some(Family::V6),
        Some(other) => {
            report.add(field("ipVersion"), other, "must be 4 or 6");
            None
        }
    };
    let protocol = check_protocol(protocol.as_ref(), &field("protocol"), family, report);
    check_protocol(not_protocol.as_ref(), &field("notProtocol"), family, report);
    check_icmp(icmp.as_ref(), &field("icmp"), protocol, report);
    check_icmp_numbers(not_icmp.as_ref(), &field("notICMP"), report);

    let mut nets = Vec::new();
    check_entity(source, &field("source"), protocol, &mut nets, report);
    check_entity(destination, &field("destination"), protocol, &mut nets, report);
    check_families(&nets, family, report);
    check_services(rule, path, direction, global, report);
    if let Some(http) = http {
        check_http(http, rule, &field("http"), direction, protocol, report);
    }
    if let Some(metadata) = metadata {
        check_annotations(&field("metadata.annotations"), &metadata.annotations, report);
    }
}

fn check_protocol(
    form: Option<&ProtocolForm>,
    field: &str,
    family: Option<Family>,
    report: &mut Report,
) -> Option<Protocol> {
    let form = form?;
    let protocol = match form.resolve() {
        Ok(protocol) => protocol,
        Err(error) => {
            report.add(field, form, error);
            return None;
        }
    };
    let fits = match (protocol, family) {
        (Protocol::ICMP, Some(family)) => family == Family::V4,
        (Protocol::ICMPV6, Some(family)) => family == Family::V6,
        _ => true,
    };
    report.require(fits, field, form, "ICMP goes with ipVersion 4, ICMPv6 with ipVersion 6");
    Some(protocol)
}

fn check_icmp(icmp: Option<&IcmpMatch>, field: &str, protocol: Option<Protocol>, report: &mut Report) {
    if let Some(IcmpMatch { icmp_type, code }) = icmp {
        let part = |name: &str, n: &Option<i64>| n.map(|n| format!("{name} {n}"));
        let parts: Vec<String> =
            [part("type", icmp_type), part("code", code)].into_iter().flatten().collect();
        let good = matches!(protocol, Some(Protocol::ICMP | Protocol::ICMPV6));
        report.require(good, field, parts.join(", "), needs_protocol(protocol, "ICMP or ICMPv6"));
    }
    check_icmp_numbers(icmp, field, report);
}

/// What is wrong with a match that only packets of some protocols can have.
fn needs_protocol(found: Option<Protocol>, wanted: &str) -> String {
    match found {
        Some(found) => format!("does not go with protocol {found}; use protocol: {wanted}"),
        None => format!("needs a protocol; add protocol: {wanted}"),
    }
}

fn check_icmp_numbers(icmp: Option<&IcmpMatch>, field: &str, report: &mut Report) {
    let Some(IcmpMatch { icmp_type, code }) = icmp else { return };
    if let Some(n) = icmp_type {
        report.require((0..=254).contains(n), format!("{field}.type"), n, "must be from 0 to 254");
    }
    if let Some(n) = code {
        report.require((0..=255).contains(n), format!("{field}.code"), n, "must be from 0 to 255");
        report.require(icmp_type.is_some(), format!("{field}.code"), n, "needs a type");
    }
}

fn check_entity(
    entity: &EntityRule,
    path: &str,
    protocol: Option<Protocol>,
    nets: &mut Vec<(String, Cidr)>,
    report: &mut Report,
) {
    let field = |name: &str| format!("{path}.{name}");
    selector(report, &field("selector"), &entity.selector);
    selector(report, &field("notSelector"), &entity.not_selector);
    rule_namespace_selector(report, &field("namespaceSelector"), &entity.namespace_selector);
    for (name, list) in [("nets", &entity.nets), ("notNets", &entity.not_nets)] {
        at_most(report, &field(name), list.len(), MAX_NETS);
        unique(report, &field(name), list);
        for (index, text) in list.iter().enumerate() {
            let field = format!("{path}.{name}[{index}]");
            if let Some(cidr) = strict_net(report, &field, text) {
                if name == "notNets" && cidr.prefix_len() == 0 {
                    report.add(&field, text, "excludes every address, so that the rule matches nothing");
                }
                nets.push((field, cidr));
            }
        }
    }
    for (name, ports) in [("ports", &entity.ports), ("notPorts", &entity.not_ports)] {
        at_most(report, &field(name), ports.len(), MAX_PORTS);
        check_ports(ports, &field(name), protocol, report);
    }
    if let Some(accounts) = &entity.service_accounts {
        unique(report, &field("serviceAccounts.names"), &accounts.names);
        selector(report, &field("serviceAccounts.selector"), &accounts.selector);
    }
}

/// Numbers need a protocol that has ports; names may stand without a protocol.
fn check_ports(ports: &[Port], field: &str, protocol: Option<Protocol>, report: &mut Report) {
    for (index, port) in ports.iter().enumerate() {
        let good = match (protocol, port) {
            (Some(protocol), _) => protocol.has_ports(),
            (None, Port::Named(_)) => true,
            (None, Port::Range(_)) => false,
        };
        report.require(good, format!("{field}[{index}]"), port, needs_protocol(protocol, "TCP, UDP or SCTP"));
    }
}

/// All prefixes of a rule are of one family, and of the rule's.
fn check_families(nets: &[(String, Cidr)], family: Option<Family>, report: &mut Report) {
    let Some(family) = family.or_else(|| nets.first().map(|(_, cidr)| cidr.family())) else { return };
    for (field, cidr) in nets.iter().filter(|(_, cidr)| cidr.family() != family) {
        report.add(field, cidr, format!("must be {family} like the rest of the rule"));
    }
}

fn check_services(rule: &Rule, path: &str, direction: Direction, global: bool, report: &mut Report) {
    for (side, entity) in [("source", &rule.source), ("destination", &rule.destination)] {
        let Some(services) = &entity.services else { continue };
        let field = format!("{path}.{side}.services");
        let wanted = if direction == Direction::Ingress { "source" } else { "destination" };
        report.require(side == wanted, &field, "", format!("is allowed only in the {wanted} of such a rule"));
        report.require(!services.name.is_empty(), format!("{field}.name"), "", "is needed");
        let namespace = !global || !services.namespace.is_empty();
        report.require(
            namespace,
            format!("{field}.namespace"),
            "",
            "is needed in a policy without a namespace",
        );
        let alone = entity.selector.is_empty()
            && entity.not_selector.is_empty()
            && entity.namespace_selector.is_empty()
            && entity.nets.is_empty()
            && entity.not_nets.is_empty()
            && entity.service_accounts.is_none();
        let reason = "cannot be combined with selectors, nets or serviceAccounts on the same side";
        report.require(alone, &field, &services.name, reason);
        let ports = side == "destination" && !(entity.ports.is_empty() && entity.not_ports.is_empty());
        report.require(
            !ports,
            &field,
            &services.name,
            "cannot be combined with ports; the service has its own",
        );
    }
}

fn check_http(
    http: &HttpMatch,
    rule: &Rule,
    field: &str,
    direction: Direction,
    protocol: Option<Protocol>,
    report: &mut Report,
) {
    report.require(direction == Direction::Ingress, field, "", "is allowed only in ingress rules");
    report.require(rule.action == Action::Allow, field, "", "is allowed only with action Allow");
    let tcp = rule.protocol.is_none() || protocol == Some(Protocol::TCP);
    report.require(tcp, field, "", "needs protocol TCP, or none");
    at_most(report, &format!("{field}.methods"), http.methods.len(), MAX_HTTP);
    unique(report, &format!("{field}.methods"), &http.methods);
    at_most(report, &format!("{field}.paths"), http.paths.len(), MAX_HTTP);
    for (index, path) in http.paths.iter().enumerate() {
        let field = format!("{field}.paths[{index}]");
        let text = match (path.exact.as_str(), path.prefix.as_str()) {
            (exact, "") => exact,
            ("", prefix) => prefix,
            (_, _) => {
                report.add(field, "", "must have exact or prefix, not both");
                continue;
            }
        };
        let good = text.starts_with('/') && text.len() <= MAX_PATH && !text.contains(['?', ' ', '#']);
        report.require(good, field, text, "must begin with '/' and contain no '?', '#' or blank");
    }
}
