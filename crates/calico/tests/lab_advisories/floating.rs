//! Floating addresses while the feature is off (CVE-2022-28224): an endpoint that claims another's address gets nothing
//! of it. That the plugin refuses the annotation is a test of `calico-cni`.

use serde_json::{Value, json};

use crate::lab::{Lab, text, wait_for};
use crate::packets::{answers, arrivals, count_arrivals};

/// An address of nobody.
const ELSEWHERE: &str = "192.0.2.9";
/// An address of the pool that the endpoint gets besides, which shows that the rest of it was read.
const ALSO_OWN: &str = "10.244.200.1";

/// Gives the endpoint of a workload floating addresses, and an ordinary one in the same write.
fn claim(lab: &Lab, own: &str, claimed: &[&str]) {
    let listed = lab.sh("node1", "calicoctl get workloadendpoint --all-namespaces -o json");
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let net = format!("{own}/32");
    let nets =
        |endpoint: &Value| endpoint["spec"]["ipNetworks"].as_array().is_some_and(|n| n.contains(&json!(net)));
    let endpoints = listed["items"].as_array().expect("items");
    let mut endpoint = endpoints.iter().find(|e| nets(e)).expect("the workload's endpoint").clone();
    let nats = claimed.iter().map(|external| json!({"internalIP": own, "externalIP": external}));
    endpoint["spec"]["ipNATs"] = nats.collect();
    endpoint["spec"]["ipNetworks"].as_array_mut().expect("networks").push(json!(format!("{ALSO_OWN}/32")));
    lab.ctl("apply", &endpoint.to_string());
}

#[test]
fn a_floating_address_is_nothing_while_the_feature_is_off() {
    let Some(lab) = Lab::up("floating", &["--nodes", "2"]) else { return };
    let a4 = lab.add("a", &["--node", "node1"]);
    let b4 = lab.add("b", &["--node", "node2"]);
    let _c = lab.add("c", &["--node", "node1"]);
    wait_for("ways to b", || answers(&lab, "a", &b4) && answers(&lab, "c", &b4));
    let way =
        |node: &str, to: &str| lab.sh(node, &format!("ip route get {to}")).lines().next().map(str::to_owned);
    let before = ["node1", "node2"].map(|node| way(node, &b4));
    assert!(!answers(&lab, "c", ELSEWHERE));

    claim(&lab, &a4, &[ELSEWHERE, &b4]);
    let stored = lab.sh("node1", "calicoctl get workloadendpoint --all-namespaces -o yaml");
    assert!(stored.contains(ELSEWHERE), "{stored}");
    // The control: what else was written with it is in force, on its node and on the other.
    for node in ["node1", "node2"] {
        wait_for("a route to the ordinary address", || lab.routes(node).contains(ALSO_OWN));
        lab.wait_quiet(node);
    }

    for node in ["node1", "node2"] {
        let rules = lab.sh(node, "nft list ruleset");
        let translates = ["dnat to", "dnat ip"].iter().any(|statement| rules.contains(statement));
        assert!(!rules.contains(ELSEWHERE) && !translates, "{node}: {rules}");
        assert!(!lab.routes(node).contains(ELSEWHERE), "{node}");
        let proxied = lab.sh(node, "ip neigh show proxy; ip addr");
        assert!(!proxied.contains(ELSEWHERE), "{node}: {proxied}");
    }
    assert_eq!(["node1", "node2"].map(|node| way(node, &b4)), before, "b's address leads to b");
    count_arrivals(&lab, "a", "claimed", "icmp type echo-request");
    count_arrivals(&lab, "b", "own", "icmp type echo-request");
    wait_for("b's answer", || answers(&lab, "c", &b4));
    assert!(!answers(&lab, "c", ELSEWHERE));
    assert_eq!(arrivals(&lab, "a", "claimed"), 0);
    // Nor may it speak under the address that it claims.
    let before = arrivals(&lab, "b", "own");
    assert!(before > 0, "c's pings");
    lab.sh("a", &format!("ip addr add {ELSEWHERE}/32 dev eth0"));
    let spoken = lab.try_sh("a", &format!("ping -c 1 -W 1 -I {ELSEWHERE} {b4}"));
    assert!(!spoken.status.success(), "{}", text(&spoken.stdout));
    assert_eq!(arrivals(&lab, "b", "own"), before);
    // The control: under its own it may.
    wait_for("b's answer", || answers(&lab, "a", &b4));
}
