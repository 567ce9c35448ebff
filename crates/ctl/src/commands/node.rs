//! `node`: this node's BGP sessions, asked of BIRD.

use std::path::Path;

use anyhow::{Context as _, bail};
use calico_mesh::birdc::{
    DaemonStatus, ProtocolStatus, Reply, ReplyDecoder, command, parse_protocols, parse_status,
};
use calico_net::Family;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::Context;
use crate::args::{NodeCommand, StatusFormat};
use crate::output::table::render_boxed;

/// How long BIRD may take to answer.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

pub(super) async fn run(command: NodeCommand, context: &mut Context) -> anyhow::Result<()> {
    let NodeCommand::Status { socket, output } = command;
    let (status, protocols) = tokio::time::timeout(TIMEOUT, ask(&socket))
        .await
        .map_err(anyhow::Error::from)
        .and_then(|answer| answer)
        .with_context(|| {
            format!("Calico process is not running: BIRD does not answer on {}", socket.display())
        })?;
    let Some(status) = parse_status(&status) else { bail!("BIRD refuses to tell its status") };
    let protocols = parse_protocols(&protocols);
    if output != StatusFormat::Ps {
        let document = document(&status, &protocols);
        let text = match output {
            StatusFormat::Yaml => crate::output::yaml::render(&document),
            _ => serde_json::to_string_pretty(&document)? + "\n",
        };
        context.output.write_all(text.as_bytes())?;
        return Ok(());
    }
    let running = if status.up { "Calico process is running." } else { "Calico process is shutting down." };
    context.say(format_args!("{running} BIRD {}, router id {}.", status.version, status.router_id))?;
    for family in Family::ALL {
        context.say(format_args!("\n{family} BGP status"))?;
        context.output.write_all(sessions(&protocols, family).as_bytes())?;
    }
    Ok(())
}

/// What the tables say, as one value.
fn document(status: &DaemonStatus, protocols: &[ProtocolStatus]) -> serde_json::Value {
    let peers: Vec<serde_json::Value> = protocols
        .iter()
        .filter_map(|p| p.peer().map(|peer| (p, peer)))
        .map(|(p, peer)| {
            serde_json::json!({
                "address": peer.addr, "port": peer.port, "type": peer.kind.title(),
                "state": p.state, "since": p.since, "info": p.info,
            })
        })
        .collect();
    serde_json::json!({
        "running": status.up, "version": status.version, "routerID": status.router_id, "peers": peers,
    })
}

/// A table of one family's sessions.
fn sessions(protocols: &[ProtocolStatus], family: Family) -> String {
    let rows: Vec<Vec<String>> = protocols
        .iter()
        .filter_map(|p| p.peer().map(|peer| (p, peer)))
        .filter(|(_, peer)| Family::of(peer.addr) == family)
        .map(|(p, peer)| {
            let address =
                peer.port.map_or_else(|| peer.addr.to_string(), |port| format!("{} {port}", peer.addr));
            vec![address, peer.kind.title().to_owned(), p.state.clone(), p.since.clone(), p.info.clone()]
        })
        .collect();
    if rows.is_empty() {
        return format!("No {family} peers found.\n");
    }
    render_boxed(&["PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "INFO"], &rows)
}

/// BIRD's answers to `show status` and `show protocols`.
async fn ask(socket: &Path) -> anyhow::Result<(Reply, Reply)> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut decoder = ReplyDecoder::new();
    let greeting = read_reply(&mut stream, &mut decoder).await?;
    if !greeting.is_greeting() {
        bail!("this is not BIRD's control socket");
    }
    stream.write_all(command::STATUS.as_bytes()).await?;
    let status = read_reply(&mut stream, &mut decoder).await?;
    stream.write_all(command::PROTOCOLS.as_bytes()).await?;
    let protocols = read_reply(&mut stream, &mut decoder).await?;
    Ok((status, protocols))
}

async fn read_reply(stream: &mut UnixStream, decoder: &mut ReplyDecoder) -> anyhow::Result<Reply> {
    let mut buffer = [0; 4096];
    loop {
        if let Some(reply) = decoder.pop() {
            return Ok(reply);
        }
        match stream.read(&mut buffer).await? {
            0 => bail!("the connection was closed"),
            n => decoder.push(&buffer[..n]),
        }
    }
}
