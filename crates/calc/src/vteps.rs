//! Where nodes' VXLAN devices are: the address, the Ethernet address and the tunnel address of each.
//!
//! None of the three may be two nodes' at once: packets would reach the wrong one. Should two nodes claim the same, the
//! first by name has it and the others have no tunnel, which is said as a problem of each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_net::{Family, Mac};
use sha1::{Digest, Sha1};
use smol_str::SmolStr;

use crate::change::{Change, LocalVtep, NodeInfo, Vtep};
use crate::cluster::Mirror;

/// The Ethernet address of a node's VXLAN device where its resource names none: every node computes it for all the
/// others, so it is `66:` and the first five bytes of the SHA-1 of the name, in IPv6 of the name and `-v6` (spec 3 §6.2).
pub(crate) fn computed_mac(node: &str, family: Family) -> Mac {
    let suffix = match family {
        Family::V4 => "",
        Family::V6 => "-v6",
    };
    let digest = Sha1::new().chain_update(node).chain_update(suffix).finalize();
    let mut mac = [0x66; 6];
    mac[1..].copy_from_slice(&digest[..5]);
    Mac(mac)
}

/// What is claimed: each belongs to one node of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    Host(IpAddr),
    Addr(IpAddr),
    Mac(Family, Mac),
}

impl std::fmt::Display for Claim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Claim::Host(addr) => write!(f, "its address {addr}"),
            Claim::Addr(addr) => write!(f, "its tunnel address {addr}"),
            Claim::Mac(_, mac) => write!(f, "its tunnel MAC {mac}"),
        }
    }
}

fn claims(family: Family, vtep: &Vtep) -> [Claim; 3] {
    let Vtep { host, addr, mac } = *vtep;
    [Claim::Host(host), Claim::Addr(addr), Claim::Mac(family, mac)]
}

type Id = (Family, SmolStr);

/// The ends of VXLAN tunnels of all nodes.
#[derive(Debug)]
pub(crate) struct Vteps {
    /// This node.
    node: SmolStr,
    candidates: BTreeMap<Id, Vtep>,
    claims: BTreeMap<Claim, BTreeSet<SmolStr>>,
    locals: Mirror<Family, LocalVtep>,
    /// Usable ends of other nodes.
    others: Mirror<Id, Vtep>,
    conflicts: BTreeMap<Id, String>,
    conflicts_version: u64,
}

impl Vteps {
    /// The ends as the node of this name sees them, knowing none.
    pub(crate) fn new(node: &str) -> Vteps {
        Vteps {
            node: SmolStr::new(node),
            candidates: BTreeMap::new(),
            claims: BTreeMap::new(),
            locals: Mirror::default(),
            others: Mirror::default(),
            conflicts: BTreeMap::new(),
            conflicts_version: 0,
        }
    }

    /// Takes in a node, or its absence. Returns the nodes whose ends may have become usable or unusable by it.
    pub(crate) fn set(&mut self, name: &SmolStr, node: Option<&NodeInfo>) -> BTreeSet<SmolStr> {
        let mut affected = BTreeSet::new();
        for family in Family::ALL {
            let local = node.and_then(|node| read(name, node, family));
            let end = local.and_then(|LocalVtep { host, addr, mac }| Some(Vtep { host, addr: addr?, mac }));
            let id = (family, name.clone());
            let old = match end {
                Some(end) => self.candidates.insert(id, end),
                None => self.candidates.remove(&id),
            };
            if old != end {
                let mut touched = BTreeSet::from([name.clone()]);
                for claim in old.iter().flat_map(|old| claims(family, old)) {
                    if let Some(claimants) = self.claims.get_mut(&claim) {
                        touched.extend(claimants.iter().cloned());
                        claimants.remove(name);
                        if claimants.is_empty() {
                            self.claims.remove(&claim);
                        }
                    }
                }
                for claim in end.iter().flat_map(|end| claims(family, end)) {
                    let claimants = self.claims.entry(claim).or_default();
                    touched.extend(claimants.iter().cloned());
                    claimants.insert(name.clone());
                }
                touched.iter().for_each(|node| self.judge(family, node));
                affected.extend(touched);
            }
            if *name == self.node {
                let blocked = self.blocked(&(family, name.clone())).is_some();
                let local = local.map(|local| LocalVtep { addr: local.addr.filter(|_| !blocked), ..local });
                self.locals.set(family, local);
            }
        }
        affected
    }

    /// The end of another node, if it can be used.
    pub(crate) fn usable(&self, family: Family, node: &SmolStr) -> Option<&Vtep> {
        self.others.get(&(family, node.clone()))
    }

    /// Why a node's end cannot be used.
    fn blocked(&self, id: &Id) -> Option<String> {
        let (family, name) = id;
        let end = self.candidates.get(id)?;
        claims(*family, end).into_iter().find_map(|claim| {
            let first = self.claims.get(&claim)?.first().filter(|first| *first != name)?;
            Some(format!("{claim} is node {first}'s too: it counts as having no VXLAN tunnel"))
        })
    }

    /// Decides anew whether a node's end can be used.
    fn judge(&mut self, family: Family, node: &SmolStr) {
        let id = (family, node.clone());
        let blocked = self.blocked(&id);
        let end = self.candidates.get(&id).copied().filter(|_| blocked.is_none());
        let known = match &blocked {
            Some(text) => self.conflicts.insert(id.clone(), text.clone()),
            None => self.conflicts.remove(&id),
        };
        if known != blocked {
            self.conflicts_version += 1;
        }
        if *node != self.node {
            self.others.set(id, end);
        } else if let Some(local) = self.locals.get(&family).copied() {
            self.locals.set(family, Some(LocalVtep { addr: end.map(|end| end.addr), ..local }));
        }
    }

    /// Nodes whose ends cannot be used, and why.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = (&SmolStr, &str)> {
        self.conflicts.iter().map(|((_, node), text)| (node, text.as_str()))
    }

    /// Another number whenever [`Vteps::conflicts`] may say something else.
    pub(crate) fn conflicts_version(&self) -> u64 {
        self.conflicts_version
    }

    /// Reports ends that are new or different; those that are gone, which come later, are returned.
    pub(crate) fn flush(&mut self, out: &mut Vec<Change>) -> Vec<Change> {
        let mut removed = Vec::new();
        self.locals.flush(|family, vtep| match vtep {
            Some(vtep) => out.push(Change::LocalVtepChanged(*family, *vtep)),
            None => removed.push(Change::LocalVtepRemoved(*family)),
        });
        self.others.flush(|(family, node), vtep| match vtep {
            Some(vtep) => out.push(Change::VtepChanged(*family, node.clone(), *vtep)),
            None => removed.push(Change::VtepRemoved(*family, node.clone())),
        });
        removed
    }

    /// Whether there is nothing.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let current = self.locals.current().len() + self.others.current().len() + self.conflicts.len();
        current == 0 && self.candidates.is_empty() && self.claims.is_empty()
    }
}

/// A node's end, as its resource has it; none without an address of the family.
fn read(name: &str, node: &NodeInfo, family: Family) -> Option<LocalVtep> {
    let NodeInfo { v4, v6, ipip_addr: _, vxlan_v4_addr, vxlan_v4_mac, vxlan_v6_addr, vxlan_v6_mac } = node;
    let (host, addr, mac) = match family {
        Family::V4 => (v4, vxlan_v4_addr, vxlan_v4_mac),
        Family::V6 => (v6, vxlan_v6_addr, vxlan_v6_mac),
    };
    let (host, _) = (*host)?;
    Some(LocalVtep { host, addr: *addr, mac: mac.unwrap_or_else(|| computed_mac(name, family)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn macs_are_those_that_calico_computes() {
        for (name, family, mac) in
            [("node1", Family::V4, "66:f9:37:c3:7e:94"), ("node1", Family::V6, "66:0f:35:f2:60:df")]
        {
            assert_eq!(computed_mac(name, family).to_string(), mac);
        }
    }
}
