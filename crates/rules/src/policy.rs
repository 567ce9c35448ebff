//! Policies and profiles to chains: one chain per direction, the first matching rule decides.
//!
//! Inside these chains "allow" is the accept mark and a return, "pass" the pass mark and a return, "deny" a drop (or, where
//! denied packets are refused, the drop mark and a return): the endpoint's chain asks the marks. A rule of the API becomes, per family that it can match, a conjunction of
//! conditions some of which are alternatives (an address in a set's hash *or* in its prefixes; a numeric *or* a named
//! port). nftables has no "or" inside a rule, so:
//!
//! - no alternatives: one rule;
//! - one or two ways to match: one rule each;
//! - more, or something that must not hold and has no opposite: a sub-chain. Its rules each say "none of these
//!   alternatives holds: return" or "this holds: return", and its last one acts. Every lookup happens at most once, and
//!   no mark bit is borrowed.

use calico_api::ResourceKey;
use calico_calc::change::{Action as RuleAction, Direction, Policy, Profile, Rule as PolicyRule};
use calico_net::Family;
use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;

use crate::config::{Config, DenyAction};
use crate::fragment::{Fragment, Part};
use crate::ir::{Action, Chain, Limit, Match, Rule};
use crate::name;

mod condition;

use condition::Conditions;

/// Ways to match up to which a rule is written out instead of getting a sub-chain.
const INLINE_MAX: usize = 2;

/// Whose rules these are, for comments and log prefixes.
struct Owner<'a> {
    tier: &'a str,
    kind: &'a str,
    namespace: &'a str,
    name: &'a str,
    text: String,
}

/// The chains of a policy: always both directions, since an endpoint that has the policy in one direction only never
/// jumps to the other, and an empty chain costs nothing.
pub fn policy(key: &ResourceKey, policy: &Policy, config: &Config) -> Fragment {
    let Policy { tier, ingress, egress } = policy;
    let owner = Owner {
        tier,
        kind: key.kind.name(),
        namespace: &key.namespace,
        name: &key.name,
        text: name::policy_text(key),
    };
    let mut fragment = Fragment::default();
    for (direction, rules) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
        add_chain(&mut fragment.inet, name::policy_chain(key, direction), &owner, rules, config);
    }
    fragment
}

/// The chains of a profile, both directions.
pub fn profile(name: &str, profile: &Profile, config: &Config) -> Fragment {
    let Profile { ingress, egress } = profile;
    let owner = Owner { tier: "", kind: "Profile", namespace: "", name, text: format!("pro/{name}") };
    let mut fragment = Fragment::default();
    for (direction, rules) in [(Direction::Ingress, ingress), (Direction::Egress, egress)] {
        add_chain(&mut fragment.inet, name::profile_chain(name, direction), &owner, rules, config);
    }
    fragment
}

fn add_chain(part: &mut Part, name: SmolStr, owner: &Owner<'_>, rules: &[PolicyRule], config: &Config) {
    let decided = decided(config);
    let mut out: Vec<Rule> = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        let actions = actions(rule.action, owner, config);
        for family in families(rule) {
            let Some(conditions) = Conditions::of(rule, family, part) else { continue };
            let last = index + 1 == rules.len();
            add_rule(part, &mut out, &name, &owner.text, conditions, &actions, (!last).then_some(&decided));
        }
    }
    part.add_chain(Chain::regular(name, out));
}

/// Leaves a policy's chain after a sub-chain decided.
fn decided(config: &Config) -> Rule {
    let mask = config.marks.accept | config.marks.pass | config.marks.drop;
    Rule::new([Match::Mark { mask, value: 0, invert: true }], [Action::Return])
}

/// The families that a rule is written for: one without a family where the family makes no difference.
fn families(rule: &PolicyRule) -> SmallVec<[Option<Family>; 2]> {
    let depends = |side: &calico_calc::change::Side| {
        let calico_calc::change::Side {
            nets,
            not_nets,
            ip_sets,
            not_ip_sets,
            ports: _,
            named_ports,
            not_ports: _,
            not_named_ports,
        } = side;
        !(nets.is_empty()
            && not_nets.is_empty()
            && ip_sets.is_empty()
            && not_ip_sets.is_empty()
            && named_ports.is_empty()
            && not_named_ports.is_empty())
    };
    // A match that is forgotten here may be written for no family, and the rule matches more than it says.
    let PolicyRule { action: _, family, protocol: _, not_protocol: _, icmp, not_icmp, source, destination } =
        rule;
    if let Some(family) = *family {
        return smallvec![Some(family)];
    }
    if depends(source) || depends(destination) || icmp.is_some() || not_icmp.is_some() {
        return Family::ALL.into_iter().map(Some).collect();
    }
    smallvec![None]
}

fn actions(action: RuleAction, owner: &Owner<'_>, config: &Config) -> SmallVec<[Action; 2]> {
    let mark = |bit| smallvec![Action::SetMark { mask: bit, value: bit }, Action::Return];
    match action {
        RuleAction::Allow => mark(config.marks.accept),
        RuleAction::Pass => mark(config.marks.pass),
        // The chain may be entered where the kernel can not refuse: the endpoint's chain knows.
        RuleAction::Deny if config.filter_deny == DenyAction::Reject => mark(config.marks.drop),
        RuleAction::Deny => smallvec![Action::Drop],
        RuleAction::Log => {
            let limit =
                config.log_limit.map(|(rate, per_secs)| Limit { rate, per_secs, burst: config.log_burst });
            smallvec![Action::Log { prefix: log_prefix(owner, config), limit }]
        }
    }
}

/// `LogPrefix` with its variables filled in, and `: `; at most the kernel's 127 bytes (`NF_LOG_PREFIXLEN`).
fn log_prefix(owner: &Owner<'_>, config: &Config) -> SmolStr {
    let full = match owner.namespace {
        "" => owner.name.to_owned(),
        namespace => format!("{namespace}/{}", owner.name),
    };
    let mut text = config.log_prefix.replace("%t", owner.tier).replace("%k", owner.kind);
    text = text.replace("%n", owner.name).replace("%p", &full);
    let mut end = text.len().min(125);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(": ");
    SmolStr::new(text.replace('"', "'"))
}

/// Appends what one rule of the API becomes for one family. `decided` follows a sub-chain if rules come after it.
fn add_rule(
    part: &mut Part,
    out: &mut Vec<Rule>,
    chain: &SmolStr,
    comment: &str,
    conditions: Conditions,
    actions: &SmallVec<[Action; 2]>,
    decided: Option<&Rule>,
) {
    let Conditions { all, mut any, none } = conditions;
    let act = |matches: Vec<Match>| {
        Rule { matches, counter: true, actions: actions.clone(), comment: SmolStr::default() }
            .comment(comment)
    };
    // Two alternatives may both hold; only an action that ends the chain may be written twice.
    let logs = matches!(actions[..], [Action::Log { .. }]);
    let ways: usize = any.iter().map(Vec::len).product();
    if none.is_empty() && ways <= INLINE_MAX && !(logs && ways > 1) {
        let mut written = vec![all];
        for alternatives in any {
            written = written
                .into_iter()
                .flat_map(|m| {
                    alternatives.iter().map(move |a| [m.as_slice(), std::slice::from_ref(a)].concat())
                })
                .collect();
        }
        out.extend(written.into_iter().map(act));
        return;
    }
    let mut guards: Vec<Rule> = none.into_iter().map(|m| Rule::new([m], [Action::Return])).collect();
    guards.extend(
        any.iter_mut()
            .map(|alternatives| Rule::new(alternatives.iter().map(condition::inverted), [Action::Return])),
    );
    guards.push(act(Vec::new()));
    let name = name::by_content("cali-r-", &(chain.as_str(), &guards[..]));
    part.add_chain(Chain::regular(name.clone(), guards));
    out.push(Rule::new(all, [Action::Jump(name)]).comment(comment));
    let marks = matches!(actions[..], [Action::SetMark { .. }, ..]);
    out.extend(decided.filter(|_| marks).cloned());
}

#[cfg(test)]
mod tests;
