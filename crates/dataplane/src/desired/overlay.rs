//! Overlays: this node's tunnel devices, the ends of other nodes' tunnels, and the routes between nodes.
//!
//! A route says how its packets travel ([`Path`]); everything here follows from that and from which pools are
//! encapsulated. What is left when a pool changes hands stays for a while, so that nothing is lost meanwhile: see
//! [`Desired::is_handing_over`].

mod device;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_calc::change::{ClusterRoute, LocalVtep, Path, Pool, Vtep};
use calico_net::{Cidr, Family, IfName, Mac};
use smol_str::SmolStr;

pub use self::device::{IpipSettings, VxlanSettings};

use super::Desired;
use crate::tables::fdb::{FdbEntry, FdbKey};
use crate::tables::neigh::{Neighbour, NeighbourKey};
use crate::tables::route::{CLUSTER_PRIORITY, MAIN_TABLE, Route, RouteKind};
use crate::tables::sysctl;
use crate::tables::tunnel::{self, Overlay, TunnelId};

/// An end of a VXLAN tunnel, by family and node.
type VtepId = (Family, SmolStr);

/// An entry of the kernel's tables that an end needs: which Ethernet address an address has, and where that one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    Neighbour(IpAddr, Mac),
    Forwarding(Mac, IpAddr),
}

fn uses(vtep: &Vtep) -> [Use; 2] {
    let Vtep { host, addr, mac } = *vtep;
    [Use::Neighbour(addr, mac), Use::Forwarding(mac, host)]
}

/// An overlay's device as it was last rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    name: IfName,
    addr: Option<IpAddr>,
}

/// What is known of overlays.
#[derive(Debug, Default)]
pub(super) struct Overlays {
    host_mtu: Option<u32>,
    /// How many pools are encapsulated in each overlay.
    pools: BTreeMap<TunnelId, u32>,
    locals: BTreeMap<Family, LocalVtep>,
    /// The address of this node's IPIP device.
    ipip_addr: Option<IpAddr>,
    vteps: BTreeMap<VtepId, Vtep>,
    /// How many ends each entry of the kernel's tables is for: while nodes exchange addresses it may be two.
    uses: BTreeMap<Use, u32>,
    routes: BTreeMap<Cidr, ClusterRoute>,
    devices: BTreeMap<TunnelId, Device>,
    /// The interface with this node's own address, which packets to other nodes leave by.
    uplinks: BTreeMap<Family, IfName>,
    /// Why an overlay has no device although it should.
    lacking: BTreeMap<TunnelId, String>,
    dirty: BTreeSet<TunnelId>,

    /// Destinations of pools that have changed hands and whose new way is not there yet: the old one stays.
    leaving: BTreeSet<Cidr>,
    /// Overlays whose device nobody needs but others may still send to.
    fading: BTreeSet<TunnelId>,
    /// Ends that went meanwhile.
    retired: BTreeMap<VtepId, Vtep>,
    /// How often a pool's change left something that stays for a while.
    handovers: u64,
}

/// What is kept for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Another number whenever something more is kept: it has its own time.
    pub begun: u64,
    /// The new way to some destination is another node's to open, and it has not done so yet.
    pub is_awaited: bool,
}

impl Overlays {
    /// Whether anything is to be rendered.
    pub(super) fn is_touched(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Something that all of it depends on may have changed.
    pub fn touch(&mut self) {
        self.dirty.extend(tunnel::ids());
    }

    fn touch_family(&mut self, family: Family) {
        self.dirty.extend(tunnel::ids().filter(|(_, of)| *of == family));
    }

    /// An interface has an address, or has it no more.
    pub fn address_changed(&mut self, address: IpAddr) {
        let family = Family::of(address);
        if self.locals.get(&family).is_some_and(|local| local.host == address) {
            self.touch_family(family);
        }
    }

    /// A pool is new, different or gone.
    pub fn change_pool(&mut self, family: Family, old: Option<&Pool>, new: Option<&Pool>) {
        let overlay = |pool: Option<&Pool>| pool.and_then(Pool::overlay).map(|(overlay, _)| overlay);
        let (old, new) = (overlay(old), overlay(new));
        if old == new {
            return;
        }
        if let Some(overlay) = old {
            let count = self.pools.entry((overlay, family)).or_default();
            *count = count.saturating_sub(1);
        }
        if let Some(overlay) = new {
            *self.pools.entry((overlay, family)).or_default() += 1;
        }
        self.dirty.extend([old, new].into_iter().flatten().map(|overlay| (overlay, family)));
    }
}

/// What carries packets on a path, if anything does.
fn overlay_of(path: Path) -> Option<Overlay> {
    match path {
        Path::Tunnel(overlay, _) | Path::Subnet(overlay, _) | Path::Awaited(overlay, _) => Some(overlay),
        Path::Plain => None,
    }
}

impl Desired {
    pub(super) fn change_local_vtep(&mut self, family: Family, new: Option<LocalVtep>) {
        match new {
            Some(local) => self.overlays.locals.insert(family, local),
            None => self.overlays.locals.remove(&family),
        };
        self.overlays.touch_family(family);
    }

    pub(super) fn change_local_ipip(&mut self, new: Option<IpAddr>) {
        self.overlays.ipip_addr = new;
        self.overlays.dirty.insert((Overlay::Ipip, Family::V4));
    }

    pub(super) fn change_vtep(&mut self, id: VtepId, new: Option<Vtep>) {
        let handing_over = self.is_handing_over();
        let overlays = &mut self.overlays;
        let old = match new {
            Some(vtep) => overlays.vteps.insert(id.clone(), vtep),
            None => overlays.vteps.remove(&id),
        };
        if new.is_none() && handing_over {
            overlays.handovers += u64::from(old.is_some());
            overlays.retired.extend(old.map(|vtep| (id, vtep)));
            return;
        }
        let gone = old.into_iter().chain(overlays.retired.remove(&id));
        new.iter().for_each(|vtep| overlays.count(vtep, true));
        for vtep in gone {
            self.drop_end(id.0, &vtep);
        }
        if let (Some(Device { name, .. }), Some(vtep)) =
            (self.overlays.devices.get(&(Overlay::Vxlan, id.0)).cloned(), new)
        {
            self.want_end(&name, vtep);
        }
    }

    /// An end is gone. Its entries go, unless another end has them.
    fn drop_end(&mut self, family: Family, vtep: &Vtep) {
        self.overlays.count(vtep, false);
        if let Some(Device { name, .. }) = self.overlays.devices.get(&(Overlay::Vxlan, family)).cloned() {
            self.want_no_end(&name, *vtep, |overlays, use_| !overlays.uses.contains_key(&use_));
        }
    }

    pub(super) fn change_cluster_route(&mut self, destination: Cidr, new: Option<ClusterRoute>) {
        let now = new.clone();
        let overlays = &mut self.overlays;
        let old = match new {
            Some(route) => overlays.routes.insert(destination, route),
            None => overlays.routes.remove(&destination),
        };
        let is_routed = self.routes.wanted().contains_key(&Route::cluster_key(destination));
        if let (Some(old), Some(now)) = (old, now)
            && is_routed
            && old.node == now.node
            && (overlay_of(old.path) != overlay_of(now.path) || self.overlays.leaving.contains(&destination))
            && !self.is_way_there(&destination)
        {
            self.overlays.handovers += u64::from(self.overlays.leaving.insert(destination));
            return;
        }
        self.overlays.leaving.remove(&destination);
        self.want_cluster_route(destination);
    }

    /// Whether the way to a destination can take over from another.
    fn is_way_there(&self, destination: &Cidr) -> bool {
        let path = self.overlays.routes.get(destination).map(|route| route.path);
        let is_awaited = matches!(path, Some(Path::Awaited(..)));
        !is_awaited && self.cluster_route(destination).is_some()
    }

    fn want_cluster_route(&mut self, destination: Cidr) {
        let route = self.cluster_route(&destination);
        let key = Route::cluster_key(destination);
        if self.routes.wanted().get(&key) != route.as_ref() {
            self.routes.want(key, route);
        }
    }

    /// The kernel's route to a destination, if there is a device for it.
    fn cluster_route(&self, destination: &Cidr) -> Option<Route> {
        let overlays = &self.overlays;
        let family = destination.family();
        let protocol = self.settings.cluster_route_protocol();
        // IPv6 takes no next hop that another route leads elsewhere, as the speaker's does while a pool changes hands: each
        // end has a route of its own.
        if family == Family::V6 && destination.is_host() && overlays.is_end(destination.addr()) {
            let Device { name, addr } = overlays.devices.get(&(Overlay::Vxlan, family))?;
            let device = (*addr).and(Some(name))?;
            return Some(Route::cluster(*destination, device.clone(), destination.addr(), true, protocol));
        }
        let path = overlays.routes.get(destination).map(|route| route.path)?;
        if self.is_speakers(path) {
            return None;
        }
        let device = |overlay| overlays.devices.get(&(overlay, family));
        let (device, via, onlink) = match path {
            Path::Plain | Path::Awaited(Overlay::Vxlan, _) => return None,
            // A tunnel without an address of its own could not be answered.
            Path::Tunnel(Overlay::Vxlan, via) => {
                let Device { name, addr } = device(Overlay::Vxlan)?;
                ((*addr).and(Some(name))?, via, true)
            }
            // Without one the host speaks by another of its addresses, and workloads by their own.
            Path::Tunnel(Overlay::Ipip, via) | Path::Awaited(Overlay::Ipip, via) => {
                (&device(Overlay::Ipip)?.name, via, true)
            }
            Path::Subnet(_, via) => (overlays.uplinks.get(&family)?, via, false),
        };
        Some(Route::cluster(*destination, device.clone(), via, onlink, protocol))
    }

    /// Whether routes of a path are the BGP speaker's to make.
    fn is_speakers(&self, path: Path) -> bool {
        match overlay_of(path) {
            None => true,
            Some(Overlay::Ipip) => !self.settings.ipip.routes,
            Some(Overlay::Vxlan) => false,
        }
    }

    fn want_end(&mut self, device: &IfName, vtep: Vtep) {
        let Vtep { host, addr, mac } = vtep;
        let neighbour = Neighbour::permanent(device.clone(), addr, mac);
        if self.neighbours.wanted().get(&neighbour.key) != Some(&neighbour) {
            self.neighbours.want(neighbour.key.clone(), Some(neighbour));
        }
        let entry = FdbEntry::permanent(device.clone(), mac, host);
        if self.fdb.wanted().get(&entry.key) != Some(&entry) {
            self.fdb.want(entry.key.clone(), Some(entry));
        }
        self.want_route_to_end(addr);
    }

    fn want_route_to_end(&mut self, addr: IpAddr) {
        if addr.is_ipv6() {
            self.want_cluster_route(Cidr::host(addr));
        }
    }

    /// Wants none of those entries of an end that are `unused`. Another end may have the address by now, with an entry
    /// of its own.
    fn want_no_end(&mut self, device: &IfName, vtep: Vtep, unused: impl Fn(&Overlays, Use) -> bool) {
        let Vtep { host, addr, mac } = vtep;
        let [neighbour, forwarding] = uses(&vtep).map(|use_| unused(&self.overlays, use_));
        let key = NeighbourKey { device: device.clone(), address: addr };
        if neighbour && self.neighbours.wanted().get(&key).is_some_and(|entry| entry.mac == Some(mac)) {
            self.neighbours.want(key, None);
        }
        let key = FdbKey { device: device.clone(), mac };
        if forwarding && self.fdb.wanted().get(&key).is_some_and(|entry| entry.host == Some(host)) {
            self.fdb.want(key, None);
        }
        self.want_route_to_end(addr);
    }

    /// Whether this node can receive what others encapsulate for it: only then they may learn of its tunnel address.
    pub fn is_tunnel_ready(&self, id: TunnelId) -> bool {
        let name = self.overlays.devices.get(&id).map(|device| &device.name);
        name.is_some_and(|name| self.tunnels.wanted().contains_key(name) && self.tunnels.is_settled(name))
    }

    /// How many other nodes' tunnel ends are known.
    pub fn vteps(&self) -> usize {
        self.overlays.vteps.len()
    }

    /// Why there is no tunnel device where there should be one: (device, reason).
    pub(crate) fn lacking_tunnels(&self) -> impl Iterator<Item = (IfName, &String)> {
        let lacking = self.overlays.lacking.iter();
        lacking.filter_map(|((overlay, family), why)| Some((tunnel::device(*overlay, *family)?, why)))
    }

    pub(super) fn render_overlays(&mut self) {
        for id in std::mem::take(&mut self.overlays.dirty) {
            self.render_overlay(id);
        }
    }

    fn render_overlay(&mut self, id: TunnelId) {
        let (overlay, family) = id;
        let Some(name) = tunnel::device(overlay, family) else { return };
        let is_used = self.uses_overlay(id);
        if is_used {
            self.overlays.fading.remove(&id);
        } else if self.overlays.devices.contains_key(&id) {
            self.overlays.handovers += u64::from(self.overlays.fading.insert(id));
        }
        let local = self.overlays.locals.get(&family).copied();
        self.find_uplink(family, local);
        self.overlays.lacking.remove(&id);
        let fading = self.overlays.fading.contains(&id);
        let tunnel = (is_used || fading)
            .then(|| self.tunnel(&name, id, local))
            .and_then(|made| made.map_err(|why| self.overlays.lacking.insert(id, why)).ok());
        let of_vxlan = || self.overlays.ends(family).filter(|_| overlay == Overlay::Vxlan);
        let ends: Vec<Vtep> = of_vxlan().collect();
        if tunnel.is_some() {
            let old = self.overlays.devices.get(&id).and_then(|device| device.addr);
            let addr = match overlay {
                Overlay::Vxlan => local.and_then(|local| local.addr),
                Overlay::Ipip => self.overlays.ipip_addr,
            };
            // Where it has lost its address and is to go, the old one serves until then.
            let addr = addr.or(old.filter(|_| fading));
            self.overlays.devices.insert(id, Device { name: name.clone(), addr });
            self.want_addresses(&name, addr);
            self.sysctls.insert(name.clone(), vec![sysctl::tunnel(&name)]);
            ends.into_iter().for_each(|vtep| self.want_end(&name, vtep));
        } else {
            self.overlays.devices.remove(&id);
            self.want_addresses(&name, None);
            self.sysctls.remove(&name);
            ends.into_iter().for_each(|vtep| self.want_no_end(&name, vtep, |_, _| true));
        }
        if self.tunnels.wanted().get(&name) != tunnel.as_ref() {
            self.tunnels.want(name, tunnel);
        }
        let destinations: Vec<Cidr> = self.overlays.routes.keys().copied().collect();
        for destination in destinations.into_iter().filter(|d| d.family() == family) {
            if !self.overlays.leaving.contains(&destination) {
                self.want_cluster_route(destination);
            } else if self.is_way_there(&destination) {
                self.overlays.leaving.remove(&destination);
                self.want_cluster_route(destination);
            }
        }
        self.render_overlay_rules();
    }

    fn find_uplink(&mut self, family: Family, local: Option<LocalVtep>) {
        let has = |host: IpAddr| {
            let mut with = self.addresses.iter().filter(|(_, addresses)| addresses.contains(&host));
            with.find(|(name, _)| !tunnel::is_ours(name)).map(|(name, _)| name.clone())
        };
        match local.and_then(|local| has(local.host)) {
            Some(uplink) => self.overlays.uplinks.insert(family, uplink),
            None => self.overlays.uplinks.remove(&family),
        };
    }

    /// Whether something that is not wanted any more is kept for a while: routes of pools that have changed hands, until
    /// the BGP speaker has its own in place or the other overlay its end, and the device that nodes which have not heard
    /// of the change yet still send to. Whoever owns the clock calls [`Desired::end_handover`] in the end.
    pub fn is_handing_over(&self) -> bool {
        let Overlays { leaving, fading, retired, .. } = &self.overlays;
        !(leaving.is_empty() && fading.is_empty() && retired.is_empty())
    }

    /// What is kept for a while, if anything is.
    pub fn kept(&self) -> Option<Kept> {
        let Overlays { leaving, routes, handovers, .. } = &self.overlays;
        let is_awaited = |destination: &Cidr| {
            routes.get(destination).is_some_and(|route| matches!(route.path, Path::Awaited(..)))
        };
        let is_awaited = leaving.iter().any(is_awaited);
        self.is_handing_over().then_some(Kept { begun: *handovers, is_awaited })
    }

    /// Everything that is kept for a while goes with the next update.
    pub fn end_handover(&mut self) {
        for destination in std::mem::take(&mut self.overlays.leaving) {
            self.want_cluster_route(destination);
        }
        for ((family, _), vtep) in std::mem::take(&mut self.overlays.retired) {
            self.drop_end(family, &vtep);
        }
        for id in std::mem::take(&mut self.overlays.fading) {
            self.overlays.devices.remove(&id);
            self.overlays.dirty.insert(id);
        }
    }

    /// Somebody made a route: if it is the speaker's for a destination that we leave to it, ours can go.
    pub(crate) fn note_successor(&mut self, route: &Route) -> bool {
        let Route { key, kind, .. } = route;
        let succeeds = key.table == MAIN_TABLE
            && key.priority < CLUSTER_PRIORITY
            && *kind == RouteKind::Unicast
            && !self.settings.routes.is_ours(route);
        let path = self.overlays.routes.get(&key.destination).map(|route| route.path);
        let succeeds = succeeds && path.is_some_and(|path| self.is_speakers(path));
        let succeeds = succeeds && self.overlays.leaving.remove(&key.destination);
        if succeeds {
            self.routes.want(Route::cluster_key(key.destination), None);
        }
        succeeds
    }
}

impl Overlays {
    fn count(&mut self, vtep: &Vtep, add: bool) {
        for use_ in uses(vtep) {
            let count = self.uses.entry(use_).or_default();
            *count = if add { *count + 1 } else { count.saturating_sub(1) };
            if *count == 0 {
                self.uses.remove(&use_);
            }
        }
    }

    /// Whether a tunnel ends at an address.
    fn is_end(&self, addr: IpAddr) -> bool {
        let from = Use::Neighbour(addr, Mac([0; 6]));
        self.uses
            .range(from..)
            .next()
            .is_some_and(|(use_, _)| matches!(use_, Use::Neighbour(a, _) if *a == addr))
    }

    /// The ends of a family, those of a moment ago included.
    fn ends(&self, family: Family) -> impl Iterator<Item = Vtep> + '_ {
        let all = self.retired.iter().chain(&self.vteps);
        all.filter(move |((f, _), _)| *f == family).map(|(_, vtep)| *vtep)
    }
}
