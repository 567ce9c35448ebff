//! What is written into an empty datastore, and what is not written into a full one.

use serde_json::Value;

use super::*;
use crate::startup::births::testing::with_births;

fn put(write: &Write) -> (String, Value) {
    match write {
        Write::Put { key, value, .. } => (key.to_string(), serde_json::from_slice(value).unwrap()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_empty_datastore() {
    let ipam = Some(IPAMConfigurationSpec::default());
    let writes = with_births(|births| plan_defaults("a", ipam, |_| false, births));
    let seen: Vec<_> = writes
        .iter()
        .map(|write| {
            let (key, value) = put(write);
            let key = key.strip_prefix("/calico/resources/v3/projectcalico.org/").unwrap().to_owned();
            (key, value["spec"].clone())
        })
        .collect();
    let expected = [
        ("felixconfigurations/default", json!({"logSeverityScreen": "Info", "reportingInterval": "0s"})),
        ("felixconfigurations/node.a", json!({"defaultEndpointToHostAction": "Return"})),
        ("tiers/kube-admin", json!({"order": 1000, "defaultAction": "Pass"})),
        ("tiers/default", json!({"order": 1_000_000, "defaultAction": "Deny"})),
        ("tiers/kube-baseline", json!({"order": 10_000_000, "defaultAction": "Pass"})),
        ("bgpconfigurations/default", json!({})),
        (
            "ipamconfigurations/default",
            json!({"strictAffinity": false, "maxBlocksPerHost": 0, "autoAllocateBlocks": true}),
        ),
    ];
    assert_eq!(seen, expected.map(|(key, spec)| (key.to_owned(), spec)));
}

#[test]
fn what_is_there_stays() {
    let writes = with_births(|births| {
        let ipam = Some(IPAMConfigurationSpec::default());
        plan_defaults("a", ipam, |key| *key != Key::resource(Kind::Tier, "", "default"), births)
    });
    assert_eq!(writes.len(), 1);
    assert_eq!(put(&writes[0]).1["metadata"]["name"], "default");
}

fn information(stored: Option<&Value>, cluster_type: &str) -> Option<Value> {
    let key = Key::resource(Kind::ClusterInformation, "", "default");
    let entry = stored.map(|v| Entry { key, value: v.to_string().into(), revision: 3.into() });
    with_births(|births| plan_cluster_information(entry.as_ref(), cluster_type, "v1", births))
        .unwrap()
        .map(|write| put(&write).1)
}

#[test]
fn a_new_cluster() {
    let value = information(None, "k8s,bgp").unwrap();
    assert_eq!(
        value["spec"],
        json!({
            "clusterGUID": "11112222333344448555000000000002", "clusterType": "k8s,bgp",
            "calicoVersion": "v1", "datastoreReady": true
        })
    );
    assert_eq!(information(Some(&value), "bgp"), None);
}

#[test]
fn guid_and_readiness_are_never_overwritten() {
    let stored = json!({"kind": "ClusterInformation", "metadata": {"name": "default"}, "extra": 1, "spec": {
        "clusterGUID": "x", "clusterType": "peer", "calicoVersion": "v0", "datastoreReady": false
    }});
    let value = information(Some(&stored), "bgp, peer").unwrap();
    assert_eq!(
        value["spec"],
        json!({"clusterGUID": "x", "clusterType": "peer,bgp", "calicoVersion": "v1", "datastoreReady": false})
    );
    assert_eq!(value["extra"], 1);
}
