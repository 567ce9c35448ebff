//! Kubernetes objects from bad bytes: no panic, and what is read decodes, and is written and read as the same.

#![allow(clippy::unwrap_used, reason = "a test: what cannot be ends it")]

use calico_api::kubernetes::crd::{self, Table};
use calico_api::kubernetes::endpoint_slice::EndpointSliceSpec;
use calico_api::kubernetes::service::ServiceSpec;
use calico_api::kubernetes::{
    ApiGroup, cluster_network_policy, decode as read, endpoint_slice, namespace, network_policy, node, pod,
    service, service_account,
};
use calico_api::{
    AnyResource, BlockAffinity, Entry, IpamBlock, IpamConfig, IpamHandle, Key, Kind,
    KubernetesClusterNetworkPolicySpec, KubernetesNetworkPolicySpec, NodeSpec, ProfileSpec, Spec,
    WorkloadEndpointSpec, decode, decode_record, encode,
};
use calico_testkit::mutation::mutations;
use serde_json::Value;

/// Plays mutations of a seed; each that is read must come out of its own encoding as it was.
fn native<S: Spec>(seed: &str, convert: impl Fn(&[u8]) -> Option<Entry>) {
    let mut converted = 0;
    for json in mutations(&[seed.as_bytes()], 3_000, 7) {
        let Some(entry) = convert(&json) else { continue };
        let resource = decode::<S>(&entry).unwrap();
        assert_eq!(encode(&resource), entry.value, "{}", String::from_utf8_lossy(&json));
        converted += 1;
    }
    assert!(converted > 100, "only {converted}");
}

#[test]
fn native_objects_survive_bad_bytes() {
    native::<WorkloadEndpointSpec>(
        r#"{"metadata":{"name":"p","namespace":"ns","labels":{"a":"b"},"annotations":{"cni.projectcalico.org/podIP":"10.0.0.1/32",
        "qos.projectcalico.org/ingressBandwidth":"1M","cni.projectcalico.org/floatingIPs":"[\"192.0.2.1\"]"}},"spec":{"nodeName":"n",
        "containers":[{"ports":[{"name":"web","containerPort":80}]}]},"status":{"podIPs":[{"ip":"10.0.0.1"}],"podIP":null}}"#,
        |json| Some(pod::entry(&read(json).ok()?, "cali").ok()??.entry),
    );
    native::<ProfileSpec>(r#"{"metadata":{"name":"ns","labels":{"a":"b"},"resourceVersion":"1"}}"#, |json| {
        Some(namespace::entry(&read(json).ok()?))
    });
    native::<ProfileSpec>(
        r#"{"metadata":{"name":"a.b","namespace":"ns","uid":"30316465-6365-4463-ad63-3564622d3638"}}"#,
        |json| Some(service_account::entry(&read(json).ok()?)),
    );
    native::<KubernetesNetworkPolicySpec>(
        r#"{"metadata":{"name":"p","namespace":"ns"},"spec":{"podSelector":{"matchLabels":{"a":"b"}},"policyTypes":["Egress"],
        "ingress":[{"from":[{"namespaceSelector":{}}],"ports":[{"port":1,"endPort":9},{"protocol":"UDP","port":"dns"}]}],
        "egress":[{"to":[{"ipBlock":{"cidr":"10.0.0.0/8","except":["10.1.0.0/16"]}}]}]}}"#,
        |json| {
            let entry = network_policy::entry(&read(json).ok()?).ok()?.entry;
            let policy = decode::<KubernetesNetworkPolicySpec>(&entry).unwrap().spec.0;
            let rules = policy.ingress.iter().chain(&policy.egress);
            for side in rules.flat_map(|rule| [&rule.source, &rule.destination]) {
                assert!(calico_selector::parse(&side.selector).is_ok(), "{}", side.selector);
                assert!(
                    calico_selector::parse(&side.namespace_selector).is_ok(),
                    "{}",
                    side.namespace_selector
                );
            }
            assert!(calico_selector::parse(&policy.selector).is_ok(), "{}", policy.selector);
            Some(entry)
        },
    );
    native::<KubernetesClusterNetworkPolicySpec>(
        r#"{"metadata":{"name":"p"},"spec":{"tier":"Admin","priority":1,"subject":{"namespaces":{}},
        "ingress":[{"action":"Deny","from":[{"pods":{"podSelector":{}}}]}],"egress":[{"name":"x","action":"Accept",
        "to":[{"networks":["10.0.0.0/8"]}],"protocols":[{"tcp":{"destinationPort":{"range":{"start":1,"end":9}}}}]}]}}"#,
        |json| Some(cluster_network_policy::entry(&read(json).ok()?).ok()??.entry),
    );
    native::<EndpointSliceSpec>(
        r#"{"metadata":{"name":"s","namespace":"ns","labels":{"kubernetes.io/service-name":"s"}},"addressType":"IPv4",
        "endpoints":[{"addresses":["10.0.0.1"]}],"ports":[{"port":80,"protocol":"TCP"}]}"#,
        |json| endpoint_slice::entry(&read(json).ok()?),
    );
    native::<ServiceSpec>(
        r#"{"metadata":{"name":"s","namespace":"ns"},"spec":{"clusterIPs":["10.96.0.1"],"ports":[{"port":80,"nodePort":30080}]}}"#,
        |json| Some(service::entry(&read(json).ok()?)),
    );
    native::<NodeSpec>(
        r#"{"metadata":{"name":"n","labels":{"a":"b"},"annotations":{"projectcalico.org/IPv4Address":"192.0.2.1/24",
        "projectcalico.org/ASNumber":"1","projectcalico.org/Interfaces":"[]","projectcalico.org/labels":"{}"}},
        "spec":{"podCIDR":"10.244.0.0/24"},"status":{"addresses":[{"type":"InternalIP","address":"192.0.2.1"}]}}"#,
        |json| {
            let object = read(json).ok()?;
            let entry = node::entry(&object, true).entry;
            node::patch(&decode(&entry).unwrap(), None).unwrap();
            for block in node::blocks(&object) {
                decode_record::<IpamBlock>(&block).unwrap();
            }
            Some(entry)
        },
    );
}

/// What entries say, whatever their bytes.
fn meaning(entry: &Entry) -> String {
    match &entry.key {
        Key::Resource(_) => format!("{:?}", AnyResource::decode(entry).unwrap()),
        Key::Block(_) => format!("{:?}", decode_record::<IpamBlock>(entry).unwrap()),
        Key::Affinity { .. } => format!("{:?}", decode_record::<BlockAffinity>(entry).unwrap()),
        Key::Handle(_) => format!("{:?}", decode_record::<IpamHandle>(entry).unwrap()),
        _ => format!("{:?}", decode_record::<IpamConfig>(entry).unwrap()),
    }
}

#[test]
fn custom_resources_survive_bad_bytes() {
    let cases = [
        (
            Table::Resource(Kind::NetworkPolicy),
            r#"{"metadata":{"name":"default.p","namespace":"ns","resourceVersion":"1","uid":"30316465-6365-4463-ad63-3564622d3638",
            "annotations":{"projectcalico.org/metadata":"{\"labels\":{\"a\":\"b\"},\"ownerReferences\":[{\"apiVersion\":\"projectcalico.org/v3\",\"uid\":\"x\"}]}"}},
            "spec":{"tier":"default"}}"#,
        ),
        (
            Table::Blocks,
            r#"{"metadata":{"name":"10-0-0-0-30","resourceVersion":"1"},"spec":{"cidr":"10.0.0.0/30","affinity":"host:n","allocations":[0,null],
            "unallocated":[1],"attributes":[{"handle_id":"h"}],"strictAffinity":false,"affinityClaimTime":"t","x":1}}"#,
        ),
        (
            Table::Affinities,
            r#"{"metadata":{"name":"n-10-0-0-0-30","resourceVersion":"1"},"spec":{"cidr":"10.0.0.0/30","node":"n","state":"pending",
            "deleted":"false","type":"virtual"}}"#,
        ),
        (
            Table::Handles,
            r#"{"metadata":{"name":"h","resourceVersion":"1"},"spec":{"handleID":"H","block":{"10.0.0.0/26":1},"deleted":true}}"#,
        ),
        (
            Table::IpamConfig,
            r#"{"metadata":{"name":"default","resourceVersion":"1"},"spec":{"strictAffinity":true,"autoAllocateBlocks":true}}"#,
        ),
    ];
    for (table, seed) in cases {
        for group in [ApiGroup::CrdV1, ApiGroup::ProjectCalicoV3] {
            let mut converted = 0;
            for json in mutations(&[seed.as_bytes()], 3_000, 8) {
                let Ok(object) = serde_json::from_slice::<Value>(&json) else { continue };
                let Ok(first) = crd::entry(table, group, object.clone()) else { continue };
                let written =
                    crd::object(group, &first.key, &first.value, Some(&first.revision), Some(&object))
                        .unwrap();
                let second = crd::entry(table, group, written).unwrap();
                assert_eq!((&second.key, &second.revision), (&first.key, &first.revision));
                assert_eq!(meaning(&second), meaning(&first), "{}", String::from_utf8_lossy(&json));
                converted += 1;
            }
            assert!(converted > 100, "only {converted} of {table:?}");
        }
    }
}
