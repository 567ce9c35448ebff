//! The devices of overlays: what each should be, its addresses, and the rules that let their packets in.

use std::net::IpAddr;

use calico_calc::change::LocalVtep;
use calico_net::{Family, IfName};
use smol_str::SmolStr;

use super::super::Desired;
use super::super::contribution::Owner;
use super::Device;
use crate::tables::link::Address;
use crate::tables::tunnel::{self, Overlay, Tunnel, TunnelId, TunnelKind, Vxlan};

/// What VXLAN devices are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanSettings {
    /// `VXLANEnabled`: whether IPv4 has a device; by the pools if it does not say.
    pub enabled: Option<bool>,
    /// `VXLANVNI`.
    pub vni: u32,
    /// `VXLANPort`.
    pub port: u16,
    /// `VXLANMTU`; 0 for what the host's interfaces allow.
    pub mtu_v4: u32,
    /// `VXLANMTUV6`.
    pub mtu_v6: u32,
    /// Whether the device may leave checksums of inner packets to hardware. Some kernels get them wrong.
    pub checksum_offload: bool,
}

impl Default for VxlanSettings {
    fn default() -> VxlanSettings {
        VxlanSettings { enabled: None, vni: 4096, port: 4789, mtu_v4: 0, mtu_v6: 0, checksum_offload: false }
    }
}

/// What the IPIP device is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpipSettings {
    /// `IpInIpEnabled`: whether there is a device; by the pools if it does not say.
    pub enabled: Option<bool>,
    /// `IpInIpMtu`; 0 for what the host's interfaces allow.
    pub mtu: u32,
    /// `ProgramClusterRoutes`: whether routes of IPIP pools are the agent's. If not they are the BGP speaker's.
    pub routes: bool,
}

impl Default for IpipSettings {
    fn default() -> IpipSettings {
        IpipSettings { enabled: None, mtu: 0, routes: true }
    }
}

/// The MTU of the host's interfaces where nobody has said it.
const DEFAULT_HOST_MTU: u32 = 1500;
/// What every IPv4 and every IPv6 link must carry (RFC 791, RFC 8200 §5): devices get no less.
const MTU_MIN_V4: u32 = 68;
const MTU_MIN_V6: u32 = 1280;

impl Desired {
    /// The MTU that the host's interfaces allow.
    pub fn set_host_mtu(&mut self, mtu: u32) {
        if self.overlays.host_mtu.replace(mtu) != Some(mtu) {
            self.overlays.touch();
        }
    }

    /// The MTU that workloads' interfaces should have: what passes every overlay in use.
    pub fn workload_mtu(&self) -> u32 {
        let used = tunnel::ids().filter(|id| self.uses_overlay(*id));
        let host = self.overlays.host_mtu.unwrap_or(DEFAULT_HOST_MTU);
        used.map(|id| self.tunnel_mtu(id)).min().unwrap_or(host)
    }

    fn tunnel_mtu(&self, (overlay, family): TunnelId) -> u32 {
        let VxlanSettings { mtu_v4, mtu_v6, .. } = self.settings.vxlan;
        let chosen = match (overlay, family) {
            (Overlay::Vxlan, Family::V4) => mtu_v4,
            (Overlay::Vxlan, Family::V6) => mtu_v6,
            (Overlay::Ipip, _) => self.settings.ipip.mtu,
        };
        if chosen != 0 {
            return chosen;
        }
        let least = match family {
            Family::V4 => MTU_MIN_V4,
            Family::V6 => MTU_MIN_V6,
        };
        let host = self.overlays.host_mtu.unwrap_or(DEFAULT_HOST_MTU);
        host.saturating_sub(tunnel::overhead(overlay, family)).max(least)
    }

    /// Whether packets of a family are to go through an overlay.
    pub fn uses_overlay(&self, (overlay, family): TunnelId) -> bool {
        let by_pools = self.overlays.pools.get(&(overlay, family)).is_some_and(|count| *count > 0);
        match (overlay, family) {
            (Overlay::Vxlan, Family::V4) => self.settings.vxlan.enabled.unwrap_or(by_pools),
            (Overlay::Vxlan, Family::V6) => self.settings.ipv6 && by_pools,
            (Overlay::Ipip, Family::V4) => self.settings.ipip.enabled.unwrap_or(by_pools),
            (Overlay::Ipip, Family::V6) => false,
        }
    }

    /// The device of an overlay; or why there can be none.
    pub(super) fn tunnel(
        &self,
        name: &IfName,
        id: TunnelId,
        local: Option<LocalVtep>,
    ) -> Result<Tunnel, String> {
        let (kind, mac, checksum_offload) = match id {
            (Overlay::Vxlan, family) => {
                let (vxlan, mac) = self.vxlan(family, local)?;
                (TunnelKind::Vxlan(vxlan), Some(mac), self.settings.vxlan.checksum_offload)
            }
            // It is bound to no address and no interface: routes decide where its packets go.
            (Overlay::Ipip, _) => (TunnelKind::Ipip, None, true),
        };
        Ok(Tunnel { name: name.clone(), kind, mac, mtu: self.tunnel_mtu(id), up: true, checksum_offload })
    }

    fn vxlan(&self, family: Family, local: Option<LocalVtep>) -> Result<(Vxlan, calico_net::Mac), String> {
        let LocalVtep { host, addr: _, mac } =
            local.ok_or_else(|| format!("this node has no {family} address: is its Node resource there?"))?;
        let parent =
            self.overlays.uplinks.get(&family).ok_or_else(|| {
                format!("no interface has {host}, the address of this node's Node resource")
            })?;
        let VxlanSettings { vni, port, .. } = self.settings.vxlan;
        let vxlan = Vxlan {
            vni,
            port,
            local: Some(host),
            // A node that is reached over several interfaces has its address on the loopback device, which leads nowhere.
            parent: Some(parent).filter(|parent| parent.as_str() != "lo").cloned(),
            learning: false,
        };
        Ok((vxlan, mac))
    }

    pub(super) fn want_addresses(&mut self, device: &IfName, only: Option<IpAddr>) {
        let wanted: Vec<_> =
            self.device_addresses.wanted().keys().filter(|(d, _)| d == device).cloned().collect();
        for key in wanted.into_iter().filter(|(_, address)| Some(*address) != only) {
            self.device_addresses.want(key, None);
        }
        if let Some(address) = only {
            let address = Address::alone(device.clone(), address);
            if self.device_addresses.wanted().get(&address.key()) != Some(&address) {
                self.device_addresses.want(address.key(), Some(address));
            }
        }
    }

    /// Encapsulated packets are accepted while there is a device for them.
    pub(super) fn render_overlay_rules(&mut self) {
        let devices = &self.overlays.devices;
        let has = |overlay| devices.keys().any(|(of, _)| *of == overlay);
        let (vxlan, ipip) = (has(Overlay::Vxlan), has(Overlay::Ipip));
        let tunnels = devices.values().filter_map(|Device { name, addr }| {
            Some(calico_rules::config::Tunnel { interface: SmolStr::new(name.as_str()), addr: (*addr)? })
        });
        let tunnels = tunnels.collect();
        let rules = &mut self.settings.rules;
        if (rules.vxlan, rules.ipip, &rules.tunnels) != (vxlan, ipip, &tunnels) {
            (rules.vxlan, rules.ipip, rules.tunnels) = (vxlan, ipip, tunnels);
            let statics = calico_rules::statics(rules);
            self.contribute(Owner::Statics, statics);
        }
    }
}
