//! `calico kube-controllers`: the process of the cluster's controllers, one for the whole cluster.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use calico_controllers::config::Environment;
use calico_controllers::{ApiCluster, Cluster, Options, StoreCluster, Surroundings, health};
use calico_store::Store;
use calico_store::config::{DatastoreConfig, Settings};
use calico_store_kube::{KubeClient, KubeStore};
use futures::FutureExt;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::log::Log;

/// Threads of the runtime: probes are answered while a plan of a large cluster is made.
const WORKERS: usize = 2;

/// Between two tries to serve metrics on a port that is not free yet: the server before it may be ending.
const RETRY: Duration = Duration::from_secs(1);

/// Every address of the pod: of both families, or of one where the kernel has no IPv6.
const EVERYWHERE: [&str; 2] = ["::", "0.0.0.0"];

/// Runs the controllers until they are told to stop.
pub fn main(log: Log, arguments: &[OsString]) -> ExitCode {
    let words: Vec<_> = arguments.iter().map(|a| a.to_string_lossy()).collect();
    match words.iter().map(AsRef::as_ref).collect::<Vec<&str>>().as_slice() {
        [] => {}
        ["-v" | "-version" | "--version"] => {
            println!("{}", env!("CARGO_PKG_VERSION"));
            return ExitCode::SUCCESS;
        }
        _ => {
            eprintln!("usage: kube-controllers [-v]; everything else is said by the environment");
            return ExitCode::from(2);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    match runtime.context("cannot start").and_then(|runtime| runtime.block_on(run(log))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "terminating");
            ExitCode::FAILURE
        }
    }
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

async fn run(log: Log) -> Result<()> {
    let shutdown = CancellationToken::new();
    crate::roles::spawn_signals(shutdown.clone(), "told to stop")?;
    let environment = Environment::read(&variable)?;
    let (store, cluster) = open().await?;
    let options = Options {
        kubernetes: store.clone(),
        calico: store,
        cluster,
        environment,
        status_file: variable("CALICO_STATUS_FILE").map_or_else(|| health::FILE.into(), PathBuf::from),
        surroundings: Box::new(Process { log }),
    };
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "started");
    calico_controllers::run(options, shutdown).await;
    Ok(())
}

/// The datastore, and who knows the cluster: the Kubernetes API itself where that is the datastore.
async fn open() -> Result<(Arc<dyn Store>, Arc<dyn Cluster>)> {
    let config = Settings::from_environment(&variable).resolve().context("datastore")?;
    Ok(match &config {
        DatastoreConfig::Kubernetes(config) => {
            let store = KubeStore::open(config, &variable).context("datastore")?;
            let cluster = api_cluster(store.client().clone());
            (Arc::new(store), Arc::new(cluster))
        }
        config => {
            let store = calico_store_etcd::connect(config).await.context("datastore")?;
            (store.clone(), Arc::new(StoreCluster(store)))
        }
    })
}

fn api_cluster(client: KubeClient) -> ApiCluster {
    ApiCluster(Arc::new(move |path| {
        let client = client.clone();
        async move {
            let answer = client.request("GET", &path, "application/json", None).await;
            answer.map_err(|fault| format!("{:#}", anyhow::Error::from(fault)))
        }
        .boxed()
    }))
}

/// What of this process follows the settings.
struct Process {
    log: Log,
}

impl Surroundings for Process {
    fn follow_log(&self, severity: &str) {
        self.log.follow(severity);
    }

    fn serve_metrics(&self, port: u16, registry: Registry, shutdown: CancellationToken) {
        tokio::spawn(async move {
            let registry = Arc::new(registry);
            for host in EVERYWHERE.into_iter().cycle() {
                if shutdown.is_cancelled() {
                    return;
                }
                let listening = |address: SocketAddr| tracing::info!(%address, "serving metrics");
                let at = (host, port);
                let served =
                    calico_node::health::serve_metrics(at, registry.clone(), listening, shutdown.clone());
                if let Err(error) = served.await {
                    tracing::warn!(error = &error as &dyn std::error::Error, "no metrics; trying again");
                }
                tokio::select! {
                    () = shutdown.cancelled() => {}
                    () = tokio::time::sleep(RETRY) => {}
                }
            }
        });
    }
}
