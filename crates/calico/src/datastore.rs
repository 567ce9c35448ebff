//! Opens the store that settings name, whichever it is.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use calico_store::Store;
use calico_store::config::{DatastoreConfig, Settings};
use calico_store_kube::KubeStore;

/// The store. `environment` also names the API server of the pod that this process may run in.
pub async fn open(
    settings: &Settings,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn Store>> {
    let config = settings.resolve().context("datastore")?;
    Ok(match &config {
        DatastoreConfig::Kubernetes(config) => {
            Arc::new(KubeStore::open(config, environment).context("datastore")?)
        }
        config => calico_store_etcd::connect(config).await.context("datastore")?,
    })
}
