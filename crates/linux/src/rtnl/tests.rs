//! Routes, addresses, neighbours and rules against the real kernel.

use calico_dataplane::tables::fdb::{FdbEntry, FdbKey};
use calico_dataplane::tables::link::{Address, AddressOp};
use calico_dataplane::tables::neigh::{Neighbour, NeighbourOp};
use calico_dataplane::tables::route::{MAIN_TABLE, Route, RouteKey, RouteKind, RouteOp, SCOPE_GLOBAL};
use calico_dataplane::tables::tunnel::{Tunnel, TunnelKind, Vxlan};
use calico_net::{Cidr, Mac};
use proptest::prelude::*;

use super::*;
use crate::netns::Netns;
use crate::rtnl::iprule::IpRule;
use crate::rtnl::link::{LinkChange, VethEnd, VethPair};
use crate::testing::{in_netns, run};

/// In a namespace with a veth `cali1` that is up.
fn with_veth(work: impl FnOnce(&mut Rtnl) + Send) {
    in_netns(|| {
        let netns = Netns::current().unwrap();
        let mut rtnl = Rtnl::open().unwrap();
        let end = |name: &str| VethEnd { name: name.parse().unwrap(), mac: None };
        let pair = VethPair { near: end("cali1"), far: end("peer1"), mtu: 1500, queues: 1 };
        rtnl.create_veth(&pair, std::os::fd::AsFd::as_fd(&netns)).unwrap();
        for name in ["cali1", "peer1", "lo"] {
            rtnl.change_link(&name.parse().unwrap(), LinkChange { up: Some(true), ..LinkChange::default() })
                .unwrap();
        }
        rtnl.read_links().unwrap();
        work(&mut rtnl);
    });
}

fn ip(args: &[&str]) -> String {
    run("ip", args)
}

fn workload(address: &str) -> Route {
    Route::workload(address.parse().unwrap(), "cali1".parse().unwrap(), 3)
}

#[test]
fn a_renamed_interface_loses_its_old_name() {
    with_veth(|rtnl| {
        ip(&["link", "set", "cali1", "down"]);
        ip(&["link", "set", "cali1", "name", "cali9"]);
        rtnl.read_link(&"cali9".parse().unwrap()).unwrap().unwrap();
        assert!(matches!(rtnl.index(&"cali1".parse().unwrap()), Err(RtnlError::NoDevice(_))));
    });
}

/// A pod that comes again under its name has an interface of the same name and another number.
#[test]
fn an_interface_made_anew_under_its_name_is_found_at_once() {
    with_veth(|rtnl| {
        let device: calico_net::IfName = "cali1".parse().unwrap();
        let (mac, address) = (Mac([2, 0, 0, 0, 0, 9]), IpAddr::from([10, 65, 0, 1]));
        let neighbour = Neighbour::permanent(device.clone(), address, mac);
        let own = Address::alone(device.clone(), IpAddr::from([192, 0, 2, 7]));
        let remake = |rtnl: &mut Rtnl| {
            rtnl.index(&device).unwrap();
            ip(&["link", "del", "cali1"]);
            ip(&["link", "add", "cali1", "type", "veth", "peer", "name", "peer1"]);
            ip(&["link", "set", "peer1", "up"]);
            ip(&["link", "set", "cali1", "up"]);
        };
        remake(rtnl);
        assert_eq!(refusals(rtnl.apply_neighbours(&[NeighbourOp::Replace(neighbour.clone())])), "");
        remake(rtnl);
        assert_eq!(refusals(rtnl.apply_each_address(&[AddressOp::Add(own.clone())])), "");
        remake(rtnl);
        let (v4, v6) = (RouteOp::Add(workload("10.65.0.1")), RouteOp::Add(workload("fd00::1")));
        assert_eq!(refusals(rtnl.apply_routes(&[v4, RouteOp::Add(workload("10.65.0.2")), v6])), "");
        // What was on the old one went with it.
        remake(rtnl);
        assert_eq!(refusals(rtnl.apply_neighbours(&[NeighbourOp::Delete(neighbour.key.clone())])), "");
        remake(rtnl);
        assert_eq!(refusals(rtnl.apply_each_address(&[AddressOp::Delete(own)])), "");
        rtnl.index(&device).unwrap();
        ip(&["link", "del", "cali1"]);
        let gone = refusals(rtnl.apply_neighbours(&[NeighbourOp::Replace(neighbour)]));
        assert_eq!(gone, "0: no interface named cali1");
    });
}

fn refusals(outcome: Result<Vec<(usize, RtnlError)>, RtnlError>) -> String {
    let refused = outcome.unwrap();
    refused.iter().map(|(place, error)| format!("{place}: {error}")).collect()
}

#[test]
fn routes_read_back_as_written() {
    with_veth(|rtnl| {
        ip(&["addr", "add", "192.0.2.1/24", "dev", "peer1"]);
        let via = Route {
            key: RouteKey { table: 100, destination: "10.9.0.0/16".parse().unwrap(), priority: 7 },
            kind: RouteKind::Unicast,
            protocol: 80,
            scope: SCOPE_GLOBAL,
            device: Some("peer1".parse().unwrap()),
            gateway: Some("198.51.100.1".parse().unwrap()),
            onlink: true,
            source: Some("192.0.2.1".parse().unwrap()),
        };
        let wanted = [
            workload("10.65.0.1"),
            workload("fd00::1"),
            Route::blackhole("10.65.0.0/26".parse().unwrap()),
            Route::blackhole("fd00::/122".parse().unwrap()),
            via.clone(),
        ];
        let ops: Vec<_> = wanted.iter().cloned().map(RouteOp::Replace).collect();
        assert!(rtnl.apply_routes(&ops).unwrap().is_empty());
        assert!(rtnl.apply_routes(&ops).unwrap().is_empty(), "replacing with the same");
        let mut found = Vec::new();
        for family in Family::ALL {
            found.extend(rtnl.read_routes(family, MAIN_TABLE).unwrap());
        }
        found.extend(rtnl.read_routes(Family::V4, 100).unwrap());
        for route in &wanted {
            assert!(found.contains(route), "{route} is not among {found:#?}");
        }
        assert_eq!(rtnl.read_routes(Family::V4, 77).unwrap(), []);
        let deletes: Vec<_> = wanted.iter().cloned().map(RouteOp::Delete).collect();
        assert!(rtnl.apply_routes(&deletes).unwrap().is_empty());
        assert!(rtnl.apply_routes(&deletes).unwrap().is_empty(), "removing what is gone");
        let left = rtnl.read_routes(Family::V4, MAIN_TABLE).unwrap();
        assert!(wanted.iter().all(|r| !left.contains(r)));
    });
}

#[test]
fn a_refused_route_is_named_and_the_others_are_made() {
    with_veth(|rtnl| {
        let lost = Route::workload("10.65.0.2".parse().unwrap(), "cali9".parse().unwrap(), 3);
        let wrong = Route {
            gateway: Some("203.0.113.1".parse().unwrap()),
            scope: SCOPE_GLOBAL,
            ..workload("10.65.0.3")
        };
        let ops = [lost, workload("10.65.0.1"), wrong, workload("10.65.0.4")].map(RouteOp::Replace);
        let refused = rtnl.apply_routes(&ops).unwrap();
        assert_eq!(refused.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 2]);
        assert_eq!(refused[0].1.to_string(), "no interface named cali9");
        assert_eq!(refused[1].1.errno(), Some(Errno::ENETUNREACH));
        assert_eq!(ip(&["-4", "route"]).lines().count(), 2);
    });
}

#[test]
fn ten_thousand_routes_are_twenty_sends() {
    with_veth(|rtnl| {
        let block: Cidr = "10.0.0.0/16".parse().unwrap();
        let routes: Vec<_> = (0..10_000)
            .map(|n| Cidr::host(block.nth(n).unwrap()))
            .map(|c| RouteOp::Replace(Route::workload(c, "cali1".parse().unwrap(), 3)))
            .collect();
        let before = rtnl.traffic();
        assert!(rtnl.apply_routes(&routes).unwrap().is_empty());
        let after = rtnl.traffic();
        assert_eq!((after.sends - before.sends, after.messages - before.messages), (20, 10_000));
        assert_eq!(rtnl.read_routes(Family::V4, MAIN_TABLE).unwrap().len(), 10_000);
    });
}

#[test]
fn neighbours_and_addresses_and_rules() {
    with_veth(|rtnl| {
        let mac = Mac([2, 0, 0, 0, 0, 9]);
        let wanted = ["10.65.0.1", "fd00::1"]
            .map(|a| Neighbour::permanent("cali1".parse().unwrap(), a.parse().unwrap(), mac));
        assert!(rtnl.apply_neighbours(&wanted.clone().map(NeighbourOp::Replace)).unwrap().is_empty());
        let found = rtnl.read_neighbours().unwrap();
        assert!(wanted.iter().all(|n| found.contains(n)), "{found:?}");
        let deletes = wanted.map(|n| NeighbourOp::Delete(n.key));
        assert!(rtnl.apply_neighbours(&deletes).unwrap().is_empty());
        assert!(rtnl.apply_neighbours(&deletes).unwrap().is_empty());

        ip(&["addr", "add", "192.0.2.1/24", "dev", "cali1"]);
        let addresses = rtnl.read_addresses().unwrap();
        let found = addresses.iter().find(|a| a.address == IpAddr::from([192, 0, 2, 1])).unwrap();
        assert_eq!((found.device.as_str(), found.prefix_len, found.scope), ("cali1", 24, 0));

        for family in Family::ALL {
            let rule =
                IpRule { family, priority: 99, mark: 0x200000, mask: 0x200000, invert: true, table: 1000 };
            rtnl.add_rule(&rule).unwrap();
            rtnl.add_rule(&rule).unwrap();
            assert!(rtnl.read_rules(family).unwrap().contains(&rule));
            rtnl.delete_rule(&rule).unwrap();
            rtnl.delete_rule(&rule).unwrap();
            assert!(!rtnl.read_rules(family).unwrap().contains(&rule));
        }
    });
}

proptest! {
    #[test]
    fn decoders_survive_anything(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = link::decode_link(&bytes);
        let _ = addr::decode_address(&bytes);
        let _ = route::decode_route(&bytes, |_| "x".parse().ok());
        let _ = fdb::decode_fdb(&bytes, |_| "x".parse().ok());
        let _ = tunnel::decode_vxlan(&bytes, |_| "x".parse().ok());
    }

    #[test]
    fn forwarding_entries_round_trip(mac in any::<[u8; 6]>(), host in any::<Option<IpAddr>>()) {
        let key = FdbKey { device: "x".parse().unwrap(), mac: Mac(mac) };
        let entry = FdbEntry { key, host, permanent: true };
        let mut w = Writer::new();
        fdb::encode_fdb(&mut w, &entry, 5);
        prop_assert_eq!(fdb::decode_fdb(w.bytes(), |i| (i == 5).then(|| "x".parse().unwrap())), Some(entry));
    }

    #[test]
    fn vxlan_devices_round_trip(vni in any::<u32>(), port in any::<u16>(), local in any::<Option<IpAddr>>(),
                                parent in any::<bool>(), learning in any::<bool>()) {
        let parent = parent.then(|| "x".parse().unwrap());
        let local = local.filter(|local| !local.is_unspecified());
        let vxlan = Vxlan { vni, port, local, parent: parent.clone(), learning };
        let device = Tunnel {
            name: "vxlan.calico".parse().unwrap(),
            kind: TunnelKind::Vxlan(vxlan.clone()),
            mac: Some(Mac([2; 6])),
            mtu: 1450,
            up: true,
            checksum_offload: false,
        };
        let mut w = Writer::new();
        tunnel::encode_vxlan_link(&mut w, &device, parent.map(|_| 5));
        prop_assert_eq!(
            tunnel::decode_vxlan(w.bytes(), |i| (i == 5).then(|| "x".parse().unwrap())),
            Some(vxlan)
        );
    }

    #[test]
    fn routes_round_trip(bits in any::<u32>(), len in 1u8..=32, table in 1u32..100_000, priority in any::<u32>(),
                         protocol in any::<u8>(), gateway in any::<Option<u32>>(), onlink in any::<bool>()) {
        let route = Route {
            key: RouteKey { table, destination: Cidr::new(Ipv4Addr::from(bits).into(), len).unwrap(), priority },
            kind: RouteKind::Unicast,
            protocol,
            scope: 0,
            device: "x".parse().ok(),
            gateway: gateway.map(|g| Ipv4Addr::from(g).into()),
            onlink,
            source: None,
        };
        let mut w = Writer::new();
        route::encode_route(&mut w, &route, 5);
        prop_assert_eq!(route::decode_route(w.bytes(), |i| if i == 5 { "x".parse().ok() } else { None }), Some(route));
    }
}
