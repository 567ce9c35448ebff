//! Sessions, blocks and pools equal in meaning to what Calico renders from the same resources. The reference data is
//! not part of this repository; without it the test says so and passes.

#![allow(clippy::unwrap_used, reason = "a test fails where it cannot go on")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use calico_api::key::AffinityOwner;
use calico_api::{Entry, Key, Kind};
use calico_mesh::intent::{BgpIntent, NextHopMode, Programmer};
use calico_mesh::{Index, Local};
use calico_net::{Cidr, Family};
use serde_json::{Value, json};

const NODE: &str = "kube-master";

#[expect(clippy::disallowed_methods, reason = "where the reference data is")]
fn reference() -> Option<PathBuf> {
    let shared = std::env::var_os("CALICO_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = shared.join("data/bird-goldens");
    path.is_dir().then_some(path)
}

#[expect(clippy::disallowed_methods, reason = "reads the reference data")]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn put(index: &mut Index, key: &Key, value: &Value) {
    let entry = Entry { key: key.clone(), value: value.to_string().into(), revision: 1.into() };
    index.update(key, Some(&entry));
}

fn node(name: &str, v4: &str) -> Value {
    json!({"kind": "Node", "metadata": {"name": name}, "spec": {"bgp": {"ipv4Address": v4}}})
}

/// The intent of the node for a case, whose three nodes are there unless it says otherwise.
fn intent(input: &str) -> BgpIntent {
    let mut index = Index::new(NODE.into());
    let nodes = [(NODE, "10.192.0.2/16"), ("kube-node-1", "10.192.0.3/16"), ("kube-node-2", "10.192.0.4/16")];
    for (name, v4) in nodes {
        put(&mut index, &Key::resource(Kind::Node, "", name), &node(name, v4));
    }
    for document in input.split("\n---").filter(|d| d.contains("kind:")) {
        let mut value: Value = serde_saphyr::from_str(document).unwrap();
        // calicoctl reads a label's value as text, whatever YAML takes it for.
        for label in
            value.pointer_mut("/metadata/labels").and_then(Value::as_object_mut).into_iter().flatten()
        {
            *label.1 = label.1.as_str().map_or_else(|| label.1.to_string(), str::to_owned).into();
        }
        let kind = Kind::from_alias(value["kind"].as_str().unwrap()).unwrap();
        let name = value["metadata"]["name"].as_str().unwrap();
        put(&mut index, &Key::resource(kind, "", name), &value);
    }
    for (block, state) in [
        ("10.0.0.0/30", ""),
        ("10.1.0.0/24", ""),
        ("10.2.0.1/32", ""),
        ("192.168.221.192/26", ""),
        ("192.168.221.64/26", "confirmed"),
        ("192.168.221.0/26", "pending"),
    ] {
        let key = Key::Affinity { owner: AffinityOwner::Host(NODE.into()), block: block.parse().unwrap() };
        put(&mut index, &key, &json!({ "state": state }));
    }
    let (intent, problems) = index.world().resolve(&Local { node: NODE.into(), router_id: String::new() });
    // Encapsulation, which many of the cases are about, is a problem of its own.
    let unrouted = index.world().unrouted(NODE);
    let problems: Vec<_> = problems.into_iter().filter(|p| !unrouted.contains(p)).collect();
    assert!(problems.is_empty() && index.problems().is_empty(), "{problems:?} {:?}", index.problems());
    intent
}

/// What a session comes to, in the words of the reference.
fn our_sessions(intent: &BgpIntent, family: Family) -> BTreeSet<String> {
    let sessions = intent.sessions.iter().filter(|s| s.family() == family);
    sessions
        .map(|s| {
            let mut words = vec![s.name.to_string(), format!("neighbor {}", s.name.addr)];
            words.extend(s.port.map(|port| format!("port {port}")));
            words.push(format!("as {} local {}", s.remote_as, s.local_as));
            words.extend(s.from_own_addr.then(|| format!("source {}", s.own_addr)));
            words.extend(s.passive.then(|| "passive".to_owned()));
            words.extend(s.reflect_as.map(|id| format!("rr {id}")));
            words.extend(s.ttl_security_hops.map(|hops| format!("ttl {hops}")));
            words.extend(s.restart_time_secs.map(|secs| format!("restart {secs}")));
            words.extend((s.next_hop == NextHopMode::Keep).then(|| "keep".to_owned()));
            words.push(format!("internal {}", s.is_internal()));
            words.join(", ")
        })
        .collect()
}

fn their_sessions(text: &str) -> BTreeSet<String> {
    let statement =
        |line: &str| line.split('#').next().unwrap_or_default().trim().trim_end_matches(';').to_owned();
    let lines: Vec<String> = text.lines().map(statement).collect();
    let global_as = lines.iter().find_map(|l| l.strip_prefix("local as ")).unwrap_or_default().to_owned();
    let blocks = lines.split(|l| l.starts_with("protocol bgp ")).skip(1);
    let names = lines.iter().filter_map(|l| l.strip_prefix("protocol bgp ")?.split(' ').next());
    names
        .zip(blocks)
        .map(|(name, block)| {
            let find = |prefix: &str| block.iter().find_map(|l| l.strip_prefix(prefix)).map(str::to_owned);
            let (neighbor, asn) = {
                let neighbor = find("neighbor ").unwrap();
                let (at, asn) = neighbor.rsplit_once(" as ").unwrap();
                (at.to_owned(), asn.to_owned())
            };
            let mut words = vec![name.to_owned()];
            match neighbor.split_once(" port ") {
                Some((addr, port)) => words.extend([format!("neighbor {addr}"), format!("port {port}")]),
                None => words.push(format!("neighbor {neighbor}")),
            }
            words.push(format!("as {asn} local {}", find("local as ").unwrap_or_else(|| global_as.clone())));
            words.extend(find("source address ").map(|addr| format!("source {addr}")));
            words.extend(find("passive on").map(|_| "passive".to_owned()));
            words.extend(find("rr cluster id ").map(|id| format!("rr {id}")));
            words.extend(find("multihop ").map(|hops| format!("ttl {hops}")));
            words.extend(find("graceful restart time ").map(|secs| format!("restart {secs}")));
            words.extend(find("next hop keep").map(|_| "keep".to_owned()));
            words.push(format!("internal {}", find("calico_export_to_bgp_peers(true)").is_some()));
            words.join(", ")
        })
        .collect()
}

/// Every prefix between two texts of a line.
fn between(text: &str, before: &str, after: &str) -> BTreeSet<Cidr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix(before)?.split_once(after)?.0.trim().parse().ok())
        .collect()
}

/// Compares a case; how many sessions it has.
fn check(case: &str, root: &Path) -> usize {
    let intent = intent(&read(&root.join("inputs").join(case).join("input.yaml")));
    for (family, prefix) in [(Family::V4, "bird"), (Family::V6, "bird6")] {
        let file = |name: &str| read(&root.join("outputs").join(case).join(format!("{prefix}{name}.cfg")));
        let of_family = |cidrs: Vec<Cidr>| cidrs.into_iter().filter(|c| c.family() == family).collect();
        let sessions = their_sessions(&file(""));
        assert_eq!(our_sessions(&intent, family), sessions, "{case}: {family} sessions");

        let blocks: BTreeSet<Cidr> = of_family(intent.blocks.clone());
        assert_eq!(blocks, between(&file("_aggr"), "if ( net =", ")"), "{case}: {family} blocks");

        let ipam = file("_ipam");
        let (export, kernel) = ipam.split_once("filter calico_kernel_programming").unwrap();
        let pools = |keep: &dyn Fn(&calico_mesh::intent::PoolIntent) -> bool| -> BTreeSet<Cidr> {
            of_family(intent.pools.iter().filter(|p| keep(p)).map(|p| p.cidr).collect())
        };
        let accepted = between(export, "if (net ~ ", ") then { accept");
        assert_eq!(pools(&|p| p.export), accepted, "{case}: {family} announced pools");
        let rejected = between(export, "if (net ~ ", ") then { reject");
        assert_eq!(pools(&|p| !p.export), rejected, "{case}: {family} pools kept back");

        // Where Calico's fork of BIRD installs encapsulated routes, stock BIRD leaves them to the agent.
        let is_agents = |p: &calico_mesh::intent::PoolIntent| p.programmed_by != Programmer::Speaker;
        let mut theirs = between(kernel, "if (net ~ ", ") then { reject");
        theirs.extend(between(kernel, "if (net ~ ", ") then { krt_tunnel"));
        theirs.extend(between(kernel, "if (net ~ ", ") then { if (defined(bgp_next_hop)"));
        assert_eq!(pools(&is_agents), theirs, "{case}: {family} pools that BIRD does not install");
    }
    intent.sessions.len()
}

#[test]
fn equal_in_meaning() {
    let Some(root) = reference() else {
        println!("skipped: no ../shared");
        return;
    };
    let mut sessions = 0;
    for case in [
        "mesh/bgp-export",
        "mesh/ipip-always",
        "mesh/ipip-cross-subnet",
        "mesh/ipip-off",
        "mesh/route-reflector-mesh-enabled",
        "mesh/vxlan-always",
        "explicit_peering/global",
        "explicit_peering/route_reflector",
        "explicit_peering/selectors",
        "explicit_peering/specific_node",
        "cluster_routes/default",
        "cluster_routes/enabled",
        "cluster_routes/ipip-only",
        "cluster_routes/noencap-only",
    ] {
        sessions += check(case, &root);
    }
    assert!(sessions > 30, "only {sessions} sessions were compared");
}
