//! With whom this node speaks: the mesh, explicit BGPPeers and their reverses (spec 6 §3.3).
//!
//! ```text
//! BGPPeers ─ global ──────────┐
//!          ─ of this node ────┼─▶ first of each (address, port) wins ─┐
//!          ─ reversed ────────┘                                       ├─▶ sorted by protocol name
//! nodes ──── mesh ────────────────────────────────────────────────────┘
//! ```

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr};

use calico_api::{Kind, ResourceKey};
use calico_net::{Asn, Family};
use smol_str::SmolStr;

use crate::birdc::{PeerKind, PeerName};
use crate::intent::{BGP_PORT, Gateway, NextHopMode, Session};
use crate::problem::Problem;
use crate::world::{NodeFacts, PeerFacts, PeerOptions, PeerScope, PeerTarget, World};

/// The sessions of one node and what came up on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    /// By protocol name.
    pub sessions: Vec<Session>,
    /// By peer.
    pub gateways: Vec<Gateway>,
    /// What was left out.
    pub problems: Vec<Problem>,
}

/// The far end of a session before it is one.
#[derive(Clone, Copy, Debug)]
struct Neighbour {
    addr: IpAddr,
    /// As given or configured; it becomes part of the name.
    port: Option<u16>,
    asn: Asn,
    cluster_id: Option<Ipv4Addr>,
    is_calico_node: bool,
}

/// Computes the sessions of the node `name`.
pub(crate) fn resolve_sessions(world: &World, name: &str, own: &NodeFacts) -> Sessions {
    let mut resolver = Resolver { world, name, own, explicit: BTreeMap::new(), out: Sessions::default() };
    resolver.add_explicit(PeerKind::Global);
    resolver.add_explicit(PeerKind::Node);
    resolver.add_reversed();
    resolver.add_mesh();
    resolver.finish()
}

struct Resolver<'a> {
    world: &'a World,
    name: &'a str,
    own: &'a NodeFacts,
    /// Explicit sessions by the pair that tells them apart.
    explicit: BTreeMap<(IpAddr, u16), Session>,
    out: Sessions,
}

impl Resolver<'_> {
    /// Sessions of the BGPPeers that are for all nodes, or of those that are for this one in particular.
    fn add_explicit(&mut self, kind: PeerKind) {
        for (peer_name, peer) in &self.world.peers {
            let wanted = match &peer.scope {
                PeerScope::Global => kind == PeerKind::Global,
                PeerScope::Node(node) => kind == PeerKind::Node && node == self.name,
                PeerScope::Selected(selector) => kind == PeerKind::Node && selector.matches(&self.own.labels),
            };
            if !wanted {
                continue;
            }
            for neighbour in self.neighbours(peer) {
                self.add(peer_name, kind, neighbour, &peer.options);
            }
        }
    }

    fn neighbours(&self, peer: &PeerFacts) -> Vec<Neighbour> {
        match &peer.target {
            PeerTarget::Nodes(selector) => self
                .world
                .nodes
                .iter()
                .filter(|(_, node)| selector.matches(&node.labels))
                .flat_map(|(name, node)| self.node_ends(name, node))
                .collect(),
            PeerTarget::Address { addr, port, asn } => {
                let node = self.world.nodes.iter().find(|(_, node)| {
                    node.addr(Family::of(*addr)) == Some(*addr) && self.world.node_as(node) == *asn
                });
                vec![match node {
                    // A Calico node listens where its configuration says, unless the peer says otherwise.
                    Some((name, node)) => Neighbour {
                        addr: *addr,
                        port: port.or_else(|| self.world.listen_port(name)),
                        asn: *asn,
                        cluster_id: node.cluster_id,
                        is_calico_node: true,
                    },
                    None => Neighbour {
                        addr: *addr,
                        port: *port,
                        asn: *asn,
                        cluster_id: None,
                        is_calico_node: false,
                    },
                }]
            }
        }
    }

    /// A Calico node as a neighbour, once for each family that it has an address in.
    fn node_ends(&self, name: &str, node: &NodeFacts) -> Vec<Neighbour> {
        let end = |addr| Neighbour {
            addr,
            port: self.world.listen_port(name),
            asn: self.world.node_as(node),
            cluster_id: node.cluster_id,
            is_calico_node: true,
        };
        Family::ALL.into_iter().filter_map(|family| node.addr(family)).map(end).collect()
    }

    /// The other ends of other nodes' BGPPeers that name this node.
    fn add_reversed(&mut self) {
        let world = self.world;
        for (peer_name, peer) in world.peers.iter().filter(|(_, peer)| peer.reverse) {
            let families: &[Family] = match &peer.target {
                PeerTarget::Nodes(selector) if selector.matches(&self.own.labels) => &Family::ALL,
                PeerTarget::Address { addr, port, asn } if self.is_me(*addr, *port, *asn) => {
                    if addr.is_ipv4() { &[Family::V4] } else { &[Family::V6] }
                }
                _ => continue,
            };
            for (node_name, node) in &world.nodes {
                let is_in_scope = match &peer.scope {
                    PeerScope::Global => true,
                    PeerScope::Node(name) => name == node_name,
                    PeerScope::Selected(selector) => selector.matches(&node.labels),
                };
                if !is_in_scope || node_name == self.name {
                    continue;
                }
                for mut end in self.node_ends(node_name, node) {
                    if families.contains(&Family::of(end.addr)) {
                        // The other end shows itself by its AS of that session; ours stays the node's.
                        end.asn = peer.options.local_as.unwrap_or(end.asn);
                        let options = PeerOptions { local_as: None, ..peer.options.clone() };
                        self.add(peer_name, PeerKind::Node, end, &options);
                    }
                }
            }
        }
    }

    fn is_me(&self, addr: IpAddr, port: Option<u16>, asn: Asn) -> bool {
        let own_port = self.world.listen_port(self.name).unwrap_or(BGP_PORT);
        self.own.addr(Family::of(addr)) == Some(addr)
            && self.world.node_as(self.own) == asn
            && port.is_none_or(|p| p == own_port)
    }

    /// Adds an explicit session, unless one to the same address and port is there.
    fn add(&mut self, peer_name: &SmolStr, kind: PeerKind, to: Neighbour, options: &PeerOptions) {
        let PeerOptions {
            local_as,
            from_node_addr,
            restart_time_secs,
            keepalive_secs,
            next_hop,
            keep_original_next_hop,
            allow_local_as,
            ttl_security_hops,
            reachable_by,
        } = options;
        let Some(own_addr) = self.own.addr(Family::of(to.addr)).filter(|own| *own != to.addr) else { return };
        if let Some(via) = *reachable_by
            && Family::of(via) != Family::of(to.addr)
        {
            let text = format!(
                "reachableBy {via} is of another family than the peer {}; no session with it",
                to.addr
            );
            self.out.problems.push(Problem { resource: bgp_peer(peer_name), text });
            return;
        }
        let local_as = local_as.unwrap_or_else(|| self.world.node_as(self.own));
        let is_external = local_as != to.asn;
        let next_hop = if *keep_original_next_hop && is_external { NextHopMode::Keep } else { *next_hop };
        let session = Session {
            name: PeerName { kind, addr: to.addr, port: to.port },
            port: to.port,
            remote_as: to.asn,
            local_as,
            own_addr,
            from_own_addr: *from_node_addr,
            passive: kind == PeerKind::Global && to.is_calico_node && is_passive(own_addr, to.addr),
            ttl_security_hops: ttl_security_hops.filter(|hops| *hops > 0),
            reflect_as: self.own.cluster_id.filter(|own| !is_external && to.cluster_id != Some(*own)),
            restart_time_secs: *restart_time_secs,
            keepalive_secs: *keepalive_secs,
            next_hop,
            allow_local_as: *allow_local_as,
        };
        if let Entry::Vacant(vacant) = self.explicit.entry((to.addr, to.port.unwrap_or(BGP_PORT))) {
            vacant.insert(session);
            // Only with its session: the gateway of a peer that lost must not carry the winner's packets. Two sessions
            // with one address share one route, which is that of the first.
            if let Some(via) = *reachable_by
                && self.out.gateways.iter().all(|gateway| gateway.peer != to.addr)
            {
                self.out.gateways.push(Gateway { peer: to.addr, via });
            }
        }
    }

    /// Sessions with every other node, unless the mesh is off. Reflectors take no part in it at either end.
    fn add_mesh(&mut self) {
        let config = self.world.cluster_config();
        if config.mesh_enabled == Some(false) || self.own.cluster_id.is_some() {
            return;
        }
        let local_as = self.world.node_as(self.own);
        let mut owners: BTreeMap<IpAddr, &SmolStr> = BTreeMap::new();
        for (name, node) in &self.world.nodes {
            if name == self.name || node.cluster_id.is_some() {
                continue;
            }
            for end in self.node_ends(name, node) {
                let Some(own_addr) = self.own.addr(Family::of(end.addr)) else { continue };
                if end.addr == own_addr {
                    let text = format!("its address {} is this node's own; no session with it", end.addr);
                    self.out.problems.push(Problem { resource: calico_node(name), text });
                    continue;
                }
                if let Some(owner) = owners.insert(end.addr, name) {
                    owners.insert(end.addr, owner);
                    let text =
                        format!("its address {} is that of {owner} too; one session for both", end.addr);
                    self.out.problems.push(Problem { resource: calico_node(name), text });
                    continue;
                }
                self.out.sessions.push(Session {
                    name: PeerName { kind: PeerKind::Mesh, addr: end.addr, port: None },
                    port: end.port,
                    // Not the cluster's: a node without an AS of its own is taken to be in ours (spec 6 §3.3, point 5).
                    remote_as: node.asn.unwrap_or(local_as),
                    local_as,
                    own_addr,
                    from_own_addr: true,
                    passive: is_passive(own_addr, end.addr),
                    ttl_security_hops: None,
                    reflect_as: None,
                    restart_time_secs: config.mesh_restart_time_secs,
                    keepalive_secs: None,
                    next_hop: NextHopMode::Auto,
                    allow_local_as: None,
                });
            }
        }
    }

    fn finish(self) -> Sessions {
        let Resolver { explicit, mut out, .. } = self;
        out.sessions.extend(explicit.into_values());
        out.sessions.sort_by_cached_key(|session| session.name.to_string());
        out.gateways.sort_unstable();
        out
    }
}

/// One end of each pair waits, so that the two do not call each other at once: the one with the lesser address **as
/// text** (spec 6 §3.3, point 7). Both ends must agree, so this cannot be improved on.
fn is_passive(own: IpAddr, peer: IpAddr) -> bool {
    peer.to_string() > own.to_string()
}

fn bgp_peer(name: &str) -> ResourceKey {
    ResourceKey { kind: Kind::BGPPeer, namespace: SmolStr::default(), name: SmolStr::new(name) }
}

fn calico_node(name: &str) -> ResourceKey {
    ResourceKey { kind: Kind::Node, namespace: SmolStr::default(), name: SmolStr::new(name) }
}

#[cfg(test)]
mod tests;
