//! Bad resources and the error that each gets; good ones of the reference get none.

use serde_json::Value;

use super::*;
use crate::{Key, defaults, document};

/// `field: reason…` of every error of a resource written in YAML, defaults filled in.
fn errors(kind: &str, name: &str, spec: &str) -> Vec<String> {
    let namespace =
        if matches!(kind, "NetworkPolicy" | "NetworkSet" | "WorkloadEndpoint" | "StagedNetworkPolicy") {
            "namespace: ns, "
        } else {
            ""
        };
    let text = format!(
        "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{{namespace}name: {name}}}\nspec: {spec}\n"
    );
    let mut resource = document::parse_documents(&text).unwrap_or_else(|e| panic!("{text}: {e}")).remove(0);
    defaults::apply(&mut resource);
    validate(&resource).into_iter().map(|e| e.to_string()).collect()
}

#[test]
fn each_mistake_gets_its_error() {
    let rule = |rule: &str| format!("{{ingress: [{{action: Allow, {rule}}}]}}");
    let cases: Vec<(&str, &str, String, &str)> = vec![
        ("Tier", "a.b", "{}".into(), "metadata.name: \"a.b\": must be a DNS label"),
        ("Tier", "default", "{order: 7}".into(), "spec.order: \"7\": must be 1000000"),
        ("Tier", "t", "{defaultAction: Allow}".into(), "spec.defaultAction: \"Allow\": must be Deny or Pass"),
        ("NetworkPolicy", "A", "{}".into(), "metadata.name: \"A\": must be lower-case"),
        ("NetworkPolicy", "a.b.c", "{}".into(), "metadata.name: \"a.b.c\""),
        ("NetworkPolicy", "p", "{selector: 'a =='}".into(), "spec.selector: \"a ==\": bad selector at byte"),
        ("NetworkPolicy", "p", "{selector: 'global()'}".into(), "spec.selector: \"global()\": global() is allowed only"),
        ("NetworkPolicy", "p", "{types: [Ingress, Ingress]}".into(), "spec.types[1]: \"Ingress\": is named twice"),
        ("NetworkPolicy", "p", "{types: [Inward]}".into(), "spec.types[0]: \"Inward\""),
        ("NetworkPolicy", "p", "{ingress: [{action: Maybe}]}".into(), "spec.ingress[0].action: \"Maybe\": must be one of"),
        ("NetworkPolicy", "p", rule("ipVersion: 5"), "spec.ingress[0].ipVersion: \"5\": must be 4 or 6"),
        ("NetworkPolicy", "p", rule("protocol: foo"), "spec.ingress[0].protocol: \"foo\""),
        ("NetworkPolicy", "p", rule("protocol: 0"), "spec.ingress[0].protocol: \"0\""),
        ("NetworkPolicy", "p", rule("protocol: ICMP, ipVersion: 6"), "spec.ingress[0].protocol: \"ICMP\": ICMP goes"),
        ("NetworkPolicy", "p", rule("icmp: {type: 8}"), "spec.ingress[0].icmp: \"type 8\": needs a protocol; add protocol: ICMP or ICMPv6"),
        (
            "NetworkPolicy",
            "p",
            rule("protocol: TCP, icmp: {type: 8, code: 0}"),
            "spec.ingress[0].icmp: \"type 8, code 0\": does not go with protocol TCP; use protocol: ICMP or ICMPv6",
        ),
        ("NetworkPolicy", "p", rule("protocol: ICMP, icmp: {code: 8}"), "spec.ingress[0].icmp.code: \"8\": needs a type"),
        ("NetworkPolicy", "p", rule("protocol: ICMP, icmp: {type: 255}"), "spec.ingress[0].icmp.type: \"255\""),
        (
            "NetworkPolicy",
            "p",
            rule("source: {ports: [a, 80]}"),
            "spec.ingress[0].source.ports[1]: \"80\": needs a protocol; add protocol: TCP, UDP or SCTP",
        ),
        ("NetworkPolicy", "p", rule("protocol: ICMP, source: {ports: [a]}"), "spec.ingress[0].source.ports[0]: \"a\""),
        (
            "NetworkPolicy",
            "p",
            rule("source: {nets: [10.0.0.1/24]}"),
            "spec.ingress[0].source.nets[0]: \"10.0.0.1/24\": has host bits set; the network is 10.0.0.0/24",
        ),
        ("NetworkPolicy", "p", rule("source: {notNets: [0.0.0.0/0]}"), "spec.ingress[0].source.notNets[0]"),
        (
            "NetworkPolicy",
            "p",
            rule("source: {nets: [10.0.0.0/8]}, destination: {nets: ['fd00::/8']}"),
            "spec.ingress[0].destination.nets[0]: \"fd00::/8\": must be IPv4 like the rest of the rule",
        ),
        ("NetworkPolicy", "p", rule("ipVersion: 6, source: {nets: [10.0.0.0/8]}"), "spec.ingress[0].source.nets[0]"),
        (
            "NetworkPolicy",
            "p",
            rule("source: {namespaceSelector: 'global() && has(x)'}"),
            "spec.ingress[0].source.namespaceSelector",
        ),
        ("NetworkPolicy", "p", rule("destination: {services: {name: s}}"), "spec.ingress[0].destination.services: is"),
        ("NetworkPolicy", "p", rule("source: {services: {namespace: s}}"), "spec.ingress[0].source.services.name: is"),
        (
            "NetworkPolicy",
            "p",
            rule("source: {selector: 'a', services: {name: s}}").replace("'a'", "has(a)"),
            "spec.ingress[0].source.services: \"s\": cannot be combined",
        ),
        ("GlobalNetworkPolicy", "p", rule("source: {services: {name: s}}"), "spec.ingress[0].source.services.namespace"),
        ("NetworkPolicy", "p", rule("http: {paths: [{exact: a}]}"), "spec.ingress[0].http.paths[0]: \"a\""),
        ("NetworkPolicy", "p", "{egress: [{action: Allow, http: {}}]}".into(), "spec.egress[0].http: is allowed only"),
        ("GlobalNetworkPolicy", "p", "{doNotTrack: true}".into(), "spec.applyOnForward: \"false\": must be true"),
        (
            "GlobalNetworkPolicy",
            "p",
            "{preDNAT: true, applyOnForward: true, egress: [{action: Allow}]}".into(),
            "spec.egress: a preDNAT policy has ingress rules only",
        ),
        ("StagedNetworkPolicy", "p", "{stagedAction: Delete, order: 5}".into(), "spec.order: \"5\": must be absent"),
        ("StagedNetworkPolicy", "p", "{ingress: [{action: X}]}".into(), "spec.ingress[0].action: \"X\""),
        ("StagedNetworkPolicy", "p", "{ingres: []}".into(), "spec.ingres: \"[]\": this field is not known here"),
        ("NetworkSet", "s", "{nets: [10.0.0.0/33]}".into(), "spec.nets[0]: \"10.0.0.0/33\""),
        ("HostEndpoint", "h", "{node: h1}".into(), "spec: needs interfaceName or expectedIPs"),
        ("HostEndpoint", "h", "{interfaceName: e}".into(), "spec.node: is needed"),
        ("HostEndpoint", "h", "{node: h1, interfaceName: 'a/b'}".into(), "spec.interfaceName: \"a/b\""),
        (
            "HostEndpoint",
            "h",
            "{node: h1, interfaceName: e, ports: [{name: a, protocol: ICMP, port: 1}]}".into(),
            "spec.ports[0].protocol: \"ICMP\"",
        ),
        (
            "WorkloadEndpoint",
            "x",
            "{node: h1, orchestrator: cni, containerID: c, endpoint: eth0, ipNetworks: [1.2.3.4/32]}".into(),
            "metadata.name: \"x\": must be h1-cni-c-eth0",
        ),
        (
            "WorkloadEndpoint",
            "h1-cni-c-eth0",
            "{node: h1, orchestrator: cni, containerID: c, endpoint: eth0, ipNetworks: [1.2.3.0/24]}".into(),
            "spec.ipNetworks[0]: \"1.2.3.0/24\": must be one address",
        ),
        (
            "WorkloadEndpoint",
            "h1-cni-c-eth0",
            "{node: h1, orchestrator: cni, containerID: c, endpoint: eth0, mac: nope}".into(),
            "spec.mac: \"nope\"",
        ),
        ("Node", "h1", "{bgp: {}}".into(), "spec.bgp: must not be empty"),
        ("Node", "h1", "{bgp: {ipv4Address: 'fd00::1/64'}}".into(), "spec.bgp.ipv4Address: \"fd00::1/64\": must be an IPv4"),
        ("IPPool", "p", "{cidr: 10.0.0.1/16}".into(), "spec.cidr: \"10.0.0.1/16\": has host bits set"),
        ("IPPool", "p", "{cidr: 169.254.1.0/24}".into(), "spec.cidr: \"169.254.1.0/24\": overlaps the link-local"),
        ("IPPool", "p", "{cidr: 10.0.0.0/27}".into(), "spec.cidr: \"10.0.0.0/27\": is smaller than one block of /26"),
        ("IPPool", "p", "{cidr: 10.0.0.0/16, blockSize: 19}".into(), "spec.blockSize: \"19\": must be from 20 to 32"),
        ("IPPool", "p", "{cidr: 10.0.0.0/16, ipipMode: Always, vxlanMode: Always}".into(), "spec.ipipMode: cannot"),
        ("IPPool", "p", "{cidr: 'fd00::/64', ipipMode: Always}".into(), "spec.ipipMode: \"Always\": must be Never in IPv6"),
        ("IPPool", "p", "{cidr: 10.0.0.0/16, ipipMode: Often}".into(), "spec.ipipMode: \"Often\": must be one of"),
        (
            "IPPool",
            "p",
            "{cidr: 10.0.0.0/16, allowedUses: [LoadBalancer, Workload]}".into(),
            "spec.allowedUses: LoadBalancer cannot be combined",
        ),
        ("IPPool", "p", "{cidr: 10.0.0.0/16, namespaceSelector: has(a)}".into(), "spec.namespaceSelector: \"has(a)\""),
        ("IPAMConfiguration", "other", "{}".into(), "metadata.name: \"other\": must be default"),
        ("IPAMConfiguration", "default", "{maxBlocksPerHost: 1000001}".into(), "spec.maxBlocksPerHost: \"1000001\""),
        ("Profile", "p", "{labelsToApply: {'a b': c}}".into(), "spec.labelsToApply[a b]: \"a b\": must be a label key"),
        ("Profile", "p", "{labelsToApply: {a: 'b c'}}".into(), "spec.labelsToApply[a]: \"b c\": must be a label value"),
        ("BGPConfiguration", "node.n", "{asNumber: 1}".into(), "spec.asNumber: can be set only in the BGPConfiguration"),
        ("BGPConfiguration", "other", "{nodeToNodeMeshEnabled: true}".into(), "spec.nodeToNodeMeshEnabled: can be set only"),
        ("BGPConfiguration", "default", "{listenPort: 0}".into(), "spec.listenPort: \"0\""),
        (
            "BGPConfiguration",
            "default",
            "{communities: [{name: a, value: '70000:1'}], prefixAdvertisements: [{cidr: 10.0.0.0/8, communities: [a, b]}]}"
                .into(),
            "spec.prefixAdvertisements[0].communities[1]: \"b\": is no community",
        ),
        ("BGPConfiguration", "default", "{logSeverityScreen: Loud}".into(), "spec.logSeverityScreen: \"Loud\""),
        ("BGPPeer", "p", "{node: h1, nodeSelector: all(), peerIP: 1.2.3.4}".into(), "spec.nodeSelector: \"all()\""),
        ("BGPPeer", "p", "{peerIP: '1.2.3.4:0'}".into(), "spec.peerIP: \"1.2.3.4:0\": must be an IP address"),
        ("BGPPeer", "p", "{peerSelector: all(), asNumber: 5}".into(), "spec.asNumber: \"5\": must be empty with"),
        ("BGPPeer", "p", "{localWorkloadSelector: all()}".into(), "spec.asNumber: is needed with"),
        ("BGPPeer", "p", "{peerIP: 1.2.3.4, reachableBy: 'fd00::1'}".into(), "spec.reachableBy: \"fd00::1\": must be"),
        ("BGPFilter", "f", "{exportV4: [{action: Accept, cidr: 10.0.0.0/8}]}".into(), "spec.exportV4[0].cidr: \"10.0.0.0/8\": needs"),
        (
            "BGPFilter",
            "f",
            "{importV6: [{action: Accept, cidr: 10.0.0.0/8, matchOperator: In}]}".into(),
            "spec.importV6[0].cidr: \"10.0.0.0/8\": must be IPv6",
        ),
        (
            "BGPFilter",
            "f",
            "{exportV4: [{action: Reject, operations: [{}]}]}".into(),
            "spec.exportV4[0].operations: go only with action Accept",
        ),
        ("FelixConfiguration", "default", "{healthPort: 70000}".into(), "spec.healthPort: \"70000\": must be a whole"),
        ("FelixConfiguration", "default", "{helthPort: 1}".into(), "spec.helthPort: \"1\": is no option; did you mean \"healthPort\"?"),
        ("FelixConfiguration", "default", "{healthPort: '1'}".into(), "spec.healthPort: \"1\": must be a whole number"),
        ("FelixConfiguration", "default", "{routeRefreshInterval: 90}".into(), "spec.routeRefreshInterval: \"90\""),
        ("FelixConfiguration", "default", "{logPrefix: 'a;b'}".into(), "spec.logPrefix: \"a;b\": may have letters"),
        (
            "FelixConfiguration",
            "default",
            "{healthTimeoutOverrides: [{name: 'a=b', timeout: 5s}]}".into(),
            "spec.healthTimeoutOverrides: \"[{\\\"name\\\":\\\"a=b\\\"",
        ),
        ("FelixConfiguration", "default", "{nodeSelector: all()}".into(), "spec.nodeSelector: \"all()\": must be empty"),
    ];
    for (kind, name, spec, expected) in cases {
        let errors = errors(kind, name, &spec);
        assert!(
            errors.iter().any(|e| e.starts_with(expected)),
            "{kind} {spec}\n want {expected}\n have {errors:?}"
        );
    }
}

#[test]
fn labels_and_annotations_are_checked() {
    let text = "
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata:
  name: s
  namespace: ns
  labels: {'bad key': a, good/key: 'bad value', projectcalico.org/namespace: x}
  annotations: {'bad key': x}
";
    let resource = document::parse_documents(text).unwrap().remove(0);
    let fields: Vec<String> = validate(&resource).into_iter().map(|e| e.field).collect();
    assert_eq!(
        fields,
        [
            "metadata.labels[bad key]",
            "metadata.labels[good/key]",
            "metadata.labels[projectcalico.org/namespace]",
            "metadata.annotations[bad key]"
        ]
    );
    let lost = document::parse_documents(&text.replace("namespace: ns", "")).unwrap().remove(0);
    assert!(validate(&lost).iter().any(|e| e.field == "metadata.namespace"));
}

#[test]
fn pools_cannot_be_moved() {
    let pool = |spec: &str| {
        let text = format!(
            "{{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {{name: p}}, spec: {spec}}}"
        );
        document::parse_documents(&text).unwrap().remove(0)
    };
    let before = pool("{cidr: 10.0.0.0/16, blockSize: 26}");
    assert_eq!(validate_update(&before, &pool("{cidr: 10.0.0.0/16, natOutgoing: true}")), []);
    let errors = validate_update(&before, &pool("{cidr: 10.1.0.0/16, blockSize: 27}"));
    let fields: Vec<&str> = errors.iter().map(|e| e.field.as_str()).collect();
    assert_eq!(fields, ["spec.cidr", "spec.blockSize"]);
}

#[test]
fn what_calico_stored_is_valid() {
    let Some(samples) = crate::reference::samples() else { return };
    for (key, value) in samples {
        let Ok(Key::Resource(place)) = Key::parse(&key) else { continue };
        let value: Value = serde_json::from_str(&value).unwrap();
        let resource = AnyResource::from_json(place.kind, value).unwrap();
        assert_eq!(validate(&resource), [], "{key}");
    }
}
