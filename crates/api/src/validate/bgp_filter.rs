//! BGP filters (spec 1 §1.6).

use calico_net::Family;

use super::Report;
use super::bgp::{MAX_PRIORITY, is_community};
use super::scalar::{at_most, loose_net};
use crate::bgp_filter::{BGPFilter, BGPFilterSpec, FilterAction, FilterOperation, FilterRule};

/// Most operations of a rule, and most AS numbers of one of them.
const MAX_OPERATIONS: usize = 10;
const COMMUNITY: &str = "must be aa:nn with numbers to 65535, or aa:nn:mm with numbers to 4294967295";

pub(super) fn check(filter: &BGPFilter, report: &mut Report) {
    let BGPFilterSpec { export_v4, import_v4, export_v6, import_v6 } = &filter.spec;
    let lists = [
        ("exportV4", export_v4, Family::V4),
        ("importV4", import_v4, Family::V4),
        ("exportV6", export_v6, Family::V6),
        ("importV6", import_v6, Family::V6),
    ];
    for (name, rules, family) in lists {
        for (index, rule) in rules.iter().enumerate() {
            check_rule(rule, &format!("spec.{name}[{index}]"), family, report);
        }
    }
}

fn check_rule(rule: &FilterRule, path: &str, family: Family, report: &mut Report) {
    let FilterRule {
        cidr,
        prefix_length,
        source,
        interface,
        match_operator,
        peer_type,
        communities,
        as_path_prefix: _,
        priority,
        action,
        operations,
    } = rule;
    let field = |name: &str| format!("{path}.{name}");
    report.require(action.is_known(), field("action"), action, "must be Accept or Reject");
    let together = cidr.is_empty() == match_operator.is_none();
    report.require(together, field("cidr"), cidr, "needs a matchOperator, and a matchOperator needs a cidr");
    if let Some(operator) = match_operator {
        let reason = "must be one of Equal, NotEqual, In, NotIn";
        report.require(operator.is_known(), field("matchOperator"), operator, reason);
    }
    if !cidr.is_empty()
        && let Some(net) = loose_net(report, &field("cidr"), cidr)
    {
        report.require(net.family() == family, field("cidr"), cidr, format!("must be {family}"));
    }
    if let Some(lengths) = prefix_length {
        report.require(!cidr.is_empty(), field("prefixLength"), "", "needs a cidr");
        for (name, length) in [("min", lengths.min), ("max", lengths.max)] {
            if let Some(length) = length.filter(|l| *l > family.bits()) {
                let reason = format!("must be from 0 to {}", family.bits());
                report.add(field(&format!("prefixLength.{name}")), length, reason);
            }
        }
    }
    let remote = ["", "RemotePeers"].contains(&source.as_str());
    report.require(remote, field("source"), source, "must be RemotePeers");
    let named =
        interface.len() <= 15 && interface.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.*-".contains(&b));
    report.require(named, field("interface"), interface, "must be an interface's name, perhaps with *");
    let peers = ["", "eBGP", "iBGP"].contains(&peer_type.as_str());
    report.require(peers, field("peerType"), peer_type, "must be eBGP or iBGP");
    if let Some(communities) = communities {
        let list = field("communities.values");
        report.require(communities.values.len() == 1, &list, "", "must have exactly one element");
        for (index, value) in communities.values.iter().enumerate() {
            report.require(is_community(value), format!("{list}[{index}]"), value, COMMUNITY);
        }
    }
    if let Some(n) = priority {
        check_priority(*n, field("priority"), report);
    }
    let accepts = operations.is_empty() || *action == FilterAction::Accept;
    report.require(accepts, field("operations"), "", "go only with action Accept");
    at_most(report, &field("operations"), operations.len(), MAX_OPERATIONS);
    for (index, operation) in operations.iter().enumerate() {
        check_operation(operation, &format!("{path}.operations[{index}]"), report);
    }
}

fn check_operation(operation: &FilterOperation, path: &str, report: &mut Report) {
    let FilterOperation { add_community, prepend_as_path, set_priority } = operation;
    let set = usize::from(add_community.is_some())
        + usize::from(prepend_as_path.is_some())
        + usize::from(set_priority.is_some());
    report.require(set == 1, path, "", "must be exactly one of addCommunity, prependASPath, setPriority");
    if let Some(add) = add_community {
        report.require(is_community(&add.value), format!("{path}.addCommunity.value"), &add.value, COMMUNITY);
    }
    if let Some(prepend) = prepend_as_path {
        let count = prepend.prefix.len();
        let reason = format!("must have from 1 to {MAX_OPERATIONS} elements");
        report.require(
            (1..=MAX_OPERATIONS).contains(&count),
            format!("{path}.prependASPath.prefix"),
            "",
            reason,
        );
    }
    if let Some(priority) = set_priority {
        check_priority(priority.value, format!("{path}.setPriority.value"), report);
    }
}

fn check_priority(priority: u32, field: String, report: &mut Report) {
    let reason = format!("must be from 1 to {MAX_PRIORITY}");
    report.require((1..=MAX_PRIORITY).contains(&priority), field, priority, reason);
}
