//! Which pools come to be.

use serde_json::{Value, json};

use super::*;
use crate::startup::births::testing::with_births;

fn plan(pairs: &[(&str, &str)], addrs: &[&str], pools: &[Value], ipv6: bool) -> Vec<Value> {
    let find = |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    let settings = Settings::from_vars(&find).unwrap();
    let addrs = addrs.iter().map(|a| Cidr::parse_interface(a).unwrap()).collect();
    let interfaces = [Interface { name: "eth0".into(), addrs }];
    let key = Key::resource(Kind::IPPool, "", "p");
    let entry = |v: &Value| Entry { key: key.clone(), value: v.to_string().into(), revision: 1.into() };
    let pools: Vec<Entry> = pools.iter().map(entry).collect();
    let writes = with_births(|births| plan_pools(&settings, &interfaces, &pools, ipv6, births));
    let value = |write: &Write| match write {
        Write::Put { value, .. } => serde_json::from_slice(value).unwrap(),
        other => panic!("{other:?}"),
    };
    writes.iter().map(value).collect()
}

fn cidrs(pools: &[Value]) -> Vec<&str> {
    pools.iter().map(|p| p["spec"]["cidr"].as_str().unwrap()).collect()
}

#[test]
fn as_calico_stores_it() {
    let pairs = [("CALICO_IPV4POOL_CIDR", "10.244.0.0/16")];
    let pools = plan(&pairs, &[], &[], false);
    assert_eq!(pools.len(), 1);
    assert_eq!(pools[0]["metadata"]["name"], "default-ipv4-ippool");
    assert_eq!(
        pools[0]["spec"],
        json!({
            "cidr": "10.244.0.0/16", "vxlanMode": "Never", "ipipMode": "Never", "natOutgoing": true,
            "blockSize": 26, "nodeSelector": "all()", "allowedUses": ["Workload", "Tunnel"],
            "assignmentMode": "Automatic"
        })
    );
}

#[test]
fn ipip_is_for_ipv4() {
    let pools = plan(&[("CALICO_IPV4POOL_IPIP", "Always")], &[], &[], true);
    let modes: Vec<_> = pools.iter().map(|p| p["spec"]["ipipMode"].clone()).collect();
    assert_eq!(modes, ["Always", "Never"]);
}

#[test]
fn both_families_by_default() {
    let pools = plan(&[], &[], &[], true);
    assert_eq!(cidrs(&pools), ["192.168.0.0/16", "fd11:1122:2233::/48"]);
    assert_eq!(pools[1]["spec"].get("natOutgoing"), None);
    assert_eq!(pools[1]["spec"]["blockSize"], 122);
}

#[test]
fn away_from_the_host_s_networks() {
    let hosts = ["192.168.1.5/24", "172.16.0.1/12"];
    assert_eq!(cidrs(&plan(&[], &hosts[..1], &[], false)), ["172.16.0.0/16"]);
    assert_eq!(cidrs(&plan(&[], &["192.168.1.5/24", "172.16.9.1/24"], &[], false)), ["172.17.0.0/16"]);
    assert_eq!(cidrs(&plan(&[], &hosts, &[], false)), ["192.168.0.0/16"]);
}

#[test]
fn not_beside_one_that_is_there() {
    let v4 = json!({"kind": "IPPool", "spec": {"cidr": "10.0.0.0/8"}});
    assert_eq!(cidrs(&plan(&[], &[], std::slice::from_ref(&v4), true)), ["fd11:1122:2233::/48"]);
    let v6 = json!({"kind": "IPPool", "spec": {"cidr": "fd00::/8"}});
    assert!(plan(&[], &[], &[v4, v6], true).is_empty());
    assert!(plan(&[], &[], &[json!({"spec": {"cidr": "junk"}})], true).is_empty());
}

#[test]
fn not_when_told_so() {
    assert!(plan(&[("NO_DEFAULT_POOLS", "true")], &[], &[], true).is_empty());
    let none = [("CALICO_IPV4POOL_CIDR", "none"), ("CALICO_IPV6POOL_CIDR", "none")];
    assert!(plan(&none, &[], &[], true).is_empty());
}
