//! This node's endpoints: what is told of each, and what was told before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;
use smol_str::SmolStr;

use crate::active::{Active, Lists};
use crate::change::{Change, HostEndpoint, Workload, WorkloadId};
use crate::endpoints::{Local, LocalHost, LocalWorkload};
use crate::names::Names;

/// An endpoint of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LocalEndpoint {
    pub(crate) data: Local,
    pub(crate) profiles: Arc<[SmolStr]>,
}

/// All endpoints of this node, by item number.
#[derive(Debug, Default)]
pub(crate) struct Locals {
    endpoints: FxHashMap<u32, LocalEndpoint>,
    /// Who claims an id. Resources whose names follow from their contents never share one; should they, the first key
    /// counts.
    claimants: FxHashMap<WorkloadId, SmallVec<[u32; 1]>>,
    changed_items: BTreeSet<u32>,
    changed_workloads: BTreeSet<WorkloadId>,
    changed_hosts: BTreeMap<SmolStr, Option<u32>>,
    told_workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    told_hosts: BTreeMap<SmolStr, Arc<HostEndpoint>>,
}

impl Locals {
    /// The endpoint of an item, if it is of this node.
    pub(crate) fn get(&self, item: u32) -> Option<&LocalEndpoint> {
        self.endpoints.get(&item)
    }

    /// Adds or replaces an endpoint. `name` is that of its resource.
    pub(crate) fn set(&mut self, item: u32, name: &str, endpoint: LocalEndpoint) {
        if self.endpoints.get(&item) == Some(&endpoint) {
            return;
        }
        self.remove(item, name);
        match &endpoint.data {
            Local::Workload(workload) => {
                self.claimants.entry(workload.id.clone()).or_default().push(item);
                self.changed_workloads.insert(workload.id.clone());
            }
            Local::Host(_) => {
                self.changed_hosts.insert(SmolStr::new(name), Some(item));
            }
        }
        self.endpoints.insert(item, endpoint);
        self.changed_items.insert(item);
    }

    /// Takes an endpoint away, if it is there.
    pub(crate) fn remove(&mut self, item: u32, name: &str) {
        self.changed_items.remove(&item);
        match self.endpoints.remove(&item).map(|endpoint| endpoint.data) {
            Some(Local::Workload(LocalWorkload { id, .. })) => {
                if let Some(items) = self.claimants.get_mut(&id) {
                    items.retain(|other| *other != item);
                    if items.is_empty() {
                        self.claimants.remove(&id);
                    }
                }
                self.changed_workloads.insert(id);
            }
            Some(Local::Host(_)) => {
                self.changed_hosts.insert(SmolStr::new(name), None);
            }
            None => {}
        }
    }

    /// Reports endpoints that are not as they were told; the removals, which come later, are returned.
    pub(crate) fn flush(&mut self, active: &mut Active, names: &Names, out: &mut Vec<Change>) -> Vec<Change> {
        let mut changed = std::mem::take(&mut self.changed_items);
        active.settle(&mut changed);
        for item in changed {
            match self.endpoints.get(&item).map(|endpoint| &endpoint.data) {
                Some(Local::Workload(workload)) => {
                    self.changed_workloads.insert(workload.id.clone());
                }
                Some(Local::Host(_)) => {
                    let (_, _, name) = names.parts(item);
                    self.changed_hosts.insert(SmolStr::new(name), Some(item));
                }
                None => {}
            }
        }
        let mut removed = Vec::new();
        for id in std::mem::take(&mut self.changed_workloads) {
            let claimants = self.claimants.get(&id).into_iter().flatten();
            let first = claimants.copied().min_by_key(|item| names.parts(*item));
            let Some(workload) = first.and_then(|item| self.workload(item, names, active)) else {
                if self.told_workloads.remove(&id).is_some() {
                    removed.push(Change::WorkloadRemoved(id));
                }
                continue;
            };
            if self.told_workloads.get(&id).is_none_or(|told| **told != workload) {
                let workload = Arc::new(workload);
                self.told_workloads.insert(id.clone(), workload.clone());
                out.push(Change::WorkloadChanged(id, workload));
            }
        }
        for (name, item) in std::mem::take(&mut self.changed_hosts) {
            let Some(host) = item.and_then(|item| self.host(item, active)) else {
                if self.told_hosts.remove(&name).is_some() {
                    removed.push(Change::HostEndpointRemoved(name));
                }
                continue;
            };
            if self.told_hosts.get(&name).is_none_or(|told| **told != host) {
                let host = Arc::new(host);
                self.told_hosts.insert(name.clone(), host.clone());
                out.push(Change::HostEndpointChanged(name, host));
            }
        }
        removed
    }

    fn workload(&self, item: u32, names: &Names, active: &Active) -> Option<Workload> {
        let LocalEndpoint { data: Local::Workload(local), profiles } = self.endpoints.get(&item)? else {
            return None;
        };
        let LocalWorkload { id: _, interface, mac, nets, allowed_sources } = local;
        let Lists { normal, .. } = active.lists(item)?;
        Some(Workload {
            key: names.key(item),
            interface: interface.clone(),
            mac: *mac,
            nets: nets.clone(),
            allowed_sources: allowed_sources.clone(),
            tiers: normal,
            profiles: profiles.clone(),
        })
    }

    fn host(&self, item: u32, active: &Active) -> Option<HostEndpoint> {
        let LocalEndpoint { data: Local::Host(local), profiles } = self.endpoints.get(&item)? else {
            return None;
        };
        let LocalHost { interface, expected_ips } = local;
        let Lists { normal, untracked, pre_dnat, forward } = active.lists(item)?;
        Some(HostEndpoint {
            interface: interface.clone(),
            expected_ips: expected_ips.clone(),
            tiers: normal,
            untracked_tiers: untracked,
            pre_dnat_tiers: pre_dnat,
            forward_tiers: forward,
            profiles: profiles.clone(),
        })
    }

    /// Whether nothing is left.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.endpoints.is_empty() && self.claimants.is_empty()
    }
}
