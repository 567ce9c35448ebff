//! What a wire has carried, read from a capture file (pcap: draft-ietf-opsawg-pcap; written by qemu's `filter-dump`).

use std::net::Ipv4Addr;
use std::path::Path;

/// An IPv4 packet, or one within another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub from: Ipv4Addr,
    pub to: Ipv4Addr,
    pub protocol: u8,
    /// The UDP port that it is for, if it is one.
    pub port: Option<u16>,
}

/// An IPv4 packet on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    pub outer: Header,
    /// What IP in IP has within.
    pub inner: Option<Header>,
}

const GLOBAL_HEADER: usize = 24;
const RECORD_HEADER: usize = 16;
const ETHERNET_HEADER: usize = 14;
const IPIP: u8 = 4;
const UDP: u8 = 17;

/// Every IPv4 packet of a capture, in order. A record that is being written is left out.
pub fn read(file: &Path) -> Vec<Packet> {
    parse(&std::fs::read(file).expect("a capture"))
}

fn parse(bytes: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    let mut rest = bytes.get(GLOBAL_HEADER..).unwrap_or_default();
    while let Some(length) = rest.get(8..12) {
        let length = u32::from_ne_bytes(length.try_into().expect("four bytes")) as usize;
        let Some(frame) = rest.get(RECORD_HEADER..RECORD_HEADER + length) else { break };
        rest = &rest[RECORD_HEADER + length..];
        if frame.get(12..ETHERNET_HEADER) == Some(&[8, 0])
            && let Some((outer, within)) = header(&frame[ETHERNET_HEADER..])
        {
            let inner = (outer.protocol == IPIP).then(|| header(within)).flatten().map(|(inner, _)| inner);
            packets.push(Packet { outer, inner });
        }
    }
    packets
}

fn header(packet: &[u8]) -> Option<(Header, &[u8])> {
    let length = usize::from(packet.first()? & 0xf) * 4;
    let address = |at: usize| Some(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?));
    let (protocol, within) = (*packet.get(9)?, packet.get(length..)?);
    let port = within.get(2..4).filter(|_| protocol == UDP);
    let port = port.map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    Some((Header { from: address(12)?, to: address(16)?, protocol, port }, within))
}
