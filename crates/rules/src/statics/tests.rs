//! The skeleton: unknown interfaces, source checks, workload to host, tunnels, outgoing NAT.

use calico_net::{Cidr, Family, PortRange, Protocol};

use crate::config::{Config, EndpointToHost};
use crate::eval::{Fate, Header, Journey, Packet, Ruleset};
use crate::interval;
use crate::ir::ct;
use crate::nft::Element;
use crate::sets;
use crate::world::{World, pod, tcp, tiers};

fn world(config: Config) -> World {
    World::new(config, &[]).hosts(&[], None).workload(pod(1, &tiers(&[]), &["open"]))
}

#[test]
fn workload_interfaces_that_nobody_knows_are_closed() {
    let world = world(Config::default());
    for (way, open) in [
        (["cali1", "eth0"], true),
        (["cali9", "eth0"], false),
        (["eth0", "cali1"], true),
        (["eth0", "cali9"], false),
        (["eth0", "eth1"], true),
    ] {
        assert_eq!(world.arrives(Journey::Forward, tcp("10.0.0.1", "192.0.2.1", 80, way)), open, "{way:?}");
    }
    let to_host = tcp("10.0.0.1", "192.0.2.9", 80, ["cali9", ""]);
    assert!(!world.arrives(Journey::Input, to_host));
}

#[test]
fn workloads_can_not_borrow_addresses() {
    let spoofed = |source: &str| {
        let to = if source.contains(':') { "fd01::1" } else { "192.0.2.1" };
        Packet { reverse_path: false, ..tcp(source, to, 80, ["cali1", "eth0"]) }
    };
    let world = world(Config::default());
    assert!(!world.arrives(Journey::Forward, spoofed("10.0.0.2")));
    assert!(!world.arrives(Journey::Forward, spoofed("fd00::2")));
    assert!(!world.arrives(Journey::Forward, spoofed("fe80::1")));
    // From elsewhere the reverse path is not ours to check.
    let asymmetric = Packet { in_interface: "eth1".into(), ..spoofed("192.0.2.77") };
    assert!(world.arrives(Journey::Forward, asymmetric));

    let mut favoured = pod(2, &tiers(&[]), &["open"]);
    favoured.allowed_sources = vec!["10.9.0.0/16".parse().unwrap()];
    let world = world.workload(favoured);
    let of_second = |packet| Packet { in_interface: "cali2".into(), ..packet };
    assert!(world.arrives(Journey::Forward, of_second(spoofed("10.9.1.1"))));
    assert!(!world.arrives(Journey::Forward, of_second(spoofed("10.8.1.1"))));
    assert!(!world.arrives(Journey::Forward, of_second(spoofed("fd00::2"))));
    assert!(!world.arrives(Journey::Forward, spoofed("10.9.1.1")));
}

#[test]
fn neighbour_discovery_reaches_the_host_from_the_first_packet_on() {
    let world = world(Config::default());
    let icmp = |source: &str, icmp_type| {
        let header = Header::Icmp(icmp_type, 0);
        let packet =
            Packet::new(source.parse().unwrap(), "ff02::1".parse().unwrap(), Protocol::ICMPV6, header);
        Packet { in_interface: "cali1".into(), reverse_path: false, ct_state: ct::UNTRACKED, ..packet }
    };
    for source in ["::", "fe80::1"] {
        for icmp_type in [130, 131, 132, 133, 135, 136] {
            assert!(world.arrives(Journey::Input, icmp(source, icmp_type)), "{source} {icmp_type}");
        }
        assert!(!world.arrives(Journey::Input, icmp(source, 134)), "workloads are no routers");
    }
    assert!(!world.arrives(Journey::Input, icmp("fd00::2", 135)));
}

#[test]
fn what_workloads_may_do_to_the_host_is_the_operators_choice() {
    for (choice, fate) in [
        (EndpointToHost::Drop, Fate::Drop),
        (EndpointToHost::Accept, Fate::Accept),
        (EndpointToHost::Return, Fate::Continue),
    ] {
        let world = world(Config { endpoint_to_host: choice, ..Config::default() });
        let packet = tcp("10.0.0.1", "192.0.2.9", 80, ["cali1", ""]);
        let input = |p| Ruleset::new(&world.fragment.inet).run_chain("filter-INPUT", p).fate;
        assert_eq!(input(packet.clone()), fate);
        assert_eq!(input(Packet { ct_state: ct::ESTABLISHED, ..packet }), Fate::Accept);
    }
}

#[test]
fn tunnels_take_packets_of_nodes_only() {
    let mut world = world(Config { vxlan: true, ipip: true, ..Config::default() });
    let node = "192.0.2.2".parse().unwrap();
    for id in [sets::id::HOSTS, sets::id::VXLAN_HOSTS] {
        let element = Element::Exact(sets::address_key(node));
        world.fragment.inet.elements.push((sets::exact_name(Family::V4, id), element));
    }
    let vxlan = |source: &str| {
        let header = Header::Ports(50000, 4789);
        let packet =
            Packet::new(source.parse().unwrap(), "192.0.2.9".parse().unwrap(), Protocol::UDP, header);
        Packet { in_interface: "eth0".into(), destination_local: true, ..packet }
    };
    let ipip = |source: &str| Packet { protocol: 4, header: Header::Opaque, ..vxlan(source) };
    for packet in [vxlan("192.0.2.2"), ipip("192.0.2.2")] {
        assert_eq!(world.fate(Journey::Input, packet), Fate::Accept);
    }
    for packet in [vxlan("192.0.2.3"), ipip("192.0.2.3")] {
        assert!(!world.arrives(Journey::Input, packet));
    }
    // IPv4 in IPv6 is no tunnel of ours.
    let (source, destination) = ("2001:db8::3".parse().unwrap(), "2001:db8::9".parse().unwrap());
    assert!(world.arrives(Journey::Input, Packet { source, destination, ..ipip("192.0.2.3") }));
    assert_eq!(world.send(Journey::Input, vxlan("192.0.2.2")).packet.ct_state, ct::UNTRACKED);
}

#[test]
fn workloads_that_leave_the_pools_are_masqueraded() {
    let config = Config { nat_spares_hosts: true, ..Config::default() };
    let mut world = world(config);
    let pool: Cidr = "10.0.0.0/16".parse().unwrap();
    for id in [sets::id::MASQUERADED_POOLS, sets::id::POOLS] {
        for (first, last) in interval::net_union([&pool], Family::V4) {
            let key = |n| interval::address_key(n, Family::V4);
            let element = Element::Interval { first: key(first), last: key(last) };
            world.fragment.inet.elements.push((sets::nets_name(Family::V4, id), element));
        }
    }
    let node = Element::Exact(sets::address_key("192.0.2.2".parse().unwrap()));
    world.fragment.inet.elements.push((sets::exact_name(Family::V4, sets::id::HOSTS), node));
    let nat = |source: &str, destination: &str| {
        world.send(Journey::Forward, tcp(source, destination, 80, ["cali1", "eth0"])).source_nat
    };
    assert_eq!(nat("10.0.0.1", "198.51.100.1"), Some(None));
    assert_eq!(nat("10.0.0.1", "10.0.3.1"), None);
    assert_eq!(nat("10.0.0.1", "192.0.2.2"), None, "nodes are spared");
    assert_eq!(nat("10.1.0.1", "198.51.100.1"), None, "not of a pool");
    assert_eq!(nat("fd00::1", "fd01::1"), None);
}

#[test]
fn nat_takes_its_address_and_ports_from_the_configuration() {
    let config = Config {
        nat_address: Some([203, 0, 113, 1].into()),
        nat_ports: Some(PortRange { first: 1000, last: 2000 }),
        ..Config::default()
    };
    let world = world(config);
    let chain = world.fragment.inet.chains.iter().find(|c| c.name == "cali-nat-outgoing").unwrap();
    assert_eq!(chain.rules.len(), 6, "TCP, UDP and the rest, for both families");
}

#[test]
fn services_without_endpoints_do_not_loop() {
    let world = world(Config { service_nets: vec!["10.96.0.0/12".parse().unwrap()], ..Config::default() });
    assert!(!world.arrives(Journey::Forward, tcp("192.0.2.1", "10.96.0.10", 80, ["eth0", "eth1"])));
    assert!(world.arrives(Journey::Forward, tcp("192.0.2.1", "10.95.0.10", 80, ["eth0", "eth1"])));
}
