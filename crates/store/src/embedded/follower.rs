//! Watches: one thread per process reads the log as it grows and hands each page to every watch.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use calico_api::{Entry, Revision, Selection};
use rusqlite::Connection;
use tokio::sync::broadcast::{self, error::RecvError};

use super::bell::Listener;
use super::database::{self, Page, PageError};
use super::place::Place;
use super::upkeep::Upkeep;
use super::{EmbeddedStore, now_ms, off_thread, schema};
use crate::error::{Fault, WatchError};
use crate::watch::{ReaderGone, Watch, WatchEvent, WatchSender};

/// How many pages the slowest watch may be behind before it reads the log by itself: at most 16 MiB of values wait.
const PAGES: usize = 16;

/// After how many revisions without an event of its own a watch reports progress, so that it never falls behind the
/// log's horizon, and idle watches are not woken by every commit.
const PROGRESS_EVERY: i64 = 1_000;

/// The process's reader of the log, started by the first watch and ended after the last.
#[derive(Debug)]
pub(super) struct Follower {
    place: Arc<Place>,
    pages: Mutex<Option<broadcast::Sender<Arc<Page>>>>,
}

impl Follower {
    pub(super) fn new(place: Arc<Place>) -> Follower {
        Follower { place, pages: Mutex::new(None) }
    }

    /// Every page that is read from now on. Starts the thread if it does not run.
    pub(super) fn subscribe(self: &Arc<Follower>) -> Result<broadcast::Receiver<Arc<Page>>, Fault> {
        let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sender) = &*pages {
            return Ok(sender.subscribe());
        }
        let connection = self.place.open()?;
        let listener = Listener::new(self.place.path()).map_err(|e| self.io_fault(e))?;
        let position = database::newest(&connection)?;
        let (sender, receiver) = broadcast::channel(PAGES);
        *pages = Some(sender.clone());
        let follower = self.clone();
        let reading = Reading { connection, listener, position, version: None, upkeep: Upkeep::new() };
        let run = move || follower.run(reading, &sender);
        if let Err(error) = std::thread::Builder::new().name("store-follower".into()).spawn(run) {
            *pages = None;
            return Err(Fault::Unavailable(error.into()));
        }
        Ok(receiver)
    }

    fn io_fault(&self, error: std::io::Error) -> Fault {
        schema::io_fault(error, self.place.path())
    }

    fn run(&self, mut reading: Reading, sender: &broadcast::Sender<Arc<Page>>) {
        loop {
            match self.turn(&mut reading, sender) {
                Ok(true) => {}
                Ok(false) => return,
                Err(fault) => {
                    tracing::warn!(
                        error = &fault as &dyn std::error::Error,
                        "the datastore's log cannot be read"
                    );
                    // Dropping the last sender ends every watch; the next one starts anew.
                    *self.pages.lock().unwrap_or_else(PoisonError::into_inner) = None;
                    return;
                }
            }
        }
    }

    /// Reads what is new, removes what has expired, waits for the bell. False when no watch is left.
    fn turn(&self, reading: &mut Reading, sender: &broadcast::Sender<Arc<Page>>) -> Result<bool, Fault> {
        let Reading { connection, listener, position, version, upkeep } = reading;
        self.place.check()?;
        let now_version = database::data_version(connection)?;
        let next_expiry = database::next_expiry(connection)?;
        let now = Instant::now();
        let expired =
            next_expiry.is_some_and(|at| at <= now_ms()) && upkeep.expire(connection, now, now_ms());
        if expired || *version != Some(now_version) {
            *version = Some(now_version);
            upkeep.note_commit(now);
            loop {
                match database::read_page(connection, *position) {
                    Ok(page) if page.through == *position => break,
                    Ok(page) => {
                        *position = page.through;
                        // Nobody listening at this moment is no error.
                        let _ = sender.send(Arc::new(page));
                    }
                    // So far behind that history is gone. An empty page beyond the gap makes every watch look for
                    // itself, and find out.
                    Err(PageError::Compacted) => {
                        *position = database::newest(connection)?;
                        let gap = Page { after: *position, through: *position, rows: Vec::new() };
                        let _ = sender.send(Arc::new(gap));
                    }
                    Err(PageError::Fault(fault)) => return Err(fault),
                }
            }
        }
        upkeep.fold(connection, now);
        {
            let mut pages = self.pages.lock().unwrap_or_else(PoisonError::into_inner);
            if sender.receiver_count() == 0 {
                *pages = None;
                return Ok(false);
            }
        }
        let until_expiry = next_expiry.map_or(i64::MAX, |at| (at - now_ms()).max(0)).cast_unsigned();
        let wait = upkeep.wait(Duration::from_millis(until_expiry), Instant::now());
        // However long that is, the listener returns within a second: what is due besides is not late by more.
        listener.wait(wait).map_err(|e| self.io_fault(e))?;
        Ok(true)
    }
}

/// What the follower's thread reads with, and how far it is.
struct Reading {
    connection: Connection,
    listener: Listener,
    position: i64,
    version: Option<i64>,
    upkeep: Upkeep,
}

/// Starts a watch.
pub(super) async fn watch(
    store: &EmbeddedStore,
    selection: Selection,
    from: Option<Revision>,
) -> Result<Watch, WatchError> {
    let opened = {
        let (store, selection) = (store.clone(), selection.clone());
        off_thread(move || open(&store, &selection, from)).await.map_err(WatchError::Lost)?
    };
    let (pages, first, position) = opened?;
    let (sender, watch) = Watch::channel(first);
    let follow = Follow { store: store.clone(), selection, position, reported: position, sender };
    tokio::spawn(follow.run(pages));
    Ok(watch)
}

type Opened = (broadcast::Receiver<Arc<Page>>, Vec<WatchEvent>, i64);

fn open(store: &EmbeddedStore, selection: &Selection, from: Option<Revision>) -> Result<Opened, WatchError> {
    // Subscribed first, so that nothing can slip in between the snapshot and the first page.
    let pages = store.shared.follower.subscribe().map_err(WatchError::Lost)?;
    if let Some(revision) = from {
        let position = database::number(&revision);
        // An answer that history is gone should come now rather than with the first event.
        read_page(store, position)?;
        return Ok((pages, Vec::new(), position));
    }
    let listing = store.list_blocking(selection).map_err(|e| WatchError::Lost(e.fault))?;
    let position = database::number(&listing.revision);
    let mut first: Vec<WatchEvent> = listing.entries.into_iter().map(WatchEvent::Put).collect();
    first.push(WatchEvent::Progress(listing.revision));
    Ok((pages, first, position))
}

fn read_page(store: &EmbeddedStore, position: i64) -> Result<Page, WatchError> {
    let read = |c: &mut Connection| Ok(database::read_page(c, position));
    match store.shared.reader.with(&store.shared.place, read) {
        Ok(Ok(page)) => Ok(page),
        Ok(Err(PageError::Compacted)) => Err(WatchError::Compacted),
        Ok(Err(PageError::Fault(fault))) | Err(fault) => Err(WatchError::Lost(fault)),
    }
}

/// One watch: where it is, and to whom it reports.
struct Follow {
    store: EmbeddedStore,
    selection: Selection,
    position: i64,
    reported: i64,
    sender: WatchSender,
}

/// Why a watch ended.
enum End {
    ReaderGone,
    Error(WatchError),
}

impl From<ReaderGone> for End {
    fn from(_: ReaderGone) -> End {
        End::ReaderGone
    }
}

impl Follow {
    async fn run(mut self, mut pages: broadcast::Receiver<Arc<Page>>) {
        if let Err(End::Error(error)) = self.follow(&mut pages).await {
            self.sender.fail(error).await;
        }
    }

    async fn follow(&mut self, pages: &mut broadcast::Receiver<Arc<Page>>) -> Result<(), End> {
        self.catch_up().await?;
        loop {
            let page = tokio::select! {
                page = pages.recv() => page,
                () = self.sender.closed() => return Err(End::ReaderGone),
            };
            match page {
                // A gap: the follower itself had to skip.
                Ok(page) if page.after > self.position => self.catch_up().await?,
                Ok(page) => self.deliver(&page).await?,
                Err(RecvError::Lagged(_)) => self.catch_up().await?,
                Err(RecvError::Closed) => {
                    let unknown =
                        || Fault::Unavailable("the datastore's log is not followed any more".into());
                    let fault = self.store.shared.place.check().err().unwrap_or_else(unknown);
                    return Err(End::Error(WatchError::Lost(fault)));
                }
            }
        }
    }

    /// Reads the log page by page until nothing is new.
    async fn catch_up(&mut self) -> Result<(), End> {
        loop {
            let (store, position) = (self.store.clone(), self.position);
            let page = off_thread(move || read_page(&store, position))
                .await
                .map_err(WatchError::Lost)
                .and_then(|page| page)
                .map_err(End::Error)?;
            if page.through == self.position {
                return Ok(());
            }
            self.deliver(&page).await?;
        }
    }

    async fn deliver(&mut self, page: &Page) -> Result<(), End> {
        let wanted =
            page.rows.iter().filter(|row| row.revision > self.position && self.selection.contains(&row.key));
        let mut events: Vec<WatchEvent> = wanted
            .map(|row| {
                let (key, revision) = (row.key.clone(), Revision::from(row.revision));
                match &row.value {
                    Some(value) => WatchEvent::Put(Entry { key, value: value.clone(), revision }),
                    None => WatchEvent::Deleted { key, revision },
                }
            })
            .collect();
        self.position = self.position.max(page.through);
        if events.is_empty() && self.position - self.reported < PROGRESS_EVERY {
            return Ok(());
        }
        self.reported = self.position;
        events.push(WatchEvent::Progress(self.position.into()));
        Ok(self.sender.send(events).await?)
    }
}
