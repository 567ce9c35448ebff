//! The plugin's side of the agent's socket: blocking, no runtime, no threads. This is per-pod latency.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, connect, sendmsg, socket_with,
};

use crate::request::{Request, Response, body_len, header};

/// How often an absent agent is tried again: a restart takes a few hundred milliseconds.
const RETRY: Duration = Duration::from_millis(50);

/// How long the agent may take for its answer (spec 5 §2.1: IPAM alone may take 90 s).
pub const ANSWER_PATIENCE: Duration = Duration::from_secs(100);

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Nobody listens: the agent is down or starting.
    #[error("the agent does not answer on {path} (waited {waited:?})")]
    Absent {
        /// The socket.
        path: String,
        /// How long it was tried.
        waited: Duration,
    },
    /// Nobody listens, and nobody will: the node is being cleaned.
    #[error("the node leaves Calico: {path} is there")]
    Leaving {
        /// The file that says so.
        path: String,
    },
    /// The conversation broke off after it had begun.
    #[error("the agent broke off")]
    Broken(#[source] std::io::Error),
    /// Somebody listens, and takes the request or answers it too slowly: the agent hangs or is overloaded.
    #[error("the agent was connected to on {path} and said nothing for {waited:?}")]
    Silent {
        /// The socket.
        path: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// The agent's answer is not ours.
    #[error("the agent's answer cannot be read: {0}")]
    Garbled(String),
}

/// Sends a request and waits for the answer: up to `connect` for somebody to listen, up to `answer` for the reply.
pub fn call(
    socket: &Path,
    request: &Request,
    netns: Option<BorrowedFd<'_>>,
    connect: Duration,
    answer: Duration,
) -> Result<Response, CallError> {
    let mut stream = connect_within(socket, connect)?;
    converse(&mut stream, request, netns, answer).map_err(|error| match error {
        CallError::Broken(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            CallError::Silent { path: socket.display().to_string(), waited: answer }
        }
        error => error,
    })
}

fn converse(
    stream: &mut UnixStream,
    request: &Request,
    netns: Option<BorrowedFd<'_>>,
    answer: Duration,
) -> Result<Response, CallError> {
    stream.set_read_timeout(Some(answer)).map_err(CallError::Broken)?;
    stream.set_write_timeout(Some(answer)).map_err(CallError::Broken)?;
    let body = serde_json::to_vec(request).map_err(|e| CallError::Garbled(e.to_string()))?;
    let header = header(&body).ok_or_else(|| CallError::Garbled("the request is too long".to_owned()))?;
    match send(stream, &header, &body, netns) {
        Ok(()) => read_answer(stream),
        // An agent that has no room says so and hangs up before it has read anything.
        Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
            read_answer(stream).map_err(|_| CallError::Broken(error))
        }
        Err(error) => Err(CallError::Broken(error)),
    }
}

fn read_answer(stream: &mut UnixStream) -> Result<Response, CallError> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).map_err(CallError::Broken)?;
    let len = body_len(header).ok_or_else(|| CallError::Garbled("the answer is too long".to_owned()))?;
    let mut body = vec![0; len];
    stream.read_exact(&mut body).map_err(CallError::Broken)?;
    serde_json::from_slice(&body).map_err(|e| CallError::Garbled(e.to_string()))
}

/// The file beside an agent's socket that says that no agent will come any more. A running agent is asked nevertheless.
pub fn leaving_file(socket: &Path) -> PathBuf {
    socket.with_extension("leaving")
}

fn connect_within(socket: &Path, patience: Duration) -> Result<UnixStream, CallError> {
    let start = Instant::now();
    let leaving = leaving_file(socket);
    loop {
        match try_connect(socket) {
            Ok(stream) => return Ok(stream),
            Err(_) if leaving.exists() => {
                return Err(CallError::Leaving { path: leaving.display().to_string() });
            }
            Err(_) if start.elapsed() < patience => std::thread::sleep(RETRY),
            Err(_) => {
                let path = socket.display().to_string();
                return Err(CallError::Absent { path, waited: patience });
            }
        }
    }
}

/// Connects or fails at once: otherwise connecting to an agent that hangs, whose backlog is full, would take for ever.
fn try_connect(path: &Path) -> std::io::Result<UnixStream> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)?;
    let stream = UnixStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// The header carries the descriptor; it is four bytes, which a stream socket takes whole or not at all.
fn send(
    stream: &mut UnixStream,
    header: &[u8; 4],
    body: &[u8],
    netns: Option<BorrowedFd<'_>>,
) -> std::io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = netns.into_iter().collect();
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(std::io::Error::other("no room for one descriptor"));
    }
    let sent = sendmsg(&*stream, &[IoSlice::new(header)], &mut ancillary, SendFlags::NOSIGNAL)?;
    if sent != header.len() {
        return Err(ErrorKind::WriteZero.into());
    }
    stream.write_all(body)
}

#[cfg(test)]
mod tests {
    use rustix::net::{bind, listen};

    use super::*;
    use crate::arguments::{Arguments, Verb};
    use crate::request::{PROTOCOL, Plugin};

    fn request(netconf: serde_json::Value) -> Request {
        Request {
            protocol: PROTOCOL,
            plugin: Plugin::Network,
            arguments: Arguments {
                verb: Verb::Del,
                container_id: "c1".to_owned(),
                netns: String::new(),
                ifname: "eth0".to_owned(),
                args: String::new(),
                path: String::new(),
            },
            netconf,
        }
    }

    /// A socket that listens and nobody accepts from; connections wait until there are `backlog` + 1.
    fn hanging(dir: &Path, backlog: i32) -> (std::path::PathBuf, std::os::fd::OwnedFd) {
        let path = dir.join("cni.sock");
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).expect("socket");
        bind(&socket, &SocketAddrUnix::new(&path).expect("short")).expect("bound");
        listen(&socket, backlog).expect("listening");
        (path, socket)
    }

    #[test]
    fn nobody_waits_on_a_node_that_leaves() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let socket = dir.path().join("cni.sock");
        std::fs::write(leaving_file(&socket), "").expect("written");
        let hour = Duration::from_secs(3600);
        let error = call(&socket, &request(serde_json::json!({})), None, hour, hour).expect_err("nobody");
        assert!(matches!(error, CallError::Leaving { .. }), "{error}");
    }

    #[test]
    fn a_full_backlog_is_an_absent_agent() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (path, _listener) = hanging(dir.path(), 0);
        let _waiting = try_connect(&path).expect("the first waits in the backlog");
        let error = call(&path, &request(serde_json::json!({})), None, RETRY, RETRY).expect_err("full");
        assert!(matches!(error, CallError::Absent { .. }), "{error}");
    }

    #[test]
    fn an_agent_that_does_not_read_is_given_up() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (path, _listener) = hanging(dir.path(), 8);
        // More than a socket's buffer holds, less than a frame may be.
        let long = serde_json::json!({"filler": "x".repeat(crate::request::MAX_FRAME / 2)});
        let error = call(&path, &request(long), None, RETRY, RETRY).expect_err("nobody reads");
        assert!(matches!(error, CallError::Silent { .. }), "{error}");
    }

    #[test]
    fn an_agent_that_does_not_answer_is_silent() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let (path, _listener) = hanging(dir.path(), 8);
        let error = call(&path, &request(serde_json::json!({})), None, RETRY, RETRY).expect_err("silence");
        assert!(matches!(error, CallError::Silent { .. }), "{error}");
    }

    #[test]
    fn an_agent_that_goes_away_breaks_off() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("cni.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("bound");
        let agent = std::thread::spawn(move || listener.accept().map(drop));
        let minute = Duration::from_secs(60);
        let error = call(&path, &request(serde_json::json!({})), None, minute, minute).expect_err("gone");
        assert!(matches!(error, CallError::Broken(_)), "{error}");
        agent.join().expect("ended").expect("accepted");
    }
}
