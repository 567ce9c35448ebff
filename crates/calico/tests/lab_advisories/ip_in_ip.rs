//! IP in IP (protocol 4) that a workload or a stranger on the fabric sends: its inner packet would speak as anybody.
//! VXLAN's is in `lab_vxlan`.

use std::io::IoSlice;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsRawFd;

use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendmsg, socket,
};

use crate::lab::{Lab, wait_for};
use crate::packets::{answers, arrivals, count_arrivals, counted};
use crate::within;

/// The port of the inner packet.
const PORT: u16 = 7777;

/// An IPv4 packet; the kernel that sends it fills in the checksum of the outermost header, nobody that of an inner one.
fn packet(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a short packet");
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let words = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    let sum: u32 = words.sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("few words");
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header, payload].concat()
}

/// A UDP packet of eight bytes, without a checksum.
fn datagram() -> Vec<u8> {
    [&PORT.to_be_bytes()[..], &PORT.to_be_bytes(), &[0, 16, 0, 0], b"injected"].concat()
}

/// What is sent: from a place, under its own address, to a node; within it a packet from one workload to another.
struct Injection<'a> {
    place: &'a str,
    from: &'a str,
    to: &'a str,
    inner: (&'a str, &'a str),
}

fn address(text: &str) -> Ipv4Addr {
    text.parse().expect("an address")
}

fn inject(lab: &Lab, Injection { place, from, to, inner }: Injection<'_>) {
    let inner = packet(17, address(inner.0), address(inner.1), &datagram());
    send(lab, place, to, &packet(4, address(from), address(to), &inner));
}

fn send(lab: &Lab, place: &str, to: &str, packet: &[u8]) {
    let to = SockaddrIn::from(SocketAddrV4::new(address(to), 0));
    within(lab, place, || {
        let socket = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)
            .expect("root");
        sendmsg(socket.as_raw_fd(), &[IoSlice::new(packet)], &[], MsgFlags::empty(), Some(&to))
            .expect("sent");
    });
}

#[test]
fn ip_in_ip_of_workloads_and_strangers_comes_to_nobody() {
    let Some(lab) = Lab::up("ipip", &["--nodes", "2"]) else { return };
    let a4 = lab.add("a", &["--node", "node1"]);
    let b4 = lab.add("b", &["--node", "node2"]);
    let c4 = lab.add("c", &["--node", "node1"]);
    wait_for("ways to b and to c", || answers(&lab, "a", &b4) && answers(&lab, "a", &c4));
    for place in ["b", "c"] {
        count_arrivals(&lab, place, "inner", &format!("udp dport {PORT}"));
    }
    for node in ["node1", "node2"] {
        count_arrivals(&lab, node, "outer", "meta l4proto 4");
    }
    let refused = || counted(&lab, "node1", "Workloads may not send IP in IP");
    let outer = |node: &str| arrivals(&lab, node, "outer");

    // The control: the inner packet alone arrives, so a node that unpacked it would deliver it.
    send(&lab, "a", &b4, &packet(17, address(&a4), address(&b4), &datagram()));
    wait_for("the inner packet", || arrivals(&lab, "b", "inner") == 1);

    // A workload's does not leave its node, and its own node does not take it, whomever it says to be inside.
    let arrived = outer("node2");
    for (to, inner) in [("10.65.0.2", (&*c4, &*b4)), ("10.65.0.1", (&*b4, &*c4)), (&*b4, (&*c4, &*b4))] {
        let before = refused();
        inject(&lab, Injection { place: "a", from: &a4, to, inner });
        wait_for("its end", || refused() == before + 1);
    }
    assert_eq!(outer("node2"), arrived);

    // A stranger's arrives at the node and no further.
    let before = outer("node2");
    inject(&lab, Injection { place: "fabric", from: "10.65.0.254", to: "10.65.0.2", inner: (&a4, &b4) });
    wait_for("the stranger's packet", || outer("node2") == before + 1);
    wait_for("what came after it", || answers(&lab, "a", &b4));
    assert_eq!((arrivals(&lab, "b", "inner"), arrivals(&lab, "c", "inner")), (1, 0));

    // The control: where the operator allows it the workload's packet leaves.
    lab.ctl(
        "apply",
        "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\n\
         spec: {allowIPIPPacketsFromWorkloads: true}\n",
    );
    wait_for("the permission", || {
        !lab.sh("node1", "nft list table inet calico").contains("Workloads may not send IP in IP")
    });
    let before = outer("node2");
    inject(&lab, Injection { place: "a", from: &a4, to: "10.65.0.2", inner: (&c4, &b4) });
    wait_for("the allowed packet", || outer("node2") == before + 1);
}
