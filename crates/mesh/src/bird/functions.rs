//! BGPFilters as functions: one for each filter, direction and family that has rules (spec 6 §3.4).
//!
//! A function that comes to no verdict returns, and whoever called it goes on. BIRD 2 lets `accept` and `reject` end the
//! filter from within a function.

use std::fmt::Write as _;

use calico_net::{Asn, Family};
use sha2::{Digest, Sha256};

use super::{add_community, community, line, suffix};
use crate::bird::filters::METRIC_AND_PREFERENCE;
use crate::filter::{Condition, Direction, Filter, FilterRule, Operation, Prefixes};
use crate::intent::{BgpIntent, Session};

/// The most characters of a filter's name in the name of its functions: BIRD takes symbols of 64.
const MAX_NAME: usize = 45;
/// How many hexadecimal digits of its hash stand for the rest of a longer one.
const HASH_DIGITS: usize = 16;

/// Appends the functions of a family.
pub(super) fn render_functions(text: &mut String, intent: &BgpIntent, family: Family) {
    for (name, filter) in &intent.filters {
        for direction in [Direction::Import, Direction::Export] {
            let rules = filter.rules(direction, family);
            if rules.is_empty() {
                continue;
            }
            let parameter = if needs_peer_type(rules) { "bool internal_peer" } else { "" };
            line(text, format_args!("function {}({parameter}) {{", function_name(name, direction, family)));
            for rule in rules {
                render_rule(text, rule);
            }
            text.push_str("}\n");
        }
    }
}

/// The calls of a session's filters, each with a blank before it; empty where none has rules.
pub(super) fn calls(intent: &BgpIntent, session: &Session, direction: Direction) -> String {
    let family = session.family();
    let mut text = String::new();
    for name in &session.filters {
        // Resolved sessions have no filter that is not there.
        let rules =
            intent.filters.get(name).map_or(&[][..], |filter: &Filter| filter.rules(direction, family));
        if rules.is_empty() {
            continue;
        }
        let internal = session.is_internal();
        let argument = if needs_peer_type(rules) { internal.to_string() } else { String::new() };
        let function = function_name(name, direction, family);
        write!(text, " {function}({argument});").expect("writing to a String cannot fail");
    }
    text
}

fn needs_peer_type(rules: &[FilterRule]) -> bool {
    rules.iter().flat_map(|rule| &rule.conditions).any(|c| matches!(c, Condition::Internal(_)))
}

/// Quoted, as a name may hold dots and hyphens. Calico's own names, so that whoever knows those finds these.
fn function_name(name: &str, direction: Direction, family: Family) -> String {
    let direction = match direction {
        Direction::Import => "import",
        Direction::Export => "export",
    };
    let family = suffix(family).to_ascii_uppercase();
    format!("'bgp_{}_{direction}Filter{family}'", short_name(name))
}

fn short_name(name: &str) -> String {
    if name.len() <= MAX_NAME {
        return name.to_owned();
    }
    let digest = Sha256::digest(name.as_bytes());
    let hash: String = digest.iter().take(HASH_DIGITS / 2).map(|byte| format!("{byte:02X}")).collect();
    // Names are ASCII.
    format!("{}_{hash}", &name[..MAX_NAME - HASH_DIGITS - 1])
}

fn render_rule(text: &mut String, rule: &FilterRule) {
    let FilterRule { conditions, operations, accept } = rule;
    let mut statements: Vec<String> = operations.iter().flat_map(operation).collect();
    statements.push(if *accept { "accept;".to_owned() } else { "reject;".to_owned() });
    let statements = statements.join(" ");
    if conditions.is_empty() {
        line(text, format_args!("  {statements}"));
    } else {
        let conditions: Vec<String> = conditions.iter().map(condition).collect();
        line(text, format_args!("  if {} then {{ {statements} }}", conditions.join(" && ")));
    }
}

fn condition(condition: &Condition) -> String {
    match condition {
        Condition::Equal(cidr) => format!("net = {cidr}"),
        Condition::NotEqual(cidr) => format!("net != {cidr}"),
        Condition::In(prefixes) => format!("net ~ {}", pattern(prefixes)),
        Condition::NotIn(prefixes) => format!("net !~ {}", pattern(prefixes)),
        Condition::FromPeers => "source = RTS_BGP".to_owned(),
        Condition::Interface(name) => format!("(defined(ifname) && ifname ~ \"{name}\")"),
        Condition::Internal(true) => "internal_peer".to_owned(),
        Condition::Internal(false) => "!internal_peer".to_owned(),
        Condition::Community(c) => {
            let list = if c.is_large() { "bgp_large_community" } else { "bgp_community" };
            format!("{} ~ {list}", community(c))
        }
        Condition::PathBegins(path) => format!("bgp_path ~ [= {} * =]", join(path)),
        Condition::Priority(metric) => {
            let preference = METRIC_AND_PREFERENCE - metric;
            format!("(defined(bgp_local_pref) && bgp_local_pref = {preference})")
        }
    }
}

fn pattern(prefixes: &Prefixes) -> String {
    let Prefixes { cidr, min, max } = prefixes;
    if prefixes.are_all() { cidr.to_string() } else { format!("[ {cidr}{{{min},{max}}} ]") }
}

fn join(path: &[Asn]) -> String {
    path.iter().map(Asn::to_string).collect::<Vec<_>>().join(" ")
}

fn operation(operation: &Operation) -> Vec<String> {
    match operation {
        Operation::AddCommunity(community) => vec![add_community(community)],
        // Each goes in front of those before it.
        Operation::Prepend(path) => {
            path.iter().rev().map(|asn| format!("bgp_path.prepend({asn});")).collect()
        }
        Operation::SetPriority(metric) => {
            vec![format!("bgp_local_pref = {};", METRIC_AND_PREFERENCE - metric)]
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut_and_told_apart_by_their_hash() {
        let name = "a".repeat(45);
        assert_eq!(short_name(&name), name);
        // As sha256sum prints it: 6afed5022f96df06….
        assert_eq!(short_name(&"b".repeat(46)), format!("{}_6AFED5022F96DF06", "b".repeat(28)));
        assert_eq!(function_name("f.1", Direction::Export, Family::V6), "'bgp_f.1_exportFilterV6'");
    }
}
