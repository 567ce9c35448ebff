//! Reading and writing stored objects: what Calico wrote comes out again, and edits keep what we do not know.

use super::*;
use crate::record::Revision;
use crate::*;

fn entry(key: &str, value: &str) -> Entry {
    Entry {
        key: Key::parse(key).unwrap(),
        value: Bytes::copy_from_slice(value.as_bytes()),
        revision: Revision::from(7),
    }
}

fn round_trip<S: Spec>(entry: &Entry) -> Bytes {
    let resource = decode::<S>(entry).unwrap();
    assert_eq!(resource.metadata.resource_version, "7");
    assert_eq!(Key::Resource(resource.key()), entry.key);
    let same = merge(entry, &resource).unwrap();
    assert_eq!(
        serde_json::from_slice::<Value>(&same).unwrap(),
        serde_json::from_slice::<Value>(&entry.value).unwrap()
    );
    encode(&resource)
}

fn record<R: ipam::Record>(entry: &Entry) -> Bytes {
    encode_record(&decode_record::<R>(entry).unwrap())
}

#[test]
fn what_calico_stored_comes_out_again_in_the_same_order() {
    let Some(samples) = crate::reference::samples() else { return };
    for (key, value) in samples {
        let entry = entry(&key, &value);
        let written = match &entry.key {
            Key::Resource(r) => match r.kind {
                Kind::BGPConfiguration => round_trip::<BGPConfigurationSpec>(&entry),
                Kind::BGPPeer => round_trip::<BGPPeerSpec>(&entry),
                Kind::CalicoNodeStatus => round_trip::<CalicoNodeStatusSpec>(&entry),
                Kind::ClusterInformation => round_trip::<ClusterInformationSpec>(&entry),
                Kind::FelixConfiguration => round_trip::<FelixConfigurationSpec>(&entry),
                Kind::GlobalNetworkPolicy => round_trip::<GlobalNetworkPolicySpec>(&entry),
                Kind::GlobalNetworkSet => round_trip::<GlobalNetworkSetSpec>(&entry),
                Kind::HostEndpoint => round_trip::<HostEndpointSpec>(&entry),
                Kind::IPAMConfiguration => round_trip::<IPAMConfigurationSpec>(&entry),
                Kind::IPPool => round_trip::<IPPoolSpec>(&entry),
                Kind::IPReservation => round_trip::<IPReservationSpec>(&entry),
                Kind::NetworkPolicy => round_trip::<NetworkPolicySpec>(&entry),
                Kind::NetworkSet => round_trip::<NetworkSetSpec>(&entry),
                Kind::Node => round_trip::<NodeSpec>(&entry),
                Kind::Profile => round_trip::<ProfileSpec>(&entry),
                Kind::Tier => round_trip::<TierSpec>(&entry),
                Kind::WorkloadEndpoint => round_trip::<WorkloadEndpointSpec>(&entry),
                Kind::BGPFilter => round_trip::<BGPFilterSpec>(&entry),
                Kind::BlockAffinity
                | Kind::KubeControllersConfiguration
                | Kind::KubernetesClusterNetworkPolicy
                | Kind::KubernetesEndpointSlice
                | Kind::KubernetesNetworkPolicy
                | Kind::KubernetesSecret
                | Kind::KubernetesService
                | Kind::StagedGlobalNetworkPolicy
                | Kind::StagedKubernetesNetworkPolicy
                | Kind::StagedNetworkPolicy => AnyResource::decode(&entry).unwrap().encode(),
            },
            Key::Block(_) => record::<IpamBlock>(&entry),
            Key::Affinity { .. } => record::<BlockAffinity>(&entry),
            Key::Handle(_) => record::<IpamHandle>(&entry),
            _ => continue,
        };
        if matches!(entry.key, Key::Resource(_)) {
            let any = AnyResource::decode(&entry).unwrap().encode();
            assert_eq!(serde_json::from_slice::<Value>(&any).unwrap().to_string(), compact(&value), "{key}");
        }
        let written: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(written, serde_json::from_str::<Value>(&value).unwrap(), "{key}");
        if !matches!(entry.key, Key::Block(_)) {
            // Go orders a block's map of ordinals as text; elsewhere the bytes are the same too.
            assert_eq!(written.to_string(), compact(&value), "{key}");
        }
    }
}

/// The text without Go's escapes of `&`, `<`, `>`.
fn compact(text: &str) -> String {
    serde_json::from_str::<Value>(text).unwrap().to_string()
}

const POLICY: &str = "/calico/resources/v3/projectcalico.org/networkpolicies/ns/a.b";

#[test]
fn policies_get_their_name_from_the_annotation_and_a_tier_label() {
    let value = r#"{"kind":"NetworkPolicy","metadata":{"name":"x","namespace":"ns",
        "annotations":{"projectcalico.org/metadata":"{\"name\":\"a.b\"}"}},"spec":{"ingress":null}}"#;
    let policy = decode::<NetworkPolicySpec>(&entry(POLICY, value)).unwrap();
    assert_eq!(policy.metadata.name, "a.b");
    assert!(policy.metadata.annotations.is_empty());
    assert_eq!(policy.metadata.labels[TIER_LABEL], "default");
}

#[test]
fn old_policies_lose_the_tier_prefix_in_the_default_tier_only() {
    for (tier, name) in [("", "p"), ("default", "p"), ("sec", "default.p")] {
        let value =
            format!(r#"{{"metadata":{{"name":"default.p","namespace":"ns"}},"spec":{{"tier":"{tier}"}}}}"#);
        assert_eq!(decode::<NetworkPolicySpec>(&entry(POLICY, &value)).unwrap().metadata.name, name);
    }
}

#[test]
fn an_edit_keeps_unknown_fields_everywhere() {
    let value = r#"{"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","future":1,
        "metadata":{"name":"a.b","namespace":"ns","labels":{"projectcalico.org/tier":"default"},"finalizers":["f"],
        "annotations":{"projectcalico.org/metadata":"{\"name\":\"a.b\"}"}},
        "spec":{"tier":"default","order":5,"knob":{"x":[1]},
        "ingress":[{"action":"Allow","new":1},{"action":"Deny","new":2},{"action":"Log","new":3}]}}"#;
    let entry = entry(POLICY, value);
    let mut policy = decode::<NetworkPolicySpec>(&entry).unwrap();
    policy.spec.order = None;
    policy.spec.selector = "all()".into();
    policy.spec.ingress[1].ip_version = Some(4);
    policy.spec.ingress.swap(0, 2);
    let merged: Value = serde_json::from_slice(&merge(&entry, &policy).unwrap()).unwrap();
    let expected = serde_json::json!({"kind":"NetworkPolicy","apiVersion":"projectcalico.org/v3","future":1,
        "metadata":{"name":"a.b","namespace":"ns","labels":{"projectcalico.org/tier":"default"},"finalizers":["f"],
        "annotations":{"projectcalico.org/metadata":"{\"name\":\"a.b\"}"}},
        "spec":{"tier":"default","knob":{"x":[1]},"selector":"all()",
        "ingress":[{"action":"Log","new":3},{"action":"Deny","new":2,"ipVersion":4},{"action":"Allow","new":1}]}});
    assert_eq!(merged, expected);
}

#[test]
fn wrong_values_are_errors_that_name_the_key() {
    for bad in
        ["", "[]", "{\"spec\":{\"ingress\":7}}", "{\"kind\":\"Tier\"}", "{\"spec\":{\"ingress\":[{}]}}"]
    {
        let error = decode::<NetworkPolicySpec>(&entry(POLICY, bad)).unwrap_err();
        assert_eq!(error.key, POLICY, "{bad}");
    }
    assert!(decode::<TierSpec>(&entry(POLICY, "{}")).is_err());
}

#[test]
fn a_word_that_we_do_not_know_survives() {
    let key = "/calico/resources/v3/projectcalico.org/ippools/p";
    let value = r#"{"metadata":{"name":"p"},"spec":{"cidr":"10.0.0.0/8","ipipMode":"Sometimes"}}"#;
    let pool = decode::<IPPoolSpec>(&entry(key, value)).unwrap();
    assert_eq!(pool.spec.ipip_mode, Some(EncapMode::Other("Sometimes".into())));
    let written: Value = serde_json::from_slice(&encode(&pool)).unwrap();
    assert_eq!(written["spec"]["ipipMode"], "Sometimes");
}

#[test]
fn affinities_of_old_writers_are_confirmed() {
    let key = "/calico/ipam/v2/host/h/ipv4/block/10.0.0.0-26";
    for value in ["", "{}", r#"{"state":"","deleted":"false"}"#] {
        let affinity = decode_record::<BlockAffinity>(&entry(key, value)).unwrap();
        assert_eq!(affinity, BlockAffinity::new(AffinityState::Confirmed), "{value}");
    }
}

#[test]
fn replacing_a_whole_object_keeps_what_we_do_not_know() {
    let key = "/calico/resources/v3/projectcalico.org/tiers/t";
    let value =
        r#"{"metadata":{"name":"t"},"spec":{"order":5,"defaultAction":"Deny","future":true},"status":{}}"#;
    let stored = entry(key, value);
    let edited =
        AnyResource::from(&Tier::new("", "t", TierSpec { order: Some(Order(6.0)), default_action: None }));
    let merged: Value = serde_json::from_slice(&edited.merge_into(&stored).unwrap()).unwrap();
    assert_eq!(merged["spec"], serde_json::json!({"order": 6, "future": true}));
    assert!(AnyResource { kind: Kind::Node, ..edited }.merge_into(&stored).is_err());
}

#[test]
fn metadata_and_options_that_a_file_does_not_name_stay() {
    let key = "/calico/resources/v3/projectcalico.org/felixconfigurations/default";
    let value = r#"{"metadata":{"name":"default","labels":{"a":"b"},"generation":3,"finalizers":["f"],
        "ownerReferences":[{"name":"o"}]},
        "spec":{"nodeSelector":"all()","healthPort":1,"optionOfTomorrow":"x","vxlanMTU":9}}"#;
    let stored = entry(key, value);
    let body =
        serde_json::json!({"metadata": {"name": "default", "finalizers": []}, "spec": {"healthPort": 2}});
    let edited = AnyResource::from_json(Kind::FelixConfiguration, body).unwrap();
    let merged: Value = serde_json::from_slice(&edited.merge_into(&stored).unwrap()).unwrap();
    assert_eq!(
        merged["metadata"],
        serde_json::json!({
            "name": "default", "generation": 3, "finalizers": [], "ownerReferences": [{"name": "o"}],
        }),
        "named: finalizers; known and not named: labels"
    );
    assert_eq!(merged["spec"], serde_json::json!({"healthPort": 2, "optionOfTomorrow": "x"}));
}

#[test]
fn an_endpoint_is_labelled_with_where_it_belongs() {
    let endpoint = |spec: Value, labels: Value| {
        let body =
            serde_json::json!({"metadata": {"name": "e", "namespace": "ns", "labels": labels}, "spec": spec});
        let mut endpoint = AnyResource::from_json(Kind::WorkloadEndpoint, body).unwrap();
        crate::defaults::apply(&mut endpoint);
        serde_json::to_value(&endpoint.metadata.labels).unwrap()
    };
    let labels = endpoint(
        serde_json::json!({"orchestrator": "cni"}),
        serde_json::json!({"a": "b", "projectcalico.org/namespace": "other"}),
    );
    assert_eq!(
        labels,
        serde_json::json!({
            "a": "b", "projectcalico.org/namespace": "ns", "projectcalico.org/orchestrator": "cni",
        })
    );
    let labels = endpoint(serde_json::json!({}), serde_json::json!({}));
    assert_eq!(labels, serde_json::json!({"projectcalico.org/namespace": "ns"}));
}
