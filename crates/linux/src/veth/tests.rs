//! Container links in namespaces of our own: made, used by real packets, made again, removed.

use super::*;
use crate::testing::{add_local_v6, in_netns, run};

fn ip(args: &[&str]) -> String {
    run("ip", args)
}

fn link(addresses: &[&str]) -> ContainerLink {
    ContainerLink {
        host: "cali0123456789a".parse().unwrap(),
        container: "eth0".parse().unwrap(),
        container_mac: None,
        mtu: 1430,
        queues: 1,
        addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        routes: vec![Cidr::everything(Family::V4), Cidr::everything(Family::V6)],
        forwarding: false,
        host_routes: Some(3),
    }
}

/// Runs with a host namespace (entered) and a container namespace (not entered).
fn in_two_netns(work: impl FnOnce(&Netns) + Send) {
    in_netns(|| {
        let container = Netns::create().unwrap();
        work(&container);
    });
}

#[test]
fn both_families_work_at_once() {
    in_two_netns(|netns| {
        let sysctl = Sysctl::default();
        let mut host = Rtnl::open().unwrap();
        let made = link(&["10.65.0.7", "fd00:65::7"]).create(&mut host, &sysctl, netns).unwrap();
        let inside = |args: &[&str]| netns.run(|| ip(args)).unwrap();
        assert!(inside(&["-4", "route"]).contains("default via 169.254.1.1 dev eth0"));
        assert!(inside(&["-4", "route"]).contains("169.254.1.1 dev eth0 scope link"));
        assert!(inside(&["-6", "route"]).contains("default via fe80::ecee:eeff:feee:eeee dev eth0"));
        assert!(inside(&["addr", "show", "eth0"]).contains("inet 10.65.0.7/32 scope global eth0"));
        assert!(inside(&["link", "show", "eth0"]).contains(&made.container_mac.to_string()));
        assert!(inside(&["link", "show", "eth0"]).contains("mtu 1430"));
        assert!(ip(&["link", "show", "cali0123456789a"]).contains("link/ether ee:ee:ee:ee:ee:ee"));
        assert!(ip(&["-4", "route"]).contains("10.65.0.7 dev cali0123456789a scope link metric 1024"));
        assert!(ip(&["-6", "route"]).contains("fd00:65::7 dev cali0123456789a metric 1024"));
        assert_eq!(sysctl.read("net/ipv4/conf/cali0123456789a/proxy_arp").unwrap(), "1");
        assert_eq!(sysctl.read("net/ipv6/conf/cali0123456789a/proxy_ndp").unwrap(), "1");
        // The gateways answer, and the host reaches the container: real packets both ways.
        // Proxy ARP answers for what the host has a route to, over another interface: any default route will do.
        ip(&["link", "set", "lo", "up"]);
        ip(&["route", "add", "default", "dev", "lo"]);
        ip(&["addr", "add", "192.0.2.1/32", "dev", "lo"]);
        add_local_v6("2001:db8::1");
        for (server, client) in [("192.0.2.1:7000", "10.65.0.7:0"), ("[2001:db8::1]:7000", "[fd00:65::7]:0")]
        {
            let socket = std::net::UdpSocket::bind(server).unwrap();
            socket.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
            netns
                .run(|| std::net::UdpSocket::bind(client).unwrap().send_to(b"hello", server).unwrap())
                .unwrap();
            let mut buffer = [0; 16];
            let (len, from) = socket.recv_from(&mut buffer).expect(client);
            assert_eq!(&buffer[..len], b"hello");
            assert!(client.starts_with(&from.to_string()[..5]));
        }
    });
}

#[test]
fn an_add_again_replaces_what_was_left_and_a_delete_is_idempotent() {
    in_two_netns(|netns| {
        let mut host = Rtnl::open().unwrap();
        let sysctl = Sysctl::default();
        let link = link(&["10.65.0.7"]);
        let first = link.create(&mut host, &sysctl, netns).unwrap();
        let second = link.create(&mut host, &sysctl, netns).unwrap();
        assert_ne!(first.host_index, second.host_index);
        assert!(delete_in(netns, &link.container).unwrap());
        assert!(!delete_in(netns, &link.container).unwrap());
        assert_eq!(host.read_link(&link.host).unwrap(), None);
        assert_eq!(ip(&["-4", "route"]), "");
    });
}

#[test]
fn a_taken_address_is_refused_and_nothing_is_left() {
    in_two_netns(|netns| {
        let mut host = Rtnl::open().unwrap();
        let sysctl = Sysctl::default();
        let first = link(&["10.65.0.7"]);
        first.create(&mut host, &sysctl, netns).unwrap();
        let other = Netns::create().unwrap();
        let second = ContainerLink { host: "cali2".parse().unwrap(), ..link(&["10.65.0.7"]) };
        let error = second.create(&mut host, &sysctl, &other).unwrap_err();
        assert_eq!(error.to_string(), "route to 10.65.0.7/32 exists already, over cali0123456789a");
        assert_eq!(host.read_link(&second.host).unwrap(), None);
        assert!(host.read_link(&first.host).unwrap().is_some());
        // A container side whose name is taken is an error, and the host side is not touched for it.
        let third = ContainerLink { host: "cali3".parse().unwrap(), ..link(&["10.65.0.8"]) };
        assert!(third.create(&mut host, &sysctl, netns).is_err());
        assert_eq!(host.read_link(&third.host).unwrap(), None);
    });
}

#[test]
fn the_container_gets_the_mac_and_forwarding_it_asks_for() {
    in_two_netns(|netns| {
        let mac = Mac([2, 0, 0, 0, 0, 1]);
        let wanted =
            ContainerLink { container_mac: Some(mac), forwarding: true, queues: 2, ..link(&["10.65.0.7"]) };
        let made = wanted.create(&mut Rtnl::open().unwrap(), &Sysctl::default(), netns).unwrap();
        assert_eq!(made.container_mac, mac);
        let forwarding = netns.run(|| Sysctl::default().read("net/ipv4/ip_forward").unwrap()).unwrap();
        assert_eq!(forwarding, "1");
        let link =
            netns.run(|| Rtnl::open().unwrap().read_link(&wanted.container).unwrap().unwrap()).unwrap();
        assert_eq!(
            (link.index, link.mac, link.mtu, &*link.kind),
            (made.container_index, Some(mac), 1430, "veth")
        );
    });
}
