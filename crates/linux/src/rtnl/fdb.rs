//! Forwarding entries of VXLAN devices (linux/neighbour.h, family `AF_BRIDGE`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use calico_dataplane::tables::fdb::{FdbEntry, FdbKey, FdbOp};
use calico_dataplane::tables::tunnel;
use calico_net::{IfName, Mac};
use nix::errno::Errno;

use super::change::Change;
use super::neigh::{
    NDA_DST, NDA_LLADDR, NTF_SELF, NUD_PERMANENT, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH, ndmsg_of,
};
use super::{Rtnl, RtnlError, failed, read_address, write_address};
use crate::attr::{Attrs, Writer, read_u16, read_u32};
use crate::netlink::{CREATE, NetlinkError, REPLACE};

const AF_BRIDGE: u8 = libc::AF_BRIDGE as u8;

impl Rtnl {
    /// Reads the forwarding entries of the VXLAN devices that have names of ours.
    pub fn read_fdb(&mut self) -> Result<Vec<FdbEntry>, RtnlError> {
        let mut entries: BTreeMap<FdbKey, FdbEntry> = BTreeMap::new();
        for device in tunnel::names() {
            let index = match self.index(&device) {
                Ok(index) => index,
                Err(RtnlError::NoDevice(_)) => continue,
                Err(error) => return Err(error),
            };
            let names = &self.name_of;
            let found = self.socket.dump(
                RTM_GETNEIGH,
                |w| w.raw(&ndmsg_of(AF_BRIDGE, index, 0, 0)),
                |m| decode_fdb(m.payload, |index| names.get(&index).cloned()),
            );
            let found = match found {
                Ok(found) => found,
                // The device went since.
                Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::ENODEV => {
                    self.forget(&device);
                    continue;
                }
                Err(source) => return Err(failed(format!("read fdb of {device}"))(source)),
            };
            for entry in found.into_iter().filter(|entry| entry.key.device == device) {
                let several = |known: &mut FdbEntry| {
                    if known.host != entry.host {
                        known.host = None;
                    }
                };
                entries.entry(entry.key.clone()).and_modify(several).or_insert(entry.clone());
            }
        }
        Ok(entries.into_values().collect())
    }

    /// Applies changes of forwarding entries, each for itself. Returns those refused, by their place in `ops`; removing
    /// what is not there is none.
    pub fn apply_fdb(&mut self, ops: &[FdbOp]) -> Result<Vec<(usize, RtnlError)>, RtnlError> {
        self.apply_changes("change forwarding entries", ops)
    }
}

impl Change for FdbOp {
    fn device(&self) -> Option<&IfName> {
        Some(&self.key().device)
    }

    fn is_removal(&self) -> bool {
        matches!(self, FdbOp::Delete(_))
    }

    fn is_as_wanted(&self, errno: Errno) -> bool {
        self.is_removal() && errno == Errno::ENOENT
    }

    fn encode(&self, w: &mut Writer, seq: u32, flags: u16, index: u32) {
        match self {
            FdbOp::Replace(entry) => {
                w.message(RTM_NEWNEIGH, flags | CREATE | REPLACE, seq, |w| encode_fdb(w, entry, index));
            }
            FdbOp::Delete(key) => w.message(RTM_DELNEIGH, flags, seq, |w| {
                w.raw(&ndmsg_of(AF_BRIDGE, index, 0, NTF_SELF));
                w.attr(NDA_LLADDR, &key.mac.0);
            }),
        }
    }
}

/// Writes an entry as a permanent one: the only kind that we make.
pub(crate) fn encode_fdb(w: &mut Writer, entry: &FdbEntry, index: u32) {
    let FdbEntry { key, host, permanent: _ } = entry;
    w.raw(&ndmsg_of(AF_BRIDGE, index, NUD_PERMANENT, NTF_SELF));
    w.attr(NDA_LLADDR, &key.mac.0);
    if let Some(host) = host {
        write_address(w, NDA_DST, *host);
    }
}

/// A forwarding entry; `None` for those of no known device, and for IP neighbours.
pub(crate) fn decode_fdb(payload: &[u8], name: impl Fn(u32) -> Option<IfName>) -> Option<FdbEntry> {
    if *payload.first()? != AF_BRIDGE {
        return None;
    }
    let index = read_u32(payload.get(4..)?)?;
    let state = read_u16(payload.get(8..)?)?;
    let attrs = Attrs::after(payload, 12);
    let mac = Mac(attrs.find(NDA_LLADDR)?.try_into().ok()?);
    let host: Option<IpAddr> = attrs.find(NDA_DST).and_then(read_address);
    let key = FdbKey { device: name(index)?, mac };
    Some(FdbEntry { key, host, permanent: state & NUD_PERMANENT != 0 })
}
