//! Writers of the embedded store killed at random moments: what they leave behind is whole.
//!
//! The test starts itself again as the writers. A writer's every commit puts one number into several keys and says
//! so after it returned; the parent kills it (SIGKILL) somewhere in the middle, while another writer goes on and a
//! watch reads.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a test: it reads its own environment and clock, and stops at the first surprise"
)]

use std::io::{BufRead, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use calico_api::{Entry, Key, Kind, Revision, Selection, Write};
use calico_store::{EmbeddedStore, Store, Watch, WatchEvent};

/// Set in a writer's environment: the file, and the writer's name.
const FILE: &str = "STORE_CRASH_FILE";
const NAME: &str = "STORE_CRASH_NAME";

/// How many keys a commit changes together; with [`PADDING`] some dozen pages, so that checkpoints happen too.
const KEYS: usize = 5;
const PADDING: usize = 4_000;
const ROUNDS: u64 = 100;

fn key(writer: &str, n: usize) -> Key {
    Key::resource(Kind::NetworkPolicy, writer, &format!("p{n}"))
}

fn selection(writer: &str) -> Selection {
    Selection::Resources { kind: Kind::NetworkPolicy, namespace: Some(writer.into()), name_prefix: "".into() }
}

fn number(entry: &Entry) -> u64 {
    std::str::from_utf8(&entry.value).unwrap().trim_end_matches('x').parse().unwrap()
}

/// The child: commits until it is killed.
#[test]
fn writer() {
    let (Ok(file), Ok(name)) = (std::env::var(FILE), std::env::var(NAME)) else { return };
    let store = EmbeddedStore::open(file).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let last = runtime.block_on(store.get(&key(&name, 0))).unwrap().map_or(0, |e| number(&e));
    let mut stdout = std::io::stdout();
    for n in last + 1.. {
        let value = Bytes::from(format!("{n}{}", "x".repeat(PADDING)));
        let mut writes: Vec<Write> = (0..KEYS).map(|k| Write::put(key(&name, k), value.clone())).collect();
        // One more key comes and goes, so that the log has deletions.
        writes.push(match n % 2 {
            0 => Write::put(key(&name, KEYS), value),
            _ => Write::Delete { key: key(&name, KEYS), expect: calico_api::Expect::Any },
        });
        store.commit_blocking(&writes).unwrap();
        writeln!(stdout, "committed {n}").unwrap();
        stdout.flush().unwrap();
    }
}

fn spawn_writer(file: &Path, name: &str) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "writer", "--nocapture"])
        .env(FILE, file)
        .env(NAME, name)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

/// The number of a line that says that a commit returned.
fn committed(line: &str) -> Option<u64> {
    line.trim().rsplit_once("committed ")?.1.parse().ok()
}

/// Reads until a writer has said so often that it committed, and which number was last.
fn read_commits(stdout: &mut BufReader<ChildStdout>, count: u64) -> u64 {
    let (mut last, mut seen, mut line) = (0, 0, String::new());
    while seen < count {
        line.clear();
        assert!(stdout.read_line(&mut line).unwrap() > 0, "the writer ended by itself");
        if let Some(n) = committed(&line) {
            (last, seen) = (n, seen + 1);
        }
    }
    last
}

fn kill(child: &mut Child, stdout: &mut BufReader<ChildStdout>) -> Option<u64> {
    child.kill().unwrap();
    child.wait().unwrap();
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    // The last line may be half.
    let whole = rest.rfind('\n').map_or("", |end| &rest[..end]);
    whole.lines().rev().find_map(committed)
}

/// What a writer left: all its keys at one number, in one revision.
async fn whole_state(store: &EmbeddedStore, writer: &str) -> u64 {
    let listing = store.list(&selection(writer)).await.unwrap();
    let first = &listing.entries[0];
    let n = number(first);
    assert_eq!(listing.entries.len(), KEYS + usize::from(n.is_multiple_of(2)), "{n}");
    for entry in &listing.entries {
        assert_eq!((number(entry), &entry.revision), (n, &first.revision), "{}", entry.key);
    }
    n
}

/// Follows a writer's commits: each comes whole, none is missing, until the given number.
async fn follow(watch: &mut Watch, last: &mut u64, until: u64) {
    let mut current: Option<(Revision, u64, usize)> = None;
    while *last < until {
        let event = tokio::time::timeout(Duration::from_secs(30), watch.next()).await.unwrap().unwrap();
        let (revision, n) = match &event {
            WatchEvent::Put(entry) => (entry.revision.clone(), Some(number(entry))),
            WatchEvent::Deleted { revision, .. } => (revision.clone(), None),
            WatchEvent::Progress(_) => continue,
        };
        let (at, number, count) = current.get_or_insert((revision.clone(), *last + 1, 0));
        assert_eq!(*at, revision, "a commit of {number} came in parts");
        assert!(n.is_none_or(|n| n == *number), "{n:?} after {last}");
        *count += 1;
        // The very first commit has no sixth key to delete.
        if *count == KEYS + usize::from(*number > 1) {
            *last = *number;
            current = None;
        }
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_a_whole_state() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("store.db");
    let store = EmbeddedStore::open(&file).unwrap();
    let mut watch = store.watch(&selection("victim"), None).await.unwrap();
    let (mut steady, mut steady_stdout) = spawn_writer(&file, "steady");
    let mut random = 0x2545_F491_4F6C_DD1Du64;
    let (mut followed, mut acknowledged) = (0, 0);
    for _ in 0..ROUNDS {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let (mut victim, mut stdout) = spawn_writer(&file, "victim");
        acknowledged = read_commits(&mut stdout, 1 + random % 4).max(acknowledged);
        // Somewhere within the next commits.
        let moment = Instant::now() + Duration::from_micros(random / 16 % 3_000);
        while Instant::now() < moment {
            std::hint::spin_loop();
        }
        acknowledged = kill(&mut victim, &mut stdout).unwrap_or(0).max(acknowledged);
        let found = whole_state(&store, "victim").await;
        assert!(found >= acknowledged, "{acknowledged} was acknowledged, {found} is there");
        follow(&mut watch, &mut followed, found).await;
        // The lock died with its holder: the other writer goes on.
        read_commits(&mut steady_stdout, 1);
        whole_state(&store, "steady").await;
    }
    assert!(acknowledged >= ROUNDS, "the writers got nowhere");
    kill(&mut steady, &mut steady_stdout);
    drop((watch, store));

    // Nothing of it is damaged, and the next to come finds all of it.
    let connection = rusqlite::Connection::open(&file).unwrap();
    let verdict: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    drop(connection);
    let store = EmbeddedStore::open(&file).unwrap();
    assert_eq!(whole_state(&store, "victim").await, followed);
}
