//! Datastore entries → [`World`]: each object is read on its own, and what cannot be used is a problem of that object.

use std::collections::BTreeMap;
use std::net::IpAddr;

use calico_api::key::AffinityOwner;
use calico_api::{
    AffinityState, BlockAffinity, EncapMode, Entry, IPPoolSpec, Key, Kind, NodeSpec, ResourceKey, Selection,
    Spec, WorkloadEndpointSpec, decode, decode_record,
};
use calico_net::{Cidr, Family};
use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use self::configuration::config_facts;
use self::filter::filter_facts;
use self::peer::peer_facts;
use crate::password::SecretData;
use crate::problem::Problem;
use crate::resolve::problem;
use crate::services::{ServiceRanges, Services};
use crate::world::{Encapsulation, KEEP_MESH, NodeFacts, PoolFacts, WorkloadFacts, World};

mod configuration;
mod filter;
mod peer;

/// A world that follows the datastore.
#[derive(Clone, Debug)]
pub struct Index {
    node: SmolStr,
    world: World,
    problems: FxHashMap<ResourceKey, Vec<String>>,
    /// Why Kubernetes' services are not known, if they are not.
    no_services: Option<&'static str>,
    changed: bool,
}

impl Index {
    /// Nothing known yet, for the node called `node`.
    pub fn new(node: SmolStr) -> Index {
        let world = World { services: Services::new(node.clone(), None), ..World::default() };
        let no_services = Some("Services are not followed");
        Index { node, world, problems: FxHashMap::default(), no_services, changed: true }
    }

    /// With services, of which `services` knows none yet; `missing` says why none will come, if so.
    pub fn with_services(mut self, services: Services, missing: Option<&'static str>) -> Index {
        self.world.services = services;
        self.no_services = missing;
        self
    }

    /// What must be followed for the node called `node`.
    pub fn selections(node: &str) -> Vec<Selection> {
        let mut selections = vec![
            Selection::all(Kind::Node),
            Selection::all(Kind::BGPPeer),
            Selection::all(Kind::BGPFilter),
            Selection::all(Kind::BGPConfiguration),
            Selection::all(Kind::IPPool),
            Selection::Resources {
                kind: Kind::WorkloadEndpoint,
                namespace: None,
                name_prefix: workload_prefix(node),
            },
        ];
        for family in Family::ALL {
            let owner = Some(AffinityOwner::Host(SmolStr::new(node)));
            selections.push(Selection::Affinities { owner, family: Some(family) });
        }
        selections
    }

    /// What must be followed besides where [`Index::wants_services`]: Kubernetes' own objects.
    pub fn service_selections() -> Vec<Selection> {
        vec![Selection::all(Kind::KubernetesService), Selection::all(Kind::KubernetesEndpointSlice)]
    }

    /// Whether anything of a service is to be announced: where not, they need not be followed.
    pub fn wants_services(&self) -> bool {
        self.no_services.is_none() && !self.world.services.ranges().is_empty()
    }

    /// Forgets Kubernetes' own objects, which are followed no more.
    pub fn forget_services(&mut self) {
        self.changed |= self.world.services.clear();
        self.problems.retain(|key, _| key.kind != Kind::KubernetesService);
    }

    /// Whether the intent may be another than when this was asked before. Most changes of workloads, services and their
    /// endpoints change nothing.
    pub fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// What is known.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Changes what is known: to see what would come of it.
    pub fn edit(&mut self, change: impl FnOnce(&mut World)) {
        change(&mut self.world);
    }

    /// What cannot be used of what is known, by resource.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self
            .problems
            .iter()
            .flat_map(|(resource, texts)| {
                texts.iter().map(|text| Problem { resource: resource.clone(), text: text.clone() })
            })
            .collect();
        problems.extend(self.services_problem());
        problems.sort_unstable();
        problems
    }

    /// Addresses of services are asked for, and nobody knows any.
    fn services_problem(&self) -> Option<Problem> {
        let missing = self.no_services.filter(|_| !self.world.services.ranges().is_empty())?;
        let text = format!("{missing}: of services' addresses only whole ranges are announced");
        Some(problem(Kind::BGPConfiguration, "default", text))
    }

    /// Takes one entry's present state; `None` is absent. Keys that do not concern BGP are passed over.
    pub fn update(&mut self, key: &Key, entry: Option<&Entry>) {
        match key {
            Key::Resource(resource) => self.update_resource(resource, entry),
            Key::Affinity { owner: AffinityOwner::Host(host), block } if *host == self.node => {
                self.changed |= match entry.is_some_and(is_claimed) {
                    true => self.world.blocks.insert(*block),
                    false => self.world.blocks.remove(block),
                };
            }
            _ => {}
        }
    }

    /// Takes a Secret's present content; `None` is absent.
    pub fn update_secret(&mut self, name: &str, data: Option<SecretData>) {
        self.changed |= replace(&mut self.world.secrets, SmolStr::new(name), data);
    }

    fn update_resource(&mut self, key: &ResourceKey, entry: Option<&Entry>) {
        let mut texts = Vec::new();
        let name = key.name.clone();
        let mut changed;
        match key.kind {
            Kind::Node => {
                let facts = read(entry, &mut texts, node_facts);
                changed = replace(&mut self.world.nodes, name, facts);
            }
            Kind::BGPPeer => {
                let facts = read(entry, &mut texts, peer_facts);
                changed = replace(&mut self.world.peers, name, facts);
            }
            Kind::BGPFilter => {
                let facts = read(entry, &mut texts, filter_facts);
                changed = replace(&mut self.world.filters, name, facts);
            }
            Kind::BGPConfiguration => {
                let mut ranges = ServiceRanges::default();
                let facts = read(entry, &mut texts, |config, texts| {
                    ranges = ServiceRanges::read(&config.spec, texts);
                    config_facts(config, texts)
                });
                let other_ranges = name == "default" && self.world.services.set_ranges(ranges);
                changed = replace(&mut self.world.configs, name, facts) || other_ranges;
            }
            Kind::IPPool => {
                let facts = read(entry, &mut texts, pool_facts);
                changed = replace(&mut self.world.pools, name, facts);
            }
            Kind::WorkloadEndpoint => {
                let node = self.node.clone();
                let facts = read(entry, &mut texts, |endpoint, texts| workload_facts(endpoint, &node, texts));
                let matters =
                    |world: &World| world.workloads.get(key).is_some_and(|w| world.concerns_speaker(w));
                let before = matters(&self.world);
                changed = replace(&mut self.world.workloads, key.clone(), facts);
                changed &= before || matters(&self.world);
            }
            Kind::KubernetesService => {
                let spec = read(entry, &mut texts, |service, _| Some(service.spec));
                changed = self.world.services.update_service(key, spec.as_ref(), &mut texts);
            }
            Kind::KubernetesEndpointSlice => {
                let spec = read(entry, &mut texts, |slice, _| Some(slice.spec));
                changed = self.world.services.update_slice(key, spec.as_ref());
            }
            _ => return,
        }
        self.changed |= changed;
        let before = self.problems.remove(key);
        self.changed |= before.as_deref().unwrap_or_default() != texts;
        if !texts.is_empty() {
            self.problems.insert(key.clone(), texts);
        }
    }
}

/// Takes the present facts of something; whether they are others than before.
fn replace<K: Ord, T: PartialEq>(map: &mut BTreeMap<K, T>, name: K, facts: Option<T>) -> bool {
    if map.get(&name) == facts.as_ref() {
        return false;
    }
    match facts {
        Some(facts) => map.insert(name, facts),
        None => map.remove(&name),
    };
    true
}

/// What could not be used of a resource.
type Texts = Vec<String>;

fn read<S: Spec, T>(
    entry: Option<&Entry>,
    texts: &mut Texts,
    facts: impl FnOnce(calico_api::Resource<S>, &mut Texts) -> Option<T>,
) -> Option<T> {
    match decode::<S>(entry?) {
        Ok(resource) => facts(resource, texts),
        Err(e) => {
            texts.push(format!("{}; it counts as absent", e.reason));
            None
        }
    }
}

/// Parses a field that is empty when it is not set; a complaint counts as not set.
fn field<T, E: std::fmt::Display>(
    name: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
    texts: &mut Texts,
) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    parse(text).map_err(|e| texts.push(format!("{name}: {e}; it is ignored"))).ok()
}

/// Whether the block is this node's: claims that are only begun do not count, those being given up do.
fn is_claimed(entry: &Entry) -> bool {
    // One that cannot be read is somebody's begun work: nothing is announced for it.
    decode_record::<BlockAffinity>(entry).is_ok_and(|claim| match claim.state {
        AffinityState::Confirmed | AffinityState::PendingDeletion => !claim.deleted,
        AffinityState::Pending | AffinityState::Other(_) => false,
    })
}

/// How the names of a node's WorkloadEndpoints begin; those of some other nodes may begin so too.
fn workload_prefix(node: &str) -> SmolStr {
    let spec = WorkloadEndpointSpec { node: node.into(), ..WorkloadEndpointSpec::default() };
    // A node whose name cannot begin a name has no endpoints, or some that only their spec tells.
    spec.name_prefix().map(SmolStr::from).unwrap_or_default()
}

/// A workload with what Felix routes to it: its own addresses. `None` if it is another node's. Floating ones (`ipNATs`) nobody
/// routes: whoever may annotate a pod could otherwise have this node announce any address of a pool that it has a way to.
fn workload_facts(
    endpoint: calico_api::Resource<WorkloadEndpointSpec>,
    node: &str,
    texts: &mut Texts,
) -> Option<WorkloadFacts> {
    let WorkloadEndpointSpec { node: host, ip_networks, .. } = endpoint.spec;
    if host != node {
        return None;
    }
    let own = ip_networks.iter().filter_map(|text| field("ipNetworks", text, str::parse::<Cidr>, texts));
    let mut addrs: Vec<Cidr> = own.collect();
    addrs.retain(Cidr::is_host);
    Some(WorkloadFacts { addrs, labels: endpoint.metadata.labels })
}

fn node_facts(node: calico_api::Resource<NodeSpec>, texts: &mut Texts) -> Option<NodeFacts> {
    let labels = node.metadata.labels;
    let keeps_mesh = node.metadata.annotations.get(KEEP_MESH).is_some_and(|word| word == "true");
    let Some(bgp) = node.spec.bgp else { return Some(NodeFacts { labels, ..NodeFacts::default() }) };
    let v4 = field("ipv4Address", &bgp.ipv4_address, Cidr::parse_interface, texts);
    let v6 = field("ipv6Address", &bgp.ipv6_address, Cidr::parse_interface, texts);
    let v4 = v4.and_then(|(addr, len)| match addr {
        IpAddr::V4(addr) => Some((addr, len)),
        IpAddr::V6(_) => {
            texts.push(format!("ipv4Address: {addr} is an IPv6 address; it is ignored"));
            None
        }
    });
    let v6 = v6.and_then(|(addr, len)| match addr {
        IpAddr::V6(addr) => Some((addr, len)),
        IpAddr::V4(_) => {
            texts.push(format!("ipv6Address: {addr} is an IPv4 address; it is ignored"));
            None
        }
    });
    let cluster_id = field("routeReflectorClusterID", &bgp.route_reflector_cluster_id, str::parse, texts);
    Some(NodeFacts { labels, v4, v6, asn: bgp.as_number, cluster_id, keeps_mesh })
}

fn pool_facts(pool: calico_api::Resource<IPPoolSpec>, texts: &mut Texts) -> Option<PoolFacts> {
    let encapsulation = |mode: &Option<EncapMode>| match mode {
        None | Some(EncapMode::Never) => Encapsulation::Never,
        Some(EncapMode::CrossSubnet) => Encapsulation::CrossSubnet,
        // A word of later times counts as the one that the speaker can do least with.
        Some(EncapMode::Always | EncapMode::Other(_)) => Encapsulation::Always,
    };
    let cidr = field("cidr", &pool.spec.cidr, str::parse::<Cidr>, texts)?;
    let encapsulation = match encapsulation(&pool.spec.vxlan_mode) {
        Encapsulation::Never => encapsulation(&pool.spec.ipip_mode),
        _ => Encapsulation::Vxlan,
    };
    Some(PoolFacts { cidr, disable_bgp_export: pool.spec.disable_bgp_export, encapsulation })
}

#[cfg(test)]
mod tests;
