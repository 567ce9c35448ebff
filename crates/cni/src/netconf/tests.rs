//! Network configurations: defaults, and what each wrong field is told.

use super::*;

#[test]
fn wrong_fields_are_named() {
    for (text, code, expected) in [
        ("", 6, "EOF"),
        ("[1]", 6, "invalid type"),
        (r#"{"name":"n","mtu":"x"}"#, 6, "mtu is \"x\": invalid type: string"),
        (r#"{"name":"n","cniVersion":"2.0.0"}"#, 1, "unsupported CNI version \"2.0.0\""),
        (r#"{"cniVersion":"1.0.0"}"#, 7, "name is \"\""),
        (r#"{"name":"a/b"}"#, 7, "name is \"a/b\""),
        (r#"{"name":"n","mtu":20}"#, 7, "mtu is 20"),
        (r#"{"name":"n","policy_setup_timeout_seconds":-1}"#, 7, "policy_setup_timeout_seconds is -1"),
        (r#"{"name":"n","ipam":{"assign_ipv4":"yes"}}"#, 7, "ipam.assign_ipv4 is \"yes\""),
        (
            r#"{"name":"n","ipam":{"assign_ipv4":true}}"#,
            6,
            "ipam is {\"assign_ipv4\":true}: invalid type: boolean",
        ),
        (r#"{"name":"n","policy":{"type":"mesos"}}"#, 7, "policy.type is \"mesos\""),
        (r#"{"name":"n","log_level":"loud"}"#, 7, "log_level is \"loud\""),
        (r#"{"name":"n","calico_api_group":"v3"}"#, 7, "calico_api_group is \"v3\""),
        (r#"{"name":"n","readiness_gates":["tcp://x"]}"#, 7, "readiness_gates is \"tcp://x\""),
        (r#"{"name":"n","device_type":"macvlan"}"#, 7, "device_type is \"macvlan\""),
        (r#"{"name":"n","dataplane_options":{"type":"grpc"}}"#, 7, "dataplane_options.type is \"grpc\""),
    ] {
        let error = NetConf::parse(text.as_bytes()).expect_err(text);
        assert_eq!(error.code, code, "{text}: {error}");
        assert!(error.details.starts_with(expected), "{text}: {error}");
    }
}

#[test]
fn defaults_are_calicos() {
    let (conf, version) = NetConf::parse(br#"{"name":"net","type":"calico"}"#).expect("valid");
    assert_eq!(version, SpecVersion::V0_2_0);
    assert!(conf.assign(calico_net::Family::V4) && !conf.assign(calico_net::Family::V6));
    assert!(!conf.has_credentials());
    assert_eq!(conf.handle("abc\rdef"), "net.abc");
}

#[test]
fn a_null_is_an_absent_member() {
    for members in [
        r#""ipam":{"type":"calico-ipam","ipv4_pools":null}"#,
        r#""kubernetes":null,"policy":null,"readiness_gates":null,"mtu":null"#,
        r#""runtimeConfig":{"dns":{"servers":null}},"args":null"#,
    ] {
        let text = format!(r#"{{"name":"n",{members}}}"#);
        let (conf, _) = NetConf::parse(text.as_bytes()).unwrap_or_else(|e| panic!("{text}: {e}"));
        assert_eq!(conf.valid_attachments, None);
        assert_eq!(conf.raw.to_string(), serde_json::from_str::<Value>(&text).expect("JSON").to_string());
    }
    // An empty list of attachments, which has everything collected; what is wrong besides is still named.
    let text = r#"{"name":"n","mtu":null,"cni.dev/valid-attachments":null}"#;
    let (conf, _) = NetConf::parse(text.as_bytes()).expect("valid");
    assert_eq!(conf.valid_attachments, Some(Vec::new()));
    let error = NetConf::parse(br#"{"name":"n","args":null,"mtu":"x"}"#).expect_err("wrong");
    assert!(error.details.starts_with("mtu is \"x\": invalid type"), "{error}");
}

#[test]
fn what_has_no_effect_is_said_by_name() {
    let text = br#"{"name":"n","mode":"vxlan","windows_use_single_network":true,"device_type":"netkit"}"#;
    let (conf, _) = NetConf::parse(text).expect("valid");
    let expected = [
        "device_type netkit: a veth is made",
        "mode is for Windows",
        "windows_use_single_network is for Windows",
    ];
    assert_eq!(conf.without_effect(), expected);
}

#[test]
fn members_are_found_by_the_names_that_lead_to_them() {
    let text = br#"{"name":"n","kubernetes":{"kubeconfig":"/k"},"burst":5,"policy":{}}"#;
    let (conf, _) = NetConf::parse(text).expect("valid");
    for (path, expected) in [
        ("name", Some("n")),
        ("kubernetes.kubeconfig", Some("/k")),
        ("burst", Some("5")),
        ("policy", None),
        ("policy.k8s_api_root", None),
        ("name.of", None),
    ] {
        assert_eq!(conf.text(path).as_deref(), expected, "{path}");
    }
}
