//! Neighbours: ARP and NDP entries (linux/neighbour.h).

use std::net::IpAddr;

use calico_dataplane::tables::neigh::{Neighbour, NeighbourKey, NeighbourOp};
use calico_net::{Family, IfName, Mac};
use nix::errno::Errno;

use super::change::Change;
use super::{Rtnl, RtnlError, address_family, failed, family_of, read_address, write_address};
use crate::attr::{Attrs, Writer, read_u16, read_u32};
use crate::netlink::{CREATE, REPLACE};

pub(super) const RTM_NEWNEIGH: u16 = 28;
pub(super) const RTM_DELNEIGH: u16 = 29;
pub(super) const RTM_GETNEIGH: u16 = 30;
pub(super) const NDA_DST: u16 = 1;
pub(super) const NDA_LLADDR: u16 = 2;
pub(super) const NUD_PERMANENT: u16 = 0x80;
/// `NUD_NOARP`: the kernel's own entries for multicast and broadcast.
const NUD_NOARP: u16 = 0x40;
/// `NTF_SELF`: the device's own table, not that of the bridge it is in.
pub(super) const NTF_SELF: u8 = 2;
/// `NTF_PROXY`: an address answered for, not a neighbour.
const NTF_PROXY: u8 = 8;

/// `struct ndmsg`.
pub(super) fn ndmsg_of(family: u8, index: u32, state: u16, flags: u8) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = family;
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header[8..10].copy_from_slice(&state.to_ne_bytes());
    header[10] = flags;
    header
}

fn ndmsg(address: IpAddr, index: u32, state: u16) -> [u8; 12] {
    ndmsg_of(address_family(Family::of(address)), index, state, 0)
}

impl Rtnl {
    /// Reads the neighbours of all interfaces. Those of interfaces not known by name are left out: read links first.
    pub fn read_neighbours(&mut self) -> Result<Vec<Neighbour>, RtnlError> {
        let names = &self.name_of;
        self.socket
            .dump(
                RTM_GETNEIGH,
                |w| w.raw(&[0; 12]),
                |m| decode_neighbour(m.payload, |index| names.get(&index).cloned()),
            )
            .map_err(failed("read neighbours"))
    }

    /// Applies neighbour changes, each for itself. Returns those refused, by their place in `ops`; removing what is
    /// not there is none.
    pub fn apply_neighbours(&mut self, ops: &[NeighbourOp]) -> Result<Vec<(usize, RtnlError)>, RtnlError> {
        self.apply_changes("change neighbours", ops)
    }
}

impl Change for NeighbourOp {
    fn device(&self) -> Option<&IfName> {
        Some(&self.key().device)
    }

    fn is_removal(&self) -> bool {
        matches!(self, NeighbourOp::Delete(_))
    }

    fn is_as_wanted(&self, errno: Errno) -> bool {
        self.is_removal() && errno == Errno::ENOENT
    }

    fn encode(&self, w: &mut Writer, seq: u32, flags: u16, index: u32) {
        match self {
            NeighbourOp::Replace(neighbour) => w.message(RTM_NEWNEIGH, flags | CREATE | REPLACE, seq, |w| {
                encode_neighbour(w, neighbour, index);
            }),
            NeighbourOp::Delete(key) => w.message(RTM_DELNEIGH, flags, seq, |w| {
                w.raw(&ndmsg(key.address, index, 0));
                write_address(w, NDA_DST, key.address);
            }),
        }
    }
}

/// Writes an entry as a permanent one: the only kind that we make.
pub(crate) fn encode_neighbour(w: &mut Writer, neighbour: &Neighbour, index: u32) {
    let Neighbour { key, mac, permanent: _ } = neighbour;
    w.raw(&ndmsg(key.address, index, NUD_PERMANENT));
    write_address(w, NDA_DST, key.address);
    if let Some(mac) = mac {
        w.attr(NDA_LLADDR, &mac.0);
    }
}

/// An IP neighbour; `None` for bridges' entries, proxies and what needs no resolution.
pub(crate) fn decode_neighbour(payload: &[u8], name: impl Fn(u32) -> Option<IfName>) -> Option<Neighbour> {
    family_of(*payload.first()?)?;
    let index = read_u32(payload.get(4..)?)?;
    let state = read_u16(payload.get(8..)?)?;
    let attrs = Attrs::after(payload, 12);
    let address = attrs.find(NDA_DST).and_then(read_address)?;
    (state & NUD_NOARP == 0 && payload.get(10)? & NTF_PROXY == 0).then_some(())?;
    Some(Neighbour {
        key: NeighbourKey { device: name(index)?, address },
        mac: attrs.find(NDA_LLADDR).and_then(|m| Some(Mac(m.try_into().ok()?))),
        permanent: state & NUD_PERMANENT != 0,
    })
}
