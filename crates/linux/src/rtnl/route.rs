//! Routes (linux/rtnetlink.h, `struct rtmsg`).

use calico_dataplane::tables::route::{Route, RouteKey, RouteKind, RouteOp};
use calico_net::{Cidr, Family, IfName};
use nix::errno::Errno;

use super::change::Change;
use super::{Rtnl, RtnlError, address_family, failed, family_of, read_address, write_address};
use crate::attr::{Attrs, Writer, read_u32};
use crate::netlink::{CREATE, EXCL, NetlinkError, REPLACE, Refusal};

pub(crate) const RTM_NEWROUTE: u16 = 24;
pub(crate) const RTM_DELROUTE: u16 = 25;
const RTM_GETROUTE: u16 = 26;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RTA_PRIORITY: u16 = 6;
const RTA_PREFSRC: u16 = 7;
const RTA_TABLE: u16 = 15;
const RTN_UNICAST: u8 = 1;
const RTN_BLACKHOLE: u8 = 6;
const RTNH_F_ONLINK: u32 = 4;
/// `RTM_F_CLONED`: a cache entry of IPv6, not a route.
const RTM_F_CLONED: u32 = 0x200;

impl Rtnl {
    /// Reads the routes of one table and family. Routes over interfaces not known by name are left out: read links
    /// first.
    pub fn read_routes(&mut self, family: Family, table: u32) -> Result<Vec<Route>, RtnlError> {
        let names = &self.name_of;
        self.socket
            .dump(
                RTM_GETROUTE,
                |w| {
                    w.raw(&rtmsg(family, 0, table, 0, 0, 0, 0));
                    w.u32(RTA_TABLE, table);
                },
                |m| {
                    decode_route(m.payload, |index| names.get(&index).cloned())
                        .filter(|r| r.key.table == table)
                },
            )
            .or_else(|error| match error {
                // A table that was never used does not exist for a strict dump.
                NetlinkError::Refused(refusal) if refusal.errno == Errno::ENOENT => Ok(Vec::new()),
                other => Err(failed(format!("read {family} routes of table {table}"))(other)),
            })
    }

    /// Applies route changes, each for itself. Returns those refused, by their place in `ops`; removing what is not
    /// there is none.
    pub fn apply_routes(&mut self, ops: &[RouteOp]) -> Result<Vec<(usize, RtnlError)>, RtnlError> {
        self.apply_changes("change routes", ops)
    }

    /// Adds a route unless one with its key exists. Whether it was added; that it exists is no error, since the
    /// caller must look whose it is.
    pub fn add_route(&mut self, route: &Route) -> Result<bool, RtnlError> {
        let index = match &route.device {
            Some(device) => self.index(device)?,
            None => 0,
        };
        match self.socket.request(RTM_NEWROUTE, CREATE | EXCL, |w| encode_route(w, route, index)) {
            Ok(()) => Ok(true),
            Err(NetlinkError::Refused(Refusal { errno: Errno::EEXIST, .. })) => Ok(false),
            Err(source) => Err(failed(format!("route add {route}"))(source)),
        }
    }
}

impl Change for RouteOp {
    fn device(&self) -> Option<&IfName> {
        self.route().device.as_ref()
    }

    fn is_removal(&self) -> bool {
        matches!(self, RouteOp::Delete(_))
    }

    fn is_as_wanted(&self, errno: Errno) -> bool {
        self.is_removal() && errno == Errno::ESRCH
    }

    fn encode(&self, w: &mut Writer, seq: u32, flags: u16, index: u32) {
        let (kind, flags) = match self {
            RouteOp::Add(_) => (RTM_NEWROUTE, flags | CREATE | EXCL),
            RouteOp::Replace(_) => (RTM_NEWROUTE, flags | CREATE | REPLACE),
            RouteOp::Delete(_) => (RTM_DELROUTE, flags),
        };
        w.message(kind, flags, seq, |w| encode_route(w, self.route(), index));
    }
}

fn rtmsg(family: Family, dst_len: u8, table: u32, protocol: u8, scope: u8, kind: u8, flags: u32) -> [u8; 12] {
    // RT_TABLE_UNSPEC where the number needs the attribute.
    let table = u8::try_from(table).unwrap_or(0);
    let [a, b, c, d] = flags.to_ne_bytes();
    [address_family(family), dst_len, 0, 0, table, protocol, scope, kind, a, b, c, d]
}

pub(crate) fn encode_route(w: &mut Writer, route: &Route, index: u32) {
    let Route { key, kind, protocol, scope, device: _, gateway, onlink, source } = route;
    let RouteKey { table, destination, priority } = key;
    let kind = match kind {
        RouteKind::Unicast => RTN_UNICAST,
        RouteKind::Blackhole => RTN_BLACKHOLE,
        RouteKind::Other(number) => *number,
    };
    let flags = if *onlink { RTNH_F_ONLINK } else { 0 };
    let family = destination.family();
    w.raw(&rtmsg(family, destination.prefix_len(), *table, *protocol, *scope, kind, flags));
    write_address(w, RTA_DST, destination.addr());
    w.u32(RTA_TABLE, *table);
    if *priority != 0 {
        w.u32(RTA_PRIORITY, *priority);
    }
    if index != 0 {
        w.u32(RTA_OIF, index);
    }
    if let Some(gateway) = gateway {
        write_address(w, RTA_GATEWAY, *gateway);
    }
    if let Some(source) = source {
        write_address(w, RTA_PREFSRC, *source);
    }
}

/// A route in an RTM_NEWROUTE or RTM_DELROUTE message.
pub(crate) fn decode_route(payload: &[u8], name: impl Fn(u32) -> Option<IfName>) -> Option<Route> {
    let [family, dst_len, _, _, table, protocol, scope, kind] = *payload.first_chunk::<8>()?;
    let flags = read_u32(payload.get(8..)?)?;
    let family = family_of(family)?;
    let attrs = Attrs::after(payload, 12);
    if flags & RTM_F_CLONED != 0 {
        return None;
    }
    let destination = match attrs.find(RTA_DST).and_then(read_address) {
        Some(address) => Cidr::new(address, dst_len).ok()?,
        None => Cidr::everything(family),
    };
    // IPv6 keeps rejecting routes on the loopback device; for us they have none.
    let kind = match kind {
        RTN_UNICAST => RouteKind::Unicast,
        RTN_BLACKHOLE => RouteKind::Blackhole,
        number => RouteKind::Other(number),
    };
    let device = match attrs.find(RTA_OIF).and_then(read_u32).filter(|_| kind != RouteKind::Blackhole) {
        Some(index) => Some(name(index)?),
        None => None,
    };
    Some(Route {
        key: RouteKey {
            table: attrs.find(RTA_TABLE).and_then(read_u32).unwrap_or(table.into()),
            destination,
            priority: attrs.find(RTA_PRIORITY).and_then(read_u32).unwrap_or(0),
        },
        kind,
        protocol,
        scope,
        device,
        gateway: attrs.find(RTA_GATEWAY).and_then(read_address),
        onlink: flags & RTNH_F_ONLINK != 0,
        source: attrs.find(RTA_PREFSRC).and_then(read_address),
    })
}
