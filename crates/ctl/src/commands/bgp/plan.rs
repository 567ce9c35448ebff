//! `bgp plan`: who speaks with whom, and what is wrong with it.

use anyhow::{Context as _, anyhow};
use calico_api::Manifest;
use calico_api::document::lines;
use calico_mesh::plan::{NodePlan, OtherEnd, PlannedSession, Warning};
use calico_mesh::{Index, Plan};
use serde_json::{Value, json};

use super::put;
use crate::Context;
use crate::args::{BgpPlanArgs, ReportFormat};
use crate::files;
use crate::output::table::render_boxed;

pub(super) fn run(mut index: Index, args: &BgpPlanArgs, context: &mut Context) -> anyhow::Result<()> {
    if let Some(path) = &args.filename {
        let failed = "failed to execute command";
        let manifests = files::read(path, args.recursive, false, None, context).context(failed)?;
        let mut wrong = Vec::new();
        for Manifest { place, mut resource } in manifests {
            wrong.extend(files::told(&place, &files::check(&mut resource)));
            put(&mut index, &resource);
        }
        if !wrong.is_empty() {
            return Err(anyhow!("{failed}: {}", lines(&wrong)));
        }
    }
    let mut plan = Plan::of(index.world());
    plan.note_unusable(&index.problems());
    match args.output {
        ReportFormat::Ps => print(&plan, context),
        ReportFormat::Json => context.say(serde_json::to_string_pretty(&document(&plan))?),
        ReportFormat::Yaml => {
            let text = crate::output::yaml::render(&document(&plan));
            Ok(context.output.write_all(text.as_bytes())?)
        }
    }
}

fn print(plan: &Plan, context: &mut Context) -> anyhow::Result<()> {
    let rows: Vec<Vec<String>> = plan.nodes.iter().flat_map(|(name, node)| rows(name, node)).collect();
    if !rows.is_empty() {
        let headings = ["NODE", "AS", "ROLE", "PEER", "PEER AS", "TYPE", "PEER IS"];
        context.output.write_all(render_boxed(&headings, &rows).as_bytes())?;
    }
    context.say(summary(plan))?;
    if plan.warnings.is_empty() {
        return context.say("No warnings.");
    }
    for Warning { kind, text, .. } in &plan.warnings {
        let grave = if kind.is_grave() { "WARNING" } else { "Note" };
        context.say(format_args!("{grave} ({}): {text}", kind.word()))?;
    }
    Ok(())
}

/// One line on how many sessions there are and would be.
pub(super) fn summary(plan: &Plan) -> String {
    let reflectors = plan.nodes.values().filter(|node| node.cluster_id.is_some()).count();
    let outside = match plan.sessions_with_outside() {
        0 => String::new(),
        n => format!(", {n} with other routers"),
    };
    format!(
        "{} node(s), {reflectors} of them reflectors, {} in the mesh: {} session(s) between nodes{outside}; a full mesh \
         has {}.",
        plan.nodes.len(),
        plan.mesh_size(),
        plan.sessions_between_nodes(),
        plan.sessions_of_full_mesh()
    )
}

fn role(node: &NodePlan) -> String {
    match (node.cluster_id, node.in_mesh) {
        (Some(id), false) => format!("reflector of {id}"),
        (Some(id), true) => format!("reflector of {id}, in the mesh"),
        (None, true) => "in the mesh".to_owned(),
        (None, false) => "peers only".to_owned(),
    }
}

fn rows(name: &str, node: &NodePlan) -> Vec<Vec<String>> {
    let line = |cells: [String; 4]| {
        let head = [name.to_owned(), node.asn.to_string(), role(node)];
        head.into_iter().chain(cells).collect()
    };
    if node.sessions.is_empty() {
        return vec![line(["-".to_owned(), "-".to_owned(), "-".to_owned(), "no session".to_owned()])];
    }
    let row = |session: &PlannedSession| {
        line([
            peer(session),
            session.remote_as.to_string(),
            session.name.kind.title().to_owned(),
            other(session),
        ])
    };
    node.sessions.iter().map(row).collect()
}

fn peer(session: &PlannedSession) -> String {
    let addr = session.name.addr;
    let addr = session.name.port.map_or_else(|| addr.to_string(), |port| format!("{addr} {port}"));
    session.node.as_ref().map_or_else(|| addr.clone(), |node| format!("{node} ({addr})"))
}

fn other(session: &PlannedSession) -> String {
    let text = match session.other_end {
        OtherEnd::Agrees if session.reflect_as.is_some() => "a client",
        OtherEnd::Agrees if session.is_internal() => "a peer",
        OtherEnd::Agrees => "in another AS",
        OtherEnd::Missing => "without the other end",
        OtherEnd::OtherAs => "of other AS numbers",
        OtherEnd::BothWait => "waiting, as we are",
        OtherEnd::Outside => "no node",
    };
    text.to_owned()
}

fn word(end: OtherEnd) -> &'static str {
    match end {
        OtherEnd::Agrees => "Agrees",
        OtherEnd::Missing => "Missing",
        OtherEnd::OtherAs => "OtherAS",
        OtherEnd::BothWait => "BothWait",
        OtherEnd::Outside => "Outside",
    }
}

/// The plan as one value.
fn document(plan: &Plan) -> Value {
    let session = |session: &PlannedSession| {
        json!({
            "protocol": session.name.to_string(), "peerIP": session.name.addr, "port": session.name.port,
            "node": session.node, "type": session.name.kind.title(), "peerAS": session.remote_as,
            "localAS": session.local_as, "client": session.reflect_as.is_some(), "passive": session.passive,
            "otherEnd": word(session.other_end),
        })
    };
    let nodes: Vec<Value> = plan
        .nodes
        .iter()
        .map(|(name, node)| {
            let NodePlan { asn, cluster_id, in_mesh, addrs, sessions } = node;
            let sessions: Vec<Value> = sessions.iter().map(session).collect();
            json!({
                "name": name, "asNumber": asn, "clusterID": cluster_id, "inMesh": in_mesh, "addresses": addrs,
                "sessions": sessions,
            })
        })
        .collect();
    let warnings: Vec<Value> = plan
        .warnings
        .iter()
        .map(|Warning { kind, text, nodes }| {
            json!({ "kind": kind.word(), "grave": kind.is_grave(), "text": text, "nodes": nodes })
        })
        .collect();
    json!({
        "nodes": nodes,
        "meshEnabled": plan.mesh_enabled,
        "sessions": {
            "betweenNodes": plan.sessions_between_nodes(),
            "withOutside": plan.sessions_with_outside(),
            "fullMesh": plan.sessions_of_full_mesh(),
        },
        "warnings": warnings,
    })
}
