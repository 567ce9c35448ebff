//! The agent's side: a root-only socket, one answer per request, retries of one container joined to the work in flight.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{MutexGuard, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::arguments::{Arguments, Verb};
use crate::error::{CniError, Code};
use crate::request::{PROTOCOL, Request, Response, body_len, header};
use crate::spool::{self, SpoolError};

/// Requests worked on at once. The kernel serialises most of an ADD; more would only wait in another place.
const MAX_WORKING: usize = 32;

/// Connections that may wait for their turn. kubelet starts tens of pods at once, never thousands.
const MAX_WAITING: usize = 1024;

/// How long a plugin may take to say what it wants: it writes it at once or it is gone.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the spool is looked at again for requests that could not be done, or came while we were starting.
const SPOOL_INTERVAL: Duration = Duration::from_secs(10);

/// Who does the work.
#[async_trait::async_trait]
pub trait Work: Send + Sync + 'static {
    /// Carries out one request; the document to print.
    async fn perform(
        &self,
        request: Request,
        netns: Option<OwnedFd>,
    ) -> Result<Option<serde_json::Value>, CniError>;
}

type Outcome = Shared<BoxFuture<'static, Response>>;

/// Requests in flight, by container and interface: a retry of the same request joins it, another verb waits for it.
#[derive(Default)]
struct InFlight(Mutex<HashMap<(String, String), (Request, Outcome)>>);

/// The agent's CNI server.
pub struct Server<W> {
    work: Arc<W>,
    in_flight: InFlight,
    working: Semaphore,
    waiting: Semaphore,
    spool: PathBuf,
    /// Held from reading a spooled request until its file is gone, so that nobody carries it out later.
    spooling: tokio::sync::Mutex<()>,
}

/// Takes a request out of [`InFlight`] when its work ends, even by a panic: a retry must begin anew.
struct Landing<'a> {
    in_flight: &'a InFlight,
    key: (String, String),
}

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.in_flight.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

impl<W: Work> Server<W> {
    /// A server that has `work` done, and completes what the spool directory holds.
    pub fn new(work: W, spool: &Path) -> Arc<Server<W>> {
        Arc::new(Server {
            work: Arc::new(work),
            in_flight: InFlight::default(),
            working: Semaphore::new(MAX_WORKING),
            waiting: Semaphore::new(MAX_WAITING),
            spool: spool.to_owned(),
            spooling: tokio::sync::Mutex::default(),
        })
    }

    /// Listens until `shutdown`. The spool is worked off meanwhile: a datastore that is away must not keep ADDs and
    /// STATUS from being answered.
    pub async fn serve(self: Arc<Self>, socket: &Path, shutdown: CancellationToken) -> io::Result<()> {
        let listener = bind(socket)?;
        tokio::spawn(self.clone().drain_until(shutdown.clone()));
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => self.clone().spawn_connection(stream),
                    Err(error) => {
                        // Out of descriptors, most likely: do not spin on it.
                        tracing::warn!(%error, "cannot accept a CNI request");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
    }

    fn spawn_connection(self: Arc<Self>, stream: UnixStream) {
        tokio::spawn(async move {
            if let Err(error) = self.serve_connection(stream).await {
                tracing::warn!(%error, "a CNI request broke off");
            }
        });
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
            self.clone().answer(request, netns).await
        } else {
            let details = format!(
                "the plugin speaks protocol {}, this agent {PROTOCOL}; install the plugin again",
                request.protocol
            );
            Response::Failed(CniError::generic("plugin and agent differ", details))
        };
        write_frame(&mut stream, &response).await
    }

    /// The answer to a request. The work goes on when the plugin goes away; its retry then finds it in flight.
    async fn answer(self: Arc<Self>, request: Request, netns: Option<OwnedFd>) -> Response {
        if !matches!(request.arguments.verb, Verb::Add | Verb::Del | Verb::Check) {
            return self.perform(request, netns).await;
        }
        if request.arguments.verb == Verb::Add
            && let Err(error) = self.complete_spooled(&request.arguments).await
        {
            return Response::Failed(error);
        }
        let key = (request.arguments.container_id.clone(), request.arguments.ifname.clone());
        let mut netns = netns;
        loop {
            let (joined, outcome) = {
                let mut map = self.in_flight.0.lock().unwrap_or_else(PoisonError::into_inner);
                match map.get(&key) {
                    Some((running, outcome)) => (*running == request, outcome.clone()),
                    None => {
                        let server = self.clone();
                        let (job, own, netns) = (request.clone(), key.clone(), netns.take());
                        let work = tokio::spawn(async move {
                            let _landed = Landing { in_flight: &server.in_flight, key: own };
                            server.perform(job, netns).await
                        });
                        let outcome = work
                            .map(|joined| {
                                joined.unwrap_or_else(|e| {
                                    Response::Failed(CniError::generic("the agent failed", e))
                                })
                            })
                            .boxed()
                            .shared();
                        map.insert(key.clone(), (request.clone(), outcome.clone()));
                        (true, outcome)
                    }
                }
            };
            let response = outcome.await;
            if joined {
                return response;
            }
        }
    }

    async fn perform(&self, request: Request, netns: Option<OwnedFd>) -> Response {
        let _turn = self.working.acquire().await.expect("the semaphore is never closed");
        match self.work.perform(request, netns).await {
            Ok(document) => Response::Done(document),
            Err(error) => Response::Failed(error),
        }
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

    /// Completes spooled DELs; one that fails stays for the next round.
    async fn drain_spool(self: &Arc<Self>) {
        let files = match spool::list(&self.spool) {
            Ok(files) => files,
            Err(error) => return tracing::error!(%error, "cannot read the CNI spool"),
        };
        for file in files {
            if let Err(error) = self.complete(&file, &self.spooling.lock().await).await {
                tracing::warn!(file = %file.display(), %error, "a spooled CNI DEL fails; it stays");
            }
        }
    }

    /// Completes the DELs of an attachment that is about to be added again, so that they cannot undo it later.
    async fn complete_spooled(self: &Arc<Self>, arguments: &Arguments) -> Result<(), CniError> {
        let list = || {
            spool::list_of(&self.spool, arguments)
                .map_err(|e| CniError::new(Code::Io, "cannot read the CNI spool", e))
        };
        if list()?.is_empty() {
            return Ok(());
        }
        let turn = self.spooling.lock().await;
        for file in list()? {
            self.complete(&file, &turn).await.map_err(|e| {
                CniError::new(Code::TryAgainLater, "a DEL of this container is not done yet", e)
            })?;
        }
        Ok(())
    }

    /// Carries out one spooled request and removes it.
    async fn complete(self: &Arc<Self>, file: &Path, _turn: &MutexGuard<'_, ()>) -> Result<(), CniError> {
        let unusable = |e: SpoolError| CniError::new(Code::Io, "cannot use a spooled CNI request", e);
        let Some(request) = spool::read(file).map_err(unusable)? else { return Ok(()) };
        let container = request.arguments.container_id.clone();
        if let Response::Failed(error) = Box::pin(self.clone().answer(request, None)).await {
            return Err(error);
        }
        spool::remove(file).map_err(unusable)?;
        tracing::info!(%container, "completed a spooled CNI DEL");
        Ok(())
    }
}

fn bind(socket: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    if let Some(dir) = socket.parent() {
        std::fs::create_dir_all(dir)?;
    }
    // Bound aside and renamed into place: a plugin never finds a socket that is not yet root's alone, and a socket
    // that a killed agent left behind is replaced.
    let aside = socket.with_extension("next");
    match std::fs::remove_file(&aside) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
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
