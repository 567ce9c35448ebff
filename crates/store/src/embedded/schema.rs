//! The file: its tables, its settings, and what SQLite's errors mean to us.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
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

/// The path of a file that belongs to the database and stands beside it.
pub(super) fn beside(database: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(database);
    name.push(suffix);
    name.into()
}

/// What SQLite keeps beside the file while it is in use: commits that the file does not have yet, and their index.
const SIDES: [&str; 2] = ["-wal", "-shm"];

/// Says what stands where there is no database: commits of one that was moved or deleted, which SQLite would throw away
/// for the sake of a new one, or nothing.
fn find_stray(path: &Path) -> Option<PathBuf> {
    let stray = SIDES.iter().map(|suffix| beside(path, suffix)).find(|side| side.exists())?;
    // Whoever creates the database makes it first: if it is there now, that is what happens at this moment.
    (!path.exists()).then_some(stray)
}

fn stray_fault(path: &Path, stray: &Path) -> Fault {
    let (path, stray) = (path.display(), stray.display());
    Fault::Broken(format!("{path} is gone and {stray} is not: put {path} back, or delete {stray} too").into())
}

/// Creates the directory and the file, readable for their owner alone: SQLite gives its side files the same mode.
fn create_files(path: &Path) -> Result<(), Fault> {
    if path.exists() {
        return Ok(());
    }
    if let Some(stray) = find_stray(path) {
        return Err(stray_fault(path, &stray));
    }
    if let Some(dir) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
        std::fs::create_dir_all(dir).map_err(|e| io_fault(e, dir))?;
    }
    private_file(path).map(drop).map_err(|e| io_fault(e, path))
}

/// That there is a database is not for SQLite to say, whose words name neither the file nor what makes it.
fn check_there(path: &Path) -> Result<(), Fault> {
    match std::fs::metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(match find_stray(path) {
            Some(stray) => stray_fault(path, &stray),
            None => Fault::Unavailable(
                "there is no such file; `calico node` or the first `calicoctl apply` makes it, and \
                 CALICO_DATASTORE_PATH says where it is"
                    .into(),
            ),
        }),
        Err(error) => Err(io_fault(error, path)),
    }
}

/// Opens a file for writing, creating it with mode 0600.
pub(super) fn private_file(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(path)
}

/// Opens a connection, creating the file and the tables if they are missing.
pub(super) fn open_or_create(path: &Path) -> Result<Connection, Fault> {
    create_files(path)?;
    let connection = connect(path)?;
    match version(&connection)? {
        0 => {
            enter_wal(&connection)?;
            create_tables(connection)
        }
        found => enter(connection, path, found),
    }
}

/// Opens a connection to a database that is there, and changes nothing where there is none.
pub(super) fn open(path: &Path) -> Result<Connection, Fault> {
    check_there(path)?;
    let connection = connect(path)?;
    let found = version(&connection)?;
    enter(connection, path, found)
}

fn connect(path: &Path) -> Result<Connection, Fault> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    // The last process to leave need not fold the log back into the file: a short-lived one would pay two fsyncs
    // for it each time. Whoever follows the log does it, and the automatic checkpoint bounds it.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true).map_err(fault)?;
    connection.busy_handler(Some(wait_for_lock)).map_err(fault)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

fn enter(connection: Connection, path: &Path, found: i64) -> Result<Connection, Fault> {
    match found {
        VERSION => enter_wal(&connection).map(|()| connection),
        // Another process may be at it.
        0 => Err(Fault::Unavailable(format!("{} has no tables", path.display()).into())),
        other => Err(Fault::Broken(format!("{} has format {other}, not {VERSION}", path.display()).into())),
    }
}

fn enter_wal(connection: &Connection) -> Result<(), Fault> {
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
    Ok(())
}

/// Folds the write-ahead log back into the file, as far as nobody reads or writes meanwhile: the file alone then has
/// everything.
pub(super) fn fold(connection: &Connection) -> Result<(), Fault> {
    connection.execute_batch("PRAGMA wal_checkpoint(PASSIVE)").map_err(fault)
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
    fold(&connection)?;
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
