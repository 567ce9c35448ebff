//! Asks BIRD over its control socket: one connection for each question.

use std::io;
use std::path::Path;
use std::time::Duration;

use calico_mesh::birdc::{Reply, ReplyDecoder};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// How long the daemon may take for a whole answer. It answers from its event loop, so a longer silence means that it
/// hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody listens, or the connection broke.
    #[error("BIRD's control socket cannot be used")]
    Socket(#[from] io::Error),
    /// It listens but does not answer in time.
    #[error("BIRD does not answer")]
    Silent,
    /// It refuses the command.
    #[error("BIRD refuses: {0}")]
    Refused(String),
}

/// An answer and whose it is.
#[derive(Debug)]
pub struct Answer {
    /// What was said.
    pub reply: Reply,
    /// The daemon's process, as the kernel knows the socket's other end.
    pub pid: Option<i32>,
}

/// Sends one command (see [`calico_mesh::birdc::command`]) and reads its answer.
pub async fn ask(socket: &Path, command: &str) -> Result<Answer, ControlError> {
    tokio::time::timeout(ANSWER_TIMEOUT, converse(socket, command)).await.map_err(|_| ControlError::Silent)?
}

async fn converse(socket: &Path, command: &str) -> Result<Answer, ControlError> {
    let mut stream = UnixStream::connect(socket).await.map_err(|error| match error.kind() {
        // Nobody has accepted those who asked before: its queue is full.
        io::ErrorKind::WouldBlock => ControlError::Silent,
        _ => error.into(),
    })?;
    let pid = stream.peer_cred()?.pid();
    stream.write_all(command.as_bytes()).await?;
    let mut decoder = ReplyDecoder::new();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let len = stream.read(&mut buffer).await?;
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        decoder.push(&buffer[..len]);
        while let Some(reply) = decoder.pop() {
            if reply.is_greeting() {
                continue;
            }
            return match reply.error() {
                Some(text) => Err(ControlError::Refused(text.to_owned())),
                None => Ok(Answer { reply, pid }),
            };
        }
    }
}
