//! Wrong environments, configurations and machines, and what the plugin's process answers: one CNI error object.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::machine::{Machine, on_machine};

const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_NETNS", "/run/netns/c1"),
    ("CNI_IFNAME", "eth0"),
];

/// ADD's environment with one variable changed, or left out.
fn without(name: &str, value: Option<&'static str>) -> Vec<(&'static str, &'static str)> {
    let kept = ADD.into_iter().filter(|(n, _)| *n != name);
    let changed = ADD.into_iter().find(|(n, _)| *n == name).and_then(|(n, _)| Some((n, value?)));
    kept.chain(changed).collect()
}

fn answer(machine: &Machine, environment: &[(&str, &str)], input: &str) -> (Value, String, String) {
    let error = machine.spawn("calico", environment, input.as_bytes()).finish().expect_err(input);
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    assert!(error["cniVersion"].is_string(), "{error}");
    (error["code"].clone(), text("msg"), text("details"))
}

#[test]
fn the_environment_is_named() {
    on_machine(|machine| {
        let conf = machine.direct().to_string();
        for (environment, details) in [
            (
                without("CNI_COMMAND", Some("add")),
                "CNI_COMMAND is \"add\"; it must be ADD, DEL, CHECK, STATUS, GC or VERSION",
            ),
            (
                without("CNI_CONTAINERID", None),
                "CNI_CONTAINERID is \"\"; it must begin with a letter or digit, then letters, digits, '_', '.' or '-'",
            ),
            (
                without("CNI_CONTAINERID", Some("a/b")),
                "CNI_CONTAINERID is \"a/b\"; it must begin with a letter or digit, then letters, digits, '_', '.' or '-'",
            ),
            (
                without("CNI_IFNAME", None),
                "CNI_IFNAME is \"\"; it must be an interface name of 1 to 15 characters",
            ),
            (
                without("CNI_IFNAME", Some("an-interface-too-long")),
                "CNI_IFNAME is \"an-interface-too-long\"; it must be an interface name of 1 to 15 characters",
            ),
            (
                without("CNI_NETNS", None),
                "CNI_NETNS is missing; it is the path of the container's network namespace",
            ),
            (
                without("CNI_NETNS", Some("/run/netns/none")),
                "CNI_NETNS is \"/run/netns/none\": No such file or directory (os error 2)",
            ),
            (
                without("CNI_NETNS", Some("/proc/self/status")),
                "CNI_NETNS is \"/proc/self/status\"; it is not a network namespace",
            ),
        ] {
            let (code, _, said) = answer(&machine, &environment, &conf);
            assert_eq!((code, said.as_str()), (4.into(), details));
        }
        let (code, _, said) = answer(&machine, &without("CNI_NETNS", Some("/proc/self/ns/net")), &conf);
        assert_eq!(code, 8, "{said}");
        assert_eq!(machine.leftovers(), BTreeSet::new());
    });
}

#[test]
fn the_configuration_is_named() {
    on_machine(|machine| {
        let _container = machine.container("c1");
        let with = |members: Value| {
            let mut conf = machine.direct();
            conf.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            conf.to_string()
        };
        for (input, code, msg, details) in [
            (
                String::new(),
                6,
                "cannot decode the network configuration",
                "EOF while parsing a value at line 1 column 0",
            ),
            (
                "{".to_owned(),
                6,
                "cannot decode the network configuration",
                "EOF while parsing an object at line 1 column 1",
            ),
            (
                with(json!({"mtu": "1500"})),
                6,
                "cannot decode the network configuration",
                "mtu is \"1500\": invalid type: string \"1500\", expected u32",
            ),
            (
                with(json!({"cniVersion": "2.0.0"})),
                1,
                "incompatible CNI version",
                "unsupported CNI version \"2.0.0\": this plugin speaks 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0",
            ),
            (
                with(json!({"log_level": "loud"})),
                7,
                "invalid network configuration",
                "log_level is \"loud\"; it must be debug, info, warning or error",
            ),
            (
                with(json!({"policy": {"type": "mesos"}})),
                7,
                "invalid network configuration",
                "policy.type is \"mesos\"; it must be absent or \"k8s\"",
            ),
            (
                with(json!({"policy_setup_timeout_seconds": -1})),
                7,
                "invalid network configuration",
                "policy_setup_timeout_seconds is -1; it must not be negative",
            ),
            (
                with(json!({"nodename": ""})),
                11,
                "this node's name is not known",
                "/var/lib/calico/nodename: No such file or directory (os error 2); check that calico node is running and has /var/lib/calico/ mounted",
            ),
            (
                with(json!({"require_mtu_file": true})),
                11,
                "the MTU is not known",
                "/var/lib/calico/mtu: No such file or directory (os error 2); require_mtu_file is true",
            ),
        ] {
            let (found, said, why) = answer(&machine, &ADD, &input);
            assert_eq!((found, said.as_str(), why.as_str()), (code.into(), msg, details));
        }
        assert_eq!(machine.leftovers(), BTreeSet::new());
    });
}

#[test]
fn the_datastore_is_named() {
    on_machine(|machine| {
        let _container = machine.container("c1");
        let with = |members: Value| {
            let mut conf = machine.conf();
            conf["nodename"] = "host1".into();
            conf.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
            conf.to_string()
        };
        for (input, code, msg, needle) in [
            (with(json!({"datastore_type": "oracle"})), 7, "invalid datastore configuration", "oracle"),
            (
                with(json!({"datastore_type": "etcdv3", "etcd_endpoints": "nonsense"})),
                7,
                "invalid datastore configuration",
                "nonsense",
            ),
            (
                with(json!({"datastore_type": "embedded", "datastore_path": "/proc/none/calico.db"})),
                11,
                "cannot reach the datastore",
                "/proc/none",
            ),
        ] {
            let (found, said, why) = answer(&machine, &ADD, &input);
            assert_eq!((found, said.as_str()), (code.into(), msg), "{why}");
            assert!(why.contains(needle), "{why}");
        }
    });
}
