//! Doing the plan: one update from reading what is unknown to noting what was done.
//!
//! One bad object never stops the rest: what the kernel refuses is made to deny, reported, and left out of the next
//! try. Where there is no memory, what was in force stays.

use std::collections::BTreeSet;
use std::net::IpAddr;

use calico_calc::change::WorkloadId;
use calico_net::{Cidr, IfName};

use crate::desired::Desired;
use crate::desired::WorkloadState;
use crate::kernel::{Kernel, KernelError, NftRefusal, RouteRefusal};
use crate::plan::Plan;
use crate::tables::fdb::FdbOp;
use crate::tables::link::AddressOp;
use crate::tables::neigh::NeighbourOp;
use crate::tables::nft::NftOp;
use crate::tables::route::RouteOp;
use crate::tables::tunnel::{self, TunnelOp};

/// Something that is not as it should be, for the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// What it is about.
    pub object: String,
    /// What is wrong with it.
    pub reason: String,
}

/// What an update did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Everything desired is in the kernel. If not, try again later.
    pub complete: bool,
    /// All rules but those of denied objects are in the kernel: policy is enforced, whatever else is missing.
    pub enforced: bool,
    /// What went wrong.
    pub problems: Vec<Problem>,
    /// nf_tables operations done.
    pub nft_ops: usize,
    /// nf_tables transactions done.
    pub transactions: usize,
    /// Routes changed.
    pub routes: usize,
    /// Tunnel devices made, changed or removed.
    pub tunnels: usize,
    /// Endpoints whose state may have changed, and their state now.
    pub workloads: Vec<(WorkloadId, WorkloadState)>,
}

impl Report {
    fn problem(&mut self, object: impl ToString, reason: impl ToString) {
        self.problems.push(Problem { object: object.to_string(), reason: reason.to_string() });
    }
}

/// How many objects may be left out of one update. More than this is no bad object but a bad table.
const REFUSALS_MAX: usize = 1000;

/// Reads all of the kernel's tables: at the start, and when they may have been changed behind our back. Everything of
/// ours that is there is adopted.
pub fn resync(desired: &mut Desired, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
    let links = kernel.read_links()?;
    let addresses = kernel.read_addresses()?;
    desired.observe_links(links, addresses);
    resync_ruleset(desired, kernel)?;
    resync_tunnels(desired, kernel)?;
    resync_routes(desired, kernel)?;
    desired.ruleset.retry_denied();
    desired.mark_all_interfaces();
    Ok(())
}

/// Reads our nf_tables tables, unless they are known and nobody has made a transaction since: that the kernel would let us
/// own them proves nothing about the time before they were claimed. It costs the square of the
/// number of sets, because the kernel looks for a set in a list when its elements are read.
fn resync_ruleset(desired: &mut Desired, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
    // Before the tables: what is changed while they are read is noticed later.
    let generation = kernel.read_generation()?;
    if desired.unsure || desired.generation != Some(generation) {
        desired.ruleset.adopt(kernel.read_nft()?);
        desired.unsure = false;
    }
    desired.generation = Some(generation);
    Ok(())
}

fn resync_tunnels(desired: &mut Desired, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
    desired.tunnels.observe_all(kernel.read_tunnels()?.into_iter().map(|t| (t.name.clone(), t)));
    let addresses = kernel.read_addresses()?.into_iter();
    let of_tunnels = addresses.filter(|a| tunnel::is_ours(&a.device) && !a.is_link_local_v6());
    desired.device_addresses.observe_all(of_tunnels.map(|a| (a.key(), a)));
    desired.fdb.observe_all(kernel.read_fdb()?.into_iter().map(|e| (e.key.clone(), e)));
    desired.unsure_tunnels = false;
    Ok(())
}

fn resync_routes(desired: &mut Desired, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
    let ownership = desired.settings().routes.clone();
    let (ours, foreign): (Vec<_>, Vec<_>) =
        kernel.read_routes()?.into_iter().partition(|r| ownership.is_ours(r));
    desired.found.clear();
    for route in &foreign {
        desired.note_successor(route);
    }
    // Where both hold a key, the foreign one is what must be respected.
    desired.routes.observe_all(ours.into_iter().chain(foreign).map(|r| (r.key, r)));
    let neighbours = kernel.read_neighbours()?;
    desired.neighbours.observe_all(neighbours.into_iter().map(|n| (n.key.clone(), n)));
    Ok(())
}

/// Whether somebody may have changed our nf_tables tables since [`resync`] and what we did after it: if so, resync again.
/// Never where the kernel lets us own them; elsewhere any transaction of anybody counts.
pub fn has_drifted(desired: &Desired, kernel: &mut dyn Kernel) -> Result<bool, KernelError> {
    if kernel.owns_tables() {
        return Ok(false);
    }
    let now = kernel.read_generation()?;
    Ok(desired.generation.is_some_and(|seen| seen != now))
}

/// Removes everything of ours from the kernel: tables, tunnel devices, and the routes and neighbours that we would
/// recognise. Veths belong to their pods and stay. Returns what could not be removed.
pub fn cleanup(settings: &crate::desired::Settings, kernel: &mut dyn Kernel) -> Vec<Problem> {
    let mut report = Report::default();
    let ownership = &settings.routes;
    match kernel.read_links().and_then(|_| kernel.read_routes()) {
        Ok(routes) => {
            let ops: Vec<_> =
                routes.into_iter().filter(|r| ownership.is_ours(r)).map(RouteOp::Delete).collect();
            match kernel.apply_routes(&ops) {
                Ok(refused) => refused.iter().for_each(|(place, error)| report.problem(&ops[*place], error)),
                Err(error) => report.problem("routes", error),
            }
        }
        Err(error) => report.problem("routes", error),
    }
    match kernel.read_neighbours() {
        Ok(entries) => {
            let ours = entries.into_iter().filter(|n| n.permanent && ownership.is_workload(&n.key.device));
            let ops: Vec<_> = ours.map(|n| NeighbourOp::Delete(n.key)).collect();
            match kernel.apply_neighbours(&ops) {
                Ok(refused) => refused.iter().for_each(|(place, error)| report.problem(&ops[*place], error)),
                Err(error) => report.problem("neighbours", error),
            }
        }
        Err(error) => report.problem("neighbours", error),
    }
    match kernel.read_addresses() {
        // IPIP's device may stay.
        Ok(addresses) => {
            let ours = addresses.into_iter().filter(|a| tunnel::is_ours(&a.device) && !a.is_link_local_v6());
            let ops: Vec<_> = ours.map(AddressOp::Delete).collect();
            match kernel.apply_addresses(&ops) {
                Ok(refused) => refused.iter().for_each(|(place, error)| report.problem(&ops[*place], error)),
                Err(error) => report.problem("addresses", error),
            }
        }
        Err(error) => report.problem("addresses", error),
    }
    match kernel.read_tunnels() {
        Ok(tunnels) => {
            for op in tunnels.into_iter().map(|tunnel| TunnelOp::Delete(tunnel.name)) {
                if let Err(error) = kernel.apply_tunnel(&op) {
                    report.problem(op, error);
                }
            }
        }
        Err(error) => report.problem("tunnels", error),
    }
    match kernel.read_nft() {
        // Only who owns a table may delete it.
        Ok(tables) => {
            let ops: Vec<_> =
                tables.keys().flat_map(|t| [NftOp::AddTable(*t), NftOp::DeleteTable(*t)]).collect();
            if let Err(error) = kernel.apply_nft(&ops) {
                report.problem("nf_tables", error);
            }
        }
        Err(error) => report.problem("nf_tables", error),
    }
    report.problems
}

/// One update: makes the kernel hold what is desired.
pub fn apply(desired: &mut Desired, kernel: &mut dyn Kernel) -> Report {
    desired.render();
    let mut report = Report { complete: true, ..Report::default() };
    let rules_are_open = apply_ruleset(desired, kernel, &mut report, Half::Open);
    report.enforced = rules_are_open;
    // Without its rules no endpoint gets a route: fail closed.
    if rules_are_open {
        let broken = open_tunnels(desired, kernel, &mut report);
        let plan = desired.plan();
        apply_routes(desired, kernel, &plan, &broken, &mut report);
        close_tunnels(desired, kernel, &plan, &mut report);
        apply_ruleset(desired, kernel, &mut report, Half::Close);
        report.complete &= desired.plan().is_empty();
    }
    let denied = desired.ruleset.denied();
    for object in &denied {
        report.complete = false;
        note_denied(&mut report, &object.to_string());
    }
    if denied != desired.denied {
        desired.touch_all();
        desired.denied = denied;
    }
    let lacking: Vec<_> = desired.lacking_tunnels().map(|(name, why)| (name, why.clone())).collect();
    for (name, why) in lacking {
        report.complete = false;
        report.problem(format!("tunnel {name}"), why);
    }
    for interface in &desired.misnamed {
        let reason = "denied: its name does not begin with InterfacePrefix";
        report.problem(format!("workload interface {interface}"), reason);
    }
    // What could not be reported as it should be is reported again when the rules are in.
    let touched = if rules_are_open { std::mem::take(&mut desired.touched) } else { desired.touched.clone() };
    for id in touched {
        if let Some(state) = desired.workload_state(&id) {
            let state = if rules_are_open { state } else { WorkloadState::Error };
            report.workloads.push((id, state));
        }
    }
    report
}

/// A denied object is named once for each update that it stays denied.
fn note_denied(report: &mut Report, object: &str) {
    if report.problems.iter().all(|p| p.object != object) {
        report.problem(object, "denied: the kernel refused it before");
    }
}

/// Which half of the ruleset's plan.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Half {
    Open,
    Close,
}

/// Does one half of the ruleset's plan. Whether all of it is done but for what was refused.
fn apply_ruleset(desired: &mut Desired, kernel: &mut dyn Kernel, report: &mut Report, half: Half) -> bool {
    let mut read_again = false;
    if desired.unsure {
        match kernel.read_nft() {
            Ok(actual) => desired.ruleset.adopt(actual),
            Err(error) => {
                report.complete = false;
                report.problem("nf_tables", error);
                return false;
            }
        }
        desired.unsure = false;
    }
    for _ in 0..REFUSALS_MAX {
        if let Err(error) = learn_handles(desired, kernel) {
            report.complete = false;
            report.problem("nf_tables", error);
            return false;
        }
        let plan = desired.ruleset.plan();
        let ops = match half {
            Half::Open => plan.open,
            Half::Close => plan.close,
        };
        if ops.is_empty() {
            return true;
        }
        match kernel.apply_nft(&ops) {
            Ok(()) => {
                report.nft_ops += ops.len();
                report.transactions += 1;
                desired.ruleset.applied(&ops);
                // Our own transaction is no drift.
                desired.generation = desired.generation.map(|seen| seen.wrapping_add(1));
                return true;
            }
            Err(NftRefusal::Operation { index, reason }) => {
                // What we know may be out of date; look before blaming the object.
                if !read_again {
                    read_again = true;
                    match kernel.read_nft() {
                        Ok(actual) => desired.ruleset.adopt(actual),
                        Err(error) => report.problem("nf_tables", error),
                    }
                    continue;
                }
                report.complete = false;
                report.problem(ops[index].object(), reason);
                if !desired.ruleset.deny(&ops[index]) {
                    return false;
                }
            }
            Err(other @ (NftRefusal::NoMemory(_) | NftRefusal::Failed(_))) => {
                // It may have been done all the same, and only the answer was lost.
                desired.unsure = matches!(other, NftRefusal::Failed(_));
                report.complete = false;
                report.problem("nf_tables", other);
                return false;
            }
        }
    }
    report.complete = false;
    false
}

fn learn_handles(desired: &mut Desired, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
    for (table, chain) in desired.ruleset.unknown_handles() {
        let rules = kernel.read_chain(table, &chain)?;
        desired.ruleset.learn(table, &chain, &rules);
    }
    Ok(())
}

/// Makes tunnel devices and gives them their addresses. Returns the devices that are not as they should be: what depends
/// on them waits, and is not reported one by one.
fn open_tunnels(desired: &mut Desired, kernel: &mut dyn Kernel, report: &mut Report) -> BTreeSet<IfName> {
    let mut broken = BTreeSet::new();
    if desired.unsure_tunnels
        && let Err(error) = resync_tunnels(desired, kernel)
    {
        report.complete = false;
        report.problem("tunnels", error);
    }
    for op in desired.plan().tunnels {
        let device = op.device().clone();
        if broken.contains(&device) {
            continue;
        }
        if let Err(error) = kernel.apply_tunnel(&op) {
            report.complete = false;
            report.problem(&op, error);
            broken.insert(device);
            // Half of it may be done.
            desired.unsure_tunnels = true;
            continue;
        }
        report.tunnels += 1;
        match op {
            TunnelOp::Create(tunnel) => {
                desired.forget_device(&device);
                desired.tunnels.observe(device, Some(tunnel));
            }
            TunnelOp::Change(tunnel) => desired.tunnels.observe(device, Some(tunnel)),
            TunnelOp::Delete(_) => desired.tunnels.observe(device, None),
        }
    }
    let mut addresses = desired.plan().addresses;
    addresses.retain(|op| !broken.contains(&op.address().device));
    match each(report, "addresses", &addresses, |ops| kernel.apply_addresses(ops)) {
        None => {}
        Some(failed) => {
            for op in not_failed(&addresses, &failed) {
                let address = op.address();
                let known = matches!(op, AddressOp::Add(_)).then(|| address.clone());
                desired.device_addresses.observe(address.key(), known);
            }
        }
    }
    desired.device_addresses.settle();
    desired.tunnels.settle();
    broken
}

/// Removes what no route needs any more.
fn close_tunnels(desired: &mut Desired, kernel: &mut dyn Kernel, plan: &Plan, report: &mut Report) {
    apply_fdb(desired, kernel, &plan.gone_fdb, report);
    for op in &plan.gone_tunnels {
        match kernel.apply_tunnel(op) {
            Ok(()) => {
                report.tunnels += 1;
                desired.forget_device(op.device());
                desired.tunnels.observe(op.device().clone(), None);
            }
            Err(error) => {
                report.complete = false;
                report.problem(op, error);
            }
        }
    }
    desired.fdb.settle();
    desired.tunnels.settle();
}

fn apply_fdb(desired: &mut Desired, kernel: &mut dyn Kernel, ops: &[FdbOp], report: &mut Report) {
    let Some(failed) = each(report, "forwarding entries", ops, |ops| kernel.apply_fdb(ops)) else { return };
    for op in not_failed(ops, &failed) {
        match op {
            FdbOp::Replace(entry) => desired.fdb.observe(entry.key.clone(), Some(entry.clone())),
            FdbOp::Delete(key) => desired.fdb.observe(key.clone(), None),
        }
    }
}

/// Does independent operations and reports those refused; returns their places, or `None` if none was done.
fn each<T: std::fmt::Display>(
    report: &mut Report,
    what: &str,
    ops: &[T],
    apply: impl FnOnce(&[T]) -> Result<Vec<(usize, KernelError)>, KernelError>,
) -> Option<BTreeSet<usize>> {
    if ops.is_empty() {
        return Some(BTreeSet::new());
    }
    let refused = match apply(ops) {
        Ok(refused) => refused,
        Err(error) => {
            report.complete = false;
            report.problem(what, error);
            return None;
        }
    };
    let failed = refused.iter().map(|(place, _)| *place).collect();
    for (place, error) in refused {
        report.complete = false;
        report.problem(&ops[place], error);
    }
    Some(failed)
}

fn not_failed<'a, T>(ops: &'a [T], failed: &'a BTreeSet<usize>) -> impl Iterator<Item = &'a T> {
    ops.iter().enumerate().filter(|(place, _)| !failed.contains(place)).map(|(_, op)| op)
}

/// `broken`: devices that are not there or not as they should be.
fn apply_routes(
    desired: &mut Desired,
    kernel: &mut dyn Kernel,
    plan: &Plan,
    broken: &BTreeSet<IfName>,
    report: &mut Report,
) {
    let Plan { sysctls, fdb, neighbours, moved, routes, foreign, gone, gone_neighbours, .. } = plan;
    let on_broken = |device: Option<&IfName>| device.is_some_and(|device| broken.contains(device));
    let usable = |op: &&RouteOp| !on_broken(op.route().device.as_ref());
    let routes: Vec<RouteOp> = routes.iter().filter(usable).cloned().collect();
    let fdb: Vec<FdbOp> = fdb.iter().filter(|op| !on_broken(Some(&op.key().device))).cloned().collect();
    let usable = |op: &&NeighbourOp| !on_broken(Some(&op.key().device));
    let neighbours: Vec<NeighbourOp> = neighbours.iter().filter(usable).cloned().collect();
    let mut failed = BTreeSet::new();
    for sysctl in sysctls {
        match kernel.write_sysctl(sysctl) {
            Err(error) if sysctl.required => {
                report.complete = false;
                report.problem(sysctl, error);
                failed.insert(&sysctl.name);
            }
            Err(_) | Ok(()) => {}
        }
    }
    desired.sysctls.retain(|_, list| {
        list.retain(|sysctl| failed.contains(&sysctl.name));
        !list.is_empty()
    });
    apply_fdb(desired, kernel, &fdb, report);
    apply_neighbours(desired, kernel, &neighbours, report);
    let mut purged = purge(kernel, moved, report);
    let mut rerouted = rerouted(moved, &routes);
    let mut foreign = foreign.clone();
    if change_routes(desired, kernel, &routes, report, true) {
        // Somebody was faster. Whose routes they are decides.
        match resync_routes(desired, kernel) {
            Ok(()) => {
                let again = desired.plan();
                purged &= purge(kernel, &again.moved, report);
                rerouted.extend(self::rerouted(&again.moved, &again.routes));
                change_routes(desired, kernel, &again.routes, report, false);
                foreign = again.foreign;
            }
            Err(error) => {
                report.complete = false;
                report.problem("routes", error);
            }
        }
    }
    for key in foreign {
        report.complete = false;
        report.problem(format!("route {}", key.destination), "another program's route is in its place");
    }
    rerouted.extend(gone);
    purged &= purge(kernel, &rerouted, report);
    desired.left.clear();
    if !purged {
        desired.left.extend(moved.iter().chain(gone));
    }
    apply_neighbours(desired, kernel, gone_neighbours, report);
    desired.routes.settle();
    desired.neighbours.settle();
}

/// The moved addresses whose routes are changed. Until then packets still go by the old ones, and what they open is let
/// through as established afterwards: these connections go too.
fn rerouted(moved: &BTreeSet<IpAddr>, routes: &[RouteOp]) -> BTreeSet<IpAddr> {
    let changed = routes.iter().map(|op| op.route().key.destination);
    changed.filter(Cidr::is_host).map(|net| net.addr()).filter(|addr| moved.contains(addr)).collect()
}

/// Changes routes and notes what was done. `look`: whether routes that are in the place of added ones may be looked at;
/// if so, says whether they must be.
fn change_routes(
    desired: &mut Desired,
    kernel: &mut dyn Kernel,
    ops: &[RouteOp],
    report: &mut Report,
    look: bool,
) -> bool {
    let refused = match kernel.apply_routes(ops) {
        Ok(refused) => refused,
        Err(error) => {
            report.complete = false;
            report.problem("routes", error);
            return false;
        }
    };
    report.routes += ops.len() - refused.len();
    let mut exist = false;
    let mut refused = refused.iter().peekable();
    for (place, op) in ops.iter().enumerate() {
        if let Some(device) = &op.route().device {
            desired.touch_interface(device);
        }
        match refused.next_if(|(i, _)| *i == place) {
            Some((_, RouteRefusal::Exists)) if look => exist = true,
            Some((_, error)) => {
                report.complete = false;
                report.problem(op, error);
            }
            None => match op {
                RouteOp::Add(route) | RouteOp::Replace(route) => {
                    desired.routes.observe(route.key, Some(route.clone()));
                }
                RouteOp::Delete(route) => desired.routes.observe(route.key, None),
            },
        }
    }
    exist
}

fn apply_neighbours(
    desired: &mut Desired,
    kernel: &mut dyn Kernel,
    ops: &[NeighbourOp],
    report: &mut Report,
) {
    let Some(failed) = each(report, "neighbours", ops, |ops| kernel.apply_neighbours(ops)) else { return };
    for op in not_failed(ops, &failed) {
        match op {
            NeighbourOp::Replace(entry) => desired.neighbours.observe(entry.key.clone(), Some(entry.clone())),
            NeighbourOp::Delete(key) => desired.neighbours.observe(key.clone(), None),
        }
    }
}

/// Forgets the connections of addresses; whether that was done.
fn purge(kernel: &mut dyn Kernel, addresses: &BTreeSet<IpAddr>, report: &mut Report) -> bool {
    if addresses.is_empty() {
        return true;
    }
    let addresses: Vec<_> = addresses.iter().copied().collect();
    if let Err(error) = kernel.delete_conntrack(&addresses) {
        report.complete = false;
        report.problem("conntrack", error);
        return false;
    }
    true
}
