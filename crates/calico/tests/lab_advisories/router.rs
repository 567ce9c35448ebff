//! A workload that says that it is a router (CVE-2020-13597): whoever believed it would send it everything.

use std::io::IoSlice;
use std::net::{Ipv6Addr, SocketAddrV6};
use std::os::fd::AsRawFd;

use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6, sendmsg, setsockopt, socket,
    sockopt,
};

use crate::lab::{Lab, wait_for};
use crate::packets::{answers, arrivals, count_arrivals, counted, v6};
use crate::{interface_to, within};

/// The prefix that the rogue announces.
const PREFIX: &str = "2001:db8:bad:";
const EVERYBODY: &str = "ff02::1";

/// A router advertisement (RFC 4861 §4.2): a default router for half an hour, and a prefix to make an address of.
fn advertisement() -> Vec<u8> {
    let mut packet = vec![134, 0, 0, 0, 64, 0];
    packet.extend(1800_u16.to_be_bytes());
    packet.extend([0; 8]);
    // A prefix of 64 bits, on the link and for addresses.
    packet.extend([3, 4, 64, 0xc0]);
    packet.extend(3600_u32.to_be_bytes());
    packet.extend(1800_u32.to_be_bytes());
    packet.extend([0; 4]);
    packet.extend("2001:db8:bad::".parse::<Ipv6Addr>().expect("a prefix").octets());
    packet
}

/// Sends it as routers do, with the greatest hop limit: nobody takes one that was forwarded.
fn advertise(lab: &Lab, place: &str, device: &str, to: &str) {
    // Its source is the address of the link, once that is known to be unique.
    wait_for("an address of the link", || {
        let addresses = lab.sh(place, &format!("ip -6 addr show dev {device} scope link -tentative"));
        addresses.contains("fe80::")
    });
    let to: Ipv6Addr = to.parse().expect("an address");
    within(lab, place, || {
        let kind = (AddressFamily::Inet6, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::IcmpV6);
        let socket = socket(kind.0, kind.1, kind.2, kind.3).expect("a lab needs root");
        setsockopt(&socket, sockopt::Ipv6MulticastHops, &255).expect("a hop limit");
        setsockopt(&socket, sockopt::Ipv6Ttl, &255).expect("a hop limit");
        let link = if to.is_multicast() { if_nametoindex(device).expect("the device is there") } else { 0 };
        let to = SockaddrIn6::from(SocketAddrV6::new(to, 0, 0, link));
        let packet = advertisement();
        sendmsg(socket.as_raw_fd(), &[IoSlice::new(&packet)], &[], MsgFlags::empty(), Some(&to))
            .expect("sent");
    });
}

/// Whether a place believes the rogue: an address of its prefix, or any route that an advertisement made.
fn believes(lab: &Lab, place: &str) -> bool {
    let known = lab.sh(place, "ip -6 addr; ip -6 route show table all");
    known.contains(PREFIX) || known.contains("proto ra")
}

/// The advertisement of `rogue` has come to `node`, and something that was sent after it has come through.
fn has_come(lab: &Lab, node: &str, before: u64, (rogue, neighbour): (&str, &str)) {
    wait_for("the advertisement", || arrivals(lab, node, "advertisement") > before);
    wait_for("what came after it", || answers(lab, rogue, neighbour));
}

fn what_workloads_may_do_to_the_host(lab: &Lab, action: &str, rule: &str) {
    lab.ctl(
        "apply",
        &format!(
            "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {{name: node.node1}}\n\
             spec: {{defaultEndpointToHostAction: {action}}}\n"
        ),
    );
    wait_for("the action in force", || {
        let rules = lab.sh("node1", "nft list table inet calico");
        rules.lines().any(|line| line.contains("What workloads may do to this host") && line.contains(rule))
    });
}

#[test]
fn a_rogue_router_is_nobodys_router() {
    let Some(lab) = Lab::up("router", &["--nodes", "1"]) else { return };
    let a4 = lab.add("a", &["--node", "node1"]);
    let b4 = lab.add("b", &["--node", "node1"]);
    let b6 = v6(&lab, "b");
    wait_for("a way from a to b", || answers(&lab, "a", &b4) && answers(&lab, "a", &b6));
    let (to_a, to_b) = (interface_to(&lab, "node1", &a4), interface_to(&lab, "node1", &b4));
    for place in ["node1", "b"] {
        count_arrivals(&lab, place, "advertisement", "icmpv6 type nd-router-advert");
    }
    // Its default route and one that an advertisement of the same router makes would be one and the same.
    lab.sh("b", "echo 512 > /proc/sys/net/ipv6/conf/eth0/ra_defrtr_metric");
    let accepts =
        || lab.sh("node1", &format!("cat /proc/sys/net/ipv6/conf/{to_a}/accept_ra")).trim().to_owned();
    assert_eq!(accepts(), "0");

    // Whether policy drops it or the operator lets workloads talk to the host.
    for (action, rule) in [("Drop", "drop"), ("Accept", "accept")] {
        what_workloads_may_do_to_the_host(&lab, action, rule);
        let (before, ruled) =
            (arrivals(&lab, "node1", "advertisement"), counted(&lab, "node1", "may do to this host"));
        advertise(&lab, "a", "eth0", EVERYBODY);
        has_come(&lab, "node1", before, ("a", &b4));
        wait_for("the rule", || counted(&lab, "node1", "may do to this host") > ruled);
        assert!(!believes(&lab, "node1"), "{action}");
    }

    // To another workload it comes only as forwarded, if at all.
    let before = arrivals(&lab, "b", "advertisement");
    advertise(&lab, "a", "eth0", &b6);
    has_come(&lab, "b", before, ("a", &b4));
    assert!(!believes(&lab, "b"));
    // The control: b believes a router of its own link.
    advertise(&lab, "node1", &to_b, EVERYBODY);
    wait_for("b's belief", || believes(&lab, "b"));

    // The control: without our parameter the host believes the very same packet; without it our policy alone is enough.
    what_workloads_may_do_to_the_host(&lab, "Drop", "drop");
    let _stopped = lab.stop_agent("node1");
    lab.sh("node1", &format!("echo 2 > /proc/sys/net/ipv6/conf/{to_a}/accept_ra"));
    let before = arrivals(&lab, "node1", "advertisement");
    advertise(&lab, "a", "eth0", EVERYBODY);
    has_come(&lab, "node1", before, ("a", &b4));
    assert!(!believes(&lab, "node1"), "policy alone");
    lab.sh("node1", "nft delete table inet calico");
    advertise(&lab, "a", "eth0", EVERYBODY);
    wait_for("the host's belief", || believes(&lab, "node1"));
}
