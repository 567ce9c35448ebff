//! Asks this machine's BIRD over its control socket.

use std::path::Path;

use anyhow::{Context as _, bail};
use calico_mesh::birdc::{Reply, ReplyDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Where the agent's BIRD listens.
pub(crate) const SOCKET: &str = "/var/run/calico/bird.ctl";

/// How long BIRD may take for all the answers.
const TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// BIRD's answers to commands (see [`calico_mesh::birdc::command`]), in their order, over one connection.
///
/// # Errors
/// When nobody answers on the socket in time, or somebody else does.
pub(crate) async fn ask(socket: &Path, commands: &[&str]) -> anyhow::Result<Vec<Reply>> {
    tokio::time::timeout(TIMEOUT, converse(socket, commands))
        .await
        .map_err(anyhow::Error::from)
        .and_then(|answer| answer)
        .with_context(|| format!("BIRD does not answer on {}", socket.display()))
}

async fn converse(socket: &Path, commands: &[&str]) -> anyhow::Result<Vec<Reply>> {
    let mut stream = UnixStream::connect(socket).await?;
    let mut decoder = ReplyDecoder::new();
    if !read_reply(&mut stream, &mut decoder).await?.is_greeting() {
        bail!("this is not BIRD's control socket");
    }
    let mut replies = Vec::new();
    for command in commands {
        stream.write_all(command.as_bytes()).await?;
        replies.push(read_reply(&mut stream, &mut decoder).await?);
    }
    Ok(replies)
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
