//! Overlays: devices, tunnel ends and routes between nodes.

use super::*;
use crate::tables::fdb::FdbKey;
use crate::tables::link::Address;
use crate::tables::neigh::NeighbourKey;
use crate::tables::tunnel::{self, TunnelKind};

fn net(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac(last: u8) -> Mac {
    Mac([0x66, 0, 0, 0, 0, last])
}

fn pool(cidr: &str, vxlan: Encap) -> Change {
    let pool = Pool { nat_outgoing: false, ipip: Encap::Never, vxlan, load_balancer_only: false };
    Change::PoolChanged(net(cidr), pool)
}

fn local(tunnel: Option<&str>) -> Change {
    let local = LocalVtep { host: addr("192.0.2.1"), addr: tunnel.map(addr), mac: mac(1) };
    Change::LocalVtepChanged(Family::V4, local)
}

fn other(host: &str, tunnel: &str, last: u8) -> Vtep {
    Vtep { host: addr(host), addr: addr(tunnel), mac: mac(last) }
}

fn end(node: &str, vtep: Vtep) -> Change {
    Change::VtepChanged(Family::V4, node.into(), vtep)
}

fn route(to: &str, node: &str, path: Path) -> Change {
    Change::RouteChanged(net(to), ClusterRoute { node: node.into(), path })
}

fn tunnelled(via: &str) -> Path {
    Path::Tunnel(Overlay::Vxlan, addr(via))
}

/// A node with a VXLAN pool, one other node, and a route to it.
fn overlaid() -> Node {
    let mut node = Node::new();
    node.link("eth0", true);
    node.kernel.add_address(Address {
        device: "eth0".parse().unwrap(),
        address: addr("192.0.2.1"),
        prefix_len: 24,
        scope: 0,
    });
    node.desired.address_changed(&"eth0".parse().unwrap(), addr("192.0.2.1"), true);
    node.update([
        pool("10.65.0.0/16", Encap::Always),
        local(Some("10.65.0.0")),
        end("two", other("192.0.2.2", "10.65.1.0", 2)),
        route("10.65.1.0/26", "two", tunnelled("10.65.1.0")),
    ]);
    let report = node.apply();
    assert_eq!((report.complete, report.problems), (true, vec![]));
    node
}

fn routes(node: &Node) -> Vec<String> {
    let all = node.kernel.routes().map(ToString::to_string);
    all.filter(|route| !route.contains("cali1")).collect()
}

const TO_TWO: &str = "10.65.1.0/26 via 10.65.1.0 dev vxlan.calico proto 80 scope 0 metric 1025 onlink";

#[test]
fn a_device_comes_before_its_ends_and_these_before_routes() {
    let mut node = overlaid();
    let log: Vec<_> =
        node.kernel.log.iter().filter(|l| !l.contains("rule") && !l.contains("element")).collect();
    assert_eq!(
        log,
        [
            "link add vxlan.calico type vxlan id 4096 dstport 4789 local 192.0.2.1 dev eth0 nolearning address \
             66:00:00:00:00:01 mtu 1450 up tx-checksumming off",
            "address add 10.65.0.0/32 dev vxlan.calico",
            "fdb replace 66:00:00:00:00:02 dev vxlan.calico dst 192.0.2.2",
            "neigh replace 10.65.1.0 dev vxlan.calico lladdr 66:00:00:00:00:02",
            &format!("route add {TO_TWO}"),
        ]
    );
    let rules = node.kernel.log.iter().position(|l| l.contains("VXLAN from elsewhere")).unwrap();
    let device = node.kernel.log.iter().position(|l| l.starts_with("link add")).unwrap();
    assert!(rules < device, "accepted from known nodes only before there is anything to accept for");
    assert!(
        node.desired.is_tunnel_ready((Overlay::Vxlan, Family::V4))
            && !node.desired.is_tunnel_ready((Overlay::Vxlan, Family::V6))
    );
    assert_eq!(node.desired.workload_mtu(), 1450);
    node.assert_settled();
}

#[test]
fn each_path_is_a_route() {
    let mut node = overlaid();
    node.update([
        route("10.65.2.0/26", "three", Path::Subnet(Overlay::Vxlan, addr("192.0.2.3"))),
        route("10.65.1.0/32", "two", tunnelled("10.65.1.0")),
        route("10.65.0.9/32", "two", tunnelled("10.65.1.0")),
        route("10.99.0.0/26", "two", Path::Plain),
        route("10.97.0.0/26", "two", Path::Awaited(Overlay::Vxlan, addr("192.0.2.2"))),
    ]);
    assert!(node.apply().complete);
    assert_eq!(
        routes(&node),
        [
            "10.65.0.9/32 via 10.65.1.0 dev vxlan.calico proto 80 scope 0 metric 1025 onlink",
            TO_TWO,
            "10.65.1.0/32 dev vxlan.calico proto 80 scope 253 metric 1025",
            "10.65.2.0/26 via 192.0.2.3 dev eth0 proto 80 scope 0 metric 1025",
        ]
    );
    node.assert_settled();
    node.update(["10.65.2.0/26", "10.65.1.0/32", "10.65.0.9/32"].map(|n| Change::RouteRemoved(net(n))));
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [TO_TWO]);
    node.assert_settled();
}

#[test]
fn a_renamed_uplink_keeps_its_address_and_the_tunnel() {
    let mut node = overlaid();
    let link = node.kernel.set_link("eth0", true);
    node.kernel.rename_link("eth0", "uplink");
    node.desired.link_changed(Link { name: "uplink".parse().unwrap(), ..link });
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [TO_TWO]);
    let tunnel = node.kernel.tunnels().next().unwrap().to_string();
    assert!(tunnel.contains("dev uplink"), "{tunnel}");
    assert!(!node.kernel.log.iter().any(|l| l.starts_with("link")), "{:#?}", node.kernel.log);
    node.assert_settled();
}

#[test]
fn without_a_tunnel_address_there_is_a_device_and_no_route() {
    let mut node = overlaid();
    node.update([local(None)]);
    assert!(node.apply().complete);
    assert!(routes(&node).is_empty());
    assert!(node.desired.is_tunnel_ready((Overlay::Vxlan, Family::V4)), "others may learn of this node now");
    node.update([local(Some("10.65.0.7"))]);
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [TO_TWO]);
    node.assert_settled();
}

#[test]
fn ends_that_exchange_addresses_keep_none_of_the_old() {
    let mut node = overlaid();
    node.update([end("three", other("192.0.2.3", "10.65.2.0", 3))]);
    assert!(node.apply().complete);
    // In either order, and with every part exchanged.
    node.update([
        end("three", other("192.0.2.3", "10.65.1.0", 2)),
        end("two", other("192.0.2.2", "10.65.2.0", 3)),
    ]);
    assert!(node.apply().complete);
    node.assert_settled();
    let fdb = node.kernel.read_fdb().unwrap();
    let entries: Vec<_> = fdb.iter().map(|e| (e.key.mac, e.host.unwrap())).collect();
    assert_eq!(entries, [(mac(2), addr("192.0.2.3")), (mac(3), addr("192.0.2.2"))]);
    node.update([Change::VtepRemoved(Family::V4, "three".into()), Change::RouteRemoved(net("10.65.1.0/26"))]);
    node.apply();
    assert_eq!(node.kernel.read_fdb().unwrap().len(), 1);
    node.assert_settled();
}

#[test]
fn a_pool_that_is_encapsulated_no_more_is_handed_over() {
    let mut node = overlaid();
    node.update([
        route("10.65.2.0/26", "two", tunnelled("10.65.1.0")),
        pool("10.65.0.0/16", Encap::Never),
        route("10.65.1.0/26", "two", Path::Plain),
        route("10.65.2.0/26", "two", Path::Plain),
        Change::VtepRemoved(Family::V4, "two".into()),
    ]);
    assert!(node.apply().complete);
    assert!(node.desired.is_handing_over());
    assert!(routes(&node).contains(&TO_TWO.to_owned()), "nobody else routes it yet");
    assert_eq!(node.kernel.tunnels().count(), 1, "others may still send here");

    // The speaker's route has come: ours goes, the device stays.
    let speakers = Route {
        protocol: 12,
        ..Route::cluster(net("10.65.1.0/26"), "eth0".parse().unwrap(), addr("192.0.2.2"), false, 12)
    };
    let mut speakers = speakers;
    speakers.key.priority = 1024;
    node.kernel.add_route(speakers.clone());
    assert!(node.desired.route_found(speakers.clone()));
    assert!(node.apply().complete);
    assert!(!routes(&node).contains(&TO_TWO.to_owned()) && routes(&node).contains(&speakers.to_string()));
    assert_eq!((node.kernel.tunnels().count(), node.kernel.read_fdb().unwrap().len()), (1, 1));

    node.desired.end_handover();
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [speakers.to_string()]);
    assert_eq!((node.kernel.tunnels().count(), node.kernel.read_fdb().unwrap().len()), (0, 0));
    assert!(!node.desired.is_handing_over());
    let chain = calico_rules::statics(&node.desired.settings().rules);
    assert!(!format!("{chain:?}").contains("VXLAN from a node"));
    node.assert_settled();
}

#[test]
fn a_pool_that_is_encapsulated_again_never_lost_its_routes() {
    let mut node = overlaid();
    node.update([pool("10.65.0.0/16", Encap::Never), route("10.65.1.0/26", "two", Path::Plain)]);
    assert!(node.apply().complete);
    node.update([
        pool("10.65.0.0/16", Encap::CrossSubnet),
        route("10.65.1.0/26", "two", tunnelled("10.65.1.0")),
    ]);
    let report = node.apply();
    assert_eq!((report.complete, report.routes, report.tunnels), (true, 0, 0));
    assert!(!node.desired.is_handing_over());
    assert_eq!(routes(&node), [TO_TWO]);
    node.assert_settled();
}

#[test]
fn what_others_remove_comes_back() {
    let mut node = overlaid();
    node.kernel.remove_link("vxlan.calico");
    node.desired.link_removed(&"vxlan.calico".parse().unwrap());
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [TO_TWO]);
    let device: calico_net::IfName = "vxlan.calico".parse().unwrap();
    let fdb = FdbKey { device: device.clone(), mac: mac(2) };
    let neighbour = NeighbourKey { device, address: addr("10.65.1.0") };
    node.kernel.forget_end(&fdb, &neighbour);
    resync(&mut node.desired, &mut node.kernel).unwrap();
    assert!(node.apply().complete);
    assert_eq!(node.kernel.log.iter().filter(|l| l.contains("replace")).count(), 2, "{:#?}", node.kernel.log);
    node.assert_settled();
}

#[test]
fn a_device_of_another_kind_is_made_anew() {
    let mut node = overlaid();
    let device: calico_net::IfName = "vxlan.calico".parse().unwrap();
    let mut other = node.kernel.tunnels().next().unwrap().clone();
    let TunnelKind::Vxlan(vxlan) = &mut other.kind else { panic!("{other}") };
    vxlan.vni = 1;
    node.kernel.apply_tunnel(&tunnel::TunnelOp::Change(other)).unwrap();
    resync(&mut node.desired, &mut node.kernel).unwrap();
    let report = node.apply();
    assert_eq!((report.complete, report.tunnels), (true, 2), "{:#?}", node.kernel.log);
    assert_eq!(routes(&node), [TO_TWO]);
    let wanted = node.desired.tunnels.wanted()[&device].clone();
    assert_eq!(node.kernel.tunnels().collect::<Vec<_>>(), [&wanted]);
    node.assert_settled();
}

#[test]
fn a_device_that_cannot_be_is_one_problem() {
    let mut node = overlaid();
    // The node's address moved to nobody.
    node.desired.address_changed(&"eth0".parse().unwrap(), addr("192.0.2.1"), false);
    let report = node.apply();
    assert_eq!(report.problems.len(), 1, "{:?}", report.problems);
    assert!(report.problems[0].reason.contains("no interface has 192.0.2.1"), "{:?}", report.problems);
    assert!(!report.complete && routes(&node).is_empty());
    node.desired.address_changed(&"eth0".parse().unwrap(), addr("192.0.2.1"), true);
    node.kernel.tunnels_fail = true;
    let report = node.apply();
    assert_eq!(report.problems.len(), 1, "routes over it are not named one by one: {:?}", report.problems);
    assert!(report.problems[0].object.starts_with("link add vxlan.calico"));
    node.kernel.tunnels_fail = false;
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [TO_TWO]);
    node.assert_settled();
}

#[test]
fn ipv6_has_a_device_of_its_own() {
    let mut node = overlaid();
    node.desired.address_changed(&"eth0".parse().unwrap(), addr("2001:db8::1"), true);
    node.kernel.add_address(Address {
        device: "eth0".parse().unwrap(),
        address: addr("2001:db8::1"),
        prefix_len: 64,
        scope: 0,
    });
    let vtep = Vtep { host: addr("2001:db8::2"), addr: addr("fd00::40"), mac: mac(2) };
    node.update([
        pool("fd00::/48", Encap::Always),
        Change::LocalVtepChanged(
            Family::V6,
            LocalVtep { host: addr("2001:db8::1"), addr: Some(addr("fd00::")), mac: mac(1) },
        ),
        Change::VtepChanged(Family::V6, "two".into(), vtep),
        route("fd00::40/122", "two", tunnelled("fd00::40")),
    ]);
    assert!(node.apply().complete);
    let wanted = "fd00::40/122 via fd00::40 dev vxlan-v6.calico proto 80 scope 0 metric 1025 onlink";
    assert!(routes(&node).contains(&wanted.to_owned()), "{:?}", routes(&node));
    assert_eq!(node.desired.workload_mtu(), 1430);
    // The end itself, before what goes by it.
    let to_end = "fd00::40/128 dev vxlan-v6.calico proto 80 scope 0 metric 1025";
    let place =
        |route: &str| node.kernel.log.iter().position(|l| *l == format!("route add {route}")).unwrap();
    assert!(place(to_end) < place(wanted));
    node.assert_settled();
    node.update([
        route("fd00::40/128", "two", tunnelled("fd00::40")),
        Change::RouteRemoved(net("fd00::40/122")),
        Change::RouteRemoved(net("fd00::40/128")),
    ]);
    assert!(node.apply().complete);
    assert!(routes(&node).contains(&to_end.to_owned()), "while there is an end");
    node.update([Change::VtepRemoved(Family::V6, "two".into())]);
    assert!(node.apply().complete);
    assert!(!routes(&node).contains(&to_end.to_owned()), "{:?}", routes(&node));
    node.update([Change::VtepChanged(Family::V6, "two".into(), vtep)]);
    assert!(node.apply().complete);
    node.assert_settled();
    cleanup(node.desired.settings(), &mut node.kernel);
    assert_eq!((node.kernel.tunnels().count(), routes(&node).len()), (0, 0));
}
