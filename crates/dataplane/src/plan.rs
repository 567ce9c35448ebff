//! The plan of one update as a value: in the order in which it is done, printable and comparable.
//!
//! Open late, close early: rules come before routes lead anybody to them, and go after no route does.
//!
//! ```text
//! nft open ─▶ tunnels, their addresses ─▶ sysctls ─▶ forwarding entries, neighbours ─▶ conntrack of moved addresses ─▶
//! routes ─▶ conntrack of gone addresses, and of moved ones again ─▶ neighbours, forwarding entries, tunnels gone ─▶ nft close
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::desired::Desired;
use crate::tables::fdb::FdbOp;
use crate::tables::link::AddressOp;
use crate::tables::neigh::NeighbourOp;
use crate::tables::nft::NftPlan;
use crate::tables::route::{RouteKey, RouteOp};
use crate::tables::sysctl::Sysctl;
use crate::tables::tunnel::{self, TunnelOp};

/// Everything that one update does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Tables, chains, rules, sets: two transactions, or one where nothing has to wait.
    pub nft: NftPlan,
    /// Tunnel devices that come or change.
    pub tunnels: Vec<TunnelOp>,
    /// Addresses of tunnel devices: first those that come, then those that go.
    pub addresses: Vec<AddressOp>,
    /// Parameters of interfaces.
    pub sysctls: Vec<Sysctl>,
    /// Forwarding entries that come.
    pub fdb: Vec<FdbOp>,
    /// Neighbours that come.
    pub neighbours: Vec<NeighbourOp>,
    /// Addresses whose connections go before their route changes.
    pub moved: BTreeSet<IpAddr>,
    /// Routes: first those that come, then those that go.
    pub routes: Vec<RouteOp>,
    /// Keys that foreign routes hold; left alone.
    pub foreign: Vec<RouteKey>,
    /// Addresses whose connections go after their route went.
    pub gone: BTreeSet<IpAddr>,
    /// Neighbours that go.
    pub gone_neighbours: Vec<NeighbourOp>,
    /// Forwarding entries that go.
    pub gone_fdb: Vec<FdbOp>,
    /// Tunnel devices that go.
    pub gone_tunnels: Vec<TunnelOp>,
}

impl Plan {
    /// Nothing to do. (Parameters do not count: they are written without being read.)
    pub fn is_empty(&self) -> bool {
        let Plan {
            nft,
            tunnels,
            addresses,
            sysctls: _,
            fdb,
            neighbours,
            moved,
            routes,
            foreign: _,
            gone,
            gone_neighbours,
            gone_fdb,
            gone_tunnels,
        } = self;
        let overlay = [tunnels, gone_tunnels].iter().all(|ops| ops.is_empty())
            && [fdb, gone_fdb].iter().all(|ops| ops.is_empty())
            && addresses.is_empty();
        overlay
            && nft.is_empty()
            && neighbours.is_empty()
            && moved.is_empty()
            && routes.is_empty()
            && gone.is_empty()
            && gone_neighbours.is_empty()
    }
}

impl Desired {
    /// The plan from what the kernel is known to hold to what is desired. [`Desired::render`] first.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan {
            nft: self.ruleset.plan(),
            sysctls: self.sysctls.values().flatten().cloned().collect(),
            ..Plan::default()
        };
        self.plan_overlays(&mut plan);
        self.plan_routes(&mut plan);
        let ours = |device| self.settings().routes.is_workload(device) || tunnel::is_ours(device);
        for difference in self.neighbours.differences() {
            match (difference.wanted, difference.known) {
                (Some(entry), _) => plan.neighbours.push(NeighbourOp::Replace(entry.clone())),
                (None, Some(entry)) if entry.permanent && ours(&entry.key.device) => {
                    plan.gone_neighbours.push(NeighbourOp::Delete(difference.key.clone()));
                }
                (None, _) => {}
            }
        }
        plan
    }

    fn plan_overlays(&self, plan: &mut Plan) {
        for difference in self.tunnels.differences() {
            match (difference.wanted, difference.known) {
                (Some(wanted), known) => plan.tunnels.extend(tunnel::plan(known, wanted)),
                (None, Some(known)) => plan.gone_tunnels.push(TunnelOp::Delete(known.name.clone())),
                (None, None) => {}
            }
        }
        let mut deletes = Vec::new();
        for difference in self.device_addresses.differences() {
            match (difference.wanted, difference.known) {
                (Some(wanted), known) => {
                    // The same address with another prefix is another address to the kernel.
                    plan.addresses.extend(known.cloned().map(AddressOp::Delete));
                    plan.addresses.push(AddressOp::Add(wanted.clone()));
                }
                (None, known) => deletes.extend(known.cloned().map(AddressOp::Delete)),
            }
        }
        plan.addresses.append(&mut deletes);
        for difference in self.fdb.differences() {
            match (difference.wanted, difference.known) {
                (Some(entry), known) => {
                    // Of several destinations only one would be replaced.
                    if known.is_some_and(|known| known.host.is_none()) {
                        plan.fdb.push(FdbOp::Delete(difference.key.clone()));
                    }
                    plan.fdb.push(FdbOp::Replace(entry.clone()));
                }
                (None, Some(_)) => plan.gone_fdb.push(FdbOp::Delete(difference.key.clone())),
                (None, None) => {}
            }
        }
    }

    fn plan_routes(&self, plan: &mut Plan) {
        let ownership = &self.settings().routes;
        let mut deletes = Vec::new();
        for difference in self.routes.differences() {
            let (wanted, known) = (difference.wanted, difference.known);
            let destination = difference.key.destination;
            match known {
                Some(known) if !ownership.is_ours(known) => {
                    if wanted.is_some() {
                        plan.foreign.push(*difference.key);
                    }
                    continue;
                }
                // An address that had a route of a workload elsewhere.
                Some(known)
                    if destination.is_host()
                        && known.device.as_ref().is_some_and(|d| ownership.is_workload(d)) =>
                {
                    match wanted {
                        Some(wanted) if wanted.device != known.device => {
                            plan.moved.insert(destination.addr())
                        }
                        Some(_) => false,
                        None => plan.gone.insert(destination.addr()),
                    };
                }
                Some(_) | None => {}
            }
            match (wanted, known) {
                (Some(route), None) => plan.routes.push(RouteOp::Add(route.clone())),
                (Some(route), Some(_)) => plan.routes.push(RouteOp::Replace(route.clone())),
                (None, Some(route)) => deletes.push(RouteOp::Delete(route.clone())),
                (None, None) => {}
            }
        }
        for address in &self.left {
            let key = crate::tables::route::Route::workload_key(calico_net::Cidr::host(*address));
            match self.routes.wanted().get(&key) {
                Some(_) => plan.moved.insert(*address),
                None => plan.gone.insert(*address),
            };
        }
        // What leads to a next hop comes before what goes by it, and goes after.
        plan.routes.sort_by_key(|op| op.route().gateway.is_some());
        deletes.sort_by_key(|op| op.route().gateway.is_none());
        plan.routes.append(&mut deletes);
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan {
            nft,
            tunnels,
            addresses,
            sysctls,
            fdb,
            neighbours,
            moved,
            routes,
            foreign,
            gone,
            gone_neighbours,
            gone_fdb,
            gone_tunnels,
        } = self;
        nft.open.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        tunnels.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        addresses.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        sysctls.iter().try_for_each(|s| writeln!(f, "{s}"))?;
        fdb.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        neighbours.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        moved.iter().try_for_each(|a| writeln!(f, "conntrack delete {a}"))?;
        routes.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        foreign.iter().try_for_each(|k| writeln!(f, "# route {} is somebody else's", k.destination))?;
        gone.iter().try_for_each(|a| writeln!(f, "conntrack delete {a}"))?;
        gone_neighbours.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        gone_fdb.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        gone_tunnels.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        nft.close.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}
