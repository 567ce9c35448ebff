//! A kernel in memory, for tests: it refuses what the real one refuses.
//!
//! Not a simulator of packets: it holds tables. [`crate::contract`] keeps it honest, being run on the real kernel too.

mod nft;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_net::IfName;
use calico_rules::nft::Table;

use self::nft::FakeTable;
use crate::kernel::{Kernel, KernelError, NftRefusal, RouteRefusal};
use crate::leftovers::{LeftoverOp, Leftovers};
use crate::tables::fdb::{FdbEntry, FdbKey, FdbOp};
use crate::tables::link::{Address, AddressOp, Link};
use crate::tables::neigh::{Neighbour, NeighbourKey, NeighbourOp};
use crate::tables::nft::{ActualNft, ActualRule, NftOp};
use crate::tables::route::{Route, RouteKey, RouteOp};
use crate::tables::sysctl::Sysctl;
use crate::tables::tunnel::{self, Overlay, Tunnel, TunnelKind, TunnelOp};

/// A kernel in memory.
#[derive(Clone, Debug, Default)]
pub struct FakeKernel {
    tables: BTreeMap<Table, FakeTable>,
    generation: u32,
    ruleset_reads: usize,
    links: BTreeMap<IfName, Link>,
    /// Counts on when interfaces go, as the kernel's.
    last_index: u32,
    addresses: Vec<Address>,
    routes: BTreeMap<RouteKey, Route>,
    neighbours: BTreeMap<NeighbourKey, Neighbour>,
    tunnels: BTreeMap<IfName, Tunnel>,
    fdb: BTreeMap<FdbKey, FdbEntry>,
    /// Tunnel devices cannot be made.
    pub tunnels_fail: bool,
    /// The kernel has no module `ipip`.
    pub no_ipip: bool,
    /// Parameters written, by name.
    pub sysctls: BTreeMap<String, String>,
    /// Parameters that cannot be written, by name.
    pub read_only_sysctls: BTreeSet<String>,
    /// Connections by address; tests put them in.
    pub connections: BTreeSet<IpAddr>,
    /// Addresses that somebody speaks to all the time: until their route leads elsewhere, a connection that is forgotten
    /// is there again.
    pub busy: BTreeSet<IpAddr>,
    /// What another Calico left; removals are only logged.
    pub leftovers: Leftovers,
    /// Connections cannot be forgotten.
    pub conntrack_fails: bool,
    /// Chains that this kernel knows no way to make or to fill, by name.
    pub refused_chains: BTreeSet<String>,
    /// The next transaction is done, and its acknowledgement lost.
    pub lose_answer: bool,
    /// The next transaction finds no memory.
    pub out_of_memory: bool,
    /// Operations done, in order, as the plan prints them: what tests compare and count.
    pub log: Vec<String>,
}

impl FakeKernel {
    /// An empty kernel.
    pub fn new() -> FakeKernel {
        FakeKernel::default()
    }

    /// Makes an interface, or makes it anew with another index. Down, it has no routes.
    pub fn set_link(&mut self, name: &str, up: bool) -> Link {
        let name: IfName = name.parse().expect("tests name interfaces rightly");
        let index = match self.links.get(&name) {
            Some(link) => link.index,
            None => self.next_index(),
        };
        let link = Link {
            index,
            name: name.clone(),
            kind: "veth".into(),
            admin_up: up,
            oper_up: up,
            mac: None,
            mtu: 1500,
            peer_index: None,
        };
        if !up {
            self.drop_device(&name);
        }
        self.links.insert(name, link.clone());
        link
    }

    fn next_index(&mut self) -> u32 {
        let highest = self.links.values().map(|link| link.index).max().unwrap_or(1);
        self.last_index = self.last_index.max(highest) + 1;
        self.last_index
    }

    /// Gives an interface another name; its addresses and the tunnels over it stay.
    pub fn rename_link(&mut self, old: &str, new: &str) {
        let [old, new] =
            [old, new].map(|name| name.parse::<IfName>().expect("tests name interfaces rightly"));
        let Some(link) = self.links.remove(&old) else { return };
        self.links.insert(new.clone(), Link { name: new.clone(), ..link });
        self.addresses.iter_mut().filter(|a| a.device == old).for_each(|a| a.device = new.clone());
        for tunnel in self.tunnels.values_mut() {
            if let TunnelKind::Vxlan(vxlan) = &mut tunnel.kind
                && vxlan.parent.as_ref() == Some(&old)
            {
                vxlan.parent = Some(new.clone());
            }
        }
    }

    /// Removes an interface and what hangs on it.
    pub fn remove_link(&mut self, name: &str) {
        self.links.retain(|n, _| n.as_str() != name);
        if let Ok(name) = name.parse() {
            self.drop_device(&name);
        }
    }

    /// Gives an interface an address.
    pub fn add_address(&mut self, address: Address) {
        self.addresses.push(address);
    }

    /// Puts a route in, as another program would.
    pub fn add_route(&mut self, route: Route) {
        self.routes.insert(route.key, route);
    }

    /// Removes our tables and everything else, as `nft flush ruleset` does where tables can not be owned.
    pub fn flush_ruleset(&mut self) {
        self.tables.clear();
        self.generation += 1;
    }

    /// How often all tables of nf_tables have been read.
    pub fn ruleset_reads(&self) -> usize {
        self.ruleset_reads
    }

    /// All routes.
    pub fn routes(&self) -> impl Iterator<Item = &Route> {
        self.routes.values()
    }

    fn drop_device(&mut self, name: &IfName) {
        self.routes.retain(|_, route| route.device.as_ref() != Some(name));
        self.neighbours.retain(|key, _| key.device != *name);
        self.fdb.retain(|key, _| key.device != *name);
        if !self.links.contains_key(name) {
            self.tunnels.remove(name);
            self.addresses.retain(|address| address.device != *name);
        }
    }

    /// All tunnel devices.
    pub fn tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        self.tunnels.values()
    }

    /// Removes an entry of a forwarding table and one of the neighbours, as another program would.
    pub fn forget_end(&mut self, fdb: &FdbKey, neighbour: &NeighbourKey) {
        self.fdb.remove(fdb);
        self.neighbours.remove(neighbour);
    }

    fn set_tunnel(&mut self, tunnel: &Tunnel) {
        let name = &tunnel.name;
        let highest = self.links.values().map(|link| link.index).max().unwrap_or(1);
        let index = self.links.get(name).map_or(highest + 1, |link| link.index);
        let link = Link {
            index,
            name: name.clone(),
            kind: if tunnel.kind == TunnelKind::Ipip { "ipip".into() } else { "vxlan".into() },
            admin_up: tunnel.up,
            oper_up: tunnel.up,
            mac: tunnel.mac,
            mtu: tunnel.mtu,
            peer_index: None,
        };
        self.links.insert(name.clone(), link);
        self.tunnels.insert(name.clone(), tunnel.clone());
    }

    fn require_link(&self, name: &IfName) -> Result<(), KernelError> {
        match self.links.get(name) {
            Some(link) if link.admin_up => Ok(()),
            Some(_) => Err(KernelError(format!("{name}: Network is down"))),
            None => Err(KernelError(format!("no interface named {name}"))),
        }
    }
}

impl Kernel for FakeKernel {
    fn read_nft(&mut self) -> Result<ActualNft, KernelError> {
        self.ruleset_reads += 1;
        Ok(self.tables.iter().map(|(table, contents)| (*table, contents.actual())).collect())
    }

    fn read_chain(&mut self, table: Table, chain: &str) -> Result<Vec<ActualRule>, KernelError> {
        Ok(self.tables.get(&table).map(|t| t.chain_rules(chain)).unwrap_or_default())
    }

    fn owns_tables(&self) -> bool {
        false
    }

    fn read_generation(&mut self) -> Result<u32, KernelError> {
        Ok(self.generation)
    }

    fn apply_nft(&mut self, ops: &[NftOp]) -> Result<(), NftRefusal> {
        if self.out_of_memory {
            return Err(NftRefusal::NoMemory("Cannot allocate memory".into()));
        }
        let before = self.tables.clone();
        for (index, op) in ops.iter().enumerate() {
            let refused = match op {
                NftOp::AddChain { chain, .. } | NftOp::AddRule { chain, .. } => {
                    self.refused_chains.contains(chain.as_str())
                }
                _ => false,
            };
            let applied = if refused { Err("not supported") } else { nft::apply(&mut self.tables, op) };
            if let Err(reason) = applied {
                self.tables = before;
                return Err(NftRefusal::Operation { index, reason: reason.into() });
            }
        }
        self.generation += 1;
        self.log.extend(ops.iter().map(ToString::to_string));
        match std::mem::take(&mut self.lose_answer) {
            true => Err(NftRefusal::Failed("the kernel's answer was lost".into())),
            false => Ok(()),
        }
    }

    fn read_links(&mut self) -> Result<Vec<Link>, KernelError> {
        Ok(self.links.values().cloned().collect())
    }

    fn read_addresses(&mut self) -> Result<Vec<Address>, KernelError> {
        Ok(self.addresses.clone())
    }

    fn apply_addresses(&mut self, ops: &[AddressOp]) -> Result<Vec<(usize, KernelError)>, KernelError> {
        let mut refused = Vec::new();
        for (place, op) in ops.iter().enumerate() {
            let address = op.address();
            if !self.links.contains_key(&address.device) {
                refused.push((place, KernelError(format!("no interface named {}", address.device))));
                continue;
            }
            self.addresses.retain(|other| other != address);
            if matches!(op, AddressOp::Add(_)) {
                self.addresses.push(address.clone());
            }
            self.log.push(op.to_string());
        }
        Ok(refused)
    }

    fn read_tunnels(&mut self) -> Result<Vec<Tunnel>, KernelError> {
        Ok(self.tunnels.values().cloned().collect())
    }

    fn apply_tunnel(&mut self, op: &TunnelOp) -> Result<(), KernelError> {
        let refused = |why: &str| Err(KernelError(format!("{}: {why}", op.device())));
        if self.tunnels_fail {
            return refused("Operation not supported");
        }
        match op {
            TunnelOp::Create(Tunnel { kind: TunnelKind::Ipip, .. }) if self.no_ipip => {
                return refused("Operation not supported");
            }
            TunnelOp::Create(tunnel @ Tunnel { name, kind: TunnelKind::Ipip, .. })
                if !self.tunnels.contains_key(name) =>
            {
                self.set_tunnel(tunnel);
            }
            TunnelOp::Create(Tunnel { name, .. }) if self.links.contains_key(name) => {
                return refused("File exists");
            }
            TunnelOp::Create(tunnel) => {
                let TunnelKind::Vxlan(vxlan) = &tunnel.kind else {
                    return refused("Operation not supported");
                };
                if vxlan.parent.as_ref().is_some_and(|parent| !self.links.contains_key(parent)) {
                    return refused("No such device");
                }
                self.set_tunnel(tunnel);
            }
            TunnelOp::Change(tunnel) => match self.tunnels.get(&tunnel.name) {
                None => return refused("No such device"),
                Some(_) => self.set_tunnel(tunnel),
            },
            TunnelOp::Delete(name) if tunnel::overlay_of(name) == Some(Overlay::Ipip) => {
                self.tunnels.remove(name);
                self.drop_device(name);
                if let Some(link) = self.links.get_mut(name) {
                    (link.admin_up, link.oper_up) = (false, false);
                }
            }
            TunnelOp::Delete(name) => {
                self.links.remove(name);
                self.drop_device(name);
            }
        }
        self.log.push(op.to_string());
        Ok(())
    }

    fn read_fdb(&mut self) -> Result<Vec<FdbEntry>, KernelError> {
        Ok(self.fdb.values().cloned().collect())
    }

    fn apply_fdb(&mut self, ops: &[FdbOp]) -> Result<Vec<(usize, KernelError)>, KernelError> {
        let mut refused = Vec::new();
        for (place, op) in ops.iter().enumerate() {
            match op {
                FdbOp::Replace(entry) if self.tunnels.contains_key(&entry.key.device) => {
                    self.fdb.insert(entry.key.clone(), entry.clone());
                }
                FdbOp::Replace(entry) => {
                    refused.push((place, KernelError(format!("no interface named {}", entry.key.device))));
                    continue;
                }
                FdbOp::Delete(key) => {
                    self.fdb.remove(key);
                }
            }
            self.log.push(op.to_string());
        }
        Ok(refused)
    }

    fn read_routes(&mut self) -> Result<Vec<Route>, KernelError> {
        Ok(self.routes.values().cloned().collect())
    }

    fn apply_routes(&mut self, ops: &[RouteOp]) -> Result<Vec<(usize, RouteRefusal)>, KernelError> {
        let mut refused = Vec::new();
        for (place, op) in ops.iter().enumerate() {
            match op {
                RouteOp::Add(route) | RouteOp::Replace(route) => {
                    if let Err(error) = route.device.as_ref().map_or(Ok(()), |d| self.require_link(d)) {
                        refused.push((place, RouteRefusal::Failed(error)));
                        continue;
                    }
                    if matches!(op, RouteOp::Add(_)) && self.routes.contains_key(&route.key) {
                        refused.push((place, RouteRefusal::Exists));
                        continue;
                    }
                    let address = route.key.destination.addr();
                    if self.routes.insert(route.key, route.clone()).is_some() && self.busy.contains(&address)
                    {
                        self.connections.insert(address);
                    }
                }
                RouteOp::Delete(route) => {
                    if self.routes.get(&route.key) == Some(route) {
                        self.routes.remove(&route.key);
                    }
                }
            }
            self.log.push(op.to_string());
        }
        Ok(refused)
    }

    fn read_neighbours(&mut self) -> Result<Vec<Neighbour>, KernelError> {
        Ok(self.neighbours.values().cloned().collect())
    }

    fn apply_neighbours(&mut self, ops: &[NeighbourOp]) -> Result<Vec<(usize, KernelError)>, KernelError> {
        let mut refused = Vec::new();
        for (place, op) in ops.iter().enumerate() {
            match op {
                NeighbourOp::Replace(entry) => {
                    if !self.links.contains_key(&entry.key.device) {
                        refused
                            .push((place, KernelError(format!("no interface named {}", entry.key.device))));
                        continue;
                    }
                    self.neighbours.insert(entry.key.clone(), entry.clone());
                }
                NeighbourOp::Delete(key) => {
                    self.neighbours.remove(key);
                }
            }
            self.log.push(op.to_string());
        }
        Ok(refused)
    }

    fn write_sysctl(&mut self, sysctl: &Sysctl) -> Result<(), KernelError> {
        if self.read_only_sysctls.contains(&sysctl.name) {
            return Err(KernelError(format!("{}: read-only", sysctl.name)));
        }
        self.sysctls.insert(sysctl.name.clone(), sysctl.value.clone());
        Ok(())
    }

    fn delete_conntrack(&mut self, addresses: &[IpAddr]) -> Result<usize, KernelError> {
        if self.conntrack_fails {
            return Err(KernelError("Cannot allocate memory".into()));
        }
        self.log.extend(addresses.iter().map(|a| format!("conntrack delete {a}")));
        Ok(addresses.iter().filter(|a| self.connections.remove(*a)).count())
    }

    fn read_leftovers(&mut self) -> Result<Leftovers, KernelError> {
        Ok(self.leftovers.clone())
    }

    fn apply_leftover(&mut self, op: &LeftoverOp) -> Result<(), KernelError> {
        self.log.push(op.to_string());
        Ok(())
    }
}
