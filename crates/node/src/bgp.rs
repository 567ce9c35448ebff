//! Datastore → BIRD: follows what BGP is made of and keeps the supervised daemon's configuration up to date.

mod handover;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use calico_mesh::{Index, Local, Problem, bird};
use calico_store::{Store, SyncEvent, Syncer, SyncerOptions};
use futures::FutureExt;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};
use tokio_util::sync::CancellationToken;

use self::handover::Handover;
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
    /// Resources that are left out, wholly or in part.
    pub problems: Vec<Problem>,
    /// Those among them that leave traffic between nodes without a route: the node is not ready.
    pub unrouted: Vec<Problem>,
}

/// How long to wait for the block of an address that looks borrowed. The two are watched one by one, and the address
/// may be seen first although the block was claimed before.
const BLOCK_SETTLE: Duration = Duration::from_millis(200);

/// Runs until it is told to stop.
pub async fn run_bgp(
    store: Arc<dyn Store>,
    local: Local,
    bird: Bird,
    reporter: watch::Sender<BgpReport>,
    shutdown: CancellationToken,
) {
    let selections = Index::selections(&local.node);
    let mut syncer = Syncer::spawn(store, selections, SyncerOptions::default());
    let mut feed = Feed { index: Index::new(local.node.clone()), in_sync: false };
    let mut borrowed = BTreeSet::new();
    let mut handover = Handover::default();
    let mut again: Option<Instant> = None;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = syncer.next() => event,
            () = sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => {
                again = apply(&feed.index, &local, &mut handover, &bird, &reporter);
                continue;
            }
        };
        let Some(event) = event else { return };
        feed.take(event);
        // Whatever is there already belongs to the same change: it is computed once.
        while let Some(Some(event)) = syncer.next().now_or_never() {
            feed.take(event);
        }
        if !feed.in_sync {
            continue;
        }
        if feed.index.world().borrowed().iter().any(|addr| !borrowed.contains(addr)) {
            let deadline = Instant::now() + BLOCK_SETTLE;
            while let Ok(Some(event)) = timeout_at(deadline, syncer.next()).await {
                feed.take(event);
            }
        }
        borrowed = feed.index.world().borrowed().into_iter().collect();
        again = apply(&feed.index, &local, &mut handover, &bird, &reporter);
    }
}

/// What was heard of the datastore.
struct Feed {
    index: Index,
    in_sync: bool,
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
}

/// Tells BIRD what the datastore wants. The supervisor takes only the newest text, so a burst costs one change. Returns
/// when to do so again although nothing has changed.
fn apply(
    index: &Index,
    local: &Local,
    handover: &mut Handover,
    bird: &Bird,
    reporter: &watch::Sender<BgpReport>,
) -> Option<Instant> {
    let (mut intent, mut problems) = index.world().resolve(local);
    problems.extend(index.problems());
    problems.sort_unstable();
    let again = handover.adjust(&mut intent.pools, Instant::now());
    bird.configure(bird::render(&intent, &bird.paths().log.to_string_lossy()));
    reporter.send_if_modified(|before| {
        let report = BgpReport {
            in_sync: true,
            sessions: intent.sessions.len(),
            resolutions: before.resolutions,
            blocks: intent.blocks.len(),
            problems,
            unrouted: index.world().unrouted(&local.node),
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

fn log_new_problems(before: &[Problem], now: &[Problem]) {
    let known: BTreeSet<&Problem> = before.iter().collect();
    for problem in now.iter().filter(|problem| !known.contains(problem)) {
        tracing::warn!(resource = %problem.resource, "{}", problem.text);
    }
}
