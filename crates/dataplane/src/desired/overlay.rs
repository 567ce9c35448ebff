//! Overlays: this node's tunnel devices, the ends of other nodes' tunnels, and the routes between nodes.
//!
//! A route says how its packets travel ([`Path`]); everything here follows from that and from which pools are
//! encapsulated. What is left when a pool changes hands stays for a while, so that nothing is lost meanwhile: see
//! [`Desired::is_handing_over`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_calc::change::{ClusterRoute, Encap, LocalVtep, Overlay, Path, Pool, Vtep};
use calico_net::{Cidr, Family, IfName, Mac};
use smol_str::SmolStr;

use super::Desired;
use super::contribution::Owner;
use crate::tables::fdb::{FdbEntry, FdbKey};
use crate::tables::link::Address;
use crate::tables::neigh::{Neighbour, NeighbourKey};
use crate::tables::route::{CLUSTER_PRIORITY, MAIN_TABLE, Route, RouteKind};
use crate::tables::sysctl;
use crate::tables::tunnel::{self, Tunnel, TunnelKind, Vxlan};

/// What VXLAN devices are like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VxlanSettings {
    /// `VXLANEnabled`: whether IPv4 has a device; by the pools if it does not say.
    pub enabled: Option<bool>,
    /// `VXLANVNI`.
    pub vni: u32,
    /// `VXLANPort`.
    pub port: u16,
    /// `VXLANMTU`; 0 for what the host's interfaces allow.
    pub mtu_v4: u32,
    /// `VXLANMTUV6`.
    pub mtu_v6: u32,
    /// Whether the device may leave checksums of inner packets to hardware. Some kernels get them wrong.
    pub checksum_offload: bool,
}

impl Default for VxlanSettings {
    fn default() -> VxlanSettings {
        VxlanSettings { enabled: None, vni: 4096, port: 4789, mtu_v4: 0, mtu_v6: 0, checksum_offload: false }
    }
}

/// The MTU of the host's interfaces where nobody has said it.
const DEFAULT_HOST_MTU: u32 = 1500;
/// What every IPv4 and every IPv6 link must carry (RFC 791, RFC 8200 §5): devices get no less.
const MTU_MIN_V4: u32 = 68;
const MTU_MIN_V6: u32 = 1280;

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

/// A family's device as it was last rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Device {
    name: IfName,
    addr: Option<IpAddr>,
}

/// What is known of overlays.
#[derive(Debug, Default)]
pub(super) struct Overlays {
    host_mtu: Option<u32>,
    /// How many pools are encapsulated in VXLAN.
    pools: BTreeMap<Family, u32>,
    locals: BTreeMap<Family, LocalVtep>,
    vteps: BTreeMap<VtepId, Vtep>,
    /// How many ends each entry of the kernel's tables is for: while nodes exchange addresses it may be two.
    uses: BTreeMap<Use, u32>,
    routes: BTreeMap<Cidr, ClusterRoute>,
    devices: BTreeMap<Family, Device>,
    /// The interface with this node's own address, which packets to other nodes leave by.
    uplinks: BTreeMap<Family, IfName>,
    /// Why a family has no device although it should.
    lacking: BTreeMap<Family, String>,
    dirty: BTreeSet<Family>,

    /// Destinations of pools that are encapsulated no more and that nobody else routes yet.
    leaving: BTreeSet<Cidr>,
    /// Families whose device nobody needs but others may still send to.
    fading: BTreeSet<Family>,
    /// Ends that went meanwhile.
    retired: BTreeMap<VtepId, Vtep>,
}

impl Overlays {
    /// Something that all of it depends on may have changed.
    pub fn touch(&mut self) {
        self.dirty.extend(Family::ALL);
    }

    /// An interface has an address, or has it no more.
    pub fn address_changed(&mut self, address: IpAddr) {
        let family = Family::of(address);
        if self.locals.get(&family).is_some_and(|local| local.host == address) {
            self.dirty.insert(family);
        }
    }

    /// A pool is new, different or gone.
    pub fn change_pool(&mut self, family: Family, old: Option<&Pool>, new: Option<&Pool>) {
        let counts = |pool: Option<&Pool>| pool.is_some_and(|pool| pool.vxlan != Encap::Never);
        let count = self.pools.entry(family).or_default();
        match (counts(old), counts(new)) {
            (false, true) => *count += 1,
            (true, false) => *count = count.saturating_sub(1),
            (true, true) | (false, false) => return,
        }
        self.dirty.insert(family);
    }
}

impl Desired {
    pub(super) fn change_local_vtep(&mut self, family: Family, new: Option<LocalVtep>) {
        match new {
            Some(local) => self.overlays.locals.insert(family, local),
            None => self.overlays.locals.remove(&family),
        };
        self.overlays.dirty.insert(family);
    }

    pub(super) fn change_vtep(&mut self, id: VtepId, new: Option<Vtep>) {
        let handing_over = self.is_handing_over();
        let overlays = &mut self.overlays;
        let old = match new {
            Some(vtep) => overlays.vteps.insert(id.clone(), vtep),
            None => overlays.vteps.remove(&id),
        };
        if new.is_none() && handing_over {
            overlays.retired.extend(old.map(|vtep| (id, vtep)));
            return;
        }
        let gone = old.into_iter().chain(overlays.retired.remove(&id));
        new.iter().for_each(|vtep| overlays.count(vtep, true));
        for vtep in gone {
            self.drop_end(id.0, &vtep);
        }
        if let (Some(Device { name, .. }), Some(vtep)) = (self.overlays.devices.get(&id.0).cloned(), new) {
            self.want_end(&name, vtep);
        }
    }

    /// An end is gone. Its entries go, unless another end has them.
    fn drop_end(&mut self, family: Family, vtep: &Vtep) {
        self.overlays.count(vtep, false);
        if let Some(Device { name, .. }) = self.overlays.devices.get(&family).cloned() {
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
            && now.path == Path::Plain
            && old.node == now.node
            && is_routed
        {
            overlays.leaving.insert(destination);
            return;
        }
        overlays.leaving.remove(&destination);
        self.want_cluster_route(destination);
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
            let Device { name, addr } = overlays.devices.get(&family)?;
            let device = (*addr).and(Some(name))?;
            return Some(Route::cluster(*destination, device.clone(), destination.addr(), true, protocol));
        }
        let (device, via, onlink) = match overlays.routes.get(destination)?.path {
            Path::Plain => return None,
            // A tunnel without an address of its own could not be answered.
            Path::Tunnel(Overlay::Vxlan, via) => {
                let Device { name, addr } = overlays.devices.get(&family)?;
                ((*addr).and(Some(name))?, via, true)
            }
            Path::Subnet(Overlay::Vxlan, via) => (overlays.uplinks.get(&family)?, via, false),
            // There is no device for it yet.
            Path::Tunnel(Overlay::Ipip, _) | Path::Subnet(Overlay::Ipip, _) => return None,
        };
        Some(Route::cluster(*destination, device.clone(), via, onlink, protocol))
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

    /// The MTU that the host's interfaces allow.
    pub fn set_host_mtu(&mut self, mtu: u32) {
        if self.overlays.host_mtu.replace(mtu) != Some(mtu) {
            self.overlays.touch();
        }
    }

    /// The MTU that workloads' interfaces should have: what passes every overlay in use.
    pub fn workload_mtu(&self) -> u32 {
        let used = Family::ALL.into_iter().filter(|family| self.uses_vxlan(*family));
        let host = self.overlays.host_mtu.unwrap_or(DEFAULT_HOST_MTU);
        used.map(|family| self.vxlan_mtu(family)).min().unwrap_or(host)
    }

    fn vxlan_mtu(&self, family: Family) -> u32 {
        let VxlanSettings { mtu_v4, mtu_v6, .. } = self.settings.vxlan;
        let (chosen, least) = match family {
            Family::V4 => (mtu_v4, MTU_MIN_V4),
            Family::V6 => (mtu_v6, MTU_MIN_V6),
        };
        if chosen != 0 {
            return chosen;
        }
        let host = self.overlays.host_mtu.unwrap_or(DEFAULT_HOST_MTU);
        host.saturating_sub(tunnel::overhead(Overlay::Vxlan, family)).max(least)
    }

    /// Whether packets of a family are to be encapsulated in VXLAN.
    pub fn uses_vxlan(&self, family: Family) -> bool {
        let by_pools = self.overlays.pools.get(&family).is_some_and(|count| *count > 0);
        match family {
            Family::V4 => self.settings.vxlan.enabled.unwrap_or(by_pools),
            Family::V6 => self.settings.ipv6 && by_pools,
        }
    }

    /// Whether this node can receive what others encapsulate for it: only then they may learn of its tunnel address.
    pub fn is_vxlan_ready(&self, family: Family) -> bool {
        let name = self.overlays.devices.get(&family).map(|device| &device.name);
        name.is_some_and(|name| self.tunnels.wanted().contains_key(name) && self.tunnels.is_settled(name))
    }

    /// How many other nodes' tunnel ends are known.
    pub fn vteps(&self) -> usize {
        self.overlays.vteps.len()
    }

    /// Why there is no tunnel device where there should be one: (device, reason).
    pub(crate) fn lacking_tunnels(&self) -> impl Iterator<Item = (IfName, &String)> {
        let lacking = self.overlays.lacking.iter();
        lacking.filter_map(|(family, why)| Some((tunnel::device(Overlay::Vxlan, *family)?, why)))
    }

    pub(super) fn render_overlays(&mut self) {
        for family in std::mem::take(&mut self.overlays.dirty) {
            self.render_overlay(family);
        }
    }

    fn render_overlay(&mut self, family: Family) {
        let Some(name) = tunnel::device(Overlay::Vxlan, family) else { return };
        let is_used = self.uses_vxlan(family);
        if is_used {
            self.overlays.fading.remove(&family);
        } else if self.overlays.devices.contains_key(&family) {
            self.overlays.fading.insert(family);
        }
        let local = self.overlays.locals.get(&family).copied();
        self.find_uplink(family, local);
        self.overlays.lacking.remove(&family);
        let fading = self.overlays.fading.contains(&family);
        let tunnel = (is_used || fading)
            .then(|| self.tunnel(&name, family, local))
            .and_then(|made| made.map_err(|why| self.overlays.lacking.insert(family, why)).ok());
        match (&tunnel, local) {
            (Some(_), Some(local)) => {
                let old = self.overlays.devices.get(&family).and_then(|device| device.addr);
                // Where it has lost its address and is to go, the old one serves until then.
                let addr = local.addr.or(old.filter(|_| fading));
                self.overlays.devices.insert(family, Device { name: name.clone(), addr });
                self.want_addresses(&name, addr);
                self.sysctls.insert(name.clone(), vec![sysctl::tunnel(&name)]);
                let all: Vec<Vtep> = self.overlays.ends(family).collect();
                all.into_iter().for_each(|vtep| self.want_end(&name, vtep));
            }
            _ => {
                self.overlays.devices.remove(&family);
                self.want_addresses(&name, None);
                self.sysctls.remove(&name);
                let all: Vec<Vtep> = self.overlays.ends(family).collect();
                all.into_iter().for_each(|vtep| self.want_no_end(&name, vtep, |_, _| true));
            }
        }
        if self.tunnels.wanted().get(&name) != tunnel.as_ref() {
            self.tunnels.want(name, tunnel);
        }
        let destinations: Vec<Cidr> = self.overlays.routes.keys().copied().collect();
        for destination in destinations {
            if destination.family() == family && !self.overlays.leaving.contains(&destination) {
                self.want_cluster_route(destination);
            }
        }
        self.render_overlay_rules();
    }

    /// The device of a family; or why there can be none.
    fn tunnel(&self, name: &IfName, family: Family, local: Option<LocalVtep>) -> Result<Tunnel, String> {
        let LocalVtep { host, addr: _, mac } =
            local.ok_or_else(|| format!("this node has no {family} address: is its Node resource there?"))?;
        let parent =
            self.overlays.uplinks.get(&family).ok_or_else(|| {
                format!("no interface has {host}, the address of this node's Node resource")
            })?;
        let VxlanSettings { vni, port, checksum_offload, .. } = self.settings.vxlan;
        let vxlan = Vxlan {
            vni,
            port,
            local: Some(host),
            // A node that is reached over several interfaces has its address on the loopback device, which leads nowhere.
            parent: Some(parent).filter(|parent| parent.as_str() != "lo").cloned(),
            learning: false,
        };
        Ok(Tunnel {
            name: name.clone(),
            kind: TunnelKind::Vxlan(vxlan),
            mac: Some(mac),
            mtu: self.vxlan_mtu(family),
            up: true,
            checksum_offload,
        })
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

    fn want_addresses(&mut self, device: &IfName, only: Option<IpAddr>) {
        let wanted: Vec<_> =
            self.device_addresses.wanted().keys().filter(|(d, _)| d == device).cloned().collect();
        for key in wanted.into_iter().filter(|(_, address)| Some(*address) != only) {
            self.device_addresses.want(key, None);
        }
        if let Some(address) = only {
            let address = Address::alone(device.clone(), address);
            if self.device_addresses.wanted().get(&address.key()) != Some(&address) {
                self.device_addresses.want(address.key(), Some(address));
            }
        }
    }

    /// Encapsulated packets are accepted while there is a device for them.
    fn render_overlay_rules(&mut self) {
        let devices = &self.overlays.devices;
        let tunnels = devices.values().filter_map(|Device { name, addr }| {
            Some(calico_rules::config::Tunnel { interface: SmolStr::new(name.as_str()), addr: (*addr)? })
        });
        let (vxlan, tunnels) = (!devices.is_empty(), tunnels.collect());
        let rules = &mut self.settings.rules;
        if (rules.vxlan, &rules.tunnels) != (vxlan, &tunnels) {
            (rules.vxlan, rules.tunnels) = (vxlan, tunnels);
            let statics = calico_rules::statics(rules);
            self.contribute(Owner::Statics, statics);
        }
    }

    /// Whether something that is not wanted any more is kept for a while: routes of pools that are no longer
    /// encapsulated, until the BGP speaker has its own in place, and the device that nodes which have not heard of the
    /// change yet still send to. Whoever owns the clock calls [`Desired::end_handover`] in the end.
    pub fn is_handing_over(&self) -> bool {
        let Overlays { leaving, fading, retired, .. } = &self.overlays;
        !(leaving.is_empty() && fading.is_empty() && retired.is_empty())
    }

    /// Everything that is kept for a while goes with the next update.
    pub fn end_handover(&mut self) {
        for destination in std::mem::take(&mut self.overlays.leaving) {
            self.routes.want(Route::cluster_key(destination), None);
        }
        for ((family, _), vtep) in std::mem::take(&mut self.overlays.retired) {
            self.drop_end(family, &vtep);
        }
        for family in std::mem::take(&mut self.overlays.fading) {
            self.overlays.devices.remove(&family);
            self.overlays.dirty.insert(family);
        }
    }

    /// Somebody made a route: if it is the speaker's for a destination that we leave to it, ours can go.
    pub(crate) fn note_successor(&mut self, route: &Route) -> bool {
        let Route { key, kind, .. } = route;
        let succeeds = key.table == MAIN_TABLE
            && key.priority < CLUSTER_PRIORITY
            && *kind == RouteKind::Unicast
            && !self.settings.routes.is_ours(route);
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
