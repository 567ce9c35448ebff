//! Whose routes reach whom: the rules of propagation, without a daemon.
//!
//! A node tells everybody of its own routes and of those from another AS. What it has from a peer of its own AS it tells
//! peers of other ASes, and within the AS only from clients to all and from all to clients (RFC 4456 §6). It takes no
//! route that has been through its cluster (§8) or, more often than it may, through its AS (RFC 4271 §9.1.2).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};

use calico_net::{Asn, Family};
use smol_str::SmolStr;

use super::{NodePlan, OtherEnd, Plan, PlannedSession};

/// How a node came by a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    /// Its own, or from another AS.
    Free,
    /// From a client of its own AS.
    Client,
    /// From another peer of its own AS.
    Internal,
}

/// A route at a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    node: usize,
    source: Source,
    /// CLUSTER_LIST.
    clusters: BTreeSet<Ipv4Addr>,
    /// AS_PATH.
    path: Vec<Asn>,
}

/// A session in one direction.
#[derive(Clone, Copy, Debug)]
struct Edge {
    to: usize,
    local_as: Asn,
    remote_as: Asn,
    /// Who gets it is a client of who sends.
    to_client: bool,
    /// Who sends is a client of who gets it.
    from_client: bool,
    /// How often the getter's AS may be in the path.
    allowed_loops: usize,
}

/// Propagation in one family.
pub(super) struct Reach<'a> {
    names: Vec<&'a SmolStr>,
    clusters: Vec<Option<Ipv4Addr>>,
    /// By who sends.
    edges: Vec<Vec<Edge>>,
    /// Which have sessions with others' routers.
    borders: BTreeSet<usize>,
    /// Whether reflectors look for their own cluster in what they get.
    heed_clusters: bool,
}

impl<'a> Reach<'a> {
    /// Of the nodes that have an address of the family.
    pub(super) fn new(plan: &'a Plan, family: Family, heed_clusters: bool) -> Reach<'a> {
        let nodes: Vec<(&SmolStr, &NodePlan)> = plan
            .nodes
            .iter()
            .filter(|(_, node)| node.addrs.iter().any(|addr| Family::of(*addr) == family))
            .collect();
        let places: BTreeMap<&SmolStr, usize> =
            nodes.iter().enumerate().map(|(n, (name, _))| (*name, n)).collect();
        // The other ends, by whose they are and with whom.
        let mut ends: BTreeMap<(usize, IpAddr, bool, Asn), &PlannedSession> = BTreeMap::new();
        let mut borders = BTreeSet::new();
        for (place, (_, node)) in nodes.iter().enumerate() {
            for session in node.sessions.iter().filter(|session| session.family() == family) {
                ends.insert((place, session.name.addr, session.is_of_mesh(), session.local_as), session);
                if session.other_end == OtherEnd::Outside {
                    borders.insert(place);
                }
            }
        }
        let edge = |session: &PlannedSession| {
            let to = *places.get(session.node.as_ref()?)?;
            let theirs = ends.get(&(to, session.own_addr, session.is_of_mesh(), session.remote_as))?;
            Some(Edge {
                to,
                local_as: session.local_as,
                remote_as: session.remote_as,
                to_client: session.reflect_as.is_some(),
                from_client: theirs.reflect_as.is_some(),
                allowed_loops: theirs.allow_local_as.into(),
            })
        };
        let agreed =
            |session: &&PlannedSession| session.family() == family && session.other_end == OtherEnd::Agrees;
        let edges = nodes
            .iter()
            .map(|(_, node)| node.sessions.iter().filter(agreed).filter_map(edge).collect())
            .collect();
        Reach {
            names: nodes.iter().map(|(name, _)| *name).collect(),
            clusters: nodes.iter().map(|(_, node)| node.cluster_id).collect(),
            edges,
            borders,
            heed_clusters,
        }
    }

    /// The nodes that routes of `origin` reach, itself among them.
    fn from(&self, origin: usize) -> BTreeSet<usize> {
        let first = Held { node: origin, source: Source::Free, clusters: BTreeSet::new(), path: Vec::new() };
        let mut reached = BTreeSet::from([origin]);
        let mut seen = BTreeSet::from([first.clone()]);
        let mut queue = VecDeque::from([first]);
        while let Some(held) = queue.pop_front() {
            for next in self.edges[held.node].iter().filter_map(|edge| self.tell(&held, edge)) {
                reached.insert(next.node);
                if !seen.contains(&next) {
                    seen.insert(next.clone());
                    queue.push_back(next);
                }
            }
        }
        reached
    }

    /// What the neighbour makes of a route that a node has; `None` if it does not get it, or drops it.
    fn tell(&self, held: &Held, edge: &Edge) -> Option<Held> {
        let Edge { to, local_as, remote_as, to_client, from_client, allowed_loops } = *edge;
        if local_as != remote_as {
            let mut path = held.path.clone();
            path.push(local_as);
            let loops = path.iter().filter(|asn| **asn == remote_as).count();
            return (loops <= allowed_loops).then_some(Held {
                node: to,
                source: Source::Free,
                clusters: BTreeSet::new(),
                path,
            });
        }
        if held.source == Source::Internal && !to_client {
            return None;
        }
        let mut clusters = held.clusters.clone();
        if held.source != Source::Free {
            clusters.extend(self.clusters[held.node]);
        }
        if self.heed_clusters && self.clusters[to].is_some_and(|id| clusters.contains(&id)) {
            return None;
        }
        let source = if from_client { Source::Client } else { Source::Internal };
        Some(Held { node: to, source, clusters, path: held.path.clone() })
    }
}

/// Pairs of nodes, the routes of the first of which do not reach the second.
pub(super) struct Holes<'a> {
    /// Not at all.
    pub none: Vec<(&'a SmolStr, &'a SmolStr)>,
    /// At most by way of others' routers.
    pub outside: Vec<(&'a SmolStr, &'a SmolStr)>,
}

/// All holes of a family.
pub(super) fn holes<'a>(reach: &Reach<'a>) -> Holes<'a> {
    let Reach { names, borders, .. } = reach;
    let from: Vec<BTreeSet<usize>> = (0..names.len()).map(|node| reach.from(node)).collect();
    let behind_borders: BTreeSet<usize> = borders.iter().flat_map(|border| &from[*border]).copied().collect();
    let mut holes = Holes { none: Vec::new(), outside: Vec::new() };
    for (origin, reached) in from.iter().enumerate() {
        let leaves = !reached.is_disjoint(borders);
        for node in (0..names.len()).filter(|node| !reached.contains(node)) {
            let list =
                if leaves && behind_borders.contains(&node) { &mut holes.outside } else { &mut holes.none };
            list.push((names[origin], names[node]));
        }
    }
    holes
}
