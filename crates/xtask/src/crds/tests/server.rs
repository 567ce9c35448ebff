//! The definitions on a real API server: it establishes all of them, prunes nothing of an object that has every field,
//! and refuses what the conditions forbid.

use std::collections::BTreeSet;

use calico_testkit::api_server::{ADMIN, ApiServer};
use serde_json::{Map, Value, json};

use super::sample::{lost, paths, sample};
use super::{Group, definitions};

/// Fields that exclude one another: what each object of a kind leaves out. Together they have every field.
const WITHOUT: [(&str, &[&[&str]]); 7] = [
    (
        "BGPPeer",
        &[
            &[".nodeSelector", ".peerSelector", ".localWorkloadSelector", ".keepOriginalNextHop"],
            &[".node", ".peerIP", ".reachableBy", ".asNumber", ".localWorkloadSelector", ".nextHopMode"],
            &[".node", ".peerIP", ".reachableBy", ".peerSelector", ".keepOriginalNextHop"],
        ],
    ),
    ("FelixConfiguration", &[&[".routeTableRange"], &[".routeTableRanges"]]),
    ("NetworkPolicy", &POLICIES),
    ("StagedNetworkPolicy", &POLICIES),
    ("GlobalNetworkPolicy", &POLICIES),
    ("StagedGlobalNetworkPolicy", &POLICIES),
    // Objects of which one member is given: one for each member.
    ("ClusterNetworkPolicy", &[&[], &[], &[], &[], &[], &[], &[], &[]]),
];

/// With selectors, ports and ICMP; with services and HTTP; and before NAT.
const POLICIES: [&[&str]; 3] = [
    &["[].http", ".services", ".preDNAT"],
    &[
        ".selector",
        ".notSelector",
        ".namespaceSelector",
        ".nets",
        ".notNets",
        ".ports",
        ".notPorts",
        ".serviceAccounts",
        ".icmp",
        "[].protocol",
        ".preDNAT",
    ],
    &[".doNotTrack", ".egress", "[].http", ".services"],
];

/// An object that must be refused: kind, specification, and a part of what is said.
type Refusal = (&'static str, fn() -> Value, &'static str);

fn rule(rule: Value) -> Value {
    let mut whole = json!({ "action": "Allow" });
    merge(&mut whole, rule);
    json!({ "ingress": [whole] })
}

fn merge(into: &mut Value, from: Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from);
    }
}

fn services(beside: Value) -> Value {
    let mut side = json!({ "services": { "name": "a", "namespace": "b" } });
    merge(&mut side, beside);
    rule(json!({ "source": side }))
}

fn pool(fields: Value) -> Value {
    let mut pool = json!({ "cidr": "10.1.0.0/16" });
    merge(&mut pool, fields);
    pool
}

fn balancer(fields: Value) -> Value {
    let mut whole = json!({ "allowedUses": ["LoadBalancer"] });
    merge(&mut whole, fields);
    pool(whole)
}

fn filter(fields: Value) -> Value {
    let mut rule = json!({ "action": "Reject" });
    merge(&mut rule, fields);
    json!({ "exportV4": [rule] })
}

fn cluster_policy(peer: Value, protocol: Value) -> Value {
    let rule = json!({ "action": "Deny", "to": [peer], "protocols": [protocol] });
    json!({ "tier": "Admin", "priority": 1, "subject": { "namespaces": {} }, "egress": [rule] })
}

const REFUSED: &[Refusal] = &[
    (
        "ClusterNetworkPolicy",
        || cluster_policy(json!({ "networks": ["10.0.0.0"] }), json!({ "destinationNamedPort": "a" })),
        "must be a CIDR",
    ),
    (
        "ClusterNetworkPolicy",
        || {
            cluster_policy(
                json!({ "namespaces": {} }),
                json!({ "tcp": { "destinationPort": { "range": { "start": 2, "end": 1 } } } }),
            )
        },
        "start must be below end",
    ),
    (
        "BGPConfiguration",
        || json!({ "nodeToNodeMeshEnabled": false, "nodeMeshPassword": { "secretKeyRef": { "key": "k" } } }),
        "nodeMeshPassword is for the mesh",
    ),
    (
        "BGPConfiguration",
        || json!({ "nodeToNodeMeshEnabled": false, "nodeMeshMaxRestartTime": "1m" }),
        "nodeMeshMaxRestartTime is for the mesh",
    ),
    (
        "BGPConfiguration",
        || json!({ "communities": [{ "name": "a", "value": "1:2" }] }),
        "communities without prefixAdvertisements",
    ),
    ("BGPPeer", || json!({ "node": "a", "nodeSelector": "all()" }), "node and nodeSelector exclude"),
    (
        "BGPPeer",
        || json!({ "peerIP": "192.0.2.1", "peerSelector": "all()" }),
        "peerIP and peerSelector exclude",
    ),
    ("BGPPeer", || json!({ "peerSelector": "all()", "asNumber": 64512 }), "asNumber: with peerSelector"),
    (
        "BGPPeer",
        || json!({ "localWorkloadSelector": "all()", "asNumber": 1, "peerIP": "192.0.2.1" }),
        "localWorkloadSelector and peerIP exclude",
    ),
    (
        "BGPPeer",
        || json!({ "localWorkloadSelector": "all()", "peerSelector": "all()" }),
        "localWorkloadSelector and peerSelector exclude",
    ),
    ("BGPPeer", || json!({ "localWorkloadSelector": "all()" }), "localWorkloadSelector needs asNumber"),
    ("BGPPeer", || json!({ "reachableBy": "192.0.2.1" }), "reachableBy needs peerIP"),
    (
        "BGPPeer",
        || json!({ "keepOriginalNextHop": true, "nextHopMode": "Auto" }),
        "keepOriginalNextHop is the old spelling",
    ),
    ("BGPFilter", || filter(json!({ "cidr": "10.0.0.0/8" })), "cidr and matchOperator belong together"),
    ("BGPFilter", || filter(json!({ "prefixLength": { "min": 8 } })), "prefixLength needs cidr"),
    (
        "BGPFilter",
        || filter(json!({ "operations": [{ "setPriority": { "value": 1 } }] })),
        "operations need action Accept",
    ),
    ("HostEndpoint", || json!({ "interfaceName": "eth0" }), "node must name the node"),
    ("HostEndpoint", || json!({ "node": "a" }), "interfaceName or expectedIPs"),
    (
        "FelixConfiguration",
        || json!({ "routeTableRange": { "min": 1, "max": 2 }, "routeTableRanges": [] }),
        "routeTableRange is the old spelling",
    ),
    (
        "FelixConfiguration",
        || json!({ "routeTableRange": { "min": 1, "max": 251 } }),
        "max must be 250 or less",
    ),
    (
        "FelixConfiguration",
        || json!({ "routeTableRanges": [{ "min": 0, "max": 2 }] }),
        "min must be 1 or more",
    ),
    (
        "FelixConfiguration",
        || json!({ "routeTableRanges": [{ "min": 3, "max": 2 }] }),
        "min must not be above max",
    ),
    ("FelixConfiguration", || json!({ "natOutgoingAddress": "2001:db8::1" }), "natOutgoingAddress must be"),
    ("FelixConfiguration", || json!({ "deviceRouteSourceAddress": "x" }), "deviceRouteSourceAddress must be"),
    (
        "FelixConfiguration",
        || json!({ "deviceRouteSourceAddressIPv6": "192.0.2.1" }),
        "deviceRouteSourceAddressIPv6 must be",
    ),
    ("IPPool", || pool(json!({ "cidr": "10.1.0.1/16" })), "cidr has bits outside its prefix"),
    ("IPPool", || pool(json!({ "cidr": "169.254.1.0/24" })), "link-local"),
    ("IPPool", || pool(json!({ "cidr": "fe80::/64" })), "fe80::/10 (link-local)"),
    ("IPPool", || pool(json!({ "blockSize": 19 })), "blockSize must be 20 to 32"),
    ("IPPool", || pool(json!({ "cidr": "10.1.0.0/27" })), "smaller than one block"),
    (
        "IPPool",
        || pool(json!({ "ipipMode": "Always", "vxlanMode": "Always" })),
        "ipipMode and vxlanMode exclude",
    ),
    ("IPPool", || pool(json!({ "cidr": "fd00::/48", "ipipMode": "Always" })), "ipipMode is for IPv4 pools"),
    ("IPPool", || pool(json!({ "nodeSelector": "global()" })), "nodeSelector: global() is only"),
    ("IPPool", || pool(json!({ "namespaceSelector": "global()" })), "namespaceSelector: global() is only"),
    (
        "IPPool",
        || pool(json!({ "allowedUses": ["Tunnel"], "namespaceSelector": "all()" })),
        "a pool for tunnels",
    ),
    ("IPPool", || pool(json!({ "allowedUses": ["LoadBalancer", "Workload"] })), "is for nothing else"),
    ("IPPool", || balancer(json!({ "vxlanMode": "Always" })), "has neither ipipMode nor vxlanMode"),
    ("IPPool", || balancer(json!({ "disableBGPExport": true })), "leave disableBGPExport out"),
    ("IPPool", || balancer(json!({ "nodeSelector": "has(x)" })), "nodeSelector must be all()"),
    ("NetworkPolicy", || json!({ "selector": "global()" }), "selector: global() is only"),
    (
        "NetworkPolicy",
        || json!({ "serviceAccountSelector": "global()" }),
        "serviceAccountSelector: global() is only",
    ),
    (
        "GlobalNetworkPolicy",
        || json!({ "namespaceSelector": "global()" }),
        "namespaceSelector: global() is only",
    ),
    (
        "GlobalNetworkPolicy",
        || json!({ "doNotTrack": true, "preDNAT": true, "applyOnForward": true }),
        "doNotTrack and preDNAT exclude",
    ),
    (
        "GlobalNetworkPolicy",
        || json!({ "preDNAT": true, "applyOnForward": true, "egress": [{ "action": "Allow" }] }),
        "leave egress out",
    ),
    (
        "GlobalNetworkPolicy",
        || json!({ "preDNAT": true, "applyOnForward": true, "types": ["Egress"] }),
        "types may not name Egress",
    ),
    ("GlobalNetworkPolicy", || json!({ "doNotTrack": true }), "need applyOnForward"),
    ("NetworkPolicy", || rule(json!({ "source": { "selector": "global()" } })), "selector: global() is only"),
    (
        "NetworkPolicy",
        || rule(json!({ "source": { "services": { "name": "" } } })),
        "services needs the name",
    ),
    ("NetworkPolicy", || services(json!({ "serviceAccounts": {} })), "services and serviceAccounts exclude"),
    (
        "NetworkPolicy",
        || services(json!({ "namespaceSelector": "all()" })),
        "services and namespaceSelector exclude",
    ),
    ("NetworkPolicy", || services(json!({ "selector": "all()" })), "services and selector exclude"),
    ("NetworkPolicy", || services(json!({ "notSelector": "all()" })), "services and notSelector exclude"),
    ("NetworkPolicy", || services(json!({ "nets": ["10.0.0.0/8"] })), "services and nets exclude"),
    ("NetworkPolicy", || services(json!({ "notNets": ["10.0.0.0/8"] })), "services and notNets exclude"),
    ("NetworkPolicy", || rule(json!({ "action": "Deny", "http": {} })), "http is only for rules that allow"),
    ("NetworkPolicy", || rule(json!({ "protocol": "UDP", "http": {} })), "http needs protocol TCP"),
    (
        "NetworkPolicy",
        || rule(json!({ "destination": { "services": { "name": "a" }, "ports": [80] } })),
        "a service brings its ports",
    ),
    ("NetworkPolicy", || rule(json!({ "protocol": "TCP", "icmp": {} })), "icmp needs protocol"),
    ("NetworkPolicy", || rule(json!({ "protocol": "ICMP", "icmp": { "code": 1 } })), "code needs type"),
    ("NetworkPolicy", || rule(json!({ "protocol": 1, "ipVersion": 6 })), "protocol ICMP is IPv4"),
    ("NetworkPolicy", || rule(json!({ "protocol": "ICMPv6", "ipVersion": 4 })), "protocol ICMPv6 is IPv6"),
    ("NetworkPolicy", || rule(json!({ "notProtocol": "ICMP", "ipVersion": 6 })), "notProtocol ICMP is IPv4"),
    ("NetworkPolicy", || rule(json!({ "notProtocol": 58, "ipVersion": 4 })), "notProtocol ICMPv6 is IPv6"),
];

fn definition<'a>(all: &'a [Value], kind: &str) -> &'a Value {
    all.iter().find(|d| d["spec"]["names"]["kind"] == kind).unwrap_or_else(|| panic!("no kind {kind}"))
}

fn collection(definition: &Value) -> String {
    let spec = &definition["spec"];
    let word = |value: &Value| value.as_str().expect("a word").to_owned();
    let namespace = if spec["scope"] == "Namespaced" { "/namespaces/default" } else { "" };
    let (group, version) = (word(&spec["group"]), word(&spec["versions"][0]["name"]));
    format!("/apis/{group}/{version}{namespace}/{}", word(&spec["names"]["plural"]))
}

fn object(definition: &Value, name: &str, spec: Value) -> Value {
    let spec_of = &definition["spec"];
    let version = spec_of["versions"][0]["name"].as_str().expect("a version");
    json!({
        "apiVersion": format!("{}/{version}", spec_of["group"].as_str().expect("a group")),
        "kind": spec_of["names"]["kind"],
        "metadata": { "name": name, "annotations": { "projectcalico.org/metadata": "{}" } },
        "spec": spec,
    })
}

/// Stores an object of a kind with every field that may stand beside the others, and compares what comes back.
fn survives(
    server: &ApiServer,
    definition: &Value,
    turn: usize,
    without: &[&str],
    seen: &mut BTreeSet<String>,
) {
    let schema = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let kind = definition["spec"]["names"]["kind"].as_str().expect("a kind");
    let whole = Value::Object(Map::from_iter(
        ["spec", "status"]
            .iter()
            .filter_map(|part| Some(((*part).to_owned(), schema["properties"].get(part)?.clone()))),
    ));
    let whole = json!({ "type": "object", "properties": whole });
    let sent = sample("", &whole, without, turn).expect("it leaves something");
    let (collection, name) = (collection(definition), format!("sample-{turn}"));
    let mut document = object(definition, &name, sent["spec"].clone());
    let (status, mut stored) = server.request(ADMIN, "POST", &collection, Some(&document));
    assert_eq!(status, 201, "{kind}: {stored}");
    if let Some(report) = sent.get("status") {
        document["metadata"] = stored["metadata"].clone();
        document["status"] = report.clone();
        let (status, after) =
            server.request(ADMIN, "PUT", &format!("{collection}/{name}/status"), Some(&document));
        assert_eq!(status, 200, "{kind}: {after}");
        stored = after;
    }
    let lost = lost("", &sent, &stored);
    assert!(lost.is_empty(), "{kind}: {}", lost.join("\n"));
    let mut found = Vec::new();
    paths("", &sent, &whole, &mut found);
    seen.extend(found);
}

fn nothing_is_pruned(server: &ApiServer, group: Group) {
    let all: Vec<Value> = definitions(group).into_iter().map(|(_, definition)| definition).collect();
    server.define(&all);
    let mut compared = 0;
    for definition in &all {
        let kind = definition["spec"]["names"]["kind"].as_str().expect("a kind");
        let turns: &[&[&str]] = match WITHOUT.iter().find(|(k, _)| *k == kind) {
            Some((_, turns)) => turns,
            // Three, because operations of BGP filters are objects of one member.
            None => &[&[], &[], &[]],
        };
        let mut seen = BTreeSet::new();
        for (turn, without) in turns.iter().enumerate() {
            survives(server, definition, turn, without, &mut seen);
        }
        let mut known = std::collections::BTreeMap::new();
        super::flatten("", &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut known);
        let missed: Vec<&String> = known
            .keys()
            .filter(|path| path.starts_with(".spec") || path.starts_with(".status"))
            .filter(|path| !seen.contains(*path))
            .collect();
        assert!(missed.is_empty(), "{kind}: no object had {missed:?}");
        compared += seen.len();
    }
    println!("{group:?}: {} kinds established, {compared} properties survive", all.len());
}

fn bad_objects_are_refused(server: &ApiServer, group: Group) {
    let all: Vec<Value> = definitions(group).into_iter().map(|(_, definition)| definition).collect();
    let check = |definition: &Value, name: &str, spec: Value, words: &str| {
        let document = object(definition, name, spec);
        let (status, answer) = server.request(ADMIN, "POST", &collection(definition), Some(&document));
        let said = answer["message"].as_str().unwrap_or_default();
        assert!(
            status == 422 && said.contains(words),
            "{document}: {status} {said:?} does not say {words:?}"
        );
    };
    for (kind, spec, words) in REFUSED {
        if (*kind, group) != ("ClusterNetworkPolicy", Group::V3) {
            check(definition(&all, kind), "refused", spec(), words);
        }
    }
    check(
        definition(&all, "FelixConfiguration"),
        "node.a",
        json!({ "nodeSelector": "all()" }),
        "use another name",
    );
    for (name, order, action) in
        [("default", 1e6, "Pass"), ("kube-admin", 1e3, "Deny"), ("kube-baseline", 1e7, "Deny")]
    {
        let tier = definition(&all, "Tier");
        check(tier, name, json!({ "order": order, "defaultAction": action }), "the defaultAction of tier");
        let other = if action == "Pass" { "Deny" } else { "Pass" };
        check(tier, name, json!({ "order": 5, "defaultAction": other }), "the order of tier");
    }
    // What may not change once it is there.
    let pools = definition(&all, "IPPool");
    for (field, value) in [("cidr", json!("10.2.0.0/16")), ("blockSize", json!(27))] {
        let patch = json!({ "spec": { field: value } });
        let path = format!("{}/sample-0", collection(pools));
        let (status, answer) =
            server.request_as(ADMIN, "PATCH", &path, "application/merge-patch+json", Some(&patch));
        assert_eq!(status, 422, "{answer}");
        assert!(answer["message"].as_str().is_some_and(|m| m.contains("does not change")), "{answer}");
    }
}

/// Every message of every condition.
fn messages(schema: &Value, found: &mut BTreeSet<String>) {
    match schema {
        Value::Object(members) => {
            for rule in
                members.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten()
            {
                found.insert(rule["message"].as_str().expect("a message").to_owned());
            }
            members.values().for_each(|member| messages(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| messages(item, found)),
        _ => {}
    }
}

#[test]
fn every_condition_has_an_object_that_it_refuses() {
    let mut all = BTreeSet::new();
    for (_, definition) in definitions(Group::V1).into_iter().chain(definitions(Group::V3)) {
        messages(&definition, &mut all);
    }
    let beside = ["use another name", "the defaultAction of tier", "the order of tier", "does not change"];
    let words: Vec<&str> = REFUSED.iter().map(|(_, _, words)| *words).chain(beside).collect();
    let untested: Vec<&String> = all.iter().filter(|m| !words.iter().any(|w| m.contains(w))).collect();
    assert!(untested.is_empty(), "{untested:#?}");
    assert!(all.len() > 50, "only {} conditions", all.len());
}

#[test]
fn a_real_api_server_takes_the_definitions() {
    let Some(server) = ApiServer::start(&[]) else { return };
    for group in [Group::V1, Group::V3] {
        nothing_is_pruned(&server, group);
        bad_objects_are_refused(&server, group);
    }
}
