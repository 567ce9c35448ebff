//! What happens to interfaces, addresses and routes, as the kernel tells it.
//!
//! A nonblocking socket: wait for it to become readable (it is [`AsFd`]), then [`Monitor::read_events`]. When the
//! kernel had more to tell than the buffer holds, that is an event too, and the reader must read everything anew.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use calico_dataplane::tables::link::Link;
use calico_dataplane::tables::route::Route;
use calico_net::IfName;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, NetlinkAddr, SockFlag, bind, recv, setsockopt, sockopt};
use rustc_hash::FxHashMap;

use crate::attr::Messages;
use crate::netlink::{NetlinkError, Protocol, open_raw};
use crate::rtnl::addr::{RTM_DELADDR, RTM_NEWADDR, decode_address};
use crate::rtnl::link::{RTM_DELLINK, RTM_NEWLINK, decode_link};
use crate::rtnl::route::{RTM_DELROUTE, RTM_NEWROUTE, decode_route};

/// `RTMGRP_*` (linux/rtnetlink.h).
const GROUP_LINK: u32 = 0x1;
const GROUP_IPV4_IFADDR: u32 = 0x10;
const GROUP_IPV4_ROUTE: u32 = 0x40;
const GROUP_IPV6_IFADDR: u32 = 0x100;
const GROUP_IPV6_ROUTE: u32 = 0x400;
/// A burst of a few thousand interfaces coming at once.
const RECEIVE_BUFFER: usize = 4 << 20;
const READ_LEN: usize = 64 << 10;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An interface is new or different.
    LinkChanged(Link),
    /// An interface is gone.
    LinkRemoved {
        /// Its number.
        index: u32,
        /// Its name.
        name: IfName,
    },
    /// An interface got an address, or lost it.
    AddressChanged {
        /// The interface.
        device: IfName,
        /// The address.
        address: std::net::IpAddr,
        /// Got it.
        present: bool,
    },
    /// A route was removed by somebody or something (an interface that goes takes its IPv4 routes along silently).
    RouteRemoved(Route),
    /// A route was added or changed.
    RouteChanged(Route),
    /// Events were lost: read everything anew.
    Lost,
}

/// Which events to hear of. Links and addresses always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MonitorOptions {
    /// Routes too: on a node with a full routing table, every change of it.
    pub routes: bool,
}

/// A socket that hears of changes.
#[derive(Debug)]
pub struct Monitor {
    fd: OwnedFd,
    names: FxHashMap<u32, IfName>,
    buffer: Vec<u8>,
}

impl Monitor {
    /// Starts listening in the calling thread's network namespace. Open it before reading the present state: what
    /// happens in between is then heard, and heard twice at worst.
    pub fn open(options: MonitorOptions) -> Result<Monitor, NetlinkError> {
        let fd = open_raw(Protocol::Route, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK)?;
        if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            // Without the privilege as much as allowed; a smaller buffer only means `Lost` sooner.
            let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
        }
        let mut groups = GROUP_LINK | GROUP_IPV4_IFADDR | GROUP_IPV6_IFADDR;
        if options.routes {
            groups |= GROUP_IPV4_ROUTE | GROUP_IPV6_ROUTE;
        }
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups))
            .map_err(|errno| NetlinkError::System { call: "bind", errno })?;
        Ok(Monitor { fd, names: FxHashMap::default(), buffer: vec![0; READ_LEN] })
    }

    /// Tells the names of interfaces that were there before, by number: events of addresses and routes have numbers.
    pub fn observe_links(&mut self, links: &[Link]) {
        self.names = links.iter().map(|l| (l.index, l.name.clone())).collect();
    }

    /// All events that have happened since the last call, oldest first; empty if none. Never waits.
    pub fn read_events(&mut self) -> Result<Vec<Event>, NetlinkError> {
        let mut events = Vec::new();
        loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(len) => {
                    for message in Messages(&self.buffer[..len]) {
                        events.extend(decode(&mut self.names, message.kind, message.payload));
                    }
                }
                Err(Errno::EAGAIN) => return Ok(events),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => events.push(Event::Lost),
                Err(errno) => return Err(NetlinkError::System { call: "recv", errno }),
            }
        }
    }
}

pub(crate) fn decode(names: &mut FxHashMap<u32, IfName>, kind: u16, payload: &[u8]) -> Option<Event> {
    match kind {
        RTM_NEWLINK | RTM_DELLINK => {
            // Bridges tell of their ports in messages of their own family: not a change of the link.
            let link = decode_link(payload).filter(|_| payload[0] == 0)?;
            if kind == RTM_NEWLINK {
                names.insert(link.index, link.name.clone());
                return Some(Event::LinkChanged(link));
            }
            names.remove(&link.index);
            Some(Event::LinkRemoved { index: link.index, name: link.name })
        }
        RTM_NEWADDR | RTM_DELADDR => {
            let (index, address, _, _) = decode_address(payload)?;
            let device = names.get(&index)?.clone();
            Some(Event::AddressChanged { device, address, present: kind == RTM_NEWADDR })
        }
        RTM_NEWROUTE => decode_route(payload, |i| names.get(&i).cloned()).map(Event::RouteChanged),
        RTM_DELROUTE => decode_route(payload, |i| names.get(&i).cloned()).map(Event::RouteRemoved),
        _ => None,
    }
}

impl AsFd for Monitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtnl::Rtnl;
    use crate::testing::{in_netns, run};

    fn ip(args: &str) {
        run("ip", &args.split(' ').collect::<Vec<_>>());
    }

    #[test]
    fn tells_of_links_addresses_and_routes() {
        in_netns(|| {
            let mut monitor = Monitor::open(MonitorOptions { routes: true }).unwrap();
            monitor.observe_links(&Rtnl::open().unwrap().read_links().unwrap());
            assert_eq!(monitor.read_events().unwrap(), []);
            ip("link add cali1 type veth peer name peer1");
            ip("link set peer1 up");
            ip("link set cali1 up");
            ip("addr add 192.0.2.1/24 dev cali1");
            ip("route add 10.65.0.1/32 dev cali1");
            ip("route del 10.65.0.1/32 dev cali1");
            let events = monitor.read_events().unwrap();
            let is_cali1 = |name: &IfName| name.as_str() == "cali1";
            let place = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap();
            let created = place(&|e| matches!(e, Event::LinkChanged(l) if is_cali1(&l.name) && !l.admin_up));
            let up = place(&|e| matches!(e, Event::LinkChanged(l) if is_cali1(&l.name) && l.oper_up));
            let address = place(&|e| {
                matches!(e, Event::AddressChanged { device, present: true, address }
                        if is_cali1(device) && address.to_string() == "192.0.2.1")
            });
            let is_route = |r: &Route| r.key.destination.to_string() == "10.65.0.1/32";
            let added = place(&|e| matches!(e, Event::RouteChanged(r) if is_route(r)));
            let removed = place(&|e| matches!(e, Event::RouteRemoved(r) if is_route(r)));
            assert!(created < up && up < address && address < added && added < removed);
            ip("link del cali1");
            let events = monitor.read_events().unwrap();
            assert!(events.iter().any(|e| matches!(e, Event::LinkRemoved { name, .. } if is_cali1(name))));
        });
    }

    #[test]
    fn says_when_it_lost_something() {
        in_netns(|| {
            let mut monitor = Monitor::open(MonitorOptions::default()).unwrap();
            setsockopt(&monitor.fd, sockopt::RcvBuf, &2048).unwrap();
            for _ in 0..10 {
                ip("link add cali1 type veth peer name peer1");
                ip("link del cali1");
            }
            assert!(monitor.read_events().unwrap().contains(&Event::Lost));
            ip("link add cali1 type veth peer name peer1");
            ip("link set cali1 up");
            assert!(!monitor.read_events().unwrap().is_empty());
        });
    }
}
