//! Whose routes are whose.

use super::*;

fn device(name: &str) -> Option<IfName> {
    Some(name.parse().unwrap())
}

fn workload(address: &str, name: &str) -> Route {
    Route::workload(address.parse().unwrap(), name.parse().unwrap(), PROTOCOL_BOOT)
}

fn foreign(destination: &str, name: &str, protocol: u8) -> Route {
    Route { device: device(name), ..Route { protocol, ..workload(destination, name) } }
}

#[test]
fn ownership_follows_calico() {
    let strict = RouteOwnership { remove_external: false, ..RouteOwnership::default() };
    let block = Route::blackhole("10.65.0.0/26".parse().unwrap());
    let bird_block = Route { protocol: 12, ..block.clone() };
    // A workload that is a BGP peer announces what is behind it.
    let behind = |protocol| Route {
        gateway: Some("10.65.0.1".parse().unwrap()),
        ..foreign("198.51.100.0/24", "cali1", protocol)
    };
    for (route, ours, ours_strict) in [
        (behind(12), false, false),
        (behind(4), true, false),
        (workload("10.65.0.1", "cali1"), true, true),
        (foreign("10.65.0.1", "cali1", 12), true, false),
        (foreign("10.65.0.1", "cali1", 80), true, true),
        (foreign("fe80::/64", "cali1", 2), false, false),
        (foreign("10.65.1.0/26", "eth0", 80), true, true),
        (foreign("10.65.1.0/26", "eth0", 12), false, false),
        (foreign("10.0.0.0/8", "eth0", 3), false, false),
        (foreign("10.65.1.0/26", "vxlan.calico", 12), true, true),
        (foreign("10.65.1.0/26", "tunl0", 80), true, true),
        (foreign("10.65.1.0/26", "tunl0", 12), true, true),
        (foreign("10.65.1.0/26", "tunl0", 3), false, false),
        (foreign("10.65.1.0/26", "bpfin.cali", 12), true, true),
        (block.clone(), true, true),
        (bird_block, false, false),
        (Route { key: RouteKey { table: 100, ..block.key }, ..block.clone() }, false, false),
        (Route { kind: RouteKind::Other(2), ..block }, false, false),
    ] {
        assert_eq!(RouteOwnership::default().is_ours(&route), ours, "{route}");
        assert_eq!(strict.is_ours(&route), ours_strict, "{route}");
    }
    let speakers = RouteOwnership { programs_ipip: false, ..RouteOwnership::default() };
    assert!(!speakers.is_ours(&foreign("10.65.1.0/26", "tunl0", 12)));
    assert!(speakers.is_ours(&foreign("10.65.1.0/26", "tunl0", 80)));
    let custom = RouteOwnership { device_protocol: 99, ..RouteOwnership::default() };
    assert!(custom.is_ours(&foreign("10.65.1.0/26", "eth0", 99)));
}
