//! Watches: one stream for each API resource of a selection, merged; resumed where the server ends a stream in order.
//!
//! ```text
//!   open ──▶ lines ──▶ events, and where to resume ──▶ reader
//!     ▲        ├─ the server ends the stream (it does after some minutes) ─▶ open again at the last revision; one that
//!     │        │  ended before its time only if the server's history reaches that (it may come from a backup)
//!     │        ├─ 410: the history is gone ─▶ Compacted: the reader lists again
//!     │        ├─ an object that cannot be read: deleted, or where nobody knows which ─▶ Compacted
//!     └────────┴─ connection lost, refused, silent ─▶ Lost: the reader watches again from the last Progress
//! ```
//! An API resource that is missing (its definition is not installed) is empty and in sync; it is looked for from time
//! to time, and once it is there the reader lists again.

use std::time::Duration;

use bytes::BytesMut;
use calico_api::{Revision, Selection};
use calico_store::{Fault, Watch, WatchError, WatchEvent, WatchSender};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::affinity;
use crate::client::Call;
use crate::list;
use crate::part::{Line, Object, Part};
use crate::position::{self, Mark};
use crate::store::KubeStore;
use crate::transport::Body;

/// How long the server lets a watch last before it ends it in order, and the spread of it over our watches, so that
/// they do not all open again together.
const LIFE_SECS: u64 = 300;

/// How long after its life a watch is given up: then the way back is broken without either end having noticed.
const OVERDUE: Duration = Duration::from_secs(30);

/// How much before its life's end a watch still ends in its time: the server's clock began a little earlier than ours.
const EARLY: Duration = Duration::from_secs(2);

/// The shortest time between two openings of a stream: a server that ends streams at once is not hammered.
const MIN_LIFE: Duration = Duration::from_secs(1);

/// How often a missing API resource is looked for.
const MISSING_RETRY: Duration = Duration::from_secs(60);

/// How many batches of one stream wait for the others. The reader's channel has a bound of its own.
const QUEUE: usize = 2;

/// What one stream says.
type Batch = (Vec<WatchEvent>, Mark);

pub(crate) async fn start(
    store: &KubeStore,
    selection: Selection,
    from: Option<Revision>,
) -> Result<Watch, WatchError> {
    let view = store.view().await.map_err(WatchError::Lost)?;
    let parts = Part::of_selection(&selection, view);
    let mut first = Vec::new();
    let marks = match from {
        Some(revision) => position::parse(&revision, parts.len()).ok_or(WatchError::Compacted)?,
        None => {
            let mut marks = Vec::new();
            for part in &parts {
                let (entries, mark) = list::list(store, *part, &selection).await.map_err(WatchError::Lost)?;
                first.extend(entries.into_iter().map(WatchEvent::Put));
                marks.push(mark);
            }
            first.push(WatchEvent::Progress(position::revision(&marks)));
            marks
        }
    };
    let mut streams = Vec::new();
    for (part, mark) in parts.into_iter().zip(&marks) {
        let mut stream =
            Stream { store: store.clone(), part, selection: selection.clone(), mark: *mark, open: None };
        stream.begin().await?;
        streams.push(stream);
    }
    let (sender, watch) = Watch::channel(first);
    tokio::spawn(merge(streams, marks, sender));
    Ok(watch)
}

/// Passes on what all streams say; where the watch stands is where each of them does.
async fn merge(streams: Vec<Stream>, mut marks: Vec<Mark>, sender: WatchSender) {
    let (queue, mut batches) = mpsc::channel(QUEUE);
    // Ended with this function.
    let mut tasks = JoinSet::new();
    for (index, stream) in streams.into_iter().enumerate() {
        let queue = queue.clone();
        tasks.spawn(async move {
            let Err(error) = stream.run(index, &queue).await else { return };
            // Nobody listens any more: nothing to tell.
            let _ = queue.send((index, Err(error))).await;
        });
    }
    // The channel ends with the streams; a watch without streams lasts until its reader goes.
    let waits = queue;
    loop {
        let next = tokio::select! {
            next = batches.recv() => next,
            () = sender.closed() => return,
        };
        let Some((index, batch)) = next else { return drop(waits) };
        match batch {
            Ok((mut events, mark)) => {
                marks[index] = mark;
                events.push(WatchEvent::Progress(position::revision(&marks)));
                if sender.send(events).await.is_err() {
                    return;
                }
            }
            Err(error) => return sender.fail(error).await,
        }
    }
}

/// The watch of one API resource.
struct Stream {
    store: KubeStore,
    part: Part,
    selection: Selection,
    mark: Mark,
    open: Option<Open>,
}

/// A stream that is open.
struct Open {
    body: Body,
    /// The beginning of a line whose end has not come yet.
    buffer: BytesMut,
    opened: Instant,
    /// When the server ends it in order.
    end: Instant,
}

impl Stream {
    /// Opens the stream for the first time, so that an impossible one fails at once.
    async fn begin(&mut self) -> Result<(), WatchError> {
        let Mark::At(number) = self.mark else { return Ok(()) };
        self.check_reached(number).await?;
        self.open = Some(self.connect(number).await?);
        Ok(())
    }

    /// From a revision that the server has not come to a watch would wait silently until it has, and hear nothing of
    /// what happens before.
    async fn check_reached(&self, number: u64) -> Result<(), WatchError> {
        match list::reaches(&self.store, self.part, &self.selection, number).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(WatchError::Compacted),
            Err(fault) => Err(WatchError::Lost(fault)),
        }
    }

    async fn connect(&self, number: u64) -> Result<Open, WatchError> {
        let life = LIFE_SECS + number % LIFE_SECS;
        let base = affinity::query(&self.store, self.part, &self.selection).await;
        let base = base.map_err(|error| WatchError::Lost(error.into_fault()))?;
        let path = format!(
            "{base}watch=true&allowWatchBookmarks=true&resourceVersion={number}&timeoutSeconds={life}"
        );
        match self.store.client().stream(&Call::get(path)).await {
            Ok(body) => {
                let opened = Instant::now();
                let end = opened + Duration::from_secs(life) - EARLY;
                Ok(Open { body, buffer: BytesMut::new(), opened, end })
            }
            // 404: the definition has been removed.
            Err(error) if error.is(410) || error.is(404) => Err(WatchError::Compacted),
            Err(error) => Err(WatchError::Lost(error.into_fault())),
        }
    }

    async fn run(
        self,
        index: usize,
        queue: &mpsc::Sender<(usize, Result<Batch, WatchError>)>,
    ) -> Result<(), WatchError> {
        let store = self.store.clone();
        let ended = self.follow(index, queue).await;
        if ended.is_err() {
            store.note_break();
        }
        ended
    }

    async fn follow(
        mut self,
        index: usize,
        queue: &mpsc::Sender<(usize, Result<Batch, WatchError>)>,
    ) -> Result<(), WatchError> {
        loop {
            let Mark::At(number) = self.mark else { return self.until_there().await };
            let mut open = match self.open.take() {
                Some(open) => open,
                None => self.connect(number).await?,
            };
            while let Some(events) = self.read(&mut open).await? {
                // Nobody listens any more.
                if queue.send((index, Ok((events, self.mark)))).await.is_err() {
                    return Ok(());
                }
            }
            sleep_until(open.opened + MIN_LIFE).await;
            if Instant::now() < open.end
                && let Mark::At(number) = self.mark
            {
                self.store.note_break();
                self.check_reached(number).await?;
            }
        }
    }

    /// Waits until a missing API resource is there; the reader lists then.
    async fn until_there(&self) -> Result<(), WatchError> {
        loop {
            sleep(MISSING_RETRY).await;
            let (_, mark) =
                list::list(&self.store, self.part, &self.selection).await.map_err(WatchError::Lost)?;
            if mark != Mark::Missing {
                return Err(WatchError::Compacted);
            }
        }
    }

    /// The events of the next lines that arrived together; `None` when the server has ended the stream in order.
    async fn read(&mut self, open: &mut Open) -> Result<Option<Vec<WatchEvent>>, WatchError> {
        let view = self.store.view().await.map_err(WatchError::Lost)?.clone();
        let lost = |cause: String| WatchError::Lost(Fault::Unavailable(cause.into()));
        loop {
            let limit = open.opened + Duration::from_secs(2 * LIFE_SECS) + OVERDUE;
            let rest = limit.saturating_duration_since(Instant::now());
            match timeout(rest, open.body.next()).await {
                Err(_) => return Err(lost("the watch has outlived its time".to_owned())),
                Ok(None) => return Ok(None),
                Ok(Some(Err(error))) => return Err(WatchError::Lost(Fault::Unavailable(error.into()))),
                Ok(Some(Ok(data))) => open.buffer.extend_from_slice(&data),
            }
            // Only the new data can have the end of a line, but whole lines are what usually comes.
            let Some(end) = open.buffer.iter().rposition(|byte| *byte == b'\n') else { continue };
            let whole = open.buffer.split_to(end + 1);
            let mut events = Vec::new();
            let mut moved = false;
            for line in whole.as_ref().split(|byte: &u8| *byte == b'\n').filter(|line| !line.is_empty()) {
                let line = self
                    .part
                    .read_line(&view, line)
                    .map_err(|error| WatchError::Lost(Fault::Broken(error.into())))?;
                moved |= self.take(line, &mut events).await?;
            }
            if moved || !events.is_empty() {
                return Ok(Some(events));
            }
        }
    }

    /// Turns a line into events; whether the stream has come further.
    async fn take(&mut self, line: Line, events: &mut Vec<WatchEvent>) -> Result<bool, WatchError> {
        let object = match line {
            Line::Error { code: 410, .. } => return Err(WatchError::Compacted),
            Line::Error { code, message } => {
                let cause = format!("the API server ended the watch: {message} ({code})");
                return Err(WatchError::Lost(Fault::Unavailable(cause.into())));
            }
            Line::Bookmark(revision) => return Ok(self.advance(&revision)),
            Line::Absent { key: None, .. } => return Err(WatchError::Compacted),
            Line::Absent { key: Some(key), revision } => {
                if self.selection.contains(&key) {
                    events.push(WatchEvent::Deleted { key, revision: Revision(revision.clone()) });
                }
                return Ok(self.advance(&revision));
            }
            Line::Put(object) => {
                let Object { entries, revision, doomed } = object;
                let selected = entries.into_iter().filter(|e| self.selection.contains(&e.key));
                match &doomed {
                    None => events.extend(selected.map(WatchEvent::Put)),
                    Some(_) => events.extend(
                        selected
                            .map(|entry| WatchEvent::Deleted { key: entry.key, revision: entry.revision }),
                    ),
                }
                return Ok(self.advance(&revision));
            }
            Line::Deleted(object) => object,
        };
        let Object { entries, revision, doomed } = object;
        // The mark was the deletion, and has been told.
        if doomed.is_none() {
            let selected = entries.into_iter().filter(|e| self.selection.contains(&e.key));
            events.extend(
                selected.map(|entry| WatchEvent::Deleted { key: entry.key, revision: entry.revision }),
            );
        }
        Ok(self.advance(&revision))
    }

    fn advance(&mut self, revision: &str) -> bool {
        let Ok(number) = revision.parse() else { return false };
        self.store.note_newest(self.part, number);
        self.mark = Mark::At(number);
        true
    }
}
