//! The sessions of all nodes as one graph, and what is wrong with it before a packet says so.
//!
//! ```text
//! World ──sessions of every node──▶ Plan ──▶ who speaks with whom
//!                                    └─reach (RFC 4271, 4456)──▶ warnings: holes, one-sided sessions, mistakes
//! ```
//!
//! Both ends of each session are computed as their own nodes would, so what only one end knows of shows itself. Peers
//! that are no nodes of ours are the end of the map: what depends on them is said to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use calico_net::{Asn, Family};
use smol_str::SmolStr;

use crate::birdc::{PeerKind, PeerName};
use crate::intent::{BGP_PORT, Session};
use crate::sessions::resolve_sessions;
use crate::world::World;

mod reach;
mod warnings;

/// From how many nodes on a full mesh is too much: each has a session with every other.
pub const LARGE_MESH: usize = 100;

/// Who speaks with whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Every node.
    pub nodes: BTreeMap<SmolStr, NodePlan>,
    /// Whether nodes that are no reflectors are meshed.
    pub mesh_enabled: bool,
    /// What is wrong, the gravest kinds first.
    pub warnings: Vec<Warning>,
}

/// A node's part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePlan {
    /// Its AS.
    pub asn: Asn,
    /// Its cluster, if it is a reflector.
    pub cluster_id: Option<Ipv4Addr>,
    /// It takes part in the mesh.
    pub in_mesh: bool,
    /// Its addresses, one of a family.
    pub addrs: Vec<IpAddr>,
    /// Its sessions as it sees them.
    pub sessions: Vec<PlannedSession>,
}

/// A session as one end sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedSession {
    /// Kind, address and port of the neighbour.
    pub name: PeerName,
    /// The node that has the address; `None` where the neighbour is none of ours.
    pub node: Option<SmolStr>,
    /// The neighbour's AS.
    pub remote_as: Asn,
    /// Our AS in it.
    pub local_as: Asn,
    /// Our address in it.
    pub own_addr: IpAddr,
    /// The neighbour is a client of this cluster of ours.
    pub reflect_as: Option<Ipv4Addr>,
    /// It waits for the neighbour's call.
    pub passive: bool,
    /// How often our own AS may occur in a path.
    pub allow_local_as: u8,
    /// Whether the neighbour has the other end.
    pub other_end: OtherEnd,
}

/// What becomes of a session at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OtherEnd {
    /// It is there, and agrees.
    Agrees,
    /// The neighbour has no session with our address.
    Missing,
    /// It is there with other AS numbers.
    OtherAs,
    /// Both wait for the other's call.
    BothWait,
    /// It is none of our nodes: nobody knows.
    Outside,
}

impl PlannedSession {
    /// The family of the session.
    pub fn family(&self) -> Family {
        Family::of(self.name.addr)
    }

    /// Whether both ends are in one AS.
    pub fn is_internal(&self) -> bool {
        self.local_as == self.remote_as
    }

    /// Whether it is of the mesh: two nodes may have one of the mesh and one of a BGPPeer.
    pub fn is_of_mesh(&self) -> bool {
        self.name.kind == PeerKind::Mesh
    }
}

/// Something that is wrong, or will be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Warning {
    /// What kind of thing.
    pub kind: WarningKind,
    /// A sentence that names what it is about.
    pub text: String,
    /// The nodes that it is about; of many the first ones.
    pub nodes: Vec<SmolStr>,
}

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WarningKind {
    /// Routes of a node do not reach another.
    Hole,
    /// Reflectors take each other's routes for loops.
    ClusterLoop,
    /// One end has a session that the other has not.
    OneSided,
    /// The ends disagree on their AS numbers.
    AsMismatch,
    /// Both ends wait.
    BothWait,
    /// Two nodes have one address.
    SameAddress,
    /// A node has no address, so no sessions.
    NoAddress,
    /// Reflectors of one cluster without a session between them.
    ClusterNotMeshed,
    /// A reflector without clients.
    NoClients,
    /// The path is by way of others' routers.
    Outside,
    /// A mesh of too many nodes.
    LargeMesh,
    /// A resource that cannot be used, wholly or in part.
    Unusable,
}

impl WarningKind {
    /// One word for programs.
    pub fn word(self) -> &'static str {
        match self {
            WarningKind::Hole => "Hole",
            WarningKind::ClusterLoop => "ClusterLoop",
            WarningKind::OneSided => "OneSided",
            WarningKind::AsMismatch => "ASMismatch",
            WarningKind::BothWait => "BothWait",
            WarningKind::SameAddress => "SameAddress",
            WarningKind::NoAddress => "NoAddress",
            WarningKind::ClusterNotMeshed => "ClusterNotMeshed",
            WarningKind::NoClients => "NoClients",
            WarningKind::Outside => "Outside",
            WarningKind::LargeMesh => "LargeMesh",
            WarningKind::Unusable => "Unusable",
        }
    }

    /// Whether packets are lost by it.
    pub fn is_grave(self) -> bool {
        matches!(
            self,
            WarningKind::Hole
                | WarningKind::ClusterLoop
                | WarningKind::OneSided
                | WarningKind::AsMismatch
                | WarningKind::BothWait
                | WarningKind::SameAddress
        )
    }
}

impl Plan {
    /// Computes the sessions of every node, and what is wrong with them.
    pub fn of(world: &World) -> Plan {
        let mut owners: BTreeMap<IpAddr, Vec<&SmolStr>> = BTreeMap::new();
        for (name, node) in &world.nodes {
            for addr in Family::ALL.into_iter().filter_map(|family| node.addr(family)) {
                owners.entry(addr).or_default().push(name);
            }
        }
        let mut problems = BTreeSet::new();
        let mut nodes: BTreeMap<SmolStr, NodePlan> = BTreeMap::new();
        let mesh_enabled = world.cluster_config().mesh_enabled != Some(false);
        for (name, node) in &world.nodes {
            let resolved = resolve_sessions(world, name, node);
            problems.extend(resolved.problems);
            let owner = |session: &Session| {
                let port = session.port.unwrap_or(BGP_PORT);
                let listens = |node: &&&SmolStr| world.listen_port(node).unwrap_or(BGP_PORT) == port;
                owners.get(&session.name.addr)?.iter().find(listens).map(|node| (*node).clone())
            };
            let sessions = resolved.sessions.iter().map(|session| planned(session, owner(session))).collect();
            let plan = NodePlan {
                asn: world.node_as(node),
                cluster_id: node.cluster_id,
                in_mesh: mesh_enabled && node.is_in_mesh(),
                addrs: Family::ALL.into_iter().filter_map(|family| node.addr(family)).collect(),
                sessions,
            };
            nodes.insert(name.clone(), plan);
        }
        match_ends(&mut nodes);
        let mut plan = Plan { nodes, mesh_enabled, warnings: Vec::new() };
        plan.warnings = warnings::of(&plan, &problems);
        plan
    }

    /// Sessions between nodes of ours, each counted once.
    pub fn sessions_between_nodes(&self) -> usize {
        let ends = |end: fn(&PlannedSession) -> bool| {
            self.nodes.values().flat_map(|n| &n.sessions).filter(move |s| end(s)).count()
        };
        // Both ends of one that agrees are listed; of the others the one end that is there.
        ends(|s| matches!(s.other_end, OtherEnd::Agrees)).div_ceil(2)
            + ends(|s| matches!(s.other_end, OtherEnd::Missing | OtherEnd::OtherAs | OtherEnd::BothWait))
    }

    /// Sessions with others' routers.
    pub fn sessions_with_outside(&self) -> usize {
        self.nodes.values().flat_map(|n| &n.sessions).filter(|s| s.other_end == OtherEnd::Outside).count()
    }

    /// How many sessions a full mesh of all nodes would have, in the families that they have.
    pub fn sessions_of_full_mesh(&self) -> usize {
        Family::ALL
            .into_iter()
            .map(|family| {
                let of_family = |node: &&NodePlan| node.addrs.iter().any(|addr| Family::of(*addr) == family);
                let count = self.nodes.values().filter(of_family).count();
                count * count.saturating_sub(1) / 2
            })
            .sum()
    }

    /// How many nodes are meshed.
    pub fn mesh_size(&self) -> usize {
        self.nodes.values().filter(|node| node.in_mesh && !node.addrs.is_empty()).count()
    }

    /// Those warnings by which packets are lost.
    pub fn grave(&self) -> impl Iterator<Item = &Warning> {
        self.warnings.iter().filter(|warning| warning.kind.is_grave())
    }

    /// Adds what cannot be used of the resources that the world is made of.
    pub fn note_unusable(&mut self, problems: &[crate::Problem]) {
        self.warnings.extend(problems.iter().map(|problem| Warning {
            kind: WarningKind::Unusable,
            text: problem.to_string(),
            nodes: Vec::new(),
        }));
        self.warnings.sort_unstable();
        self.warnings.dedup();
    }
}

fn planned(session: &Session, node: Option<SmolStr>) -> PlannedSession {
    let Session { name, remote_as, local_as, own_addr, passive, reflect_as, allow_local_as, .. } = session;
    PlannedSession {
        name: *name,
        node,
        remote_as: *remote_as,
        local_as: *local_as,
        own_addr: *own_addr,
        reflect_as: *reflect_as,
        passive: *passive,
        allow_local_as: allow_local_as.unwrap_or(0),
        other_end: OtherEnd::Outside,
    }
}

/// Whose session, with which address, whether of the mesh.
type Towards = (SmolStr, IpAddr, bool);

/// Finds each session's other end. A session of the mesh has one of the mesh, an explicit one an explicit one.
fn match_ends(nodes: &mut BTreeMap<SmolStr, NodePlan>) {
    let asns: BTreeMap<SmolStr, Asn> = nodes.iter().map(|(name, node)| (name.clone(), node.asn)).collect();
    let mut ends: BTreeMap<Towards, Vec<(Asn, Asn, bool)>> = BTreeMap::new();
    for (name, node) in nodes.iter() {
        for session in &node.sessions {
            let towards = (name.clone(), session.name.addr, session.is_of_mesh());
            ends.entry(towards).or_default().push((session.local_as, session.remote_as, session.passive));
        }
    }
    for session in nodes.values_mut().flat_map(|node| &mut node.sessions) {
        let Some(node) = &session.node else { continue };
        let others = ends.get(&(node.clone(), session.own_addr, session.is_of_mesh()));
        let others = others.map(Vec::as_slice).unwrap_or_default();
        let agreeing = others
            .iter()
            .find(|(local, remote, _)| *local == session.remote_as && *remote == session.local_as);
        session.other_end = match agreeing {
            Some((_, _, passive)) if *passive && session.passive => OtherEnd::BothWait,
            Some(_) => OtherEnd::Agrees,
            // A node does not know itself under another AS than its own: it has no other end of such a session.
            None if others.is_empty() && asns.get(node) == Some(&session.remote_as) => OtherEnd::Missing,
            None => OtherEnd::OtherAs,
        };
    }
}

#[cfg(test)]
mod tests;
