//! `calico-ipam -upgrade`: takes over what host-local gave, if it gave anything, and tries until it has.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use calico_cni::context::{Context, Nobody};
use calico_cni::datastore::{self, Datastore};
use calico_cni::upgrade::{Paths, is_needed, run};
use calico_store::config::Settings;

/// How long after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Runs until it is done.
pub fn main() -> ExitCode {
    match upgrade() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "calico-ipam -upgrade");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.trim().is_empty())
}

fn upgrade() -> Result<()> {
    let Some(node) = variable("KUBERNETES_NODE_NAME") else {
        bail!("KUBERNETES_NODE_NAME is not set; it must be this node's name in Kubernetes");
    };
    let paths = Paths::default();
    // Without networking of ours host-local goes on giving addresses.
    let keeps_host_local = variable("CALICO_NETWORKING_BACKEND").is_some_and(|backend| backend == "none");
    let needed = is_needed(&paths).with_context(|| paths.leases.display().to_string())?;
    if keeps_host_local || !needed {
        tracing::info!("host-local has no addresses to take over");
        return Ok(());
    }
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        loop {
            match try_upgrade(&node, &paths).await {
                Ok(count) => {
                    tracing::info!(count, "host-local's addresses are taken over");
                    return Ok(());
                }
                Err(error) => tracing::warn!(error = format!("{error:#}"), "not yet"),
            }
            tokio::time::sleep(RETRY).await;
        }
    })
}

async fn try_upgrade(node: &str, paths: &Paths) -> Result<usize> {
    let settings = Settings::from_environment(&variable);
    let Datastore { store, kubernetes, natives: _, keeps_endpoints } =
        datastore::open(&settings, &variable).await.context("datastore")?;
    let context = Context {
        kubernetes: Some(kubernetes?),
        keeps_endpoints,
        ..Context::new(store, node, "cali", Arc::new(Nobody))
    };
    Ok(run(&context, paths).await?)
}
