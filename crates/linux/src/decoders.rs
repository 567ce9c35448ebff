//! The decoders of what the kernel sends, and the encoders that undo them, as functions of bytes.
//!
//! The nf_tables side is written by [`crate::nft::Batch`].
//!
//! Only for fuzzing: everybody else reads through a socket ([`crate::nft::NftSocket`], [`crate::rtnl::Rtnl`],
//! [`crate::monitor::Monitor`]), and this is no part of the crate's interface.

use std::collections::HashSet;
use std::net::IpAddr;

use calico_dataplane::tables::fdb::FdbEntry;
use calico_dataplane::tables::link::Link;
use calico_dataplane::tables::neigh::Neighbour;
use calico_dataplane::tables::route::Route;
use calico_dataplane::tables::tunnel::{Tunnel, Vxlan};
use calico_net::IfName;
use rustc_hash::FxHashMap;

use crate::attr::Writer;
use crate::monitor::Event;
use crate::rtnl::iprule::IpRule;
use crate::{conntrack, monitor, rtnl};

pub use crate::nft::decode::{decode_chain, decode_generation, decode_rule, decode_set, decode_table};
pub use crate::nft::set::{DumpedElement, assemble, decode_elements};

/// A link.
pub fn decode_link(payload: &[u8]) -> Option<Link> {
    rtnl::link::decode_link(payload)
}

/// Interface number, address, prefix length and scope.
pub fn decode_address(payload: &[u8]) -> Option<(u32, IpAddr, u8, u8)> {
    rtnl::addr::decode_address(payload)
}

/// A route, given the names of interfaces.
pub fn decode_route(payload: &[u8], name: impl Fn(u32) -> Option<IfName>) -> Option<Route> {
    rtnl::route::decode_route(payload, name)
}

/// A neighbour, given the names of interfaces.
pub fn decode_neighbour(payload: &[u8], name: impl Fn(u32) -> Option<IfName>) -> Option<Neighbour> {
    rtnl::neigh::decode_neighbour(payload, name)
}

/// A forwarding entry, given the names of interfaces.
pub fn decode_fdb(payload: &[u8], name: impl Fn(u32) -> Option<IfName>) -> Option<FdbEntry> {
    rtnl::fdb::decode_fdb(payload, name)
}

/// What a link's message says of VXLAN, given the names of interfaces.
pub fn decode_vxlan(payload: &[u8], name: impl Fn(u32) -> Option<IfName>) -> Option<Vxlan> {
    rtnl::tunnel::decode_vxlan(payload, name)
}

/// A policy rule.
pub fn decode_ip_rule(payload: &[u8]) -> Option<IpRule> {
    rtnl::iprule::decode_rule(payload)
}

/// An event of the monitor, which remembers names of interfaces.
pub fn decode_event(names: &mut FxHashMap<u32, IfName>, kind: u16, payload: &[u8]) -> Option<Event> {
    monitor::decode(names, kind, payload)
}

/// Whether a dumped connection has one of the addresses.
pub fn decode_connection(payload: &[u8], wanted: &HashSet<IpAddr>) -> bool {
    conntrack::decode(payload, wanted).is_some()
}

fn written(body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::new();
    body(&mut w);
    w.bytes().to_vec()
}

/// What [`decode_route`] reads.
pub fn encode_route(route: &Route, index: u32) -> Vec<u8> {
    written(|w| rtnl::route::encode_route(w, route, index))
}

/// What [`decode_neighbour`] reads, as a permanent entry.
pub fn encode_neighbour(neighbour: &Neighbour, index: u32) -> Vec<u8> {
    written(|w| rtnl::neigh::encode_neighbour(w, neighbour, index))
}

/// What [`decode_fdb`] reads, as a permanent entry.
pub fn encode_fdb(entry: &FdbEntry, index: u32) -> Vec<u8> {
    written(|w| rtnl::fdb::encode_fdb(w, entry, index))
}

/// What [`decode_vxlan`] reads.
pub fn encode_vxlan(tunnel: &Tunnel, parent: Option<u32>) -> Vec<u8> {
    written(|w| rtnl::tunnel::encode_vxlan_link(w, tunnel, parent))
}

/// What [`decode_ip_rule`] reads.
pub fn encode_ip_rule(rule: &IpRule) -> Vec<u8> {
    written(|w| rtnl::iprule::encode(w, rule))
}
