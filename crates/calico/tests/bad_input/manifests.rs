//! Wrong manifests: what `calicoctl create` says of each, and that nothing of it is stored.

use std::process::Command;

use crate::{binary, differences, run, text};

/// Kind, name, specification, and what is said behind `failed to create '<Kind>' resource: ` and the place.
const INVALID: [(&str, &str, &str, &str); 33] = [
    ("IPPool", "x", "{}", "spec.cidr: is needed; use a CIDR such as 10.0.0.0/24 or fd00::/64"),
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
        "spec.ipipMode: cannot be combined with vxlanMode; one must be Never",
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
        "spec.ingress[0].destination.ports[0]: \"80\": needs a protocol; add protocol: TCP, UDP or SCTP",
    ),
    (
        "NetworkPolicy",
        "x",
        "{ingress: [{action: Allow, protocol: ICMP, destination: {ports: [80]}}]}",
        "spec.ingress[0].destination.ports[0]: \"80\": does not go with protocol ICMP; use protocol: TCP, UDP or SCTP",
    ),
    (
        "NetworkPolicy",
        "x",
        "{ingress: [{action: Allow, icmp: {type: 8}}]}",
        "spec.ingress[0].icmp: \"type 8\": needs a protocol; add protocol: ICMP or ICMPv6",
    ),
    (
        "NetworkPolicy",
        "x",
        "{ingress: [{action: Allow, protocol: UDP, icmp: {type: 8, code: 0}}]}",
        "spec.ingress[0].icmp: \"type 8, code 0\": does not go with protocol UDP; use protocol: ICMP or ICMPv6",
    ),
    (
        "NetworkPolicy",
        "x",
        "{selector: app == web}",
        "spec.selector: \"app == web\": bad selector at byte 7: expected a quoted value, found `web`; write app == \"web\"",
    ),
    (
        "FelixConfiguration",
        "default",
        "{logSeverityScren: Info}",
        "spec.logSeverityScren: \"Info\": is no option; did you mean \"logSeverityScreen\"?",
    ),
    (
        "BGPConfiguration",
        "default",
        "{communities: [{name: a, value: '1:2'}]}",
        "spec.communities: are not used; add prefixAdvertisements that name them",
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
        "spec.ingress[0].protocol: \"300\": is not a protocol; use TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255",
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
    ("NetworkPolicy", "x", "{tier: nosuch}", "spec.tier: \"nosuch\": is no tier; create it first"),
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
    ("Tier", "default", "{order: 5}", "spec.order: \"5\": must be 1000000; tier default is built in"),
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

/// Whole files, and what is said behind `failed to execute command: ` of each thing that is wrong, one line for each.
const UNREADABLE: [(&str, &[&str]); 20] = [
    ("hello", &["document 1: \"hello\": is no resource; kind, apiVersion, metadata and spec are needed"]),
    ("metadata: {name: x}", &["document 1 (x): kind: is needed; use one such as NetworkPolicy"]),
    (
        "{kind: Teir, metadata: {name: x}}",
        &["document 1 (Teir x): kind: \"Teir\": is no kind of resource; did you mean \"Tier\"?"],
    ),
    (
        "{kind: networkpolicy, metadata: {name: x, namespace: shop}}",
        &[
            "document 1 (networkpolicy shop/x): kind: \"networkpolicy\": is no kind of resource; did you mean \"NetworkPolicy\"?",
        ],
    ),
    (
        "{kind: Deployment}",
        &[
            "document 1 (Deployment): kind: \"Deployment\": is no kind of resource; use one of Calico's, such as NetworkPolicy",
        ],
    ),
    (
        "{kind: Tier, apiVersion: v1, metadata: {name: x}}",
        &["document 1 (Tier x): apiVersion: \"v1\": must be projectcalico.org/v3"],
    ),
    (
        "{kind: Tier, metadata: {name: x}}",
        &["document 1 (Tier x): apiVersion: is needed; use projectcalico.org/v3"],
    ),
    ("{kind: Tier, apiVersion: projectcalico.org/v3}", &["document 1 (Tier): metadata: is needed"]),
    (
        "{kind: Tier, apiVersion: projectcalico.org/v3, metadata: {nam: x}, sepc: {order: 5}}",
        &[
            "document 1 (Tier): sepc: \"{\\\"order\\\":5}\": this field is not known here; did you mean \"spec\"?",
            "document 1 (Tier): metadata.nam: \"x\": this field is not known here; did you mean \"name\"?",
            "document 1 (Tier): metadata.name: is needed",
        ],
    ),
    (
        "{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {cidr: 10.0.0.0/16, natOutgoin: true}}",
        &[
            "document 1 (IPPool x): spec.natOutgoin: \"true\": this field is not known here; did you mean \"natOutgoing\"?",
        ],
    ),
    (
        "{kind: IPPool, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {cidr: 10.0.0.0/16, frobnicate: 5}}",
        &[
            "document 1 (IPPool x): spec.frobnicate: \"5\": this field is not known here; it is misspelt or in the wrong place",
        ],
    ),
    (
        "{kind: Tier, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {order: high}}",
        &["document 1 (Tier x): spec.order: \"high\": must be a number"],
    ),
    (
        "{kind: NetworkPolicy, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {ingress: [{action: Allow, protocol: TCP, destination: {ports: [70000, '90:80', '90:0']}}]}}",
        &[
            "document 1 (NetworkPolicy x): spec.ingress[0].destination.ports[0]: \"70000\": is not a port; use a number from 1 to 65535, a range such as \"80:90\", or a port name",
            "document 1 (NetworkPolicy x): spec.ingress[0].destination.ports[1]: \"90:80\": is a range whose first port is after its last; use \"80:90\"",
            "document 1 (NetworkPolicy x): spec.ingress[0].destination.ports[2]: \"90:0\": is not a port; use a number from 1 to 65535, a range such as \"80:90\", or a port name",
        ],
    ),
    (
        "{kind: NetworkPolicy, apiVersion: projectcalico.org/v3, metadata: {name: x, namespace: shop}, spec: {ingress: [{action: Allow, protocol: [], source: {selector: 'app in {web}'}}]}}",
        &[
            "document 1 (NetworkPolicy shop/x): spec.ingress[0].protocol: \"[]\": must be a number or text",
            "document 1 (NetworkPolicy shop/x): spec.ingress[0].source.selector: \"app in {web}\": bad selector at byte 8: expected a quoted value or `}`, found `web}`; write \"web\"",
        ],
    ),
    (
        "{kind: HostEndpoint, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {node: n}}",
        &[
            "document 1 (HostEndpoint x): spec.node: \"false\": is true or false, must be a string; put it in quotes (YAML reads a bare y, n, yes, no, on and off as true or false)",
        ],
    ),
    (
        "{kind: BGPPeer, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {asNumber: 4294967296}}",
        &[
            "document 1 (BGPPeer x): spec.asNumber: \"4294967296\": is not an AS number; use 0 to 4294967295, or dotted text such as 1.10",
        ],
    ),
    (
        "{kind: Tier, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {order: high, defaultAction: Allow}}",
        &[
            "document 1 (Tier x): spec.order: \"high\": must be a number",
            "document 1 (Tier x): spec.defaultAction: \"Allow\": must be Deny or Pass",
        ],
    ),
    ("a: 1\na: 2\n", &["line 2 column 1: duplicate mapping key: a"]),
    ("a: [", &["line 1 column 4: unclosed bracket '['"]),
    ("kind: Tier\n  x: 1", &["line 2 column 4: mapping values are not allowed in this context"]),
];

/// Commands that read the manifest from standard input, a manifest whose rules are broken, and all that is said.
const VERBS: [(&str, &str); 6] = [
    ("apply -f -", "failed to apply 'BGPPeer' resource: PLACE"),
    ("create -f -", "failed to create 'BGPPeer' resource: PLACE"),
    ("replace -f -", "failed to replace 'BGPPeer' resource: resource does not exist: BGPPeer(x)"),
    ("validate -f -", "failed to validate 'BGPPeer' resource: PLACE"),
    ("bgp plan --offline -f -", "failed to execute command: PLACE"),
    (
        "delete -f -",
        "Failed to delete 'BGPPeer' resource: resource does not exist: BGPPeer(x)\nfailed to delete 1 out of 1 resources",
    ),
];

#[test]
fn every_command_tells_the_place_of_a_broken_rule() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store.db");
    let environment = [("DATASTORE_TYPE", "embedded"), ("CALICO_DATASTORE_PATH", store.to_str().unwrap())];
    let calicoctl = binary(dir.path(), "calicoctl");
    let manifest =
        "{kind: BGPPeer, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {sourceAddress: Any}}";
    let place =
        "standard input: document 1 (BGPPeer x): spec.sourceAddress: \"Any\": must be UseNodeIP or None";
    let cases: Vec<(&str, String)> =
        VERBS.iter().map(|(verb, message)| (*verb, message.replace("PLACE", place))).collect();
    let wrong = differences(cases.iter().map(|(verb, message)| {
        let output = run(Command::new(&calicoctl).args(verb.split(' ')), &environment, manifest);
        ((*verb).to_owned(), (1, message.as_str()), (output.status.code(), text(&output.stderr)))
    }));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

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
            // The datastore's own refusals name the resource themselves.
            let place = if message.starts_with("operation ") {
                String::new()
            } else {
                format!("standard input: document 1 ({kind} {name}): ")
            };
            (manifest, format!("failed to create '{kind}' resource: {place}{message}"))
        })
        .chain(UNREADABLE.iter().map(|(manifest, messages)| {
            let told = match messages {
                [message] => format!(" standard input: {message}"),
                messages => messages.iter().map(|message| format!("\n  standard input: {message}")).collect(),
            };
            ((*manifest).to_owned(), format!("failed to execute command:{told}"))
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
