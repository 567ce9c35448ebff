//! Neighbours: permanent ARP and NDP entries of local workloads and of other nodes' tunnel ends, so that the first packet
//! needs no question.

use std::fmt;
use std::net::IpAddr;

use calico_net::{IfName, Mac};

/// What tells neighbour entries apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NeighbourKey {
    /// On which interface.
    pub device: IfName,
    /// Whose.
    pub address: IpAddr,
}

/// A neighbour entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Neighbour {
    /// Its identity.
    pub key: NeighbourKey,
    /// The Ethernet address; none while the kernel is still asking.
    pub mac: Option<Mac>,
    /// Set by somebody for good (`NUD_PERMANENT`), not learned.
    pub permanent: bool,
}

impl Neighbour {
    /// A permanent entry.
    pub fn permanent(device: IfName, address: IpAddr, mac: Mac) -> Neighbour {
        Neighbour { key: NeighbourKey { device, address }, mac: Some(mac), permanent: true }
    }
}

/// One change to the neighbour table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NeighbourOp {
    /// Add or change a permanent entry.
    Replace(Neighbour),
    /// Remove an entry.
    Delete(NeighbourKey),
}

impl NeighbourOp {
    /// The entry that is to come or to go.
    pub fn key(&self) -> &NeighbourKey {
        match self {
            NeighbourOp::Replace(entry) => &entry.key,
            NeighbourOp::Delete(key) => key,
        }
    }
}

impl fmt::Display for NeighbourOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NeighbourOp::Replace(Neighbour { key, mac, .. }) => {
                write!(f, "neigh replace {} dev {}", key.address, key.device)?;
                mac.map_or(Ok(()), |mac| write!(f, " lladdr {mac}"))
            }
            NeighbourOp::Delete(key) => write!(f, "neigh delete {} dev {}", key.address, key.device),
        }
    }
}
