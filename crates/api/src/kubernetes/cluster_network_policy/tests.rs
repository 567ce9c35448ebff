//! Cluster-wide policies of Kubernetes' in Calico's words.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::decode;

const PODS: &str = "projectcalico.org/orchestrator == 'k8s'";

fn read(spec: Value) -> ClusterNetworkPolicy {
    let object = json!({"metadata": {"name": "p", "resourceVersion": "7",
        "uid": "30316465-6365-4463-ad63-3564622d3638"}, "spec": spec});
    decode(object.to_string().as_bytes()).unwrap()
}

fn check(spec: Value, expected: Value, complaints: &[&str]) {
    let Converted { entry, problems } = entry(&read(spec)).unwrap().unwrap();
    assert_eq!(entry.key, Key::resource(Kind::KubernetesClusterNetworkPolicy, "", "p"));
    let value: Value = serde_json::from_slice(&entry.value).unwrap();
    for (field, expected) in expected.as_object().unwrap() {
        assert_eq!(value["spec"].get(field).unwrap_or(&Value::Null), expected, "{field}");
    }
    let reasons: Vec<&str> = problems.iter().map(|problem| problem.reason.as_str()).collect();
    assert_eq!(reasons, complaints);
}

#[test]
fn the_tier_says_where_it_comes() {
    let spec = |tier: &str| {
        json!({"tier": tier, "priority": 10, "subject": {"namespaces": {"matchLabels": {"a": "b"}}},
            "ingress": [{"action": "Deny", "from": [{"namespaces": {}}]}]})
    };
    for (tier, expected) in [("Admin", "kube-admin"), ("Baseline", "kube-baseline")] {
        check(
            spec(tier),
            json!({"tier": expected, "order": 10, "selector": PODS, "namespaceSelector": "a == 'b'",
                "types": ["Ingress"], "egress": null,
                "ingress": [{"action": "Deny", "source": {"selector": PODS, "namespaceSelector": "all()"}}]}),
            &[],
        );
    }
    assert_eq!(entry(&read(spec("Other"))), Ok(None));
}

#[test]
fn subjects() {
    let subject = |subject: Value, selector: &str, namespaces: Value| {
        check(
            json!({"tier": "Admin", "subject": subject}),
            json!({"selector": selector, "namespaceSelector": namespaces, "types": null}),
            &[],
        );
    };
    subject(json!({"namespaces": {}}), PODS, json!("all()"));
    let both = format!("{PODS} && a == 'b'");
    let pods =
        json!({"podSelector": {"matchLabels": {"a": "b"}}, "namespaceSelector": {"matchLabels": {"n": "x"}}});
    subject(json!({ "pods": pods }), &both, json!("n == 'x'"));
    subject(json!({"pods": {"podSelector": {"matchLabels": {"a": "b"}}}}), &both, json!(null));
    for (bad, message) in [
        (json!({}), "spec.subject: exactly one of namespaces, pods, networks is needed"),
        (json!({"networks": ["10.0.0.0/8"]}), "spec.subject: addresses cannot be selected"),
        (
            json!({"namespaces": {"matchExpressions": [{"key": "a", "operator": "?"}]}}),
            "spec.subject.namespaces.operator: \"?\" is none of In, NotIn, Exists, DoesNotExist",
        ),
    ] {
        let error = entry(&read(json!({"tier": "Admin", "subject": bad}))).unwrap_err();
        assert_eq!(error.reason, message);
    }
}

#[test]
fn rules_keep_their_order_and_name() {
    let pods = json!({"pods": {"podSelector": {}, "namespaceSelector": {}}});
    check(
        json!({"tier": "Admin", "subject": {"namespaces": {}}, "egress": [
            {"name": "dns", "action": "Accept", "to": [pods, {"networks": ["10.0.0.1/8", "fd00::/8"]}],
                "protocols": [{"udp": {"destinationPort": {"number": 53}}}, {"tcp": {"destinationPort": {"number": 53}}}]},
            {"action": "Pass", "to": [pods], "protocols": [{"destinationNamedPort": "web"},
                {"sctp": {"destinationPort": {"range": {"start": 1, "end": 9}}}}]}]}),
        json!({"types": ["Egress"], "egress": [
            {"action": "Allow", "protocol": "TCP", "metadata": {"annotations": {"name": "dns"}},
                "destination": {"selector": PODS, "namespaceSelector": "all()", "ports": [53]}},
            {"action": "Allow", "protocol": "TCP", "metadata": {"annotations": {"name": "dns"}},
                "destination": {"nets": ["10.0.0.0/8", "fd00::/8"], "ports": [53]}},
            {"action": "Allow", "protocol": "UDP", "metadata": {"annotations": {"name": "dns"}},
                "destination": {"selector": PODS, "namespaceSelector": "all()", "ports": [53]}},
            {"action": "Allow", "protocol": "UDP", "metadata": {"annotations": {"name": "dns"}},
                "destination": {"nets": ["10.0.0.0/8", "fd00::/8"], "ports": [53]}},
            {"action": "Pass", "destination": {"selector": PODS, "namespaceSelector": "all()", "ports": ["web"]}},
            {"action": "Pass", "protocol": "SCTP",
                "destination": {"selector": PODS, "namespaceSelector": "all()", "ports": ["1:9"]}}]}),
        &[],
    );
}

#[test]
fn a_bad_rule_denies_unless_it_accepts() {
    let check = |rule: Value, denied: bool, complaint: &str| {
        let rules = if denied { json!([{"action": "Deny"}]) } else { json!(null) };
        check(
            json!({"tier": "Admin", "subject": {"namespaces": {}}, "ingress": [rule]}),
            json!({"types": ["Ingress"], "ingress": rules}),
            &[complaint],
        );
    };
    let bad = |action: &str| json!({"action": action, "from": [{}]});
    let peer = "spec.ingress[0].from[0]: exactly one of namespaces, pods, networks is needed";
    check(bad("Accept"), false, &format!("{peer}; the rule is left out"));
    check(bad("Deny"), true, &format!("{peer}; everything is denied instead"));
    check(bad("Pass"), true, &format!("{peer}; everything is denied instead"));
    check(
        bad("Shrug"),
        true,
        "spec.ingress[0].action: \"Shrug\" is none of Accept, Deny, Pass; everything is denied instead",
    );
    let protocols =
        |protocols: Value| json!({"action": "Accept", "from": [{"namespaces": {}}], "protocols": protocols});
    for (list, complaint) in [
        (json!([{}]), ".protocols[0]: exactly one of tcp, udp, sctp, destinationNamedPort is needed"),
        (
            json!([{"tcp": {"destinationPort": {}}}]),
            ".protocols[0].destinationPort: exactly one of number, range is needed",
        ),
        (
            json!([{"tcp": {}}, {"udp": {"destinationPort": {"number": 70000}}}]),
            ".protocols[1].number: 70000 is not a port; use 1 to 65535",
        ),
        (
            json!([{"tcp": {"destinationPort": {"range": {"start": 9, "end": 1}}}}]),
            ".protocols[0].end: 1 is less than start 9",
        ),
        (
            json!([{"destinationNamedPort": "80"}]),
            ".protocols[0].destinationNamedPort: \"80\" is not the name of a port",
        ),
    ] {
        check(protocols(list), false, &format!("spec.ingress[0]{complaint}; the rule is left out"));
    }
    check(
        json!({"action": "Accept", "from": [{"networks": ["10.0.0.0/8"]}]}),
        false,
        "spec.ingress[0].from: addresses have no place here; the rule is left out",
    );
    check(json!({"action": "Accept"}), false, "spec.ingress[0].from: nobody is named; the rule is left out");
}
