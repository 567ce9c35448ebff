//! Datastore → BIRD: follows what BGP is made of and keeps the supervised daemon's configuration up to date.

mod handover;
mod secrets;
mod services;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use calico_dataplane::tables::tunnel::{Overlay, TunnelId};
use calico_mesh::password::SecretData;
use calico_mesh::{BgpIntent, Index, Local, Problem, bird};
use calico_net::Family;
use calico_store::{Store, SyncEvent, Syncer, SyncerOptions};
use futures::FutureExt;
use smol_str::SmolStr;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use self::handover::Handover;
pub use self::secrets::SecretSource;
use self::secrets::Secrets;
pub use self::services::ServiceSource;
use self::services::{Announced, Follower};
use crate::bird::Bird;

/// How far this is, and what it could not use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpReport {
    /// Everything that was in the datastore at the start has been seen. Before that BIRD is told nothing.
    pub in_sync: bool,
    /// How many sessions BIRD is to have.
    pub sessions: usize,
    /// How often the configuration was computed.
    pub resolutions: u64,
    /// How many blocks of this node it is to announce.
    pub blocks: usize,
    /// How many prefixes of services.
    pub service_routes: usize,
    /// Resources that are left out, wholly or in part.
    pub problems: Vec<Problem>,
    /// Those among them that leave traffic between nodes without a route: the node is not ready.
    pub unrouted: Vec<Problem>,
    /// What is not routed where the kernel has no IPIP. The agent logs that it has none.
    pub needs_ipip: Vec<Problem>,
}

/// How long to wait for the block of an address that looks borrowed. The two are watched one by one, and the address
/// may be seen first although the block was claimed before.
const BLOCK_SETTLE: Duration = Duration::from_millis(200);

/// How long to wait for passwords that were not needed before: sessions come up with them rather than without, and then
/// anew.
const SECRETS_SETTLE: Duration = Duration::from_millis(500);

/// This node: what is known from the start, and which tunnel devices are there.
pub struct ThisNode {
    /// What bears on BGP.
    pub local: Local,
    /// The devices, as they come and go.
    pub tunnels: watch::Receiver<BTreeSet<TunnelId>>,
}

/// Runs until it is told to stop.
pub async fn run_bgp(
    store: Arc<dyn Store>,
    services: ServiceSource,
    own: ThisNode,
    secrets: SecretSource,
    bird: Bird,
    reporter: watch::Sender<BgpReport>,
    shutdown: CancellationToken,
) {
    let ThisNode { local, mut tunnels } = own;
    let selections = Index::selections(&local.node);
    let mut syncer = Syncer::spawn(store, selections, SyncerOptions::default());
    let (mut services, index) = Follower::new(services, Index::new(local.node.clone()));
    let mut feed = Feed { index, in_sync: false, secrets: Secrets::new(secrets) };
    let mut borrowed = BTreeSet::new();
    let mut speaker = Speaker { local, bird, reporter, handover: Handover::default(), announced: None };
    let mut again: Option<Instant> = None;
    loop {
        let mut is_due = false;
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = syncer.next() => match event {
                Some(event) => feed.take(event),
                None => return,
            },
            news = feed.secrets.next() => feed.take_secrets(news),
            event = services.next() => services.take(event, &mut feed.index),
            // Whoever has gone has nothing new to say.
            Ok(()) = tunnels.changed() => {
                let ready = tunnels.borrow_and_update();
                speaker.local.has_ipip_device = ready.contains(&(Overlay::Ipip, Family::V4));
                is_due = true;
            }
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => is_due = true,
        }
        // Whatever is there already belongs to the same change: it is computed once.
        while let Some(Some(event)) = syncer.next().now_or_never() {
            feed.take(event);
        }
        if !feed.in_sync {
            continue;
        }
        services.adjust(&mut feed.index);
        // At first nothing may be missing: what BIRD announces since a former life would be withdrawn. Later, nobody
        // waits for Kubernetes.
        let is_first = speaker.announced.is_none();
        if is_first && !services.is_in_sync() || !(feed.index.take_changed() || is_due) {
            continue;
        }
        if feed.index.world().borrowed().iter().any(|addr| !borrowed.contains(addr)) {
            let deadline = Instant::now() + BLOCK_SETTLE;
            while let Ok(Some(event)) = timeout_at(deadline, syncer.next()).await {
                feed.take(event);
            }
        }
        borrowed = feed.index.world().borrowed().into_iter().collect();
        let resolved = feed.resolve(&speaker.local).await;
        feed.index.take_changed();
        again = speaker.apply(&feed.index, resolved);
    }
}

/// What was heard of the datastore.
struct Feed {
    index: Index,
    in_sync: bool,
    secrets: Secrets,
}

impl Feed {
    fn take(&mut self, event: SyncEvent) {
        match event {
            SyncEvent::Updates(updates) => {
                for (key, entry) in &updates {
                    self.index.update(key, entry.as_ref());
                }
            }
            SyncEvent::InSync => self.in_sync = true,
        }
    }

    fn take_secrets(&mut self, news: Vec<(SmolStr, Option<SecretData>)>) {
        for (name, data) in news {
            self.index.update_secret(&name, data);
        }
    }

    /// What the speaker must do; with the passwords that it takes, if they are to be had soon.
    async fn resolve(&mut self, local: &Local) -> (BgpIntent, Vec<Problem>) {
        let resolved = self.index.world().resolve(local);
        for name in self.secrets.want(&resolved.0.secrets) {
            self.index.update_secret(&name, None);
        }
        if self.secrets.is_settled() {
            return resolved;
        }
        let deadline = Instant::now() + SECRETS_SETTLE;
        while !self.secrets.is_settled()
            && let Ok(news) = timeout_at(deadline, self.secrets.next()).await
        {
            self.take_secrets(news);
        }
        // One that may not be read never settles; it must not delay every later change too.
        self.secrets.wait_no_longer();
        self.index.world().resolve(local)
    }
}

/// Who tells BIRD.
struct Speaker {
    local: Local,
    bird: Bird,
    reporter: watch::Sender<BgpReport>,
    handover: Handover,
    /// Nothing before BIRD was first told.
    announced: Option<Announced>,
}

impl Speaker {
    /// Tells BIRD what the datastore wants. The supervisor takes only the newest text, so a burst costs one change.
    /// Returns when to do so again although nothing has changed.
    fn apply(&mut self, index: &Index, resolved: (BgpIntent, Vec<Problem>)) -> Option<Instant> {
        let Speaker { local, bird, reporter, handover, announced } = self;
        let (mut intent, mut problems) = resolved;
        problems.extend(index.problems());
        problems.sort_unstable();
        let again = handover.adjust(&mut intent.pools, Instant::now());
        bird.configure(bird::render(&intent, &bird.paths().log.to_string_lossy()));
        announced.get_or_insert_default().note(&intent.services.routes);
        reporter.send_if_modified(|before| {
            let report = BgpReport {
                in_sync: true,
                sessions: intent.sessions.len(),
                resolutions: before.resolutions,
                blocks: intent.blocks.len(),
                service_routes: intent.services.routes.len(),
                problems,
                unrouted: index.world().unrouted(local),
                needs_ipip: index.world().needs_ipip(&local.node),
            };
            let is_new = *before != report;
            log_new_problems(&before.problems, &report.problems);
            *before = report;
            // Counted, but of itself no news.
            before.resolutions += 1;
            is_new
        });
        again
    }
}

fn log_new_problems(before: &[Problem], now: &[Problem]) {
    let known: BTreeSet<&Problem> = before.iter().collect();
    for problem in now.iter().filter(|problem| !known.contains(problem)) {
        tracing::warn!(resource = %problem.resource, "{}", problem.text);
    }
}

#[cfg(test)]
mod tests;
