//! The kinds of tunnels that need an address of their own, each a row: which pools, which field of the Node, and what it
//! is called in IPAM (spec 5 §2.2, spec 6 §4.3).

use std::net::IpAddr;

use calico_api::{AllowedUse, EncapMode, IPPool, IPPoolSpec, Labels, NodeSpec};
use calico_dataplane::tables::tunnel::{Overlay, TunnelId};
use calico_ipam::pools::selects_node;
use calico_net::{Cidr, Family};
use smol_str::{SmolStr, format_smolstr};

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TunnelKind {
    /// IP in IP.
    Ipip,
    /// VXLAN over IPv4.
    Vxlan,
    /// VXLAN over IPv6.
    VxlanV6,
}

impl TunnelKind {
    /// All of them, in Calico's order.
    pub const ALL: [TunnelKind; 3] = [TunnelKind::Ipip, TunnelKind::Vxlan, TunnelKind::VxlanV6];

    /// The family of its address.
    pub fn family(self) -> Family {
        match self {
            TunnelKind::Ipip | TunnelKind::Vxlan => Family::V4,
            TunnelKind::VxlanV6 => Family::V6,
        }
    }

    /// The device that has the address. Others may learn of it only when this node can receive what they will send.
    pub fn device(self) -> TunnelId {
        let overlay = match self {
            TunnelKind::Ipip => Overlay::Ipip,
            TunnelKind::Vxlan | TunnelKind::VxlanV6 => Overlay::Vxlan,
        };
        (overlay, self.family())
    }

    /// The handle of a node's address.
    pub fn handle(self, node: &str) -> SmolStr {
        let prefix = match self {
            TunnelKind::Ipip => "ipip-tunnel-addr",
            TunnelKind::Vxlan => "vxlan-tunnel-addr",
            TunnelKind::VxlanV6 => "vxlan-v6-tunnel-addr",
        };
        format_smolstr!("{prefix}-{node}")
    }

    /// What is stored beside the address.
    pub fn attributes(self, node: &str) -> Labels {
        let kind = match self {
            TunnelKind::Ipip => "ipipTunnelAddress",
            TunnelKind::Vxlan => "vxlanTunnelAddress",
            TunnelKind::VxlanV6 => "vxlanV6TunnelAddress",
        };
        Labels::from([("node".into(), SmolStr::new(node)), ("type".into(), SmolStr::new_static(kind))])
    }

    /// The field of the Node.
    pub fn field(self) -> &'static str {
        match self {
            TunnelKind::Ipip => "spec.bgp.ipv4IPIPTunnelAddr",
            TunnelKind::Vxlan => "spec.ipv4VXLANTunnelAddr",
            TunnelKind::VxlanV6 => "spec.ipv6VXLANTunnelAddr",
        }
    }

    /// The address that a Node says; what is no address counts as none.
    pub fn stored(self, node: &NodeSpec) -> Option<IpAddr> {
        let text = match self {
            TunnelKind::Ipip => &node.bgp.as_ref()?.ipv4_ipip_tunnel_addr,
            TunnelKind::Vxlan => &node.ipv4_vxlan_tunnel_addr,
            TunnelKind::VxlanV6 => &node.ipv6_vxlan_tunnel_addr,
        };
        text.parse().ok().filter(|addr| Family::of(*addr) == self.family())
    }

    /// Lets a Node say an address, or none.
    pub fn store(self, node: &mut NodeSpec, addr: Option<IpAddr>) {
        let text = addr.map(|addr| format_smolstr!("{addr}")).unwrap_or_default();
        match self {
            TunnelKind::Ipip => {
                // A present but empty part in BGP is invalid.
                if node.bgp.is_some() || !text.is_empty() {
                    node.bgp.get_or_insert_default().ipv4_ipip_tunnel_addr = text;
                }
                node.bgp.take_if(|bgp| *bgp == calico_api::NodeBgp::default());
            }
            TunnelKind::Vxlan => node.ipv4_vxlan_tunnel_addr = text,
            TunnelKind::VxlanV6 => node.ipv6_vxlan_tunnel_addr = text,
        }
    }

    /// The ranges that a node's address may come from, in order; empty if it needs none.
    pub fn pools<'a>(self, pools: impl Iterator<Item = &'a IPPool>, node: &Labels) -> Vec<Cidr> {
        let serves = |pool: &&IPPool| {
            let IPPoolSpec { vxlan_mode, ipip_mode, disabled, .. } = &pool.spec;
            let mode = if self == TunnelKind::Ipip { ipip_mode } else { vxlan_mode };
            matches!(mode, Some(EncapMode::Always | EncapMode::CrossSubnet))
                && !disabled
                && pool.spec.allows(&AllowedUse::Tunnel)
                && selects_node(pool, Some(node))
        };
        let ranges = pools.filter(serves).filter_map(calico_ipam::pools::pool);
        let mut ranges: Vec<Cidr> =
            ranges.map(|pool| pool.cidr).filter(|cidr| cidr.family() == self.family()).collect();
        ranges.sort_unstable();
        ranges.dedup();
        ranges
    }
}
