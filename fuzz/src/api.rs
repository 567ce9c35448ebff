//! Keys, stored resources and records, users' files, options of the agent.

#[path = "../../crates/ctl/src/output/yaml.rs"]
#[allow(dead_code, reason = "the command line's own writer, which is private there")]
mod yaml_writer;

use bytes::Bytes;
use calico_api::felix_config::resolve::{environment_settings, file_settings};
use calico_api::felix_config::{Setting, Source, TABLE, parse, resolve, resource};
use calico_api::ipam::Record;
use calico_api::{
    AnyResource, BGPConfigurationSpec, BGPFilterSpec, BGPPeerSpec, BlockAffinity, ClusterInformationSpec,
    Entry, FelixConfigurationSpec, GlobalNetworkPolicySpec, GlobalNetworkSetSpec, HostEndpointSpec,
    IPAMConfigurationSpec, IPPoolSpec, IPReservationSpec, IpamBlock, IpamConfig, IpamHandle, Key, Kind,
    NetworkPolicySpec, NetworkSetSpec, NodeSpec, ProfileSpec, Revision, Scope, Spec, TierSpec,
    WorkloadEndpointSpec, decode, decode_record, defaults, document, encode, encode_record, merge, validate,
};
use serde_json::{Value, json};

use crate::{choice, environment, text, texts};

/// A key of the datastore.
pub fn key(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Ok(key) = Key::parse(text) {
        assert_eq!(Key::parse(&key.to_string()), Ok(key), "{text:?}");
    }
    if let Ok(owner) = text.parse::<calico_api::AffinityOwner>() {
        assert_eq!(owner.to_string().parse(), Ok(owner));
    }
    let _ = Kind::from_alias(text);
    let _ = calico_api::status_file::name(text, text, text);
}

fn entry(kind: Kind, value: impl Into<Bytes>) -> Entry {
    let namespace = if kind.scope() == Scope::Namespaced { "ns" } else { "" };
    Entry { key: Key::resource(kind, namespace, "a.b"), value: value.into(), revision: Revision::from(7) }
}

/// The stored value of a resource. First byte: the kind.
pub fn resource_value(data: &[u8]) {
    let Some((kind, value)) = choice(data) else { return };
    let kind = Kind::ALL[kind % Kind::ALL.len()];
    let stored = entry(kind, value.to_vec());
    if let Ok(any) = AnyResource::decode(&stored) {
        let again = |value| {
            let mut again = AnyResource::decode(&entry(kind, value)).expect("what was written decodes");
            if any.status.is_none() {
                // Kinds with a status are stored with one.
                again.status = None;
            }
            without_self_link(again)
        };
        let merged = any.merge_into(&stored).expect("what decodes merges");
        assert_eq!(again(any.encode()), without_self_link(any.clone()));
        assert_eq!(again(merged), without_self_link(any.clone()));
    }
    match kind {
        Kind::BGPConfiguration => typed::<BGPConfigurationSpec>(&stored),
        Kind::BGPFilter => typed::<BGPFilterSpec>(&stored),
        Kind::BGPPeer => typed::<BGPPeerSpec>(&stored),
        Kind::ClusterInformation => typed::<ClusterInformationSpec>(&stored),
        Kind::FelixConfiguration => typed::<FelixConfigurationSpec>(&stored),
        Kind::GlobalNetworkPolicy => typed::<GlobalNetworkPolicySpec>(&stored),
        Kind::GlobalNetworkSet => typed::<GlobalNetworkSetSpec>(&stored),
        Kind::HostEndpoint => typed::<HostEndpointSpec>(&stored),
        Kind::IPAMConfiguration => typed::<IPAMConfigurationSpec>(&stored),
        Kind::IPPool => typed::<IPPoolSpec>(&stored),
        Kind::IPReservation => typed::<IPReservationSpec>(&stored),
        Kind::NetworkPolicy => typed::<NetworkPolicySpec>(&stored),
        Kind::NetworkSet => typed::<NetworkSetSpec>(&stored),
        Kind::Node => typed::<NodeSpec>(&stored),
        Kind::Profile => typed::<ProfileSpec>(&stored),
        Kind::Tier => typed::<TierSpec>(&stored),
        Kind::WorkloadEndpoint => typed::<WorkloadEndpointSpec>(&stored),
        // These have no type of their own.
        Kind::BlockAffinity
        | Kind::CalicoNodeStatus
        | Kind::KubeControllersConfiguration
        | Kind::KubernetesClusterNetworkPolicy
        | Kind::KubernetesEndpointSlice
        | Kind::KubernetesNetworkPolicy
        | Kind::KubernetesSecret
        | Kind::KubernetesService
        | Kind::StagedGlobalNetworkPolicy
        | Kind::StagedKubernetesNetworkPolicy
        | Kind::StagedNetworkPolicy => {}
    }
}

/// `selfLink` is dropped by every write.
fn without_self_link(mut resource: AnyResource) -> AnyResource {
    resource.metadata.other.shift_remove("selfLink");
    resource
}

fn typed<S: Spec>(stored: &Entry) {
    let Ok(mut first) = decode::<S>(stored) else { return };
    first.metadata.other.shift_remove("selfLink");
    let mut again = decode::<S>(&entry(S::KIND, encode(&first))).expect("what was encoded decodes");
    if first.status.is_none() {
        // Kinds with a status are stored with one.
        again.status = None;
    }
    assert_eq!(again, first);
    let merged = match merge(stored, &first) {
        Ok(merged) => merged,
        // Fields that are passed over need not be text; a merge keeps them, so it must be able to read them.
        Err(error) => {
            assert!(serde_json::from_slice::<Value>(&stored.value).is_err(), "{error}");
            return;
        }
    };
    let mut merged = decode::<S>(&entry(S::KIND, merged)).expect("what was merged decodes");
    merged.metadata.other.shift_remove("selfLink");
    if first.status.is_none() {
        merged.status = None;
    }
    assert_eq!(merged, first);
}

/// The stored value of a record of IPAM's. First byte: which.
pub fn record(data: &[u8]) {
    let Some((which, value)) = choice(data) else { return };
    let keys = [
        "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26",
        "/calico/ipam/v2/host/n/ipv4/block/10.0.0.0-26",
        "/calico/ipam/v2/handle/h",
        "/calico/ipam/v2/config",
    ];
    let key = Key::parse(keys[which % 4]).expect("these are keys");
    let entry = Entry { key, value: value.to_vec().into(), revision: Revision::from(1) };
    match which % 4 {
        0 => one_record::<IpamBlock>(&entry),
        1 => one_record::<BlockAffinity>(&entry),
        2 => one_record::<IpamHandle>(&entry),
        _ => one_record::<IpamConfig>(&entry),
    }
}

fn one_record<R: Record + PartialEq + std::fmt::Debug>(entry: &Entry) {
    if let Ok(record) = decode_record::<R>(entry) {
        let written = Entry { value: encode_record(&record), ..entry.clone() };
        assert_eq!(decode_record::<R>(&written).expect("what was encoded decodes"), record);
    }
}

/// A user's file.
pub fn file(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Ok(resources) = document::parse_documents(text) else { return };
    for mut resource in resources {
        defaults::apply(&mut resource);
        let _ = validate(&resource);
        let _ = calico_api::validate_update(&resource, &resource);
        let again = document::parse_resource("it", &resource.to_json()).expect("what was read reads again");
        assert_eq!(again, resource);
    }
}

/// Any JSON value as the command line prints it in YAML.
pub fn yaml(data: &[u8]) {
    // YAML reads no key of more than 1,024 characters in the form that is written, where one byte may be four characters;
    // nothing of ours has such keys.
    if data.len() > 250 {
        return;
    }
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    let written = yaml_writer::render(&value);
    let read = document::parse_values(&written).unwrap_or_else(|e| panic!("{e}\n{written}"));
    let expected = if value.is_null() { Vec::new() } else { vec![value] };
    assert_eq!(read, expected, "{written}");
}

/// Options of the agent: any option from any text, a file, an environment, a FelixConfiguration's value.
pub fn felix(data: &[u8]) {
    let Some((which, rest)) = choice(data) else { return };
    let Some(text) = text(rest) else { return };
    let row = &TABLE[which % TABLE.len()];
    if let Ok(value) = parse::parse(row, text) {
        let name = row.name.to_owned();
        let setting = Setting { source: Source::File, name, value: Ok(text.to_owned()) };
        let resolution = resolve([setting]);
        assert!(resolution.problems.is_empty(), "{:?}", resolution.problems);
        let effective = &resolution.values[row.name];
        assert!(effective.source == Source::Default || effective.value == value);
        assert_eq!(parse::parse(row, &effective.text).ok(), Some(effective.value.clone()));
    }
    if let Ok(value) = serde_json::from_str(text) {
        let _ = resource::text(row, &value);
        let _ = resource::check(row, &value);
    }
    let (mut settings, _) = file_settings(text);
    let lookup = environment(text);
    settings.extend(environment_settings(
        TABLE.iter().filter_map(|row| Some((row.environment(), lookup(&row.environment())?))),
    ));
    let resolution = resolve(settings);
    assert_eq!(resolution.values.len(), TABLE.len());
}

fn chosen(which: usize, value: &str) -> Vec<u8> {
    [&[which as u8], value.as_bytes()].concat()
}

/// Keys, a resource of every kind, records, files.
pub fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let keys = [
        "/calico/resources/v3/projectcalico.org/networkpolicies/ns/a.b",
        "/calico/resources/v3/projectcalico.org/nodes/n",
        "/calico/ipam/v2/assignment/ipv6/block/fd00::-122",
        "/calico/ipam/v2/virtual/lb/ipv4/block/10.0.0.0-26",
        "/calico/ipam/v2/handle/a/b",
        "/calico/ipam/v2/config",
        "/calico/felix/v2/no-region/host/n/workload/k8s/ns%2fpod/endpoint/eth0",
        "/calico/felix/v2/no-region/host/n/last_reported_status",
        "/calico/felix/v1/host/n/endpoint/eth0",
        "host:n",
    ];
    let resources: Vec<(Kind, Value)> = specs()
        .into_iter()
        .map(|(kind, spec)| {
            (
                kind,
                json!({"kind": kind.name(), "apiVersion": "projectcalico.org/v3",
                "metadata": {"name": "a.b", "uid": "u", "labels": {"a": "b"}, "annotations": {"c": "d"},
                    "creationTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["f"]},
                "spec": spec}),
            )
        })
        .collect();
    let number = |kind: Kind| Kind::ALL.iter().position(|k| *k == kind).expect("every kind is listed");
    let stored = resources.iter().map(|(kind, v)| chosen(number(*kind), &v.to_string())).collect();
    let files = resources
        .iter()
        .map(|(kind, v)| {
            let mut v = v.clone();
            if kind.scope() == Scope::Namespaced {
                v["metadata"]["namespace"] = "ns".into();
            }
            yaml_writer::render(&v).into_bytes()
        })
        .chain([b"kind: List\nitems: []\n---\n# c\n".to_vec()])
        .collect();
    let block = json!({"cidr": "10.0.0.0/30", "affinity": "host:n", "allocations": [0, null, 1, null],
        "unallocated": [1, 3], "attributes": [{"handle_id": "h", "secondary": {"node": "n"}},
        {"releasedAt": "2026-01-01T00:00:00Z"}], "sequenceNumber": 5, "sequenceNumberForAllocation": {"0": 4},
        "deleted": false});
    let records = vec![
        chosen(0, &block.to_string()),
        chosen(1, r#"{"state":"pending","deleted":"false"}"#),
        chosen(2, r#"{"block":{"10.0.0.0/26":2},"deleted":false}"#),
        chosen(3, r#"{"strict_affinity":true,"maxBlocksPerHost":20,"ipCooldownSeconds":30}"#),
    ];
    let options = TABLE
        .iter()
        .enumerate()
        .map(|(n, row)| chosen(n, row.default))
        .chain([chosen(
            0,
            "[global]\n# c\nLogSeverityScreen = Debug\nFELIX_BPFENABLED=true\nIptablesMarkMask=0xff0000\n",
        )])
        .chain([chosen(9, "tcp:22,udp:10.0.0.0/8:53,tcp:[fd00::/8]:80"), chosen(20, "eth0,/^cali/,docker+")])
        .collect();
    vec![
        ("key", texts(keys)),
        ("resource", stored),
        ("record", records),
        ("document", files),
        ("yaml", resources.iter().map(|(_, v)| v.to_string().into_bytes()).collect()),
        ("felix", options),
    ]
}

fn specs() -> Vec<(Kind, Value)> {
    let rule = json!({"action": "Allow", "protocol": "TCP", "ipVersion": 4, "icmp": {"type": 8, "code": 0},
        "source": {"selector": "a == 'b'", "nets": ["10.0.0.0/8"], "notPorts": [80, "90:99", "http"],
            "serviceAccounts": {"names": ["s"], "selector": "all()"}, "namespaceSelector": "has(x)"},
        "destination": {"notNets": ["fd00::/8"], "ports": [443], "services": {"name": "s", "namespace": "n"}},
        "http": {"methods": ["GET"], "paths": [{"exact": "/x"}]}, "metadata": {"annotations": {"a": "b"}}});
    let policy = json!({"tier": "default", "order": 10.5, "selector": "all()", "types": ["Ingress", "Egress"],
        "ingress": [rule], "egress": [{"action": "Deny"}], "performanceHints": ["AssumeNeededOnEveryNode"]});
    vec![
        (Kind::NetworkPolicy, policy.clone()),
        (Kind::GlobalNetworkPolicy, policy),
        (Kind::StagedNetworkPolicy, json!({"stagedAction": "Set", "selector": "all()"})),
        (Kind::Tier, json!({"order": 100, "defaultAction": "Pass"})),
        (Kind::Profile, json!({"labelsToApply": {"a": "b"}, "ingress": [{"action": "Allow"}]})),
        (Kind::NetworkSet, json!({"nets": ["10.0.0.0/8", "fd00::1"]})),
        (Kind::GlobalNetworkSet, json!({"nets": ["10.0.0.0/8"]})),
        (
            Kind::IPPool,
            json!({"cidr": "10.0.0.0/16", "blockSize": 26, "ipipMode": "Never", "vxlanMode": "Always",
            "natOutgoing": true, "nodeSelector": "all()", "allowedUses": ["Workload"], "assignmentMode": "Automatic"}),
        ),
        (Kind::IPReservation, json!({"reservedCIDRs": ["10.0.0.0/30"]})),
        (
            Kind::IPAMConfiguration,
            json!({"strictAffinity": true, "autoAllocateBlocks": true, "maxBlocksPerHost": 4}),
        ),
        (
            Kind::Node,
            json!({"bgp": {"ipv4Address": "10.0.0.1/24", "asNumber": "64512"},
            "orchRefs": [{"nodeName": "n", "orchestrator": "k8s"}], "ipv4VXLANTunnelAddr": "10.0.0.9"}),
        ),
        (
            Kind::BGPPeer,
            json!({"peerIP": "10.0.0.2:179", "asNumber": "1.10", "node": "n", "keepOriginalNextHop": true,
            "password": {"secretKeyRef": {"name": "s", "key": "k"}}, "maxRestartTime": "2m0s"}),
        ),
        (
            Kind::BGPConfiguration,
            json!({"logSeverityScreen": "Info", "nodeToNodeMeshEnabled": true, "asNumber": 64512,
            "communities": [{"name": "c", "value": "1:2"}], "prefixAdvertisements": [{"cidr": "10.0.0.0/8",
            "communities": ["c"]}], "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}], "listenPort": 179}),
        ),
        (
            Kind::BGPFilter,
            json!({"exportV4": [{"cidr": "10.0.0.0/8", "matchOperator": "In", "action": "Accept",
            "prefixLength": {"min": 8, "max": 16}}]}),
        ),
        (
            Kind::FelixConfiguration,
            json!({"logSeverityScreen": "Debug", "routeRefreshInterval": "90s",
            "failsafeInboundHostPorts": [{"protocol": "tcp", "port": 22, "net": "0.0.0.0/0"}], "mtuIfacePattern": "^eth",
            "routeTableRanges": [{"min": 1, "max": 250}], "bpfEnabled": false}),
        ),
        (Kind::ClusterInformation, json!({"clusterGUID": "g", "clusterType": "bgp", "datastoreReady": true})),
        (
            Kind::HostEndpoint,
            json!({"node": "n", "interfaceName": "eth0", "expectedIPs": ["10.0.0.1"],
            "profiles": ["p"], "ports": [{"name": "http", "protocol": "TCP", "port": 80}]}),
        ),
        (
            Kind::WorkloadEndpoint,
            json!({"node": "n", "orchestrator": "k8s", "pod": "p", "endpoint": "eth0",
            "containerID": "c", "interfaceName": "cali1", "mac": "ee:ee:ee:ee:ee:ee", "profiles": ["kns.ns"],
            "ipNetworks": ["10.0.0.1/32"], "ipNATs": [{"internalIP": "10.0.0.1", "externalIP": "1.2.3.4"}],
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "hostPort": 8080}]}),
        ),
        (Kind::KubeControllersConfiguration, json!({"controllers": {}})),
    ]
}
