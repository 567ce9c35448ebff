//! Order, subjects and directions of policies.

use calico_api::{Kind, NetworkPolicySpec};

use super::*;

fn key(namespace: &str, name: &str) -> ResourceKey {
    ResourceKey { kind: Kind::NetworkPolicy, namespace: namespace.into(), name: name.into() }
}

fn add(policies: &mut Policies, namespace: &str, name: &str, order: Option<f64>) -> u32 {
    let spec = NetworkPolicySpec { order: order.map(Order), ..NetworkPolicySpec::default() };
    let key = key(namespace, name);
    let source = SourcePolicy::of_namespace(&key, &spec).unwrap();
    policies.set(&key, &source, 0).unwrap();
    policies.names.find(&key).unwrap()
}

#[test]
fn policies_sort_by_order_then_by_name_namespace_kind() {
    let mut policies = Policies::default();
    let mut numbers = [
        add(&mut policies, "ns", "a", None),
        add(&mut policies, "ns", "b", Some(10.0)),
        add(&mut policies, "ns", "b-c", Some(10.0)),
        add(&mut policies, "ms", "b", Some(10.0)),
        add(&mut policies, "ns", "z", Some(-1.0)),
    ];
    numbers.sort_by(|left, right| policies.cmp(*left, *right));
    let names: Vec<String> = numbers.iter().map(|number| policies.key(*number).to_string()).collect();
    // `-` sorts before `/`, so b-c comes before b.
    assert_eq!(
        names,
        ["(ns/z)", "(ns/b-c)", "(ms/b)", "(ns/b)", "(ns/a)"].map(|name| format!("NetworkPolicy{name}"))
    );
}

#[test]
fn equal_subjects_are_one_and_nothing_is_left_behind() {
    let mut policies = Policies::default();
    let (a, b) = (add(&mut policies, "ns", "a", None), add(&mut policies, "ns", "b", None));
    assert_eq!(policies.record(a).subject, policies.record(b).subject);
    let other = add(&mut policies, "ms", "a", None);
    assert_ne!(policies.record(a).subject, policies.record(other).subject);
    assert_eq!(policies.remove(&key("ns", "a")).gone, None);
    assert!(policies.remove(&key("ns", "b")).gone.is_some());
    assert!(policies.remove(&key("ms", "a")).gone.is_some());
    assert!(policies.remove(&key("ms", "a")).before.is_none());
    assert!(policies.is_empty());
}

#[test]
fn no_types_means_both() {
    assert_eq!(directions(&[]), Ok((true, true)));
    assert_eq!(directions(&[PolicyType::Egress]), Ok((false, true)));
    assert!(directions(&[PolicyType::from("Sideways")]).is_err());
}
