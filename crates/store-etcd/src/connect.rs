//! Opens the store that a configuration names.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use calico_store::config::{EtcdConfig, Pem};
use calico_store::{DatastoreConfig, EmbeddedStore, Fault, Store};
use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};

use crate::client::EtcdStore;
use crate::fault::fault;

/// How long to wait for a connection, and for the beginning of an answer (spec 1 §2.1).
const DIAL_TIMEOUT: Duration = Duration::from_secs(10);

/// How often to ask a silent connection whether it lives, and how long to wait for the answer (spec 1 §2.1).
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

/// Where distributions keep the authorities that they trust: Debian, Fedora, Alpine and macOS.
const SYSTEM_AUTHORITIES: &[&str] =
    &["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configuration names the Kubernetes API, which is a store of another crate.
    #[error("datastore type kubernetes is opened elsewhere; here are etcdv3 and embedded")]
    Kubernetes,
    /// A certificate or key cannot be read.
    #[error("cannot read {}", .path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// etcd was not reached, or refused the login.
    #[error("cannot connect to etcd at {endpoints}")]
    Etcd {
        /// Its endpoints, separated by commas.
        endpoints: String,
        /// Why.
        source: Fault,
    },
    /// The file cannot be opened.
    #[error("cannot open the datastore {}", .path.display())]
    Embedded {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Fault,
    },
}

impl ConnectError {
    /// Whether trying again later may succeed without anybody's help.
    pub fn is_transient(&self) -> bool {
        match self {
            ConnectError::Kubernetes | ConnectError::Pem { .. } => false,
            ConnectError::Etcd { source, .. } | ConnectError::Embedded { source, .. } => {
                source.is_transient()
            }
        }
    }
}

/// Opens the store. Without a login etcd is not asked anything yet: the first operation connects, so that a
/// short-lived process pays no extra round trip. With one, this logs in. An embedded store has to be there.
pub async fn connect(config: &DatastoreConfig) -> Result<Arc<dyn Store>, ConnectError> {
    open(config, |path| EmbeddedStore::open_existing(path)).await
}

/// The same for whoever begins a cluster: an embedded store that is not there is made.
pub async fn connect_or_create(config: &DatastoreConfig) -> Result<Arc<dyn Store>, ConnectError> {
    open(config, |path| EmbeddedStore::open(path)).await
}

async fn open(
    config: &DatastoreConfig,
    open_embedded: impl FnOnce(&Path) -> Result<EmbeddedStore, Fault>,
) -> Result<Arc<dyn Store>, ConnectError> {
    match config {
        DatastoreConfig::Kubernetes(_) => Err(ConnectError::Kubernetes),
        DatastoreConfig::Embedded { path } => match open_embedded(path) {
            Ok(store) => Ok(Arc::new(store)),
            Err(source) => Err(ConnectError::Embedded { path: path.clone(), source }),
        },
        DatastoreConfig::Etcd(config) => Ok(Arc::new(connect_etcd(config).await?)),
    }
}

async fn connect_etcd(config: &EtcdConfig) -> Result<EtcdStore, ConnectError> {
    let EtcdConfig { endpoints, login, ca, identity } = config;
    let mut options = ConnectOptions::new()
        .with_connect_timeout(DIAL_TIMEOUT)
        .with_timeout(DIAL_TIMEOUT)
        .with_keep_alive(KEEPALIVE.0, KEEPALIVE.1)
        // Without it a member that has lost the others keeps watches open and is silent.
        .with_require_leader(true);
    if endpoints.iter().any(|e| e.starts_with("https://")) {
        let mut tls = TlsOptions::new();
        match ca {
            Some(pem) => tls = tls.ca_certificate(Certificate::from_pem(read_pem(pem)?)),
            None => {
                if let Some(path) = SYSTEM_AUTHORITIES.iter().map(Path::new).find(|p| p.exists()) {
                    tls = tls.ca_certificate(Certificate::from_pem(read_pem(&Pem::File(path.into()))?));
                }
            }
        }
        if let Some((cert, key)) = identity {
            tls = tls.identity(Identity::from_pem(read_pem(cert)?, read_pem(key)?));
        }
        options = options.with_tls(tls);
    }
    if let Some((user, password)) = login {
        options = options.with_user(user, password).with_auto_token_refresh(true);
    }
    let client = Client::connect(endpoints, Some(options)).await.map_err(|error| ConnectError::Etcd {
        endpoints: endpoints.join(","),
        source: fault(None, &error),
    })?;
    Ok(EtcdStore::new(client, &endpoints.join(",")))
}

fn read_pem(pem: &Pem) -> Result<Vec<u8>, ConnectError> {
    match pem {
        Pem::Inline(text) => Ok(text.clone().into_bytes()),
        Pem::File(path) => {
            std::fs::read(path).map_err(|source| ConnectError::Pem { path: path.clone(), source })
        }
    }
}
