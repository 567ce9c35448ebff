//! Workload endpoints: the two chains of each policy list, and the dispatch that leads to them.
//!
//! Chains say nothing about one endpoint: all endpoints with the same tiers and profiles share a body, named by its
//! contents, and a verdict map leads each interface to its body. A thousand pods of one deployment cost two chains and
//! two thousand map elements.

use calico_calc::change::{Direction, Tier, TierEnd, Workload};
use calico_net::{Family, IfName, PortRange};
use smol_str::SmolStr;

use crate::config::{AllowAction, Config, DenyAction};
use crate::fragment::Fragment;
use crate::ir::{Action, Chain, End, Match, Rule, Transport, ct};
use crate::name::{self, chain};
use crate::nft::{Element, Verdict};
use crate::sets;

/// After how many policies of a tier an accepted packet leaves; before that it only skips them, one comparison each.
const RETURN_EVERY: usize = 8;

/// What a workload endpoint contributes: its chain bodies (shared), its dispatch elements, its exception from the
/// source check if it has one, and its addresses that the host must not claim by ARP.
pub fn workload(workload: &Workload, config: &Config) -> Fragment {
    let Workload { key: _, interface, mac: _, nets, allowed_sources, tiers, profiles } = workload;
    let mut fragment = Fragment::default();
    for (direction, map) in
        [(Direction::Egress, chain::FROM_WORKLOAD), (Direction::Ingress, chain::TO_WORKLOAD)]
    {
        let body = workload_body(tiers, profiles, direction, config);
        fragment.inet.elements.push(dispatch(map, interface, &body.name));
        fragment.inet.add_chain(body);
    }
    if !allowed_sources.is_empty() {
        let body = source_exceptions(allowed_sources, &mut fragment);
        fragment.inet.elements.push(dispatch(chain::RPF_SKIP, interface, &body.name));
        fragment.inet.add_chain(body);
    }
    for net in nets.iter().filter(|n| n.family() == Family::V4 && n.is_host()) {
        let key = sets::interface_addr_key(interface.as_str(), net.addr());
        fragment.arp.elements.push((SmolStr::new_static(chain::ARP_OWN), Element::Exact(key)));
    }
    fragment
}

/// The element that leads an interface to a chain.
pub(crate) fn dispatch(map: &'static str, interface: &IfName, body: &SmolStr) -> (SmolStr, Element) {
    let key = sets::interface_key(interface.as_str());
    (SmolStr::new_static(map), Element::Verdict { key, verdict: Verdict::Goto(body.clone()) })
}

fn workload_body(tiers: &[Tier], profiles: &[SmolStr], direction: Direction, config: &Config) -> Chain {
    let mut rules = conntrack_rules(config);
    rules.push(clear_decision(config));
    let prefix = match direction {
        Direction::Ingress => "cali-tw-",
        Direction::Egress => {
            rules.extend(tunnel_spoofing_rules(config));
            "cali-fw-"
        }
    };
    let deny = deny(config);
    rules.extend(tier_rules(tiers, direction, &[Action::Return], &deny, config));
    rules.extend(profile_rules(profiles, direction, &deny, config));
    shared(prefix, rules)
}

/// A chain named by its contents.
pub(crate) fn shared(prefix: &str, rules: Vec<Rule>) -> Chain {
    Chain::regular(name::by_content(prefix, &rules[..]), rules)
}

/// Established traffic was allowed when it began.
pub(crate) fn conntrack_rules(config: &Config) -> Vec<Rule> {
    let established = Match::CtState(ct::ESTABLISHED | ct::RELATED);
    let mut rules = vec![match config.filter_allow {
        AllowAction::Accept => Rule::new([established], [Action::Accept]),
        AllowAction::Return => Rule::new([established], [accept(config), Action::Return]),
    }];
    if config.drop_invalid {
        let invalid = Rule::new([Match::CtState(ct::INVALID)], [Action::Drop]);
        rules.push(invalid.counted().comment("Belongs to no connection that could be"));
    }
    rules
}

pub(crate) fn accept(config: &Config) -> Action {
    Action::SetMark { mask: config.marks.accept, value: config.marks.accept }
}

/// What a denied packet meets where it can be refused.
pub(crate) fn deny(config: &Config) -> Action {
    match config.filter_deny {
        DenyAction::Drop => Action::Drop,
        DenyAction::Reject => Action::Reject,
    }
}

/// Denies what a policy's chain only marked, where denied packets are refused.
fn denied(deny: &Action, config: &Config) -> Option<Rule> {
    let drop = config.marks.drop;
    let marked = Match::Mark { mask: drop, value: drop, invert: false };
    (config.filter_deny == DenyAction::Reject).then(|| Rule::new([marked], [deny.clone()]))
}

/// All that policies can decide by mark.
fn decision(config: &Config) -> u32 {
    config.marks.accept | config.marks.pass | config.marks.drop
}

/// Forgets what the other end's policy decided.
pub(crate) fn clear_decision(config: &Config) -> Rule {
    let mask = decision(config);
    Rule::new([], [Action::SetMark { mask, value: 0 }])
}

pub(crate) fn accepted(config: &Config) -> Match {
    Match::Mark { mask: config.marks.accept, value: config.marks.accept, invert: false }
}

/// A workload that could send encapsulated packets of its own could speak as any other.
fn tunnel_spoofing_rules(config: &Config) -> Vec<Rule> {
    let mut rules = Vec::new();
    if !config.allow_vxlan_from_workloads {
        let vxlan = Match::Port {
            end: End::Destination,
            transport: Transport::Udp,
            range: PortRange::single(config.vxlan_port),
            invert: false,
        };
        let rule = Rule::new([vxlan], [Action::Drop]).counted();
        rules.push(rule.comment("Workloads may not send VXLAN"));
    }
    if !config.allow_ipip_from_workloads {
        let rule = Rule::new(crate::statics::ipip(), [Action::Drop]).counted();
        rules.push(rule.comment("Workloads may not send IP in IP"));
    }
    rules
}

/// The tiers of one direction. `on_accept` is done, once, with packets that a policy accepted, `deny` with those that one
/// denied; packets that pass all tiers fall through.
pub(crate) fn tier_rules(
    tiers: &[Tier],
    direction: Direction,
    on_accept: &[Action],
    deny: &Action,
    config: &Config,
) -> Vec<Rule> {
    let marks = config.marks;
    let undecided = Match::Mark { mask: decision(config), value: 0, invert: false };
    let not_passed = Match::Mark { mask: marks.pass, value: 0, invert: false };
    let mut rules = Vec::new();
    let mut pass_is_clear = true;
    for Tier { name: tier, end, ingress, egress } in tiers {
        let policies = match direction {
            Direction::Ingress => ingress,
            Direction::Egress => egress,
        };
        if policies.is_empty() {
            continue;
        }
        if !pass_is_clear {
            rules.push(Rule::new([], [Action::SetMark { mask: marks.pass, value: 0 }]));
        }
        pass_is_clear = false;
        let leave = || Rule::new([accepted(config)], on_accept.iter().cloned());
        for (index, policy) in policies.iter().enumerate() {
            let first = index % RETURN_EVERY == 0;
            if first && index > 0 {
                rules.push(leave());
                rules.extend(denied(deny, config));
            }
            // Nothing is decided before the tier's first policy.
            let matches = if index == 0 { Vec::new() } else { vec![undecided.clone()] };
            let jump = Action::Jump(name::policy_chain(policy, direction));
            rules.push(Rule::new(matches, [jump]));
        }
        rules.push(leave());
        rules.extend(denied(deny, config));
        match end {
            TierEnd::Deny => rules.push(
                Rule::new([not_passed.clone()], [deny.clone()])
                    .counted()
                    .comment(&format!("End of tier {tier}: no policy allowed or passed it")),
            ),
            TierEnd::Pass => {}
        }
    }
    rules
}

/// The profiles, and the drop of what none of them allows.
pub(crate) fn profile_rules(
    profiles: &[SmolStr],
    direction: Direction,
    deny: &Action,
    config: &Config,
) -> Vec<Rule> {
    let mask = config.marks.accept | config.marks.drop;
    let undecided = Match::Mark { mask, value: 0, invert: false };
    let jump = |(index, profile): (usize, &SmolStr)| {
        let matches = if index == 0 { Vec::new() } else { vec![undecided.clone()] };
        Rule::new(matches, [Action::Jump(name::profile_chain(profile, direction))])
    };
    let mut rules: Vec<Rule> = profiles.iter().enumerate().map(jump).collect();
    if !profiles.is_empty() {
        rules.push(Rule::new([accepted(config)], [Action::Return]));
    }
    rules.push(Rule::new([], [deny.clone()]).counted().comment("No policy or profile allowed it"));
    rules
}

/// Sources that an endpoint may use although no route leads back to it.
fn source_exceptions(nets: &[calico_net::Cidr], fragment: &mut Fragment) -> Chain {
    let mut rules = Vec::new();
    for family in Family::ALL {
        if let Some((matched, set)) = sets::match_nets(End::Source, nets, family, false) {
            set.into_iter().for_each(|s| fragment.inet.add_set(s));
            rules.push(Rule::new([Match::Family(family), matched], [Action::Return]));
        }
    }
    rules.push(crate::statics::reverse_path_drop());
    shared("cali-sp-", rules)
}

#[cfg(test)]
mod tests;
