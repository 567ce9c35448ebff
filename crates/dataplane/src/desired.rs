//! The node's desired kernel state, kept up change by change.
//!
//! [`Desired::update`] takes what the calculation says, [`Desired::link_changed`] and its kin what the kernel says
//! about interfaces; both only remember and mark. [`Desired::render`] turns what is marked into table entries, so that
//! many changes of one object cost one rendering. What the tables then differ in is the [`crate::plan::Plan`].

mod contribution;
mod host;
mod ipset;
mod overlay;
mod pool;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use calico_calc::change::{Change, HostEndpoint, IpSetId, NodeInfo, Pool, Workload, WorkloadId};
use calico_net::{Cidr, IfName};
use calico_rules::HostChains;
use rustc_hash::FxHashMap;
use smol_str::SmolStr;

pub use self::overlay::{IpipSettings, Kept, VxlanSettings};
pub use self::workload::WorkloadState;

use self::contribution::{Contribution, Owner};
use self::ipset::IpSet;
use self::overlay::Overlays;
use self::pool::{HostSet, PoolSets};
use crate::tables::fdb::{FdbEntry, FdbKey};
use crate::tables::link::{Address, Link};
use crate::tables::neigh::{Neighbour, NeighbourKey};
use crate::tables::nft::{NftObject, Ruleset};
use crate::tables::route::{PROTOCOL_BOOT, PROTOCOL_CALICO, Route, RouteKey, RouteOwnership};
use crate::tables::sysctl::Sysctl;
use crate::tables::tracked::Tracked;
use crate::tables::tunnel::{self, Tunnel};

/// What the operator's configuration means to the dataplane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// To the rules.
    pub rules: calico_rules::Config,
    /// Which routes are ours.
    pub routes: RouteOwnership,
    /// Protocol of local workloads' routes (`DeviceRouteProtocol`).
    pub device_route_protocol: u8,
    /// Preferred source of local workloads' IPv4 routes (`DeviceRouteSourceAddress`).
    pub device_route_source_v4: Option<IpAddr>,
    /// The same of IPv6 routes (`DeviceRouteSourceAddressIPv6`).
    pub device_route_source_v6: Option<IpAddr>,
    /// The host's `net.ipv4.conf.default.rp_filter` when the agent started.
    pub rp_filter: String,
    /// IPv6 is for workloads too (`Ipv6Support`).
    pub ipv6: bool,
    /// What VXLAN devices are like.
    pub vxlan: VxlanSettings,
    /// What the IPIP device is like.
    pub ipip: IpipSettings,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            rules: calico_rules::Config::default(),
            routes: RouteOwnership::default(),
            device_route_protocol: PROTOCOL_BOOT,
            device_route_source_v4: None,
            device_route_source_v6: None,
            rp_filter: "1".into(),
            ipv6: true,
            vxlan: VxlanSettings::default(),
            ipip: IpipSettings::default(),
        }
    }
}

impl Settings {
    /// The protocol of routes that are not a workload's: Calico's own number only while the operator has not chosen one
    /// (spec 3 §6.6).
    pub(crate) fn cluster_route_protocol(&self) -> u8 {
        match self.device_route_protocol {
            PROTOCOL_BOOT => PROTOCOL_CALICO,
            chosen => chosen,
        }
    }
}

/// The desired state of one node.
#[derive(Debug)]
pub struct Desired {
    settings: Settings,
    pub(crate) ruleset: Ruleset,
    pub(crate) routes: Tracked<RouteKey, Route>,
    pub(crate) neighbours: Tracked<NeighbourKey, Neighbour>,
    pub(crate) tunnels: Tracked<IfName, Tunnel>,
    /// Addresses of tunnel devices.
    pub(crate) device_addresses: Tracked<(IfName, IpAddr), Address>,
    pub(crate) fdb: Tracked<FdbKey, FdbEntry>,
    /// Somebody may have changed a tunnel device: ourselves, most often.
    pub(crate) unsure_tunnels: bool,
    /// Parameters of each interface to write with the next apply, until they are written.
    pub(crate) sysctls: BTreeMap<IfName, Vec<Sysctl>>,
    /// Addresses that left an interface: their connections must not outlive their route.
    pub(crate) left: BTreeSet<IpAddr>,
    /// Routes on workloads' interfaces that nobody wants yet.
    pub(crate) found: BTreeMap<RouteKey, Route>,
    /// Endpoints whose state may have changed since the last report.
    pub(crate) touched: BTreeSet<WorkloadId>,
    /// What the last report said was denied.
    pub(crate) denied: Vec<NftObject>,
    /// Interfaces that endpoints name and that are no workloads'.
    pub(crate) misnamed: BTreeSet<IfName>,
    /// Whether the last transaction was done is not known.
    pub(crate) unsure: bool,
    /// The nf_tables generation that is accounted for.
    pub(crate) generation: Option<u32>,

    contributions: FxHashMap<Owner, Contribution>,
    ip_sets: FxHashMap<IpSetId, IpSet>,
    workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    /// Who claims an interface; the lowest id has it.
    by_interface: BTreeMap<IfName, BTreeSet<WorkloadId>>,
    /// The addresses that each interface has routes for.
    nets: BTreeMap<IfName, BTreeSet<Cidr>>,
    /// Who claims a route; the interface with the highest index has it.
    claims: BTreeMap<Cidr, BTreeSet<IfName>>,
    host_endpoints: BTreeMap<SmolStr, (Arc<HostEndpoint>, HostChains)>,
    pools: BTreeMap<Cidr, Pool>,
    pool_sets: PoolSets,
    nodes: BTreeMap<SmolStr, NodeInfo>,
    hosts: HostSet,
    vxlan_hosts: HostSet,
    overlays: Overlays,
    links: BTreeMap<IfName, Link>,
    /// The name that each interface had when last heard of.
    names: BTreeMap<u32, IfName>,
    addresses: BTreeMap<IfName, BTreeSet<IpAddr>>,

    dirty_interfaces: BTreeSet<IfName>,
    dirty_hosts: bool,
}

impl Desired {
    /// The state of a node without endpoints.
    pub fn new(settings: Settings) -> Desired {
        let mut desired = Desired {
            ruleset: Ruleset::new(),
            routes: Tracked::default(),
            neighbours: Tracked::default(),
            tunnels: Tracked::default(),
            device_addresses: Tracked::default(),
            fdb: Tracked::default(),
            unsure_tunnels: false,
            sysctls: BTreeMap::new(),
            left: BTreeSet::new(),
            touched: BTreeSet::new(),
            found: BTreeMap::new(),
            denied: Vec::new(),
            misnamed: BTreeSet::new(),
            unsure: false,
            generation: None,
            contributions: FxHashMap::default(),
            ip_sets: FxHashMap::default(),
            workloads: BTreeMap::new(),
            by_interface: BTreeMap::new(),
            nets: BTreeMap::new(),
            claims: BTreeMap::new(),
            host_endpoints: BTreeMap::new(),
            pools: BTreeMap::new(),
            pool_sets: PoolSets::default(),
            nodes: BTreeMap::new(),
            hosts: HostSet::new(calico_rules::sets::id::HOSTS),
            vxlan_hosts: HostSet::new(calico_rules::sets::id::VXLAN_HOSTS),
            overlays: Overlays::default(),
            links: BTreeMap::new(),
            names: BTreeMap::new(),
            addresses: BTreeMap::new(),
            dirty_interfaces: BTreeSet::new(),
            dirty_hosts: true,
            settings,
        };
        let statics = calico_rules::statics(&desired.settings.rules);
        desired.contribute(Owner::Statics, statics);
        desired
    }

    /// The settings that this state was made with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The prefixes of services: what is about to be forwarded to one has no endpoint (`ServiceLoopPrevention`).
    pub fn set_service_nets(&mut self, nets: &[Cidr]) {
        if self.settings.rules.service_nets != nets {
            self.settings.rules.service_nets = nets.to_vec();
            let statics = calico_rules::statics(&self.settings.rules);
            self.contribute(Owner::Statics, statics);
        }
    }

    /// The desired ruleset.
    pub fn ruleset(&self) -> &Ruleset {
        &self.ruleset
    }

    /// The desired routes.
    pub fn routes(&self) -> &BTreeMap<RouteKey, Route> {
        self.routes.wanted()
    }

    /// The host's interfaces, as they were last heard of.
    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Takes one change of the node's state.
    pub fn update(&mut self, change: Change) {
        match change {
            Change::IpSetAdded { id, kind, members } => self.add_ip_set(id, kind, members),
            Change::IpSetChanged { id, added, removed } => self.change_ip_set(&id, &added, &removed),
            Change::IpSetRemoved(id) => self.remove_ip_set(&id),
            Change::PolicyChanged(key, policy) => {
                let fragment = calico_rules::policy(&key, &policy, &self.settings.rules);
                self.contribute(Owner::Policy(key), fragment);
            }
            Change::PolicyRemoved(key) => self.withdraw(&Owner::Policy(key)),
            Change::ProfileChanged(name, profile) => {
                let fragment = calico_rules::profile(&name, &profile, &self.settings.rules);
                self.contribute(Owner::Profile(name), fragment);
            }
            Change::ProfileRemoved(name) => self.withdraw(&Owner::Profile(name)),
            Change::WorkloadChanged(id, workload) => self.change_workload(id, Some(workload)),
            Change::WorkloadRemoved(id) => self.change_workload(id, None),
            Change::HostEndpointChanged(name, endpoint) => {
                let chains = calico_rules::host_endpoint(&endpoint, &self.settings.rules);
                self.host_endpoints.insert(name, (endpoint, chains));
                self.dirty_hosts = true;
            }
            Change::HostEndpointRemoved(name) => {
                self.host_endpoints.remove(&name);
                self.dirty_hosts = true;
            }
            Change::PoolChanged(cidr, pool) => self.change_pool(cidr, Some(pool)),
            Change::PoolRemoved(cidr) => self.change_pool(cidr, None),
            Change::NodeChanged(name, node) => self.change_node(name, Some(node)),
            Change::NodeRemoved(name) => self.change_node(name, None),
            Change::BlockAdded(block) => self.change_block(block, true),
            Change::BlockRemoved(block) => self.change_block(block, false),
            Change::LocalVtepChanged(family, vtep) => self.change_local_vtep(family, Some(vtep)),
            Change::LocalVtepRemoved(family) => self.change_local_vtep(family, None),
            Change::LocalIpipChanged(addr) => self.change_local_ipip(Some(addr)),
            Change::LocalIpipRemoved => self.change_local_ipip(None),
            Change::VtepChanged(family, node, vtep) => self.change_vtep((family, node), Some(vtep)),
            Change::VtepRemoved(family, node) => self.change_vtep((family, node), None),
            Change::RouteChanged(destination, route) => self.change_cluster_route(destination, Some(route)),
            Change::RouteRemoved(destination) => self.change_cluster_route(destination, None),
        }
    }

    /// What an interface was last called.
    pub fn name_of(&self, index: u32) -> Option<&IfName> {
        self.names.get(&index)
    }

    /// An interface is new or different.
    pub fn link_changed(&mut self, link: Link) {
        let name = link.name.clone();
        // Renamed: nothing else tells that the old name is gone.
        if let Some(old) = self.names.insert(link.index, name.clone())
            && old != name
            && self.links.get(&old).is_some_and(|l| l.index == link.index)
        {
            // Nor does the kernel tell of its addresses again.
            let addresses = self.addresses.remove(&old);
            self.drop_link(&old);
            if let Some(addresses) = addresses {
                self.addresses.insert(name.clone(), addresses);
                self.overlays.touch();
                // A tunnel may lead over it, by its number.
                self.unsure_tunnels = true;
            }
        }
        let old = self.links.insert(name.clone(), link);
        let new = &self.links[&name];
        let remade = old.as_ref().is_some_and(|o| o.index != new.index);
        let went_down = old.as_ref().is_some_and(|o| o.admin_up) && !new.admin_up;
        let same = old
            .as_ref()
            .is_some_and(|o| (o.oper_up, o.admin_up, o.index) == (new.oper_up, new.admin_up, new.index));
        self.unsure_tunnels |= tunnel::is_ours(&name) && old.as_ref() != Some(new);
        if remade {
            self.leave_connections(&name);
        }
        if remade || went_down {
            self.forget_device(&name);
        }
        if !same {
            self.mark_interface(name);
        }
    }

    /// An interface is gone.
    pub fn link_removed(&mut self, name: &IfName) {
        if let Some(link) = self.links.get(name) {
            self.names.remove(&link.index);
        }
        self.drop_link(name);
    }

    fn drop_link(&mut self, name: &IfName) {
        if tunnel::is_ours(name) {
            self.unsure_tunnels = true;
            self.forget_device(name);
        }
        if self.links.remove(name).is_some() {
            if self.addresses.remove(name).is_some() {
                self.overlays.touch();
            }
            self.leave_connections(name);
            self.forget_device(name);
            self.mark_interface(name.clone());
        }
    }

    /// An interface's addresses leave their connections behind, although the next of its name may have the same ones
    /// before anything is rendered: then no route differs, and only this tells.
    fn leave_connections(&mut self, name: &IfName) {
        let nets = self.nets.get(name).into_iter().flatten();
        self.left.extend(nets.filter(|net| net.is_host()).map(Cidr::addr));
    }

    /// All interfaces and addresses, after a full read.
    pub fn observe_links(&mut self, links: Vec<Link>, addresses: Vec<Address>) {
        let gone: Vec<IfName> =
            self.links.keys().filter(|name| links.iter().all(|l| l.name != **name)).cloned().collect();
        for name in gone {
            self.link_removed(&name);
        }
        for link in links {
            self.link_changed(link);
        }
        let mut by_device: BTreeMap<IfName, BTreeSet<IpAddr>> = BTreeMap::new();
        for Address { device, address, .. } in addresses {
            by_device.entry(device).or_default().insert(address);
        }
        if by_device != self.addresses {
            self.dirty_hosts = true;
            self.overlays.touch();
        }
        self.addresses = by_device;
    }

    /// An interface has an address, or has it no more.
    pub fn address_changed(&mut self, device: &IfName, address: IpAddr, present: bool) {
        let addresses = self.addresses.entry(device.clone()).or_default();
        let changed = if present { addresses.insert(address) } else { addresses.remove(&address) };
        if changed && !self.settings.routes.is_workload(device) {
            self.dirty_hosts = true;
            self.unsure_tunnels |= tunnel::is_ours(device);
            self.overlays.address_changed(address);
        }
    }

    /// Somebody changed or removed a route. One that is neither ours nor in the place of a wanted one is nobody's
    /// business here.
    pub fn route_changed(&mut self, route: Route, present: bool) {
        self.found.remove(&route.key);
        let wanted = self.routes.wanted().contains_key(&route.key);
        if wanted || self.settings.routes.is_ours(&route) {
            if let Some(device) = self.routes.wanted().get(&route.key).and_then(|r| r.device.clone()) {
                self.touch_interface(&device);
            }
            self.routes.observe(route.key, present.then_some(route));
        }
    }

    /// Somebody made a route on a workload's interface that nobody wants yet: the CNI plugin makes an endpoint's routes
    /// just before the datastore tells of it. It stays until the next full read, and is known when it is wanted.
    /// Whether the route lets another of ours go: see [`Desired::is_handing_over`].
    pub fn route_found(&mut self, route: Route) -> bool {
        let taken_over = self.note_successor(&route);
        if route.device.as_ref().is_some_and(|device| self.settings.routes.is_workload(device)) {
            self.found.insert(route.key, route);
        }
        taken_over
    }

    /// The kernel drops the routes and neighbours of an interface that goes down or away.
    pub(crate) fn forget_device(&mut self, name: &IfName) {
        self.routes.forget(|route| route.device.as_ref() == Some(name));
        self.found.retain(|_, route| route.device.as_ref() != Some(name));
        self.neighbours.forget(|entry| entry.key.device == *name);
        self.fdb.forget(|entry| entry.key.device == *name);
        self.device_addresses.forget(|address| address.device == *name);
    }

    /// An interface changed. One of a workload that no endpoint has is looked at when its endpoint comes: the CNI plugin
    /// makes it before the datastore tells of it.
    fn mark_interface(&mut self, name: IfName) {
        if !self.settings.routes.is_workload(&name) {
            self.dirty_hosts = true;
        } else if self.by_interface.contains_key(&name) {
            self.dirty_interfaces.insert(name);
        }
    }

    /// Whether what was heard leaves an update anything to do. Most of what the kernel tells is an echo of our own work,
    /// or of others' that is nobody's business here.
    pub fn has_work(&self) -> bool {
        self.dirty_hosts
            || self.unsure_tunnels
            || !self.dirty_interfaces.is_empty()
            || !self.left.is_empty()
            || self.overlays.is_touched()
            || self.routes.differs()
            || self.neighbours.differs()
            || self.tunnels.differs()
            || self.device_addresses.differs()
            || self.fdb.differs()
    }

    /// Turns everything marked into table entries.
    pub fn render(&mut self) {
        for interface in std::mem::take(&mut self.dirty_interfaces) {
            self.render_interface(&interface);
        }
        self.render_overlays();
        if std::mem::take(&mut self.dirty_hosts) {
            self.render_hosts();
        }
    }

    /// Marks all interfaces, so that their parameters are written again.
    pub fn mark_all_interfaces(&mut self) {
        self.dirty_interfaces.extend(self.by_interface.keys().cloned());
        self.dirty_hosts = true;
        self.overlays.touch();
    }
}

#[cfg(test)]
mod tests;
