//! Objects that a Kubernetes API server sends: native ones and custom resources.

use calico_api::ipam::Record;
use calico_api::kubernetes::crd::{self, Table};
use calico_api::kubernetes::endpoint_slice::EndpointSliceSpec;
use calico_api::kubernetes::service::ServiceSpec;
use calico_api::kubernetes::{
    ApiGroup, Converted, cluster_network_policy, decode as read, endpoint_slice, namespace, network_policy,
    node, pod, service, service_account,
};
use calico_api::{
    AnyResource, BlockAffinity, Entry, IpamBlock, IpamConfig, IpamHandle, Key, Kind,
    KubernetesClusterNetworkPolicySpec, KubernetesNetworkPolicySpec, NodeSpec, ProfileSpec, Spec,
    WorkloadEndpointSpec, decode, decode_record, encode,
};
use serde_json::{Value, json};

use crate::{choice, texts};

const GROUPS: [ApiGroup; 2] = [ApiGroup::CrdV1, ApiGroup::ProjectCalicoV3];
const TABLES: [Table; 8] = [
    Table::Resource(Kind::NetworkPolicy),
    Table::Resource(Kind::IPPool),
    Table::Resource(Kind::Tier),
    Table::Resource(Kind::IPAMConfiguration),
    Table::Blocks,
    Table::Affinities,
    Table::Handles,
    Table::IpamConfig,
];

/// One object. First byte: which.
pub fn object(data: &[u8]) {
    let Some((which, json)) = choice(data) else { return };
    match which % 17 {
        0 => {
            let Ok(pod) = read::<pod::Pod>(json) else { return };
            let Ok(Some(Converted { entry, .. })) = pod::entry(&pod, "cali") else { return };
            let endpoint = decode::<WorkloadEndpointSpec>(&entry).expect("what is converted decodes");
            if let Some(place) = pod::place(&endpoint.key()) {
                assert_eq!((place.pod, place.node), (endpoint.spec.pod.clone(), endpoint.spec.node.clone()));
            }
            let _ = pod::patch(&endpoint);
            again::<WorkloadEndpointSpec>(&entry);
        }
        1 => {
            let Ok(object) = read(json) else { return };
            again::<ProfileSpec>(&namespace::entry(&object));
        }
        2 => {
            let Ok(object) = read(json) else { return };
            again::<ProfileSpec>(&service_account::entry(&object));
        }
        3 => {
            let Ok(object) = read(json) else { return };
            if let Ok(Converted { entry, .. }) = network_policy::entry(&object) {
                let policy =
                    decode::<KubernetesNetworkPolicySpec>(&entry).expect("what is converted decodes").spec.0;
                calico_selector::parse(&policy.selector).expect("what selects is a selector");
                for side in
                    policy.ingress.iter().chain(&policy.egress).flat_map(|r| [&r.source, &r.destination])
                {
                    calico_selector::parse(&side.selector).expect("what selects is a selector");
                    calico_selector::parse(&side.namespace_selector).expect("what selects is a selector");
                }
                again::<KubernetesNetworkPolicySpec>(&entry);
            }
        }
        4 => {
            let Ok(object) = read(json) else { return };
            if let Some(entry) = endpoint_slice::entry(&object) {
                again::<EndpointSliceSpec>(&entry);
            }
        }
        5 => {
            let Ok(object) = read(json) else { return };
            again::<ServiceSpec>(&service::entry(&object));
        }
        6 | 7 => {
            let Ok(object) = read::<node::Node>(json) else { return };
            let Converted { entry, .. } = node::entry(&object, which % 2 == 1);
            again::<NodeSpec>(&entry);
            let calico = decode::<NodeSpec>(&entry).expect("what is converted decodes");
            node::patch(&calico, Some(&entry.revision)).expect("what was read can be written");
            for entry in node::blocks(&object) {
                decode_record::<IpamBlock>(&entry).expect("a block is a record");
            }
        }
        8 => {
            let Ok(object) = read(json) else { return };
            if let Ok(Some(Converted { entry, .. })) = cluster_network_policy::entry(&object) {
                let policy =
                    decode::<KubernetesClusterNetworkPolicySpec>(&entry).expect("what is converted decodes");
                calico_selector::parse(&policy.spec.0.selector).expect("what selects is a selector");
                again::<KubernetesClusterNetworkPolicySpec>(&entry);
            }
        }
        custom => {
            let Ok(object) = serde_json::from_slice::<Value>(json) else { return };
            custom_resource(TABLES[custom - 9], &object);
        }
    }
}

/// What is converted decodes, and is encoded as it was.
fn again<S: Spec>(entry: &Entry) {
    let resource = decode::<S>(entry).expect("what is converted decodes");
    assert_eq!(encode(&resource), entry.value);
}

/// What is read can be written, and is read as the same.
fn custom_resource(table: Table, object: &Value) {
    for group in GROUPS {
        let _ = crd::is_deleted(object);
        let Ok(first) = crd::entry(table, group, object.clone()) else { continue };
        let mut written = crd::object(group, &first.key, &first.value, Some(&first.revision), Some(object))
            .expect("what was read can be written");
        let marked = crd::mark_deleted(table, group, &mut written.clone());
        assert_eq!(marked, matches!(table, Table::Blocks | Table::Affinities | Table::Handles));
        written["metadata"]["resourceVersion"] = json!(first.revision.0);
        let second = crd::entry(table, group, written).expect("what was written can be read");
        assert_eq!((&second.key, &second.revision), (&first.key, &first.revision));
        match &first.key {
            Key::Resource(key) => {
                let (mut first, mut second) = (resource(&first), resource(&second));
                if key.kind == Kind::IPAMConfiguration {
                    // What it may leave out is filled in.
                    for name in ["strictAffinity", "autoAllocateBlocks"] {
                        first.spec.entry(name).or_insert(json!(name == "autoAllocateBlocks"));
                    }
                    first.spec.sort_keys();
                    second.spec.sort_keys();
                }
                assert_eq!(second, first);
            }
            Key::Block(_) => same::<IpamBlock>(&first, &second),
            Key::Affinity { .. } => same::<BlockAffinity>(&first, &second),
            Key::Handle(_) => same::<IpamHandle>(&first, &second),
            _ => same::<IpamConfig>(&first, &second),
        }
    }
}

fn resource(entry: &Entry) -> AnyResource {
    AnyResource::decode(entry).expect("what was converted decodes")
}

fn same<R: Record + PartialEq + std::fmt::Debug>(first: &Entry, second: &Entry) {
    let record = |entry| decode_record::<R>(entry).expect("what was converted decodes");
    assert_eq!(record(second), record(first));
}

/// Inputs to start from.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    vec![(
        "kubernetes",
        texts([
            "\0{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\",\"labels\":{\"a\":\"b\"},\"annotations\":{\"cni.projectcalico.org/podIP\":\"10.0.0.1/32\",\
                \"qos.projectcalico.org/ingressBandwidth\":\"1M\",\"cni.projectcalico.org/floatingIPs\":\"[\\\"192.0.2.1\\\"]\"}},\
                \"spec\":{\"nodeName\":\"n\",\"containers\":[{\"ports\":[{\"name\":\"web\",\"containerPort\":80}]}]},\"status\":{\"podIPs\":[{\"ip\":\"10.0.0.1\"}]}}",
            "\x01{\"metadata\":{\"name\":\"ns\",\"labels\":{\"a\":\"b\"},\"resourceVersion\":\"1\"}}",
            "\x02{\"metadata\":{\"name\":\"a.b\",\"namespace\":\"ns\",\"uid\":\"30316465-6365-4463-ad63-3564622d3638\"}}",
            "\x03{\"metadata\":{\"name\":\"p\",\"namespace\":\"ns\"},\"spec\":{\"podSelector\":{\"matchLabels\":{\"a\":\"b\"},\"matchExpressions\":[{\"key\":\"k\",\
                \"operator\":\"In\",\"values\":[\"x\"]}]},\"policyTypes\":[\"Egress\"],\"ingress\":[{\"from\":[{\"namespaceSelector\":{}}],\"ports\":[{\"port\":1,\
                \"endPort\":9},{\"protocol\":\"UDP\",\"port\":\"dns\"}]}],\"egress\":[{\"to\":[{\"ipBlock\":{\"cidr\":\"10.0.0.0/8\",\"except\":[\"10.1.0.0/16\"]}}]}]}}",
            "\x04{\"metadata\":{\"name\":\"s\",\"namespace\":\"ns\",\"labels\":{\"kubernetes.io/service-name\":\"s\"}},\"addressType\":\"IPv4\",\
                \"endpoints\":[{\"addresses\":[\"10.0.0.1\"]}],\"ports\":[{\"port\":80,\"protocol\":\"TCP\"}]}",
            "\x05{\"metadata\":{\"name\":\"s\",\"namespace\":\"ns\"},\"spec\":{\"clusterIPs\":[\"10.96.0.1\"],\"ports\":[{\"port\":80,\"nodePort\":30080}]}}",
            "\x07{\"metadata\":{\"name\":\"n\",\"labels\":{\"a\":\"b\"},\"annotations\":{\"projectcalico.org/IPv4Address\":\"192.0.2.1/24\",\"projectcalico.org/ASNumber\":\"1\",\
                \"projectcalico.org/Interfaces\":\"[]\",\"projectcalico.org/labels\":\"{}\"}},\"spec\":{\"podCIDR\":\"10.244.0.0/24\"},\
                \"status\":{\"addresses\":[{\"type\":\"InternalIP\",\"address\":\"192.0.2.1\"}]}}",
            "\x08{\"metadata\":{\"name\":\"p\"},\"spec\":{\"tier\":\"Admin\",\"priority\":1,\"subject\":{\"namespaces\":{}},\"ingress\":[{\"action\":\"Deny\",\
                \"from\":[{\"pods\":{\"podSelector\":{}}}]}],\"egress\":[{\"name\":\"x\",\"action\":\"Accept\",\"to\":[{\"networks\":[\"10.0.0.0/8\"]}],\
                \"protocols\":[{\"tcp\":{\"destinationPort\":{\"range\":{\"start\":1,\"end\":9}}}},{\"destinationNamedPort\":\"web\"}]}]}}",
            "\x09{\"metadata\":{\"name\":\"default.p\",\"namespace\":\"ns\",\"resourceVersion\":\"1\",\"uid\":\"30316465-6365-4463-ad63-3564622d3638\",\
                \"annotations\":{\"projectcalico.org/metadata\":\"{\\\"labels\\\":{\\\"a\\\":\\\"b\\\"},\\\"ownerReferences\\\":[{\\\"apiVersion\\\":\
                \\\"projectcalico.org/v3\\\",\\\"uid\\\":\\\"x\\\"}]}\"}},\"spec\":{\"tier\":\"default\"}}",
            "\x0d{\"metadata\":{\"name\":\"10-0-0-0-30\",\"resourceVersion\":\"1\"},\"spec\":{\"cidr\":\"10.0.0.0/30\",\"affinity\":\"host:n\",\"allocations\":[0,null],\
                \"unallocated\":[1],\"attributes\":[{\"handle_id\":\"h\"}],\"strictAffinity\":false,\"affinityClaimTime\":\"t\"}}",
            "\x0e{\"metadata\":{\"name\":\"n-10-0-0-0-30\",\"resourceVersion\":\"1\"},\"spec\":{\"cidr\":\"10.0.0.0/30\",\"node\":\"n\",\"state\":\"pending\",\
                \"deleted\":\"false\",\"type\":\"virtual\"}}",
            "\x0f{\"metadata\":{\"name\":\"h\",\"resourceVersion\":\"1\"},\"spec\":{\"handleID\":\"H\",\"block\":{\"10.0.0.0/26\":1},\"deleted\":true}}",
            "\x10{\"metadata\":{\"name\":\"default\",\"resourceVersion\":\"1\"},\"spec\":{\"strictAffinity\":true,\"autoAllocateBlocks\":true}}",
        ]),
    )]
}
