//! Connection tracking: forgetting the connections of addresses that leave (linux/netfilter/nfnetlink_conntrack.h).
//!
//! A connection that outlives its route would go on being accepted as established wherever its address turns up next.

use std::collections::HashSet;
use std::net::IpAddr;

use nix::errno::Errno;

use crate::attr::{Attrs, Writer, read_be32};
use crate::netlink::{ACK, NetlinkError, Protocol, REQUEST, Socket};
use crate::rtnl::read_address;

const NFNL_SUBSYS_CTNETLINK: u16 = 1;
const IPCTNL_MSG_CT_GET: u16 = 1;
const IPCTNL_MSG_CT_DELETE: u16 = 2;
const IPCTNL_MSG_CT_GET_STATS: u16 = 5;
const CTA_STATS_GLOBAL_ENTRIES: u16 = 1;
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_ID: u16 = 12;
const CTA_TUPLE_IP: u16 = 1;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V6_DST: u16 = 4;
/// Deletions in one send.
const BATCH_LEN: usize = 500;

/// What names one connection to the kernel: its family, its original tuple and its id, as dumped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Connection {
    family: u8,
    tuple: Vec<u8>,
    id: Vec<u8>,
}

/// Forgets every connection that has one of the addresses as source or destination, in either direction. Returns how
/// many there were.
pub fn delete_by_address(addresses: &[IpAddr]) -> Result<usize, NetlinkError> {
    let mut socket = Socket::open(Protocol::Netfilter)?;
    if count(&mut socket)? == Some(0) {
        return Ok(0);
    }
    let wanted: HashSet<IpAddr> = addresses.iter().copied().collect();
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET;
    // One walk for both families: it costs the whole table, 10 ms at its usual size, however few connections there are.
    let dump = socket.dump(kind, |w| w.raw(&[family(addresses), 0, 0, 0]), |m| decode(m.payload, &wanted));
    let found = match dump {
        Ok(connections) => connections,
        Err(error) if is_unloaded(&error) => return Ok(0),
        Err(error) => return Err(error),
    };
    for batch in found.chunks(BATCH_LEN) {
        let first = socket.reserve(batch.len() as u32);
        let mut writer = Writer::new();
        for (i, connection) in batch.iter().enumerate() {
            let flags = if i + 1 == batch.len() { REQUEST | ACK } else { REQUEST };
            let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_DELETE;
            writer.message(kind, flags, first + i as u32, |w| {
                w.raw(&[connection.family, 0, 0, 0]);
                w.nest(CTA_TUPLE_ORIG, |w| w.raw(&connection.tuple));
                // The id tells it from a new connection of the same tuple.
                w.attr(CTA_ID, &connection.id);
            });
        }
        let refusals = socket.transact(&writer, first + batch.len() as u32 - 1, |_| {})?;
        if let Some(refusal) = refusals.into_iter().find(|r| r.errno != Errno::ENOENT) {
            return Err(refusal.into());
        }
    }
    Ok(found.len())
}

/// How many connections there are in the namespace; `None` if the kernel does not say.
fn count(socket: &mut Socket) -> Result<Option<u32>, NetlinkError> {
    let kind = NFNL_SUBSYS_CTNETLINK << 8 | IPCTNL_MSG_CT_GET_STATS;
    let counted = socket.get(
        kind,
        |w| w.raw(&[libc::AF_UNSPEC as u8, 0, 0, 0]),
        |m| Attrs::after(m.payload, 4).find(CTA_STATS_GLOBAL_ENTRIES).and_then(read_be32),
    );
    match counted {
        Ok(count) => Ok(count),
        Err(error) if is_unloaded(&error) => Ok(Some(0)),
        Err(error) => Err(error),
    }
}

/// Connection tracking is not loaded: there are no connections.
fn is_unloaded(error: &NetlinkError) -> bool {
    matches!(error, NetlinkError::Refused(refusal) if matches!(refusal.errno, Errno::EOPNOTSUPP | Errno::EINVAL))
}

/// The one family of the addresses, or any.
fn family(addresses: &[IpAddr]) -> u8 {
    let family = match (addresses.iter().any(IpAddr::is_ipv4), addresses.iter().any(IpAddr::is_ipv6)) {
        (true, false) => libc::AF_INET,
        (false, true) => libc::AF_INET6,
        _ => libc::AF_UNSPEC,
    };
    family as u8
}

pub(crate) fn decode(payload: &[u8], wanted: &HashSet<IpAddr>) -> Option<Connection> {
    let attrs = Attrs::after(payload, 4);
    let tuple = attrs.find(CTA_TUPLE_ORIG)?;
    let concerned = [Some(tuple), attrs.find(CTA_TUPLE_REPLY)].into_iter().flatten().any(|t| {
        let ip = Attrs(t).find(CTA_TUPLE_IP).unwrap_or_default();
        Attrs(ip)
            .filter(|(kind, _)| (CTA_IP_V4_SRC..=CTA_IP_V6_DST).contains(kind))
            .any(|(_, a)| read_address(a).is_some_and(|a| wanted.contains(&a)))
    });
    concerned.then_some(())?;
    Some(Connection { family: *payload.first()?, tuple: tuple.to_vec(), id: attrs.find(CTA_ID)?.to_vec() })
}

#[cfg(test)]
mod tests;
