//! The agent's side: a root-only socket, one answer per request, retries of one container joined to the work in flight.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::arguments::{Arguments, Verb};
use crate::client::leaving_file;
use crate::error::{CniError, Code};
use crate::queue::{Queue, attachment};
use crate::request::{PROTOCOL, Request, Response, body_len, header};
use crate::spool::{self, SpoolError};

/// Connections at once. kubelet starts tens of pods at once, never thousands; each has at most two descriptors here, its
/// connection's and its namespace's, of the 1,024 that a process may have where nobody says otherwise.
const MAX_WAITING: usize = 256;

/// How long a plugin may take to say what it wants: it writes it at once or it is gone.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How long requests in flight may go on when the agent ends. Whoever waits longer hears nothing: as good as no agent,
/// so an ADD may be tried again and a DEL goes into the spool for the next one.
const GRACE: Duration = Duration::from_secs(2);

/// How often the spool is looked at again for requests that could not be done, or came while we were starting.
const SPOOL_INTERVAL: Duration = Duration::from_secs(10);

/// Who does the work. How much of it at once is its own affair: an ADD that waits for policy costs nothing.
#[async_trait::async_trait]
pub trait Work: Send + Sync + 'static {
    /// Carries out one request; the document to print.
    async fn perform(
        &self,
        request: Request,
        netns: Option<OwnedFd>,
    ) -> Result<Option<serde_json::Value>, CniError>;
}

/// The agent's CNI server.
pub struct Server<W> {
    work: Arc<W>,
    queue: Arc<Queue>,
    waiting: Semaphore,
    spool: PathBuf,
}

impl<W: Work> Server<W> {
    /// A server that has `work` done, and completes what the spool directory holds.
    pub fn new(work: W, spool: &Path) -> Arc<Server<W>> {
        Arc::new(Server {
            work: Arc::new(work),
            queue: Arc::default(),
            waiting: Semaphore::new(MAX_WAITING),
            spool: spool.to_owned(),
        })
    }

    /// Listens until `shutdown`, and answers what has begun for [`GRACE`] longer. The spool is worked off meanwhile: a
    /// datastore that is away must not keep ADDs and STATUS from being answered.
    pub async fn serve(self: Arc<Self>, socket: &Path, shutdown: CancellationToken) -> io::Result<()> {
        self.serve_on(bind(socket)?, shutdown).await
    }

    /// As [`Server::serve`], for who wants to know that it listens.
    pub async fn serve_on(
        self: Arc<Self>,
        listener: UnixListener,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        tokio::spawn(self.clone().drain_until(shutdown.clone()));
        let (connections, cut) = (TaskTracker::new(), CancellationToken::new());
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => drop(connections.spawn(self.clone().converse(stream, cut.clone()))),
                    Err(error) => {
                        // Out of descriptors, most likely: do not spin on it.
                        tracing::warn!(%error, "cannot accept a CNI request");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(GRACE, connections.wait()).await.is_err() {
            tracing::info!(requests = connections.len(), "CNI requests are left to the next agent");
        }
        // Before anything that they need goes: an answer that tells of our end would be taken for theirs.
        cut.cancel();
        connections.wait().await;
        Ok(())
    }

    /// One request and its answer, unless the connection is `cut` before.
    async fn converse(self: Arc<Self>, stream: UnixStream, cut: CancellationToken) {
        match cut.run_until_cancelled_owned(self.serve_connection(stream)).await {
            Some(Ok(())) | None => {}
            Some(Err(error)) => tracing::warn!(%error, "a CNI request broke off"),
        }
    }

    async fn serve_connection(self: Arc<Self>, mut stream: UnixStream) -> io::Result<()> {
        let Ok(_turn) = self.waiting.try_acquire() else {
            let error = CniError::new(
                Code::TryAgainLater,
                "the agent is busy",
                format!("{MAX_WAITING} requests wait"),
            );
            return write_frame(&mut stream, &Response::Failed(error)).await;
        };
        if stream.peer_cred()?.uid() != 0 {
            let error = CniError::generic("not permitted", "only root may ask the agent");
            return write_frame(&mut stream, &Response::Failed(error)).await;
        }
        let (request, netns) = tokio::time::timeout(REQUEST_TIMEOUT, read_request(&mut stream)).await??;
        let response = if request.protocol == PROTOCOL {
            tokio::select! {
                response = self.answer(request, netns) => response,
                () = gone(&mut stream) => return Ok(()),
            }
        } else {
            let details = format!(
                "the plugin speaks protocol {}, this agent {PROTOCOL}; install the plugin again",
                request.protocol
            );
            Response::Failed(CniError::generic("plugin and agent differ", details))
        };
        write_frame(&mut stream, &response).await
    }

    /// The answer to a request. The work goes on when the plugin goes away; its retry then finds what it did.
    async fn answer(self: &Arc<Self>, request: Request, netns: Option<OwnedFd>) -> Response {
        let server = self.clone();
        if !matches!(request.arguments.verb, Verb::Add | Verb::Del | Verb::Check) {
            let work = tokio::spawn(async move { respond(server.work.perform(request, netns).await) });
            return work.await.unwrap_or_else(|e| Response::Failed(CniError::generic("the agent failed", e)));
        }
        let job = request.clone();
        let begin = move |askers| async move { respond(server.perform(job, netns, askers).await) };
        let (outcome, _asker) = self.queue.enter(&request, begin);
        outcome.await
    }

    /// Carries out a request in its turn.
    async fn perform(
        &self,
        request: Request,
        netns: Option<OwnedFd>,
        askers: Weak<()>,
    ) -> Result<Option<serde_json::Value>, CniError> {
        let verb = request.arguments.verb;
        if verb == Verb::Add {
            self.complete_spooled(&request.arguments).await?;
        }
        // The runtime gave it up and sees to what comes next. Only a DEL is right at any time.
        if askers.strong_count() == 0 && verb != Verb::Del {
            let container = &request.arguments.container_id;
            tracing::info!(?verb, %container, "the plugin went away before its turn came");
            return Err(CniError::new(Code::TryAgainLater, "not done", "nobody waits for it any more"));
        }
        self.work.perform(request, netns).await
    }

    async fn drain_until(self: Arc<Self>, shutdown: CancellationToken) {
        let mut interval = tokio::time::interval(SPOOL_INTERVAL);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                _ = interval.tick() => self.drain_spool().await,
            }
        }
    }

    /// How many DELs wait in the spool.
    pub fn spooled(&self) -> Result<usize, SpoolError> {
        spool::list(&self.spool).map(|files| files.len())
    }

    /// Completes spooled DELs; one that fails stays for the next round.
    async fn drain_spool(self: &Arc<Self>) {
        if let Err(error) = spool::remove_unfinished(&self.spool, SystemTime::now()) {
            tracing::warn!(%error, "cannot clean the CNI spool");
        }
        let files = match spool::list(&self.spool) {
            Ok(files) => files,
            Err(error) => return tracing::error!(%error, "cannot read the CNI spool"),
        };
        for file in files {
            if let Err(error) = self.complete_in_turn(&file).await {
                tracing::warn!(file = %file.display(), %error, "a spooled CNI DEL fails; it stays");
            }
        }
    }

    /// Completes a spooled request when the turn of its attachment comes, if it is then still there.
    async fn complete_in_turn(self: &Arc<Self>, file: &Path) -> Result<(), CniError> {
        let Some(request) = spool::read(file).map_err(unusable)? else { return Ok(()) };
        let (server, path) = (self.clone(), file.to_owned());
        let work = async move {
            match spool::read(&path).map_err(unusable) {
                Ok(Some(request)) => respond(server.complete(&path, request).await.map(|()| None)),
                Ok(None) => Response::Done(None),
                Err(error) => Response::Failed(error),
            }
        };
        match self.queue.append(&request.arguments, work).await {
            Response::Done(_) => Ok(()),
            Response::Failed(error) => Err(error),
        }
    }

    /// Completes the DELs of an attachment that is about to be added again, so that they cannot undo it later. Called in
    /// its turn: nobody else carries them out meanwhile.
    async fn complete_spooled(&self, arguments: &Arguments) -> Result<(), CniError> {
        for file in spool::list_of(&self.spool, arguments).map_err(unusable)? {
            let Some(request) = spool::read(&file).map_err(unusable)? else { continue };
            if attachment(&request.arguments) == attachment(arguments) {
                self.complete(&file, request).await.map_err(|e| {
                    CniError::new(Code::TryAgainLater, "a DEL of this container is not done yet", e)
                })?;
            }
        }
        Ok(())
    }

    /// Carries out one spooled request and removes it. One that is wrong in itself is set aside: it would fail for ever.
    async fn complete(&self, file: &Path, request: Request) -> Result<(), CniError> {
        let container = request.arguments.container_id.clone();
        match self.work.perform(request, None).await {
            Ok(_) => spool::remove(file).map_err(unusable)?,
            Err(error) if error.is_final() => return spool::set_aside(file, error).map_err(unusable),
            Err(error) => return Err(error),
        }
        tracing::info!(%container, "completed a spooled CNI DEL");
        Ok(())
    }
}

fn respond(outcome: Result<Option<serde_json::Value>, CniError>) -> Response {
    outcome.map_or_else(Response::Failed, Response::Done)
}

fn unusable(error: SpoolError) -> CniError {
    CniError::new(Code::Io, "cannot use the CNI spool", error)
}

/// Ends when the plugin has gone. It says nothing after its request.
async fn gone(stream: &mut UnixStream) {
    // Whatever comes instead of the end, an error or bytes, is no plugin that waits.
    let _ = stream.read(&mut [0]).await;
}

/// Listens on a socket that only root may use.
pub fn bind(socket: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // Bound aside and renamed into place: a plugin never finds a socket that is not yet root's alone, and a socket
    // that a killed agent left behind is replaced.
    let aside = socket.with_extension("next");
    // What a clean-up left that did not come to its end counts no more.
    for file in [&aside, &leaving_file(socket)] {
        match std::fs::remove_file(file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    let listener = UnixListener::bind(&aside)?;
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&aside, socket)?;
    Ok(listener)
}

async fn read_request(stream: &mut UnixStream) -> io::Result<(Request, Option<OwnedFd>)> {
    let mut header = [0; 4];
    let netns = loop {
        stream.readable().await?;
        match stream.try_io(Interest::READABLE, || read_header(stream, &mut header)) {
            Ok(netns) => break netns,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(e) => return Err(e),
        }
    };
    let too_long = || io::Error::new(io::ErrorKind::InvalidData, "the request is too long");
    let mut body = vec![0; body_len(header).ok_or_else(too_long)?];
    stream.read_exact(&mut body).await?;
    Ok((serde_json::from_slice(&body)?, netns))
}

/// The four bytes of the header come in one message, and the descriptor with them.
fn read_header(stream: &UnixStream, header: &mut [u8; 4]) -> io::Result<Option<OwnedFd>> {
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let read = recvmsg(stream, &mut [io::IoSliceMut::new(header)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    if read.bytes != header.len() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let mut netns = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            netns = descriptors.last();
        }
    }
    Ok(netns)
}

async fn write_frame(stream: &mut UnixStream, response: &Response) -> io::Result<()> {
    let body = serde_json::to_vec(response)?;
    let header = header(&body).ok_or_else(|| io::Error::other("the answer is too long"))?;
    stream.write_all(&header).await?;
    stream.write_all(&body).await
}

#[cfg(test)]
mod tests;
