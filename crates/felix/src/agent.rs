//! The loop: observe, decide, act. It owns all state; nothing is shared but reports.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use calico_api::cluster_information::ClusterInformationSpec;
use calico_api::felix_config::{FelixConfig, Resolution, Setting};
use calico_api::{Entry, Key, Kind, Selection, decode};
use calico_calc::change::{Change, Workload, WorkloadId};
use calico_calc::{Calc, Update};
use calico_dataplane::tables::link::Link;
use calico_dataplane::tables::tunnel::{self, TunnelId};
use calico_dataplane::{
    Desired, Kernel, KernelError, Report, WorkloadState, apply, has_drifted, leftovers, resync,
};
use calico_linux::RealKernel;
use calico_linux::monitor::{Event, Monitor, MonitorOptions};
use calico_linux::netlink::{NetlinkError, Traffic};
use calico_linux::sysctl::Sysctl;
use calico_net::{Cidr, Family};
use calico_rules::mark::MarkError;
use calico_store::{Store, SyncEvent, Syncer, SyncerOptions};
use smol_str::SmolStr;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::handover::Handover;
use crate::health::Health;
use crate::live::LiveEndpoints;
use crate::metrics::Metrics;
use crate::reports::EndpointReporter;
use crate::settings::{Settings, dataplane_settings, read_service_nets, without_effect};
use crate::status_files::StatusFiles;
use crate::{forwarding, mtu, reports};

/// How often somebody else's nf_tables transactions are looked for: one 20-byte request.
const GENERATION_POLL: Duration = Duration::from_secs(1);
/// The shortest time between two reads of our tables that others' transactions cause: kube-proxy commits all the time,
/// and each read costs as much as our tables are large.
const FOREIGN_RESYNC: Duration = Duration::from_secs(5);
/// Wait after an update that did not complete; doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(10);
/// How often the kernel is read at the start before its refusal counts. Later there is no such limit: what is in force
/// is better than no agent.
const FIRST_READS: u32 = 6;

/// What the agent is started with.
pub struct Options {
    /// This node's name.
    pub node: SmolStr,
    /// Options of file and environment.
    pub local: Vec<Setting>,
    /// Kernel parameters.
    pub sysctl: Sysctl,
    /// The options in force: those that the process was composed with, and from then on those that the datastore has.
    pub in_force: watch::Sender<Resolution>,
    /// The tunnels through which this node can receive what others send.
    pub tunnels_ready: watch::Sender<BTreeSet<TunnelId>>,
}

/// Why the loop ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It was told to.
    Shutdown,
    /// These options changed and take effect only in a new process. The kernel is left as it is.
    Restart(Vec<&'static str>),
}

/// Why the agent cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The kernel could not be reached.
    #[error("cannot reach the kernel")]
    Kernel(#[from] KernelError),
    /// Interface events cannot be heard.
    #[error("cannot hear of interfaces")]
    Monitor(#[from] NetlinkError),
    /// The runtime cannot wait for them.
    #[error("cannot wait for interface events")]
    Wait(#[source] std::io::Error),
    /// The mark mask has too few bits.
    #[error("NftablesMarkMask")]
    Marks(#[from] MarkError),
    /// An option is so wrong that the agent must not run.
    #[error("{0}")]
    Option(calico_api::felix_config::OptionProblem),
    /// The directory of endpoint status files.
    #[error("cannot keep endpoint status files")]
    StatusFiles(#[source] std::io::Error),
    /// The runtime is shutting down.
    #[error("the datastore's syncer ended")]
    SyncerEnded,
}

/// What is followed in the datastore (spec 1 §2.6).
fn selections() -> Vec<Selection> {
    const KINDS: [Kind; 16] = [
        Kind::BGPConfiguration,
        Kind::ClusterInformation,
        Kind::FelixConfiguration,
        Kind::GlobalNetworkPolicy,
        Kind::GlobalNetworkSet,
        Kind::HostEndpoint,
        Kind::IPPool,
        // Only the Kubernetes datastore has any of these three.
        Kind::KubernetesClusterNetworkPolicy,
        Kind::KubernetesEndpointSlice,
        Kind::KubernetesNetworkPolicy,
        Kind::NetworkPolicy,
        Kind::NetworkSet,
        Kind::Node,
        Kind::Profile,
        Kind::Tier,
        Kind::WorkloadEndpoint,
    ];
    let resources = KINDS.into_iter().map(Selection::all);
    resources.chain(Family::ALL.map(Selection::Blocks)).collect()
}

/// The agent, before its loop runs.
pub struct Agent {
    options: Options,
    store: Arc<dyn Store>,
    live: LiveEndpoints,
    health: Health,
    metrics: Metrics,
}

/// What has been learned of the datastore.
struct Observed {
    settings: Settings,
    calc: Calc,
    /// ClusterInformation says that the datastore may be used.
    datastore_ready: bool,
    config_changed: bool,
    /// The ranges of services that are announced, of which packets may come that nobody translated.
    service_nets: Vec<Cidr>,
    problems: BTreeMap<Key, String>,
    /// What of the calculation's problems is in `problems`.
    problems_version: u64,
}

/// Everything that acts.
struct Acting {
    resolution: Resolution,
    desired: Desired,
    kernel: RealKernel,
    monitor: AsyncFd<Monitor>,
    files: StatusFiles,
    reporter: Option<EndpointReporter>,
    workloads: BTreeMap<WorkloadId, Arc<Workload>>,
    policies: BTreeSet<calico_api::ResourceKey>,
    /// What had gone out to nf_tables at the last turn.
    sent: Traffic,
    /// When to look for what another Calico left, once everything of ours stands.
    leftovers_at: Option<Instant>,
    resync_at: Option<Instant>,
    /// When the kernel was last read because of others.
    last_foreign: Option<Instant>,
    slow_resync_at: Instant,
    /// The kernel could not be read: why, and how long it is left alone.
    unreadable: Option<(String, Duration)>,
    retry: Option<(Instant, Duration)>,
    handover: Handover,
    /// What the file of workloads' MTU says.
    told_mtu: Option<u32>,
    links_changed: bool,
    reported: BTreeMap<String, String>,
    dirty: bool,
    first: bool,
}

impl Agent {
    /// An agent over a datastore; what it does shows in `live`, `health` and `metrics`.
    pub fn new(
        options: Options,
        store: Arc<dyn Store>,
        live: LiveEndpoints,
        health: Health,
        metrics: Metrics,
    ) -> Agent {
        Agent { options, store, live, health, metrics }
    }

    /// Runs until told to stop, or until a changed option needs a new process. It blocks its thread while it talks to the
    /// kernel, and so needs one of its own.
    pub async fn run(self, shutdown: CancellationToken) -> Result<Exit, RunError> {
        let Options { node, local, sysctl, .. } = &self.options;
        let mut observed = Observed {
            settings: Settings::new(node, local.clone()),
            calc: Calc::new(node),
            datastore_ready: false,
            config_changed: false,
            service_nets: Vec::new(),
            problems: BTreeMap::new(),
            problems_version: 0,
        };
        // Before anything is read, so that nothing that happens meanwhile is missed.
        let monitor = Monitor::open(MonitorOptions { routes: true })?;
        let kernel = RealKernel::open(sysctl.clone())?;
        let mut syncer = Syncer::spawn(self.store.clone(), selections(), SyncerOptions::default());
        self.metrics.resync_state.set(1);
        loop {
            let event = tokio::select! {
                () = shutdown.cancelled() => return Ok(Exit::Shutdown),
                event = syncer.next() => event.ok_or(RunError::SyncerEnded)?,
                () = tokio::time::sleep(Duration::from_secs(1)) => {
                    let connected = syncer.health().is_connected();
                    self.health.note(|c| c.detail = waiting_for(connected).to_owned());
                    continue;
                }
            };
            match event {
                SyncEvent::Updates(updates) => self.observe(&mut observed, updates),
                SyncEvent::InSync => break,
            }
        }
        tracing::info!("in sync with the datastore");
        let spoofing = observed.settings.resolve().config.workload_source_spoofing;
        observed.calc.set_source_spoofing(spoofing.eq_ignore_ascii_case("Any"));
        observed.calc.in_sync();
        self.metrics.resync_state.set(2);
        self.health.note(|c| c.in_sync = true);
        observed.config_changed = false;
        let resolution = match self.put_in_force(observed.settings.resolve()) {
            Ok(resolution) => resolution,
            Err(restart) => return Ok(restart),
        };
        let acting = self.start_acting(resolution, kernel, monitor).await?;
        self.turn(syncer, observed, acting, shutdown).await
    }

    /// Takes in entries of the datastore.
    fn observe(&self, observed: &mut Observed, updates: Vec<(Key, Option<Entry>)>) {
        self.metrics.updates_processed.inc_by(updates.len() as u64);
        for (key, entry) in updates {
            if let Key::Resource(resource) = &key
                && resource.kind == Kind::ClusterInformation
                && resource.name == "default"
            {
                let information = entry.as_ref().map(decode::<ClusterInformationSpec>).transpose();
                observed.datastore_ready = match information {
                    Ok(information) => information.is_some_and(|i| i.spec.datastore_ready == Some(true)),
                    Err(error) => {
                        tracing::warn!(%error, "cannot read ClusterInformation; the datastore counts as locked");
                        false
                    }
                };
                continue;
            }
            if let Some(nets) = read_service_nets(&key, entry.as_ref()) {
                observed.service_nets = nets;
                continue;
            }
            match observed.settings.observe(&key, entry.as_ref()) {
                Ok(changed) => observed.config_changed |= changed,
                Err(error) => {
                    tracing::warn!(%error, "cannot read a resource; it counts as absent");
                    observed.config_changed = true;
                }
            }
            if let Some(update) = Update::read(&key, entry.as_ref()) {
                observed.calc.update(update);
            }
        }
    }

    /// Tells everybody of the options now in force; or which of them need a new process.
    fn put_in_force(&self, next: Resolution) -> Result<Resolution, Exit> {
        let reasons = self.options.in_force.borrow().restart_reasons(&next);
        if !reasons.is_empty() {
            tracing::info!(options = ?reasons, "changed options take effect in a new process");
            return Err(Exit::Restart(reasons));
        }
        self.options.in_force.send_replace(next.clone());
        Ok(next)
    }

    async fn start_acting(
        &self,
        resolution: Resolution,
        mut kernel: RealKernel,
        mut monitor: Monitor,
    ) -> Result<Acting, RunError> {
        for problem in &resolution.problems {
            if problem.fatal {
                return Err(RunError::Option(problem.clone()));
            }
            tracing::warn!(%problem, "an option is wrong; its default is in force");
        }
        for option in without_effect(&resolution) {
            tracing::warn!(option, "it is set, and nothing here follows it yet");
        }
        for option in resolution.unknown.keys() {
            tracing::warn!(option, "there is no such option");
        }
        let config = &resolution.config;
        let rp_filter = self.options.sysctl.read("net/ipv4/conf/default/rp_filter");
        let settings = dataplane_settings(config, rp_filter.unwrap_or_else(|_| "1".to_owned()))?;
        if config.ip_forwarding {
            forwarding::write(&self.options.sysctl, config.ipv6_support);
        }
        let mut desired = Desired::new(settings);
        let links = self.read_first(&mut desired, &mut kernel).await?;
        monitor.observe_links(&links);
        let files = StatusFiles::open(&config.endpoint_status_path_prefix).map_err(RunError::StatusFiles)?;
        if !config.reporting_interval.is_zero() {
            let (store, node) = (self.store.clone(), self.options.node.clone());
            tokio::spawn(reports::report_process(
                store,
                node,
                config.reporting_interval,
                config.reporting_ttl,
            ));
        }
        let reporter = config.endpoint_reporting_enabled.then(|| {
            let (store, node) = (self.store.clone(), self.options.node.clone());
            EndpointReporter::spawn(store, node, config.endpoint_reporting_delay)
        });
        Ok(Acting {
            desired,
            sent: Traffic::default(),
            kernel,
            monitor: readiness_of(monitor).map_err(RunError::Wait)?,
            files,
            reporter,
            workloads: BTreeMap::new(),
            policies: BTreeSet::new(),
            leftovers_at: Some(Instant::now()),
            resync_at: None,
            last_foreign: None,
            unreadable: None,
            slow_resync_at: Instant::now() + slow_resync(&resolution),
            resolution,
            retry: None,
            handover: Handover::default(),
            told_mtu: None,
            links_changed: true,
            reported: BTreeMap::new(),
            dirty: true,
            first: true,
        })
    }

    /// The first read of everything. A kernel that refuses is asked again before it counts.
    async fn read_first(
        &self,
        desired: &mut Desired,
        kernel: &mut RealKernel,
    ) -> Result<Vec<Link>, KernelError> {
        let mut wait = FIRST_RETRY;
        for _ in 1..FIRST_READS {
            match read_kernel(desired, kernel) {
                Ok(links) => return Ok(links),
                Err(error) => {
                    tracing::warn!(%error, "cannot read the kernel; trying again");
                    self.health.note(|c| c.detail = format!("cannot read the kernel: {error}"));
                    tokio::time::sleep(wait).await;
                    wait *= 2;
                }
            }
        }
        read_kernel(desired, kernel)
    }

    /// What others took away of what a router needs comes back.
    fn keep_forwarding(&self, config: &FelixConfig) {
        if config.ip_forwarding {
            for name in forwarding::write(&self.options.sysctl, config.ipv6_support) {
                tracing::warn!(
                    name,
                    "a kernel parameter that routing needs was changed by others; set again"
                );
            }
        }
    }

    /// The loop proper.
    async fn turn(
        &self,
        mut syncer: Syncer,
        mut observed: Observed,
        mut acting: Acting,
        shutdown: CancellationToken,
    ) -> Result<Exit, RunError> {
        let mut poll = tokio::time::interval(GENERATION_POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if observed.config_changed {
                observed.config_changed = false;
                match self.put_in_force(observed.settings.resolve()) {
                    Ok(next) => acting.resolution = next,
                    Err(restart) => return Ok(restart),
                }
            }
            let now = Instant::now();
            let retry_due = acting.retry.is_some_and(|(at, _)| at <= now);
            if observed.datastore_ready {
                if acting.resync_at.is_some_and(|at| at <= now) || acting.slow_resync_at <= now {
                    read_again(&mut acting);
                    self.keep_forwarding(&acting.resolution.config);
                }
                if acting.handover.ends().is_some_and(|at| at <= now) {
                    acting.desired.end_handover();
                    acting.dirty = true;
                }
                if acting.dirty || retry_due {
                    self.act(&mut observed, &mut acting);
                }
            }
            let connected = syncer.health().is_connected();
            let (datastore_ready, failing) = (observed.datastore_ready, acting.retry.is_some());
            let (first, problems, wrong) = (acting.first, acting.reported.len(), observed.problems.len());
            let unreadable = acting.unreadable.as_ref().map(|(reason, _)| reason.clone());
            self.health.note(|c| {
                c.connected = connected;
                c.ready = !first;
                c.detail = match (datastore_ready, first) {
                    (false, _) => "the datastore is locked: datastoreReady is not true".to_owned(),
                    (true, _) if unreadable.is_some() => {
                        format!("cannot read the kernel: {}", unreadable.unwrap_or_default())
                    }
                    (true, true) => "the first update of the kernel is not complete".to_owned(),
                    (true, false) if failing => {
                        format!("{problems} objects could not be programmed; see the log")
                    }
                    (true, false) if wrong > 0 => {
                        format!("{wrong} resources are not as they should be; see the log")
                    }
                    (true, false) => String::new(),
                };
            });
            let sooner = [acting.resync_at, acting.retry.map(|(at, _)| at), acting.handover.ends()];
            let deadline = sooner.into_iter().flatten().fold(acting.slow_resync_at, Instant::min);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return Ok(Exit::Shutdown),
                ready = acting.monitor.readable_mut() => {
                    let mut ready = ready.map_err(RunError::Wait)?;
                    let events = ready.get_inner_mut().read_events()?;
                    ready.clear_ready();
                    self.hear(&mut acting, events);
                }
                event = syncer.next() => {
                    self.take(&mut observed, event.ok_or(RunError::SyncerEnded)?);
                    // Whatever else is there already goes into the same update of the kernel.
                    while let Some(Some(event)) = futures::FutureExt::now_or_never(syncer.next()) {
                        self.take(&mut observed, event);
                    }
                    acting.dirty = true;
                }
                _ = poll.tick() => look_for_others(&mut acting),
                () = tokio::time::sleep_until(deadline.into()), if observed.datastore_ready => {}
            }
        }
    }

    fn take(&self, observed: &mut Observed, event: SyncEvent) {
        match event {
            SyncEvent::Updates(updates) => self.observe(observed, updates),
            SyncEvent::InSync => {}
        }
    }

    /// Takes in what the kernel says of interfaces and routes.
    fn hear(&self, acting: &mut Acting, events: Vec<Event>) {
        for event in events {
            match event {
                Event::LinkChanged(link) => {
                    let ownership = &acting.desired.settings().routes;
                    let names = acting.desired.name_of(link.index).into_iter().chain([&link.name]);
                    acting.links_changed |= names.into_iter().any(|name| !ownership.is_workload(name));
                    acting.desired.link_changed(link);
                }
                Event::LinkRemoved { index: _, name } => {
                    acting.links_changed |= !acting.desired.settings().routes.is_workload(&name);
                    acting.desired.link_removed(&name);
                }
                Event::AddressChanged { device, address, present } => {
                    acting.desired.address_changed(&device, address, present);
                }
                // Our own changes are heard too: they are what is known already.
                Event::RouteRemoved(route) => {
                    if acting.desired.routes().contains_key(&route.key) {
                        tracing::warn!(destination = %route.key.destination, "a route of ours is gone");
                    }
                    acting.desired.route_changed(route, false);
                }
                Event::RouteChanged(route) => {
                    // A router may have a million routes of others, each of which is heard here. And the CNI plugin
                    // makes an endpoint's routes just before the datastore tells of it: one that nobody wants yet
                    // is left to the next resync.
                    if acting.desired.routes().contains_key(&route.key) {
                        acting.desired.route_changed(route, true);
                    } else {
                        acting.dirty |= acting.desired.route_found(route);
                    }
                }
                Event::Lost => expect_foreign(acting),
            }
        }
        acting.dirty |= acting.links_changed || acting.desired.has_work();
    }

    /// One update of the kernel: everything that has changed since the last.
    fn act(&self, observed: &mut Observed, acting: &mut Acting) {
        acting.dirty = false;
        let mut changes = Vec::new();
        observed.calc.flush(&mut changes);
        self.metrics.output_events.inc_by(changes.len() as u64);
        self.note_problems(observed);
        let gone = remember(acting, &changes);
        // Removing: status first, then route, connections, rules.
        self.live.update([], &gone);
        for id in &gone {
            if let Err(error) = acting.files.remove(id) {
                tracing::warn!(?id, %error, "cannot remove a status file");
            }
        }
        for change in changes {
            acting.desired.update(change);
        }
        if acting.resolution.config.service_loop_prevention != "Disabled" {
            acting.desired.set_service_nets(&observed.service_nets);
        }
        if std::mem::take(&mut acting.links_changed) {
            let pattern = &acting.resolution.config.mtu_iface_pattern;
            let ownership = &acting.desired.settings().routes;
            let of_host = acting.desired.links().filter(|link| !ownership.is_workload(&link.name));
            let mtu = mtu::resolve_mtu(of_host, pattern);
            acting.desired.set_host_mtu(mtu);
        }
        let began = Instant::now();
        let report = apply(&mut acting.desired, &mut acting.kernel);
        self.metrics.note_apply(began.elapsed(), &report, observed.problems.len());
        let (sent, _) = acting.kernel.traffic();
        self.metrics.note_traffic(std::mem::replace(&mut acting.sent, sent), sent);
        self.log_report(acting, &report, began.elapsed());
        self.show_states(acting, &report.workloads);
        if let Some(reporter) = &acting.reporter {
            reporter.update(&report.workloads, &gone);
        }
        self.note_counts(acting);
        self.note_overlays(acting);
        // What one bad object costs is its own: the rest is in force, so the node is ready.
        acting.first &= !report.enforced;
        if report.complete {
            acting.retry = None;
            remove_leftovers(acting, &report);
        } else {
            let wait = acting.retry.map_or(FIRST_RETRY, |(_, wait)| (wait * 2).min(LAST_RETRY));
            acting.retry = Some((Instant::now() + wait, wait));
        }
    }

    /// Tells of what depends on overlays: the MTU left for workloads, and whether others may send through tunnels.
    fn note_overlays(&self, acting: &mut Acting) {
        let mtu = acting.desired.workload_mtu();
        if acting.told_mtu != Some(mtu) {
            match mtu::write_mtu(Path::new(mtu::MTU_FILE), mtu) {
                Ok(()) => acting.told_mtu = Some(mtu),
                Err(error) => tracing::warn!(%error, path = mtu::MTU_FILE, "cannot write the MTU file"),
            }
        }
        let ready: BTreeSet<TunnelId> =
            tunnel::ids().filter(|id| acting.desired.is_tunnel_ready(*id)).collect();
        self.options.tunnels_ready.send_if_modified(|known| std::mem::replace(known, ready.clone()) != ready);
        acting.handover.note(acting.desired.kept(), Instant::now());
    }

    /// Logs each problem of the datastore once, when it appears.
    fn note_problems(&self, observed: &mut Observed) {
        let version = observed.calc.problems_version();
        if std::mem::replace(&mut observed.problems_version, version) == version {
            return;
        }
        let now: BTreeMap<Key, String> = observed.calc.problems().map(|p| (p.key, p.text)).collect();
        for (key, text) in now.iter().filter(|(key, text)| observed.problems.get(*key) != Some(*text)) {
            tracing::warn!(%key, problem = %text, "a resource is not as it should be");
        }
        observed.problems = now;
    }

    fn log_report(&self, acting: &mut Acting, report: &Report, took: Duration) {
        let now: BTreeMap<String, String> =
            report.problems.iter().map(|p| (p.object.clone(), p.reason.clone())).collect();
        for (object, reason) in now.iter().filter(|(object, _)| !acting.reported.contains_key(*object)) {
            tracing::error!(%object, %reason, "the kernel does not hold what it should");
        }
        for object in acting.reported.keys().filter(|object| !now.contains_key(*object)) {
            tracing::info!(%object, "in force now");
        }
        acting.reported = now;
        if report.nft_ops > 0 || report.routes > 0 || report.tunnels > 0 {
            let Report { nft_ops, transactions, routes, tunnels, .. } = report;
            tracing::info!(nft_ops, transactions, routes, tunnels, ?took, "updated the kernel");
        }
    }

    /// Files and waiters: who is live now.
    fn show_states(&self, acting: &Acting, states: &[(WorkloadId, WorkloadState)]) {
        let (up, down): (Vec<_>, Vec<_>) = states.iter().partition(|(_, state)| *state == WorkloadState::Up);
        for (id, _) in &up {
            if let Some(workload) = acting.workloads.get(id)
                && let Err(error) = acting.files.write(id, workload)
            {
                tracing::warn!(?id, %error, "cannot write a status file");
            }
        }
        for (id, _) in &down {
            if let Err(error) = acting.files.remove(id) {
                tracing::warn!(?id, %error, "cannot remove a status file");
            }
        }
        let down: Vec<WorkloadId> = down.iter().map(|(id, _)| id.clone()).collect();
        let up = up.into_iter().filter_map(|(id, _)| Some((id.clone(), acting.workloads.get(id)?.clone())));
        self.live.update(up, &down);
        if acting.first
            && let Err(error) = acting.files.retain(acting.workloads.keys())
        {
            tracing::warn!(%error, "cannot remove status files of an agent before this one");
        }
    }

    fn note_counts(&self, acting: &Acting) {
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let counts = acting.desired.ruleset().counts();
        self.metrics.active_local_endpoints.set(number(acting.workloads.len()));
        self.metrics.active_local_policies.set(number(acting.policies.len()));
        self.metrics.nft_chains.set(number(counts.chains));
        self.metrics.nft_rules.set(number(counts.rules));
        self.metrics.nft_sets.set(number(counts.sets));
        self.metrics.routes.set(number(acting.desired.routes().len()));
        self.metrics.vteps.set(number(acting.desired.vteps()));
    }
}

/// Reads everything anew; what others do from here on is noticed.
fn read_kernel(desired: &mut Desired, kernel: &mut dyn Kernel) -> Result<Vec<Link>, KernelError> {
    let links = kernel.read_links()?;
    resync(desired, kernel)?;
    Ok(links)
}

/// A resync in the loop. One that fails is tried again: what is in force stays meanwhile.
fn read_again(acting: &mut Acting) {
    let now = Instant::now();
    if acting.resync_at.take().is_some() {
        acting.last_foreign = Some(now);
    }
    acting.slow_resync_at = now + slow_resync(&acting.resolution);
    match read_kernel(&mut acting.desired, &mut acting.kernel) {
        Ok(links) => {
            // Events that were lost may have been of interfaces.
            acting.monitor.get_mut().observe_links(&links);
            acting.unreadable = None;
            acting.links_changed = true;
            acting.dirty = true;
        }
        Err(error) => note_unreadable(acting, &error),
    }
}

fn note_unreadable(acting: &mut Acting, error: &KernelError) {
    tracing::error!(%error, "cannot read the kernel; trying again");
    let wait = acting.unreadable.as_ref().map_or(FIRST_RETRY, |(_, wait)| (*wait * 2).min(LAST_RETRY));
    acting.unreadable = Some((error.to_string(), wait));
    acting.resync_at = Some(Instant::now() + wait);
}

/// Notices that somebody may have changed our tables.
fn look_for_others(acting: &mut Acting) {
    if acting.unreadable.is_some() {
        // Everything is read again soon.
        return;
    }
    match has_drifted(&acting.desired, &mut acting.kernel) {
        Ok(true) => expect_foreign(acting),
        Ok(false) => {}
        Err(error) => note_unreadable(acting, &error),
    }
}

/// Others may have changed something that we have not heard of: everything is read again.
fn expect_foreign(acting: &mut Acting) {
    let at = foreign_resync(acting.last_foreign, Instant::now());
    acting.resync_at.get_or_insert(at);
}

/// When to read what others may have changed: at once, but for the shortest time between two such reads.
fn foreign_resync(last: Option<Instant>, now: Instant) -> Instant {
    last.map_or(now, |last| now.max(last + FOREIGN_RESYNC))
}

/// What another Calico left goes when everything of ours stands; what cannot be removed is tried again with the next
/// slow resync.
fn remove_leftovers(acting: &mut Acting, report: &Report) {
    if acting.leftovers_at.is_none_or(|at| at > Instant::now()) {
        return;
    }
    let problems = leftovers::remove(&mut acting.kernel, report);
    for problem in &problems {
        tracing::warn!(object = problem.object, reason = problem.reason, "another Calico's stays");
    }
    acting.leftovers_at = (!problems.is_empty()).then_some(acting.slow_resync_at);
}

/// Keeps what status and metrics need of the changes; the endpoints that went.
fn remember(acting: &mut Acting, changes: &[Change]) -> Vec<WorkloadId> {
    let mut gone = Vec::new();
    for change in changes {
        match change {
            Change::WorkloadChanged(id, workload) => {
                acting.workloads.insert(id.clone(), workload.clone());
            }
            Change::WorkloadRemoved(id) => {
                acting.workloads.remove(id);
                gone.push(id.clone());
            }
            Change::PolicyChanged(key, _) => {
                acting.policies.insert(key.clone());
            }
            Change::PolicyRemoved(key) => {
                acting.policies.remove(key);
            }
            _ => {}
        }
    }
    gone
}

/// Waits for the monitor's descriptor in the runtime.
#[expect(
    deprecated,
    reason = "the successor is unsafe because a descriptor might be closed or exchanged while it is registered; the \
              monitor owns its own for life and gives it to nobody"
)]
fn readiness_of(monitor: Monitor) -> std::io::Result<AsyncFd<Monitor>> {
    AsyncFd::new(monitor)
}

fn waiting_for(connected: bool) -> &'static str {
    if connected { "reading the datastore" } else { "the datastore does not answer" }
}

/// The shortest of the refresh intervals that are not off.
fn slow_resync(resolution: &Resolution) -> Duration {
    let config = &resolution.config;
    let intervals =
        [config.route_refresh_interval, config.interface_refresh_interval, config.nftables_refresh_interval];
    let never = Duration::from_secs(365 * 24 * 3600);
    intervals.into_iter().filter(|i| !i.is_zero()).min().unwrap_or(never)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_change_is_read_at_once_but_not_all_the_time() {
        let now = Instant::now();
        assert_eq!(foreign_resync(None, now), now);
        assert_eq!(foreign_resync(Some(now), now + Duration::from_secs(1)), now + FOREIGN_RESYNC);
        let later = now + FOREIGN_RESYNC * 2;
        assert_eq!(foreign_resync(Some(now), later), later);
    }

    #[test]
    fn a_full_read_accounts_for_what_others_did() {
        let mut kernel = calico_dataplane::fake::FakeKernel::new();
        kernel.set_link("cali1", true);
        let mut desired = Desired::new(calico_dataplane::Settings::default());
        let links = read_kernel(&mut desired, &mut kernel).expect("read");
        assert_eq!(links.len(), 1);
        assert!(!has_drifted(&desired, &mut kernel).expect("read"));
    }
}
