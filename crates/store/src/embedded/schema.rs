//! The file: its tables, its settings, and what SQLite's errors mean to us.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::error::Fault;

/// `PRAGMA user_version` of the tables below.
const VERSION: i64 = 1;

/// How long a writer waits for others before it gives up. A commit holds the lock for one or a few fsyncs, so even
/// fifty writers in a row on a slow disk are far below this; only a stopped process reaches it.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// The longest wait between two tries for the lock: about one fsync, so that a free lock does not lie idle for long.
const BUSY_STEP: Duration = Duration::from_millis(2);

/// `log.id = revision * STEPS + step` keeps the log one append-only b-tree without a second index. More than the
/// steps of the largest commit, and of one sweep of expired entries.
pub(super) const STEPS: i64 = 1024;

/// The revision of a store that was never written; the first commit makes the next one (as in etcd).
pub(super) const FIRST_REVISION: i64 = 1;

const TABLES: &str = "
    CREATE TABLE entry (
        key TEXT NOT NULL UNIQUE,
        value BLOB NOT NULL,
        revision INTEGER NOT NULL,
        expires INTEGER            -- milliseconds since 1970; NULL: never
    );
    CREATE INDEX expiry ON entry(expires) WHERE expires IS NOT NULL;
    CREATE TABLE log (
        id INTEGER PRIMARY KEY,    -- revision * 1024 + step
        key TEXT NOT NULL,
        value BLOB,                -- NULL: deleted
        total INTEGER NOT NULL     -- bytes of all keys and values logged so far, this one included
    );
    CREATE TABLE store (history INTEGER NOT NULL);
    INSERT INTO store VALUES (random());
    PRAGMA user_version = 1;
";

/// What an SQLite error means to a caller of the store.
pub(super) fn fault(error: rusqlite::Error) -> Fault {
    match error.sqlite_error_code() {
        Some(
            ErrorCode::PermissionDenied | ErrorCode::ReadOnly | ErrorCode::AuthorizationForStatementDenied,
        ) => Fault::Denied(error.into()),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::SchemaChanged) => {
            Fault::Broken(error.into())
        }
        // Busy, locked, disk full, I/O errors, cannot open: an operator or time may mend them.
        Some(_) => Fault::Unavailable(error.into()),
        None => Fault::Broken(error.into()),
    }
}

/// What an error of the file system means to a caller of the store.
pub(super) fn io_fault(error: std::io::Error, path: &Path) -> Fault {
    let denied = error.kind() == std::io::ErrorKind::PermissionDenied;
    let cause = std::io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    if denied { Fault::Denied(cause.into()) } else { Fault::Unavailable(cause.into()) }
}

/// Creates the directory and the file, readable for their owner alone: SQLite gives its side files the same mode.
pub(super) fn create_files(path: &Path) -> Result<(), Fault> {
    if path.exists() {
        return Ok(());
    }
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(|e| io_fault(e, dir))?;
    }
    private_file(path).map(drop).map_err(|e| io_fault(e, path))
}

/// Opens a file for writing, creating it with mode 0600.
pub(super) fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Opens a connection, creating the tables if they are missing.
pub(super) fn open(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    // The last process to leave need not fold the log back into the file: a short-lived one would pay two fsyncs
    // for it each time. The automatic checkpoint bounds the log.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(fault)?;
    connection.busy_handler(Some(wait_for_lock)).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(32);
    let deadline = Instant::now() + BUSY_LIMIT;
    // Entering WAL mode may answer "busy" at once, without asking the busy handler, while another process does it.
    while let Err(error) = connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 16777216;",
    ) {
        if error.sqlite_error_code() != Some(ErrorCode::DatabaseBusy) || Instant::now() > deadline {
            return Err(fault(error));
        }
        std::thread::sleep(BUSY_STEP);
    }
    match version(&connection)? {
        VERSION => Ok(connection),
        0 => create_tables(connection),
        other => Err(Fault::Broken(format!("{} has format {other}, not {VERSION}", path.display()).into())),
    }
}

fn version(connection: &Connection) -> Result<i64, Fault> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(fault)
}

fn create_tables(mut connection: Connection) -> Result<Connection, Fault> {
    let tx = connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(fault)?;
    // Another process may have been first.
    if version(&tx)? == 0 {
        tx.execute_batch(TABLES).map_err(fault)?;
    }
    tx.commit().map_err(fault)?;
    Ok(connection)
}

/// SQLite's busy handler: `tries` counts from 0 for each lock. SQLite's own steps grow to 100 ms, far longer than a
/// commit; ours stay near the time a commit takes.
fn wait_for_lock(tries: i32) -> bool {
    let step = BUSY_STEP.min(Duration::from_micros(100 * (u64::try_from(tries).unwrap_or(0) + 1)));
    std::thread::sleep(step);
    // The first steps are shorter, so this ends a little early; the limit is no promise.
    BUSY_STEP * u32::try_from(tries).unwrap_or(0) < BUSY_LIMIT
}
