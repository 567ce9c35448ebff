//! `bgp make-reflectors`: moves a running mesh to route reflectors, make before break.
//!
//! ```text
//! reflectors: label, cluster id, still in the mesh ─▶ BGPPeers ─▶ wait: every new session is up
//!     ─▶ mesh off ─▶ wait: no mesh session is left ─▶ reflectors: the mark of the change goes
//! ```
//!
//! The cluster id comes before the BGPPeers, because a session whose settings change is restarted: so the new sessions
//! begin as they are to stay. It would take its node out of the mesh at both ends, so it comes with an annotation that
//! keeps the node there, in one write, which every node sees whole. Every step looks first whether it is done: a run that
//! was interrupted is finished by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use calico_api::{
    AnyResource, BGPConfiguration, BGPConfigurationSpec, BGPPeer, BGPPeerSpec, Kind, Node, NodeSpec,
};
use calico_mesh::plan::OtherEnd;
use calico_mesh::world::KEEP_MESH;
use calico_mesh::{Index, Plan};
use smol_str::{SmolStr, ToSmolStr};

use super::plan::summary;
use super::waiting::{Expected, Questions};
use super::{put, read_index};
use crate::Context;
use crate::args::MakeReflectorsArgs;
use crate::resources::{ResourceError, Resources};

/// The label of reflectors; its value is the cluster id.
const LABEL: &str = "route-reflector";
/// The BGPPeer between all reflectors, and how those of a cluster begin.
const PEER: &str = "route-reflectors";
/// How often a write is tried that somebody else's came before.
const TRIES: u32 = 5;
/// How long the new sessions must have been up before the mesh goes: a daemon tells all its routes within.
const SETTLE: Duration = Duration::from_secs(5);

/// What is to be.
struct Wanted {
    reflectors: Vec<SmolStr>,
    id: Ipv4Addr,
    clients: String,
}

/// A change of one resource, and why.
struct Step {
    what: String,
    why: &'static str,
    change: Change,
}

enum Change {
    /// Label, cluster id and, while there is a mesh, the annotation.
    Node { name: SmolStr, keep_mesh: bool },
    /// As it is to be.
    Peer(Box<BGPPeer>),
}

pub(super) async fn run(
    resources: &Resources,
    args: &MakeReflectorsArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    let index = read_index(resources, "").await?;
    let wanted = wanted(&index, args)?;
    let config = config(resources).await?;
    let mesh = config.spec.node_to_node_mesh_enabled != Some(false);
    let steps = steps(resources, &index, &wanted, &config.spec, mesh).await?;

    let before = Plan::of(index.world());
    let target = target(&index, &wanted, &steps, &config);
    let after = Plan::of(target.world());
    context.say(format_args!("Now:  {}", summary(&before)))?;
    context.say(format_args!("Then: {}", summary(&after)))?;
    let holes: Vec<&str> = after.grave().map(|warning| warning.text.as_str()).collect();
    if !holes.is_empty() && !args.keep_mesh && mesh {
        bail!(
            "without the mesh packets would be lost, so nothing is changed:\n{}\nName more reflectors or other clients, or \
             keep the mesh for now (--keep-mesh)",
            holes.join("\n")
        );
    }
    let unready: Vec<&SmolStr> =
        before.nodes.iter().filter(|(_, n)| n.addrs.is_empty()).map(|(n, _)| n).collect();
    for node in unready {
        context.warn(format_args!("Warning: {node} has no BGP address; it gets no session"))?;
    }
    if !mesh && !steps.is_empty() {
        context.warn(
            "Warning: the mesh is off already: sessions whose settings change are restarted with nothing beside them. To \
             lose no packet set nodeToNodeMeshEnabled first",
        )?;
    }

    let mut number = 0;
    for Step { what, why, change } in steps {
        say_step(context, &mut number, args.dry_run, &what, why)?;
        if !args.dry_run {
            apply(resources, &wanted, change).await.with_context(|| what)?;
        }
    }
    let marked = |index: &Index| -> Vec<SmolStr> {
        index.world().nodes.iter().filter(|(_, n)| n.keeps_mesh).map(|(name, _)| name.clone()).collect()
    };
    if args.dry_run {
        say_step(context, &mut number, true, "wait until every new session is up", WHY_WAIT)?;
        if mesh && !args.keep_mesh {
            say_step(context, &mut number, true, MESH_OFF, WHY_OFF)?;
            say_step(context, &mut number, true, "wait until no session of the mesh is left", WHY_WAIT_OFF)?;
            say_step(context, &mut number, true, UNMARK, WHY_UNMARK)?;
        }
        return context.say("Nothing was changed (--dry-run).");
    }

    let index = read_index(resources, "").await?;
    if number == 0 && !mesh && marked(&index).is_empty() {
        return context.say("Nothing to do: the nodes are reflectors, and the mesh is off.");
    }
    let nodes = Plan::of(index.world()).nodes;
    let asked = nodes
        .iter()
        .filter(|(name, node)| !node.addrs.is_empty() && !args.without.iter().any(|w| *name == w))
        .map(|(name, _)| name.clone());
    let questions = Questions::ask(resources, asked).await?;
    let done = tokio::select! {
        done = finish(resources, &questions, args, context, &mut number, mesh) => done,
        _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("interrupted; the same command goes on from here")),
    };
    // Nobody must be left answering every second.
    questions.remove().await.context("CalicoNodeStatus objects make-reflectors-… are left; delete them")?;
    done
}

const MESH_OFF: &str = "BGPConfiguration default: nodeToNodeMeshEnabled: false";
const UNMARK: &str = "take the annotation calico-rs/keep-mesh from the reflectors";
const WHY_WAIT: &str = "until then the mesh carries the routes; each node says so in a CalicoNodeStatus";
const WHY_OFF: &str = "every route is known by way of the reflectors by now, with the same next hop";
const WHY_WAIT_OFF: &str = "a node that has not seen the change still has its mesh";
const WHY_UNMARK: &str = "without a mesh it says nothing";

/// The part that waits for nodes.
async fn finish(
    resources: &Resources,
    questions: &Questions<'_>,
    args: &MakeReflectorsArgs,
    context: &mut Context,
    number: &mut u32,
    mesh: bool,
) -> anyhow::Result<()> {
    let timeout = Duration::from_secs(args.timeout);
    let index = read_index(resources, "").await?;
    let expected = expected(&Plan::of(index.world()), false);
    let sessions: usize = expected.values().map(|e| e.explicit.len()).sum();
    let what = format!("wait until every new session is up: {sessions} ends on {} nodes", expected.len());
    say_step(context, number, false, &what, WHY_WAIT)?;
    let settle = if mesh { SETTLE } else { Duration::ZERO };
    let waited = questions.wait(&expected, timeout, settle).await;
    if mesh {
        waited.context("the mesh is still on and no packet is lost; the same command goes on from here")?;
    } else {
        waited?;
    }
    if args.keep_mesh {
        return context.say("The mesh stays on (--keep-mesh).");
    }
    if mesh {
        say_step(context, number, false, MESH_OFF, WHY_OFF)?;
        mesh_off(resources).await.context(MESH_OFF)?;
    }
    say_step(context, number, false, "wait until no session of the mesh is left", WHY_WAIT_OFF)?;
    let expected =
        expected.into_iter().map(|(node, expected)| (node, Expected { no_mesh: true, ..expected })).collect();
    questions.wait(&expected, timeout, Duration::ZERO).await?;
    let marked: Vec<SmolStr> = read_index(resources, "")
        .await?
        .world()
        .nodes
        .iter()
        .filter(|(_, node)| node.keeps_mesh)
        .map(|(name, _)| name.clone())
        .collect();
    if !marked.is_empty() {
        say_step(context, number, false, UNMARK, WHY_UNMARK)?;
    }
    for node in marked {
        edit::<NodeSpec>(resources, Kind::Node, &node, |node| {
            node.metadata.annotations.remove(KEEP_MESH);
        })
        .await?;
    }
    let plan = Plan::of(read_index(resources, "").await?.world());
    context.say(format_args!("Done: {}", summary(&plan)))
}

fn say_step(context: &mut Context, number: &mut u32, dry: bool, what: &str, why: &str) -> anyhow::Result<()> {
    *number += 1;
    let dry = if dry { " (not done)" } else { "" };
    context.say(format_args!("{number}. {what}{dry}\n   because {why}"))
}

/// What the command line asks for, checked against the nodes.
fn wanted(index: &Index, args: &MakeReflectorsArgs) -> anyhow::Result<Wanted> {
    let nodes = &index.world().nodes;
    let mut reflectors: Vec<SmolStr> =
        super::super::parse_names(&args.nodes).into_iter().map(SmolStr::new).collect();
    reflectors.sort_unstable();
    reflectors.dedup();
    if let Some(unknown) = reflectors.iter().find(|name| !nodes.contains_key(*name)) {
        bail!("there is no node {unknown}");
    }
    check_clients(&args.clients)?;
    let ids: BTreeSet<Ipv4Addr> = reflectors.iter().filter_map(|name| nodes[name].cluster_id).collect();
    let id = match (args.cluster_id, ids.first()) {
        (Some(id), _) => id,
        (None, Some(id)) => *id,
        (None, None) => free_id(nodes.values().filter_map(|node| node.cluster_id).collect()),
    };
    for name in &reflectors {
        if let Some(other) = nodes[name].cluster_id.filter(|other| *other != id) {
            bail!(
                "{name} is a reflector of cluster {other} already, not of {id}: say --cluster-id {other}, or take its \
                 routeReflectorClusterID away first"
            );
        }
    }
    Ok(Wanted { reflectors, id, clients: args.clients.clone() })
}

fn check_clients(text: &str) -> anyhow::Result<()> {
    let errors = calico_api::validate(&AnyResource::from(&BGPPeer::new(
        "",
        "clients",
        BGPPeerSpec { node_selector: text.into(), peer_selector: "all()".into(), ..BGPPeerSpec::default() },
    )));
    if let Some(error) = errors.first() {
        bail!("--clients: {error}");
    }
    Ok(())
}

/// The first cluster id from 244.0.0.1 on that nobody has: of a range that no host's address is in.
fn free_id(taken: BTreeSet<Ipv4Addr>) -> Ipv4Addr {
    let first = u32::from(Ipv4Addr::new(244, 0, 0, 1));
    (first..).map(Ipv4Addr::from).find(|id| !taken.contains(id)).expect("there are more ids than nodes")
}

/// The BGPPeers that are to be: clients with the reflectors of the cluster, and all reflectors with each other.
fn peers(wanted: &Wanted, mesh: &BGPConfigurationSpec) -> [BGPPeer; 2] {
    let peer = |name: &str, nodes: &str, peers: String| {
        let spec = BGPPeerSpec {
            node_selector: nodes.into(),
            peer_selector: peers.into(),
            // What held for sessions of the mesh holds for those that take their place.
            password: mesh.node_mesh_password.clone(),
            max_restart_time: mesh.node_mesh_max_restart_time,
            ..BGPPeerSpec::default()
        };
        BGPPeer::new("", name, spec)
    };
    let Wanted { reflectors: _, id, clients } = wanted;
    let of_cluster = format!("{PEER}-{}", id.to_string().replace('.', "-"));
    let all = format!("has({LABEL})");
    [peer(&of_cluster, clients, format!("{LABEL} == '{id}'")), peer(PEER, &all, all.clone())]
}

/// What is left to be done before the wait.
async fn steps(
    resources: &Resources,
    index: &Index,
    wanted: &Wanted,
    config: &BGPConfigurationSpec,
    mesh: bool,
) -> anyhow::Result<Vec<Step>> {
    let mut steps = Vec::new();
    let id = wanted.id;
    for name in &wanted.reflectors {
        let node = &index.world().nodes[name];
        let is_new = node.cluster_id != Some(id);
        if !is_new && node.labels.get(LABEL).is_some_and(|value| *value == id.to_smolstr()) {
            continue;
        }
        let keep_mesh = is_new && mesh;
        let stays = if keep_mesh { ", and stays in the mesh meanwhile" } else { "" };
        steps.push(Step {
            what: format!("Node {name}: label {LABEL}={id}, routeReflectorClusterID {id}{stays}"),
            why: "its new sessions are to begin as a reflector's: a session whose settings change is restarted",
            change: Change::Node { name: name.clone(), keep_mesh },
        });
    }
    for mut peer in peers(wanted, config) {
        let name = peer.metadata.name.clone();
        match resources.get(Kind::BGPPeer, "", &name).await {
            Ok(stored) => {
                let stored = stored.typed::<BGPPeerSpec>().with_context(|| format!("BGPPeer {name}"))?;
                if !mesh {
                    // The mesh's settings are gone with it; what they became stays.
                    peer.spec.password.clone_from(&stored.spec.password);
                    peer.spec.max_restart_time = stored.spec.max_restart_time;
                }
                if stored.spec == peer.spec {
                    continue;
                }
            }
            Err(ResourceError::DoesNotExist(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let (from, to) = (&peer.spec.node_selector, &peer.spec.peer_selector);
        steps.push(Step {
            what: format!("BGPPeer {name}: nodes {from} peer with nodes {to}"),
            why: "the sessions come up beside those of the mesh",
            change: Change::Peer(Box::new(peer)),
        });
    }
    Ok(steps)
}

/// The world when everything is done.
fn target(index: &Index, wanted: &Wanted, steps: &[Step], config: &BGPConfiguration) -> Index {
    let mut target = index.clone();
    for Step { change, .. } in steps {
        if let Change::Peer(peer) = change {
            put(&mut target, &AnyResource::from(&**peer));
        }
    }
    target.edit(|world| {
        for name in &wanted.reflectors {
            if let Some(node) = world.nodes.get_mut(name) {
                node.cluster_id = Some(wanted.id);
                node.labels.insert(SmolStr::new_static(LABEL), wanted.id.to_smolstr());
            }
        }
        world.nodes.values_mut().for_each(|node| node.keeps_mesh = false);
    });
    let mut off = config.clone();
    off.spec.node_to_node_mesh_enabled = Some(false);
    put(&mut target, &AnyResource::from(&off));
    target
}

/// The sessions of BGPPeers between nodes, by node.
fn expected(plan: &Plan, no_mesh: bool) -> BTreeMap<SmolStr, Expected> {
    plan.nodes
        .iter()
        .filter(|(_, node)| !node.addrs.is_empty())
        .map(|(name, node)| {
            let explicit =
                node.sessions.iter().filter(|s| !s.is_of_mesh() && s.other_end == OtherEnd::Agrees);
            let explicit = explicit.map(|session| session.name.addr).collect();
            (name.clone(), Expected { explicit, no_mesh })
        })
        .collect()
}

async fn config(resources: &Resources) -> anyhow::Result<BGPConfiguration> {
    match resources.get(Kind::BGPConfiguration, "", "default").await {
        Ok(config) => config.typed::<BGPConfigurationSpec>().context("BGPConfiguration default"),
        Err(ResourceError::DoesNotExist(_)) => {
            Ok(BGPConfiguration::new("", "default", BGPConfigurationSpec::default()))
        }
        Err(error) => Err(error.into()),
    }
}

async fn apply(resources: &Resources, wanted: &Wanted, change: Change) -> anyhow::Result<()> {
    match change {
        Change::Peer(peer) => {
            resources.apply(AnyResource::from(&*peer)).await?;
        }
        Change::Node { name, keep_mesh } => {
            edit::<NodeSpec>(resources, Kind::Node, &name, |node: &mut Node| {
                node.metadata.labels.insert(SmolStr::new_static(LABEL), wanted.id.to_smolstr());
                if keep_mesh {
                    node.metadata
                        .annotations
                        .insert(SmolStr::new_static(KEEP_MESH), SmolStr::new_static("true"));
                }
                let bgp = node.spec.bgp.get_or_insert_default();
                bgp.route_reflector_cluster_id = wanted.id.to_smolstr();
            })
            .await?;
        }
    }
    Ok(())
}

async fn mesh_off(resources: &Resources) -> anyhow::Result<()> {
    match resources.get(Kind::BGPConfiguration, "", "default").await {
        Ok(_) => {
            edit::<BGPConfigurationSpec>(resources, Kind::BGPConfiguration, "default", |config| {
                config.spec.node_to_node_mesh_enabled = Some(false);
                // They may not be set without a mesh; the BGPPeers have them.
                config.spec.node_mesh_password = None;
                config.spec.node_mesh_max_restart_time = None;
            })
            .await
        }
        Err(ResourceError::DoesNotExist(_)) => {
            let spec = BGPConfigurationSpec {
                node_to_node_mesh_enabled: Some(false),
                ..BGPConfigurationSpec::default()
            };
            resources.create(AnyResource::from(&BGPConfiguration::new("", "default", spec))).await?;
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Changes what is stored now, and again if somebody else changed it meanwhile.
async fn edit<S: calico_api::Spec>(
    resources: &Resources,
    kind: Kind,
    name: &str,
    change: impl Fn(&mut calico_api::Resource<S>),
) -> anyhow::Result<()> {
    let mut tries = 0;
    loop {
        tries += 1;
        let mut resource = resources.get(kind, "", name).await?.typed::<S>()?;
        change(&mut resource);
        match resources.update(AnyResource::from(&resource)).await {
            Ok(_) => return Ok(()),
            Err(ResourceError::Conflict(..)) if tries < TRIES => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
