//! Wrong network configurations and CNI environments: the error object that each gets.

use std::process::Command;

use serde_json::{Value, json};

use crate::{binary, run, text};

/// A configuration that works but for the changed members, in an environment that does but for the changed variables.
fn call(dir: &std::path::Path, members: &Value, variables: &[(&str, &str)]) -> (Option<i32>, Value) {
    let store = dir.join("store.db");
    let mut conf = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "calico", "nodename": "n", "ipam": {"type": "calico-ipam"},
        "datastore_type": "embedded", "datastore_path": store,
    });
    let input = match members {
        Value::Object(members) => {
            conf.as_object_mut().unwrap().extend(members.clone());
            conf.to_string()
        }
        // Not a configuration at all.
        other => other.as_str().map_or_else(|| other.to_string(), str::to_owned),
    };
    let mut environment = vec![
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        // The host's own: whoever gets so far is refused there.
        ("CNI_NETNS", "/proc/self/ns/net"),
        ("CNI_PATH", "/nonexistent"),
    ];
    environment.retain(|(name, _)| variables.iter().all(|(n, _)| n != name));
    environment.extend(variables.iter().copied().filter(|(_, value)| *value != "(unset)"));
    let output = run(&mut Command::new(binary(dir, "calico")), &environment, &input);
    (output.status.code(), serde_json::from_str(&text(&output.stdout)).unwrap_or(Value::Null))
}

#[test]
fn a_wrong_configuration_or_environment_gets_its_error_object() {
    let undecodable = "cannot decode the network configuration";
    let invalid = "invalid network configuration";
    let datastore = "invalid datastore configuration";
    let environment = "invalid environment";
    let cases: [(Value, &[(&str, &str)], u32, &str, &str); 21] = [
        (json!("{"), &[], 6, undecodable, "EOF while parsing an object at line 1 column 1"),
        (json!([]), &[], 6, undecodable, "invalid type: it is [], it must be a JSON object"),
        (
            json!({"mtu": "1500"}),
            &[],
            6,
            undecodable,
            "mtu is \"1500\": invalid type: string \"1500\", expected u32",
        ),
        (
            json!({"ipam": {"type": "calico-ipam", "assign_ipv4": true}}),
            &[],
            6,
            undecodable,
            "ipam is {\"type\":\"calico-ipam\",\"assign_ipv4\":true}: invalid type: boolean `true`, expected a string",
        ),
        (
            json!({"cniVersion": "2.0.0"}),
            &[],
            1,
            "incompatible CNI version",
            "unsupported CNI version \"2.0.0\": this plugin speaks 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
        ),
        (json!({"mtu": 9}), &[], 7, invalid, "mtu is 9; it must be from 68 to 65535, or 0 for automatic"),
        (
            json!({"name": "a b"}),
            &[],
            7,
            invalid,
            "name is \"a b\"; it must be letters, digits, '_', '.' or '-'",
        ),
        (
            json!({"log_level": "loud"}),
            &[],
            7,
            invalid,
            "log_level is \"loud\"; it must be debug, info, warning or error",
        ),
        (
            json!({"ipam": {"type": "calico-ipam", "assign_ipv4": "yes"}}),
            &[],
            7,
            invalid,
            "ipam.assign_ipv4 is \"yes\"; it must be the text \"true\" or \"false\"",
        ),
        (
            json!({"policy_setup_timeout_seconds": -1}),
            &[],
            7,
            invalid,
            "policy_setup_timeout_seconds is -1; it must not be negative",
        ),
        (
            json!({"datastore_type": "etcd"}),
            &[],
            7,
            datastore,
            "datastore_type: \"etcd\" is not etcdv3, kubernetes or embedded",
        ),
        (
            json!({"datastore_type": "etcdv3"}),
            &[],
            7,
            datastore,
            "datastore_type is set but etcd_endpoints is not: etcd has no address",
        ),
        (
            json!({"datastore_type": "etcdv3", "etcd_endpoints": "a:1"}),
            &[],
            7,
            datastore,
            "etcd_endpoints: \"a:1\" is not of the form http://host:port or https://host:port",
        ),
        (
            json!({"cniVersion": "0.3.1"}),
            &[("CNI_COMMAND", "CHECK")],
            1,
            "incompatible CNI version",
            "Check exists since CNI 0.4.0; the configuration says 0.3.1",
        ),
        (
            json!({"nodename": "", "nodename_file": "/nonexistent"}),
            &[],
            11,
            "this node's name is not known",
            "/nonexistent: No such file or directory (os error 2); check that calico node is running and has /var/lib/calico/ mounted",
        ),
        (
            json!({}),
            &[("CNI_COMMAND", "add")],
            4,
            environment,
            "CNI_COMMAND is \"add\"; it must be ADD, DEL, CHECK, STATUS, GC or VERSION",
        ),
        (
            json!({}),
            &[("CNI_CONTAINERID", "../x")],
            4,
            environment,
            "CNI_CONTAINERID is \"../x\"; it must begin with a letter or digit, then letters, digits, '_', '.' or '-'",
        ),
        (
            json!({}),
            &[("CNI_IFNAME", "a/b")],
            4,
            environment,
            "CNI_IFNAME is \"a/b\"; it must be an interface name of 1 to 15 characters",
        ),
        (
            json!({}),
            &[("CNI_NETNS", "(unset)")],
            4,
            environment,
            "CNI_NETNS is missing; it is the path of the container's network namespace",
        ),
        (
            json!({}),
            &[("CNI_NETNS", "/nonexistent")],
            4,
            "cannot open the network namespace",
            "CNI_NETNS is \"/nonexistent\": No such file or directory (os error 2)",
        ),
        (
            json!({}),
            &[],
            8,
            "invalid network namespace",
            "CNI_NETNS is \"/proc/self/ns/net\"; it is the host's own, a container needs another",
        ),
    ];
    let dir = tempfile::tempdir().unwrap();
    drop(calico_store::EmbeddedStore::open(dir.path().join("store.db")).unwrap());
    let mut wrong = Vec::new();
    for (members, variables, code, msg, details) in cases {
        // The last one is about privilege: only root may look.
        if code == 8 && !nix::unistd::geteuid().is_root() {
            println!("skipped: {msg}: not root");
            continue;
        }
        let (status, found) = call(dir.path(), &members, variables);
        let version = if members["cniVersion"] == "0.3.1" { "0.3.1" } else { "1.1.0" };
        let expected = json!({"cniVersion": version, "code": code, "msg": msg, "details": details});
        if (status, &found) != (Some(1), &expected) {
            wrong.push(format!(
                "{members} {variables:?}\n  expected {expected}\n  found {status:?} {found}\n"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
