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
