//! The running node: BGP and its BIRD, tunnel addresses, the watch over the node's address, and what they report.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use calico_dataplane::tables::tunnel::TunnelId;
use calico_mesh::Local;
use calico_net::Cidr;
use calico_store::Store;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::bgp::{BgpReport, SecretSource, ServiceSource, ThisNode, run_bgp};
use crate::bird::daemon::Paths;
use crate::bird::{Bird, BirdReport};
use crate::health::{Health, Promise, Report, Reporter};
use crate::metrics::NodeMetrics;
use crate::readiness::{explain_unrouted, judge, read_age, read_bird_status, read_ipip};
use crate::startup::settings::{Backend, SettingError, Vars};
use crate::startup::{Started, apply_node, nodename_file};
use crate::status::run_status;
use crate::tunnels::run_tunnels;

/// How often BIRD is asked how it is while it is not ready, so that readiness follows within a probe's period.
const STATUS_POLL_NOT_READY: Duration = Duration::from_secs(1);
/// How often afterwards.
const STATUS_POLL_READY: Duration = Duration::from_secs(5);
/// What BIRD's state is worth: it is asked far more often, and nobody asks any more if it gets older.
const SILENCE: Duration = Duration::from_secs(30);
/// The name of the readiness reporter.
const REPORTER: &str = "bgp";
const TUNNELS_REPORTER: &str = "tunnels";
/// How often the node's address is looked at again unless `AUTODETECT_POLL_INTERVAL` says otherwise.
const DEFAULT_ADDRESS_POLL: Duration = Duration::from_secs(60);

/// What the node runs on.
pub struct NodeArgs {
    /// The datastore.
    pub store: Arc<dyn Store>,
    /// What [`crate::startup::start`] returned.
    pub started: Started,
    /// The Kubernetes API, whatever the datastore is, for addresses of services; nobody asks for any with `None`.
    pub services: Option<Arc<dyn Store>>,
    /// `CALICO_ADVERTISE_CLUSTER_IPS`, if it is set: instead of the BGPConfiguration's `serviceClusterIPs`.
    pub cluster_ranges: Option<Vec<Cidr>>,
    /// `CALICO_ROUTER_ID`; empty if unset.
    pub router_id: String,
    /// Where the passwords of sessions are.
    pub secrets: SecretSource,
    /// Whose age decides how readiness judges.
    pub nodename_file: PathBuf,
    /// How often the node's address is looked at again; never with `None`.
    pub address_poll: Option<Duration>,
    /// Where BIRD and its files are.
    pub bird: Paths,
    /// Through which tunnels this node can receive: others learn of its addresses in them only then.
    pub tunnels_ready: watch::Receiver<BTreeSet<TunnelId>>,
    /// This node's tunnel addresses are kept here (not with `USE_POD_CIDR`).
    pub keeps_tunnel_addresses: bool,
    /// The agent leaves routes through IPIP to BIRD (`ProgramClusterRoutes`).
    pub ipip_is_speakers: bool,
    /// Where to report.
    pub health: Health,
    /// What to count.
    pub metrics: NodeMetrics,
}

impl NodeArgs {
    /// What the environment says, with BIRD in its usual place.
    pub fn from_vars(
        store: Arc<dyn Store>,
        started: Started,
        tunnels_ready: watch::Receiver<BTreeSet<TunnelId>>,
        health: Health,
        metrics: NodeMetrics,
        vars: Vars<'_>,
    ) -> Result<NodeArgs, SettingError> {
        let name = "AUTODETECT_POLL_INTERVAL";
        let address_poll = match vars(name).filter(|text| !text.trim().is_empty()) {
            None => DEFAULT_ADDRESS_POLL,
            Some(text) => text
                .trim()
                .parse::<calico_api::GoDuration>()
                .map_err(|e| e.to_string())
                .and_then(|d| d.to_std().ok_or_else(|| "it is negative".to_owned()))
                .map_err(|problem| SettingError { variable: name.to_owned(), problem })?,
        };
        Ok(NodeArgs {
            secrets: SecretSource::from_vars(&store, vars),
            store,
            started,
            services: None,
            cluster_ranges: read_cluster_ranges(vars)?,
            router_id: vars("CALICO_ROUTER_ID").unwrap_or_default().trim().to_owned(),
            nodename_file: nodename_file(vars),
            address_poll: Some(address_poll).filter(|d| !d.is_zero()),
            bird: Paths::default(),
            tunnels_ready,
            keeps_tunnel_addresses: vars("USE_POD_CIDR").as_deref() != Some("true"),
            ipip_is_speakers: false,
            health,
            metrics,
        })
    }
}

/// Prefixes with commas between them.
fn read_cluster_ranges(vars: Vars<'_>) -> Result<Option<Vec<Cidr>>, SettingError> {
    let variable = "CALICO_ADVERTISE_CLUSTER_IPS";
    let text = vars(variable).unwrap_or_default();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let read = |word: &str| {
        let bad = |e| SettingError { variable: variable.to_owned(), problem: format!("{word:?}: {e}") };
        word.parse::<Cidr>().map_err(bad)
    };
    let mut ranges: Vec<Cidr> = words.map(read).collect::<Result<_, _>>()?;
    ranges.sort_unstable();
    ranges.dedup();
    Ok(Some(ranges).filter(|ranges| !ranges.is_empty()))
}

/// Runs until it is told to stop. BIRD is left running.
pub async fn run(args: NodeArgs, shutdown: CancellationToken) {
    let NodeArgs {
        store,
        started,
        services,
        cluster_ranges,
        router_id,
        secrets,
        nodename_file,
        address_poll,
        bird,
        tunnels_ready,
        keeps_tunnel_addresses,
        ipip_is_speakers,
        health,
        metrics,
    } = args;
    let Started { node, settings } = started;
    let tunnels = keeps_tunnel_addresses.then(|| {
        let ready = tunnels_ready.clone();
        let promise = Promise { live: false, ready: true, timeout: None };
        let reporter = health.register(TUNNELS_REPORTER, promise);
        run_tunnels(store.clone(), node.clone(), ready, reporter, shutdown.clone())
    });
    let bgp = async {
        if settings.backend != Backend::Bird {
            return;
        }
        let socket = bird.socket.clone();
        let answers = run_status(store.clone(), node.clone(), socket.clone(), shutdown.clone());
        let (bird, supervisor) = Bird::new(bird);
        let (reporter, bgp_report) = watch::channel(BgpReport::default());
        let promise = Promise { live: false, ready: true, timeout: Some(SILENCE) };
        let status = StatusTask {
            socket,
            nodename_file,
            bird_report: bird.report(),
            bgp_report,
            reporter: health.register(REPORTER, promise),
            metrics,
        };
        let local = Local { node: node.clone(), router_id, ipip_is_speakers, has_ipip_device: false };
        let own = ThisNode { local, tunnels: tunnels_ready };
        let kubernetes_name = settings.k8s_node.clone().unwrap_or_else(|| node.clone());
        let services = ServiceSource { store: services, node: kubernetes_name, cluster_ranges };
        tokio::join!(
            supervisor.run(shutdown.clone()),
            run_bgp(store.clone(), services, own, secrets, bird, reporter, shutdown.clone()),
            status.run(shutdown.clone()),
            answers,
        );
    };
    let addresses = async {
        let Some(period) = address_poll.filter(|_| settings.backend != Backend::None) else { return };
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(period) => {}
            }
            // A datastore that is away must not hold up the end.
            let applied = tokio::select! {
                () = shutdown.cancelled() => return,
                applied = apply_node(&store, &node, &settings) => applied,
            };
            match applied {
                Ok(true) => tracing::info!(%node, "the node's addresses have changed"),
                Ok(false) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, %node, "the node's addresses cannot be brought up to date");
                }
            }
        }
    };
    tokio::join!(bgp, addresses, futures::future::OptionFuture::from(tunnels));
}

/// Asks BIRD now and then how it is, and passes it on.
struct StatusTask {
    socket: PathBuf,
    nodename_file: PathBuf,
    bird_report: watch::Receiver<BirdReport>,
    bgp_report: watch::Receiver<BgpReport>,
    reporter: Reporter,
    metrics: NodeMetrics,
}

impl StatusTask {
    async fn run(mut self, shutdown: CancellationToken) {
        loop {
            let is_ready = self.report().await;
            let wait = if is_ready { STATUS_POLL_READY } else { STATUS_POLL_NOT_READY };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(wait) => {}
                // Whoever has gone has nothing new to say.
                Ok(()) = self.bird_report.changed() => {}
                Ok(()) = self.bgp_report.changed() => {}
            }
        }
    }

    /// Reports once; whether it is ready.
    async fn report(&mut self) -> bool {
        let bird = self.bird_report.borrow_and_update().clone();
        let bgp = self.bgp_report.borrow_and_update().clone();
        self.metrics.note_bird(&bird);
        self.metrics.note_bgp(&bgp);
        let status = match bird.pid {
            Some(_) => read_bird_status(&self.socket).await.map_err(|e| e.to_string()),
            None => Err(bird.start_error.clone().unwrap_or_else(|| "BIRD is not running".to_owned())),
        };
        self.metrics.note_status(status.as_ref().ok());
        let judgement = match (status, explain_unrouted(&bgp, read_ipip())) {
            _ if !bgp.in_sync => Err("waiting for the datastore".to_owned()),
            (_, Some(text)) | (Err(text), None) => Err(text),
            (Ok(status), None) => judge(&status, read_age(&self.nodename_file, SystemTime::now())),
        };
        let ready = judgement.is_ok();
        // The configuration before a bad one is still in force: worth saying, no reason to take the node out.
        let detail = judgement.err().or(bird.config_error).unwrap_or_default();
        self.reporter.report(Report { live: true, ready, detail });
        ready
    }
}

#[cfg(test)]
mod tests;
