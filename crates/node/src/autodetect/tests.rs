//! Each method over one host.

use super::*;

fn host() -> Vec<Interface> {
    let interface = |name: &str, addrs: &[&str]| Interface {
        name: name.into(),
        addrs: addrs.iter().map(|a| Cidr::parse_interface(a).unwrap()).collect(),
    };
    vec![
        interface("lo", &["127.0.0.1/8", "::1/128"]),
        interface("eth0", &["169.254.3.4/16", "10.0.0.5/24", "10.0.0.6/24", "fe80::1/64", "fd00::5/64"]),
        interface("eth1", &["192.168.7.5/24"]),
        interface("docker0", &["172.17.0.1/16"]),
        interface("cali123", &["169.254.1.1/32", "fe80::2/64"]),
        interface("eth2", &[]),
    ]
}

fn check(method: &str, family: Family, reached: Option<&str>, expected: Option<(&str, &str)>) {
    let found = Method::parse(method).unwrap().select(family, &host(), reached.map(|r| r.parse().unwrap()));
    let found = found.map(|f| (f.interface, format!("{}/{}", f.addr, f.len)));
    assert_eq!(found, expected.map(|(i, a)| (i.to_owned(), a.to_owned())), "{method} {family}");
}

#[test]
fn first_found_walks_backwards_and_skips_what_is_never_meant() {
    check("first-found", Family::V4, None, Some(("eth1", "192.168.7.5/24")));
    check("", Family::V6, None, Some(("eth0", "fd00::5/64")));
}

#[test]
fn interface_has_no_default_excludes() {
    check("interface=eth0", Family::V4, None, Some(("eth0", "10.0.0.5/24")));
    check("interface=nothing,docker.*", Family::V4, None, Some(("docker0", "172.17.0.1/16")));
    check("interface=eth.*", Family::V4, None, Some(("eth1", "192.168.7.5/24")));
    check("interface=eth2", Family::V4, None, None);
    // Not anchored.
    check("interface=h1", Family::V4, None, Some(("eth1", "192.168.7.5/24")));
}

#[test]
fn skip_interface_adds_to_the_default_excludes() {
    check("skip-interface=eth1", Family::V4, None, Some(("eth0", "10.0.0.5/24")));
    check("skip-interface=eth1,eth0", Family::V4, None, None);
}

#[test]
fn cidr_has_no_default_excludes() {
    check("cidr=172.16.0.0/12", Family::V4, None, Some(("docker0", "172.17.0.1/16")));
    check("cidr=10.0.0.6/32, 11.0.0.0/8", Family::V4, None, Some(("eth0", "10.0.0.6/24")));
    check("cidr=fd00::/8", Family::V6, None, Some(("eth0", "fd00::5/64")));
    check("cidr=fd00::/8", Family::V4, None, None);
}

#[test]
fn can_reach_takes_the_kernel_s_answer_with_its_prefix() {
    check("can-reach=8.8.8.8", Family::V4, Some("10.0.0.6"), Some(("eth0", "10.0.0.6/24")));
    check("can-reach=8.8.8.8", Family::V4, Some("10.9.9.9"), None);
    check("can-reach=8.8.8.8", Family::V4, None, None);
}

#[test]
fn what_is_no_method() {
    for text in ["firstfound", "interface", "cidr=10.0.0.0/33", "interface=(", "can-reach"] {
        assert!(Method::parse(text).is_err(), "{text}");
    }
    assert_eq!(Method::parse("kubernetes-internal-ip").unwrap_err(), MethodError::Kubernetes);
}

#[test]
fn never_meant() {
    for name in ["docker0", "lo", "cali0a", "tunl0", "vxlan.calico", "br-abc", "veth1", "wireguard.cali"] {
        assert!(!is_ever_meant(name), "{name}");
    }
    for name in ["eth0", "bond0", "enp3s0", "br0", "vxlanXcalico", "wlan0"] {
        assert!(is_ever_meant(name), "{name}");
    }
}
