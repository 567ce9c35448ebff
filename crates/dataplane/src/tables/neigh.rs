//! Neighbours: permanent ARP and NDP entries of local workloads, so that the first packet needs no question.

use std::collections::BTreeMap;
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

/// The plan from the kernel's entries to the desired ones. `is_workload` tells workload interfaces: permanent entries
/// there are ours, learned ones are the kernel's.
pub fn plan(
    actual: &[Neighbour],
    desired: &BTreeMap<NeighbourKey, Neighbour>,
    is_workload: impl Fn(&IfName) -> bool,
) -> Vec<NeighbourOp> {
    let mut missing: BTreeMap<&NeighbourKey, &Neighbour> = desired.iter().collect();
    let mut deletes = Vec::new();
    for entry in actual {
        match desired.get(&entry.key) {
            Some(wanted) if wanted == entry => {
                missing.remove(&entry.key);
            }
            Some(_) => {}
            None if entry.permanent && is_workload(&entry.key.device) => {
                deletes.push(NeighbourOp::Delete(entry.key.clone()));
            }
            None => {}
        }
    }
    missing.into_values().cloned().map(NeighbourOp::Replace).chain(deletes).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans_the_difference_on_workload_interfaces_only() {
        let entry = |device: &str, address: &str, mac: u8| {
            Neighbour::permanent(device.parse().unwrap(), address.parse().unwrap(), Mac([mac; 6]))
        };
        let learned = Neighbour { permanent: false, ..entry("cali9", "10.0.0.9", 9) };
        let wanted =
            [entry("cali1", "10.0.0.1", 1), entry("cali2", "10.0.0.2", 2), entry("cali3", "fd00::3", 3)];
        let desired = wanted.iter().map(|n| (n.key.clone(), n.clone())).collect();
        let actual = [
            wanted[0].clone(),
            entry("cali2", "10.0.0.2", 7),
            entry("cali4", "10.0.0.4", 4),
            entry("eth0", "10.0.0.5", 5),
            learned,
        ];
        let ops = plan(&actual, &desired, |d| d.as_str().starts_with("cali"));
        assert_eq!(
            ops,
            [
                NeighbourOp::Replace(wanted[1].clone()),
                NeighbourOp::Replace(wanted[2].clone()),
                NeighbourOp::Delete(actual[2].key.clone()),
            ]
        );
    }
}
