//! Datastore entries → [`World`]: each object is read on its own, and what cannot be used is a problem of that object.

use std::net::IpAddr;

use calico_api::key::AffinityOwner;
use calico_api::{
    AffinityState, BGPConfigurationSpec, BGPPeerSpec, BlockAffinity, EncapMode, Entry, GoDuration,
    IPPoolSpec, Key, Kind, NextHopMode as ApiNextHopMode, NodeSpec, PrefixAdvertisement, ResourceKey,
    Selection, Spec, WorkloadEndpointSpec, decode, decode_record,
};
use calico_net::{Cidr, Family};
use calico_selector::Selector;
use rustc_hash::FxHashMap;
use smol_str::SmolStr;

use crate::intent::{Advertisement, Community, LogLevel, NextHopMode};
use crate::problem::Problem;
use crate::world::{
    ConfigFacts, Encapsulation, NodeFacts, PeerFacts, PeerOptions, PeerScope, PeerTarget, PoolFacts, World,
};

/// A world that follows the datastore.
#[derive(Clone, Debug)]
pub struct Index {
    node: SmolStr,
    world: World,
    problems: FxHashMap<ResourceKey, Vec<String>>,
}

impl Index {
    /// Nothing known yet, for the node called `node`.
    pub fn new(node: SmolStr) -> Index {
        Index { node, world: World::default(), problems: FxHashMap::default() }
    }

    /// What must be followed for the node called `node`.
    pub fn selections(node: &str) -> Vec<Selection> {
        let mut selections = vec![
            Selection::all(Kind::Node),
            Selection::all(Kind::BGPPeer),
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

    /// What is known.
    pub fn world(&self) -> &World {
        &self.world
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
        problems.sort_unstable();
        problems
    }

    /// Takes one entry's present state; `None` is absent. Keys that do not concern BGP are passed over.
    pub fn update(&mut self, key: &Key, entry: Option<&Entry>) {
        match key {
            Key::Resource(resource) => self.update_resource(resource, entry),
            Key::Affinity { owner: AffinityOwner::Host(host), block } if *host == self.node => {
                if entry.is_some_and(is_claimed) {
                    self.world.blocks.insert(*block);
                } else {
                    self.world.blocks.remove(block);
                }
            }
            _ => {}
        }
    }

    fn update_resource(&mut self, key: &ResourceKey, entry: Option<&Entry>) {
        let mut texts = Vec::new();
        let name = key.name.clone();
        match key.kind {
            Kind::Node => {
                let facts = read(entry, &mut texts, node_facts);
                replace(&mut self.world.nodes, name, facts);
            }
            Kind::BGPPeer => {
                let facts = read(entry, &mut texts, peer_facts);
                replace(&mut self.world.peers, name, facts);
            }
            Kind::BGPConfiguration => {
                let facts = read(entry, &mut texts, config_facts);
                replace(&mut self.world.configs, name, facts);
            }
            Kind::IPPool => {
                let facts = read(entry, &mut texts, pool_facts);
                replace(&mut self.world.pools, name, facts);
            }
            Kind::WorkloadEndpoint => {
                let node = self.node.clone();
                let addrs = read(entry, &mut texts, |endpoint, texts| workload_addrs(endpoint, &node, texts));
                match addrs {
                    Some(addrs) => self.world.workloads.insert(key.clone(), addrs),
                    None => self.world.workloads.remove(key),
                };
            }
            _ => return,
        }
        if texts.is_empty() {
            self.problems.remove(key);
        } else {
            self.problems.insert(key.clone(), texts);
        }
    }
}

fn replace<T>(map: &mut std::collections::BTreeMap<SmolStr, T>, name: SmolStr, facts: Option<T>) {
    match facts {
        Some(facts) => map.insert(name, facts),
        None => map.remove(&name),
    };
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

/// What Felix routes to the workload: its own addresses. `None` if it is another node's. Floating ones (`ipNATs`) nobody
/// routes: whoever may annotate a pod could otherwise have this node announce any address of a pool that it has a way to.
fn workload_addrs(
    endpoint: calico_api::Resource<WorkloadEndpointSpec>,
    node: &str,
    texts: &mut Texts,
) -> Option<Vec<Cidr>> {
    let WorkloadEndpointSpec { node: host, ip_networks, .. } = endpoint.spec;
    if host != node {
        return None;
    }
    let own = ip_networks.iter().filter_map(|text| field("ipNetworks", text, str::parse::<Cidr>, texts));
    let mut addrs: Vec<Cidr> = own.collect();
    addrs.retain(Cidr::is_host);
    Some(addrs)
}

fn node_facts(node: calico_api::Resource<NodeSpec>, texts: &mut Texts) -> Option<NodeFacts> {
    let labels = node.metadata.labels;
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
    Some(NodeFacts { labels, v4, v6, asn: bgp.as_number, cluster_id })
}

/// A peer that is wrong in any part is left out whole: half a session may be worse than none.
fn peer_facts(peer: calico_api::Resource<BGPPeerSpec>, texts: &mut Texts) -> Option<PeerFacts> {
    match try_peer_facts(&peer.spec) {
        Ok(facts) => {
            if peer.spec.password.is_some() {
                texts.push("password: Secrets are not available in this datastore; there is none".into());
            }
            Some(facts)
        }
        Err(text) => {
            texts.push(format!("{text}; no session comes of it"));
            None
        }
    }
}

fn try_peer_facts(spec: &BGPPeerSpec) -> Result<PeerFacts, String> {
    let BGPPeerSpec {
        node,
        node_selector,
        peer_ip,
        as_number,
        peer_selector,
        keep_original_next_hop,
        next_hop_mode,
        password: _,
        source_address,
        max_restart_time,
        keepalive_time,
        num_allowed_local_as_numbers,
        ttl_security,
        reachable_by,
        filters,
        local_as_number,
        local_workload_selector,
        reverse_peering,
    } = spec;
    if !local_workload_selector.is_empty() {
        return Err("localWorkloadSelector: peering with workloads is not available".into());
    }
    if !filters.is_empty() {
        return Err("filters: BGPFilters are not available, and without them too much would be told".into());
    }
    let scope = match (node.as_str(), node_selector.as_str()) {
        ("", "") => PeerScope::Global,
        (node, "") => PeerScope::Node(SmolStr::new(node)),
        ("", selector) => PeerScope::Selected(parse_selector("nodeSelector", selector)?),
        _ => return Err("node and nodeSelector are both set".into()),
    };
    let target = match (peer_ip.as_str(), peer_selector.as_str()) {
        ("", "") => return Err("neither peerIP nor peerSelector is set".into()),
        ("", selector) => PeerTarget::Nodes(parse_selector("peerSelector", selector)?),
        (peer_ip, "") => {
            let (addr, port) = parse_peer_ip(peer_ip)?;
            let asn = as_number.filter(|asn| asn.0 != 0).ok_or("peerIP is set but asNumber is not")?;
            PeerTarget::Address { addr, port, asn }
        }
        _ => return Err("peerIP and peerSelector are both set".into()),
    };
    let next_hop = match next_hop_mode {
        None | Some(ApiNextHopMode::Auto) => NextHopMode::Auto,
        Some(ApiNextHopMode::SelfNode) => NextHopMode::Own,
        Some(ApiNextHopMode::Keep) => NextHopMode::Keep,
        Some(ApiNextHopMode::Other(word)) => return Err(format!("nextHopMode: {word:?} is unknown")),
    };
    let reachable_by = match reachable_by.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| format!("reachableBy: {text:?} is not an IP address"))?),
    };
    let allow_local_as = match num_allowed_local_as_numbers {
        None => None,
        Some(n) => {
            Some(u8::try_from(*n).map_err(|_| format!("numAllowedLocalASNumbers: {n} is more than 255"))?)
        }
    };
    Ok(PeerFacts {
        scope,
        target,
        reverse: !reverse_peering.as_ref().is_some_and(|word| word.eq_ignore_ascii_case("Manual")),
        options: PeerOptions {
            local_as: *local_as_number,
            from_node_addr: !source_address.eq_ignore_ascii_case("None"),
            restart_time_secs: max_restart_time.map(|t| secs("maxRestartTime", t)).transpose()?,
            keepalive_secs: keepalive_time.map(|t| secs("keepaliveTime", t)).transpose()?,
            next_hop,
            keep_original_next_hop: *keep_original_next_hop,
            allow_local_as,
            ttl_security_hops: *ttl_security,
            reachable_by,
        },
    })
}

fn parse_selector(field: &str, text: &str) -> Result<Selector, String> {
    calico_selector::parse(text).map_err(|e| format!("{field}: {e}"))
}

/// `IP`, `IPv4:port` or `[IPv6]:port`.
fn parse_peer_ip(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(addr) = text.parse() {
        return Ok((addr, None));
    }
    match text.parse::<std::net::SocketAddr>() {
        Ok(socket) if socket.port() != 0 => Ok((socket.ip(), Some(socket.port()))),
        _ => Err(format!("peerIP: {text:?} is not an IP address with or without a port")),
    }
}

/// BGP's timers are 16 bits of whole seconds at most (RFC 4271 §4.2), those of graceful restart 12 (RFC 4724 §3).
const MAX_SECS: u64 = 4095;

/// Rounded to whole seconds, as BGP counts them.
fn secs(field: &str, duration: GoDuration) -> Result<u32, String> {
    let secs = duration.to_std().map(|d| (d.as_millis() as u64 + 500) / 1000);
    match secs.filter(|secs| (1..=MAX_SECS).contains(secs)) {
        // At most 4095.
        Some(secs) => Ok(secs as u32),
        None => Err(format!("{field}: not between 1 second and {MAX_SECS} seconds")),
    }
}

fn config_facts(
    config: calico_api::Resource<BGPConfigurationSpec>,
    texts: &mut Texts,
) -> Option<ConfigFacts> {
    let spec = config.spec;
    if spec.node_mesh_password.is_some() {
        texts.push("nodeMeshPassword: Secrets are not available in this datastore; there is none".into());
    }
    let mesh_restart_time_secs = spec.node_mesh_max_restart_time.and_then(|time| {
        secs("nodeMeshMaxRestartTime", time).map_err(|text| texts.push(format!("{text}; it is ignored"))).ok()
    });
    let log_level = match spec.log_severity_screen.to_ascii_lowercase().as_str() {
        "" => None,
        "none" => Some(LogLevel::Silent),
        "debug" | "trace" => Some(LogLevel::Debug),
        _ => Some(LogLevel::Normal),
    };
    let programs_plain_routes = spec
        .program_cluster_routes
        .as_deref()
        .map(|word| !word.eq_ignore_ascii_case("Disabled") && !word.eq_ignore_ascii_case("EnabledIPIPOnly"));
    let advertisements = (!spec.prefix_advertisements.is_empty()).then(|| {
        let known: FxHashMap<&str, &str> =
            spec.communities.iter().map(|c| (c.name.as_str(), c.value.as_str())).collect();
        spec.prefix_advertisements.iter().filter_map(|a| advertisement(a, &known, texts)).collect()
    });
    Some(ConfigFacts {
        mesh_enabled: spec.node_to_node_mesh_enabled,
        asn: spec.as_number,
        listen_port: spec.listen_port.filter(|port| *port != 0),
        log_level,
        mesh_restart_time_secs,
        node_ip_only: spec.bind_mode.eq_ignore_ascii_case("NodeIP"),
        ignored_interfaces: spec.ignored_interfaces,
        advertisements,
        programs_plain_routes,
        normal_priority_v4: spec.ipv4_normal_route_priority.filter(|p| *p != 0),
        normal_priority_v6: spec.ipv6_normal_route_priority.filter(|p| *p != 0),
    })
}

fn advertisement(
    text: &PrefixAdvertisement,
    known: &FxHashMap<&str, &str>,
    texts: &mut Texts,
) -> Option<Advertisement> {
    let cidr = field("prefixAdvertisements", &text.cidr, str::parse::<Cidr>, texts)?;
    let communities: Vec<Community> = text
        .communities
        .iter()
        .filter_map(|word| {
            let value = known.get(word.as_str()).copied().unwrap_or(word);
            field("prefixAdvertisements", value, str::parse, texts)
        })
        .collect();
    (!communities.is_empty()).then_some(Advertisement { cidr, communities })
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
