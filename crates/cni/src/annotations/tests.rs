//! Annotations and what they ask for, or which of them is wrong.

use serde_json::json;

use calico_api::kubernetes::ObjectMeta;
use calico_api::kubernetes::namespace::Namespace;
use calico_api::kubernetes::pod::Pod;

use super::*;

fn metadata(annotations: &[(&str, &str)]) -> ObjectMeta {
    let pairs = annotations.iter().map(|(k, v)| (SmolStr::new(k), SmolStr::new(v)));
    ObjectMeta { annotations: pairs.collect(), ..ObjectMeta::default() }
}

fn parse(
    pod: &[(&str, &str)],
    namespace: &[(&str, &str)],
    conf: serde_json::Value,
) -> Result<Wishes, CniError> {
    let mut whole = json!({"name": "net", "ipam": {"type": "calico-ipam"}});
    whole.as_object_mut().expect("object").extend(conf.as_object().expect("object").clone());
    let (conf, _) = NetConf::from_value(whole).expect("valid");
    let facts = PodFacts {
        pod: Pod { metadata: metadata(pod), ..Pod::default() },
        namespace: Namespace { metadata: metadata(namespace) },
    };
    Wishes::parse(&facts, &conf)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

#[test]
fn what_is_asked_for() {
    let all = json!({"feature_control": {"ip_addrs_no_ipam": true, "floating_ips": true}});
    let check = |pod: &[(&str, &str)], namespace: &[(&str, &str)], expected: Wishes| {
        assert_eq!(parse(pod, namespace, all.clone()), Ok(expected), "{pod:?} {namespace:?}");
    };
    check(&[], &[], Wishes::default());
    check(&[(IP_ADDRS, " "), (IPV4_POOLS, "")], &[(HW_ADDR, "ignored here")], Wishes::default());
    let pools = |v4: &str| Wishes { ipv4_pools: Some(vec![v4.into()]), ..Wishes::default() };
    check(&[], &[(IPV4_POOLS, r#"["a"]"#)], pools("a"));
    check(&[(IPV4_POOLS, r#"["10.0.0.0/8"]"#)], &[(IPV4_POOLS, r#"["a"]"#)], pools("10.0.0.0/8"));
    check(
        &[(IPV6_POOLS, r#"["six"]"#), (IP_FAMILIES, r#"["IPv6","ipv4"]"#)],
        &[(IP_FAMILIES, r#"["IPv4"]"#)],
        Wishes {
            ipv6_pools: Some(vec!["six".into()]),
            families: Some(vec![Family::V6, Family::V4]),
            ..Wishes::default()
        },
    );
    check(
        &[(IP_ADDRS, r#"["10.0.0.1","fd00::1"]"#)],
        &[(IP_ADDRS, r#"["10.0.0.2"]"#)],
        Wishes { addresses: Addresses::Assigned(vec![ip("10.0.0.1"), ip("fd00::1")]), ..Wishes::default() },
    );
    check(
        &[(IP_ADDRS_NO_IPAM, r#"["10.0.0.1"]"#)],
        &[],
        Wishes { addresses: Addresses::Verbatim(vec![ip("10.0.0.1")]), ..Wishes::default() },
    );
    let mac = Wishes { mac: "1c:0c:0a:c0:ff:ee".parse().ok(), ..Wishes::default() };
    check(&[(HW_ADDR, "1c:0c:0a:c0:ff:ee")], &[], mac.clone());
    check(&[(HW_ADDR, "\"1c:0c:0a:c0:ff:ee\"")], &[], mac);
    check(
        &[(FLOATING_IPS, r#"["192.0.2.1"]"#), (ALLOWED_SOURCES, r#"["10.1.0.0/16","fd00::/8"]"#)],
        &[],
        Wishes {
            floating: vec![ip("192.0.2.1")],
            allowed_sources: vec!["10.1.0.0/16".into(), "fd00::/8".into()],
            ..Wishes::default()
        },
    );
}

#[test]
fn what_is_wrong_is_named() {
    let check = |pod: &[(&str, &str)], conf: serde_json::Value, expected: &str| {
        let error = parse(pod, &[], conf).expect_err("wrong");
        assert!(error.details.contains(expected), "{error}");
        assert!(error.is_final(), "{error}");
    };
    let none = || json!({});
    check(&[(IPV4_POOLS, "a")], none(), "cni.projectcalico.org/ipv4pools is \"a\"; it must be a JSON list");
    check(&[(IP_FAMILIES, r#"["IPv5"]"#)], none(), "\"IPv4\" and \"IPv6\"");
    check(&[(IP_FAMILIES, "[]")], none(), "one of them at least");
    check(&[(IP_ADDRS, r#"["10.0.0.1","10.0.0.2"]"#)], none(), "one IPv4 address, one IPv6 address");
    check(&[(IP_ADDRS, "[]")], none(), "one IPv4 address");
    check(&[(IP_ADDRS, r#"["ten"]"#)], none(), "cni.projectcalico.org/ipAddrs is");
    check(&[(IP_ADDRS_NO_IPAM, r#"["10.0.0.1"]"#)], none(), "feature_control.ip_addrs_no_ipam");
    let both = [(IP_ADDRS, r#"["10.0.0.1"]"#), (IP_ADDRS_NO_IPAM, r#"["10.0.0.1"]"#)];
    check(&both, json!({"feature_control": {"ip_addrs_no_ipam": true}}), "one of the two");
    check(
        &both[1..],
        json!({"feature_control": {"ip_addrs_no_ipam": true}, "ipam": {"type": "host-local"}}),
        "needs ipam.type calico-ipam, not \"host-local\"",
    );
    check(&[(HW_ADDR, "1c:0c")], none(), "cni.projectcalico.org/hwAddr is \"1c:0c\"");
    check(&[(FLOATING_IPS, r#"["192.0.2.1"]"#)], none(), "feature_control.floating_ips: true");
    check(&[(ALLOWED_SOURCES, r#"["10.1.0.0/33"]"#)], none(), "allowedSourcePrefixes is \"10.1.0.0/33\"");
}

#[test]
fn another_ipam_plugin_keeps_its_pools() {
    let pod = [(IPV4_POOLS, r#"["a"]"#), (IP_FAMILIES, r#"["IPv6"]"#), (IP_ADDRS, r#"["10.0.0.1"]"#)];
    let wishes = parse(&pod, &[], json!({"ipam": {"type": "host-local"}})).expect("valid");
    let expected = Wishes { addresses: Addresses::Assigned(vec![ip("10.0.0.1")]), ..Wishes::default() };
    assert_eq!(wishes, expected);
}

#[test]
fn a_floating_address_leads_to_the_pods_own_of_its_family() {
    let wishes = Wishes { floating: vec![ip("192.0.2.1"), ip("2001:db8::1")], ..Wishes::default() };
    let own = [ip("10.0.0.1"), ip("fd00::1")];
    let pairs = vec![(own[0], ip("192.0.2.1")), (own[1], ip("2001:db8::1"))];
    assert_eq!(wishes.translations(&own), Ok(pairs));
    let error = wishes.translations(&own[..1]).expect_err("no IPv6 address");
    assert!(error.details.contains("\"2001:db8::1\"; the pod has no IPv6 address"), "{error}");
}
