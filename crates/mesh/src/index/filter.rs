//! BGPFilter → [`Filter`]. A filter that is wrong in any part is left out whole, and with it the peers that name it:
//! without it they would be told, or would tell us, too much.

use calico_api::bgp_filter::PrefixLengths;
use calico_api::{
    BGPFilterSpec, FilterAction, FilterOperation, FilterRule as ApiRule, MatchOperator, Resource,
};
use calico_net::{Asn, Cidr, Family};

use super::Texts;
use crate::filter::{Condition, Filter, FilterRule, Operation, Prefixes};
use crate::intent::{Community, MAX_PRIORITY};

pub(super) fn filter_facts(filter: Resource<BGPFilterSpec>, texts: &mut Texts) -> Option<Filter> {
    let facts = try_filter_facts(&filter);
    facts
        .map_err(|text| texts.push(format!("{text}; the filter is unusable, and so are peers that name it")))
        .ok()
}

fn try_filter_facts(filter: &Resource<BGPFilterSpec>) -> Result<Filter, String> {
    // Its name becomes the name of functions.
    let name = &filter.metadata.name;
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        return Err(format!(
            "metadata.name: {name:?} has other characters than letters, digits, '-', '_' and '.'"
        ));
    }
    let BGPFilterSpec { export_v4, import_v4, export_v6, import_v6 } = &filter.spec;
    Ok(Filter {
        import_v4: rules("importV4", import_v4, Family::V4)?,
        export_v4: rules("exportV4", export_v4, Family::V4)?,
        import_v6: rules("importV6", import_v6, Family::V6)?,
        export_v6: rules("exportV6", export_v6, Family::V6)?,
    })
}

/// The rules of a list, without those that no route can match.
fn rules(list: &str, rules: &[ApiRule], family: Family) -> Result<Vec<FilterRule>, String> {
    let read = rules.iter().enumerate().map(|(index, r)| {
        rule(r, family).map_err(|(field, text)| format!("{list}[{index}].{field}: {text}"))
    });
    Ok(read.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect())
}

/// A field, and what is wrong with it.
type Complaint = (&'static str, String);

fn rule(rule: &ApiRule, family: Family) -> Result<Option<FilterRule>, Complaint> {
    let ApiRule {
        cidr,
        prefix_length,
        source,
        interface,
        match_operator,
        peer_type,
        communities,
        as_path_prefix,
        priority,
        action,
        operations,
    } = rule;
    let mut conditions = Vec::new();
    match (cidr.as_str(), match_operator) {
        ("", None) if prefix_length.is_none() => {}
        ("", None) => return Err(("prefixLength", "it needs a cidr".into())),
        ("", Some(_)) => return Err(("matchOperator", "it needs a cidr".into())),
        (_, None) => return Err(("matchOperator", "it is not set, and cidr needs it".into())),
        (cidr, Some(operator)) => {
            let cidr: Cidr = cidr.parse().map_err(|e| ("cidr", format!("{e}")))?;
            if cidr.family() != family {
                return Err(("cidr", format!("{cidr} is not {family}")));
            }
            match net_condition(cidr, operator, prefix_length.as_ref())? {
                Net::Never => return Ok(None),
                Net::Always => {}
                Net::If(condition) => conditions.push(condition),
            }
        }
    }
    match source.as_str() {
        "" => {}
        "RemotePeers" => conditions.push(Condition::FromPeers),
        other => return Err(("source", format!("{other:?} is unknown; use RemotePeers"))),
    }
    if !interface.is_empty() {
        if !interface.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.*-".contains(&b)) {
            return Err(("interface", format!("{interface:?} cannot name an interface")));
        }
        conditions.push(Condition::Interface(interface.clone()));
    }
    match peer_type.as_str() {
        "" => {}
        "eBGP" => conditions.push(Condition::Internal(false)),
        "iBGP" => conditions.push(Condition::Internal(true)),
        other => return Err(("peerType", format!("{other:?} is unknown; use eBGP or iBGP"))),
    }
    if let Some(communities) = communities {
        let [value] = communities.values.as_slice() else {
            return Err(("communities.values", "it must have exactly one element".into()));
        };
        let community = value.parse::<Community>().map_err(|e| ("communities.values[0]", e))?;
        conditions.push(Condition::Community(community));
    }
    if !as_path_prefix.is_empty() {
        conditions.push(Condition::PathBegins(path("asPathPrefix", as_path_prefix)?));
    }
    if let Some(priority) = priority {
        conditions.push(Condition::Priority(metric("priority", *priority)?));
    }
    let accept = match action {
        FilterAction::Accept => true,
        FilterAction::Reject => false,
        FilterAction::Other(word) => {
            return Err(("action", format!("{word:?} is unknown; use Accept or Reject")));
        }
    };
    if !accept && !operations.is_empty() {
        return Err(("operations", "they go only with action Accept".into()));
    }
    let operations = operations.iter().map(operation).collect::<Result<_, _>>()?;
    Ok(Some(FilterRule { conditions, operations, accept }))
}

/// What a comparison of prefixes comes to.
enum Net {
    Never,
    Always,
    If(Condition),
}

/// `NotIn` and `NotEqual` are the opposites of `In` and `Equal`, lengths included, as in Calico: outside the prefix, or
/// inside with another length.
fn net_condition(
    cidr: Cidr,
    operator: &MatchOperator,
    lengths: Option<&PrefixLengths>,
) -> Result<Net, Complaint> {
    let whole = Prefixes::all(cidr);
    let PrefixLengths { min, max } = lengths.copied().unwrap_or_default();
    for (field, length) in [("prefixLength.min", min), ("prefixLength.max", max)] {
        if let Some(length) = length.filter(|length| *length > whole.max) {
            return Err((field, format!("{length} is more than {}", whole.max)));
        }
    }
    let within =
        Prefixes { cidr, min: min.unwrap_or(whole.min).max(whole.min), max: max.unwrap_or(whole.max) };
    let some = within.min <= within.max;
    let itself = (within.min..=within.max).contains(&cidr.prefix_len());
    Ok(match operator {
        MatchOperator::In if some => Net::If(Condition::In(within)),
        MatchOperator::NotIn if some => Net::If(Condition::NotIn(within)),
        MatchOperator::Equal if itself => Net::If(Condition::Equal(cidr)),
        MatchOperator::NotEqual if itself => Net::If(Condition::NotEqual(cidr)),
        MatchOperator::In | MatchOperator::Equal => Net::Never,
        MatchOperator::NotIn | MatchOperator::NotEqual => Net::Always,
        MatchOperator::Other(word) => {
            return Err(("matchOperator", format!("{word:?} is unknown; use Equal, NotEqual, In or NotIn")));
        }
    })
}

fn path(field: &'static str, path: &[Asn]) -> Result<Vec<Asn>, Complaint> {
    if path.iter().any(|asn| asn.0 == 0) {
        return Err((field, "0 is no AS number".into()));
    }
    Ok(path.to_vec())
}

fn metric(field: &'static str, priority: u32) -> Result<u32, Complaint> {
    if (1..=MAX_PRIORITY).contains(&priority) {
        Ok(priority)
    } else {
        Err((field, format!("{priority} is not from 1 to {MAX_PRIORITY}")))
    }
}

fn operation(operation: &FilterOperation) -> Result<Operation, Complaint> {
    match operation {
        FilterOperation { add_community: Some(add), prepend_as_path: None, set_priority: None } => {
            let community = add.value.parse().map_err(|e| ("operations.addCommunity.value", e))?;
            Ok(Operation::AddCommunity(community))
        }
        FilterOperation { add_community: None, prepend_as_path: Some(prepend), set_priority: None } => {
            let field = "operations.prependASPath.prefix";
            if prepend.prefix.is_empty() {
                return Err((field, "it is empty".into()));
            }
            Ok(Operation::Prepend(path(field, &prepend.prefix)?))
        }
        FilterOperation { add_community: None, prepend_as_path: None, set_priority: Some(set) } => {
            Ok(Operation::SetPriority(metric("operations.setPriority.value", set.value)?))
        }
        _ => Err(("operations", "each is one of addCommunity, prependASPath and setPriority".into())),
    }
}

#[cfg(test)]
mod tests;
