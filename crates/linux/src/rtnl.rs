//! rtnetlink: the socket for interfaces, addresses, routes, neighbours and rules, one module for each.
//!
//! The kernel speaks of interfaces by number, everybody else by name. The socket keeps the names that it has seen and
//! asks again when it meets an unknown one.

pub mod addr;
mod change;
pub mod fdb;
pub mod iprule;
pub mod link;
pub mod neigh;
pub mod route;
pub mod tunnel;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use calico_net::{Family, IfName};
use nix::errno::Errno;
use rustc_hash::FxHashMap;
use thiserror::Error;

use crate::attr::Writer;
use crate::netlink::{ACK, NetlinkError, Protocol, REQUEST, Refusal, Socket, Traffic};

/// Why something about interfaces, addresses, routes or neighbours was not done.
#[derive(Debug, Error)]
pub enum RtnlError {
    /// The socket failed, or the kernel refused.
    #[error("{what}: {source}")]
    Netlink {
        /// What was asked for, in the words of `ip`.
        what: String,
        /// Why it failed.
        source: NetlinkError,
    },
    /// There is no interface of this name.
    #[error("no interface named {0}")]
    NoDevice(IfName),
}

impl RtnlError {
    /// The error number, if the kernel refused.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            RtnlError::Netlink { source: NetlinkError::Refused(refusal), .. } => Some(refusal.errno),
            RtnlError::NoDevice(_) => Some(Errno::ENODEV),
            RtnlError::Netlink { .. } => None,
        }
    }
}

fn failed(what: impl Into<String>) -> impl FnOnce(NetlinkError) -> RtnlError {
    let what = what.into();
    move |source| RtnlError::Netlink { what, source }
}

/// An rtnetlink socket.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
    index_of: FxHashMap<IfName, u32>,
    name_of: FxHashMap<u32, IfName>,
}

/// Requests in one send: enough to forget the system call, few enough for every refusal to fit the receive buffer.
const BATCH_LEN: usize = 500;

impl Rtnl {
    /// Opens a socket in the calling thread's network namespace. It stays in that namespace.
    pub fn open() -> Result<Rtnl, RtnlError> {
        let socket = Socket::open(Protocol::Route).map_err(failed("rtnetlink"))?;
        Ok(Rtnl { socket, index_of: FxHashMap::default(), name_of: FxHashMap::default() })
    }

    /// What was sent so far.
    pub fn traffic(&self) -> Traffic {
        self.socket.traffic()
    }

    /// Does many independent things in few system calls. Returns the refused ones by their place in `items`.
    fn apply<T>(
        &mut self,
        items: &[T],
        encode: impl Fn(&mut Writer, u32, u16, &T),
    ) -> Result<Vec<(usize, Refusal)>, NetlinkError> {
        let mut refused = Vec::new();
        let mut writer = Writer::new();
        for (batch, items) in items.chunks(BATCH_LEN).enumerate() {
            writer.clear();
            let first = self.socket.reserve(items.len() as u32);
            for (i, item) in items.iter().enumerate() {
                // Refusals come unasked; one acknowledgement at the end tells that all was worked through.
                let flags = if i + 1 == items.len() { REQUEST | ACK } else { REQUEST };
                encode(&mut writer, first + i as u32, flags, item);
            }
            let last = first + items.len() as u32 - 1;
            for refusal in self.socket.transact(&writer, last, |_| {})? {
                refused.push((batch * BATCH_LEN + (refusal.seq - first) as usize, refusal));
            }
        }
        Ok(refused)
    }

    fn remember(&mut self, name: &IfName, index: u32) {
        // Renamed, or made anew: neither the old name nor the old number means it any more.
        if let Some(old) = self.index_of.insert(name.clone(), index).filter(|old| *old != index) {
            self.name_of.remove(&old);
        }
        if let Some(old) = self.name_of.insert(index, name.clone()).filter(|old| old != name) {
            self.index_of.remove(&old);
        }
    }

    fn forget(&mut self, name: &IfName) {
        if let Some(index) = self.index_of.remove(name) {
            self.name_of.remove(&index);
        }
    }

    /// The number of an interface, from memory or from the kernel.
    pub fn index(&mut self, name: &IfName) -> Result<u32, RtnlError> {
        match self.index_of.get(name) {
            Some(index) => Ok(*index),
            None => {
                let link = self.read_link(name)?.ok_or_else(|| RtnlError::NoDevice(name.clone()))?;
                Ok(link.index)
            }
        }
    }
}

/// `AF_INET` or `AF_INET6`.
fn address_family(family: Family) -> u8 {
    match family {
        Family::V4 => libc::AF_INET as u8,
        Family::V6 => libc::AF_INET6 as u8,
    }
}

/// The family of an `AF_*` number.
fn family_of(number: u8) -> Option<Family> {
    Family::ALL.into_iter().find(|f| address_family(*f) == number)
}

/// Writes an address as its 4 or 16 bytes.
fn write_address(w: &mut Writer, kind: u16, address: IpAddr) {
    match address {
        IpAddr::V4(a) => w.attr(kind, &a.octets()),
        IpAddr::V6(a) => w.attr(kind, &a.octets()),
    }
}

/// The address in 4 or 16 bytes.
pub(crate) fn read_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes).ok()?).into()),
        16 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
