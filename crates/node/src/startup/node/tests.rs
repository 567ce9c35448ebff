//! A Node created, kept, changed, refused; as JSON, since that is what others read.

use calico_api::Expect;
use serde_json::{Value, json};

use super::*;
use crate::autodetect::Interface;
use crate::startup::births::testing::with_births;

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    Settings::from_vars(&find).unwrap()
}

fn host() -> Host {
    let interface = |name: &str, addrs: &[&str]| Interface {
        name: name.into(),
        addrs: addrs.iter().map(|a| Cidr::parse_interface(a).unwrap()).collect(),
    };
    let interfaces = vec![
        interface("lo", &["127.0.0.1/8"]),
        interface("peer0", &["fe80::1/64"]),
        interface("eth0", &["10.0.0.1/24", "fd00::1/64"]),
        interface("cali1", &["169.254.1.1/32"]),
    ];
    Host { interfaces, ..Host::default() }
}

fn entry(name: &str, value: &Value) -> Entry {
    let key = Key::resource(Kind::Node, "", name);
    Entry { key, value: value.to_string().into(), revision: 7.into() }
}

fn plan(
    pairs: &[(&str, &str)],
    stored: Option<&Value>,
    others: &[Entry],
) -> Result<(Option<Write>, usize), Refusal> {
    let stored = stored.map(|value| entry("a", value));
    with_births(|births| plan_node("a", &settings(pairs), &host(), stored.as_ref(), others, births))
        .map(|plan| (plan.write, plan.warnings.len()))
}

fn value(write: &Write) -> Value {
    match write {
        Write::Put { value, .. } => serde_json::from_slice(value).unwrap(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_new_node() {
    let (write, warnings) = plan(&[("IP", "autodetect"), ("AS", "65001")], None, &[]).unwrap();
    let write = write.unwrap();
    assert!(matches!(&write, Write::Put { expect: Expect::Absent, .. }));
    assert_eq!(write.key().to_string(), "/calico/resources/v3/projectcalico.org/nodes/a");
    assert_eq!(
        value(&write),
        json!({
            "kind": "Node", "apiVersion": "projectcalico.org/v3",
            "metadata": {
                "name": "a", "uid": "11112222-3333-4444-8555-000000000001",
                "creationTimestamp": "2026-01-02T03:04:05Z"
            },
            "spec": {
                "bgp": {"asNumber": 65001, "ipv4Address": "10.0.0.1/24"},
                "interfaces": [{"name": "eth0", "addresses": ["10.0.0.1"]}, {"name": "peer0"}]
            },
            "status": {}
        })
    );
    assert_eq!(warnings, 0);
}

#[test]
fn an_update_keeps_what_it_does_not_know_and_a_second_start_writes_nothing() {
    let stored = json!({
        "kind": "Node", "apiVersion": "projectcalico.org/v3", "metadata": {"name": "a", "uid": "u", "odd": 1},
        "spec": {"bgp": {"ipv4Address": "10.0.0.9/24", "new": true}, "newer": [1]}, "status": {}
    });
    let pairs = [("IP", "autodetect"), ("CALICO_K8S_NODE_REF", "k")];
    let (write, _) = plan(&pairs, Some(&stored), &[]).unwrap();
    let write = write.unwrap();
    assert!(matches!(&write, Write::Put { expect: Expect::At(r), .. } if *r == 7.into()));
    let value = value(&write);
    assert_eq!(value["metadata"]["odd"], 1);
    assert_eq!(value["spec"]["newer"], json!([1]));
    assert_eq!(value["spec"]["bgp"], json!({"ipv4Address": "10.0.0.1/24", "new": true}));
    assert_eq!(value["spec"]["orchRefs"], json!([{"nodeName": "k", "orchestrator": "k8s"}]));
    assert_eq!(plan(&pairs, Some(&value), &[]).unwrap().0, None);
}

#[test]
fn without_backend_no_addresses() {
    let (write, _) = plan(&[("CALICO_NETWORKING_BACKEND", "none")], None, &[]).unwrap();
    assert_eq!(value(&write.unwrap())["spec"], json!({}));
}

#[test]
fn both_families() {
    let (write, _) = plan(&[("IP", "10.0.0.1"), ("IP6", "autodetect")], None, &[]).unwrap();
    let spec = &value(&write.unwrap())["spec"];
    assert_eq!(spec["bgp"], json!({"ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64"}));
    assert_eq!(spec["interfaces"][0], json!({"name": "eth0", "addresses": ["10.0.0.1", "fd00::1"]}));
}

#[test]
fn no_address_at_all() {
    let refusal = plan(&[("IP", "none")], None, &[]).unwrap_err();
    assert_eq!(refusal, Refusal { reason: Reason::NoAddress, clear: None });
}

#[test]
fn a_failed_detection_clears_what_was_detected() {
    let stored = json!({"kind": "Node", "metadata": {"name": "a"},
        "spec": {"bgp": {"ipv6Address": "fd00::9/64", "asNumber": 5}, "newer": 1}});
    let pairs =
        [("IP", "autodetect"), ("IP_AUTODETECTION_METHOD", "interface=nothing"), ("IP6", "autodetect")];
    let refusal = plan(&pairs, Some(&stored), &[]).unwrap_err();
    assert!(matches!(refusal.reason, Reason::NotFound(_)));
    let cleared = value(&refusal.clear.unwrap());
    assert_eq!(cleared["spec"], json!({"bgp": {"asNumber": 5}, "newer": 1}));
}

#[test]
fn another_node_with_the_address() {
    let rival =
        json!({"kind": "Node", "metadata": {"name": "b"}, "spec": {"bgp": {"ipv4Address": "10.0.0.1/16"}}});
    let rival = [entry("b", &rival), entry("c", &json!("junk"))];
    let refusal = plan(&[("IP", "autodetect")], None, &rival).unwrap_err();
    let reason = Reason::Conflict { addr: "10.0.0.1".parse().unwrap(), other: "b".into() };
    assert_eq!(refusal, Refusal { reason: reason.clone(), clear: None });
    // Told not to look.
    let pairs = [("IP", "autodetect"), ("DISABLE_NODE_IP_CHECK", "true")];
    assert!(plan(&pairs, None, &rival).is_ok());
    // A detected address that turns out to be another's is cleared; nothing else is.
    let stored =
        json!({"kind": "Node", "metadata": {"name": "a"}, "spec": {"bgp": {"ipv4Address": "10.0.0.9/24"}}});
    let refusal = plan(&[("IP", "autodetect")], Some(&stored), &rival).unwrap_err();
    assert_eq!(refusal.reason, reason);
    assert_eq!(value(&refusal.clear.unwrap())["spec"], json!({}));
    // An unchanged address is not looked at again.
    let stored =
        json!({"kind": "Node", "metadata": {"name": "a"}, "spec": {"bgp": {"ipv4Address": "10.0.0.1/24"}}});
    assert!(plan(&[], Some(&stored), &rival).is_ok());
}
