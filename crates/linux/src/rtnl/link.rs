//! Interfaces: reading them, switching and changing and removing them (linux/if_link.h).

use calico_dataplane::tables::link::Link;
use calico_net::{IfName, Mac};
use nix::errno::Errno;
use smol_str::SmolStr;

use super::{Rtnl, RtnlError, failed};
use crate::attr::{Attrs, Writer, read_text, read_u32};
use crate::netlink::{CREATE, EXCL, NetlinkError};

pub(crate) const RTM_NEWLINK: u16 = 16;
pub(crate) const RTM_DELLINK: u16 = 17;
pub(crate) const RTM_GETLINK: u16 = 18;
pub(crate) const IFLA_ADDRESS: u16 = 1;
pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
pub(crate) const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
pub(crate) const IFLA_EXT_MASK: u16 = 29;
const IFLA_NUM_TX_QUEUES: u16 = 31;
const IFLA_NUM_RX_QUEUES: u16 = 32;
pub(crate) const IFLA_INFO_KIND: u16 = 1;
pub(crate) const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
/// `RTEXT_FILTER_SKIP_STATS`: statistics are most of a link's dump and nobody here reads them.
pub(crate) const SKIP_STATS: u32 = 8;
const IFF_UP: u32 = 1;
const IFF_RUNNING: u32 = 0x40;

/// `struct ifinfomsg`.
pub(crate) fn ifinfomsg(index: u32, flags: u32, change: u32) -> [u8; 16] {
    let mut header = [0; 16];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..12].copy_from_slice(&flags.to_ne_bytes());
    header[12..16].copy_from_slice(&change.to_ne_bytes());
    header
}

/// What can be changed about an interface. Nothing is changed that is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkChange {
    /// Switch it on or off.
    pub up: Option<bool>,
    /// Give it another Ethernet address.
    pub mac: Option<Mac>,
    /// Give it another MTU, in bytes.
    pub mtu: Option<u32>,
}

/// One end of a veth pair to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethEnd {
    /// Its name.
    pub name: IfName,
    /// Its Ethernet address; the kernel draws one if there is none.
    pub mac: Option<Mac>,
}

/// A veth pair to be made, both ends down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethPair {
    /// The end in the socket's own namespace.
    pub near: VethEnd,
    /// The end in the other namespace.
    pub far: VethEnd,
    /// MTU of both, in bytes.
    pub mtu: u32,
    /// Transmit and receive queues of each end.
    pub queues: u32,
}

impl Rtnl {
    /// Reads all interfaces of the namespace, and learns their names.
    pub fn read_links(&mut self) -> Result<Vec<Link>, RtnlError> {
        let body = |w: &mut Writer| {
            w.raw(&ifinfomsg(0, 0, 0));
            w.u32(IFLA_EXT_MASK, SKIP_STATS);
        };
        let links =
            self.socket.dump(RTM_GETLINK, body, |m| decode_link(m.payload)).map_err(failed("read links"))?;
        self.index_of.clear();
        self.name_of.clear();
        for link in &links {
            self.remember(&link.name, link.index);
        }
        Ok(links)
    }

    /// Reads one interface; `None` if there is none of that name.
    pub fn read_link(&mut self, name: &IfName) -> Result<Option<Link>, RtnlError> {
        let result = self.socket.get(
            RTM_GETLINK,
            |w| {
                w.raw(&ifinfomsg(0, 0, 0));
                w.text(IFLA_IFNAME, name.as_str());
                w.u32(IFLA_EXT_MASK, SKIP_STATS);
            },
            |m| decode_link(m.payload),
        );
        match result {
            Ok(Some(link)) => {
                self.remember(&link.name, link.index);
                Ok(Some(link))
            }
            Ok(None) => Ok(None),
            Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::ENODEV => {
                self.forget(name);
                Ok(None)
            }
            Err(source) => Err(failed(format!("read link {name}"))(source)),
        }
    }

    /// Makes a veth pair whose far end appears directly in another namespace.
    pub fn create_veth(
        &mut self,
        pair: &VethPair,
        far_netns: std::os::fd::BorrowedFd<'_>,
    ) -> Result<(), RtnlError> {
        use std::os::fd::AsRawFd;
        let end = |w: &mut Writer, end: &VethEnd| {
            w.text(IFLA_IFNAME, end.name.as_str());
            w.u32(IFLA_MTU, pair.mtu);
            if let Some(mac) = end.mac {
                w.attr(IFLA_ADDRESS, &mac.0);
            }
            // Queues can only be chosen at birth.
            w.u32(IFLA_NUM_TX_QUEUES, pair.queues.max(1));
            w.u32(IFLA_NUM_RX_QUEUES, pair.queues.max(1));
        };
        self.socket
            .request(RTM_NEWLINK, CREATE | EXCL, |w| {
                w.raw(&ifinfomsg(0, 0, 0));
                end(w, &pair.near);
                w.nest(IFLA_LINKINFO, |w| {
                    w.text(IFLA_INFO_KIND, "veth");
                    w.nest(IFLA_INFO_DATA, |w| {
                        w.nest(VETH_INFO_PEER, |w| {
                            w.raw(&ifinfomsg(0, 0, 0));
                            end(w, &pair.far);
                            w.u32(IFLA_NET_NS_FD, far_netns.as_raw_fd() as u32);
                        });
                    });
                });
            })
            .map_err(failed(format!("create veth {} with peer {}", pair.near.name, pair.far.name)))
    }

    /// Changes an interface.
    pub fn change_link(&mut self, name: &IfName, change: LinkChange) -> Result<(), RtnlError> {
        self.socket
            .request(RTM_NEWLINK, 0, |w| encode_change(w, name, change))
            .map_err(failed(format!("change link {name}")))
    }

    /// Removes an interface (of a veth pair, both). Whether there was one.
    pub fn delete_link(&mut self, name: &IfName) -> Result<bool, RtnlError> {
        let result = self.socket.request(RTM_DELLINK, 0, |w| {
            w.raw(&ifinfomsg(0, 0, 0));
            w.text(IFLA_IFNAME, name.as_str());
        });
        self.forget(name);
        match result {
            Ok(()) => Ok(true),
            Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::ENODEV => Ok(false),
            Err(source) => Err(failed(format!("delete link {name}"))(source)),
        }
    }
}

fn encode_change(w: &mut Writer, name: &IfName, change: LinkChange) {
    let LinkChange { up, mac, mtu } = change;
    let (flags, mask) = match up {
        Some(true) => (IFF_UP, IFF_UP),
        Some(false) => (0, IFF_UP),
        None => (0, 0),
    };
    w.raw(&ifinfomsg(0, flags, mask));
    w.text(IFLA_IFNAME, name.as_str());
    if let Some(mac) = mac {
        w.attr(IFLA_ADDRESS, &mac.0);
    }
    if let Some(mtu) = mtu {
        w.u32(IFLA_MTU, mtu);
    }
}

/// An interface in an RTM_NEWLINK or RTM_DELLINK message; `None` if its name is none that we allow.
pub(crate) fn decode_link(payload: &[u8]) -> Option<Link> {
    let index = read_u32(payload.get(4..)?)?;
    let flags = read_u32(payload.get(8..)?)?;
    let attrs = Attrs::after(payload, 16);
    let kind =
        attrs.find(IFLA_LINKINFO).and_then(|info| Attrs(info).find(IFLA_INFO_KIND)).and_then(read_text);
    Some(Link {
        index,
        name: attrs.find(IFLA_IFNAME).and_then(read_text)?.parse().ok()?,
        kind: SmolStr::new(kind.unwrap_or_default()),
        admin_up: flags & IFF_UP != 0,
        oper_up: flags & (IFF_UP | IFF_RUNNING) == IFF_UP | IFF_RUNNING,
        mac: attrs.find(IFLA_ADDRESS).and_then(|m| Some(Mac(m.try_into().ok()?))),
        mtu: attrs.find(IFLA_MTU).and_then(read_u32).unwrap_or(0),
        peer_index: attrs.find(IFLA_LINK).and_then(read_u32).filter(|i| *i != 0),
    })
}
