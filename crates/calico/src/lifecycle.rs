//! The ends of a node's life: the start alone, the word that it is up, and the word that it goes down.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use calico_cni::datastore::{self, Datastore};
use calico_cni::kubernetes::{Api, ApiError, Kubernetes};
use calico_node::startup::kubeadm::{self, Kubeadm};
use calico_node::startup::{Started, ask_until_answered, is_told_to_wait};
use calico_node::{Health, shutdown};
use calico_store::Store;
use calico_store::config::Settings;
use serde_json::Value;
use smol_str::SmolStr;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// How often readiness is looked at.
const POLL: Duration = Duration::from_secs(1);
/// How long after a failure Kubernetes is told again.
const RETRY: Duration = Duration::from_secs(10);

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// `calico node startup`: what the agent does first, and no more.
pub fn start_only() -> ExitCode {
    finish("the node is not started", try_start())
}

/// `calico node shutdown`, which a pod's preStop hook runs.
pub fn shut_down() -> ExitCode {
    finish("the node is not marked as going down", try_shut_down())
}

fn finish(what: &str, outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "{what}");
            ExitCode::FAILURE
        }
    }
}

fn try_start() -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(async {
        let opened = open_datastore().await?;
        let started = start(&opened.store, opened.kubernetes.ok().as_deref()).await?;
        tracing::info!(node = %started.node, "started");
        Ok(())
    })
}

/// Opens the datastore of a node, which may be the first of its cluster. Where `WAIT_FOR_DATASTORE` says so, what may mend by
/// itself is waited for: etcd that a login does not reach, a disk that is full.
pub async fn open_datastore() -> Result<Datastore> {
    let settings = Settings::from_felix_environment(&variable).or(Settings::from_environment(&variable));
    let waits = is_told_to_wait(&variable).context("start")?;
    let open = async || datastore::open_or_create(&settings, &variable).await;
    ask_until_answered(open, |error| waits && error.is_transient()).await.context("datastore")
}

/// Starts the node; where there is Kubernetes, with what kubeadm left there.
pub async fn start(store: &Arc<dyn Store>, api: Option<&dyn Api>) -> Result<Started> {
    calico_node::startup::wait_if_told(store, &variable).await?;
    let kubeadm = match api {
        Some(api) => read_kubeadm(api).await?,
        None => None,
    };
    Ok(calico_node::start(store, &variable, kubeadm.as_ref(), env!("CARGO_PKG_VERSION")).await?)
}

/// Who may not read it counts as in a cluster of somebody else's making; what else goes wrong may not pass for that,
/// because the first pool is made of it once and for all.
async fn read_kubeadm(api: &dyn Api) -> Result<Option<Kubeadm>> {
    match api.get(kubeadm::PATH).await {
        Ok(found) => Ok(found.as_ref().map(Kubeadm::from_config_map)),
        Err(ApiError::Refused { status: 401 | 403, .. }) => Ok(None),
        Err(error) => Err(error).context(kubeadm::PATH),
    }
}

fn try_shut_down() -> Result<()> {
    let now = OffsetDateTime::now_utc();
    let file = shutdown::timestamp_file(&variable);
    shutdown::write_timestamp(&file, now).with_context(|| file.display().to_string())?;
    let api = match Kubernetes::open(&Settings::from_environment(&variable), &variable) {
        Ok(api) => api,
        Err(error) => {
            tracing::info!(%error, "no Kubernetes to tell");
            return Ok(());
        }
    };
    let node = kubernetes_name(&calico_node::startup::read_node_name(&variable)?);
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(patch_node(&*api, &node, shutdown::condition(false, now)))
}

/// Tells Kubernetes that the node's network is up once everything is ready, as often as it takes.
pub async fn announce(health: Health, api: Option<Arc<dyn Api>>, node: SmolStr, shutdown: CancellationToken) {
    let told = async {
        while !health.summary(Instant::now()).ready {
            sleep(POLL).await;
        }
        let file = shutdown::timestamp_file(&variable);
        if let Err(error) = shutdown::remove_timestamp(&file) {
            tracing::warn!(file = %file.display(), %error, "the time of the last shutdown stays");
        }
        let Some(api) = api else { return };
        let node = kubernetes_name(&node);
        let condition = || shutdown::condition(true, OffsetDateTime::now_utc());
        while let Err(error) = patch_node(&*api, &node, condition()).await {
            tracing::warn!(error = format!("{error:#}"), "Kubernetes does not know yet that the node is up");
            sleep(RETRY).await;
        }
        tracing::info!(%node, "ready, and Kubernetes knows");
    };
    tokio::select! {
        () = told => {}
        () = shutdown.cancelled() => {}
    }
}

/// What Kubernetes calls this node.
fn kubernetes_name(node: &str) -> String {
    variable("CALICO_K8S_NODE_REF").filter(|name| !name.trim().is_empty()).unwrap_or_else(|| node.to_owned())
}

async fn patch_node(api: &dyn Api, node: &str, patch: Value) -> Result<()> {
    let path = format!("/api/v1/nodes/{node}/status");
    api.patch(&path, patch).await.with_context(|| path.clone())
}
