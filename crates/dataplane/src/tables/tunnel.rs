//! Tunnel devices: what they should be, and the steps that take the kernel's there.
//!
//! They are known by their names, as Calico's always are: what has such a name is ours to change or remove.

use std::fmt;
use std::net::IpAddr;

pub use calico_calc::change::Overlay;
use calico_net::{Family, IfName, Mac};
use smol_str::SmolStr;

/// What tells tunnel devices of ours apart.
pub type TunnelId = (Overlay, Family);

/// A device for each overlay and family that we have one for. IPIP's is the one that the kernel's module makes in every
/// network namespace: it can be switched off, not removed.
const DEVICES: [(Overlay, Family, &str); 3] = [
    (Overlay::Vxlan, Family::V4, "vxlan.calico"),
    (Overlay::Vxlan, Family::V6, "vxlan-v6.calico"),
    (Overlay::Ipip, Family::V4, "tunl0"),
];

/// The device of an overlay; `None` if this agent has none.
pub fn device(overlay: Overlay, family: Family) -> Option<IfName> {
    let of = |(o, f, _): &&(Overlay, Family, &str)| (*o, *f) == (overlay, family);
    DEVICES.iter().find(of).and_then(|(_, _, name)| name.parse().ok())
}

/// All overlays and families that we have devices for.
pub fn ids() -> impl Iterator<Item = TunnelId> {
    DEVICES.iter().map(|(overlay, family, _)| (*overlay, *family))
}

/// The overlay of a device of ours, by its name.
pub fn overlay_of(device: &IfName) -> Option<Overlay> {
    DEVICES.iter().find(|(_, _, name)| *name == device.as_str()).map(|(overlay, _, _)| *overlay)
}

/// The names of all tunnel devices.
pub fn names() -> impl Iterator<Item = IfName> {
    DEVICES.iter().filter_map(|(_, _, name)| name.parse().ok())
}

/// Whether a device is a tunnel of ours.
pub fn is_ours(device: &IfName) -> bool {
    overlay_of(device).is_some()
}

/// Bytes that an overlay adds to each packet: outer IP header, and for VXLAN 8 of UDP, 8 of VXLAN and 14 of Ethernet.
pub fn overhead(overlay: Overlay, family: Family) -> u32 {
    match (overlay, family) {
        (Overlay::Vxlan, Family::V4) => 50,
        (Overlay::Vxlan, Family::V6) => 70,
        (Overlay::Ipip, _) => 20,
    }
}

/// A tunnel device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its name.
    pub name: IfName,
    /// What it is.
    pub kind: TunnelKind,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// Switched on.
    pub up: bool,
    /// The device computes the checksums of inner packets (`tx-checksumming`). Of IPIP always so: no kernel is known to
    /// get them wrong, and nobody asks.
    pub checksum_offload: bool,
}

/// What a tunnel device is. None of this can be changed while it lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelKind {
    /// VXLAN (RFC 7348).
    Vxlan(Vxlan),
    /// IP in IP (RFC 2003) to whatever next hop a route says, from whoever sends it.
    Ipip,
    /// Another kind of device that has the name: never made by us.
    Other(SmolStr),
}

/// A VXLAN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// Network identifier.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The source of encapsulated packets.
    pub local: Option<IpAddr>,
    /// The interface that they leave by.
    pub parent: Option<IfName>,
    /// It learns where Ethernet addresses are from what it receives. Ours are told.
    pub learning: bool,
}

/// One change to a tunnel device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TunnelOp {
    /// Make it. IPIP's may be there, switched off, which counts as absent.
    Create(Tunnel),
    /// Give it these addresses, MTU and state.
    Change(Tunnel),
    /// Remove it, and with it its routes and neighbours. IPIP's is switched off if the kernel keeps it.
    Delete(IfName),
}

impl TunnelOp {
    /// The device's name.
    pub fn device(&self) -> &IfName {
        match self {
            TunnelOp::Create(tunnel) | TunnelOp::Change(tunnel) => &tunnel.name,
            TunnelOp::Delete(name) => name,
        }
    }
}

/// The steps from the kernel's device to the wanted one: a device of another kind is made anew.
pub fn plan(known: Option<&Tunnel>, wanted: &Tunnel) -> Vec<TunnelOp> {
    match known {
        None => vec![TunnelOp::Create(wanted.clone())],
        Some(known) if known.kind == wanted.kind => vec![TunnelOp::Change(wanted.clone())],
        Some(known) => vec![TunnelOp::Delete(known.name.clone()), TunnelOp::Create(wanted.clone())],
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tunnel { name, kind, mac, mtu, up, checksum_offload } = self;
        match kind {
            TunnelKind::Vxlan(Vxlan { vni, port, local, parent, learning }) => {
                write!(f, "{name} type vxlan id {vni} dstport {port}")?;
                local.map_or(Ok(()), |local| write!(f, " local {local}"))?;
                parent.as_ref().map_or(Ok(()), |parent| write!(f, " dev {parent}"))?;
                f.write_str(if *learning { " learning" } else { " nolearning" })?;
            }
            TunnelKind::Ipip => write!(f, "{name} type ipip")?,
            TunnelKind::Other(kind) => write!(f, "{name} type {kind}")?,
        }
        mac.map_or(Ok(()), |mac| write!(f, " address {mac}"))?;
        let (up, csum) = (if *up { "up" } else { "down" }, if *checksum_offload { "on" } else { "off" });
        write!(f, " mtu {mtu} {up} tx-checksumming {csum}")
    }
}

impl fmt::Display for TunnelOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TunnelOp::Create(tunnel) => write!(f, "link add {tunnel}"),
            TunnelOp::Change(tunnel) => write!(f, "link set {tunnel}"),
            TunnelOp::Delete(name) => write!(f, "link delete {name}"),
        }
    }
}
