//! What is wrong with a plan, in sentences.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use calico_net::Family;
use smol_str::SmolStr;

use super::reach::{Holes, Reach, holes};
use super::{LARGE_MESH, OtherEnd, Plan, Warning, WarningKind};
use crate::problem::Problem;

/// How many pairs or nodes a sentence names.
const EXAMPLES: usize = 3;

pub(super) fn of(plan: &Plan, problems: &BTreeSet<Problem>) -> Vec<Warning> {
    let mut warnings = Vec::new();
    add_holes(plan, &mut warnings);
    add_ends(plan, &mut warnings);
    add_addresses(plan, &mut warnings);
    add_clusters(plan, &mut warnings);
    let size = plan.mesh_size();
    if size > LARGE_MESH {
        let text = format!(
            "the mesh has {size} nodes, each with {} sessions: from {LARGE_MESH} nodes on reflectors are better \
             (calicoctl bgp make-reflectors)",
            size - 1
        );
        warnings.push(Warning { kind: WarningKind::LargeMesh, text, nodes: Vec::new() });
    }
    // Of addresses that are there twice the plan has a sentence of its own.
    let is_said = |p: &&Problem| p.resource.kind == calico_api::Kind::Node;
    // Nobody but the nodes reads Secrets, so here each looks absent.
    let is_of_secrets = |p: &&Problem| p.text.contains("secretKeyRef: ");
    let own = problems.iter().filter(|p| !is_said(p) && !is_of_secrets(p));
    warnings.extend(own.map(|problem| Warning {
        kind: WarningKind::Unusable,
        text: problem.to_string(),
        nodes: Vec::new(),
    }));
    warnings.sort_unstable();
    warnings.dedup();
    warnings
}

fn add_holes(plan: &Plan, warnings: &mut Vec<Warning>) {
    for family in Family::ALL {
        let Holes { none, outside } = holes(&Reach::new(plan, family, true));
        if none.is_empty() && outside.is_empty() {
            continue;
        }
        let lenient: BTreeSet<_> = if none.is_empty() {
            BTreeSet::new()
        } else {
            holes(&Reach::new(plan, family, false)).none.into_iter().collect()
        };
        let (holes, loops): (Vec<_>, Vec<_>) = none.into_iter().partition(|pair| lenient.contains(pair));
        warnings.extend(pairs(WarningKind::Hole, &holes, |some, count| {
            format!("{family}: routes of {some} have no path of sessions ({count})")
        }));
        warnings.extend(pairs(WarningKind::ClusterLoop, &loops, |some, count| {
            format!(
                "{family}: routes of {some} are dropped by a reflector that finds its own cluster id in them: reflectors \
                 that pass routes to each other need ids of their own, or all clients of one also the other ({count})"
            )
        }));
        warnings.extend(pairs(WarningKind::Outside, &outside, |some, count| {
            format!(
                "{family}: routes of {some} travel by way of routers that are not nodes, if at all ({count})"
            )
        }));
    }
}

/// A sentence about pairs, unless there are none. A pair both of whose directions are concerned is named once.
fn pairs(
    kind: WarningKind,
    pairs: &[(&SmolStr, &SmolStr)],
    text: impl FnOnce(&str, &str) -> String,
) -> Option<Warning> {
    if pairs.is_empty() {
        return None;
    }
    let all: BTreeSet<_> = pairs.iter().copied().collect();
    let named: Vec<_> = pairs.iter().filter(|(a, b)| a < b || !all.contains(&(*b, *a))).collect();
    let some: Vec<String> = named
        .iter()
        .take(EXAMPLES)
        .map(|(a, b)| format!("{a} {} {b}", if all.contains(&(*b, *a)) { "and" } else { "to" }))
        .collect();
    let more = if named.len() > EXAMPLES { ", …" } else { "" };
    let count = if named.len() == 1 { "1 pair".to_owned() } else { format!("{} pairs", named.len()) };
    let nodes: BTreeSet<SmolStr> =
        named.iter().take(EXAMPLES).flat_map(|(a, b)| [(*a).clone(), (*b).clone()]).collect();
    let text = text(&format!("{}{more}", some.join(", ")), &count);
    Some(Warning { kind, text, nodes: nodes.into_iter().collect() })
}

fn add_ends(plan: &Plan, warnings: &mut Vec<Warning>) {
    for (name, node) in &plan.nodes {
        for session in &node.sessions {
            let Some(other) = &session.node else { continue };
            let (addr, own) = (session.name.addr, session.own_addr);
            let (kind, text) = match session.other_end {
                OtherEnd::Agrees | OtherEnd::Outside => continue,
                OtherEnd::Missing => {
                    let text = format!(
                        "{name} has a session with {other} ({addr}), but {other} has none with {own}"
                    );
                    (WarningKind::OneSided, text)
                }
                OtherEnd::OtherAs => {
                    let text = format!(
                        "{name}, AS {}, takes {other} ({addr}) for AS {}, but {other} does not see itself so: the \
                         session cannot come up",
                        session.local_as, session.remote_as
                    );
                    (WarningKind::AsMismatch, text)
                }
                OtherEnd::BothWait => {
                    let text = format!("{name} and {other} ({addr}) wait for each other's call");
                    (WarningKind::BothWait, text)
                }
            };
            warnings.push(Warning { kind, text, nodes: vec![name.clone(), other.clone()] });
        }
    }
}

fn add_addresses(plan: &Plan, warnings: &mut Vec<Warning>) {
    let mut owners: BTreeMap<IpAddr, Vec<SmolStr>> = BTreeMap::new();
    for (name, node) in &plan.nodes {
        for addr in &node.addrs {
            owners.entry(*addr).or_default().push(name.clone());
        }
        if node.addrs.is_empty() {
            let text = format!("{name} has no BGP address: it has no sessions");
            warnings.push(Warning { kind: WarningKind::NoAddress, text, nodes: vec![name.clone()] });
        }
    }
    for (addr, nodes) in owners.into_iter().filter(|(_, nodes)| nodes.len() > 1) {
        let text = format!("{} have one address, {addr}", nodes.join(" and "));
        warnings.push(Warning { kind: WarningKind::SameAddress, text, nodes });
    }
}

fn add_clusters(plan: &Plan, warnings: &mut Vec<Warning>) {
    let mut clusters: BTreeMap<Ipv4Addr, Vec<&SmolStr>> = BTreeMap::new();
    for (name, node) in &plan.nodes {
        let Some(id) = node.cluster_id else { continue };
        clusters.entry(id).or_default().push(name);
        let internal = || node.sessions.iter().filter(|s| s.is_internal());
        if internal().all(|session| session.reflect_as.is_none()) {
            let text = if internal().next().is_some() {
                format!(
                    "{name} is a reflector of cluster {id}, but has no client: its peers are of the same cluster"
                )
            } else {
                format!(
                    "{name} is a reflector of cluster {id}, but no BGPPeer gives it a session within its AS"
                )
            };
            warnings.push(Warning { kind: WarningKind::NoClients, text, nodes: vec![name.clone()] });
        }
    }
    for (id, reflectors) in clusters {
        for (index, first) in reflectors.iter().enumerate() {
            for second in &reflectors[index + 1..] {
                let has_session = plan.nodes.get(*first).is_some_and(|node| {
                    node.sessions
                        .iter()
                        .any(|s| s.node.as_ref() == Some(*second) && s.other_end == OtherEnd::Agrees)
                });
                if !has_session {
                    let text = format!(
                        "{first} and {second} are reflectors of one cluster, {id}, without a session between them"
                    );
                    let nodes = vec![(*first).clone(), (*second).clone()];
                    warnings.push(Warning { kind: WarningKind::ClusterNotMeshed, text, nodes });
                }
            }
        }
    }
}
