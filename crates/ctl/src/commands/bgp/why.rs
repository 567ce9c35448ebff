//! `bgp why`: why a prefix is announced and installed, or not. BIRD is asked where it is ours to ask; the model says why.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail};
use calico_api::key::AffinityOwner;
use calico_api::{Key, Selection};
use calico_mesh::birdc::{PeerName, ProtocolStatus, Reply, command, parse_protocols, parse_routes};
use calico_mesh::why::{Live, LivePeer, Origin, Outcome, Verdict, Why, explain};
use calico_net::{Cidr, Family};
use serde_json::{Value, json};
use smol_str::SmolStr;

use super::read_index;
use crate::args::{BgpWhyArgs, ReportFormat};
use crate::resources::Resources;
use crate::{Context, ExitWith, bird};

/// Ended with what the prefix is known for, but it is neither announced nor installed.
const UNUSED: u8 = 2;
/// Ended with nobody knowing the prefix.
const UNKNOWN: u8 = 3;

/// The file that tells a host's node name, as the agent wrote it.
const NODENAME_FILE: &str = "/var/lib/calico/nodename";

pub(super) async fn run(
    resources: &Resources,
    args: &BgpWhyArgs,
    context: &mut Context,
) -> anyhow::Result<()> {
    let prefix = parse_prefix(&args.prefix)?;
    let own = own_name(context);
    let node = match (&args.node, &own) {
        (Some(node), _) => node.clone(),
        (None, Some(own)) => own.clone(),
        (None, None) => bail!("this host is no node that is known here (no {NODENAME_FILE}): say --node"),
    };
    let index = read_index(resources, &node).await?;
    if !index.world().nodes.contains_key(node.as_str()) {
        bail!("there is no node {node}");
    }
    let live = if own.as_ref() == Some(&node) || args.socket.is_some() {
        let socket = args.socket.as_deref().unwrap_or(Path::new(bird::SOCKET));
        match read_live(socket, prefix).await {
            Ok(live) => Some(live),
            Err(error) => {
                context.warn(format_args!("Warning: {error:#}; what follows is from the datastore alone"))?;
                None
            }
        }
    } else {
        None
    };
    let why = explain(index.world(), &node, prefix, &owners(resources).await?, live.as_ref());
    match args.output {
        ReportFormat::Ps => print(&why, context)?,
        ReportFormat::Json => context.say(serde_json::to_string_pretty(&document(&why))?)?,
        ReportFormat::Yaml => {
            context.output.write_all(crate::output::yaml::render(&document(&why)).as_bytes())?;
        }
    }
    match why.outcome() {
        Outcome::Used => Ok(()),
        Outcome::Unused => Err(ExitWith(UNUSED).into()),
        Outcome::Unknown => Err(ExitWith(UNKNOWN).into()),
    }
}

/// A prefix, or an address, which stands for itself alone.
fn parse_prefix(text: &str) -> anyhow::Result<Cidr> {
    match text.parse::<std::net::IpAddr>() {
        Ok(addr) => Ok(Cidr::host(addr)),
        Err(_) => text.parse().with_context(|| format!("{text:?} is neither a prefix nor an address")),
    }
}

/// The node that this host is.
fn own_name(context: &Context) -> Option<String> {
    let name = (context.environment)("NODENAME").or_else(|| std::fs::read_to_string(NODENAME_FILE).ok());
    name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The blocks of all nodes.
async fn owners(resources: &Resources) -> anyhow::Result<BTreeMap<Cidr, SmolStr>> {
    let listing = resources.store.list(&Selection::Affinities { owner: None, family: None }).await?;
    let owner = |entry: calico_api::Entry| match entry.key {
        Key::Affinity { owner: AffinityOwner::Host(node), block } => Some((block, node)),
        _ => None,
    };
    Ok(listing.entries.into_iter().filter_map(owner).collect())
}

/// What BIRD says of a prefix.
async fn read_live(socket: &Path, prefix: Cidr) -> anyhow::Result<Live> {
    let replies = bird::ask(socket, &[command::PROTOCOLS_ALL, &format!("show route {prefix} all\n")]).await?;
    let [protocols, routes] = &replies[..] else { bail!("BIRD has not answered every question") };
    let protocols = parse_protocols(protocols);
    let sessions: Vec<(&ProtocolStatus, PeerName)> = protocols
        .iter()
        .filter_map(|protocol| Some((protocol, protocol.peer()?)))
        .filter(|(_, name)| Family::of(name.addr) == prefix.family())
        .collect();
    let kernel = match prefix.family() {
        Family::V4 => "calico_kernel_v4",
        Family::V6 => "calico_kernel_v6",
    };
    let mut questions = vec![format!("show route {prefix} export {kernel}\n")];
    for (protocol, _) in &sessions {
        for stage in ["export", "preexport"] {
            questions.push(format!("show route {prefix} {stage} {}\n", protocol.name));
        }
    }
    let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
    let answers = bird::ask(socket, &questions).await?;
    // A session that is down refuses the question, and a prefix that is not there is an error too.
    let passes = |reply: Option<&Reply>| reply.is_some_and(|reply| !parse_routes(reply).is_empty());
    let peers = sessions.iter().zip(answers[1..].chunks(2)).map(|((protocol, name), answers)| {
        let peer = LivePeer {
            established: protocol.is_established(),
            info: protocol.info.clone(),
            exported: passes(answers.first()),
            offered: passes(answers.get(1)),
        };
        (*name, peer)
    });
    Ok(Live { routes: parse_routes(routes), peers: peers.collect(), to_kernel: passes(answers.first()) })
}

fn print(why: &Why, context: &mut Context) -> anyhow::Result<()> {
    let Why { node, prefix, facts, peers, installed, is_live, origin: _ } = why;
    for fact in facts {
        context.say(fact)?;
    }
    let by = if *is_live { "" } else { " (by the datastore; BIRD was not asked)" };
    context.say(format_args!("\nAnnounced by {node}{by}:"))?;
    if peers.is_empty() {
        context.say(format_args!("  to nobody: {node} has no {} session", prefix.family()))?;
    }
    for Verdict { subject, yes, because, node: _ } in peers {
        context.say(format_args!("  {} {subject}: {because}", if *yes { "to" } else { "not to" }))?;
    }
    let Verdict { yes, because, .. } = installed;
    let not = if *yes { "Installed" } else { "Not installed" };
    context.say(format_args!("{not} in {node}'s kernel: {because}"))
}

fn document(why: &Why) -> Value {
    let Why { node, prefix, origin, facts, peers, installed, is_live } = why;
    let origin = match origin {
        Origin::OwnBlock => json!({ "kind": "OwnBlock" }),
        Origin::InOwnBlock(block) => json!({ "kind": "InOwnBlock", "block": block }),
        Origin::Borrowed => json!({ "kind": "Borrowed" }),
        Origin::OtherBlock { block, node } => json!({ "kind": "OtherBlock", "block": block, "node": node }),
        Origin::Unclaimed => json!({ "kind": "Unclaimed" }),
        Origin::Outside => json!({ "kind": "Outside" }),
    };
    let verdict = |verdict: &Verdict| {
        let Verdict { subject, node, yes, because } = verdict;
        json!({ "subject": subject, "node": node, "yes": yes, "because": because })
    };
    let outcome = match why.outcome() {
        Outcome::Used => "Used",
        Outcome::Unused => "Unused",
        Outcome::Unknown => "Unknown",
    };
    json!({
        "node": node, "prefix": prefix, "origin": origin, "facts": facts, "askedBIRD": is_live, "outcome": outcome,
        "announced": peers.iter().map(verdict).collect::<Vec<_>>(), "installed": verdict(installed),
    })
}
