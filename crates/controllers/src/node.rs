//! The node controller: watches nodes, pods and IPAM's records, and collects what nobody releases any more.
//!
//! Labels of nodes need no copying where Kubernetes is the datastore: both are the same object there.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use calico_api::{Key, Kind, Selection};
use calico_ipam::{UnixTime, pools};
use calico_net::Family;
use calico_store::error::chain;
use calico_store::{Store, SyncEvent, SyncHealth, Syncer, SyncerOptions};
use smol_str::SmolStr;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;
use crate::health::Condition;
use crate::ipam::{Clock, Executor, Leak, Marks, Outcome, Plan, PoolNode, plan, usage};
use crate::metrics::Metrics;
use crate::world::World;

/// How long events are gathered before the next plan.
const GATHER: Duration = Duration::from_secs(1);

/// Of the time that passes, plans may take one part in so many: in a cluster whose plans take long they are rarer.
const SHARE: u32 = 20;

/// Time between two surveys where no grace period says one (spec 7 §6.2).
const SURVEY_PERIOD: Duration = Duration::from_secs(300);

/// Surveys are not more frequent than this, however short the grace period.
const SHORTEST_SURVEY_PERIOD: Duration = Duration::from_secs(1);

/// The first wait after a failure; each further one is twice as long, up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// The controller.
pub struct NodeController {
    /// Where Kubernetes' nodes and pods are seen.
    pub kubernetes: Arc<dyn Store>,
    /// Where Calico's data is; may be the same.
    pub calico: Arc<dyn Store>,
    /// Who is asked once more before anything is taken away.
    pub cluster: Arc<dyn Cluster>,
    /// How long something must be left over; `None`: for ever.
    pub grace: Option<Duration>,
    /// Where the numbers go.
    pub metrics: Metrics,
    /// Where it is said how it goes.
    pub condition: Condition,
}

/// What a controller that runs knows.
struct Running {
    controller: NodeController,
    world: World,
    marks: Marks,
    start: Instant,
    /// When to plan next; `None`: when something happens.
    due: Option<Instant>,
    /// When handles are listed next.
    survey: Instant,
    /// Not before; after failures.
    not_before: Instant,
    failures: u32,
    was_ready: bool,
}

impl NodeController {
    /// Runs until it is told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        let options = SyncerOptions::default();
        let of_kubernetes = [Kind::Node, Kind::WorkloadEndpoint].map(Selection::all).to_vec();
        let of_calico = [Kind::IPPool, Kind::IPReservation, Kind::ClusterInformation].map(Selection::all);
        let of_calico = of_calico
            .into_iter()
            .chain(Family::ALL.map(Selection::Blocks))
            .chain([Selection::Affinities { owner: None, family: None }])
            .collect();
        let mut kubernetes = Syncer::spawn(self.kubernetes.clone(), of_kubernetes, options);
        let mut calico = Syncer::spawn(self.calico.clone(), of_calico, options);
        let health = [kubernetes.health(), calico.health()];
        self.condition.not_ready("reading the datastore");
        let now = Instant::now();
        let mut running = Running {
            controller: self,
            world: World::default(),
            marks: Marks::default(),
            start: now,
            due: None,
            survey: now,
            not_before: now,
            failures: 0,
            was_ready: false,
        };
        let mut in_sync = [false; 2];
        loop {
            let due = running.due.filter(|_| in_sync == [true; 2]);
            let (which, event) = tokio::select! {
                () = shutdown.cancelled() => return,
                () = async { sleep_until(due.unwrap_or(now)).await }, if due.is_some() => {
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = running.turn(&health) => {}
                    }
                    continue;
                }
                event = kubernetes.next() => (0, event),
                event = calico.next() => (1, event),
            };
            match event {
                Some(SyncEvent::Updates(updates)) => {
                    for (key, entry) in updates {
                        running.world.observe(&key, entry.as_ref());
                    }
                    running.plan_by(Instant::now() + GATHER);
                }
                Some(SyncEvent::InSync) => {
                    in_sync[which] = true;
                    running.plan_by(Instant::now());
                }
                // The runtime ends.
                None => return,
            }
        }
    }
}

impl Running {
    /// Plans at a moment at the latest, but not before a failure has been waited for.
    fn plan_by(&mut self, at: Instant) {
        let at = at.max(self.not_before);
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    fn survey_period(&self) -> Duration {
        self.controller.grace.map_or(SURVEY_PERIOD, |grace| (grace / 2).max(SHORTEST_SURVEY_PERIOD))
    }

    /// One look at everything, and what follows from it.
    async fn turn(&mut self, health: &[SyncHealth; 2]) {
        self.due = None;
        let began = Instant::now();
        if let Some(reason) = self.hindrance(health) {
            self.controller.condition.not_ready(reason);
            self.wait_after_failure();
            return;
        }
        let is_survey = began >= self.survey;
        if is_survey {
            if let Err(reason) = self.survey().await {
                self.fail(&[reason]);
                return;
            }
            self.survey = began + self.survey_period();
        }
        let wall = wall();
        let clock = Clock { since_start: began - self.start, wall };
        let Plan { actions, marks, next } =
            plan(&self.world, &self.marks, self.controller.grace, is_survey, clock);
        self.marks = marks;
        if is_survey {
            self.forget_handles();
        }
        let planned = began.elapsed();
        self.controller.metrics.set(usage(&self.world, &self.marks));
        let NodeController { calico, cluster, metrics, condition, .. } = &self.controller;
        let executor = Executor { store: &**calico, cluster: &**cluster, wall };
        let Outcome { released, in_use, failures } = executor.execute(actions).await;
        metrics.note_reclaimed(&released, |leak| self.place(leak));
        let settled = released.iter().map(|leak| &leak.allocation.id).chain(&in_use);
        for id in settled {
            self.marks.leaked.remove(id);
        }
        // Plans that follow one another without an event leave time to others.
        self.not_before = Instant::now() + planned * SHARE;
        if failures.is_empty() {
            self.failures = 0;
            condition.ready();
        } else {
            self.fail(&failures);
        }
        if let Some(next) = next {
            self.plan_by(self.start + next);
        }
        self.plan_by(self.survey);
    }

    /// Why nothing may be done now.
    fn hindrance(&mut self, health: &[SyncHealth; 2]) -> Option<&'static str> {
        if !health.iter().all(SyncHealth::is_connected) {
            return Some("the datastore does not answer");
        }
        let was_ready = std::mem::replace(&mut self.was_ready, self.world.is_ready);
        if !self.world.is_ready {
            if was_ready {
                tracing::warn!("the datastore is locked: nothing is collected");
            }
            return Some("the datastore is locked, or not set up yet");
        }
        None
    }

    fn fail(&mut self, failures: &[String]) {
        for reason in failures {
            tracing::warn!(reason, "not done");
        }
        self.controller.condition.not_ready(failures.first().map_or("", String::as_str));
        self.wait_after_failure();
    }

    fn wait_after_failure(&mut self) {
        let wait = (FIRST_WAIT * (1 << self.failures.min(10))).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        self.not_before = Instant::now() + wait;
        self.plan_by(self.not_before);
    }

    /// Lists what is not watched: handles, of which there is one for every pod, and IPAM's settings.
    async fn survey(&mut self) -> Result<(), String> {
        let store = &self.controller.calico;
        let config = store.get(&Key::IpamConfig).await.map_err(|e| chain(&e))?;
        self.world.observe(&Key::IpamConfig, config.as_ref());
        let handles = store.list(&Selection::Handles).await.map_err(|e| chain(&e))?;
        self.world.known.observe_listing(Selection::Handles, &handles.entries);
        Ok(())
    }

    /// Handles are only good for the plan after they were listed.
    fn forget_handles(&mut self) {
        self.world.known.observe_listing(Selection::Handles, &[]);
    }

    /// The pool and node under which a released address is counted.
    fn place(&self, leak: &Leak) -> PoolNode {
        let pools = self.world.known.pools().filter_map(pools::pool);
        let pool = pools.filter(|pool| pool.cidr.covers(&leak.allocation.block)).map(|pool| pool.name).next();
        let node = leak.allocation.home().cloned();
        let named = |name: Option<SmolStr>, none| name.unwrap_or(SmolStr::new_static(none));
        (named(pool, crate::ipam::NO_POOL), named(node, crate::ipam::NO_NODE))
    }
}

fn wall() -> UnixTime {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
