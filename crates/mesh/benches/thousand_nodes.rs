//! What a large cluster costs one of its nodes: 1,000 nodes in a mesh and 4,000 blocks of its own.
//!
//! `cargo bench -p calico-mesh --bench thousand_nodes`

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark prints, and ends where it cannot go on"
)]
#![allow(clippy::disallowed_methods, reason = "it takes the time and asks BIRD")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use calico_api::key::AffinityOwner;
use calico_api::{Entry, Key, Kind};
use calico_mesh::{Index, Local, bird};
use serde_json::{Value, json};

const NODES: u32 = 1000;
const BLOCKS: u32 = 4000;
const OWN: &str = "node-0";

/// Counts what is allocated.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: it hands everything to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let live = LIVE.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(live, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn put(index: &mut Index, key: Key, value: &Value) {
    let entry = Entry { key: key.clone(), value: value.to_string().into(), revision: 1.into() };
    index.update(&key, Some(&entry));
}

fn block(n: u32) -> Key {
    let owner = AffinityOwner::Host(OWN.into());
    let block = format!("10.{}.{}.{}/26", n / 1024, n / 4 % 256, n % 4 * 64).parse().unwrap();
    Key::Affinity { owner, block }
}

/// Runs it, and says how long it took and what it allocated at most beyond what was there.
fn measure<T>(work: impl FnOnce() -> T) -> (T, Duration, usize) {
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let start = Instant::now();
    let result = work();
    (result, start.elapsed(), PEAK.load(Ordering::Relaxed) - before)
}

fn main() {
    let local = Local { node: OWN.into(), ..Local::default() };
    let (mut index, took, peak) = measure(|| {
        let mut index = Index::new(OWN.into());
        for n in 0..NODES {
            let address = format!("172.16.{}.{}/16", n / 250, n % 250 + 1);
            let node = json!({"kind": "Node", "metadata": {"name": format!("node-{n}")},
                "spec": {"bgp": {"ipv4Address": address}}});
            put(&mut index, Key::resource(Kind::Node, "", &format!("node-{n}")), &node);
        }
        for n in 0..BLOCKS {
            put(&mut index, block(n), &json!({"state": "confirmed"}));
        }
        let pool = json!({"kind": "IPPool", "metadata": {"name": "pool"}, "spec": {"cidr": "10.0.0.0/8"}});
        put(&mut index, Key::resource(Kind::IPPool, "", "pool"), &pool);
        index
    });
    println!("read {NODES} nodes and {BLOCKS} blocks: {took:?}, {peak} bytes");
    let ((intent, problems), took, peak) = measure(|| index.world().resolve(&local));
    assert!(problems.is_empty() && intent.sessions.len() == NODES as usize - 1);
    println!("plan: {took:?}, {peak} bytes, {} sessions", intent.sessions.len());
    let (text, took, peak) = measure(|| bird::render(&intent, "/var/log/calico/bird.log"));
    println!(
        "render: {took:?}, {peak} bytes; bird.cfg has {} bytes, {} lines",
        text.len(),
        text.lines().count()
    );

    let (after, took, peak) = measure(|| {
        put(&mut index, block(BLOCKS), &json!({"state": "confirmed"}));
        bird::render(&index.world().resolve(&local).0, "/var/log/calico/bird.log")
    });
    let before: BTreeSet<&str> = text.lines().collect();
    let news: Vec<&str> = after.lines().filter(|line| !before.contains(line)).collect();
    println!(
        "one block more, read, planned and rendered: {took:?}, {peak} bytes; {} lines differ",
        news.len()
    );

    let path = std::env::temp_dir().join(format!("calico-mesh-bench-{}.conf", std::process::id()));
    std::fs::write(&path, &text).unwrap();
    let start = Instant::now();
    match Command::new("/usr/sbin/bird").arg("-p").arg("-c").arg(&path).output() {
        Err(e) => println!("skipped: /usr/sbin/bird cannot be run: {e}"),
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            println!("bird -p: {:?}", start.elapsed());
        }
    }
    std::fs::remove_file(&path).unwrap();
}
