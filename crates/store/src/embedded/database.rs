//! The operations on the file, each one transaction. Blocking.

use bytes::Bytes;
use calico_api::{Entry, Expect, Key, Revision, Selection, Write};
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use super::schema::{FIRST_REVISION, STEPS, fault};
use crate::error::{CommitError, Fault};
use crate::store::{Committed, Listing, key_range};

/// How many revisions the log keeps: at a thousand commits a minute, ten minutes of absence before a watcher must
/// list again.
const HISTORY_REVISIONS: i64 = 10_000;

/// How many bytes of keys and values the log keeps, so that large values do not make the file grow without bound.
const HISTORY_BYTES: i64 = 64 << 20;

/// How many rows one page of the log has at least, if there are as many: few enough that a read transaction is over
/// in a millisecond and checkpoints can proceed.
const PAGE_ROWS: usize = 256;

/// How many bytes of values end a page early.
const PAGE_BYTES: usize = 1 << 20;

/// How many expired entries one commit removes at most; the next one goes on.
const SWEEP_ROWS: i64 = 256;

/// What became of a batch of commits.
pub(super) struct Outcome {
    /// Whether watchers have something to read (a failed commit may still have removed expired entries).
    pub logged: bool,
    /// Each caller's answer, in order.
    pub results: Vec<Result<Committed, CommitError>>,
}

/// A stretch of the log: all its rows after one revision up to and including another.
#[derive(Debug)]
pub(super) struct Page {
    /// The revision before the first row.
    pub after: i64,
    /// The revision of the last row, whole.
    pub through: i64,
    /// In order.
    pub rows: Vec<Row>,
}

/// One step of one commit.
#[derive(Debug)]
pub(super) struct Row {
    pub revision: i64,
    pub key: Key,
    /// `None`: deleted.
    pub value: Option<Bytes>,
}

/// Why no page can be read from where a watcher is.
#[derive(Debug)]
pub(super) enum PageError {
    Compacted,
    Fault(Fault),
}

/// Our revisions are numbers; another store's, or none at all, counts as older than everything.
pub(super) fn number(revision: &Revision) -> i64 {
    revision.0.parse().unwrap_or(-1)
}

/// The newest revision and the bytes logged so far.
struct Head {
    revision: i64,
    total: i64,
}

fn head(c: &Connection) -> rusqlite::Result<Head> {
    c.prepare_cached("SELECT id, total FROM log ORDER BY id DESC LIMIT 1")?
        .query_row([], |row| Ok(Head { revision: row.get::<_, i64>(0)? / STEPS, total: row.get(1)? }))
        .optional()
        .map(|head| head.unwrap_or(Head { revision: FIRST_REVISION, total: 0 }))
}

fn history(c: &Connection) -> rusqlite::Result<u64> {
    c.prepare_cached("SELECT history FROM store")?
        .query_row([], |row| row.get::<_, i64>(0))
        .map(i64::cast_unsigned)
}

/// Reads one entry.
pub(super) fn get(c: &Connection, key: &Key, now_ms: i64) -> Result<Option<Entry>, Fault> {
    read_entry(c, key, now_ms).map_err(fault)
}

fn read_entry(c: &Connection, key: &Key, now_ms: i64) -> rusqlite::Result<Option<Entry>> {
    c.prepare_cached(
        "SELECT value, revision FROM entry WHERE key = ?1 AND (expires IS NULL OR expires > ?2)",
    )?
    .query_row(params![key.to_string(), now_ms], |row| {
        let value: Vec<u8> = row.get(0)?;
        let revision: i64 = row.get(1)?;
        Ok(Entry { key: key.clone(), value: value.into(), revision: revision.into() })
    })
    .optional()
}

/// Reads a selection and the revision of the snapshot, in one read transaction.
pub(super) fn list(c: &mut Connection, selection: &Selection, now_ms: i64) -> Result<Listing, Fault> {
    let snapshot = |c: &mut Connection| -> rusqlite::Result<Listing> {
        let tx = c.transaction()?;
        let (start, end) = key_range(selection);
        let mut entries = Vec::new();
        {
            let mut statement = tx.prepare_cached(
                "SELECT key, value, revision FROM entry
                 WHERE key >= ?1 AND key < ?2 AND (expires IS NULL OR expires > ?3) ORDER BY key",
            )?;
            let mut rows = statement.query(params![start, end, now_ms])?;
            while let Some(row) = rows.next()? {
                let text = row.get_ref(0)?.as_str()?;
                let Some(key) = Key::parse(text).ok().filter(|k| selection.contains(k)) else { continue };
                let value = Bytes::copy_from_slice(row.get_ref(1)?.as_blob()?);
                entries.push(Entry { key, value, revision: row.get::<_, i64>(2)?.into() });
            }
        }
        let listing = Listing { entries, revision: head(&tx)?.revision.into(), history: history(&tx)? };
        tx.commit()?;
        Ok(listing)
    };
    snapshot(c).map_err(fault)
}

/// Reads the log after a revision: one page, ending with a whole revision. An empty page means: nothing new.
pub(super) fn read_page(c: &mut Connection, after: i64) -> Result<Page, PageError> {
    let read = |c: &mut Connection| -> rusqlite::Result<Option<Page>> {
        let tx = c.transaction()?;
        let page = page_in(&tx, after)?;
        tx.commit()?;
        Ok(page)
    };
    match read(c) {
        Ok(Some(page)) => Ok(page),
        Ok(None) => Err(PageError::Compacted),
        Err(error) => Err(PageError::Fault(fault(error))),
    }
}

/// `None` if the log does not reach back to `after`, or `after` has not happened yet in this history.
fn page_in(c: &Connection, after: i64) -> rusqlite::Result<Option<Page>> {
    if after > head(c)?.revision || oldest(c)?.is_some_and(|first| first > after + 1) {
        return Ok(None);
    }
    let mut statement = c.prepare_cached("SELECT id, key, value FROM log WHERE id >= ?1 ORDER BY id")?;
    let mut rows = statement.query([(after + 1) * STEPS])?;
    let mut page = Page { after, through: after, rows: Vec::new() };
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let revision = row.get::<_, i64>(0)? / STEPS;
        if revision > page.through && (page.rows.len() >= PAGE_ROWS || bytes >= PAGE_BYTES) {
            break;
        }
        page.through = revision;
        let Ok(key) = Key::parse(row.get_ref(1)?.as_str()?) else { continue };
        let value = row.get_ref(2)?.as_blob_or_null()?.map(Bytes::copy_from_slice);
        bytes += value.as_ref().map_or(0, Bytes::len);
        page.rows.push(Row { revision, key, value });
    }
    Ok(Some(page))
}

/// The oldest revision in the log.
fn oldest(c: &Connection) -> rusqlite::Result<Option<i64>> {
    c.prepare_cached("SELECT id FROM log ORDER BY id LIMIT 1")?
        .query_row([], |row| row.get::<_, i64>(0))
        .optional()
        .map(|id| id.map(|id| id / STEPS))
}

/// The newest revision: where a follower starts.
pub(super) fn newest(c: &Connection) -> Result<i64, Fault> {
    head(c).map(|h| h.revision).map_err(fault)
}

/// Changes whenever another connection commits. Cheap.
pub(super) fn data_version(c: &Connection) -> Result<i64, Fault> {
    c.prepare_cached("PRAGMA data_version").and_then(|mut s| s.query_row([], |row| row.get(0))).map_err(fault)
}

/// When the next entry expires, in milliseconds since 1970.
pub(super) fn next_expiry(c: &Connection) -> Result<Option<i64>, Fault> {
    c.prepare_cached("SELECT min(expires) FROM entry WHERE expires IS NOT NULL")
        .and_then(|mut s| s.query_row([], |row| row.get(0)))
        .map_err(fault)
}

/// Removes what has expired. Says whether there was anything.
pub(super) fn expire(c: &mut Connection, now_ms: i64) -> Result<bool, Fault> {
    let run = |c: &mut Connection| -> rusqlite::Result<bool> {
        let tx = c.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let before = head(&tx)?;
        let swept = sweep(&tx, &before, now_ms)?.revision != before.revision;
        tx.commit()?;
        Ok(swept)
    };
    run(c).map_err(fault)
}

/// Forgets history up to and including a revision, but never the newest one: it is what numbers the next.
pub(super) fn compact(c: &mut Connection, revision: i64) -> Result<(), Fault> {
    let run = |c: &mut Connection| -> rusqlite::Result<()> {
        let tx = c.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let cut = (revision + 1).min(head(&tx)?.revision);
        tx.execute("DELETE FROM log WHERE id < ?1", [cut * STEPS])?;
        tx.commit()
    };
    run(c).map_err(fault)
}

/// Carries out commits whose shape has been checked: each by itself all or nothing and with a revision of its own, all
/// made durable together. An error is for all of them, and then none happened.
pub(super) fn commit(c: &mut Connection, batch: &[&[Write]], now_ms: i64) -> Result<Outcome, Fault> {
    run_batch(c, batch, now_ms).map_err(fault)
}

fn run_batch(c: &mut Connection, batch: &[&[Write]], now_ms: i64) -> rusqlite::Result<Outcome> {
    let tx = c.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let before = head(&tx)?;
    // What has expired is gone for the comparisons, and its deletion has a revision of its own before ours.
    let mut at = sweep(&tx, &before, now_ms)?;
    let mut results = Vec::with_capacity(batch.len());
    for writes in batch {
        results.push(run_commit(&tx, writes, &mut at, now_ms)?);
    }
    let logged = at.revision != before.revision;
    if logged {
        trim(&tx, &at)?;
        tx.commit()?;
    } else {
        tx.rollback()?;
    }
    Ok(Outcome { logged, results })
}

/// One commit inside the transaction. It compares everything before it writes anything, so that a conflict leaves no
/// trace.
fn run_commit(
    tx: &Transaction<'_>,
    writes: &[Write],
    at: &mut Head,
    now_ms: i64,
) -> rusqlite::Result<Result<Committed, CommitError>> {
    for (index, write) in writes.iter().enumerate() {
        if let Some(current) = mismatch(tx, write, now_ms)? {
            let (key, current) = (write.key().clone(), current.map(Box::new));
            return Ok(Err(CommitError::Conflict { index, key, current }));
        }
    }
    let mut log = Log::new(tx, at);
    for write in writes {
        match write {
            Write::Put { key, value, ttl_secs, .. } => {
                let text = key.to_string();
                let expires = ttl_secs.map(|ttl| now_ms.saturating_add(i64::from(ttl) * 1000));
                tx.prepare_cached(
                    "INSERT INTO entry (key, value, revision, expires) VALUES (?1, ?2, ?3, ?4)
                     ON CONFLICT (key) DO UPDATE SET value = ?2, revision = ?3, expires = ?4",
                )?
                .execute(params![text, &value[..], log.revision, expires])?;
                log.append(&text, Some(&value[..]))?;
            }
            Write::Delete { key, .. } => {
                let text = key.to_string();
                if tx.prepare_cached("DELETE FROM entry WHERE key = ?1")?.execute([&text])? > 0 {
                    log.append(&text, None)?;
                }
            }
            Write::Check { .. } => {}
        }
    }
    *at = log.head(at);
    Ok(Ok(Committed { revisions: vec![Revision::from(at.revision); writes.len()] }))
}

/// `Some(what is there)` if a step's expectation does not hold.
fn mismatch(tx: &Transaction<'_>, write: &Write, now_ms: i64) -> rusqlite::Result<Option<Option<Entry>>> {
    let (Write::Put { expect, .. } | Write::Delete { expect, .. } | Write::Check { expect, .. }) = write;
    if *expect == Expect::Any {
        return Ok(None);
    }
    let current = read_entry(tx, write.key(), now_ms)?;
    let holds = match (expect, &current) {
        (Expect::Any, _) | (Expect::Absent, None) => true,
        (Expect::At(revision), Some(entry)) => entry.revision == *revision,
        (Expect::Absent, Some(_)) | (Expect::At(_), None) => false,
    };
    Ok((!holds).then_some(current))
}

/// The log entries of one commit.
struct Log<'a> {
    tx: &'a Transaction<'a>,
    revision: i64,
    step: i64,
    total: i64,
}

impl<'a> Log<'a> {
    fn new(tx: &'a Transaction<'a>, before: &Head) -> Log<'a> {
        Log { tx, revision: before.revision + 1, step: 0, total: before.total }
    }

    /// The head after the commit: unchanged if it logged nothing.
    fn head(&self, before: &Head) -> Head {
        let revision = if self.step > 0 { self.revision } else { before.revision };
        Head { revision, total: self.total }
    }

    fn append(&mut self, key: &str, value: Option<&[u8]>) -> rusqlite::Result<()> {
        let bytes = key.len() + value.map_or(0, <[u8]>::len);
        self.total = self.total.saturating_add(i64::try_from(bytes).unwrap_or(i64::MAX));
        self.tx
            .prepare_cached("INSERT INTO log (id, key, value, total) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![self.revision * STEPS + self.step, key, value, self.total])?;
        self.step += 1;
        Ok(())
    }
}

/// Removes expired entries under a revision of their own. Returns the head after it.
fn sweep(tx: &Transaction<'_>, before: &Head, now_ms: i64) -> rusqlite::Result<Head> {
    let expired: Vec<String> = tx
        .prepare_cached("SELECT key FROM entry WHERE expires <= ?1 LIMIT ?2")?
        .query_map([now_ms, SWEEP_ROWS], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut log = Log::new(tx, before);
    for key in &expired {
        tx.prepare_cached("DELETE FROM entry WHERE key = ?1")?.execute([key])?;
        log.append(key, None)?;
    }
    Ok(log.head(before))
}

/// Drops the oldest eighth of the log when it has outgrown its bounds: seldom, and never much at a time.
fn trim(tx: &Transaction<'_>, newest: &Head) -> rusqlite::Result<()> {
    let first = tx
        .prepare_cached("SELECT id, total FROM log ORDER BY id LIMIT 1")?
        .query_row([], |row| Ok((row.get::<_, i64>(0)? / STEPS, row.get::<_, i64>(1)?)))
        .optional()?;
    let Some((first, first_total)) = first else { return Ok(()) };
    let revisions = newest.revision - first + 1;
    if revisions <= 1 || (revisions <= HISTORY_REVISIONS && newest.total - first_total <= HISTORY_BYTES) {
        return Ok(());
    }
    let cut = first + (revisions / 8).max(1);
    tx.prepare_cached("DELETE FROM log WHERE id < ?1")?.execute([cut * STEPS])?;
    Ok(())
}
