//! Objects as they are stored, good and bad.

use calico_net::Asn;
use serde_json::{Value, json};

use super::*;
use crate::intent::{Advertisement, Community, LogLevel, NextHopMode};
use crate::password::SecretRef;
use crate::services::EXCLUDED_LABEL;
use crate::world::{ConfigFacts, PeerOptions, PeerTarget, Programs};

fn key(kind: Kind, name: &str) -> Key {
    Key::resource(kind, "", name)
}

fn affinity(node: &str, block: &str) -> Key {
    Key::Affinity { owner: AffinityOwner::Host(node.into()), block: block.parse().unwrap() }
}

fn put(index: &mut Index, key: &Key, value: &Value) {
    let entry = Entry { key: key.clone(), value: value.to_string().into(), revision: 1.into() };
    index.update(key, Some(&entry));
}

fn spec(index: &mut Index, kind: Kind, name: &str, spec: &Value) {
    let value = json!({"kind": kind.name(), "metadata": {"name": name, "labels": {"l": name}}, "spec": spec});
    put(index, &key(kind, name), &value);
}

fn problems(index: &Index) -> Vec<String> {
    index.problems().iter().map(ToString::to_string).collect()
}

#[test]
fn nodes() {
    let mut index = Index::new("a".into());
    let bgp = json!({"bgp": {"ipv4Address": "10.0.0.1/24", "ipv6Address": "fd00::1/64", "asNumber": 65001,
        "routeReflectorClusterID": "244.0.0.1"}});
    spec(&mut index, Kind::Node, "a", &bgp);
    let a = &index.world().nodes["a"];
    assert_eq!((a.v4.unwrap().1, a.v6.unwrap().1, a.asn), (24, 64, Some(Asn(65001))));
    assert_eq!((a.cluster_id.unwrap().octets()[0], a.labels["l"].as_str()), (244, "a"));
    // One bad part is no reason to lose the others.
    spec(
        &mut index,
        Kind::Node,
        "b",
        &json!({"bgp": {"ipv4Address": "fd00::1", "ipv6Address": "fd00::2/64", "routeReflectorClusterID": "x"}}),
    );
    let b = &index.world().nodes["b"];
    assert_eq!((b.v4, b.v6.unwrap().1, b.cluster_id), (None, 64, None));
    assert_eq!(problems(&index).len(), 2);
    spec(&mut index, Kind::Node, "b", &json!({}));
    assert_eq!(problems(&index), Vec::<String>::new());
    index.update(&key(Kind::Node, "a"), None);
    assert_eq!(index.world().nodes.len(), 1);
}

#[test]
fn an_object_that_cannot_be_read_counts_as_absent() {
    let mut index = Index::new("a".into());
    spec(&mut index, Kind::Node, "b", &json!({}));
    put(&mut index, &key(Kind::Node, "b"), &json!([1]));
    assert!(index.world().nodes.is_empty());
    assert!(problems(&index)[0].starts_with("Node(b): "), "{:?}", problems(&index));
    index.update(&key(Kind::Node, "b"), None);
    assert!(problems(&index).is_empty());
}

#[test]
fn claims_of_this_node() {
    let mut index = Index::new("a".into());
    for (block, value) in [
        ("10.1.0.0/26", json!({"state": "confirmed"})),
        ("10.1.0.64/26", json!({"state": ""})),
        ("10.1.0.128/26", json!({})),
        ("10.1.0.192/26", json!({"state": "pendingDeletion"})),
        ("10.2.0.0/26", json!({"state": "pending"})),
        ("10.2.0.64/26", json!({"state": "confirmed", "deleted": true})),
        ("10.2.0.128/26", json!("junk")),
    ] {
        put(&mut index, &affinity("a", block), &value);
    }
    put(&mut index, &affinity("b", "10.3.0.0/26"), &json!({"state": "confirmed"}));
    let blocks: Vec<String> = index.world().blocks.iter().map(Cidr::to_string).collect();
    assert_eq!(blocks, ["10.1.0.0/26", "10.1.0.64/26", "10.1.0.128/26", "10.1.0.192/26"]);
    index.update(&affinity("a", "10.1.0.0/26"), None);
    put(&mut index, &affinity("a", "10.1.0.64/26"), &json!({"state": "pending"}));
    assert_eq!(index.world().blocks.len(), 2);
}

#[test]
fn peers() {
    let mut index = Index::new("a".into());
    spec(
        &mut index,
        Kind::BGPPeer,
        "full",
        &json!({
            "nodeSelector": "rack == '1'", "peerIP": "[fd00::5]:180", "asNumber": "1.10", "localASNumber": 65000,
            "nextHopMode": "Self", "sourceAddress": "None", "maxRestartTime": "1m0.6s", "keepaliveTime": "20s",
            "numAllowedLocalASNumbers": 2, "ttlSecurity": 1, "reachableBy": "fd00::1", "reversePeering": "Manual",
            "filters": ["f2", "f1"], "password": {"secretKeyRef": {"name": "bgp", "key": "rr", "optional": true}}
        }),
    );
    let full = &index.world().peers["full"];
    let target = PeerTarget::Address { addr: "fd00::5".parse().unwrap(), port: Some(180), asn: Asn(65546) };
    assert_eq!((&full.target, full.reverse), (&target, false));
    assert_eq!(
        full.options,
        PeerOptions {
            local_as: Some(Asn(65000)),
            from_node_addr: false,
            restart_time_secs: Some(61),
            keepalive_secs: Some(20),
            next_hop: NextHopMode::Own,
            keep_original_next_hop: false,
            allow_local_as: Some(2),
            ttl_security_hops: Some(1),
            reachable_by: Some("fd00::1".parse().unwrap()),
            filters: vec!["f2".into(), "f1".into()],
            password: Some(SecretRef { name: "bgp".into(), key: "rr".into(), optional: true }),
            bfd: false,
            long_lived: false,
        }
    );
    assert!(problems(&index).is_empty());
}

#[test]
fn bad_peers_are_left_out_and_named() {
    let mut index = Index::new("a".into());
    for (n, bad) in [
        json!({}),
        json!({"peerIP": "10.0.0.300", "asNumber": 1}),
        json!({"peerIP": "10.0.0.3:0", "asNumber": 1}),
        json!({"peerIP": "10.0.0.3"}),
        json!({"peerIP": "10.0.0.3", "asNumber": 1, "peerSelector": "all()"}),
        json!({"peerSelector": "a =="}),
        json!({"peerSelector": "all()", "node": "a", "nodeSelector": "all()"}),
        json!({"peerSelector": "all()", "maxRestartTime": "2h"}),
        json!({"peerSelector": "all()", "reachableBy": "x"}),
        json!({"peerSelector": "all()", "nextHopMode": "Sideways"}),
        json!({"localWorkloadSelector": "all()"}),
        json!({"localWorkloadSelector": "all()", "asNumber": 1, "peerIP": "10.0.0.3"}),
        json!({"peerIP": "10.0.0.3", "asNumber": 1, "password": {}}),
        json!({"peerIP": "10.0.0.3", "asNumber": 1, "password": {"secretKeyRef": {"name": "a"}}}),
        json!({"peerIP": "10.0.0.3", "asNumber": 1, "password": {"secretKeyRef": {"name": "../a", "key": "k"}}}),
        json!({"peerSelector": "all()", "numAllowedLocalASNumbers": 300}),
    ]
    .iter()
    .enumerate()
    {
        spec(&mut index, Kind::BGPPeer, "bad", bad);
        assert!(index.world().peers.is_empty(), "{n}");
        let problems = problems(&index);
        assert_eq!(problems.len(), 1, "{n}");
        assert!(
            problems[0].starts_with("BGPPeer(bad): ") && problems[0].contains("no session"),
            "{problems:?}"
        );
    }
    let annotated = json!({
        "kind": "BGPPeer", "metadata": {"name": "bad", "annotations": {"calico-rs/bfd": "yes"}},
        "spec": {"peerSelector": "all()"}
    });
    put(&mut index, &key(Kind::BGPPeer, "bad"), &annotated);
    assert!(index.world().peers.is_empty() && problems(&index)[0].contains("annotations[calico-rs/bfd]"));
}

#[test]
fn extensions_and_workloads_of_peers() {
    let mut index = Index::new("a".into());
    let peer = json!({
        "kind": "BGPPeer", "metadata": {"name": "p", "annotations": {
            "calico-rs/bfd": "true", "calico-rs/long-lived-graceful-restart": "true"
        }},
        "spec": {"localWorkloadSelector": "app == 'router'", "asNumber": 65001}
    });
    put(&mut index, &key(Kind::BGPPeer, "p"), &peer);
    let facts = &index.world().peers["p"];
    let target = PeerTarget::Workloads { selector: "app == 'router'".parse().unwrap(), asn: Asn(65001) };
    assert_eq!((&facts.target, facts.options.bfd, facts.options.long_lived), (&target, true, true));
    assert!(problems(&index).is_empty());
}

#[test]
fn an_unusable_filter_is_absent() {
    let mut index = Index::new("a".into());
    spec(&mut index, Kind::BGPFilter, "f", &json!({"importV4": [{"action": "Accept"}]}));
    assert_eq!(index.world().filters.len(), 1);
    spec(&mut index, Kind::BGPFilter, "f", &json!({"importV4": [{"action": "Maybe"}]}));
    assert!(index.world().filters.is_empty());
    assert!(problems(&index)[0].starts_with("BGPFilter(f): importV4[0].action"), "{:?}", problems(&index));
}

#[test]
fn configurations() {
    let mut index = Index::new("a".into());
    spec(
        &mut index,
        Kind::BGPConfiguration,
        "default",
        &json!({
            "nodeToNodeMeshEnabled": false, "asNumber": 65000, "listenPort": 178, "logSeverityScreen": "debug",
            "nodeMeshMaxRestartTime": "2m", "nodeMeshPassword": {"secretKeyRef": {"name": "s", "key": "mesh"}}, "bindMode": "NodeIP", "ignoredInterfaces": ["foo0"],
            "communities": [{"name": "c1", "value": "64512:100"}, {"name": "bad", "value": "x"}],
            "prefixAdvertisements": [
                {"cidr": "10.96.0.0/16", "communities": ["c1", "64512:1:2", "bad"]},
                {"cidr": "10.97.0.0/16", "communities": ["nobody"]},
            ],
            "programClusterRoutes": "Disabled", "ipv4NormalRoutePriority": 100
        }),
    );
    let communities = vec![Community::Standard(64512, 100), Community::Large(64512, 1, 2)];
    let expected = ConfigFacts {
        mesh_enabled: Some(false),
        asn: Some(Asn(65000)),
        listen_port: Some(178),
        log_level: Some(LogLevel::Debug),
        mesh_restart_time_secs: Some(120),
        mesh_password: Some(SecretRef { name: "s".into(), key: "mesh".into(), optional: false }),
        mesh_bfd: false,
        mesh_long_lived: false,
        node_ip_only: true,
        ignored_interfaces: vec!["foo0".into()],
        advertisements: Some(vec![Advertisement { cidr: "10.96.0.0/16".parse().unwrap(), communities }]),
        programs: Some(Programs { plain: false, ipip: false }),
        normal_priority_v4: Some(100),
        normal_priority_v6: None,
    };
    assert_eq!(index.world().configs["default"], expected);
    assert_eq!(problems(&index).len(), 2, "{:?}", problems(&index));
}

#[test]
fn pools() {
    let mut index = Index::new("a".into());
    spec(
        &mut index,
        Kind::IPPool,
        "p",
        &json!({"cidr": "10.0.0.0/16", "ipipMode": "CrossSubnet", "vxlanMode": "Never"}),
    );
    spec(&mut index, Kind::IPPool, "q", &json!({"cidr": "10.1.0.0/16", "disableBGPExport": true}));
    spec(&mut index, Kind::IPPool, "r", &json!({"cidr": "ten"}));
    let pools: Vec<_> = index
        .world()
        .pools
        .values()
        .map(|p| (p.cidr.to_string(), p.disable_bgp_export, p.encapsulation))
        .collect();
    let expected = [
        ("10.0.0.0/16".into(), false, Encapsulation::CrossSubnet),
        ("10.1.0.0/16".into(), true, Encapsulation::Never),
    ];
    assert_eq!(pools, expected);
    assert!(problems(&index)[0].starts_with("IPPool(r): cidr"), "{:?}", problems(&index));
}

#[test]
fn workloads_of_this_node() {
    let mut index = Index::new("a".into());
    let key = |name: &str| Key::resource(Kind::WorkloadEndpoint, "default", name);
    let endpoint = |node: &str| {
        json!({
            "kind": "WorkloadEndpoint", "metadata": {"name": "x", "namespace": "default"},
            "spec": {"node": node, "ipNetworks": ["10.0.0.1/32", "fd00::1/128", "10.0.0.0/24"],
                "ipNATs": [{"internalIP": "10.0.0.1", "externalIP": "10.0.9.9"}]}
        })
    };
    put(&mut index, &key("a-k8s-web-eth0"), &endpoint("a"));
    // Its name begins like ours.
    put(&mut index, &key("a--b-k8s-web-eth0"), &endpoint("a-b"));
    let addrs: Vec<String> =
        index.world().workloads.values().flat_map(|w| &w.addrs).map(Cidr::to_string).collect();
    assert_eq!(addrs, ["10.0.0.1/32", "fd00::1/128"], "whole ones that are its own, no floating one");
    index.update(&key("a-k8s-web-eth0"), None);
    assert!(index.world().workloads.is_empty());
}

/// Workloads come and go by the hundred; what BIRD is told, computed from a thousand nodes, hardly ever changes by it.
#[test]
fn most_workloads_change_nothing_for_the_speaker() {
    let mut index = Index::new("a".into());
    let web = Key::resource(Kind::WorkloadEndpoint, "default", "a-k8s-web-eth0");
    let with = |addr: &str, app: &str| {
        let labels = json!({"app": app});
        json!({
            "kind": "WorkloadEndpoint", "metadata": {"name": "x", "namespace": "default", "labels": labels},
            "spec": {"node": "a", "ipNetworks": [addr]}
        })
    };
    put(&mut index, &affinity("a", "10.1.0.0/26"), &json!({"state": "confirmed"}));
    assert!(index.take_changed());
    put(&mut index, &affinity("a", "10.1.0.0/26"), &json!({"state": "confirmed", "more": 1}));
    put(&mut index, &web, &with("10.1.0.1/32", "web"));
    put(&mut index, &web, &with("10.1.0.2/32", "web"));
    assert!(!index.take_changed(), "addresses of this node's blocks");
    put(&mut index, &web, &with("10.2.0.1/32", "web"));
    assert!(index.take_changed(), "a borrowed one");
    put(&mut index, &web, &with("10.2.0.1/32", "web"));
    assert!(!index.take_changed(), "the same once more");
    put(&mut index, &web, &with("10.1.0.1/32", "web"));
    assert!(index.take_changed(), "no longer borrowed");
    spec(
        &mut index,
        Kind::BGPPeer,
        "p",
        &json!({"localWorkloadSelector": "app == 'router'", "asNumber": 65001}),
    );
    assert!(index.take_changed());
    put(&mut index, &web, &with("10.1.0.1/32", "router"));
    assert!(index.take_changed(), "a peer");
    index.update(&web, None);
    assert!(index.take_changed(), "the peer is gone");
    index.update(&affinity("a", "10.1.0.0/26"), None);
    assert!(index.take_changed());
}

#[test]
fn what_is_followed_is_what_is_understood() {
    let selections = Index::selections("a");
    for key in [
        key(Kind::Node, "x"),
        key(Kind::BGPPeer, "x"),
        key(Kind::BGPFilter, "x"),
        key(Kind::BGPConfiguration, "default"),
        key(Kind::IPPool, "x"),
        Key::resource(Kind::WorkloadEndpoint, "default", "a-k8s-web-eth0"),
        affinity("a", "10.0.0.0/26"),
        affinity("a", "fd00::/122"),
    ] {
        assert_eq!(selections.iter().filter(|s| s.contains(&key)).count(), 1, "{key}");
    }
    assert!(!selections.iter().any(|s| s.contains(&affinity("b", "10.0.0.0/26"))));
}

fn service(local: &str) -> Value {
    json!({"kind": "KubernetesService", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"type": "NodePort", "clusterIPs": ["10.96.0.1"], "externalTrafficPolicy": local}})
}

#[test]
fn services_are_followed_where_somebody_asks_for_them() {
    let selections = Index::service_selections();
    let key = |kind: Kind| Key::resource(kind, "default", "web");
    for kind in [Kind::KubernetesService, Kind::KubernetesEndpointSlice] {
        assert_eq!(selections.iter().filter(|s| s.contains(&key(kind))).count(), 1);
        assert!(!Index::selections("a").iter().any(|s| s.contains(&key(kind))));
    }
    let ranges = json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/16"}]});
    let mut index = Index::new("a".into());
    spec(&mut index, Kind::BGPConfiguration, "default", &ranges);
    assert!(
        !index.wants_services() && problems(&index)[0].contains("only whole ranges"),
        "{:?}",
        problems(&index)
    );

    let mut index = Index::new("a".into()).with_services(Services::new("a".into(), None), None);
    assert!(!index.wants_services());
    // A node's own configuration has no say in it.
    spec(&mut index, Kind::BGPConfiguration, "node.a", &ranges);
    assert!(!index.wants_services());
    spec(&mut index, Kind::BGPConfiguration, "default", &ranges);
    assert!(index.wants_services() && problems(&index).is_empty());
    assert!(index.take_changed());

    let slice = json!({"kind": "KubernetesEndpointSlice", "metadata": {"name": "web", "namespace": "default"},
        "spec": {"service": "web", "addressType": "IPv4", "readyNodes": ["a"]}});
    put(&mut index, &key(Kind::KubernetesEndpointSlice), &slice);
    put(&mut index, &key(Kind::KubernetesService), &service("Cluster"));
    assert!(!index.take_changed(), "its range is announced, and no more");
    put(&mut index, &key(Kind::KubernetesService), &service("Local"));
    assert!(index.take_changed() && !index.take_changed());
    let routes = |index: &Index| index.world().services.announce(false, false).routes.len();
    assert_eq!(routes(&index), 2);
    // What cannot be read counts as absent, and is named until it is gone.
    put(&mut index, &key(Kind::KubernetesService), &json!({"spec": 7}));
    assert!(index.take_changed() && problems(&index)[0].starts_with("KubernetesService(default/web): "));
    index.forget_services();
    assert!(problems(&index).is_empty());
    assert_eq!(routes(&index), 1);
}

#[test]
fn excluded_nodes_announce_no_service() {
    let mut index = Index::new("a".into()).with_services(Services::new("a".into(), None), None);
    let ranges = json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/16"}], "serviceExternalIPs": [{"cidr": "192.0.2.0/24"}]});
    spec(&mut index, Kind::BGPConfiguration, "default", &ranges);
    let services = |index: &mut Index, label: &str, cluster: &str| {
        let value = json!({"kind": "Node", "metadata": {"name": "a", "labels": {EXCLUDED_LABEL: label}},
            "spec": {"bgp": {"ipv4Address": "10.0.0.1/24", "routeReflectorClusterID": cluster}}});
        put(index, &key(Kind::Node, "a"), &value);
        let local = crate::Local { node: "a".into(), ..crate::Local::default() };
        let crate::intent::ServiceIntent { routes, rejects, reflected } =
            index.world().resolve(&local).0.services;
        (routes.len(), rejects.len(), reflected.len())
    };
    assert_eq!(services(&mut index, "false", ""), (2, 2, 0));
    assert_eq!(services(&mut index, "true", ""), (0, 2, 0));
    // A reflector passes on what it hears of external addresses.
    assert_eq!(services(&mut index, "true", "244.0.0.1"), (0, 2, 1));
}
