//! Forwarding entries of VXLAN devices: behind which node an Ethernet address is.

use std::fmt;
use std::net::IpAddr;

use calico_net::{IfName, Mac};

/// What tells forwarding entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbKey {
    /// On which device.
    pub device: IfName,
    /// Whose.
    pub mac: Mac,
}

/// A forwarding entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FdbEntry {
    /// Its identity.
    pub key: FdbKey,
    /// Where packets for it are sent; none if there are several, as nobody of ours makes them.
    pub host: Option<IpAddr>,
    /// Set by somebody for good, not learned.
    pub permanent: bool,
}

impl FdbEntry {
    /// A permanent entry.
    pub fn permanent(device: IfName, mac: Mac, host: IpAddr) -> FdbEntry {
        FdbEntry { key: FdbKey { device, mac }, host: Some(host), permanent: true }
    }
}

/// One change to a forwarding table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FdbOp {
    /// Add a permanent entry, or change where it leads.
    Replace(FdbEntry),
    /// Remove an entry with all its destinations.
    Delete(FdbKey),
}

impl FdbOp {
    /// The entry that is to come or to go.
    pub fn key(&self) -> &FdbKey {
        match self {
            FdbOp::Replace(entry) => &entry.key,
            FdbOp::Delete(key) => key,
        }
    }
}

impl fmt::Display for FdbOp {
    /// As `bridge fdb` prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FdbOp::Replace(FdbEntry { key, host, .. }) => {
                write!(f, "fdb replace {} dev {}", key.mac, key.device)?;
                host.map_or(Ok(()), |host| write!(f, " dst {host}"))
            }
            FdbOp::Delete(key) => write!(f, "fdb delete {} dev {}", key.mac, key.device),
        }
    }
}
