//! Network interfaces and their addresses as the kernel reports them.

use std::fmt;
use std::net::IpAddr;

use calico_net::{Family, IfName, Mac};
use smol_str::SmolStr;

use crate::tables::route::SCOPE_GLOBAL;

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

impl Address {
    /// An address with nothing else on its subnet, valid everywhere, as tunnel devices have them.
    pub fn alone(device: IfName, address: IpAddr) -> Address {
        Address { device, address, prefix_len: Family::of(address).bits(), scope: SCOPE_GLOBAL }
    }

    /// What tells addresses apart.
    pub fn key(&self) -> (IfName, IpAddr) {
        (self.device.clone(), self.address)
    }

    /// Made by the kernel itself, one for each interface that has IPv6.
    pub fn is_link_local_v6(&self) -> bool {
        matches!(self.address, IpAddr::V6(address) if address.is_unicast_link_local())
    }
}

/// One change to interfaces' addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressOp {
    /// Add it; IPv6 addresses work at once, without duplicate address detection.
    Add(Address),
    /// Remove it.
    Delete(Address),
}

impl AddressOp {
    /// The address that is to come or to go.
    pub fn address(&self) -> &Address {
        match self {
            AddressOp::Add(address) | AddressOp::Delete(address) => address,
        }
    }
}

impl fmt::Display for AddressOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address { device, address, prefix_len, scope: _ } = self.address();
        let verb = match self {
            AddressOp::Add(_) => "add",
            AddressOp::Delete(_) => "delete",
        };
        write!(f, "address {verb} {address}/{prefix_len} dev {device}")
    }
}
