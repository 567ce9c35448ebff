//! Pools, nodes and this node's blocks: passed on as they are, once each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use calico_api::{AffinityOwner, AllowedUse, EncapMode, IPPool, IpamBlock, Node, NodeBgp};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::change::{Change, Encap, NodeInfo, Pool};

/// Values by key, and what the consumer knows of them.
#[derive(Debug)]
struct Mirror<K, V> {
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
    fn set(&mut self, key: K, value: Option<V>) {
        match value {
            Some(value) => self.current.insert(key.clone(), value),
            None => self.current.remove(&key),
        };
        self.dirty.insert(key);
    }

    /// Reports keys whose value is not what was told: those with another value, then those without any.
    fn flush(&mut self, mut tell: impl FnMut(&K, Option<&V>)) {
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
#[derive(Debug, Default)]
pub(crate) struct Cluster {
    /// Pools by range and name: should two pools have one range, the first name counts.
    pools: BTreeMap<Cidr, BTreeMap<SmolStr, Pool>>,
    pool_ranges: BTreeMap<SmolStr, Cidr>,
    pools_told: Mirror<Cidr, Pool>,
    nodes: Mirror<SmolStr, NodeInfo>,
    blocks: Mirror<Cidr, ()>,
}

impl Cluster {
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
        self.pools_told.set(cidr, chosen);
    }

    /// Adds, replaces or removes a node.
    pub(crate) fn set_node(&mut self, name: &SmolStr, node: Option<NodeInfo>) {
        self.nodes.set(name.clone(), node);
    }

    /// Notes whether a block is this node's.
    pub(crate) fn set_block(&mut self, cidr: Cidr, ours: bool) {
        self.blocks.set(cidr, ours.then_some(()));
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
    }

    /// Whether there is nothing.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        let current = self.pools_told.current.len() + self.nodes.current.len() + self.blocks.current.len();
        current == 0 && self.pools.is_empty() && self.pool_ranges.is_empty()
    }
}

/// Reads a pool; the error names the value that is not understood.
pub(crate) fn read_pool(pool: &IPPool) -> Result<(Cidr, Pool), String> {
    let spec = &pool.spec;
    let cidr = spec.cidr.parse().map_err(|_| format!("cidr {:?} is not understood", spec.cidr))?;
    let encap = |mode: &Option<EncapMode>| match mode {
        None | Some(EncapMode::Never) => Ok(Encap::Never),
        Some(EncapMode::Always) => Ok(Encap::Always),
        Some(EncapMode::CrossSubnet) => Ok(Encap::CrossSubnet),
        Some(EncapMode::Other(word)) => Err(format!("encapsulation {word:?} is not understood")),
    };
    let uses = &spec.allowed_uses;
    let load_balancer_only =
        !uses.is_empty() && uses.iter().all(|purpose| *purpose == AllowedUse::LoadBalancer);
    Ok((
        cidr,
        Pool {
            nat_outgoing: spec.nat_outgoing,
            ipip: encap(&spec.ipip_mode)?,
            vxlan: encap(&spec.vxlan_mode)?,
            load_balancer_only,
        },
    ))
}

/// Reads a node. Each field that is not understood counts as absent and is named in `problems`.
pub(crate) fn read_node(node: &Node, problems: &mut Vec<String>) -> NodeInfo {
    let spec = &node.spec;
    let no_bgp = NodeBgp::default();
    let bgp = spec.bgp.as_ref().unwrap_or(&no_bgp);
    let mut reader = FieldReader { problems };
    NodeInfo {
        v4: reader.address("bgp.ipv4Address", &bgp.ipv4_address).or_else(|| fallback(node, Family::V4)),
        v6: reader.address("bgp.ipv6Address", &bgp.ipv6_address).or_else(|| fallback(node, Family::V6)),
        ipip_addr: reader.read("bgp.ipv4IPIPTunnelAddr", &bgp.ipv4_ipip_tunnel_addr),
        vxlan_v4_addr: reader.read("ipv4VXLANTunnelAddr", &spec.ipv4_vxlan_tunnel_addr),
        vxlan_v4_mac: reader.read("vxlanTunnelMACAddr", &spec.vxlan_tunnel_mac_addr),
        vxlan_v6_addr: reader.read("ipv6VXLANTunnelAddr", &spec.ipv6_vxlan_tunnel_addr),
        vxlan_v6_mac: reader.read("vxlanTunnelMACAddrV6", &spec.vxlan_tunnel_mac_addr_v6),
    }
}

struct FieldReader<'a> {
    problems: &'a mut Vec<String>,
}

impl FieldReader<'_> {
    fn read<T: std::str::FromStr>(&mut self, field: &str, text: &str) -> Option<T> {
        self.read_with(field, text, |text| text.parse().ok())
    }

    fn address(&mut self, field: &str, text: &str) -> Option<(IpAddr, u8)> {
        self.read_with(field, text, |text| Cidr::parse_interface(text).ok())
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
pub(crate) fn is_own_block(cidr: Cidr, block: &IpamBlock, node: &str) -> bool {
    let ours = matches!(&block.affinity, Some(AffinityOwner::Host(owner)) if owner == node);
    ours && !block.deleted && !cidr.is_host()
}
