//! Packets of a lab, sent and counted.

#![allow(dead_code, reason = "each test uses its part")]

use serde_json::Value;

use crate::lab::Lab;

/// The IPv6 address of a workload.
pub fn v6(lab: &Lab, workload: &str) -> String {
    let addresses = lab.sh(workload, "ip -o -6 addr show dev eth0 scope global");
    let address =
        addresses.split_whitespace().skip_while(|word| *word != "inet6").nth(1).expect("an address");
    address.split('/').next().expect("before the length").to_owned()
}

/// Whether one ping is answered.
pub fn answers(lab: &Lab, from: &str, to: &str) -> bool {
    lab.try_sh(from, &format!("ping -c 1 -W 1 {to}")).status.success()
}

/// Counts arriving packets in a table of the test's own: `what` is a condition of nft.
pub fn count_arrivals(lab: &Lab, place: &str, name: &str, what: &str) {
    lab.sh(
        place,
        &format!(
            "nft 'add table inet seen_{name}; \
             add chain inet seen_{name} arrivals {{ type filter hook prerouting priority -450; }}; \
             add rule inet seen_{name} arrivals {what} counter'"
        ),
    );
}

/// What [`count_arrivals`] has counted.
pub fn arrivals(lab: &Lab, place: &str, name: &str) -> u64 {
    counter(lab, place, &format!("seen_{name}"), |_| true)
}

/// Packets that rules of ours have counted, found by their comment.
pub fn counted(lab: &Lab, node: &str, comment: &str) -> u64 {
    counter(lab, node, "calico", |rule| rule["comment"].as_str().is_some_and(|text| text.contains(comment)))
}

fn counter(lab: &Lab, place: &str, table: &str, is_meant: impl Fn(&Value) -> bool) -> u64 {
    let listed = lab.sh(place, &format!("nft -j list table inet {table}"));
    let listed: Value = serde_json::from_str(&listed).expect("JSON");
    let rules = listed["nftables"].as_array().into_iter().flatten().filter_map(|object| object.get("rule"));
    let packets =
        |rule: &Value| rule["expr"].as_array()?.iter().find_map(|expr| expr["counter"]["packets"].as_u64());
    rules.filter(|rule| is_meant(rule)).filter_map(packets).sum()
}
