//! IP in IP: one device, routes by the nodes' own addresses, and pools that change hands between it, VXLAN and none.

use super::*;
use crate::tables::link::Address;
use crate::tables::tunnel::{self, TunnelId};

const IPIP: TunnelId = (Overlay::Ipip, Family::V4);
const VXLAN: TunnelId = (Overlay::Vxlan, Family::V4);
const BLOCK: &str = "10.65.1.0/26";
const BY_IPIP: &str = "10.65.1.0/26 via 192.0.2.2 dev tunl0 proto 80 scope 0 metric 1025 onlink";
const BY_VXLAN: &str = "10.65.1.0/26 via 10.65.1.0 dev vxlan.calico proto 80 scope 0 metric 1025 onlink";

fn net(text: &str) -> Cidr {
    text.parse().unwrap()
}

fn addr(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pool(overlay: Option<Overlay>) -> Change {
    let mode = |of| if overlay == Some(of) { Encap::Always } else { Encap::Never };
    let (ipip, vxlan) = (mode(Overlay::Ipip), mode(Overlay::Vxlan));
    let pool = Pool { nat_outgoing: false, ipip, vxlan, load_balancer_only: false };
    Change::PoolChanged(net("10.65.0.0/16"), pool)
}

fn route(to: &str, path: Path) -> Change {
    Change::RouteChanged(net(to), ClusterRoute { node: "two".into(), path })
}

/// This node's end of VXLAN, with or without a tunnel address.
fn local_vtep(tunnel: Option<&str>) -> Change {
    let mac = Mac([0x66, 0, 0, 0, 0, 1]);
    let local = LocalVtep { host: addr("192.0.2.1"), addr: tunnel.map(addr), mac };
    Change::LocalVtepChanged(Family::V4, local)
}

fn vtep() -> Change {
    let (host, tunnel, mac) = (addr("192.0.2.2"), addr("10.65.1.0"), Mac([0x66, 0, 0, 0, 0, 2]));
    Change::VtepChanged(Family::V4, "two".into(), Vtep { host, addr: tunnel, mac })
}

fn tunnelled() -> Path {
    Path::Tunnel(Overlay::Ipip, addr("192.0.2.2"))
}

/// A node with its own address and nothing else, under these settings.
fn bare(settings: Settings) -> Node {
    let mut node = Node { desired: Desired::new(settings), kernel: FakeKernel::new() };
    node.link("eth0", true);
    let device: calico_net::IfName = "eth0".parse().unwrap();
    let address = Address { device: device.clone(), address: addr("192.0.2.1"), prefix_len: 24, scope: 0 };
    node.kernel.add_address(address);
    node.desired.address_changed(&device, addr("192.0.2.1"), true);
    node.update([local_vtep(None)]);
    node
}

/// A node with a pool in IPIP, one other node, and a route to it.
fn overlaid() -> Node {
    let mut node = bare(Settings::default());
    node.update([
        pool(Some(Overlay::Ipip)),
        Change::LocalIpipChanged(addr("10.65.0.0")),
        route(BLOCK, tunnelled()),
    ]);
    let report = node.apply();
    assert_eq!((report.complete, report.problems), (true, vec![]));
    node
}

fn routes(node: &Node) -> Vec<String> {
    node.kernel.routes().map(ToString::to_string).collect()
}

fn addresses(node: &mut Node) -> Vec<String> {
    let all = node.kernel.read_addresses().unwrap().into_iter();
    all.filter(|a| tunnel::is_ours(&a.device)).map(|a| format!("{} {}", a.device, a.address)).collect()
}

#[test]
fn a_device_with_an_address_comes_before_routes_and_after_rules() {
    let mut node = overlaid();
    let log: Vec<_> = node
        .kernel
        .log
        .iter()
        .filter(|l| ["link", "address", "route"].iter().any(|w| l.starts_with(w)))
        .collect();
    assert_eq!(
        log,
        [
            "link add tunl0 type ipip mtu 1480 up tx-checksumming on",
            "address add 10.65.0.0/32 dev tunl0",
            &format!("route add {BY_IPIP}"),
        ]
    );
    let rules = node.kernel.log.iter().position(|l| l.contains("IP in IP from elsewhere")).unwrap();
    let device = node.kernel.log.iter().position(|l| l.starts_with("link add")).unwrap();
    assert!(rules < device, "accepted from known nodes only before there is anything to accept for");
    assert_eq!(node.kernel.sysctls["net/ipv4/conf/tunl0/rp_filter"], "2");
    assert!(node.desired.is_tunnel_ready(IPIP) && !node.desired.is_tunnel_ready(VXLAN));
    assert_eq!(node.desired.workload_mtu(), 1480);
    node.assert_settled();
}

#[test]
fn each_path_is_a_route() {
    let mut node = overlaid();
    node.update([
        route("10.65.2.0/26", Path::Subnet(Overlay::Ipip, addr("192.0.2.3"))),
        route("10.65.3.0/26", Path::Awaited(Overlay::Ipip, addr("192.0.2.4"))),
        route("10.65.0.9/32", tunnelled()),
        route("10.99.0.0/26", Path::Plain),
    ]);
    assert!(node.apply().complete);
    assert_eq!(
        routes(&node),
        [
            "10.65.0.9/32 via 192.0.2.2 dev tunl0 proto 80 scope 0 metric 1025 onlink",
            BY_IPIP,
            "10.65.2.0/26 via 192.0.2.3 dev eth0 proto 80 scope 0 metric 1025",
            "10.65.3.0/26 via 192.0.2.4 dev tunl0 proto 80 scope 0 metric 1025 onlink",
        ]
    );
    // Without an address of its own the tunnel serves workloads all the same.
    node.update([Change::LocalIpipRemoved]);
    assert!(node.apply().complete);
    assert_eq!((routes(&node).len(), addresses(&mut node)), (4, vec![]));
    node.assert_settled();
}

#[test]
fn options_decide_of_the_device_its_mtu_and_the_routes() {
    let ipip = |enabled, mtu, routes| Settings {
        ipip: IpipSettings { enabled, mtu, routes },
        ..Settings::default()
    };
    let pools = || [pool(Some(Overlay::Ipip)), route(BLOCK, tunnelled())];
    for (settings, changes, device, mtu, routed) in [
        (ipip(None, 0, true), vec![], false, 1500, false),
        (ipip(Some(true), 0, true), vec![], true, 1480, false),
        (ipip(Some(false), 0, true), pools().into(), false, 1500, false),
        (ipip(None, 1300, true), pools().into(), true, 1300, true),
        (ipip(None, 0, false), pools().into(), true, 1480, false),
    ] {
        let what = format!("{:?}, {} changes", settings.ipip, changes.len());
        let mut node = bare(settings);
        node.update(changes);
        assert!(node.apply().complete, "{what}");
        assert_eq!(
            (node.kernel.tunnels().count() == 1, node.desired.workload_mtu()),
            (device, mtu),
            "{what}"
        );
        assert_eq!(!routes(&node).is_empty(), routed, "{what}");
        node.assert_settled();
    }
    let mut node = overlaid();
    node.desired.set_host_mtu(9000);
    assert!(node.apply().complete);
    assert_eq!((node.kernel.tunnels().next().unwrap().mtu, node.desired.workload_mtu()), (8980, 8980));
}

#[test]
fn a_kernel_without_the_module_costs_the_tunnel_alone() {
    let mut node = bare(Settings::default());
    node.kernel.no_ipip = true;
    node.link("cali1", true);
    node.update([
        net_set("s:a", &["10.65.0.9/32"]),
        Change::PolicyChanged(policy_key("a"), policy(&["s:a"])),
        Change::ProfileChanged("kns.default".into(), Arc::new(Profile::default())),
        pool(Some(Overlay::Ipip)),
        Change::LocalIpipChanged(addr("10.65.0.0")),
        route(BLOCK, tunnelled()),
        route("10.65.2.0/26", Path::Subnet(Overlay::Ipip, addr("192.0.2.3"))),
        changed("one", "cali1", "10.65.0.1/32", &["a"]),
    ]);
    let report = node.apply();
    let objects: Vec<_> = report.problems.iter().map(|p| p.object.as_str()).collect();
    assert_eq!(objects, ["link add tunl0 type ipip mtu 1480 up tx-checksumming on"], "{:?}", report.problems);
    assert!(report.enforced && !report.complete && !node.desired.is_tunnel_ready(IPIP));
    let found = routes(&node);
    assert!(
        !found.contains(&BY_IPIP.to_owned()) && found.iter().any(|r| r.contains("dev cali1")),
        "{found:?}"
    );
    assert!(found.iter().any(|r| r.contains("via 192.0.2.3 dev eth0")), "{found:?}");
    // The operator loads it.
    node.kernel.no_ipip = false;
    assert!(node.apply().complete);
    assert!(routes(&node).contains(&BY_IPIP.to_owned()) && node.desired.is_tunnel_ready(IPIP));
    node.assert_settled();
}

#[test]
fn what_nobody_configured_is_switched_off() {
    let mut node = overlaid();
    let device: calico_net::IfName = "tunl0".parse().unwrap();
    let foreign = Route {
        protocol: 3,
        ..Route::cluster(net("10.99.0.0/26"), device.clone(), addr("192.0.2.9"), true, 3)
    };
    node.kernel.add_route(foreign);
    // Another agent, which knows of no pool.
    node.desired = Desired::new(Settings::default());
    resync(&mut node.desired, &mut node.kernel).unwrap();
    assert!(node.apply().complete);
    assert_eq!((node.kernel.tunnels().count(), addresses(&mut node), routes(&node)), (0, vec![], vec![]));
    let link = node.kernel.read_links().unwrap().into_iter().find(|link| link.name == device);
    assert!(link.is_some_and(|link| !link.admin_up), "the kernel keeps it");
    node.assert_settled();
    // The operator's command leaves as little.
    let mut node = overlaid();
    assert_eq!(cleanup(node.desired.settings(), &mut node.kernel), []);
    assert_eq!((node.kernel.tunnels().count(), addresses(&mut node), routes(&node)), (0, vec![], vec![]));
}

#[test]
fn from_ipip_to_vxlan_the_old_way_stays_until_the_new_one_is_there() {
    let mut node = overlaid();
    let awaited = Path::Awaited(Overlay::Vxlan, addr("192.0.2.2"));
    node.update([pool(Some(Overlay::Vxlan)), route(BLOCK, awaited)]);
    assert!(node.apply().complete);
    assert!(node.desired.is_handing_over() && node.desired.is_tunnel_ready(VXLAN));
    assert_eq!(routes(&node), [BY_IPIP], "the other node has no end yet");
    let by_vxlan = Path::Tunnel(Overlay::Vxlan, addr("10.65.1.0"));
    node.update([vtep(), route(BLOCK, by_vxlan)]);
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [BY_IPIP], "this node has no tunnel address yet");
    node.update([local_vtep(Some("10.65.0.1"))]);
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [BY_VXLAN]);
    let moves: Vec<_> = node.kernel.log.iter().filter(|l| l.starts_with("route")).collect();
    assert_eq!(moves, [&format!("route replace {BY_VXLAN}")], "in one step");
    // Others that have not heard of it are still heard.
    assert_eq!(node.kernel.tunnels().count(), 2);
    assert!(node.desired.is_tunnel_ready(IPIP) && node.desired.settings().rules.ipip);
    node.update([Change::LocalIpipRemoved]);
    node.desired.end_handover();
    assert!(node.apply().complete);
    assert_eq!((routes(&node), node.kernel.tunnels().count()), (vec![BY_VXLAN.to_owned()], 1));
    assert!(!node.desired.is_handing_over() && !node.desired.settings().rules.ipip);
    node.assert_settled();
}

#[test]
fn from_vxlan_to_ipip_the_old_way_stays_until_the_other_receives() {
    let mut node = bare(Settings::default());
    let by_vxlan = Path::Tunnel(Overlay::Vxlan, addr("10.65.1.0"));
    node.update([pool(Some(Overlay::Vxlan)), local_vtep(Some("10.65.0.1")), vtep(), route(BLOCK, by_vxlan)]);
    assert!(node.apply().complete);
    let awaited = Path::Awaited(Overlay::Ipip, addr("192.0.2.2"));
    node.update([pool(Some(Overlay::Ipip)), route(BLOCK, awaited), route("10.65.2.0/26", awaited)]);
    assert!(node.apply().complete);
    assert!(node.desired.is_tunnel_ready(IPIP));
    let new = "10.65.2.0/26 via 192.0.2.2 dev tunl0 proto 80 scope 0 metric 1025 onlink";
    assert_eq!(routes(&node), [BY_VXLAN, new], "what had no way has one at once");
    // It says so: in one step.
    let mut told = Node { desired: node.desired, kernel: node.kernel.clone() };
    told.update([route(BLOCK, tunnelled())]);
    assert!(told.apply().complete);
    assert_eq!(routes(&told), [BY_IPIP, new]);
    told.desired.end_handover();
    assert!(told.apply().complete);
    assert_eq!((routes(&told), told.kernel.tunnels().count()), (vec![BY_IPIP.to_owned(), new.to_owned()], 1));
    told.assert_settled();
}

#[test]
fn a_node_that_never_names_a_tunnel_address_is_reached_in_the_end() {
    let mut node = bare(Settings::default());
    let by_vxlan = Path::Tunnel(Overlay::Vxlan, addr("10.65.1.0"));
    node.update([pool(Some(Overlay::Vxlan)), local_vtep(Some("10.65.0.1")), vtep(), route(BLOCK, by_vxlan)]);
    assert!(node.apply().complete);
    node.update([pool(Some(Overlay::Ipip)), route(BLOCK, Path::Awaited(Overlay::Ipip, addr("192.0.2.2")))]);
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [BY_VXLAN]);
    node.desired.end_handover();
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [BY_IPIP]);
    node.assert_settled();
}

#[test]
fn what_is_kept_says_since_when_and_for_whom() {
    let kept = |node: &Node| node.desired.kept().map(|kept| (kept.begun, kept.is_awaited));
    let mut node = bare(Settings::default());
    let by_vxlan = Path::Tunnel(Overlay::Vxlan, addr("10.65.1.0"));
    node.update([pool(Some(Overlay::Vxlan)), local_vtep(Some("10.65.0.1")), vtep(), route(BLOCK, by_vxlan)]);
    node.update([route("10.65.2.0/26", by_vxlan)]);
    assert!(node.apply().complete);
    assert_eq!(kept(&node), None);
    let awaited = Path::Awaited(Overlay::Ipip, addr("192.0.2.2"));
    node.update([pool(Some(Overlay::Ipip)), route(BLOCK, awaited)]);
    assert!(node.apply().complete);
    assert_eq!(kept(&node), Some((2, true)), "a route and a device");
    node.update([route(BLOCK, awaited)]);
    assert!(node.apply().complete);
    assert_eq!(kept(&node), Some((2, true)), "nothing more");
    // Another pool's turn, while the first one's device still fades.
    node.update([route("10.65.2.0/26", awaited)]);
    assert!(node.apply().complete);
    assert_eq!(kept(&node), Some((3, true)));
    node.update([route(BLOCK, tunnelled()), route("10.65.2.0/26", tunnelled())]);
    assert!(node.apply().complete);
    assert_eq!(kept(&node), Some((3, false)), "the device alone");
    node.desired.end_handover();
    assert!(node.apply().complete);
    assert_eq!(kept(&node), None);
    node.assert_settled();
}

#[test]
fn from_ipip_to_none_the_speaker_takes_over() {
    let mut node = overlaid();
    node.update([pool(None), route(BLOCK, Path::Plain)]);
    assert!(node.apply().complete);
    assert_eq!(routes(&node), [BY_IPIP], "nobody else routes it yet");
    let mut speakers = Route::cluster(net(BLOCK), "eth0".parse().unwrap(), addr("192.0.2.2"), false, 12);
    speakers.key.priority = 1024;
    node.kernel.add_route(speakers.clone());
    assert!(node.desired.route_found(speakers.clone()));
    assert!(node.apply().complete);
    assert_eq!((routes(&node), node.kernel.tunnels().count()), (vec![speakers.to_string()], 1));
    node.desired.end_handover();
    assert!(node.apply().complete);
    assert_eq!((routes(&node), node.kernel.tunnels().count()), (vec![speakers.to_string()], 0));
    assert_eq!(addresses(&mut node), Vec::<String>::new());
    node.assert_settled();
}

#[test]
fn a_node_whose_end_is_disputed_keeps_no_way_to_the_old_one() {
    let mut node = bare(Settings::default());
    let by_vxlan = Path::Tunnel(Overlay::Vxlan, addr("10.65.1.0"));
    node.update([pool(Some(Overlay::Vxlan)), local_vtep(Some("10.65.0.1")), vtep(), route(BLOCK, by_vxlan)]);
    assert!(node.apply().complete);
    node.update([
        route(BLOCK, Path::Awaited(Overlay::Vxlan, addr("192.0.2.2"))),
        Change::VtepRemoved(Family::V4, "two".into()),
    ]);
    assert!(node.apply().complete);
    assert_eq!(routes(&node), Vec::<String>::new());
    assert!(!node.desired.is_handing_over());
    node.assert_settled();
}
