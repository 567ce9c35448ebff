//! Keys: text and back, aliases, what a selection includes.

use super::*;

#[test]
fn etcd_keys_round_trip() {
    for path in [
        "/calico/resources/v3/projectcalico.org/nodes/host1",
        "/calico/resources/v3/projectcalico.org/workloadendpoints/ns1/host1-k8s-pod1-eth0",
        "/calico/ipam/v2/assignment/ipv4/block/10.244.119.0-26",
        "/calico/ipam/v2/assignment/ipv6/block/fd00:10:244::-122",
        "/calico/ipam/v2/host/host1/ipv4/block/10.244.119.0-26",
        "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.21.0.0-26",
        "/calico/ipam/v2/handle/k8s-pod-network.cont-1",
        "/calico/ipam/v2/config",
        "/calico/ipam/v2/host/host1",
        "/calico/felix/v2/no-region/host/host1/status",
        "/calico/felix/v2/no-region/host/host1/last_reported_status",
        "/calico/felix/v2/no-region/host/host1/workload/cni/default%2f0123abcd/endpoint/eth0",
        "/calico/felix/v1/host/host1/endpoint/hep-full",
    ] {
        assert_eq!(Key::parse(path).map(|k| k.to_string()).as_deref(), Ok(path));
    }
}

#[test]
fn refuses_foreign_keys() {
    for path in [
        "",
        "/calico/resources/v3/projectcalico.org/nodes",
        "/calico/resources/v3/projectcalico.org/nodes/a/b",
        "/calico/resources/v3/projectcalico.org/networkpolicies/a",
        "/calico/ipam/v2/assignment/ipv6/block/10.244.119.0-26",
        "/calico/ipam/v2/assignment/ipv4/block/10.244.119.24-26",
        "/calico/ipam/v2/assignment/ipv4/block/10.244.119.0-026",
        "/calico/ipam/v2/host/n1/ipv6/block/fd00:0::-122",
        "/calico/v1/policy/tier/default/policy/x",
        "/registry/pods/x",
    ] {
        assert!(Key::parse(path).is_err(), "{path}");
    }
}

#[test]
fn aliases_are_unambiguous() {
    let mut seen = std::collections::BTreeMap::new();
    for kind in Kind::ALL {
        let lower = kind.name().to_ascii_lowercase();
        for name in kind.aliases().iter().copied().chain([kind.plural(), &*lower]) {
            assert_eq!(Kind::from_alias(name), Some(*kind), "{name}");
            if let Some(other) = seen.insert(name.to_owned(), kind) {
                assert_eq!(other, kind, "{name} names two kinds");
            }
        }
    }
}

#[test]
fn mirrored_kinds_have_keys_but_no_names_for_users() {
    for kind in Kind::MIRRORED {
        assert!(!Kind::ALL.contains(kind));
        for name in [kind.name(), kind.plural()] {
            assert_eq!(Kind::from_alias(name), None, "{name}");
        }
        let key = Key::resource(*kind, if kind.scope() == Scope::Namespaced { "ns" } else { "" }, "x");
        assert_eq!(Key::parse(&key.to_string()), Ok(key));
    }
}

#[test]
fn selections_include_what_their_prefix_finds() {
    let key = Key::resource(Kind::WorkloadEndpoint, "ns1", "host1-k8s-pod1-eth0");
    let select = |namespace: Option<&str>, prefix: &str| Selection::Resources {
        kind: Kind::WorkloadEndpoint,
        namespace: namespace.map(SmolStr::new),
        name_prefix: SmolStr::new(prefix),
    };
    for (selection, expected) in [
        (select(None, ""), true),
        (select(Some("ns1"), "host1-"), true),
        (select(Some("ns"), ""), false),
        (select(None, "host2-"), false),
        (Selection::one(Kind::WorkloadEndpoint, "ns1", "host1-k8s-pod1-eth0"), true),
        (Selection::one(Kind::WorkloadEndpoint, "ns1", "host1-k8s-pod1-eth"), false),
        (Selection::one(Kind::WorkloadEndpoint, "ns", "host1-k8s-pod1-eth0"), false),
        (Selection::one(Kind::HostEndpoint, "ns1", "host1-k8s-pod1-eth0"), false),
        (Selection::Handles, false),
    ] {
        assert_eq!(selection.contains(&key), expected, "{selection:?}");
        if expected {
            assert!(key.to_string().starts_with(&selection.prefix()));
        }
    }
}
