//! With whom this node speaks: the mesh, explicit BGPPeers and their reverses (spec 6 §3.3).
//!
//! Two nodes may have two sessions at once, one of the mesh and one of a BGPPeer: so a mesh becomes reflectors without
//! a moment between. Each end tells connections apart by the order of its sessions, the first that fits takes it. So
//! the end that waits in the mesh has the mesh first and calls for the other; the end that calls in the mesh has the
//! other first and waits for it. Whether an end waits must not depend on the other session's being there: a session
//! whose settings change is restarted.
//!
//! ```text
//! BGPPeers ─ global ──────────┐
//!          ─ of this node ────┼─▶ first of each (address, port) wins ─┐
//!          ─ of workloads ────┤                                       ├─▶ sorted by protocol name
//!          ─ reversed ────────┘                                       │
//! nodes ──── mesh ────────────────────────────────────────────────────┘
//! ```

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use calico_api::Kind;
use calico_net::{Asn, Family};
use smol_str::SmolStr;

use crate::birdc::{PeerKind, PeerName};
use crate::intent::{BGP_PORT, Gateway, NextHopMode, Session};
use crate::password::{Password, SecretRef};
use crate::problem::Problem;
use crate::resolve::problem;
use crate::world::{NodeFacts, PeerFacts, PeerOptions, PeerScope, PeerTarget, World};

/// The sessions of one node and what came up on the way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sessions {
    /// By protocol name.
    pub sessions: Vec<Session>,
    /// By peer.
    pub gateways: Vec<Gateway>,
    /// The Secrets that were looked for.
    pub secrets: BTreeSet<SmolStr>,
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
    /// It is a Calico node that has the other end of this session by a BGPPeer, and listens where we would call.
    calls_back: bool,
}

/// Computes the sessions of the node `name`.
pub(crate) fn resolve_sessions(world: &World, name: &str, own: &NodeFacts) -> Sessions {
    let mut resolver = Resolver {
        world,
        name,
        own,
        is_named_by_all: false,
        explicit: BTreeMap::new(),
        out: Sessions::default(),
    };
    resolver.is_named_by_all = resolver.is_named_by_all();
    resolver.add_explicit(PeerKind::Global);
    resolver.add_explicit(PeerKind::Node);
    resolver.add_workloads();
    resolver.add_reversed();
    resolver.add_mesh();
    resolver.finish()
}

struct Resolver<'a> {
    world: &'a World,
    name: &'a str,
    own: &'a NodeFacts,
    /// A BGPPeer of all nodes names this one: the other ends of its sessions may be global ones, some of which wait.
    is_named_by_all: bool,
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
            let neighbours = self.neighbours(peer);
            self.add_all(peer_name, &peer.options, neighbours.into_iter().map(|to| (kind, to)));
        }
    }

    /// Sessions with workloads of this node. They are the ones that connect.
    fn add_workloads(&mut self) {
        let world = self.world;
        for (peer_name, peer) in &world.peers {
            let PeerTarget::Workloads { selector, asn } = &peer.target else { continue };
            let wanted = match &peer.scope {
                PeerScope::Global => true,
                PeerScope::Node(node) => node == self.name,
                PeerScope::Selected(selector) => selector.matches(&self.own.labels),
            };
            if !wanted {
                continue;
            }
            let selected = world.workloads.values().filter(|workload| selector.matches(&workload.labels));
            let ends = selected.flat_map(|workload| &workload.addrs).map(|addr| Neighbour {
                addr: addr.addr(),
                port: None,
                asn: *asn,
                cluster_id: None,
                is_calico_node: false,
                calls_back: false,
            });
            // Whatever address of the node the workload was given to connect to.
            let options = PeerOptions { from_node_addr: false, ..peer.options.clone() };
            self.add_all(peer_name, &options, ends.map(|to| (PeerKind::LocalWorkload, to)));
        }
    }

    /// Adds the sessions of a BGPPeer, unless a filter or the password of it is unusable.
    fn add_all(
        &mut self,
        peer_name: &SmolStr,
        options: &PeerOptions,
        neighbours: impl Iterator<Item = (PeerKind, Neighbour)>,
    ) {
        let mut neighbours = neighbours.peekable();
        if neighbours.peek().is_none() {
            return;
        }
        let missing =
            options.filters.iter().enumerate().find(|(_, name)| !self.world.filters.contains_key(*name));
        if let Some((index, name)) = missing {
            let text =
                format!("filters[{index}]: there is no usable BGPFilter {name}; no session comes of it");
            self.complain(problem(Kind::BGPPeer, peer_name, text));
            return;
        }
        let about = |text| problem(Kind::BGPPeer, peer_name, text);
        let Ok(password) = self.password(options.password.as_ref(), "password", about) else { return };
        for (kind, to) in neighbours {
            self.add(peer_name, kind, to, options, password.clone());
        }
    }

    /// Looks a password up. One that is absent is reported, and the session goes without it (spec 6 §3.3, point 10); with
    /// one that cannot be used there is no session, and it is an error.
    fn password(
        &mut self,
        reference: Option<&SecretRef>,
        field: &str,
        about: impl Fn(String) -> Problem,
    ) -> Result<Option<Password>, ()> {
        let Some(SecretRef { name, key, optional }) = reference else { return Ok(None) };
        self.out.secrets.insert(name.clone());
        let secret = self.world.secrets.get(name);
        let absent = match secret.map(|data| data.0.get(key)) {
            Some(Some(bytes)) => {
                return Password::new(bytes).map(Some).map_err(|text| {
                    let text = format!(
                        "{field}.secretKeyRef: the key {key} of the Secret {name} {text}; no session comes of it"
                    );
                    self.complain(about(text));
                });
            }
            Some(None) => format!("the Secret {name} has no key {key}"),
            None => format!("there is no Secret {name}"),
        };
        if !optional {
            self.complain(about(format!(
                "{field}.secretKeyRef: {absent}; the session goes without a password"
            )));
        }
        Ok(None)
    }

    /// Notes a problem once: a BGPPeer and its reverses may come to the same one.
    fn complain(&mut self, problem: Problem) {
        if !self.out.problems.contains(&problem) {
            self.out.problems.push(problem);
        }
    }

    fn neighbours(&self, peer: &PeerFacts) -> Vec<Neighbour> {
        match &peer.target {
            PeerTarget::Workloads { .. } => Vec::new(),
            PeerTarget::Nodes(selector) => self
                .world
                .nodes
                .iter()
                .filter(|(_, node)| selector.matches(&node.labels))
                .flat_map(|(name, node)| self.node_ends(name, node))
                .map(|end| Neighbour { calls_back: peer.reverse, ..end })
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
                        calls_back: peer.reverse
                            && port.is_none_or(|p| p == self.world.listen_port(name).unwrap_or(BGP_PORT)),
                    },
                    None => Neighbour {
                        addr: *addr,
                        port: *port,
                        asn: *asn,
                        cluster_id: None,
                        is_calico_node: false,
                        calls_back: false,
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
            calls_back: true,
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
            let mut ends = Vec::new();
            for (node_name, node) in &world.nodes {
                let is_in_scope = match &peer.scope {
                    PeerScope::Global => true,
                    PeerScope::Node(name) => name == node_name,
                    PeerScope::Selected(selector) => selector.matches(&node.labels),
                };
                if is_in_scope && node_name != self.name {
                    let of_family = |end: &Neighbour| families.contains(&Family::of(end.addr));
                    ends.extend(self.node_ends(node_name, node).into_iter().filter(of_family));
                }
            }
            // The other end shows itself by its AS of that session; ours stays the node's.
            for end in &mut ends {
                end.asn = peer.options.local_as.unwrap_or(end.asn);
            }
            let options = PeerOptions { local_as: None, ..peer.options.clone() };
            self.add_all(peer_name, &options, ends.into_iter().map(|end| (PeerKind::Node, end)));
        }
    }

    fn is_named_by_all(&self) -> bool {
        self.world.peers.values().filter(|peer| peer.scope == PeerScope::Global).any(|peer| {
            match &peer.target {
                PeerTarget::Nodes(selector) => selector.matches(&self.own.labels),
                PeerTarget::Address { addr, port, asn } => self.is_me(*addr, *port, *asn),
                PeerTarget::Workloads { .. } => false,
            }
        })
    }

    fn is_me(&self, addr: IpAddr, port: Option<u16>, asn: Asn) -> bool {
        let own_port = self.world.listen_port(self.name).unwrap_or(BGP_PORT);
        self.own.addr(Family::of(addr)) == Some(addr)
            && self.world.node_as(self.own) == asn
            && port.is_none_or(|p| p == own_port)
    }

    /// Adds an explicit session, unless one to the same address and port is there.
    fn add(
        &mut self,
        peer_name: &SmolStr,
        kind: PeerKind,
        to: Neighbour,
        options: &PeerOptions,
        password: Option<Password>,
    ) {
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
            filters,
            password: _,
            bfd,
            long_lived,
        } = options;
        let Some(own_addr) = self.own.addr(Family::of(to.addr)).filter(|own| *own != to.addr) else { return };
        if let Some(via) = *reachable_by
            && Family::of(via) != Family::of(to.addr)
        {
            let text = format!(
                "reachableBy: {via} is of another family than the peer {}; no session with it",
                to.addr
            );
            self.complain(problem(Kind::BGPPeer, peer_name, text));
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
            passive: match kind {
                PeerKind::Global => to.is_calico_node && is_passive(own_addr, to.addr),
                PeerKind::LocalWorkload => true,
                // The other way round than in the mesh: see the head of this file. Calico lets both ends call.
                PeerKind::Node => {
                    let is_called = to.calls_back && !self.is_named_by_all && reachable_by.is_none();
                    // Where the kernel chooses the source, a call may come from an address that this end does not know.
                    is_called && *from_node_addr && is_passive(to.addr, own_addr)
                }
                PeerKind::Mesh => false,
            },
            ttl_security_hops: ttl_security_hops.filter(|hops| *hops > 0),
            reflect_as: self.own.cluster_id.filter(|own| !is_external && to.cluster_id != Some(*own)),
            restart_time_secs: *restart_time_secs,
            keepalive_secs: *keepalive_secs,
            next_hop,
            allow_local_as: *allow_local_as,
            filters: filters.clone(),
            password,
            bfd: *bfd,
            long_lived: *long_lived,
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
        if config.mesh_enabled == Some(false) || !self.own.is_in_mesh() {
            return;
        }
        let about = |text| problem(Kind::BGPConfiguration, "default", text);
        let password = self.password(config.mesh_password.as_ref(), "nodeMeshPassword", about);
        let Ok(password) = password else { return };
        let local_as = self.world.node_as(self.own);
        let mut owners: BTreeMap<IpAddr, &SmolStr> = BTreeMap::new();
        for (name, node) in &self.world.nodes {
            if name == self.name || !node.is_in_mesh() {
                continue;
            }
            for end in self.node_ends(name, node) {
                let Some(own_addr) = self.own.addr(Family::of(end.addr)) else { continue };
                if end.addr == own_addr {
                    let text = format!("its address {} is this node's own; no session with it", end.addr);
                    self.out.problems.push(problem(Kind::Node, name, text));
                    continue;
                }
                if let Some(owner) = owners.insert(end.addr, name) {
                    owners.insert(end.addr, owner);
                    let text =
                        format!("its address {} is that of {owner} too; one session for both", end.addr);
                    self.out.problems.push(problem(Kind::Node, name, text));
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
                    filters: Vec::new(),
                    password: password.clone(),
                    bfd: config.mesh_bfd,
                    long_lived: config.mesh_long_lived,
                });
            }
        }
    }

    fn finish(self) -> Sessions {
        let Resolver { explicit, mut out, .. } = self;
        out.sessions.extend(explicit.into_values());
        // Those that wait beside a session of the mesh come first: a daemon puts a new session behind the one before it
        // in the configuration, but never moves those that it has.
        out.sessions.sort_by_cached_key(|session| {
            let Session { name, passive, .. } = session;
            (name.kind != PeerKind::Node || !passive, name.to_string())
        });
        out.gateways.sort_unstable();
        out
    }
}

/// One end of each pair waits, so that the two do not call each other at once: the one with the lesser address **as
/// text** (spec 6 §3.3, point 7). Both ends must agree, so this cannot be improved on.
fn is_passive(own: IpAddr, peer: IpAddr) -> bool {
    peer.to_string() > own.to_string()
}

#[cfg(test)]
mod tests;
