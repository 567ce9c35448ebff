//! Workload endpoints: their rules, routes, neighbours and interface parameters.

use std::collections::BTreeSet;
use std::sync::Arc;

use calico_calc::change::{Workload, WorkloadId};
use calico_net::{Cidr, Family, IfName};

use super::Desired;
use super::contribution::Owner;
use crate::tables::link::Link;
use crate::tables::neigh::{Neighbour, NeighbourKey};
use crate::tables::route::Route;
use crate::tables::sysctl;

/// The state of an endpoint, as its status reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadState {
    /// Its interface works and everything of it is in the kernel.
    Up,
    /// Its interface is absent or does not work.
    Down,
    /// Another endpoint has its interface, or the kernel refused something of it.
    Error,
}

impl Desired {
    pub(super) fn change_workload(&mut self, id: WorkloadId, new: Option<Arc<Workload>>) {
        let interface = new.as_ref().map(|w| w.interface.clone());
        let old = match new {
            Some(workload) => self.workloads.insert(id.clone(), workload),
            None => self.workloads.remove(&id),
        };
        if let Some(old) = old.map(|w| w.interface.clone()) {
            if Some(&old) != interface.as_ref()
                && let Some(ids) = self.by_interface.get_mut(&old)
            {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_interface.remove(&old);
                }
            }
            self.dirty_interfaces.insert(old);
        }
        if let Some(interface) = interface {
            self.by_interface.entry(interface.clone()).or_default().insert(id);
            self.dirty_interfaces.insert(interface);
        }
    }

    /// The endpoint that has an interface: of several the one with the lowest id (spec 3 §6.2).
    fn holder(&self, interface: &IfName) -> Option<(&WorkloadId, &Arc<Workload>)> {
        let id = self.by_interface.get(interface)?.first()?;
        Some((id, self.workloads.get(id)?))
    }

    pub(super) fn render_interface(&mut self, interface: &IfName) {
        self.touch_interface(interface);
        // The host's own interfaces are not for endpoints to take.
        let misnamed = !self.settings.routes.is_workload(interface);
        if misnamed && self.by_interface.contains_key(interface) {
            self.misnamed.insert(interface.clone());
        } else {
            self.misnamed.remove(interface);
        }
        let workload = self.holder(interface).map(|(_, w)| w.clone()).filter(|_| !misnamed);
        let owner = Owner::Interface(interface.clone());
        match &workload {
            Some(workload) => {
                let fragment = calico_rules::workload(workload, &self.settings.rules);
                self.contribute(owner, fragment);
            }
            None => self.withdraw(&owner),
        }
        // Routes over an interface that does not work would only be refused.
        let up = self.links.get(interface).is_some_and(|l| l.admin_up && l.oper_up);
        let nets: BTreeSet<Cidr> = match &workload {
            Some(workload) if up => workload.nets.iter().copied().collect(),
            _ => BTreeSet::new(),
        };
        self.want_neighbours(interface, workload.as_deref().filter(|_| up));
        if let (Some(workload), true) = (&workload, up) {
            let ipv6 = nets.iter().any(|n| n.family() == Family::V6);
            let mut sysctls = sysctl::workload(interface, ipv6);
            let spoofing = !workload.allowed_sources.is_empty();
            sysctls.push(sysctl::rp_filter(interface, &self.settings.rp_filter, spoofing));
            self.sysctls.insert(interface.clone(), sysctls);
        } else {
            self.sysctls.remove(interface);
        }
        let old = match nets.is_empty() {
            true => self.nets.remove(interface),
            false => self.nets.insert(interface.clone(), nets.clone()),
        }
        .unwrap_or_default();
        for net in old.union(&nets) {
            let claims = self.claims.entry(*net).or_default();
            if nets.contains(net) {
                claims.insert(interface.clone());
            } else {
                claims.remove(interface);
            }
            self.want_route(*net);
        }
    }

    /// Wants the route of the claim that wins. An address that changes its interface leaves its connections behind.
    fn want_route(&mut self, net: Cidr) {
        let index = |name: &&IfName| self.links.get(*name).map_or(0, |l| l.index);
        let winner = self.claims.get(&net).and_then(|claims| claims.iter().max_by_key(index).cloned());
        if winner.is_none() {
            self.claims.remove(&net);
        }
        let protocol = self.settings.device_route_protocol;
        let route = winner.map(|device| Route {
            source: match net.family() {
                Family::V4 => self.settings.device_route_source_v4,
                Family::V6 => self.settings.device_route_source_v6,
            },
            ..Route::workload(net, device, protocol)
        });
        let key = Route::workload_key(net);
        let device = route.as_ref().and_then(|r| r.device.clone());
        if route.is_some()
            && let Some(found) = self.found.remove(&key)
        {
            self.routes.observe(key, Some(found));
        }
        let old = self.routes.want(key, route);
        if let Some(old) = old
            && old.device != device
            && net.is_host()
        {
            self.left.insert(net.addr());
        }
    }

    fn want_neighbours(&mut self, interface: &IfName, workload: Option<&Workload>) {
        let mac = workload.and_then(|w| w.mac);
        let nets = workload.map_or(&[][..], |w| &w.nets);
        let wanted: BTreeSet<NeighbourKey> = nets
            .iter()
            .filter(|net| mac.is_some() && net.is_host())
            .map(|net| NeighbourKey { device: interface.clone(), address: net.addr() })
            .collect();
        let lowest =
            NeighbourKey { device: interface.clone(), address: std::net::Ipv4Addr::UNSPECIFIED.into() };
        let old: Vec<NeighbourKey> = self
            .neighbours
            .wanted()
            .range(lowest..)
            .map(|(key, _)| key)
            .take_while(|key| key.device == *interface)
            .filter(|key| !wanted.contains(key))
            .cloned()
            .collect();
        for key in old {
            self.neighbours.want(key, None);
        }
        for key in wanted {
            let entry = Neighbour { key: key.clone(), mac, permanent: true };
            self.neighbours.want(key, Some(entry));
        }
    }

    /// The state of an endpoint by what is known now; `None` if there is none of that id.
    pub fn workload_state(&self, id: &WorkloadId) -> Option<WorkloadState> {
        let workload = self.workloads.get(id)?;
        let (holder, _) = self.holder(&workload.interface)?;
        let link: Option<&Link> = self.links.get(&workload.interface);
        let routed = |net: &Cidr| self.routes.is_settled(&Route::workload_key(*net));
        Some(if holder != id || self.misnamed.contains(&workload.interface) {
            WorkloadState::Error
        } else if !link.is_some_and(|l| l.admin_up && l.oper_up) {
            WorkloadState::Down
        } else if !workload.nets.iter().all(routed)
            || self.is_denied(&Owner::Interface(workload.interface.clone()))
        {
            WorkloadState::Error
        } else {
            WorkloadState::Up
        })
    }

    /// Something about an interface changed: its endpoints' states are reported.
    pub(crate) fn touch_interface(&mut self, interface: &IfName) {
        if let Some(ids) = self.by_interface.get(interface) {
            self.touched.extend(ids.iter().cloned());
        }
    }

    /// The states of all endpoints are reported.
    pub(crate) fn touch_all(&mut self) {
        self.touched.extend(self.workloads.keys().cloned());
    }
}
