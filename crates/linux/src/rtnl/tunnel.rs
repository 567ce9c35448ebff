//! Tunnel devices (linux/if_link.h, `IFLA_VXLAN_*`; linux/if_tunnel.h, `IFLA_IPTUN_*`).
//!
//! IPIP's device is the one that the kernel's module makes in each network namespace, which nobody can remove
//! (net/ipv4/ip_tunnel.c, `fb_tunnel_dev`): switched off it counts as absent. Asking for a device of its kind loads the
//! module; where the namespace was told to have none of its own (`net.core.fb_tunnels_only_for_init_net`), one is made.

use std::net::IpAddr;

use calico_dataplane::tables::tunnel::{Overlay, Tunnel, TunnelKind, TunnelOp, Vxlan, is_ours, overlay_of};
use calico_net::IfName;
use nix::errno::Errno;

use super::link::{
    IFLA_ADDRESS, IFLA_EXT_MASK, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, IFLA_MTU,
    LinkChange, RTM_GETLINK, RTM_NEWLINK, SKIP_STATS, decode_link, ifinfomsg,
};
use super::{Rtnl, RtnlError, failed, read_address, write_address};
use crate::attr::{Attrs, Writer, read_u16, read_u32};
use crate::ethtool::{self, EthtoolError};
use crate::netlink::{CREATE, EXCL, NetlinkError};

const IFLA_VXLAN_ID: u16 = 1;
const IFLA_VXLAN_LINK: u16 = 3;
const IFLA_VXLAN_LOCAL: u16 = 4;
const IFLA_VXLAN_LEARNING: u16 = 7;
const IFLA_VXLAN_PORT: u16 = 15;
const IFLA_VXLAN_LOCAL6: u16 = 17;
const IFLA_IPTUN_LOCAL: u16 = 2;
const IFLA_IPTUN_REMOTE: u16 = 3;

/// Why a tunnel device was not read or changed.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// rtnetlink failed, or the kernel refused.
    #[error(transparent)]
    Rtnl(#[from] RtnlError),
    /// Its checksum offload could not be read or set.
    #[error(transparent)]
    Ethtool(#[from] EthtoolError),
    /// The kernel knows no IPIP, and could not load the module.
    #[error(
        "this kernel has no IP in IP: its module ipip is not there or cannot be loaded: `modprobe ipip`, or switch \
         the pools to VXLAN"
    )]
    NoIpip,
    /// No such device is made here.
    #[error("{0} cannot be made: it is no tunnel of ours")]
    Unknown(IfName),
}

impl Rtnl {
    /// Reads the tunnel devices that have names of ours, and learns all interfaces' names.
    pub fn read_tunnels(&mut self) -> Result<Vec<Tunnel>, TunnelError> {
        let body = |w: &mut Writer| {
            w.raw(&ifinfomsg(0, 0, 0));
            w.u32(IFLA_EXT_MASK, SKIP_STATS);
        };
        let raw = self.socket.dump(RTM_GETLINK, body, |m| Some(m.payload.to_vec()));
        let raw = raw.map_err(failed("read links"))?;
        let links: Vec<_> = raw.iter().filter_map(|payload| Some((payload, decode_link(payload)?))).collect();
        self.index_of.clear();
        self.name_of.clear();
        for (_, link) in &links {
            self.remember(&link.name, link.index);
        }
        let mut tunnels = Vec::new();
        for (payload, link) in links.iter().filter(|(_, link)| is_ours(&link.name)) {
            let kind = match (overlay_of(&link.name), link.kind.as_str()) {
                (Some(Overlay::Vxlan), "vxlan") => {
                    decode_vxlan(payload, |index| self.name_of.get(&index).cloned()).map(TunnelKind::Vxlan)
                }
                (Some(Overlay::Ipip), "ipip") if !link.admin_up => continue,
                (Some(Overlay::Ipip), "ipip") if is_unbound(payload) => Some(TunnelKind::Ipip),
                _ => None,
            };
            let checksum_offload = match ethtool::read_checksum_offload(&link.name) {
                _ if kind == Some(TunnelKind::Ipip) => true,
                Ok(offload) => offload,
                // It went since, or is of a kind that has none.
                Err(error) if matches!(error.errno, Errno::ENODEV | Errno::EOPNOTSUPP) => false,
                Err(error) => return Err(error.into()),
            };
            tunnels.push(Tunnel {
                name: link.name.clone(),
                kind: kind.unwrap_or_else(|| TunnelKind::Other(link.kind.clone())),
                mac: link.mac,
                mtu: link.mtu,
                up: link.admin_up,
                checksum_offload,
            });
        }
        Ok(tunnels)
    }

    /// Makes, changes or removes a tunnel device. Removing what is not there is no error.
    pub fn apply_tunnel(&mut self, op: &TunnelOp) -> Result<(), TunnelError> {
        match op {
            TunnelOp::Create(tunnel) => {
                let vxlan = match &tunnel.kind {
                    TunnelKind::Vxlan(vxlan) => vxlan,
                    TunnelKind::Ipip => return self.create_ipip(tunnel),
                    TunnelKind::Other(_) => return Err(TunnelError::Unknown(tunnel.name.clone())),
                };
                let parent = vxlan.parent.as_ref().map(|parent| self.index(parent)).transpose()?;
                self.forget(&tunnel.name);
                // Down, until it is as it should be.
                self.socket
                    .request(RTM_NEWLINK, CREATE | EXCL, |w| encode_vxlan(w, tunnel, vxlan, parent))
                    .map_err(failed(op.to_string()))?;
                self.finish_tunnel(tunnel)
            }
            TunnelOp::Change(tunnel) => self.finish_tunnel(tunnel),
            TunnelOp::Delete(name) if overlay_of(name) == Some(Overlay::Ipip) => self.delete_ipip(name),
            TunnelOp::Delete(name) => {
                self.delete_link(name)?;
                Ok(())
            }
        }
    }

    /// Switches on the namespace's own device, or makes one.
    fn create_ipip(&mut self, tunnel: &Tunnel) -> Result<(), TunnelError> {
        self.forget(&tunnel.name);
        let made = self.socket.request(RTM_NEWLINK, CREATE | EXCL, |w| encode_ipip(w, &tunnel.name));
        match made {
            Ok(()) => {}
            // The namespace's own, which the module may have made just now.
            Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::EEXIST => {}
            Err(NetlinkError::Refused(refusal)) if refusal.errno == Errno::EOPNOTSUPP => {
                return Err(TunnelError::NoIpip);
            }
            Err(source) => return Err(failed(format!("link add {tunnel}"))(source).into()),
        }
        self.finish_tunnel(tunnel)
    }

    /// Removes the device; the namespace's own stays, whatever the kernel answers, and is switched off.
    fn delete_ipip(&mut self, name: &IfName) -> Result<(), TunnelError> {
        if self.delete_link(name)? && self.read_link(name)?.is_some_and(|link| link.admin_up) {
            self.change_link(name, LinkChange { up: Some(false), ..LinkChange::default() })?;
        }
        Ok(())
    }

    /// What can be changed while the device lives.
    fn finish_tunnel(&mut self, tunnel: &Tunnel) -> Result<(), TunnelError> {
        let Tunnel { name, kind, mac, mtu, up, checksum_offload } = tunnel;
        if *kind != TunnelKind::Ipip {
            ethtool::set_checksum_offload(name, *checksum_offload)?;
        }
        self.change_link(name, LinkChange { up: Some(*up), mac: *mac, mtu: Some(*mtu) })?;
        Ok(())
    }
}

pub(crate) fn encode_ipip(w: &mut Writer, name: &IfName) {
    w.raw(&ifinfomsg(0, 0, 0));
    w.text(IFLA_IFNAME, name.as_str());
    w.nest(IFLA_LINKINFO, |w| w.text(IFLA_INFO_KIND, "ipip"));
}

/// Whether an RTM_NEWLINK message speaks of an IPIP device that is bound to no address of its own and to no other's.
pub(crate) fn is_unbound(payload: &[u8]) -> bool {
    let data = Attrs::after(payload, 16)
        .find(IFLA_LINKINFO)
        .and_then(|info| Attrs(info).find(IFLA_INFO_DATA))
        .unwrap_or_default();
    [IFLA_IPTUN_LOCAL, IFLA_IPTUN_REMOTE].into_iter().all(|end| {
        let addr = Attrs(data).find(end).and_then(read_address);
        addr.is_none_or(|addr: IpAddr| addr.is_unspecified())
    })
}

fn encode_vxlan(w: &mut Writer, tunnel: &Tunnel, vxlan: &Vxlan, parent: Option<u32>) {
    let Tunnel { name, kind: _, mac, mtu, up: _, checksum_offload: _ } = tunnel;
    let Vxlan { vni, port, local, parent: _, learning } = vxlan;
    w.raw(&ifinfomsg(0, 0, 0));
    w.text(IFLA_IFNAME, name.as_str());
    w.u32(IFLA_MTU, *mtu);
    if let Some(mac) = mac {
        w.attr(IFLA_ADDRESS, &mac.0);
    }
    w.nest(IFLA_LINKINFO, |w| {
        w.text(IFLA_INFO_KIND, "vxlan");
        w.nest(IFLA_INFO_DATA, |w| {
            w.u32(IFLA_VXLAN_ID, *vni);
            w.be16(IFLA_VXLAN_PORT, *port);
            w.u8(IFLA_VXLAN_LEARNING, u8::from(*learning));
            if let Some(parent) = parent {
                w.u32(IFLA_VXLAN_LINK, parent);
            }
            if let Some(local) = local {
                let kind = if local.is_ipv4() { IFLA_VXLAN_LOCAL } else { IFLA_VXLAN_LOCAL6 };
                write_address(w, kind, *local);
            }
        });
    });
}

/// What an RTM_NEWLINK message says of a VXLAN device.
pub(crate) fn decode_vxlan(payload: &[u8], name: impl Fn(u32) -> Option<IfName>) -> Option<Vxlan> {
    let info = Attrs(Attrs::after(payload, 16).find(IFLA_LINKINFO)?);
    let data = Attrs(info.find(IFLA_INFO_DATA)?);
    let local = data.find(IFLA_VXLAN_LOCAL).or_else(|| data.find(IFLA_VXLAN_LOCAL6)).and_then(read_address);
    let parent = data.find(IFLA_VXLAN_LINK).and_then(read_u32).filter(|index| *index != 0);
    Some(Vxlan {
        vni: data.find(IFLA_VXLAN_ID).and_then(read_u32)?,
        port: data.find(IFLA_VXLAN_PORT).and_then(read_u16).map(u16::from_be)?,
        local: local.filter(|local: &IpAddr| !local.is_unspecified()),
        parent: parent.and_then(name),
        learning: data
            .find(IFLA_VXLAN_LEARNING)
            .and_then(|bytes| bytes.first())
            .is_some_and(|byte| *byte != 0),
    })
}

/// What [`decode_vxlan`] reads.
pub(crate) fn encode_vxlan_link(w: &mut Writer, tunnel: &Tunnel, parent: Option<u32>) {
    if let TunnelKind::Vxlan(vxlan) = &tunnel.kind {
        encode_vxlan(w, tunnel, vxlan, parent);
    }
}
