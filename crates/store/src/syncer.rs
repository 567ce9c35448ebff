//! The syncer: keeps a reader up to date with a set of selections, whatever happens to the store (spec 1 §2.6).
//!
//! ```text
//!            ┌────────────── compacted, or five failures at one revision ─────────────┐
//!            ▼                                                                        │
//!   list, diff against what was delivered ──▶ watch from its revision ──▶ batches     │
//!            ▲ back-off while the store fails      ▲         └─ lost ─▶ back-off ─────┤
//!            └─ not before the resync interval     └────────── watch from progress ◀──┘
//! ```
//! One task per selection; all feed one bounded channel. Of what it delivered a task keeps only keys and revisions.
//! The reader may rely on this, and on nothing more: after the last update of a key, the reader's view of it equals
//! the store; an absent entry is `None`; updates of different keys come in no particular order; intermediate states
//! may be skipped; [`SyncEvent::InSync`] comes once, after everything that existed at some moment after the start.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use calico_api::{Entry, Key, Revision, Selection};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::error::{WatchError, chain};
use crate::store::{Listing, Store};
use crate::watch::WatchEvent;

mod backoff;

use backoff::Backoff;

/// The most updates in one batch: a reader that handles batches whole stays responsive, and a large list is handed
/// over piece by piece.
const BATCH: usize = 512;

/// How many batches wait for the reader. Small, since a slow reader gains nothing from a longer queue.
const QUEUE: usize = 8;

/// After how many failures of the watch at one revision the selection is listed anew.
const WATCH_TRIES: u32 = 5;

/// The syncer's timing.
#[derive(Clone, Copy, Debug)]
pub struct SyncerOptions {
    /// The shortest time between two lists of one selection.
    pub min_resync_interval: Duration,
    /// How long to wait after the first failure; each further one doubles it.
    pub first_retry: Duration,
    /// The longest wait after a failure.
    pub max_retry: Duration,
}

impl Default for SyncerOptions {
    /// Calico's resync interval; retries that find a restarted store quickly and do not hammer a dead one.
    fn default() -> SyncerOptions {
        SyncerOptions {
            min_resync_interval: Duration::from_millis(500),
            first_retry: Duration::from_millis(100),
            max_retry: Duration::from_secs(5),
        }
    }
}

/// What the syncer tells its reader.
#[derive(Clone, Debug, PartialEq)]
pub enum SyncEvent {
    /// Entries that changed, in order; `None`: absent now. Never empty.
    Updates(Vec<(Key, Option<Entry>)>),
    /// Every selection has been delivered as it was at some moment since the start. Comes once.
    InSync,
}

/// A running syncer. Dropping it stops it.
#[derive(Debug)]
pub struct Syncer {
    events: mpsc::Receiver<SyncEvent>,
    shared: Arc<Shared>,
    /// Aborted with the syncer.
    _readers: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    /// Selections that were not delivered yet.
    unsynced: AtomicUsize,
    /// Selections whose last list or watch failed.
    disconnected: AtomicUsize,
}

/// Tells how the syncer does; for health reports.
#[derive(Clone, Debug)]
pub struct SyncHealth(Arc<Shared>);

impl SyncHealth {
    /// Whether every selection has a working watch (or has not failed yet).
    pub fn is_connected(&self) -> bool {
        self.0.disconnected.load(Ordering::Relaxed) == 0
    }

    /// Whether every selection was delivered once.
    pub fn is_in_sync(&self) -> bool {
        self.0.unsynced.load(Ordering::Relaxed) == 0
    }
}

impl Syncer {
    /// Starts following the selections. They must not overlap: an entry of two would be delivered twice.
    pub fn spawn(store: Arc<dyn Store>, selections: Vec<Selection>, options: SyncerOptions) -> Syncer {
        let (sender, events) = mpsc::channel(QUEUE);
        let shared = Arc::new(Shared {
            unsynced: AtomicUsize::new(selections.len()),
            disconnected: AtomicUsize::new(0),
        });
        let mut readers = JoinSet::new();
        if selections.is_empty() {
            let sender = sender.clone();
            // The queue is empty, so this cannot fail but by the syncer's end.
            readers.spawn(async move { drop(sender.send(SyncEvent::InSync).await) });
        }
        for selection in selections {
            let reader = Reader {
                store: store.clone(),
                selection,
                options,
                sender: sender.clone(),
                shared: shared.clone(),
                known: FxHashMap::default(),
                history: None,
                synced: false,
                failure: None,
            };
            readers.spawn(async move {
                // It ends when nobody listens any more.
                let Err(Gone) = reader.run().await;
            });
        }
        Syncer { events, shared, _readers: readers }
    }

    /// The next event. Cancel-safe. `None` only while the runtime shuts down.
    pub async fn next(&mut self) -> Option<SyncEvent> {
        self.events.recv().await
    }

    /// For health reports.
    pub fn health(&self) -> SyncHealth {
        SyncHealth(self.shared.clone())
    }
}

/// The syncer was dropped.
struct Gone;

/// What can never be.
enum Never {}

/// One selection.
struct Reader {
    store: Arc<dyn Store>,
    selection: Selection,
    options: SyncerOptions,
    sender: mpsc::Sender<SyncEvent>,
    shared: Arc<Shared>,
    /// What was delivered and exists.
    known: FxHashMap<Key, Revision>,
    /// The history that `known`'s revisions are of.
    history: Option<u64>,
    synced: bool,
    /// Why the last list or watch failed, as it was said; `None` if it did not.
    failure: Option<String>,
}

impl Reader {
    async fn run(mut self) -> Result<Never, Gone> {
        let mut backoff = Backoff::new(self.options.first_retry, self.options.max_retry);
        let mut next_list = Instant::now();
        // Where the watch goes on; `None`: list.
        let mut position: Option<Revision> = None;
        let mut tries = 0;
        loop {
            let Some(from) = position.clone() else {
                sleep_until(next_list).await;
                next_list = Instant::now() + self.options.min_resync_interval;
                match self.store.list(&self.selection).await {
                    Ok(listing) => {
                        position = Some(listing.revision.clone());
                        tries = 0;
                        self.deliver_listing(listing).await?;
                    }
                    Err(error) => {
                        self.note_failure(&error);
                        sleep(backoff.next_wait()).await;
                    }
                }
                continue;
            };
            let error = self.follow(&from, &mut position, &mut backoff).await?;
            self.note_failure(&error);
            match error {
                WatchError::Compacted => position = None,
                WatchError::Lost(_) => {
                    tries = if position.as_ref() == Some(&from) { tries + 1 } else { 1 };
                    if tries >= WATCH_TRIES {
                        position = None;
                    }
                    sleep(backoff.next_wait()).await;
                }
            }
        }
    }

    /// Watches until the watch ends, and says why it did.
    async fn follow(
        &mut self,
        from: &Revision,
        position: &mut Option<Revision>,
        backoff: &mut Backoff,
    ) -> Result<WatchError, Gone> {
        let mut watch = match self.store.watch(&self.selection, Some(from.clone())).await {
            Ok(watch) => watch,
            Err(error) => return Ok(error),
        };
        self.note_success();
        let opened = Instant::now();
        loop {
            match watch.next_batch().await {
                Ok(events) => {
                    backoff.reset();
                    self.deliver_events(events, position).await?;
                }
                Err(error) => {
                    // A watch that lasted was a good one, even if nothing happened.
                    if opened.elapsed() >= self.options.max_retry {
                        backoff.reset();
                    }
                    return Ok(error);
                }
            }
        }
    }

    /// Delivers the difference between a list and what was delivered before.
    async fn deliver_listing(&mut self, listing: Listing) -> Result<(), Gone> {
        let Listing { entries, revision: _, history } = listing;
        let same_history = self.history.replace(history) == Some(history);
        let mut before = std::mem::take(&mut self.known);
        let mut updates = Vec::new();
        for entry in entries {
            let known = before.remove(&entry.key);
            self.known.insert(entry.key.clone(), entry.revision.clone());
            // Equal revisions of different histories may carry different values.
            if !same_history || known.as_ref() != Some(&entry.revision) {
                updates.push((entry.key.clone(), Some(entry)));
            }
            if updates.len() >= BATCH {
                self.send(SyncEvent::Updates(std::mem::take(&mut updates))).await?;
            }
        }
        updates.extend(before.into_keys().map(|key| (key, None)));
        self.send_updates(updates).await?;
        if !std::mem::replace(&mut self.synced, true)
            && self.shared.unsynced.fetch_sub(1, Ordering::AcqRel) == 1
        {
            // The other selections' updates are in the channel: each was sent before its own count.
            self.send(SyncEvent::InSync).await?;
        }
        Ok(())
    }

    /// Delivers what a watch said, leaving out what was delivered already (a resumed watch may repeat its last
    /// revision).
    async fn deliver_events(
        &mut self,
        events: Vec<WatchEvent>,
        position: &mut Option<Revision>,
    ) -> Result<(), Gone> {
        let mut updates = Vec::with_capacity(events.len());
        let mut progress = None;
        for event in events {
            match event {
                WatchEvent::Put(entry) => {
                    let known = self.known.insert(entry.key.clone(), entry.revision.clone());
                    if known.as_ref() != Some(&entry.revision) {
                        updates.push((entry.key.clone(), Some(entry)));
                    }
                }
                WatchEvent::Deleted { key, revision: _ } => {
                    if self.known.remove(&key).is_some() {
                        updates.push((key, None));
                    }
                }
                WatchEvent::Progress(revision) => progress = Some(revision),
            }
        }
        self.send_updates(updates).await?;
        if progress.is_some() {
            *position = progress;
        }
        Ok(())
    }

    async fn send_updates(&self, mut updates: Vec<(Key, Option<Entry>)>) -> Result<(), Gone> {
        while updates.len() > BATCH {
            let rest = updates.split_off(BATCH);
            self.send(SyncEvent::Updates(std::mem::replace(&mut updates, rest))).await?;
        }
        if updates.is_empty() { Ok(()) } else { self.send(SyncEvent::Updates(updates)).await }
    }

    async fn send(&self, event: SyncEvent) -> Result<(), Gone> {
        self.sender.send(event).await.map_err(|_| Gone)
    }

    fn note_failure(&mut self, error: &(dyn std::error::Error + 'static)) {
        let (reason, selection) = (chain(error), self.selection.prefix());
        let before = self.failure.replace(reason.clone());
        if before.is_none() {
            self.shared.disconnected.fetch_add(1, Ordering::Relaxed);
        }
        // A store that is away for long is tried again often.
        if before.as_ref() != Some(&reason) {
            tracing::warn!(error = reason, selection, "following the datastore failed; trying again");
        }
    }

    fn note_success(&mut self) {
        if self.failure.take().is_some() {
            self.shared.disconnected.fetch_sub(1, Ordering::Relaxed);
            tracing::info!(selection = self.selection.prefix(), "following the datastore again");
        }
    }
}

#[cfg(test)]
mod tests;
