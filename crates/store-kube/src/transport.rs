//! The connection to the API server: TCP, TLS, and HTTP/2 or, where the server has no HTTP/2, HTTP/1.1.
//!
//! One HTTP/2 connection carries everything: a watch is a stream of it, and pings tell within [`PING`] that a server or
//! the way to it has died. Every step is bounded in time, so that a server that accepts and then says nothing is
//! reported and not waited for.

use std::pin::Pin;
use std::sync::{Arc, Mutex as StdMutex, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use calico_store::config::Pem;
use http_body_util::Full;
use hyper::body::{Body as _, Frame, Incoming};
use hyper::client::conn::{http1, http2};
use hyper::{Request, Response, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::access::Access;
use crate::credential::Credential;
use crate::error::TransportError;
use crate::tls;

/// How long to wait for TCP, and then for TLS.
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait for the beginning of an answer, and then for each further part. The server gives up on a request
/// after 60 s, and its admission webhooks after 10 or 30; what takes that long is better tried again.
pub(crate) const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);

/// How often to ask a silent connection whether it lives, and how long to wait for the answer.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(10));

/// How much of an answer may be on its way in one stream: enough for a page of a list at any distance.
const STREAM_WINDOW: u32 = 256 * 1024;

/// How much may be on its way in all streams together. A reader that does not read holds its stream's window; the
/// connection's has room for more streams than a process of ours has watches, so that it holds up nobody else.
const CONNECTION_WINDOW: u32 = 128 * STREAM_WINDOW;

type Sent = Request<Full<Bytes>>;

/// The way to one API server. It connects when first used and again when the connection was lost.
pub(crate) struct Transport {
    access: Access,
    /// How long to wait for an answer: [`ANSWER_TIMEOUT`].
    patience: Duration,
    connection: Mutex<Option<Held>>,
}

/// The connection, and the certificate (PEM) that it was made with. The server judges that one at every request, so a
/// renewed one counts only on another connection.
struct Held {
    connection: Connection,
    shown: Option<Vec<u8>>,
}

#[derive(Clone)]
enum Connection {
    Http2(http2::SendRequest<Full<Bytes>>),
    /// The server has no HTTP/2: connections that are free at the moment.
    Http1(Arc<Pool>),
}

#[derive(Default)]
struct Pool(StdMutex<Vec<http1::SendRequest<Full<Bytes>>>>);

impl Pool {
    /// A free connection that still lives.
    fn take(&self) -> Option<http1::SendRequest<Full<Bytes>>> {
        let mut free = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(sender) = free.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    fn put(&self, sender: http1::SendRequest<Full<Bytes>>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(sender);
    }
}

/// The body of an answer. Over HTTP/1.1 it owns its connection until it has been read.
pub(crate) struct Body {
    incoming: Incoming,
    lent: Option<(http1::SendRequest<Full<Bytes>>, Weak<Pool>)>,
}

impl Transport {
    pub(crate) fn new(access: Access) -> Transport {
        Transport { access, patience: ANSWER_TIMEOUT, connection: Mutex::new(None) }
    }

    pub(crate) fn access(&self) -> &Access {
        &self.access
    }

    /// Forgets the connection, so that the next one is a new one. Running streams go on.
    pub(crate) async fn renew(&self) {
        *self.connection.lock().await = None;
    }

    /// Forgets a connection that was made with another certificate than would be shown now; whether the next request
    /// goes another way than the last.
    pub(crate) async fn leave_outdated(&self, credential: &Credential) -> Result<bool, TransportError> {
        let current = self.certificate(credential)?;
        let mut held = self.connection.lock().await;
        let is_outdated = held.as_ref().is_none_or(|held| held.shown != current);
        if is_outdated {
            *held = None;
        }
        Ok(is_outdated)
    }

    /// The client's certificate as it is now; files are read anew.
    fn certificate(&self, credential: &Credential) -> Result<Option<Vec<u8>>, TransportError> {
        let identity = credential.identity.as_ref().or(self.access.identity.as_ref());
        Ok(identity.map(|(certificate, _)| tls::read(certificate)).transpose()?)
    }

    /// Sends a request and waits for the head of the answer.
    pub(crate) async fn send(
        &self,
        request: Sent,
        credential: &Credential,
    ) -> Result<Response<Body>, TransportError> {
        let mut request = request;
        // A connection that the server closed between two requests is not an error: it did not see the request.
        for _ in 0..3 {
            match self.connect(credential).await? {
                Connection::Http2(sender) => match self.send_http2(sender, request).await? {
                    Ok(response) => return Ok(response),
                    Err(unsent) => request = unsent,
                },
                Connection::Http1(pool) => match self.send_http1(&pool, request, credential).await? {
                    Ok(response) => return Ok(response),
                    Err(unsent) => request = unsent,
                },
            }
        }
        Err(TransportError::Closing { server: self.access.server.to_string() })
    }

    async fn send_http2(
        &self,
        mut sender: http2::SendRequest<Full<Bytes>>,
        request: Sent,
    ) -> Result<Result<Response<Body>, Sent>, TransportError> {
        let answer = async {
            if sender.ready().await.is_err() {
                return Ok(Err(request));
            }
            match sender.try_send_request(request).await {
                Ok(response) => Ok(Ok(response.map(|incoming| Body { incoming, lent: None }))),
                Err(mut error) => match error.take_message() {
                    Some(unsent) => Ok(Err(unsent)),
                    None => Err(self.broken(error.into_error())),
                },
            }
        };
        let answer = timeout(self.patience, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(self.silent("an answer", self.patience)));
        // Also after silence: a server that hangs may answer pings all the same, and a balancer may know another.
        if !matches!(answer, Ok(Ok(_))) {
            self.renew().await;
        }
        answer
    }

    async fn send_http1(
        &self,
        pool: &Arc<Pool>,
        mut request: Sent,
        credential: &Credential,
    ) -> Result<Result<Response<Body>, Sent>, TransportError> {
        let mut sender = match pool.take() {
            Some(sender) => sender,
            None => match self.open(credential).await? {
                Opened::Http1(sender) => sender,
                // The server has learned HTTP/2 since.
                Opened::Http2(sender) => {
                    let (connection, shown) = (Connection::Http2(sender), self.certificate(credential)?);
                    *self.connection.lock().await = Some(Held { connection, shown });
                    return Ok(Err(request));
                }
            },
        };
        // HTTP/1.1 names the host in a header and only the path in its first line; HTTP/2 wants both in one.
        let whole = request.uri().clone();
        *request.uri_mut() = whole.path_and_query().map_or_else(Uri::default, |path| path.clone().into());
        let answer = timeout(self.patience, sender.try_send_request(request)).await;
        match answer.map_err(|_| self.silent("an answer", self.patience))? {
            Ok(response) => {
                let lent = Some((sender, Arc::downgrade(pool)));
                Ok(Ok(response.map(|incoming| Body { incoming, lent })))
            }
            Err(mut error) => match error.take_message() {
                Some(mut unsent) => {
                    *unsent.uri_mut() = whole;
                    Ok(Err(unsent))
                }
                None => Err(self.broken(error.into_error())),
            },
        }
    }

    /// The connection, a new one if there is none that lives.
    async fn connect(&self, credential: &Credential) -> Result<Connection, TransportError> {
        // Held while connecting: everybody waits for the same connection, for a bounded time.
        let mut held = self.connection.lock().await;
        // Those of a plugin are at hand; files are compared where the server does not accept what it was shown.
        let given = match &credential.identity {
            Some((Pem::Inline(certificate), _)) => Some(certificate.as_bytes()),
            _ => None,
        };
        let is_outdated = |held: &Held| given.is_some() && held.shown.as_deref() != given;
        match &*held {
            Some(Held { connection: Connection::Http2(sender), .. }) if sender.is_closed() => {}
            Some(held) if !is_outdated(held) => return Ok(held.connection.clone()),
            _ => {}
        }
        let shown = self.certificate(credential)?;
        let connection = match self.open(credential).await? {
            Opened::Http2(sender) => Connection::Http2(sender),
            Opened::Http1(sender) => {
                let pool = Arc::new(Pool::default());
                pool.put(sender);
                Connection::Http1(pool)
            }
        };
        *held = Some(Held { connection: connection.clone(), shown });
        Ok(connection)
    }

    async fn open(&self, credential: &Credential) -> Result<Opened, TransportError> {
        let server = &self.access.server;
        let tcp = TcpStream::connect((server.host.as_str(), server.port));
        let tcp =
            timeout(DIAL_TIMEOUT, tcp).await.map_err(|_| self.silent("a TCP connection", DIAL_TIMEOUT))?;
        let tcp = tcp.map_err(|source| TransportError::Connect { server: server.to_string(), source })?;
        // Without it small requests wait for the acknowledgement of earlier ones.
        tcp.set_nodelay(true)
            .map_err(|source| TransportError::Connect { server: server.to_string(), source })?;
        if !server.tls {
            return self.http1(tcp).await;
        }
        let identity = credential.identity.as_ref().or(self.access.identity.as_ref());
        let config = tls::configure(self.access.ca.as_ref(), self.access.insecure, identity)?;
        let name = self.access.server_name.as_ref().unwrap_or(&server.host);
        let name = ServerName::try_from(name.clone())
            .map_err(|_| TransportError::ServerName { name: name.clone() })?;
        let handshake = TlsConnector::from(Arc::new(config)).connect(name, tcp);
        let stream = timeout(DIAL_TIMEOUT, handshake)
            .await
            .map_err(|_| self.silent("a TLS handshake", DIAL_TIMEOUT))?;
        let stream = stream.map_err(|source| TransportError::Tls { server: server.to_string(), source })?;
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            self.http2(stream).await
        } else {
            self.http1(stream).await
        }
    }

    async fn http2(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Opened, TransportError> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let handshake = timeout(DIAL_TIMEOUT, builder.handshake(TokioIo::new(stream))).await;
        let (sender, connection) = handshake
            .map_err(|_| self.silent("an HTTP/2 handshake", DIAL_TIMEOUT))?
            .map_err(|source| self.broken(source))?;
        tokio::spawn(async move {
            // Whoever waits for an answer learns of it; this is for the log alone.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the API server ended");
            }
        });
        Ok(Opened::Http2(sender))
    }

    async fn http1(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Opened, TransportError> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|source| self.broken(source))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the API server ended");
            }
        });
        Ok(Opened::Http1(sender))
    }

    fn silent(&self, wanted: &'static str, limit: Duration) -> TransportError {
        TransportError::Silent { server: self.access.server.to_string(), wanted, secs: limit.as_secs() }
    }

    fn broken(&self, source: hyper::Error) -> TransportError {
        TransportError::Broken { server: self.access.server.to_string(), source }
    }
}

enum Opened {
    Http2(http2::SendRequest<Full<Bytes>>),
    Http1(http1::SendRequest<Full<Bytes>>),
}

impl Body {
    /// The next part; `None` at the end. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Result<Bytes, hyper::Error>> {
        loop {
            match std::future::poll_fn(|cx| self.poll(cx)).await {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Some(Err(error)) => return Some(Err(error)),
                None => {
                    if let Some((sender, pool)) = self.lent.take()
                        && let Some(pool) = pool.upgrade()
                    {
                        pool.put(sender);
                    }
                    return None;
                }
            }
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.incoming).poll_frame(cx)
    }
}

#[cfg(test)]
mod tests;
