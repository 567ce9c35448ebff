//! Which addresses of Kubernetes' services this node announces, and which ranges of them it never installs (spec 6 §3.8).
//!
//! ```text
//! Services ────────┐
//! EndpointSlices ──┼─▶ Services ──announce──▶ ServiceIntent: routes, reject ranges, what reflectors pass on
//! service ranges ──┘   (counted by prefix)
//! ```
//!
//! Every node announces the ranges of the BGPConfiguration. One address of a service is announced besides where that
//! matters: when only some nodes have an endpoint that may be used, or when the address belongs to no whole range.
//!
//! A change of one service or slice computes the routes of that service and of no other. Only ranges that change
//! concern them all.

use std::collections::BTreeMap;
use std::net::IpAddr;

use calico_api::kubernetes::endpoint_slice::EndpointSliceSpec;
use calico_api::kubernetes::service::ServiceSpec;
use calico_api::{BGPConfigurationSpec, Kind, ResourceKey, ServiceBlock, Toggle};
use calico_net::{Cidr, Family};
use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use crate::intent::ServiceIntent;

/// The label of nodes that no load balancer may lead to (Kubernetes' `node.kubernetes.io`).
pub const EXCLUDED_LABEL: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// What could not be used of a resource.
type Texts = Vec<String>;

/// The ranges whose services are announced: BGPConfiguration `default`. Sorted, without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceRanges {
    /// `serviceClusterIPs`.
    pub cluster: Vec<Cidr>,
    /// `serviceExternalIPs`.
    pub external: Vec<Cidr>,
    /// `serviceLoadBalancerIPs`.
    pub load_balancer: Vec<Cidr>,
    /// `serviceLoadBalancerAggregation: Disabled`: load balancers' addresses are announced one by one.
    pub one_by_one: bool,
}

impl ServiceRanges {
    /// What a BGPConfiguration says. Entries without a prefix say nothing.
    pub fn read(spec: &BGPConfigurationSpec, texts: &mut Texts) -> ServiceRanges {
        let one_by_one = match &spec.service_load_balancer_aggregation {
            None | Some(Toggle::Enabled) => false,
            Some(Toggle::Disabled) => true,
            Some(other) => {
                let word = other.as_str();
                texts.push(format!(
                    "serviceLoadBalancerAggregation: {word:?} is neither Enabled nor Disabled; Enabled is assumed"
                ));
                false
            }
        };
        let mut blocks = |field: &str, blocks: &[ServiceBlock]| {
            read_ranges(field, blocks.iter().map(|block| block.cidr.as_str()), texts)
        };
        ServiceRanges {
            cluster: blocks("serviceClusterIPs", &spec.service_cluster_ips),
            external: blocks("serviceExternalIPs", &spec.service_external_ips),
            load_balancer: blocks("serviceLoadBalancerIPs", &spec.service_load_balancer_ips),
            one_by_one,
        }
    }

    /// Whether nothing of any service is to be announced.
    pub fn is_empty(&self) -> bool {
        self.cluster.is_empty() && self.external.is_empty() && self.load_balancer.is_empty()
    }

    /// Those that every node announces and none installs: cluster ranges as they are, of the others those of more than
    /// one address.
    fn whole(&self) -> impl Iterator<Item = Cidr> {
        let load_balancer = if self.one_by_one { &[][..] } else { &self.load_balancer };
        let wide = self.external.iter().chain(load_balancer).filter(|range| !range.is_host());
        self.cluster.iter().chain(wide).copied()
    }
}

/// Reads prefixes; an empty text is none.
pub fn read_ranges<'a>(field: &str, ranges: impl Iterator<Item = &'a str>, texts: &mut Texts) -> Vec<Cidr> {
    let mut read: Vec<Cidr> = Vec::new();
    for text in ranges.map(str::trim).filter(|text| !text.is_empty()) {
        match text.parse() {
            Ok(cidr) => read.push(cidr),
            Err(e) => texts.push(format!("{field}: {e}; it is ignored")),
        }
    }
    read.sort_unstable();
    read.dedup();
    read
}

/// The services of the cluster, as far as BGP is concerned, and what this node announces of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Services {
    /// This node, as Kubernetes calls it.
    node: SmolStr,
    /// `CALICO_ADVERTISE_CLUSTER_IPS`: instead of the cluster ranges of the BGPConfiguration.
    cluster_ranges: Option<Vec<Cidr>>,
    ranges: ServiceRanges,
    services: FxHashMap<ResourceKey, Known>,
    slices: FxHashMap<ResourceKey, Slice>,
    /// Single addresses, and of how many services each is.
    routes: BTreeMap<Cidr, u32>,
    computations: u64,
}

/// A service or some slices of one.
#[derive(Clone, Debug, Default, PartialEq)]
struct Known {
    facts: Option<Facts>,
    v4: Ready,
    v6: Ready,
    /// What of `routes` it counts in.
    routes: Box<[Cidr]>,
}

/// How many slices of one family have a ready endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ready {
    anywhere: u32,
    here: u32,
}

/// An EndpointSlice.
#[derive(Clone, Debug, PartialEq)]
struct Slice {
    service: SmolStr,
    family: Family,
    anywhere: bool,
    here: bool,
}

/// A service that has an address of its own.
#[derive(Clone, Debug, PartialEq)]
struct Facts {
    is_load_balancer: bool,
    external: Policy,
    internal: Policy,
    /// The families of its endpoints that count.
    v4: bool,
    v6: bool,
    addrs: Box<[(Role, IpAddr)]>,
}

/// A traffic policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// It has none, or one of later times.
    Unset,
    Cluster,
    Local,
}

/// What an address is to its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Cluster,
    External,
    LoadBalancer,
}

impl Services {
    /// Nothing known yet, for a node as Kubernetes calls it. `cluster_ranges` stand instead of the BGPConfiguration's.
    pub fn new(node: SmolStr, cluster_ranges: Option<Vec<Cidr>>) -> Services {
        let mut services = Services { node, cluster_ranges, ..Services::default() };
        services.set_ranges(ServiceRanges::default());
        services
    }

    /// Takes what the BGPConfiguration says; whether it is news.
    pub fn set_ranges(&mut self, mut ranges: ServiceRanges) -> bool {
        if let Some(cluster) = &self.cluster_ranges {
            ranges.cluster.clone_from(cluster);
        }
        if ranges == self.ranges {
            return false;
        }
        self.ranges = ranges;
        for key in self.services.keys().cloned().collect::<Vec<_>>() {
            self.recompute(&key);
        }
        true
    }

    /// Takes one Service; whether what is announced has changed.
    pub fn update_service(
        &mut self,
        key: &ResourceKey,
        spec: Option<&ServiceSpec>,
        texts: &mut Texts,
    ) -> bool {
        let facts = spec.and_then(|spec| facts(spec, texts));
        match self.services.get_mut(key) {
            Some(known) if known.facts == facts => return false,
            Some(known) => known.facts = facts,
            None if facts.is_none() => return false,
            None => {
                self.services.insert(key.clone(), Known { facts, ..Known::default() });
            }
        }
        self.recompute(key)
    }

    /// Takes one EndpointSlice; whether what is announced has changed.
    pub fn update_slice(&mut self, key: &ResourceKey, spec: Option<&EndpointSliceSpec>) -> bool {
        let after = spec.and_then(|spec| self.slice(spec));
        let before = self.slices.get(key);
        if before == after.as_ref() {
            return false;
        }
        let mut touched: Vec<ResourceKey> = Vec::with_capacity(2);
        let mut count = |services: &mut FxHashMap<ResourceKey, Known>, slice: &Slice, sign: i32| {
            let service = service_key(key, &slice.service);
            let known = services.entry(service.clone()).or_default();
            let ready = match slice.family {
                Family::V4 => &mut known.v4,
                Family::V6 => &mut known.v6,
            };
            let add = |n: &mut u32, flag: bool| *n = n.saturating_add_signed(sign * i32::from(flag));
            add(&mut ready.anywhere, slice.anywhere);
            add(&mut ready.here, slice.here);
            if !touched.contains(&service) {
                touched.push(service);
            }
        };
        if let Some(slice) = before {
            count(&mut self.services, slice, -1);
        }
        if let Some(slice) = &after {
            count(&mut self.services, slice, 1);
        }
        match after {
            Some(slice) => self.slices.insert(key.clone(), slice),
            None => self.slices.remove(key),
        };
        touched.iter().fold(false, |changed, service| self.recompute(service) | changed)
    }

    /// Forgets every Service and slice.
    pub fn clear(&mut self) -> bool {
        self.services = FxHashMap::default();
        self.slices = FxHashMap::default();
        !std::mem::take(&mut self.routes).is_empty()
    }

    /// The ranges in force.
    pub fn ranges(&self) -> &ServiceRanges {
        &self.ranges
    }

    /// How many services that have an address are known.
    pub fn len(&self) -> usize {
        self.services.values().filter(|known| known.facts.is_some()).count()
    }

    /// Whether no service is known that has an address.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often the routes of a service were computed.
    pub fn computations(&self) -> u64 {
        self.computations
    }

    /// What a node announces: nothing if it is excluded; what others announce is installed by none all the same.
    pub fn announce(&self, is_excluded: bool, is_reflector: bool) -> ServiceIntent {
        let mut rejects: Vec<Cidr> = self.ranges.whole().collect();
        sort(&mut rejects);
        let mut routes = Vec::new();
        if !is_excluded {
            routes.extend(rejects.iter().chain(self.routes.keys()));
            sort(&mut routes);
        }
        let mut reflected = Vec::new();
        if is_reflector {
            reflected.extend(self.ranges.external.iter().chain(&self.ranges.load_balancer));
            sort(&mut reflected);
        }
        ServiceIntent { routes, rejects, reflected }
    }

    fn slice(&self, spec: &EndpointSliceSpec) -> Option<Slice> {
        let EndpointSliceSpec { service, address_type, ready_nodes, addresses: _, ports: _ } = spec;
        let family = family(address_type)?;
        let here = ready_nodes.binary_search(&self.node).is_ok();
        // One that has nothing to say is not kept.
        (!ready_nodes.is_empty()).then(|| Slice { service: service.clone(), family, anywhere: true, here })
    }

    /// Computes the routes of one service; whether what is announced has changed.
    fn recompute(&mut self, key: &ResourceKey) -> bool {
        let Some(known) = self.services.get_mut(key) else { return false };
        self.computations += 1;
        let after = routes(known, &self.ranges);
        let is_over = known.facts.is_none() && (known.v4, known.v6) == Default::default();
        let before = std::mem::replace(&mut known.routes, after.clone());
        if is_over {
            self.services.remove(key);
        }
        if before == after {
            return false;
        }
        let mut changed = false;
        for route in &after {
            let count = self.routes.entry(*route).or_default();
            *count += 1;
            changed |= *count == 1;
        }
        for route in &before {
            if let Some(count) = self.routes.get_mut(route) {
                *count -= 1;
                if *count == 0 {
                    self.routes.remove(route);
                    changed = true;
                }
            }
        }
        changed
    }
}

fn sort(cidrs: &mut Vec<Cidr>) {
    cidrs.sort_unstable();
    cidrs.dedup();
}

fn service_key(slice: &ResourceKey, service: &SmolStr) -> ResourceKey {
    ResourceKey { kind: Kind::KubernetesService, namespace: slice.namespace.clone(), name: service.clone() }
}

fn family(word: &str) -> Option<Family> {
    match word {
        "IPv4" => Some(Family::V4),
        "IPv6" => Some(Family::V6),
        _ => None,
    }
}

fn policy(word: &str) -> Policy {
    match word {
        "Cluster" => Policy::Cluster,
        "Local" => Policy::Local,
        _ => Policy::Unset,
    }
}

/// `None` for a service that no address leads to: `ExternalName`, and headless ones.
fn facts(spec: &ServiceSpec, texts: &mut Texts) -> Option<Facts> {
    let ServiceSpec {
        service_type,
        cluster_ips,
        external_ips,
        load_balancer_ip: _,
        load_balancer_ingress,
        ip_families,
        external_traffic_policy,
        internal_traffic_policy,
        ports: _,
    } = spec;
    if cluster_ips.is_empty() || !matches!(service_type.as_str(), "ClusterIP" | "NodePort" | "LoadBalancer") {
        return None;
    }
    let mut addrs: Vec<(Role, IpAddr)> = Vec::new();
    for (field, role, ips) in [
        ("spec.clusterIPs", Role::Cluster, cluster_ips),
        ("spec.externalIPs", Role::External, external_ips),
        ("status.loadBalancer.ingress", Role::LoadBalancer, load_balancer_ingress),
    ] {
        for ip in ips {
            match ip.parse() {
                Ok(ip) => addrs.push((role, ip)),
                Err(_) => texts.push(format!("{field}: {ip:?} is not an IP address; it is ignored")),
            }
        }
    }
    // The API server always says; files of tests may not.
    let has = |wanted: Family| match ip_families.as_slice() {
        [] => addrs.iter().any(|(role, ip)| *role == Role::Cluster && Family::of(*ip) == wanted),
        words => words.iter().any(|word| family(word) == Some(wanted)),
    };
    Some(Facts {
        is_load_balancer: service_type == "LoadBalancer",
        external: policy(external_traffic_policy),
        internal: policy(internal_traffic_policy),
        v4: has(Family::V4),
        v6: has(Family::V6),
        addrs: addrs.into(),
    })
}

/// The addresses of a service that are announced one by one. Sorted, without duplicates.
fn routes(known: &Known, ranges: &ServiceRanges) -> Box<[Cidr]> {
    let Known { facts: Some(facts), v4, v6, routes: _ } = known else { return Box::default() };
    let any = |count: fn(&Ready) -> u32| facts.v4 && count(v4) > 0 || facts.v6 && count(v6) > 0;
    let (here, anywhere) = (any(|ready| ready.here), any(|ready| ready.anywhere));
    let is_single = |wanted: Role, ranges: &[Cidr]| {
        let hosts = facts.addrs.iter().filter(|(role, _)| *role == wanted).map(|(_, ip)| Cidr::host(*ip));
        hosts.into_iter().any(|host| ranges.contains(&host))
    };
    // An entry of one address is announced by no range.
    let has_single = facts.is_load_balancer && is_single(Role::LoadBalancer, &ranges.load_balancer)
        || is_single(Role::External, &ranges.external);
    let is_announced = match facts.external {
        Policy::Cluster if has_single => true,
        Policy::Local => here,
        Policy::Cluster | Policy::Unset => ranges.one_by_one && anywhere,
    };
    let is_eligible = |(role, ip): &&(Role, IpAddr)| {
        let within = |ranges: &[Cidr]| is_announced && ranges.iter().any(|range| range.contains(*ip));
        match role {
            Role::External => within(&ranges.external),
            Role::LoadBalancer => within(&ranges.load_balancer),
            // kube-proxy drops what comes to such an address on a node without an endpoint, wherever it comes from.
            Role::Cluster if facts.internal == Policy::Local => here && !ranges.cluster.is_empty(),
            // Whether they are in a range does not matter.
            Role::Cluster => is_announced && !ranges.cluster.is_empty(),
        }
    };
    let mut routes: Vec<Cidr> =
        facts.addrs.iter().filter(is_eligible).map(|(_, ip)| Cidr::host(*ip)).collect();
    sort(&mut routes);
    routes.into()
}

#[cfg(test)]
mod tests;
