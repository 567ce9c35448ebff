//! What a process of this node opens: the datastore that its settings name and, besides, the way to the Kubernetes API,
//! which has the pods whatever the datastore is.

use std::sync::Arc;

use calico_store::Store;
use calico_store::config::{ConfigError, DatastoreConfig, Settings};
use calico_store_etcd::{connect, connect_or_create};
use calico_store_kube::{ConnectError, KubeStore};

use crate::kubernetes::{Api, Kubernetes, NoWay};

/// A datastore, opened.
pub struct Datastore {
    /// It.
    pub store: Arc<dyn Store>,
    /// The Kubernetes API, or why there is no way to it.
    pub kubernetes: Result<Arc<dyn Api>, NoWay>,
    /// Kubernetes' own objects, such as services, where there is a way to them; the store itself where it is that.
    pub natives: Option<Arc<dyn Store>>,
    /// Whether endpoints are objects of the datastore's own; on the Kubernetes API they are pods.
    pub keeps_endpoints: bool,
}

/// Why a datastore is not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What the settings say cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The Kubernetes API.
    #[error(transparent)]
    Kubernetes(#[from] ConnectError),
    /// etcd or the embedded store.
    #[error(transparent)]
    Other(#[from] calico_store_etcd::ConnectError),
}

impl OpenError {
    /// Whether trying again later may succeed without anybody's help.
    pub fn is_transient(&self) -> bool {
        match self {
            OpenError::Config(_) => false,
            OpenError::Kubernetes(error) => error.is_transient(),
            OpenError::Other(error) => error.is_transient(),
        }
    }
}

/// Opens what the settings name. `environment` is asked for what a pod is told of its cluster. An embedded store has to be
/// there.
pub async fn open(
    settings: &Settings,
    environment: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<Datastore, OpenError> {
    open_by(settings, environment, false).await
}

/// The same for the start of a node, which begins a cluster where there is none: an embedded store that is not there is
/// made.
pub async fn open_or_create(
    settings: &Settings,
    environment: &(dyn Fn(&str) -> Option<String> + Sync),
) -> Result<Datastore, OpenError> {
    open_by(settings, environment, true).await
}

async fn open_by(
    settings: &Settings,
    environment: &(dyn Fn(&str) -> Option<String> + Sync),
    creates: bool,
) -> Result<Datastore, OpenError> {
    match settings.resolve()? {
        DatastoreConfig::Kubernetes(config) => {
            let store = KubeStore::open(&config, &|name| environment(name))?;
            // One connection serves both.
            let kubernetes: Arc<dyn Api> = Arc::new(Kubernetes(store.client().clone()));
            let store: Arc<dyn Store> = Arc::new(store);
            let natives = Some(store.clone());
            Ok(Datastore { store, kubernetes: Ok(kubernetes), natives, keeps_endpoints: false })
        }
        config => {
            let store = if creates { connect_or_create(&config).await? } else { connect(&config).await? };
            let opened = settings
                .kubernetes()
                .map_err(NoWay::from)
                .and_then(|config| KubeStore::open(&config, &|name| environment(name)).map_err(NoWay::from));
            let (kubernetes, natives) = match opened {
                Ok(natives) => {
                    let api: Arc<dyn Api> = Arc::new(Kubernetes(natives.client().clone()));
                    let natives: Arc<dyn Store> = Arc::new(natives);
                    (Ok(api), Some(natives))
                }
                Err(reason) => (Err(reason), None),
            };
            Ok(Datastore { store, kubernetes, natives, keeps_endpoints: true })
        }
    }
}
