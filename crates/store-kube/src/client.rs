//! Requests to the API server: login, rate, and the retries that are safe whatever was asked.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use calico_store::Fault;
use calico_store::config::KubernetesConfig;
use http_body_util::Full;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Method, Request, Response};
use tokio::time::{sleep, timeout};

use crate::access::{self, Access};
use crate::credential::{Credential, Credentials};
use crate::error::{ConnectError, Refusal, RequestError, TransportError};
use crate::rate::Bucket;
use crate::transport::{ANSWER_TIMEOUT, Body, Transport};

/// How this client names itself in the server's audit log.
const AGENT: &str = concat!("calico/", env!("CARGO_PKG_VERSION"));

/// How long a request is tried again while the server asks to come back later.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a read is tried again after the server failed at it. More is the caller's business.
const READ_TRIES: u32 = 4;

/// The wait before the second try of a read; each further one doubles it.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// The longest wait that a server can ask for.
const MAX_WAIT: Duration = Duration::from_secs(10);

/// What a request sends.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) method: Method,
    /// Path and query, below the server's base.
    pub(crate) path: String,
    /// Of the body.
    pub(crate) content_type: &'static str,
    pub(crate) body: Bytes,
}

pub(crate) const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";
pub(crate) const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";

impl Call {
    pub(crate) fn get(path: impl Into<String>) -> Call {
        Call { method: Method::GET, path: path.into(), content_type: JSON, body: Bytes::new() }
    }

    pub(crate) fn post(path: impl Into<String>, body: &serde_json::Value) -> Call {
        Call { method: Method::POST, path: path.into(), content_type: JSON, body: body.to_string().into() }
    }

    pub(crate) fn put(path: impl Into<String>, body: &serde_json::Value) -> Call {
        Call { method: Method::PUT, path: path.into(), content_type: JSON, body: body.to_string().into() }
    }

    pub(crate) fn delete(path: impl Into<String>, body: &serde_json::Value) -> Call {
        Call { method: Method::DELETE, path: path.into(), content_type: JSON, body: body.to_string().into() }
    }

    pub(crate) fn patch(
        path: impl Into<String>,
        content_type: &'static str,
        body: &serde_json::Value,
    ) -> Call {
        Call { method: Method::PATCH, path: path.into(), content_type, body: body.to_string().into() }
    }

    /// For messages.
    fn what(&self) -> String {
        format!("{} {}", self.method, self.path.split('?').next().unwrap_or_default())
    }
}

/// A client of one API server with one identity. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct KubeClient(Arc<Inner>);

struct Inner {
    transport: Transport,
    credentials: Credentials,
    bucket: Option<Mutex<Bucket>>,
}

impl std::fmt::Debug for KubeClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeClient").field("access", self.0.transport.access()).finish_non_exhaustive()
    }
}

impl KubeClient {
    /// A client as the settings want it. Reads the files that they name; the server is not asked anything yet.
    pub fn open(
        config: &KubernetesConfig,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<KubeClient, ConnectError> {
        let access = access::read(config, environment)?;
        let bucket = config.rate.map(|rate| Mutex::new(Bucket::new(rate, Instant::now())));
        Ok(KubeClient::new(access, bucket))
    }

    fn new(access: Access, bucket: Option<Mutex<Bucket>>) -> KubeClient {
        let credentials = Credentials::new(access.login.clone());
        KubeClient(Arc::new(Inner { transport: Transport::new(access), credentials, bucket }))
    }

    /// The server's URL, for messages.
    pub fn server(&self) -> String {
        self.0.transport.access().server.to_string()
    }

    /// One request of whatever kind: the number of the answer and its body. `path` is the path with its query;
    /// `content_type` is the body's. Numbers of errors are answers, too; only no answer is a fault.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn request(
        &self,
        method: &str,
        path: &str,
        content_type: &'static str,
        body: Option<Vec<u8>>,
    ) -> Result<(u16, Vec<u8>), Fault> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|error| Fault::Broken(Box::new(error)))?;
        let call =
            Call { method, path: path.to_owned(), content_type, body: body.unwrap_or_default().into() };
        let (code, _, body) = self.exchange(&call).await.map_err(TransportError::into_fault)?;
        Ok((code, body.to_vec()))
    }

    /// A request whose answer is wanted whole.
    pub(crate) async fn call(&self, call: &Call) -> Result<Bytes, RequestError> {
        let (code, retry_after, body) =
            self.exchange(call).await.map_err(|error| RequestError::Fault(error.into_fault()))?;
        match code {
            200..300 => Ok(body),
            _ => Err(RequestError::Refused(self.refusal(call, code, retry_after, &body))),
        }
    }

    /// A request whose answer comes piece by piece, for as long as the server likes. It is tried again only while the
    /// server asks for patience.
    pub(crate) async fn stream(&self, call: &Call) -> Result<Body, RequestError> {
        let fault = |error: TransportError| RequestError::Fault(error.into_fault());
        let start = Instant::now();
        loop {
            let response = self.send(call).await.map_err(fault)?;
            let code = response.status().as_u16();
            let retry_after = retry_after(&response);
            let body = response.into_body();
            if (200..300).contains(&code) {
                return Ok(body);
            }
            let body = self.collect(body).await.map_err(fault)?;
            let wait = retry_after.map_or(FIRST_WAIT, Duration::from_secs).min(MAX_WAIT);
            if code != 429 || start.elapsed() + wait > PATIENCE {
                return Err(RequestError::Refused(self.refusal(call, code, retry_after, &body)));
            }
            sleep(wait).await;
        }
    }

    fn refusal(&self, call: &Call, code: u16, retry_after: Option<u64>, body: &[u8]) -> Refusal {
        let mut refusal = Refusal::parse(call.what(), code, retry_after, body);
        if code == 401 {
            refusal.message =
                format!("{} does not accept the {}", self.server(), self.0.credentials.origin());
        }
        refusal
    }

    /// Sends, waits where the server asks for patience, and tries reads again that failed.
    async fn exchange(&self, call: &Call) -> Result<(u16, Option<u64>, Bytes), TransportError> {
        let start = Instant::now();
        let mut failures = 0;
        loop {
            let answer = self.once(call).await;
            let (wait, safe) = match &answer {
                // Not carried out, whatever it was.
                Ok((429, retry_after, _)) => (retry_after.map(Duration::from_secs), true),
                // Carried out or not: only what changes nothing is safe to ask again.
                Ok((500 | 502 | 503 | 504, retry_after, _)) => {
                    (retry_after.map(Duration::from_secs), call.method == Method::GET)
                }
                // The server may be away for long; one more try tells a broken connection from that.
                Err(TransportError::Broken { .. }) => (None, call.method == Method::GET && failures == 0),
                _ => (None, false),
            };
            failures += 1;
            let wait = wait.unwrap_or_else(|| backoff(failures)).min(MAX_WAIT);
            let out_of_tries = match &answer {
                Ok((429, ..)) => start.elapsed() + wait > PATIENCE,
                _ => failures >= READ_TRIES,
            };
            if !safe || out_of_tries {
                return answer;
            }
            tracing::debug!(what = call.what(), ?wait, "the API server asks to come back later");
            sleep(wait).await;
        }
    }

    async fn once(&self, call: &Call) -> Result<(u16, Option<u64>, Bytes), TransportError> {
        let response = self.send(call).await?;
        let code = response.status().as_u16();
        let retry_after = retry_after(&response);
        let body = self.collect(response.into_body()).await?;
        Ok((code, retry_after, body))
    }

    /// Sends once; twice where the credential turns out to be an old one, or the certificate that the connection was
    /// made with.
    async fn send(&self, call: &Call) -> Result<Response<Body>, TransportError> {
        let credential = self.0.credentials.current().await?;
        let response = self.send_as(call, &credential).await?;
        if response.status().as_u16() != 401 {
            return Ok(response);
        }
        let renewed = if self.0.credentials.can_change() {
            self.0.credentials.discard(&credential).await;
            self.0.credentials.current().await?
        } else {
            credential.clone()
        };
        if !self.0.transport.leave_outdated(&renewed).await? && renewed == credential {
            return Ok(response);
        }
        self.send_as(call, &renewed).await
    }

    async fn send_as(&self, call: &Call, credential: &Credential) -> Result<Response<Body>, TransportError> {
        if let Some(bucket) = &self.0.bucket {
            let wait = bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now());
            sleep(wait).await;
        }
        let access = self.0.transport.access();
        let scheme = if access.server.tls { "https" } else { "http" };
        let authority = access.server.authority();
        let uri = format!("{scheme}://{authority}{}{}", access.server.base, call.path);
        let mut request = Request::builder()
            .method(&call.method)
            .uri(uri)
            .header(USER_AGENT, AGENT)
            .header(HOST, authority)
            .header(ACCEPT, JSON);
        if !call.body.is_empty() {
            request = request.header(CONTENT_TYPE, call.content_type);
        }
        if let Some(token) = &credential.token {
            let value = HeaderValue::try_from(format!("Bearer {token}"));
            // Rather no token than a header that the library refuses: the server then says that it wants one.
            if let Ok(mut value) = value {
                value.set_sensitive(true);
                request = request.header(AUTHORIZATION, value);
            }
        }
        for (name, value) in &access.impersonation {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(call.body.clone()))
            .map_err(|error| TransportError::Request { what: call.what(), problem: error.to_string() })?;
        self.0.transport.send(request, credential).await
    }

    async fn collect(&self, mut body: Body) -> Result<Bytes, TransportError> {
        let mut whole = BytesMut::new();
        loop {
            match timeout(ANSWER_TIMEOUT, body.next()).await {
                Ok(Some(Ok(part))) => whole.extend_from_slice(&part),
                Ok(Some(Err(source))) => {
                    return Err(TransportError::Broken { server: self.server(), source });
                }
                Ok(None) => return Ok(whole.freeze()),
                Err(_) => {
                    self.0.transport.renew().await;
                    let secs = ANSWER_TIMEOUT.as_secs();
                    return Err(TransportError::Silent { server: self.server(), wanted: "the rest", secs });
                }
            }
        }
    }
}

/// `Retry-After` in seconds; API servers use no dates.
fn retry_after(response: &Response<Body>) -> Option<u64> {
    response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// A wait between half and the whole of a doubled step, so that many clients do not come back together.
fn backoff(failures: u32) -> Duration {
    let step = FIRST_WAIT * 2_u32.saturating_pow(failures.saturating_sub(1).min(10));
    let random = RandomState::new().hash_one(failures) % 1024;
    step.mul_f64(0.5 + random as f64 / 2048.0)
}

#[cfg(test)]
mod tests;
