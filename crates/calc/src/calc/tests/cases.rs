//! Single cases, spelt out: what a reader may want to know without running the oracle.

use calico_api::kubernetes::endpoint_slice::{EndpointSliceSpec, SlicePort};
use calico_api::{
    EntityRule, KubernetesNetworkPolicySpec, NetworkPolicySpec, Order, PolicyType, Resource, Rule,
    ServiceMatch, WorkloadEndpointSpec, decode, key::Kind,
};

use super::*;
use crate::change::{IpSetId, Member};

fn workload(name: &str, app: &str, addr: &str) -> Update {
    let spec = WorkloadEndpointSpec {
        orchestrator: "k8s".into(),
        node: NODE.into(),
        pod: name.into(),
        endpoint: "eth0".into(),
        ip_networks: vec![addr.into()],
        interface_name: format_smolstr!("cali{name}"),
        profiles: vec!["kns.blue".into()],
        ..WorkloadEndpointSpec::default()
    };
    let mut endpoint = Resource::new("blue", name, spec);
    endpoint.metadata.labels.insert("app".into(), app.into());
    endpoint.metadata.labels.insert("projectcalico.org/namespace".into(), "blue".into());
    Update::WorkloadEndpoint(endpoint.key(), Some(Box::new(endpoint)))
}

fn policy(name: &str, from: &str) -> Update {
    let source = EntityRule { selector: from.into(), ..EntityRule::default() };
    let rule = Rule { source, ..Rule::new(Action::Allow) };
    let policy = Resource::new(
        "blue",
        name,
        NetworkPolicySpec { ingress: vec![rule], ..NetworkPolicySpec::default() },
    );
    Update::NetworkPolicy(policy.key(), Some(Box::new(policy)))
}

fn synced(updates: impl IntoIterator<Item = Update>) -> (Calc, Vec<Change>) {
    let mut calc = Calc::new(NODE);
    updates.into_iter().for_each(|update| calc.update(update));
    calc.in_sync();
    let changes = flushed(&mut calc);
    (calc, changes)
}

fn flushed(calc: &mut Calc) -> Vec<Change> {
    let mut changes = Vec::new();
    calc.flush(&mut changes);
    changes
}

fn kinds(changes: &[Change]) -> Vec<&'static str> {
    let kind = |change: &Change| match change {
        Change::IpSetAdded { .. } => "set added",
        Change::IpSetChanged { .. } => "set changed",
        Change::IpSetRemoved(_) => "set removed",
        Change::PolicyChanged(..) => "policy changed",
        Change::PolicyRemoved(_) => "policy removed",
        Change::ProfileChanged(..) => "profile changed",
        Change::ProfileRemoved(_) => "profile removed",
        Change::WorkloadChanged(..) => "workload changed",
        Change::WorkloadRemoved(_) => "workload removed",
        _ => "other",
    };
    changes.iter().map(kind).collect()
}

#[test]
fn nothing_is_said_before_in_sync() {
    let mut calc = Calc::new(NODE);
    calc.update(workload("one", "a", "10.0.0.1/32"));
    assert!(flushed(&mut calc).is_empty());
    calc.in_sync();
    assert_eq!(kinds(&flushed(&mut calc)), ["profile changed", "workload changed"]);
    assert!(flushed(&mut calc).is_empty());
}

#[test]
fn changes_come_in_an_order_that_is_safe_to_apply() {
    let (mut calc, changes) = synced([workload("one", "a", "10.0.0.1/32"), policy("p", "app == 'a'")]);
    assert_eq!(kinds(&changes), ["set added", "policy changed", "profile changed", "workload changed"]);
    let key = Key::resource(Kind::WorkloadEndpoint, "blue", "one");
    calc.update(Update::absent(&key).unwrap());
    let changes = flushed(&mut calc);
    assert_eq!(kinds(&changes), ["workload removed", "profile removed", "policy removed", "set removed"]);
}

#[test]
fn an_address_of_two_endpoints_leaves_with_the_last() {
    let both = [workload("one", "a", "10.0.0.1/32"), workload("two", "a", "10.0.0.1/32")];
    let (mut calc, _) = synced(both.into_iter().chain([policy("p", "app == 'a'")]));
    calc.update(workload("one", "b", "10.0.0.1/32"));
    assert!(flushed(&mut calc).is_empty());
    calc.update(workload("two", "b", "10.0.0.1/32"));
    let gone = vec![Member::Net("10.0.0.1/32".parse().unwrap())];
    let changes = flushed(&mut calc);
    let [Change::IpSetChanged { id: IpSetId(_), added, removed }] = &*changes else {
        panic!("one set changes: {changes:?}");
    };
    assert_eq!((added, removed), (&vec![], &gone));
}

#[test]
fn what_comes_and_goes_between_flushes_has_never_been() {
    let (mut calc, _) = synced([workload("one", "a", "10.0.0.1/32"), policy("p", "app == 'a'")]);
    calc.update(workload("two", "a", "10.0.0.2/32"));
    calc.update(policy("q", "has(app)"));
    for (kind, name) in [(Kind::WorkloadEndpoint, "two"), (Kind::NetworkPolicy, "q")] {
        calc.update(Update::absent(&Key::resource(kind, "blue", name)).unwrap());
    }
    assert!(flushed(&mut calc).is_empty());
}

#[test]
fn a_policy_of_kubernetes_and_one_of_calicos_may_have_the_same_name() {
    let spec = NetworkPolicySpec {
        order: Some(Order(1000.0)),
        tier: "default".into(),
        types: vec![PolicyType::Ingress],
        ..NetworkPolicySpec::default()
    };
    let kubernetes = Resource::new("blue", "p", KubernetesNetworkPolicySpec(spec));
    let (key, value) = (kubernetes.key(), calico_api::encode(&kubernetes));
    let entry = calico_api::Entry { key: key.clone().into(), value, revision: 1.into() };
    let update = Update::read(&entry.key, Some(&entry)).unwrap();
    assert_eq!(update, Update::KubernetesNetworkPolicy(key.clone(), Some(Box::new(decode(&entry).unwrap()))));
    let (mut calc, changes) = synced([workload("one", "a", "10.0.0.1/32"), policy("p", "all()"), update]);
    let workload = |changes: &[Change]| {
        let found = changes.iter().find_map(|change| match change {
            Change::WorkloadChanged(_, workload) => Some(workload.tiers.clone()),
            _ => None,
        });
        found.expect("the workload has other policies now")
    };
    // One tier; Kubernetes' policy has an order, the other has none and comes last.
    let tiers = workload(&changes);
    let own = Key::resource(Kind::NetworkPolicy, "blue", "p");
    let ingress: Vec<Key> = tiers[0].ingress.iter().map(|key| key.clone().into()).collect();
    assert_eq!((tiers.len(), ingress), (1, vec![Key::Resource(key.clone()), own.clone()]));
    calc.update(Update::absent(&own).unwrap());
    assert_eq!(workload(&flushed(&mut calc))[0].ingress.to_vec(), [key]);
}

#[test]
fn endpoints_without_addresses_have_ended() {
    let (mut calc, _) = synced([workload("one", "a", "10.0.0.1/32"), policy("p", "app == 'a'")]);
    let mut ended = workload("one", "a", "10.0.0.1/32");
    if let Update::WorkloadEndpoint(_, Some(endpoint)) = &mut ended {
        endpoint.spec.ip_networks.clear();
    }
    calc.update(ended);
    assert!(flushed(&mut calc).iter().any(|change| matches!(change, Change::WorkloadRemoved(_))));
}

#[test]
fn endpoints_with_the_same_policies_share_their_tiers() {
    let (_, changes) = synced([
        workload("one", "a", "10.0.0.1/32"),
        workload("two", "b", "10.0.0.2/32"),
        policy("p", "all()"),
    ]);
    let tiers: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::WorkloadChanged(_, workload) => Some(&workload.tiers),
            _ => None,
        })
        .collect();
    assert!(Arc::ptr_eq(tiers[0], tiers[1]));
}

#[test]
fn a_missing_profile_denies_everything() {
    let (_, changes) = synced([workload("one", "a", "10.0.0.1/32")]);
    let Change::ProfileChanged(name, profile) = &changes[0] else { panic!("{changes:?}") };
    assert_eq!(name, "kns.blue");
    for rules in [&profile.ingress, &profile.egress] {
        assert!(matches!(&**rules, [rule] if rule.action == change::Action::Deny));
    }
}

#[test]
fn problems_name_the_resource_and_go_when_it_is_mended() {
    let (mut calc, changes) = synced([workload("one", "a", "10.0.0.1/32"), policy("p", "app ==")]);
    assert_eq!(kinds(&changes), ["profile changed", "workload changed"]);
    let problems: Vec<Problem> = calc.problems().collect();
    assert_eq!(problems.len(), 1);
    assert_eq!(problems[0].key, Key::resource(Kind::NetworkPolicy, "blue", "p"));
    assert!(problems[0].text.contains("app =="), "{}", problems[0].text);
    calc.update(policy("p", "app == 'a'"));
    assert_eq!(calc.problems().count(), 0);
    assert_eq!(kinds(&flushed(&mut calc)), ["set added", "policy changed", "workload changed"]);
}

/// A policy that lets the service `web` in, out, and everybody in by a selector.
fn services_policy() -> Update {
    let web = || EntityRule {
        services: Some(ServiceMatch { name: "web".into(), namespace: SmolStr::default() }),
        ..EntityRule::default()
    };
    let everybody = EntityRule { selector: "all()".into(), ..EntityRule::default() };
    let from = |source: EntityRule| Rule { source, ..Rule::new(Action::Allow) };
    let spec = NetworkPolicySpec {
        ingress: vec![from(web()), from(everybody)],
        egress: vec![Rule { destination: web(), ..Rule::new(Action::Allow) }],
        types: vec![PolicyType::Ingress, PolicyType::Egress],
        ..NetworkPolicySpec::default()
    };
    let policy = Resource::new("blue", "p", spec);
    Update::NetworkPolicy(policy.key(), Some(Box::new(policy)))
}

#[test]
fn a_service_has_the_addresses_and_ports_of_its_slices() {
    let slice = |namespace: &str, name: &str, addr: &str| {
        let port = |name: &str, port| SlicePort { name: name.into(), protocol: "TCP".into(), port };
        let spec = EndpointSliceSpec {
            service: "web".into(),
            addresses: vec![addr.into()],
            ports: vec![port("http", 80), port("also", 80)],
            ..EndpointSliceSpec::default()
        };
        let slice = Resource::new(namespace, name, spec);
        Update::KubernetesEndpointSlice(slice.key(), Some(Box::new(slice)))
    };
    let (mut calc, changes) = synced([
        workload("one", "a", "10.0.0.1/32"),
        services_policy(),
        slice("blue", "web-1", "192.0.2.1"),
        slice("red", "web-1", "192.0.2.9"),
    ]);
    assert_eq!(calc.problems().count(), 0);
    let net = |text: &str| Member::Net(text.parse().unwrap());
    let port = |text: &str| Member::IpPort {
        addr: text.parse().unwrap(),
        protocol: calico_net::Protocol::TCP,
        port: 80,
    };
    let members = |prefix: &str, changes: &[Change]| -> Vec<Member> {
        let found = changes.iter().find_map(|change| match change {
            Change::IpSetAdded { id, members, .. } if id.0.starts_with(prefix) => Some(members.clone()),
            Change::IpSetChanged { id, added, removed } if id.0.starts_with(prefix) => {
                assert_eq!(removed, &[]);
                Some(added.clone())
            }
            _ => None,
        });
        found.unwrap_or_default()
    };
    assert_eq!(members("svcnoport:", &changes), [net("192.0.2.1/32")]);
    assert_eq!(members("svc:", &changes), [port("192.0.2.1")]);
    // A slice is nothing that a selector could match.
    assert_eq!(members("s:", &changes), [net("10.0.0.1/32")]);
    calc.update(slice("blue", "web-2", "192.0.2.2"));
    let changes = flushed(&mut calc);
    assert_eq!(changes.len(), 2);
    assert_eq!(members("svcnoport:", &changes), [net("192.0.2.2/32")]);
    assert_eq!(members("svc:", &changes), [port("192.0.2.2")]);
}

#[test]
fn without_any_slices_a_service_is_reported_and_matches_nothing() {
    let update = services_policy();
    let (calc, changes) = synced([workload("one", "a", "10.0.0.1/32"), update]);
    let empty = |change: &Change| match change {
        Change::IpSetAdded { id, members, .. } => id.0.starts_with("svc") && members.is_empty(),
        _ => false,
    };
    assert_eq!(changes.iter().filter(|change| empty(change)).count(), 2);
    assert!(calc.problems().next().is_some_and(|problem| problem.text.contains("web")));
}

#[test]
fn an_unreadable_value_counts_as_absent() {
    let (mut calc, _) = synced([workload("one", "a", "10.0.0.1/32")]);
    let key = Key::resource(Kind::WorkloadEndpoint, "blue", "one");
    let entry = calico_api::Entry {
        key: key.clone(),
        value: b"not JSON".as_slice().into(),
        revision: calico_api::Revision::from(1),
    };
    assert!(decode::<WorkloadEndpointSpec>(&entry).is_err());
    calc.update(Update::read(&key, Some(&entry)).unwrap());
    assert_eq!(kinds(&flushed(&mut calc)), ["workload removed", "profile removed"]);
    assert_eq!(calc.problems().count(), 1);
}

/// A subject's number goes to the next new subject: an endpoint that left the one and joined the other within one
/// flush must get the other's policies.
#[test]
fn a_policy_may_take_the_place_of_another_in_one_flush() {
    let selecting = |name: &str, selector: &str| {
        let spec = NetworkPolicySpec { selector: selector.into(), ..NetworkPolicySpec::default() };
        let policy = Resource::new("blue", name, spec);
        Update::NetworkPolicy(policy.key(), Some(Box::new(policy)))
    };
    let (mut calc, _) = synced([workload("one", "a", "10.0.0.1/32"), selecting("old", "app == 'a'")]);
    calc.update(workload("one", "b", "10.0.0.1/32"));
    calc.update(Update::absent(&Key::resource(Kind::NetworkPolicy, "blue", "old")).unwrap());
    calc.update(selecting("new", "app == 'b'"));
    let changes = flushed(&mut calc);
    assert_eq!(kinds(&changes), ["policy changed", "workload changed", "policy removed"]);
    let Change::WorkloadChanged(_, workload) = &changes[1] else { panic!("{changes:?}") };
    assert_eq!(workload.tiers[0].ingress[0].name, "new");
}

#[test]
fn an_endpoint_that_may_not_spoof_counts_as_absent_until_it_may() {
    let mut spoofer = workload("one", "web", "10.65.0.1/32");
    if let Update::WorkloadEndpoint(_, Some(endpoint)) = &mut spoofer {
        endpoint.spec.allow_spoofed_source_prefixes = vec!["192.0.2.0/24".into()];
    }
    let (mut calc, changes) = synced([spoofer]);
    assert_eq!(changes, []);
    let problems: Vec<String> = calc.problems().map(|problem| problem.text).collect();
    assert_eq!(
        problems,
        ["it has allowSpoofedSourcePrefixes, and WorkloadSourceSpoofing is not Any; it counts as absent"]
    );
    let version = calc.problems_version();
    calc.set_source_spoofing(true);
    assert!(kinds(&flushed(&mut calc)).contains(&"workload changed"));
    assert_eq!(calc.problems().count(), 0);
    assert_ne!(calc.problems_version(), version);
    calc.set_source_spoofing(false);
    assert!(kinds(&flushed(&mut calc)).contains(&"workload removed"));
    assert_eq!(calc.problems().count(), 1);
}

/// Old writers named the owner of a block in another field; a block of both is whose the newer one says.
#[test]
fn the_owner_of_a_block_may_stand_in_either_field() {
    let cidr: calico_net::Cidr = "10.0.1.0/26".parse().unwrap();
    let block = |text: &str| {
        let value = format!(r#"{{"cidr": "10.0.1.0/26", {text}}}"#).into();
        let key = calico_api::Key::Block(cidr);
        let entry = calico_api::Entry { key: key.clone(), value, revision: 1.into() };
        Update::read(&key, Some(&entry)).unwrap()
    };
    let own = |text: String| synced([block(&text)]).1.contains(&Change::BlockAdded(cidr));
    assert!(own(format!(r#""affinity": "host:{NODE}""#)));
    assert!(own(format!(r#""hostAffinity": "{NODE}""#)));
    assert!(own(format!(r#""affinity": null, "hostAffinity": "{NODE}""#)));
    assert!(!own(format!(r#""affinity": "host:there", "hostAffinity": "{NODE}""#)));
    assert!(!own(r#""hostAffinity": "there""#.to_owned()));
}
