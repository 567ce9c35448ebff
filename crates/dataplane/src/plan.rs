//! The plan of one update as a value: in the order in which it is done, printable and comparable.
//!
//! Open late, close early: rules come before routes lead anybody to them, and go after no route does.
//!
//! ```text
//! nft open ─▶ sysctls ─▶ neighbours ─▶ conntrack of moved addresses ─▶ routes ─▶ conntrack of gone addresses ─▶
//! neighbours gone ─▶ nft close
//! ```

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use crate::desired::Desired;
use crate::tables::neigh::NeighbourOp;
use crate::tables::nft::NftPlan;
use crate::tables::route::{RouteKey, RouteOp};
use crate::tables::sysctl::Sysctl;

/// Everything that one update does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Tables, chains, rules, sets: two transactions, or one where nothing has to wait.
    pub nft: NftPlan,
    /// Parameters of interfaces.
    pub sysctls: Vec<Sysctl>,
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
}

impl Plan {
    /// Nothing to do. (Parameters do not count: they are written without being read.)
    pub fn is_empty(&self) -> bool {
        let Plan { nft, sysctls: _, neighbours, moved, routes, foreign: _, gone, gone_neighbours } = self;
        nft.is_empty()
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
        self.plan_routes(&mut plan);
        let workload = |device| self.settings().routes.is_workload(device);
        for difference in self.neighbours.differences() {
            match (difference.wanted, difference.known) {
                (Some(entry), _) => plan.neighbours.push(NeighbourOp::Replace(entry.clone())),
                (None, Some(entry)) if entry.permanent && workload(&entry.key.device) => {
                    plan.gone_neighbours.push(NeighbourOp::Delete(difference.key.clone()));
                }
                (None, _) => {}
            }
        }
        plan
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
        plan.routes.append(&mut deletes);
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Plan { nft, sysctls, neighbours, moved, routes, foreign, gone, gone_neighbours } = self;
        nft.open.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        sysctls.iter().try_for_each(|s| writeln!(f, "{s}"))?;
        neighbours.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        moved.iter().try_for_each(|a| writeln!(f, "conntrack delete {a}"))?;
        routes.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        foreign.iter().try_for_each(|k| writeln!(f, "# route {} is somebody else's", k.destination))?;
        gone.iter().try_for_each(|a| writeln!(f, "conntrack delete {a}"))?;
        gone_neighbours.iter().try_for_each(|op| writeln!(f, "{op}"))?;
        nft.close.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}
