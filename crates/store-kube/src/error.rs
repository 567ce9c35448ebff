//! Why a request to the API server failed, in the words of the store's faults.

use calico_store::Fault;
use serde::Deserialize;

use crate::access::AccessError;
use crate::credential::CredentialError;
use crate::tls::TlsError;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// Nobody listens, or there is no way there.
    #[error("cannot connect to the API server at {server}")]
    Connect {
        /// Its URL.
        server: String,
        /// Why.
        source: std::io::Error,
    },
    /// The server is not the one that it should be, or does not accept the client's certificate.
    #[error("no TLS connection to the API server at {server}")]
    Tls {
        /// Its URL.
        server: String,
        /// Why.
        source: std::io::Error,
    },
    /// A step took too long.
    #[error("the API server at {server} did not give {wanted} within {secs} s")]
    Silent {
        /// Its URL.
        server: String,
        /// What was waited for.
        wanted: &'static str,
        /// How long.
        secs: u64,
    },
    /// The connection broke.
    #[error("the connection to the API server at {server} broke")]
    Broken {
        /// Its URL.
        server: String,
        /// Why.
        source: hyper::Error,
    },
    /// Each new connection was closed before it was used.
    #[error("the API server at {server} closes every connection")]
    Closing {
        /// Its URL.
        server: String,
    },
    /// The host's name cannot be in a certificate.
    #[error("{name:?} is not a name that a certificate can have; set tls-server-name")]
    ServerName {
        /// The name.
        name: String,
    },
    /// What is to be sent cannot be sent.
    #[error("{what}: no request ({problem})")]
    Request {
        /// What was to be asked.
        what: String,
        /// Why.
        problem: String,
    },
    /// The certificates' files are not usable.
    #[error(transparent)]
    Config(#[from] TlsError),
    /// There is no token.
    #[error(transparent)]
    Credential(#[from] CredentialError),
}

impl TransportError {
    /// In the words of the store.
    pub(crate) fn into_fault(self) -> Fault {
        match &self {
            // A wrong authority or name is not mended by time. What the server says of our certificate comes as an
            // alert, which is an error of the same kind; a handshake that ends early is a server that stops.
            TransportError::Tls { source, .. } if source.kind() == std::io::ErrorKind::InvalidData => {
                Fault::Broken(self.into())
            }
            TransportError::ServerName { .. }
            | TransportError::Request { .. }
            | TransportError::Config(_) => Fault::Broken(self.into()),
            TransportError::Credential(_) => Fault::Denied(self.into()),
            _ => Fault::Unavailable(self.into()),
        }
    }
}

/// An answer that says no (`kind: Status`).
#[derive(Clone, Debug, thiserror::Error)]
#[error("{what}: {message} ({code} {reason})")]
pub(crate) struct Refusal {
    /// What was asked: `PUT /api/v1/nodes/n1/status`.
    pub(crate) what: String,
    /// HTTP's number.
    pub(crate) code: u16,
    /// Kubernetes' word, as in `AlreadyExists`; may be empty.
    pub(crate) reason: String,
    /// What the server says.
    pub(crate) message: String,
    /// How many seconds to wait before the next try.
    pub(crate) retry_after: Option<u64>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default)]
    reason: Option<String>,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    details: Option<StatusDetails>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatusDetails {
    #[serde(default)]
    retry_after_seconds: Option<u64>,
}

impl Refusal {
    /// Reads the body of an answer whose number is an error. It may be anything: a proxy's page, or empty.
    pub(crate) fn parse(what: String, code: u16, retry_after: Option<u64>, body: &[u8]) -> Refusal {
        let status: Status = serde_json::from_slice(body).unwrap_or_default();
        let text = || {
            let text = String::from_utf8_lossy(body);
            let line = text.lines().next().unwrap_or_default().trim();
            line.chars().take(200).collect::<String>()
        };
        let told = status.details.and_then(|d| d.retry_after_seconds);
        Refusal {
            what,
            code,
            reason: status.reason.unwrap_or_default(),
            message: status.message.unwrap_or_else(text),
            retry_after: retry_after.or(told).filter(|s| *s > 0),
        }
    }

    /// In the words of the store, for those refusals that mean no more than a failed request.
    pub(crate) fn into_fault(self) -> Fault {
        match self.code {
            401 | 403 => Fault::Denied(self.into()),
            408 | 409 | 410 | 429 | 500 | 502 | 503 | 504 => Fault::Unavailable(self.into()),
            _ => Fault::Broken(self.into()),
        }
    }
}

/// Why a request did not succeed.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// The server said no.
    Refused(Refusal),
    /// There was no answer.
    Fault(Fault),
}

impl RequestError {
    /// Whether the server said this number.
    pub(crate) fn is(&self, code: u16) -> bool {
        matches!(self, RequestError::Refused(refusal) if refusal.code == code)
    }

    pub(crate) fn into_fault(self) -> Fault {
        match self {
            RequestError::Refused(refusal) => refusal.into_fault(),
            RequestError::Fault(fault) => fault,
        }
    }
}

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The settings and their files name no server.
    #[error(transparent)]
    Access(#[from] AccessError),
    /// The server was not reached or refused to say which API groups it has.
    #[error("cannot use the API server at {server}")]
    Server {
        /// Its URL.
        server: String,
        /// Why.
        source: Fault,
    },
}

impl ConnectError {
    /// Whether trying again later may succeed without anybody's help.
    pub fn is_transient(&self) -> bool {
        match self {
            ConnectError::Access(_) => false,
            ConnectError::Server { source, .. } => source.is_transient(),
        }
    }
}

#[cfg(test)]
mod tests;
