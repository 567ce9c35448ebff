//! Doing the plan: one update from reading what is unknown to noting what was done.
//!
//! One bad object never stops the rest: what the kernel refuses is made to deny, reported, and left out of the next
//! try. Where there is no memory, what was in force stays.

use std::collections::BTreeSet;

use calico_calc::change::WorkloadId;

use crate::desired::Desired;
use crate::desired::WorkloadState;
use crate::kernel::{Kernel, KernelError, NftRefusal, RouteRefusal};
use crate::plan::Plan;
use crate::tables::neigh::NeighbourOp;
use crate::tables::nft::NftOp;
use crate::tables::route::RouteOp;

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
    desired.ruleset.adopt(kernel.read_nft()?);
    desired.unsure = false;
    resync_routes(desired, kernel)?;
    desired.ruleset.retry_denied();
    desired.mark_all_interfaces();
    Ok(())
}

fn resync_routes(desired: &mut Desired, kernel: &mut dyn Kernel) -> Result<(), KernelError> {
    let ownership = desired.settings().routes.clone();
    let (ours, foreign): (Vec<_>, Vec<_>) =
        kernel.read_routes()?.into_iter().partition(|r| ownership.is_ours(r));
    desired.found.clear();
    // Where both hold a key, the foreign one is what must be respected.
    desired.routes.observe_all(ours.into_iter().chain(foreign).map(|r| (r.key, r)));
    let neighbours = kernel.read_neighbours()?;
    desired.neighbours.observe_all(neighbours.into_iter().map(|n| (n.key.clone(), n)));
    Ok(())
}

/// Whether somebody may have changed our nf_tables tables since our last transaction: if so, [`resync`]. Never where
/// the kernel lets us own them; elsewhere any transaction of anybody counts.
pub fn has_drifted(desired: &mut Desired, kernel: &mut dyn Kernel) -> Result<bool, KernelError> {
    if kernel.owns_tables() {
        return Ok(false);
    }
    let now = kernel.read_generation()?;
    let seen = desired.generation.replace(now);
    Ok(seen.is_some_and(|seen| seen != now))
}

/// Removes everything of ours from the kernel: tables, and the routes and neighbours that we would recognise. Veths
/// belong to their pods and stay. Returns what could not be removed.
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
    let plan = desired.plan();
    // Without its rules no endpoint gets a route: fail closed.
    if rules_are_open {
        apply_routes(desired, kernel, &plan, &mut report);
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

fn apply_routes(desired: &mut Desired, kernel: &mut dyn Kernel, plan: &Plan, report: &mut Report) {
    let Plan { nft: _, sysctls, neighbours, moved, routes, foreign, gone, gone_neighbours } = plan;
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
    apply_neighbours(desired, kernel, neighbours, report);
    let mut purged = purge(kernel, moved, report);
    let mut foreign = foreign.clone();
    if change_routes(desired, kernel, routes, report, true) {
        // Somebody was faster. Whose routes they are decides.
        match resync_routes(desired, kernel) {
            Ok(()) => {
                let again = desired.plan();
                purged &= purge(kernel, &again.moved, report);
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
    purged &= purge(kernel, gone, report);
    desired.left.clear();
    if !purged {
        desired.left.extend(moved.iter().chain(gone));
    }
    apply_neighbours(desired, kernel, gone_neighbours, report);
    desired.routes.settle();
    desired.neighbours.settle();
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
    if ops.is_empty() {
        return;
    }
    let refused = match kernel.apply_neighbours(ops) {
        Ok(refused) => refused,
        Err(error) => {
            report.complete = false;
            return report.problem("neighbours", error);
        }
    };
    let failed: BTreeSet<usize> = refused.iter().map(|(place, _)| *place).collect();
    for (place, error) in refused {
        report.complete = false;
        report.problem(&ops[place], error);
    }
    for (_, op) in ops.iter().enumerate().filter(|(place, _)| !failed.contains(place)) {
        match op {
            NeighbourOp::Replace(entry) => desired.neighbours.observe(entry.key.clone(), Some(entry.clone())),
            NeighbourOp::Delete(key) => desired.neighbours.observe(key.clone(), None),
        }
    }
}

/// Forgets the connections of addresses; whether that was done.
fn purge(kernel: &mut dyn Kernel, addresses: &BTreeSet<std::net::IpAddr>, report: &mut Report) -> bool {
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
