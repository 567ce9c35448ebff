//! Strict reading: what is told of wrong values, where they stand, and what is read of the rest.

use super::*;
use crate::NetworkPolicySpec;

fn errors(value: Value) -> Vec<(String, String)> {
    from_value::<NetworkPolicySpec>("spec", &value)
        .unwrap_err()
        .into_iter()
        .map(|e| (e.field, e.value))
        .collect()
}

#[test]
fn errors_name_the_path_and_the_value() {
    let value = serde_json::json!({
        "Order": 5, "ordre": 6,
        "ingress": [{"action": "Allow", "source": {"prots": [1], "ports": [80, "90:80"]}}],
    });
    assert_eq!(
        errors(value),
        [
            ("spec.ordre".to_owned(), "6".to_owned()),
            ("spec.ingress[0].source.prots".to_owned(), "[1]".to_owned()),
            ("spec.ingress[0].source.ports[1]".to_owned(), "90:80".to_owned()),
        ]
    );
    assert_eq!(errors(serde_json::json!({"ingress": {}})), [("spec.ingress".to_owned(), "{}".to_owned())]);
    assert_eq!(
        errors(serde_json::json!({"ingress": [{"source": {}}]})),
        [("spec.ingress[0].action".to_owned(), String::new())]
    );
}

#[test]
fn everything_wrong_is_told_at_once() {
    let value = serde_json::json!({
        "order": "high",
        "types": [1, "Egress"],
        "ingress": [
            {"action": 5, "sorce": {}, "destination": {"ports": [70000, 80, "9:8"]}},
            {"protocol": [], "source": {"nets": 7}},
            {"action": "Allow"},
        ],
        "selector": true,
    });
    let Reading { value: spec, errors, left_out } = read::<NetworkPolicySpec>("spec", &value);
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let quotes = "put it in quotes";
    assert_eq!(
        lines,
        [
            "spec.ingress[0].sorce: \"{}\": this field is not known here; did you mean \"source\"?".to_owned(),
            "spec.order: \"high\": must be a number".to_owned(),
            format!("spec.types[0]: \"1\": is a number, must be a string; {quotes}"),
            format!("spec.ingress[0].action: \"5\": is a number, must be a string; {quotes}"),
            "spec.ingress[0].destination.ports[0]: \"70000\": is not a port; use a number from 1 to 65535, a range such as \"80:90\", or a port name".to_owned(),
            "spec.ingress[0].destination.ports[2]: \"9:8\": is a range whose first port is after its last; use \"8:9\"".to_owned(),
            "spec.ingress[1].protocol: \"[]\": must be a number or text".to_owned(),
            "spec.ingress[1].source.nets: \"7\": is a number, must be a list".to_owned(),
            "spec.ingress[1].action: is needed".to_owned(),
            format!("spec.selector: \"true\": is true or false, must be a string; {quotes} (YAML reads a bare y, n, yes, no, on and off as true or false)"),
        ]
    );
    // What is left can be read, and stands where it stood.
    let spec = spec.unwrap();
    assert_eq!(spec.ingress.len(), 1);
    assert_eq!(spec.types, [crate::PolicyType::Egress]);
    let place = |field: &str| path_in_document(field, &left_out);
    assert_eq!(place("spec.ingress[0].source.nets[3]").as_deref(), Some("spec.ingress[2].source.nets[3]"));
    assert_eq!(place("spec.types[0]").as_deref(), Some("spec.types[1]"));
    assert_eq!(place("spec.types"), None, "it has lost a part");
    assert_eq!(place("spec.selector"), None, "it was left out");
    assert_eq!(place("spec.serviceAccountSelector").as_deref(), Some("spec.serviceAccountSelector"));
    assert_eq!(place("metadata.annotations[x").as_deref(), Some("metadata.annotations[x"));
}

#[test]
fn numbers_are_asked_for_in_words() {
    let said = |rule: serde_json::Value| {
        let value = serde_json::json!({"ingress": [rule]});
        let errors = from_value::<NetworkPolicySpec>("spec", &value).unwrap_err();
        errors.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(
        said(serde_json::json!({"action": "Allow", "ipVersion": 300})),
        ["spec.ingress[0].ipVersion: \"300\": must be a whole number from 0 to 255"]
    );
    assert_eq!(
        said(serde_json::json!({"action": "Allow", "ipVersion": "four"})),
        ["spec.ingress[0].ipVersion: \"four\": is text, must be a whole number from 0 to 255"]
    );
    assert_eq!(
        said(serde_json::json!({"action": "Allow", "protocol": "ICMP", "icmp": {"type": 4.6}})),
        ["spec.ingress[0].icmp.type: \"4.6\": is a number, must be a whole number"]
    );
}

/// Reading again for each wrong value must not become quadratic in what a file may hold.
#[test]
fn a_long_list_of_wrong_values_is_cut() {
    let nets = vec![1; 100_000];
    let value = serde_json::json!({"nets": nets});
    assert_eq!(from_value::<crate::NetworkSetSpec>("spec", &value).unwrap_err().len(), MOST_WRONG);
}

#[test]
fn case_and_nulls_are_forgiven() {
    let value = serde_json::json!({"ORDER": 5, "ingress": null, "Selector": "all()"});
    let spec: NetworkPolicySpec = from_value("spec", &value).unwrap();
    assert_eq!((spec.order, spec.selector.as_str()), (Some(crate::Order(5.0)), "all()"));
}
