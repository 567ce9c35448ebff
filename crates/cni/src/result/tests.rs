//! Results in each version's form, and back.

use super::*;

fn result() -> AddResult {
    AddResult {
        interfaces: vec![
            Interface { name: "cali1".into(), mac: Some(Mac::HOST_VETH), sandbox: None },
            Interface { name: "eth0".into(), mac: None, sandbox: Some("/run/netns/x".into()) },
        ],
        ips: vec![
            Ip {
                address: "10.0.0.1".parse().expect("address"),
                prefix_len: 32,
                gateway: None,
                interface: Some(1),
            },
            Ip {
                address: "fd00::1".parse().expect("address"),
                prefix_len: 128,
                gateway: None,
                interface: Some(1),
            },
        ],
        routes: vec![Route { dst: "0.0.0.0/0".into(), gw: "169.254.1.1".parse().ok() }],
        dns: None,
    }
}

#[test]
fn each_version_has_its_form() {
    let text = |version| result().to_json(version).to_string();
    assert_eq!(
        text(SpecVersion::V0_2_0),
        r#"{"cniVersion":"0.2.0","ip4":{"ip":"10.0.0.1/32","routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}]},"ip6":{"ip":"fd00::1/128"},"dns":{}}"#
    );
    assert_eq!(
        text(SpecVersion::V0_4_0),
        r#"{"cniVersion":"0.4.0","interfaces":[{"name":"cali1","mac":"ee:ee:ee:ee:ee:ee"},{"name":"eth0","sandbox":"/run/netns/x"}],"ips":[{"version":"4","address":"10.0.0.1/32","interface":1},{"version":"6","address":"fd00::1/128","interface":1}],"routes":[{"dst":"0.0.0.0/0","gw":"169.254.1.1"}],"dns":{}}"#
    );
    assert!(!text(SpecVersion::V1_1_0).contains("\"version\""));
}

#[test]
fn every_version_reads_back() {
    for version in SpecVersion::ALL {
        let read = AddResult::from_json(&result().to_json(version)).expect("own output");
        let addresses = |r: &AddResult| r.ips.iter().map(|i| (i.address, i.prefix_len)).collect::<Vec<_>>();
        assert_eq!(addresses(&read), addresses(&result()), "{version}");
        assert_eq!(read.routes, result().routes, "{version}");
    }
}

#[test]
fn garbage_is_refused() {
    for text in [r#"{"ips":[{"address":"x"}]}"#, r#"{"ip4":{}}"#, r#"{"ips":[{}]}"#, r#"{"routes":[{}]}"#] {
        let value = serde_json::from_str(text).expect("JSON");
        assert_eq!(AddResult::from_json(&value), None, "{text}");
    }
}

#[test]
fn dns_is_read_as_it_is_written() {
    let dns = RuntimeDns {
        servers: vec!["10.0.0.10".to_owned()],
        domain: "cluster.local".to_owned(),
        searches: vec!["svc.cluster.local".to_owned()],
        options: vec!["ndots:5".to_owned()],
    };
    let result = AddResult { dns: Some(dns), ..AddResult::default() };
    for version in SpecVersion::ALL {
        let read = AddResult::from_json(&result.to_json(version)).expect("a result");
        assert_eq!(read.dns, result.dns, "{version}");
        let without = AddResult::from_json(&AddResult::default().to_json(version)).expect("a result");
        assert_eq!(without.dns, None, "{version}: an empty object is none");
    }
}
