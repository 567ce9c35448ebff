//! Network interfaces and their addresses as the kernel reports them.

use std::net::IpAddr;

use calico_net::{IfName, Mac};
use smol_str::SmolStr;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// The kernel's number for it; a new one whenever an interface is made anew.
    pub index: u32,
    /// Its name.
    pub name: IfName,
    /// What it is: `veth`, `vxlan`, …; empty for hardware.
    pub kind: SmolStr,
    /// Switched on (`IFF_UP`).
    pub admin_up: bool,
    /// Works: switched on and with a carrier (`IFF_RUNNING`).
    pub oper_up: bool,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// The other end of a veth, or the interface below, by index in its own namespace.
    pub peer_index: Option<u32>,
}

/// An address of an interface.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The interface.
    pub device: IfName,
    /// The address.
    pub address: IpAddr,
    /// Length of the subnet's prefix.
    pub prefix_len: u8,
    /// How far it is valid (`RT_SCOPE_*`).
    pub scope: u8,
}

/// One change to interfaces' addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressOp {
    /// Add it; IPv6 addresses work at once, without duplicate address detection.
    Add(Address),
    /// Remove it.
    Delete(Address),
}
