//! Wrong manifests: what `calicoctl create` says of each, and that nothing of it is stored.

use std::process::Command;

use crate::{binary, differences, run, text};

/// Kind, name, specification, and what is said behind `failed to create '<Kind>' resource: `.
const INVALID: [(&str, &str, &str, &str); 27] = [
    ("IPPool", "x", "{}", "spec.cidr: is not an IP address or CIDR such as 10.0.0.0/24 or fd00::/64"),
    (
        "IPPool",
        "x",
        "{cidr: 10.0.0.0/33}",
        "spec.cidr: \"10.0.0.0/33\": prefix length 33 is longer than IPv4 allows (32)",
    ),
    (
        "IPPool",
        "x",
        "{cidr: 10.0.0.1/16}",
        "spec.cidr: \"10.0.0.1/16\": has host bits set; the network is 10.0.0.0/16",
    ),
    (
        "IPPool",
        "x",
        "{cidr: 10.0.0.0/16, blockSize: 33}",
        "spec.blockSize: \"33\": must be from 20 to 32 in an IPv4 pool",
    ),
    (
        "IPPool",
        "x",
        "{cidr: 10.0.0.0/28, blockSize: 26}",
        "spec.cidr: \"10.0.0.0/28\": is smaller than one block of /26",
    ),
    (
        "IPPool",
        "x",
        "{cidr: 10.0.0.0/16, ipipMode: Sometimes}",
        "spec.ipipMode: \"Sometimes\": must be one of Never, Always, CrossSubnet",
    ),
    (
        "IPPool",
        "x",
        "{cidr: 10.0.0.0/16, ipipMode: Always, vxlanMode: Always}",
        "spec.ipipMode: cannot be combined with vxlanMode: one must be Never",
    ),
    (
        "IPPool",
        "x",
        "{cidr: 10.0.0.0/16, nodeSelector: 'has('}",
        "spec.nodeSelector: \"has(\": bad selector at byte 4: expected a label name, found the end",
    ),
    (
        "NetworkPolicy",
        "x",
        "{selector: \"a = 'b'\"}",
        "spec.selector: \"a = 'b'\": bad selector at byte 2: expected `==`, found `= 'b'`",
    ),
    (
        "NetworkPolicy",
        "x",
        "{ingress: [{action: Permit}]}",
        "spec.ingress[0].action: \"Permit\": must be one of Allow, Deny, Log, Pass",
    ),
    (
        "NetworkPolicy",
        "x",
        "{ingress: [{action: Allow, destination: {ports: [80]}}]}",
        "spec.ingress[0].destination.ports[0]: \"80\": needs protocol TCP, UDP or SCTP",
    ),
    (
        "NetworkPolicy",
        "x",
        "{ingress: [{action: Allow, source: {nets: [10.0.0.0/8, 'fd00::/8']}}]}",
        "spec.ingress[0].source.nets[1]: \"fd00::/8\": must be IPv4 like the rest of the rule",
    ),
    (
        "NetworkPolicy",
        "x",
        "{ingress: [{action: Allow, protocol: 300}]}",
        "spec.ingress[0].protocol: \"300\": is not a protocol: use TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255",
    ),
    (
        "NetworkPolicy",
        "x",
        "{ingress: [{action: Allow, protocol: ICMP, icmp: {type: 300}}]}",
        "spec.ingress[0].icmp.type: \"300\": must be from 0 to 254",
    ),
    (
        "NetworkPolicy",
        "x",
        "{ingress: [{action: Allow, protocol: ICMP, icmp: {code: 3}}]}",
        "spec.ingress[0].icmp.code: \"3\": needs a type",
    ),
    ("NetworkPolicy", "x", "{types: [Inbound]}", "spec.types[0]: \"Inbound\": must be Ingress or Egress"),
    ("NetworkPolicy", "x", "{tier: nosuch}", "spec.tier: \"nosuch\": is no tier: create it first"),
    (
        "NetworkPolicy",
        "UPPER",
        "{}",
        "metadata.name: \"UPPER\": must be lower-case letters, digits and inner dashes, with at most one dot",
    ),
    (
        "GlobalNetworkPolicy",
        "x",
        "{doNotTrack: true, applyOnForward: false}",
        "spec.applyOnForward: \"false\": must be true with doNotTrack or preDNAT",
    ),
    ("Tier", "default", "{order: 5}", "spec.order: \"5\": must be 1000000: tier default is built in"),
    ("Tier", "x", "{defaultAction: Allow}", "spec.defaultAction: \"Allow\": must be Deny or Pass"),
    ("HostEndpoint", "x", "{interfaceName: eth0}", "spec.node: is needed"),
    (
        "BGPPeer",
        "x",
        "{peerIP: 10.0.0.256, asNumber: 64512}",
        "spec.peerIP: \"10.0.0.256\": must be an IP address, IPv4:port or [IPv6]:port",
    ),
    (
        "FelixConfiguration",
        "default",
        "{routeRefreshInterval: soon}",
        "spec.routeRefreshInterval: \"soon\": is not a duration such as 90s, 1m30s or 500ms",
    ),
    (
        "NetworkSet",
        "x",
        "{nets: [10.0.0.0/8, nonsense]}",
        "spec.nets[1]: \"nonsense\": is not an IP address or CIDR such as 10.0.0.0/24 or fd00::/64",
    ),
    (
        "Node",
        "x",
        "{bgp: {ipv6Address: 10.0.0.1/24}}",
        "spec.bgp.ipv6Address: \"10.0.0.1/24\": must be an IPv6 address",
    ),
    (
        "ClusterInformation",
        "default",
        "{clusterGUID: x}",
        "operation create is not supported on ClusterInformation(default): Calico keeps it itself",
    ),
];

/// Whole files, and what is said behind `failed to execute command: -: `.
const UNREADABLE: [(&str, &str); 13] = [
    ("hello", "document 1: \"hello\": is no resource: kind, apiVersion, metadata and spec are needed"),
    ("metadata: {name: x}", "document 1: kind: is needed"),
    ("{kind: Teir, metadata: {name: x}}", "document 1 (Teir x): kind: \"Teir\": is no kind of resource"),
    (
        "{kind: Tier, apiVersion: v1, metadata: {name: x}}",
        "document 1 (Tier x): apiVersion: \"v1\": must be projectcalico.org/v3",
    ),
    ("{kind: Tier, apiVersion: projectcalico.org/v3}", "document 1 (Tier): metadata: is needed"),
    (
        "{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {cidr: 10.0.0.0/16, natOutgoin: true}}",
        "document 1 (IPPool x): spec.natOutgoin: \"true\": this field is not known here: it is misspelt or in the wrong place",
    ),
    (
        "{kind: Tier, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {order: high}}",
        "document 1 (Tier x): spec.order: \"high\": must be a number",
    ),
    (
        "{kind: NetworkPolicy, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {ingress: [{action: Allow, protocol: TCP, destination: {ports: [70000]}}]}}",
        "document 1 (NetworkPolicy x): spec.ingress[0].destination.ports[0]: \"70000\": is not a port: use a number from 1 to 65535, a range such as \"80:90\", or a port name",
    ),
    (
        "{kind: HostEndpoint, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {node: n}}",
        "document 1 (HostEndpoint x): spec.node: \"false\": is true or false, must be a string: put it in quotes (YAML reads a bare y, n, yes, no, on and off as true or false)",
    ),
    (
        "{kind: BGPPeer, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {asNumber: 4294967296}}",
        "document 1 (BGPPeer x): spec.asNumber: \"4294967296\": expected an AS number: 0 to 4294967295, or dotted text such as \"1.10\"",
    ),
    (
        "{kind: Tier, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {order: high, defaultAction: Allow}}",
        "\n  document 1 (Tier x): spec.order: \"high\": must be a number\n  document 1 (Tier x): spec.defaultAction: \"Allow\": must be Deny or Pass",
    ),
    (
        "a: 1\na: 2\n",
        "line 2 column 1: duplicate mapping key: a\n --> <input>:2:1\n  |\n1 | a: 1\n2 | a: 2\n  | ^ duplicate mapping key: a",
    ),
    (
        "a: [",
        "line 1 column 4: unclosed bracket '['\n --> <input>:1:4\n  |\n1 | a: [\n  |    ^ unclosed bracket '['",
    ),
];

#[test]
fn a_wrong_manifest_is_told_where_and_why() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.db");
    let environment = [("DATASTORE_TYPE", "embedded"), ("CALICO_DATASTORE_PATH", store.to_str().unwrap())];
    let calicoctl = binary(dir.path(), "calicoctl");
    let create = |manifest: &str| {
        let output = run(Command::new(&calicoctl).args(["create", "-f", "-"]), &environment, manifest);
        assert_eq!(text(&output.stdout), "", "{manifest}");
        (output.status.code(), text(&output.stderr))
    };
    let invalid: Vec<(String, String)> = INVALID
        .iter()
        .map(|(kind, name, spec, message)| {
            let manifest = format!(
                "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n"
            );
            (manifest, format!("failed to create '{kind}' resource: {message}"))
        })
        .chain(UNREADABLE.iter().map(|(manifest, message)| {
            (
                (*manifest).to_owned(),
                format!("failed to execute command: -: {message}").replace(": \n", ":\n"),
            )
        }))
        .collect();
    let wrong = differences(
        invalid.iter().map(|(manifest, message)| (manifest.clone(), (1, message.as_str()), create(manifest))),
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for kind in ["ippools", "networkpolicies", "tiers", "bgppeers", "hostendpoints", "networksets", "nodes"] {
        let output = run(Command::new(&calicoctl).args(["get", kind, "-o", "json"]), &environment, "");
        let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(listed["items"], serde_json::json!([]), "{kind}");
    }
}
