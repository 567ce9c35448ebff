//! Names against ones that Calico gives.

use super::*;

#[test]
fn interfaces_are_hashes_of_namespace_and_pod() {
    assert_eq!(interface("cali", "default", "simplePod"), "calibd5189385c4");
    assert_eq!(interface("cali", "default", "nginx"), "calic440f455693");
    assert_eq!(interface("tap", "default", "nginx"), "tapc440f455693");
}

#[test]
fn long_hosts_are_cut_and_hashed() {
    let check = |host: &str, name: &str| assert_eq!(affinity(host, "10.0.0.0/26".parse().unwrap()), name);
    check("node1", "node1-10-0-0-0-26");
    let a = |n| "a".repeat(n);
    check(&a(240), &format!("{}-10-0-0-0-26", a(240)));
    check(&a(241), &format!("{}-10-0-0-0-26-f2d0b24ba4a", a(228)));
    check(&a(245), &format!("{}-10-0-0-0-26-8a1d31e410a", a(228)));
    // Not a name that a host has, but nothing to panic about.
    assert!(affinity(&"ä".repeat(200), "fd00::/122".parse().unwrap()).len() < TOO_LONG);
}

#[test]
fn blocks_and_handles() {
    assert_eq!(block("fd00:10::/122".parse().unwrap()), "fd00-10---122");
    assert_eq!(handle("k8s-pod-network.0AbC"), "k8s-pod-network.0abc");
}

#[test]
fn hashes_of_hosts_are_labels() {
    assert_eq!(hostname_hash("node1"), "7DS2CCNJGGLTHBDQLLFO6SX24SY2YDDEG3W2VN556FA2W4DLLV5A");
    for (bytes, text) in [
        ("", ""),
        ("f", "MY"),
        ("fo", "MZXQ"),
        ("foo", "MZXW6"),
        ("foob", "MZXW6YQ"),
        ("foobar", "MZXW6YTBOI"),
    ] {
        assert_eq!(base32(bytes.as_bytes()), text);
    }
}

#[test]
fn profiles_say_where_they_come_from() {
    let check = |name: &str, source: Option<ProfileSource<'_>>| assert_eq!(profile_source(name), source);
    check("kns.blue", Some(ProfileSource::Namespace("blue")));
    check("ksa.blue.a", Some(ProfileSource::ServiceAccount { namespace: "blue", name: "a" }));
    check("ksa.blue.a.b", Some(ProfileSource::ServiceAccount { namespace: "blue", name: "a.b" }));
    check("ksa.blue", None);
    check("ksa..a", None);
    check("kns.", None);
    check("projectcalico-default-allow", None);
    assert_eq!(namespace_profile("blue"), "kns.blue");
    assert_eq!(service_account_profile("blue", "a.b"), "ksa.blue.a.b");
    assert_eq!(service_account_profile("", "a"), "ksa.default.a");
}
