//! Wrong environments of `calico node`: it ends at once and its last line says which variable is wrong.
//!
//! Each start is in network and mount namespaces of its own, with nothing of the machine's state in sight.

use std::process::Command;

use crate::{differences, run, text};

const CASES: [(&[(&str, &str)], &str); 15] = [
    (
        &[("IP", "10.0.0.300")],
        "start: IP: \"10.0.0.300\" is not an IP address or CIDR such as 10.0.0.0/24 or fd00::/64",
    ),
    (&[("IP", "fd00::1")], "start: IP: fd00::1 is not an IPv4 address"),
    (
        &[("AS", "70000000000")],
        "start: AS: \"70000000000\" is not an AS number; use 0 to 4294967295, or dotted text such as 1.10",
    ),
    (
        &[("CALICO_IPV4POOL_CIDR", "10.0.0.1/16")],
        "start: CALICO_IPV4POOL_CIDR: \"10.0.0.1/16\" has host bits set; the network is 10.0.0.0/16",
    ),
    (
        &[("CALICO_IPV6POOL_CIDR", "10.0.0.0/16")],
        "start: CALICO_IPV6POOL_CIDR: 10.0.0.0/16 is not an IPv6 prefix",
    ),
    (
        &[("CALICO_IPV4POOL_BLOCK_SIZE", "33")],
        "start: CALICO_IPV4POOL_BLOCK_SIZE: \"33\" is not a length from 20 to 32",
    ),
    (
        &[("CALICO_IPV4POOL_IPIP", "Sometimes")],
        "start: CALICO_IPV4POOL_IPIP: \"Sometimes\" is none of Never, Always, CrossSubnet",
    ),
    (
        &[("CALICO_IPV4POOL_NODE_SELECTOR", "has(")],
        "start: CALICO_IPV4POOL_NODE_SELECTOR: bad selector at byte 4: expected a label name, found the end",
    ),
    (
        &[("CALICO_NETWORKING_BACKEND", "ospf")],
        "start: CALICO_NETWORKING_BACKEND: \"ospf\" is none of bird, vxlan, none",
    ),
    (
        &[("IP_AUTODETECTION_METHOD", "interfaces=eth0")],
        "start: IP_AUTODETECTION_METHOD: \"interfaces=eth0\" is no method: first-found, can-reach=DESTINATION, interface=REGEX, skip-interface=REGEX or cidr=CIDR",
    ),
    (&[("IP", "autodetect")], "start: no IPv4 address of this node was found by first-found"),
    (&[("WAIT_FOR_DATASTORE", "Maybe")], "start: WAIT_FOR_DATASTORE: \"Maybe\" is neither true nor false"),
    (
        &[("DATASTORE_TYPE", "etcd")],
        "datastore: DATASTORE_TYPE: \"etcd\" is not etcdv3, kubernetes or embedded",
    ),
    (
        &[("FELIX_DATASTORETYPE", "nope")],
        "datastore: FELIX_DATASTORETYPE: \"nope\" is not etcdv3, kubernetes or embedded",
    ),
    (
        &[("CALICO_DATASTORE_PATH", "/proc/none/store.db")],
        "datastore: cannot open the datastore /proc/none/store.db: the datastore does not answer: /proc/none: No such file or directory (os error 2)",
    ),
];

/// What the agent was told as its reason, without the logger's quoting.
fn reason(log: &str) -> String {
    let last = log.lines().rfind(|l| l.contains("terminating error=\"")).unwrap_or(log);
    let quoted = last.split_once("terminating error=\"").map_or(last, |(_, rest)| rest.trim_end());
    quoted.strip_suffix('"').unwrap_or(quoted).replace("\\\"", "\"")
}

#[test]
fn a_wrong_environment_ends_the_start_and_is_named() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: namespaces need root");
        return;
    }
    let start = |variables: &[(&str, &str)]| {
        let script = format!(
            "mount -t tmpfs none /run && mount -t tmpfs none /var/lib && exec {} node",
            env!("CARGO_BIN_EXE_calico")
        );
        let mut environment = vec![
            ("DATASTORE_TYPE", "embedded"),
            ("CALICO_DATASTORE_PATH", "/var/lib/calico/store.db"),
            ("NODENAME", "n"),
        ];
        environment.extend(variables);
        let output = run(Command::new("unshare").args(["-nm", "sh", "-c", &script]), &environment, "");
        (output.status.code(), reason(&(text(&output.stdout) + &text(&output.stderr))))
    };
    let wrong = differences(
        CASES.iter().map(|(variables, message)| (format!("{variables:?}"), (1, *message), start(variables))),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
