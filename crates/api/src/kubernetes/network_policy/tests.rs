//! Kubernetes' policies in Calico's words.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::kubernetes::decode;

fn read(spec: Value) -> NetworkPolicy {
    let object = json!({"metadata": {"name": "p", "namespace": "blue", "resourceVersion": "7",
        "uid": "30316465-6365-4463-ad63-3564622d3638"}, "spec": spec});
    decode(object.to_string().as_bytes()).unwrap()
}

/// The policy's fields that are named in what is expected, and its problems.
fn check(spec: Value, expected: Value, complaints: &[&str]) {
    let (found, problems) = super::spec(&read(spec).spec).unwrap();
    let found = json!(found);
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(found.get(field).unwrap_or(&Value::Null), value, "{field}");
    }
    assert_eq!(problems, complaints);
}

#[test]
fn it_is_a_policy_of_the_default_tier() {
    let Converted { entry, problems } =
        entry(&read(json!({"podSelector": {}, "policyTypes": ["Ingress"]}))).unwrap();
    assert_eq!(problems, []);
    assert_eq!(entry.key, Key::resource(Kind::KubernetesNetworkPolicy, "blue", "p"));
    assert_eq!(entry.revision, Revision("7".into()));
    assert_eq!(
        serde_json::from_slice::<Value>(&entry.value).unwrap(),
        json!({"kind": "KubernetesNetworkPolicy", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "p", "namespace": "blue", "uid": "0c8c26a6-c6a6-44c6-adc6-ac2646b46c1c"},
            "spec": {"tier": "default", "order": 1000, "selector": "projectcalico.org/orchestrator == 'k8s'",
                "types": ["Ingress"]}})
    );
    // A name that looks like one of old writers' stays.
    let mut named = read(json!({}));
    named.metadata.name = "default.p".into();
    let entry = super::entry(&named).unwrap().entry;
    assert_eq!(codec::decode::<KubernetesNetworkPolicySpec>(&entry).unwrap().metadata.name, "default.p");
}

#[test]
fn selectors() {
    let pods = |selector: Value, expected: &str| {
        let expected = format!("projectcalico.org/orchestrator == 'k8s'{expected}");
        assert!(calico_selector::parse(&expected).is_ok(), "{expected}");
        check(json!({ "podSelector": selector }), json!({ "selector": expected }), &[]);
    };
    pods(json!({}), "");
    pods(json!({"matchLabels": {"z": "1", "a.b/c": ""}}), " && a.b/c == '' && z == '1'");
    pods(
        json!({"matchLabels": {"a": "b"}, "matchExpressions": [
            {"key": "k", "operator": "In", "values": ["y", "x"]},
            {"key": "l", "operator": "NotIn", "values": ["z"]},
            {"key": "m", "operator": "Exists"},
            {"key": "n", "operator": "DoesNotExist", "values": null}]}),
        " && a == 'b' && k in { 'y', 'x' } && l not in { 'z' } && has(m) && ! has(n)",
    );
    for (bad, message) in [
        (
            json!({"matchLabels": {"a": "x' || all() || 'y"}}),
            "spec.podSelector.\"x' || all() || 'y\" is not the value of a label",
        ),
        (json!({"matchLabels": {"a b": "c"}}), "spec.podSelector.key: \"a b\" is not the key of a label"),
        (
            json!({"matchExpressions": [{"key": "k", "operator": "Gt", "values": ["1"]}]}),
            "spec.podSelector.operator: \"Gt\" is none of In, NotIn, Exists, DoesNotExist",
        ),
    ] {
        assert_eq!(super::spec(&read(json!({ "podSelector": bad })).spec), Err(message.to_owned()));
    }
}

#[test]
fn types() {
    let egress = json!([{}]);
    let check = |types: Value, expected: Value| {
        check(json!({"egress": egress, "policyTypes": types}), json!({ "types": expected }), &[]);
    };
    // Not even where there are egress rules: the API server would have said so.
    check(json!(null), json!(["Ingress"]));
    check(json!([]), json!(["Ingress"]));
    check(json!(["Egress"]), json!(["Egress"]));
    check(json!(["Egress", "Ingress"]), json!(["Ingress", "Egress"]));
}

#[test]
fn peers() {
    const PODS: &str = "projectcalico.org/orchestrator == 'k8s'";
    let check = |peers: Value, entities: Vec<Value>| {
        let rule = |side: &str, entity: &Value| {
            let mut rule = json!({"action": "Allow"});
            if *entity != json!({}) {
                rule[side] = entity.clone();
            }
            rule
        };
        let ingress: Vec<Value> = entities.iter().map(|entity| rule("source", entity)).collect();
        let egress: Vec<Value> = entities.iter().map(|entity| rule("destination", entity)).collect();
        check(
            json!({"ingress": [{"from": peers}], "egress": [{"to": peers}], "policyTypes": ["Ingress", "Egress"]}),
            json!({"ingress": ingress, "egress": egress}),
            &[],
        );
    };
    check(json!(null), vec![json!({})]);
    check(json!([]), vec![json!({})]);
    check(json!([{"podSelector": {}}]), vec![json!({ "selector": PODS })]);
    check(json!([{"namespaceSelector": {}}]), vec![json!({"selector": PODS, "namespaceSelector": "all()"})]);
    check(
        json!([{"namespaceSelector": {"matchLabels": {"n": "x"}}, "podSelector": {"matchLabels": {"a": "b"}}}]),
        vec![json!({"selector": format!("{PODS} && a == 'b'"), "namespaceSelector": "n == 'x'"})],
    );
    check(
        json!([{"ipBlock": {"cidr": "10.0.0.1/8", "except": ["10.1.0.0/16"]}}, {"ipBlock": {"cidr": "fd00::/8"}}]),
        vec![json!({"nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16"]}), json!({"nets": ["fd00::/8"]})],
    );
}

#[test]
fn ports() {
    let check = |ports: Value, expected: Value| {
        let rules = |rules: &Value| -> Vec<Value> {
            let mut list = Vec::new();
            for (protocol, ports) in rules.as_array().unwrap().iter().map(|pair| (&pair[0], &pair[1])) {
                let mut rule = json!({"action": "Allow"});
                if !protocol.is_null() {
                    rule["protocol"] = protocol.clone();
                }
                if *ports != json!([]) {
                    rule["destination"] = json!({ "ports": ports });
                }
                list.push(rule);
            }
            list
        };
        check(json!({"ingress": [{ "ports": ports }]}), json!({ "ingress": rules(&expected) }), &[]);
    };
    check(json!([]), json!([[null, []]]));
    check(json!([{"port": 80}]), json!([["TCP", [80]]]));
    check(json!([{}]), json!([["TCP", []]]));
    check(json!([{"protocol": "SCTP", "port": 80, "endPort": 90}]), json!([["SCTP", ["80:90"]]]));
    check(json!([{"protocol": "UDP", "port": "dns"}]), json!([["UDP", ["dns"]]]));
    // All of a protocol beat some of it, in either order.
    check(json!([{"port": 80}, {"protocol": "TCP"}, {"port": 81}]), json!([["TCP", []]]));
    check(
        json!([
            {"protocol": "UDP", "port": 53}, {"port": 81}, {"port": "web"}, {"port": 90, "endPort": 95},
            {"port": 80}, {"port": 93, "endPort": 99}, {"port": 80}, {"port": "api"}, {"port": 70}]),
        json!([["TCP", ["api", "web", 70, "80:81", "90:99"]], ["UDP", [53]]]),
    );
    check(json!([{"port": 1, "endPort": 65535}, {"port": 65535}]), json!([["TCP", ["1:65535"]]]));
}

#[test]
fn one_rule_for_each_protocol_and_peer() {
    check(
        json!({"egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}, {"ipBlock": {"cidr": "fd00::/8"}}],
            "ports": [{"protocol": "UDP", "port": 53}, {"port": 53}]}]}),
        json!({"egress": [
            {"action": "Allow", "protocol": "TCP", "destination": {"nets": ["10.0.0.0/8"], "ports": [53]}},
            {"action": "Allow", "protocol": "TCP", "destination": {"nets": ["fd00::/8"], "ports": [53]}},
            {"action": "Allow", "protocol": "UDP", "destination": {"nets": ["10.0.0.0/8"], "ports": [53]}},
            {"action": "Allow", "protocol": "UDP", "destination": {"nets": ["fd00::/8"], "ports": [53]}}]}),
        &[],
    );
    check(
        json!({"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 80}]}]}),
        json!({"ingress": [{"action": "Allow", "protocol": "TCP", "source": {"nets": ["10.0.0.0/8"]},
            "destination": {"ports": [80]}}]}),
        &[],
    );
}

#[test]
fn a_bad_rule_is_left_out_and_the_others_stay() {
    let good = json!({"ports": [{"port": 80}]});
    let kept = json!({"ingress": [{"action": "Allow", "protocol": "TCP", "destination": {"ports": [80]}}]});
    for (bad, complaint) in [
        (
            json!({"from": [{"podSelector": {}}, {"ipBlock": {"cidr": "10.0.0.0/33"}}]}),
            "spec.ingress[1].from[1].ipBlock.cidr: prefix length 33 is longer than IPv4 allows (32); the rule is left out",
        ),
        (
            json!({"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["x"]}}]}),
            "spec.ingress[1].from[0].ipBlock.except: \"x\" is not an IP address or CIDR such as 10.0.0.0/24 or fd00::/64; the rule is left out",
        ),
        (
            json!({"ports": [{"port": 80}, {"protocol": "ICMP"}]}),
            "spec.ingress[1].ports[1].protocol: \"ICMP\" is none of TCP, UDP, SCTP; the rule is left out",
        ),
        (
            json!({"ports": [{"port": 0}]}),
            "spec.ingress[1].ports[0].port: 0 is not a port; use 1 to 65535; the rule is left out",
        ),
        (
            json!({"ports": [{"port": 90, "endPort": 80}]}),
            "spec.ingress[1].ports[0].endPort: 80 is less than port 90; the rule is left out",
        ),
        (
            json!({"ports": [{"port": "web", "endPort": 80}]}),
            "spec.ingress[1].ports[0].endPort: 80 needs a number as port; the rule is left out",
        ),
        (
            json!({"ports": [{"port": "80"}]}),
            "spec.ingress[1].ports[0].port: \"80\" is not the name of a port; the rule is left out",
        ),
        (
            json!({"from": [{"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "?"}]}}]}),
            "spec.ingress[1].from[0].namespaceSelector.operator: \"?\" is none of In, NotIn, Exists, DoesNotExist; the rule is left out",
        ),
    ] {
        check(json!({ "ingress": [good, bad] }), kept.clone(), &[complaint]);
    }
}

proptest! {
    /// Whatever ranges a protocol has: the same ports, in order, and no two that touch.
    #[test]
    fn ports_are_coalesced(ranges in proptest::collection::vec((1_u16..40, 0_u16..6), 1..12)) {
        let ports: Vec<PolicyPort> = ranges.iter().map(|(first, more)| PolicyPort {
            protocol: None,
            port: Some(PortWord::Number((*first).into())),
            end_port: Some((first + more).into()),
        }).collect();
        let found = ports::by_protocol(&ports).unwrap();
        let merged: Vec<(u16, u16)> = found[0].1.iter().map(|port| match port {
            crate::number::Port::Range(range) => (range.first, range.last),
            other => panic!("{other}"),
        }).collect();
        for port in 1..60 {
            let wanted = ranges.iter().any(|(first, more)| (*first..=first + more).contains(&port));
            prop_assert_eq!(merged.iter().any(|(first, last)| (*first..=*last).contains(&port)), wanted);
        }
        prop_assert!(merged.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0));
    }
}
