//! Rules as they are stored, good and bad.

use calico_api::Resource;
use serde_json::{Value, json};

use super::*;

fn read(spec: &Value) -> Result<Filter, String> {
    let spec: BGPFilterSpec = serde_json::from_value(spec.clone()).unwrap();
    let mut texts = Vec::new();
    let filter = filter_facts(Resource::new("", "f", spec), &mut texts);
    filter.ok_or_else(|| texts.join("; "))
}

/// The conditions of one rule for IPv4 routes that are taken; `None` where it can match nothing.
fn conditions(rule: &Value) -> Option<Vec<Condition>> {
    let mut rule = rule.clone();
    rule["action"] = json!("Accept");
    let filter = read(&json!({ "importV4": [rule] })).unwrap();
    filter.import_v4.into_iter().next().map(|rule| rule.conditions)
}

fn inside(cidr: &str, min: u8, max: u8) -> Prefixes {
    Prefixes { cidr: cidr.parse().unwrap(), min, max }
}

#[test]
fn each_condition() {
    let ten: Cidr = "10.0.0.0/8".parse().unwrap();
    for (rule, expected) in [
        (json!({}), vec![]),
        (json!({"cidr": "10.0.0.0/8", "matchOperator": "Equal"}), vec![Condition::Equal(ten)]),
        (json!({"cidr": "10.0.0.0/8", "matchOperator": "NotEqual"}), vec![Condition::NotEqual(ten)]),
        (json!({"cidr": "10.9.0.0/8", "matchOperator": "In"}), vec![Condition::In(Prefixes::all(ten))]),
        (json!({"cidr": "10.0.0.0/8", "matchOperator": "NotIn"}), vec![Condition::NotIn(Prefixes::all(ten))]),
        (json!({"source": "RemotePeers"}), vec![Condition::FromPeers]),
        (json!({"interface": "*.calico"}), vec![Condition::Interface("*.calico".into())]),
        (json!({"peerType": "eBGP"}), vec![Condition::Internal(false)]),
        (json!({"peerType": "iBGP"}), vec![Condition::Internal(true)]),
        (
            json!({"communities": {"values": ["65000:1"]}}),
            vec![Condition::Community(Community::Standard(65000, 1))],
        ),
        (json!({"asPathPrefix": [65001, "1.1"]}), vec![Condition::PathBegins(vec![Asn(65001), Asn(65537)])]),
        (json!({"priority": 512}), vec![Condition::Priority(512)]),
        (
            json!({"source": "RemotePeers", "priority": 1, "cidr": "10.0.0.0/8", "matchOperator": "Equal"}),
            vec![Condition::Equal(ten), Condition::FromPeers, Condition::Priority(1)],
        ),
    ] {
        assert_eq!(conditions(&rule), Some(expected), "{rule}");
    }
}

#[test]
fn lengths_are_within_the_prefix_and_the_opposites_take_them_along() {
    let rule = |operator: &str, min: Option<u8>, max: Option<u8>| {
        let rule = json!({"cidr": "10.0.0.0/8", "matchOperator": operator, "prefixLength": {"min": min, "max": max}});
        conditions(&rule)
    };
    let ten: Cidr = "10.0.0.0/8".parse().unwrap();
    assert_eq!(rule("In", Some(16), Some(24)), Some(vec![Condition::In(inside("10.0.0.0/8", 16, 24))]));
    assert_eq!(rule("In", None, Some(24)), Some(vec![Condition::In(inside("10.0.0.0/8", 8, 24))]));
    // BIRD would take shorter ones for those around the prefix.
    assert_eq!(rule("In", Some(0), None), Some(vec![Condition::In(inside("10.0.0.0/8", 8, 32))]));
    assert_eq!(rule("NotIn", Some(16), None), Some(vec![Condition::NotIn(inside("10.0.0.0/8", 16, 32))]));
    assert_eq!(rule("Equal", None, Some(24)), Some(vec![Condition::Equal(ten)]));
    // What no route can be, and what every route is.
    assert_eq!(rule("In", Some(24), Some(16)), None);
    assert_eq!(rule("Equal", Some(16), None), None);
    assert_eq!(rule("NotIn", Some(24), Some(16)), Some(vec![]));
    assert_eq!(rule("NotEqual", Some(16), None), Some(vec![]));
}

#[test]
fn operations_in_their_order() {
    let operations = json!([
        {"addCommunity": {"value": "1:2:3"}}, {"prependASPath": {"prefix": [1, 2]}}, {"setPriority": {"value": 7}}
    ]);
    let rule = json!({"action": "Accept", "operations": operations});
    let filter = read(&json!({"exportV6": [rule, {"action": "Reject"}]})).unwrap();
    let expected = vec![
        Operation::AddCommunity(Community::Large(1, 2, 3)),
        Operation::Prepend(vec![Asn(1), Asn(2)]),
        Operation::SetPriority(7),
    ];
    let [first, second] = filter.rules(crate::filter::Direction::Export, Family::V6) else { panic!() };
    assert_eq!((&first.operations, first.accept, second.accept), (&expected, true, false));
    assert!(filter.import_v4.is_empty() && filter.export_v4.is_empty() && filter.import_v6.is_empty());
}

#[test]
fn one_wrong_field_makes_the_filter_unusable_and_is_named() {
    for (rule, field) in [
        (json!({"action": "Maybe"}), "importV4[1].action"),
        (json!({"action": "Accept", "cidr": "10.0.0.0/8"}), "importV4[1].matchOperator"),
        (json!({"action": "Accept", "matchOperator": "In"}), "importV4[1].matchOperator"),
        (
            json!({"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "Near"}),
            "importV4[1].matchOperator",
        ),
        (json!({"action": "Accept", "cidr": "ten", "matchOperator": "In"}), "importV4[1].cidr"),
        (json!({"action": "Accept", "cidr": "fd00::/8", "matchOperator": "In"}), "importV4[1].cidr"),
        (json!({"action": "Accept", "prefixLength": {"min": 1}}), "importV4[1].prefixLength"),
        (
            json!({"action": "Accept", "cidr": "10.0.0.0/8", "matchOperator": "In", "prefixLength": {"max": 33}}),
            "importV4[1].prefixLength.max",
        ),
        (json!({"action": "Accept", "source": "Nobody"}), "importV4[1].source"),
        (json!({"action": "Accept", "interface": "a\" then accept; #"}), "importV4[1].interface"),
        (json!({"action": "Accept", "peerType": "xBGP"}), "importV4[1].peerType"),
        (json!({"action": "Accept", "communities": {"values": []}}), "importV4[1].communities.values"),
        (json!({"action": "Accept", "communities": {"values": ["x"]}}), "importV4[1].communities.values[0]"),
        (json!({"action": "Accept", "asPathPrefix": [0]}), "importV4[1].asPathPrefix"),
        (json!({"action": "Accept", "priority": 0}), "importV4[1].priority"),
        (
            json!({"action": "Reject", "operations": [{"setPriority": {"value": 1}}]}),
            "importV4[1].operations",
        ),
        (json!({"action": "Accept", "operations": [{}]}), "importV4[1].operations"),
        (
            json!({"action": "Accept", "operations": [{"setPriority": {"value": 2_147_483_647u32}}]}),
            "importV4[1].operations.setPriority.value",
        ),
        (
            json!({"action": "Accept", "operations": [{"addCommunity": {"value": "70000:1"}}]}),
            "importV4[1].operations.addCommunity.value",
        ),
        (
            json!({"action": "Accept", "operations": [{"prependASPath": {"prefix": []}}]}),
            "importV4[1].operations.prependASPath.prefix",
        ),
    ] {
        let error = read(&json!({"importV4": [{"action": "Accept"}, rule]})).unwrap_err();
        assert!(error.starts_with(&format!("{field}: ")), "{rule}: {error}");
        assert!(error.contains("peers that name it"), "{error}");
    }
}
