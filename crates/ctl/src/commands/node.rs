//! `node`: this node's BGP sessions, asked of BIRD.

use anyhow::{Context as _, bail};
use calico_mesh::birdc::{
    ChannelStatus, DaemonStatus, PeerName, ProtocolStatus, command, parse_protocols, parse_status,
};
use calico_net::Family;
use serde_json::{Value, json};

use crate::Context;
use crate::args::{NodeCommand, StatusFormat};
use crate::bird;
use crate::output::table::render_boxed;

pub(super) async fn run(command: NodeCommand, context: &mut Context) -> anyhow::Result<()> {
    let NodeCommand::Status { socket, output } = command;
    let replies = bird::ask(&socket, &[command::STATUS, command::PROTOCOLS_ALL])
        .await
        .context("Calico process is not running")?;
    let [status, protocols] = &replies[..] else { bail!("BIRD has not answered every question") };
    let Some(status) = parse_status(status) else { bail!("BIRD refuses to tell its status") };
    let protocols = parse_protocols(protocols);
    let wide = match output {
        StatusFormat::Ps => false,
        StatusFormat::Wide => true,
        StatusFormat::Yaml => {
            let text = crate::output::yaml::render(&document(&status, &protocols));
            return Ok(context.output.write_all(text.as_bytes())?);
        }
        StatusFormat::Json => {
            return context.say(serde_json::to_string_pretty(&document(&status, &protocols))?);
        }
    };
    let running = if status.up { "Calico process is running." } else { "Calico process is shutting down." };
    context.say(format_args!("{running} BIRD {}, router id {}.", status.version, status.router_id))?;
    if wide {
        let DaemonStatus { last_reboot, last_reconfiguration, graceful_restart, .. } = &status;
        let recovers = if *graceful_restart { "; it is recovering from a restart" } else { "" };
        let text = format!("Started {last_reboot}, last reconfigured {last_reconfiguration}{recovers}.");
        context.say(text)?;
    }
    for family in Family::ALL {
        context.say(format_args!("\n{family} BGP status"))?;
        context.output.write_all(sessions(&protocols, family, wide).as_bytes())?;
    }
    Ok(())
}

fn peers(protocols: &[ProtocolStatus]) -> impl Iterator<Item = (&ProtocolStatus, PeerName)> {
    protocols.iter().filter_map(|p| p.peer().map(|peer| (p, peer)))
}

/// What the tables say, as one value.
fn document(status: &DaemonStatus, protocols: &[ProtocolStatus]) -> Value {
    let peers: Vec<Value> = peers(protocols)
        .map(|(p, peer)| {
            let bgp = p.bgp.clone().unwrap_or_default();
            let channels: Vec<Value> = p.channels.iter().map(channel).collect();
            json!({
                "address": peer.addr, "port": peer.port, "type": peer.kind.title(),
                "state": p.state, "since": p.since, "info": p.info,
                "bgpState": bgp.state, "lastError": p.last_error(),
                "neighborAS": number(&bgp.neighbor_as), "localAS": number(&bgp.local_as),
                "neighborID": Some(bgp.neighbor_id).filter(|id| !id.is_empty()),
                "holdTimeSeconds": bgp.hold_secs, "keepaliveSeconds": bgp.keepalive_secs,
                "channels": channels,
            })
        })
        .collect();
    json!({
        "running": status.up, "version": status.version, "routerID": status.router_id,
        "lastReboot": status.last_reboot, "lastReconfiguration": status.last_reconfiguration,
        "recovering": status.graceful_restart, "peers": peers,
    })
}

fn channel(channel: &ChannelStatus) -> Value {
    let ChannelStatus { name, state, imported, exported, preferred, import_filtered, export_filtered } =
        channel;
    json!({
        "name": name, "state": state, "imported": imported, "exported": exported, "preferred": preferred,
        "importFiltered": import_filtered, "exportFiltered": export_filtered,
    })
}

/// An AS number; null where the daemon said nothing.
fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// A table of one family's sessions.
fn sessions(protocols: &[ProtocolStatus], family: Family, wide: bool) -> String {
    let rows: Vec<Vec<String>> = peers(protocols)
        .filter(|(_, peer)| Family::of(peer.addr) == family)
        .map(|(p, peer)| {
            let address =
                peer.port.map_or_else(|| peer.addr.to_string(), |port| format!("{} {port}", peer.addr));
            let mut row =
                vec![address, peer.kind.title().to_owned(), p.state.clone(), p.since.clone(), p.info.clone()];
            if wide {
                row.extend(more(p));
            }
            row
        })
        .collect();
    if rows.is_empty() {
        return format!("No {family} peers found.\n");
    }
    let mut headings = vec!["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"];
    if wide {
        headings.extend([
            "PEER AS",
            "IN",
            "OUT",
            "IN FILTERED",
            "OUT FILTERED",
            "HOLD/KEEPALIVE",
            "LAST ERROR",
        ]);
    }
    render_boxed(&headings, &rows)
}

/// The columns that only the wide table has.
fn more(protocol: &ProtocolStatus) -> [String; 7] {
    let sum = |count: fn(&ChannelStatus) -> u64| protocol.channels.iter().map(count).sum::<u64>().to_string();
    let bgp = protocol.bgp.clone().unwrap_or_default();
    let timers = match (bgp.hold_secs, bgp.keepalive_secs) {
        (Some(hold), Some(keepalive)) => format!("{hold} s/{keepalive} s"),
        _ => "-".to_owned(),
    };
    [
        bgp.neighbor_as,
        sum(|c| c.imported),
        sum(|c| c.exported),
        sum(|c| c.import_filtered),
        sum(|c| c.export_filtered),
        timers,
        protocol.last_error().unwrap_or("-").to_owned(),
    ]
}
