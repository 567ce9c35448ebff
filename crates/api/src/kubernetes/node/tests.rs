//! Nodes, read and written back.

use proptest::prelude::*;

use super::*;
use crate::kubernetes::decode;

const KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

fn node(annotations: Value, labels: Value) -> Node {
    let object = json!({
        "metadata": {"name": "node1", "uid": "30316465-6365-4463-ad63-3564622d3638", "resourceVersion": "7",
            "labels": labels, "annotations": annotations},
        "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"], "taints": []},
        "status": {"addresses": [{"type": "Hostname", "address": "node1"},
            {"type": "ExternalIP", "address": "203.0.113.9"}, {"type": "InternalIP", "address": "192.0.2.1"}],
            "images": [{"names": ["x"]}]},
    });
    decode(object.to_string().as_bytes()).unwrap()
}

fn read(node: &Node, use_pod_cidr: bool) -> (crate::Node, Vec<String>) {
    let Converted { entry, problems } = entry(node, use_pod_cidr);
    assert_eq!(entry.key, Key::resource(Kind::Node, "", "node1"));
    (codec::decode(&entry).unwrap(), problems.into_iter().map(|problem| problem.reason).collect())
}

#[test]
fn annotations_are_fields() {
    let annotations = json!({
        "projectcalico.org/IPv4Address": "192.0.2.1/24",
        "projectcalico.org/IPv6Address": "2001:db8::1/64",
        "projectcalico.org/ASNumber": "64513",
        "projectcalico.org/RouteReflectorClusterID": "1.0.0.1",
        "projectcalico.org/IPv4IPIPTunnelAddr": "10.0.0.1",
        "projectcalico.org/IPv4VXLANTunnelAddr": "10.0.0.2",
        "projectcalico.org/VXLANTunnelMACAddr": "66:00:00:00:00:01",
        "projectcalico.org/IPv6VXLANTunnelAddr": "fd00::2",
        "projectcalico.org/VXLANTunnelMACAddrV6": "66:00:00:00:00:02",
        "projectcalico.org/IPv4WireguardInterfaceAddr": "10.0.0.3",
        "projectcalico.org/IPv6WireguardInterfaceAddr": "fd00::3",
        "projectcalico.org/WireguardPublicKey": KEY,
        "projectcalico.org/WireguardPublicKeyV6": KEY,
        "projectcalico.org/Interfaces": "[{\"name\":\"eth0\",\"addresses\":[\"192.0.2.1\"]}]",
        "projectcalico.org/labels": "{\"rack\":\"r1\",\"zone\":\"calico\"}",
        "projectcalico.org/annotations": "{\"note\":\"n\"}",
        "other": "x"});
    let (found, problems) = read(&node(annotations, json!({"zone": "kube"})), false);
    assert_eq!(problems, Vec::<String>::new());
    assert_eq!(
        json!(found),
        json!({"kind": "Node", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "node1", "uid": "30316465-6365-4463-ad63-3564622d3638", "resourceVersion": "7",
                "labels": {"rack": "r1", "zone": "kube"},
                "annotations": {"note": "n", KUBE_LABELS: "{\"zone\":\"kube\"}"}},
            "spec": {
                "bgp": {"asNumber": 64513, "ipv4Address": "192.0.2.1/24", "ipv6Address": "2001:db8::1/64",
                    "ipv4IPIPTunnelAddr": "10.0.0.1", "routeReflectorClusterID": "1.0.0.1"},
                "ipv4VXLANTunnelAddr": "10.0.0.2", "vxlanTunnelMACAddr": "66:00:00:00:00:01",
                "ipv6VXLANTunnelAddr": "fd00::2", "vxlanTunnelMACAddrV6": "66:00:00:00:00:02",
                "wireguard": {"interfaceIPv4Address": "10.0.0.3", "interfaceIPv6Address": "fd00::3"},
                "orchRefs": [{"nodeName": "node1", "orchestrator": "k8s"}],
                "addresses": [{"address": "192.0.2.1/24", "type": "CalicoNodeIP"},
                    {"address": "2001:db8::1/64", "type": "CalicoNodeIP"},
                    {"address": "192.0.2.1", "type": "InternalIP"},
                    {"address": "203.0.113.9", "type": "ExternalIP"}],
                "interfaces": [{"name": "eth0", "addresses": ["192.0.2.1"]}]},
            "status": {"wireguardPublicKey": KEY, "wireguardPublicKeyV6": KEY,
                "podCIDRs": ["10.244.1.0/24", "fd00:1::/64"]}})
    );
}

#[test]
fn what_is_not_of_its_form_is_absent_and_reported() {
    let check = |name: &str, value: &str, complaint: &str| {
        let key = format!("projectcalico.org/{name}");
        let (found, problems) = read(&node(json!({ key.as_str(): value }), json!({})), false);
        assert_eq!((found.spec.bgp, found.spec.wireguard), (None, None), "{name}");
        assert_eq!(problems, [format!("metadata.annotations[{key}]: {complaint}; it is ignored")]);
    };
    check("IPv4Address", "x", "\"x\" is not an IPv4 address with the length of its subnet");
    check("IPv4Address", "fd00::1/64", "\"fd00::1/64\" is not an IPv4 address with the length of its subnet");
    check("IPv4IPIPTunnelAddr", "10.0.0.1/32", "\"10.0.0.1/32\" is not an IPv4 address");
    check("VXLANTunnelMACAddr", "66", "\"66\" is not a MAC address");
    check("WireguardPublicKey", "AAAA", "\"AAAA\" is not a WireGuard public key");
    check(
        "ASNumber",
        "many",
        "\"many\" is not an AS number; use 0 to 4294967295, or dotted text such as 1.10",
    );
    check("Interfaces", "[", "EOF while parsing a list at line 1 column 1");
    let (found, _) = read(&node(json!({"projectcalico.org/IPv4Address": ""}), json!({})), false);
    assert_eq!(found.spec.bgp, None);
}

#[test]
fn pod_ranges_give_tunnel_addresses_and_blocks() {
    let (found, _) = read(&node(json!({}), json!({})), true);
    assert_eq!(found.spec.bgp.unwrap().ipv4_ipip_tunnel_addr, "10.244.1.1");
    assert_eq!(found.spec.wireguard, None);
    let with_key = node(json!({"projectcalico.org/WireguardPublicKey": KEY}), json!({}));
    assert_eq!(read(&with_key, true).0.spec.wireguard.unwrap().interface_ipv4_address, "10.244.1.1");
    let entries = blocks(&with_key);
    let keys: Vec<String> = entries.iter().map(|entry| entry.key.to_string()).collect();
    assert_eq!(
        keys,
        [
            "/calico/ipam/v2/assignment/ipv4/block/10.244.1.0-24",
            "/calico/ipam/v2/assignment/ipv6/block/fd00:1::-64"
        ]
    );
    let block: IpamBlock = ipam::decode_record(&entries[0]).unwrap();
    assert_eq!(block.affinity, Some(AffinityOwner::Host("node1".into())));
    let mut single = with_key;
    single.spec.pod_cidrs.clear();
    assert_eq!(blocks(&single).len(), 1);
    single.spec.pod_cidr = "".into();
    assert_eq!(blocks(&single), []);
    assert_eq!(read(&single, true).0.spec.bgp, None);
}

#[test]
fn what_is_written_is_annotations_only() {
    let before = node(
        json!({"projectcalico.org/IPv4Address": "192.0.2.1/24", "projectcalico.org/labels": "{\"rack\":\"r1\"}"}),
        json!({"zone": "kube"}),
    );
    let (mut edited, _) = read(&before, false);
    edited.spec.bgp.as_mut().unwrap().ipv4_address = "192.0.2.2/24".into();
    edited.spec.bgp.as_mut().unwrap().as_number = Some(calico_net::Asn(64513));
    edited.metadata.labels.insert("rack".into(), "r2".into());
    edited.metadata.annotations.insert("note".into(), "n".into());
    let body = patch(&edited, Some(&Revision("7".into()))).unwrap();
    let mut expected = serde_json::Map::new();
    for name in [
        "IPv6Address",
        "RouteReflectorClusterID",
        "IPv4IPIPTunnelAddr",
        "IPv4VXLANTunnelAddr",
        "VXLANTunnelMACAddr",
        "IPv6VXLANTunnelAddr",
        "VXLANTunnelMACAddrV6",
        "IPv4WireguardInterfaceAddr",
        "IPv6WireguardInterfaceAddr",
        "WireguardPublicKey",
        "WireguardPublicKeyV6",
        "Interfaces",
    ] {
        expected.insert(format!("projectcalico.org/{name}"), Value::Null);
    }
    for (name, value) in [
        ("IPv4Address", "192.0.2.2/24"),
        ("ASNumber", "64513"),
        ("labels", "{\"rack\":\"r2\"}"),
        ("annotations", "{\"note\":\"n\"}"),
    ] {
        expected.insert(format!("projectcalico.org/{name}"), value.into());
    }
    assert_eq!(body, json!({"metadata": {"annotations": expected, "resourceVersion": "7"}}));
    edited.spec.ipv4_vxlan_tunnel_addr = "x".into();
    assert_eq!(
        patch(&edited, None).unwrap_err().to_string(),
        "Node(node1): IPv4VXLANTunnelAddr: \"x\" is not an IPv4 address"
    );
}

/// The node after a merge patch.
fn patched(mut node: Node, body: &Value) -> Node {
    for (key, value) in body["metadata"]["annotations"].as_object().unwrap() {
        match value.as_str() {
            Some(text) => node.metadata.annotations.insert(key.as_str().into(), text.into()),
            None => node.metadata.annotations.remove(key.as_str()),
        };
    }
    node
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        v4: bool, vxlan: bool, asn in proptest::option::of(any::<u32>()), key: bool,
        labels in proptest::collection::btree_map("[a-c]", "[a-z]{0,3}", 0..3),
        kube in proptest::collection::btree_map("[b-d]", "[a-z]{0,3}", 0..3),
    ) {
        let before = node(json!({}), json!(kube));
        let (mut edited, _) = read(&before, false);
        let bgp = NodeBgp {
            ipv4_address: if v4 { "192.0.2.1/24".into() } else { SmolStr::default() },
            as_number: asn.map(calico_net::Asn),
            ..NodeBgp::default()
        };
        edited.spec.bgp = (bgp != NodeBgp::default()).then_some(bgp);
        edited.spec.ipv4_vxlan_tunnel_addr = if vxlan { "10.0.0.1".into() } else { SmolStr::default() };
        edited.status.as_mut().unwrap().wireguard_public_key = if key { KEY.into() } else { SmolStr::default() };
        for (name, value) in labels {
            edited.metadata.labels.entry(name.into()).or_insert(value.into());
        }
        let (again, problems) = read(&patched(before, &patch(&edited, None).unwrap()), false);
        prop_assert_eq!(problems, Vec::<String>::new());
        // Addresses follow from the others.
        edited.spec.addresses = again.spec.addresses.clone();
        prop_assert_eq!(again, edited);
    }
}
