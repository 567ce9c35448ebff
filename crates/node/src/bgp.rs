//! Datastore → BIRD: follows what BGP is made of and keeps the supervised daemon's configuration up to date.

use std::collections::BTreeSet;
use std::sync::Arc;

use calico_mesh::{Index, Local, Problem, bird};
use calico_store::{Store, SyncEvent, Syncer, SyncerOptions};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::bird::Bird;

/// How far this is, and what it could not use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpReport {
    /// Everything that was in the datastore at the start has been seen. Before that BIRD is told nothing.
    pub in_sync: bool,
    /// How many sessions BIRD is to have.
    pub sessions: usize,
    /// How many blocks of this node it is to announce.
    pub blocks: usize,
    /// Resources that are left out, wholly or in part.
    pub problems: Vec<Problem>,
}

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
    let mut index = Index::new(local.node.clone());
    let mut in_sync = false;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = syncer.next() => event,
        };
        match event {
            Some(SyncEvent::Updates(updates)) => {
                for (key, entry) in &updates {
                    index.update(key, entry.as_ref());
                }
            }
            Some(SyncEvent::InSync) => in_sync = true,
            None => return,
        }
        if in_sync {
            apply(&index, &local, &bird, &reporter);
        }
    }
}

/// Tells BIRD what the datastore wants. The supervisor takes only the newest text, so a burst costs one change.
fn apply(index: &Index, local: &Local, bird: &Bird, reporter: &watch::Sender<BgpReport>) {
    let (intent, mut problems) = index.world().resolve(local);
    problems.extend(index.problems());
    problems.sort_unstable();
    bird.configure(bird::render(&intent, &bird.paths().log.to_string_lossy()));
    let report =
        BgpReport { in_sync: true, sessions: intent.sessions.len(), blocks: intent.blocks.len(), problems };
    reporter.send_if_modified(|before| {
        if *before == report {
            return false;
        }
        log_new_problems(&before.problems, &report.problems);
        *before = report;
        true
    });
}

fn log_new_problems(before: &[Problem], now: &[Problem]) {
    let known: BTreeSet<&Problem> = before.iter().collect();
    for problem in now.iter().filter(|problem| !known.contains(problem)) {
        tracing::warn!(resource = %problem.resource, "{}", problem.text);
    }
}
