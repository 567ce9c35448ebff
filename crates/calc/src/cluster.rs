//! Pools, nodes and blocks: passed on as they are, once each; and the ways to other nodes that follow from them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_api::{AffinityOwner, AllowedUse, EncapMode, IPPool, IpamBlock, Node, NodeBgp};
use calico_net::{Cidr, Family, Mac};
use smol_str::SmolStr;

use crate::change::{Change, Encap, NodeInfo, Pool};
use crate::routes::Routes;
use crate::vteps::Vteps;

/// Values by key, and what the consumer knows of them.
#[derive(Debug)]
pub(crate) struct Mirror<K, V> {
    current: BTreeMap<K, V>,
    told: BTreeMap<K, V>,
    dirty: BTreeSet<K>,
}

impl<K, V> Default for Mirror<K, V> {
    fn default() -> Self {
        Mirror { current: BTreeMap::new(), told: BTreeMap::new(), dirty: BTreeSet::new() }
    }
}

impl<K: Ord + Clone, V: PartialEq + Clone> Mirror<K, V> {
    /// The value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.current.get(key)
    }

    /// All values.
    pub(crate) fn current(&self) -> &BTreeMap<K, V> {
        &self.current
    }

    /// Takes what a key's value is now.
    pub(crate) fn set(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => self.current.insert(key.clone(), value),
            None => self.current.remove(&key),
        };
        self.dirty.insert(key);
    }

    /// Reports keys whose value is not what was told: those with another value, then those without any.
    pub(crate) fn flush(&mut self, mut tell: impl FnMut(&K, Option<&V>)) {
        let mut gone = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            match self.current.get(&key) {
                Some(value) if self.told.get(&key) == Some(value) => {}
                Some(value) => {
                    tell(&key, Some(value));
                    self.told.insert(key, value.clone());
                }
                None => {
                    if self.told.remove(&key).is_some() {
                        gone.push(key);
                    }
                }
            }
        }
        for key in gone {
            tell(&key, None);
        }
    }
}

/// What the dataplane needs of the cluster beside endpoints and policy.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// This node.
    node: SmolStr,
    /// Pools by range and name: should two pools have one range, the first name counts.
    pools: BTreeMap<Cidr, BTreeMap<SmolStr, Pool>>,
    pool_ranges: BTreeMap<SmolStr, Cidr>,
    pools_told: Mirror<Cidr, Pool>,
    nodes: Mirror<SmolStr, NodeInfo>,
    blocks: Mirror<Cidr, ()>,
    /// This node's IPIP tunnel address.
    ipip: Mirror<(), IpAddr>,
    vteps: Vteps,
    routes: Routes,
}

impl Cluster {
    /// The cluster as the node of this name sees it, knowing nothing.
    pub(crate) fn new(node: &str) -> Cluster {
        Cluster {
            node: SmolStr::new(node),
            pools: BTreeMap::new(),
            pool_ranges: BTreeMap::new(),
            pools_told: Mirror::default(),
            nodes: Mirror::default(),
            blocks: Mirror::default(),
            ipip: Mirror::default(),
            vteps: Vteps::new(node),
            routes: Routes::default(),
        }
    }

    /// Adds, replaces or removes a pool.
    pub(crate) fn set_pool(&mut self, name: &SmolStr, pool: Option<(Cidr, Pool)>) {
        let old = match &pool {
            Some((cidr, _)) => self.pool_ranges.insert(name.clone(), *cidr),
            None => self.pool_ranges.remove(name),
        };
        if let Some(cidr) = old {
            if let Some(pools) = self.pools.get_mut(&cidr) {
                pools.remove(name);
            }
            self.choose_pool(cidr);
        }
        if let Some((cidr, pool)) = pool {
            self.pools.entry(cidr).or_default().insert(name.clone(), pool);
            self.choose_pool(cidr);
        }
    }

    fn choose_pool(&mut self, cidr: Cidr) {
        let chosen = self.pools.get(&cidr).and_then(|pools| pools.values().next()).cloned();
        if chosen.is_none() {
            self.pools.remove(&cidr);
        }
        if self.pools_told.get(&cidr) != chosen.as_ref() {
            self.routes.touch_range(&cidr);
        }
        self.pools_told.set(cidr, chosen);
    }

    /// Adds, replaces or removes a node.
    pub(crate) fn set_node(&mut self, name: &SmolStr, node: Option<NodeInfo>) {
        if self.nodes.get(name) == node.as_ref() {
            return;
        }
        // Where this node is decides of every other whether it is on its subnet.
        if *name == self.node {
            self.ipip.set((), node.as_ref().and_then(|node| node.ipip_addr));
            self.routes.touch_all();
        } else {
            self.routes.touch_node(name);
        }
        for affected in self.vteps.set(name, node.as_ref()) {
            self.routes.touch_node(&affected);
        }
        self.nodes.set(name.clone(), node);
    }

    /// Adds, replaces or removes a block.
    pub(crate) fn set_block(&mut self, cidr: Cidr, block: Option<&IpamBlock>) {
        let ours = block.is_some_and(|block| is_own_block(cidr, block, &self.node));
        self.blocks.set(cidr, ours.then_some(()));
        self.routes.set_block(cidr, block);
    }

    /// Nodes whose tunnel ends cannot be used, and why.
    pub(crate) fn conflicts(&self) -> impl Iterator<Item = (&SmolStr, &str)> {
        self.vteps.conflicts()
    }

    /// Another number whenever [`Cluster::conflicts`] may say something else.
    pub(crate) fn conflicts_version(&self) -> u64 {
        self.vteps.conflicts_version()
    }

    /// Reports what changed.
    pub(crate) fn flush(&mut self, out: &mut Vec<Change>) {
        self.pools_told.flush(|cidr, pool| {
            out.push(match pool {
                Some(pool) => Change::PoolChanged(*cidr, pool.clone()),
                None => Change::PoolRemoved(*cidr),
            });
        });
        self.nodes.flush(|name, node| {
            out.push(match node {
                Some(node) => Change::NodeChanged(name.clone(), node.clone()),
                None => Change::NodeRemoved(name.clone()),
            });
        });
        self.blocks.flush(|cidr, ours| {
            out.push(match ours {
                Some(()) => Change::BlockAdded(*cidr),
                None => Change::BlockRemoved(*cidr),
            });
        });
        self.ipip.flush(|(), addr| {
            out.push(addr.map_or(Change::LocalIpipRemoved, |addr| Change::LocalIpipChanged(*addr)));
        });
        // Ends come before the routes that lead to them, and go after.
        let vteps_removed = self.vteps.flush(out);
        let Cluster { node, pools_told, nodes, vteps, routes, .. } = self;
        routes.flush(node, pools_told.current(), nodes.current(), vteps, out);
        out.extend(vteps_removed);
    }

    /// Whether there is nothing.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let told = self.nodes.current.len() + self.blocks.current.len() + self.ipip.current.len();
        let current = self.pools_told.current.len() + told;
        let pools = self.pools.is_empty() && self.pool_ranges.is_empty();
        current == 0 && pools && self.vteps.is_empty() && self.routes.is_empty()
    }
}

/// Reads a pool; the error names the value that is not understood.
pub(crate) fn read_pool(pool: &IPPool) -> Result<(Cidr, Pool), String> {
    let spec = &pool.spec;
    let cidr: Cidr = spec.cidr.parse().map_err(|_| format!("cidr {:?} is not understood", spec.cidr))?;
    let encap = |mode: &Option<EncapMode>| match mode {
        None | Some(EncapMode::Never) => Ok(Encap::Never),
        Some(EncapMode::Always) => Ok(Encap::Always),
        Some(EncapMode::CrossSubnet) => Ok(Encap::CrossSubnet),
        Some(EncapMode::Other(word)) => Err(format!("encapsulation {word:?} is not understood")),
    };
    let uses = &spec.allowed_uses;
    let load_balancer_only =
        !uses.is_empty() && uses.iter().all(|purpose| *purpose == AllowedUse::LoadBalancer);
    let (ipip, vxlan) = (encap(&spec.ipip_mode)?, encap(&spec.vxlan_mode)?);
    // Which of the two was meant cannot be told, and the wrong one would lead nowhere.
    if ipip != Encap::Never && vxlan != Encap::Never {
        return Err("ipipMode and vxlanMode exclude each other: one of them must be Never".into());
    }
    if ipip != Encap::Never && cidr.family() == Family::V6 {
        return Err("ipipMode is for IPv4 only: use vxlanMode".into());
    }
    Ok((cidr, Pool { nat_outgoing: spec.nat_outgoing, ipip, vxlan, load_balancer_only }))
}

/// Reads a node. Each field that is not understood counts as absent and is named in `problems`.
pub(crate) fn read_node(node: &Node, problems: &mut Vec<String>) -> NodeInfo {
    let spec = &node.spec;
    let no_bgp = NodeBgp::default();
    let bgp = spec.bgp.as_ref().unwrap_or(&no_bgp);
    let mut reader = FieldReader { problems };
    NodeInfo {
        v4: reader
            .interface("bgp.ipv4Address", &bgp.ipv4_address, Family::V4)
            .or_else(|| fallback(node, Family::V4)),
        v6: reader
            .interface("bgp.ipv6Address", &bgp.ipv6_address, Family::V6)
            .or_else(|| fallback(node, Family::V6)),
        ipip_addr: reader.address("bgp.ipv4IPIPTunnelAddr", &bgp.ipv4_ipip_tunnel_addr, Family::V4),
        vxlan_v4_addr: reader.address("ipv4VXLANTunnelAddr", &spec.ipv4_vxlan_tunnel_addr, Family::V4),
        vxlan_v4_mac: reader.mac("vxlanTunnelMACAddr", &spec.vxlan_tunnel_mac_addr),
        vxlan_v6_addr: reader.address("ipv6VXLANTunnelAddr", &spec.ipv6_vxlan_tunnel_addr, Family::V6),
        vxlan_v6_mac: reader.mac("vxlanTunnelMACAddrV6", &spec.vxlan_tunnel_mac_addr_v6),
    }
}

struct FieldReader<'a> {
    problems: &'a mut Vec<String>,
}

impl FieldReader<'_> {
    /// An address that a device can have.
    fn address(&mut self, field: &str, text: &str, family: Family) -> Option<IpAddr> {
        let usable = |addr: &IpAddr| {
            Family::of(*addr) == family
                && !(addr.is_unspecified() || addr.is_multicast() || addr.is_loopback())
        };
        self.read_with(field, text, |text| text.parse().ok().filter(usable))
    }

    /// A unicast Ethernet address.
    fn mac(&mut self, field: &str, text: &str) -> Option<Mac> {
        let usable = |mac: &Mac| mac.0[0] & 1 == 0 && mac.0 != [0; 6];
        self.read_with(field, text, |text| text.parse().ok().filter(usable))
    }

    fn interface(&mut self, field: &str, text: &str, family: Family) -> Option<(IpAddr, u8)> {
        let of_family = |(addr, _): &(IpAddr, u8)| Family::of(*addr) == family;
        self.read_with(field, text, |text| Cidr::parse_interface(text).ok().filter(of_family))
    }

    fn read_with<T>(&mut self, field: &str, text: &str, parse: impl Fn(&str) -> Option<T>) -> Option<T> {
        if text.is_empty() {
            return None;
        }
        let value = parse(text);
        if value.is_none() {
            self.problems.push(format!("{field} {text:?} is not understood; it counts as absent"));
        }
        value
    }
}

/// The node's address where it takes no part in BGP: the one that it detected, else the one that Kubernetes gives it.
fn fallback(node: &Node, family: Family) -> Option<(IpAddr, u8)> {
    let of_type = |wanted: &str| {
        let addresses = node.spec.addresses.iter().filter(|address| address.address_type == wanted);
        addresses
            .filter_map(|address| Cidr::parse_interface(&address.address).ok())
            .find(|(addr, _)| Family::of(*addr) == family)
    };
    of_type("CalicoNodeIP").or_else(|| of_type("InternalIP"))
}

/// Whether a block is this node's and needs a blackhole route: single addresses need none (spec 9, item 16).
fn is_own_block(cidr: Cidr, block: &IpamBlock, node: &str) -> bool {
    let ours = matches!(block.owner(), Some(AffinityOwner::Host(owner)) if owner == node);
    ours && !block.deleted && !cidr.is_host()
}
