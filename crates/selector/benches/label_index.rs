//! Race E: what the label index and the parser cost. One line per figure:
//! `E <what> <figure> us <peer's figure, or -> <ours / peer>`; and one of memory, in MB.
//!
//! The peer's figures are Calico v3.33-dev's on a quiet machine of this kind; a dash stands where none is known.

#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures time and prints it"
)]

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use calico_selector::index::{Index, MatchEvent};
use calico_selector::{Selector, parse};
use mimalloc::MiMalloc;

/// Counts what is allocated, so that the figures of memory and of allocations are exact. Below it is the allocator that
/// the binary ships with.
struct Counting;

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: every call goes to mimalloc unchanged; only counters are kept beside it.
#[allow(unsafe_code, reason = "an allocator can only be written so")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE_BYTES.fetch_add(layout.size(), Ordering::Relaxed);
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller keeps GlobalAlloc's contract, which is mimalloc's.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above; the pointer came from mimalloc.
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }
}

fn main() {
    for (count, peer_us) in [(10, 9.3), (100, 22.7), (1_000, 192.0), (10_000, 8_300.0)] {
        label_update(count, peer_us);
    }
    parent_update(10_000, 7.3);
    for (count, peer_us) in [(10_000, 1_500.0), (100_000, 22_700.0)] {
        selector_update(count, peer_us);
    }
    tagged_items();
    memory();
    parse_cost();
}

fn report(what: &str, figure_us: f64, peer_us: Option<f64>) {
    match peer_us {
        Some(peer_us) => println!("E {what} {figure_us:.3} us {peer_us} {:.5}", figure_us / peer_us),
        None => println!("E {what} {figure_us:.3} us - -"),
    }
}

/// The best mean of five rounds, in microseconds per call: what disturbs can only add.
fn time_us(calls: usize, mut call: impl FnMut(usize)) -> f64 {
    let round = |call: &mut dyn FnMut(usize)| {
        let start = Instant::now();
        (0..calls).for_each(&mut *call);
        start.elapsed().as_secs_f64() * 1e6 / calls as f64
    };
    (0..5).map(|_| round(&mut call)).fold(f64::INFINITY, f64::min)
}

fn selector(text: &str) -> Selector {
    parse(text).expect("the benchmark's own selector")
}

/// `count` selectors that start alike.
fn index_of(count: u32) -> Index {
    let mut index = Index::new();
    let mut out = Vec::new();
    for id in 0..count {
        index.add_selector(id, &selector(&format!("alpha == \"beta\" && has(ipset-{id})")), &mut out);
    }
    index
}

/// An endpoint comes with the labels of one set, then goes on to those of another: each call changes its matches.
fn label_update(count: u32, peer_us: f64) {
    let mut index = index_of(count);
    let mut out: Vec<MatchEvent> = Vec::new();
    let labels = [[("alpha", "beta"), ("ipset-1", "true")], [("alpha", "beta"), ("ipset-2", "true")]];
    let figure = time_us(10_000, |call| {
        out.clear();
        index.set_item(7, labels[call % 2], &[], &mut out);
        assert!(!out.is_empty());
    });
    report(&format!("label_index_update_s{count}"), figure, Some(peer_us));
    let figure = time_us(10_000, |call| {
        out.clear();
        match call % 2 {
            0 => index.remove_item(7, &mut out),
            _ => index.set_item(7, labels[0], &[], &mut out),
        }
        assert!(call == 0 || !out.is_empty());
    });
    report(&format!("label_index_come_and_go_s{count}"), figure, None);
    index.set_item(7, labels[0], &[], &mut out);
    let figure = time_us(10_000, |_| {
        out.clear();
        index.set_item(7, labels[0], &[], &mut out);
    });
    report(&format!("label_index_unchanged_s{count}"), figure, None);
}

/// One of many parents, each with one endpoint, changes the label that decides a match.
fn parent_update(count: u32, peer_us: f64) {
    let mut index = index_of(10);
    let mut out = Vec::new();
    for id in 0..count {
        index.set_item(id, [("alpha", "beta")], &[id], &mut out);
        index.set_parent(id, [("ipset-1", "true")], &mut out);
    }
    let figure = time_us(10_000, |call| {
        out.clear();
        let name = if call % 2 == 0 { "ipset-2" } else { "ipset-1" };
        index.set_parent(4_711, [(name, "true")], &mut out);
        assert!(out.len() == 2);
    });
    report(&format!("label_index_parent_update_p{count}"), figure, Some(peer_us));
}

/// A selector comes and goes among many, with as many endpoints of which one matches it.
fn selector_update(count: u32, peer_us: f64) {
    let mut index = index_of(count);
    let mut out = Vec::new();
    for id in 0..count {
        index.set_item(id, [("alpha", "beta"), (&*format!("ipset-{id}"), "true")], &[], &mut out);
    }
    let one = selector("alpha == \"beta\" && has(ipset-77)");
    let figure = time_us(10_000, |_| {
        out.clear();
        index.remove_selector(77, &mut out);
        index.add_selector(77, &one, &mut out);
        assert!(out.len() == 2);
    });
    report(&format!("label_index_selector_update_s{count}"), figure, Some(peer_us));
    let broad = selector("alpha == \"beta\" && !has(ipset-77)");
    let figure = time_us(10, |_| {
        out.clear();
        index.remove_selector(count, &mut out);
        index.add_selector(count, &broad, &mut out);
    });
    report(&format!("label_index_broad_selector_s{count}"), figure, None);
}

/// The labels of race A: 250,000 endpoints of 100 namespaces, 10,000 selectors of which 31 can match.
fn tagged_items() {
    const ITEMS: u32 = 250_000;
    let mut index = Index::new();
    let mut out = Vec::new();
    for id in 0..10_000 {
        index.add_selector(id, &selector(&format!("has(marker-{id})")), &mut out);
    }
    for parent in 0..100 {
        index.set_parent(parent, [("namespace", &*format!("ns-{parent}"))], &mut out);
    }
    let labels: Vec<[(String, String); 6]> = (0..ITEMS)
        .map(|item| {
            let one_in = |of: u32| (format!("one-in-{of}"), format!("value-{}", item % of));
            let marker = (format!("marker-{}", item % 31), "true".to_owned());
            [one_in(10), one_in(11), one_in(20), one_in(30), one_in(40), marker]
        })
        .collect();
    let set_all = |index: &mut Index, out: &mut Vec<MatchEvent>| {
        let start = Instant::now();
        for (item, labels) in (0..).zip(&labels) {
            let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
            index.set_item(item, labels, &[item % 100], out);
        }
        start.elapsed().as_secs_f64() * 1e6 / f64::from(ITEMS)
    };
    out.reserve(ITEMS as usize);
    let (bytes, allocations) = (LIVE_BYTES.load(Ordering::Relaxed), ALLOCATIONS.load(Ordering::Relaxed));
    report("label_index_new_item_of_250000", set_all(&mut index, &mut out), None);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    println!("E label_index_new_item_allocations {:.2} each - -", allocations as f64 / f64::from(ITEMS));
    println!("E label_index_250000_items {:.1} MB - -", megabytes_since(bytes));
    assert!(out.len() == ITEMS as usize);
    report("label_index_same_item_of_250000", set_all(&mut index, &mut out), None);
    let names = ["ns-x", "ns-y"];
    let figure = time_us(10, |call| index.set_parent(3, [("namespace", names[call % 2])], &mut out));
    report("label_index_parent_of_2500_items", figure, None);
}

/// 100,000 endpoints of ten labels each, a third of them with values of their own.
fn memory() {
    const ITEMS: u32 = 100_000;
    let mut out = Vec::new();
    let bytes = LIVE_BYTES.load(Ordering::Relaxed);
    let mut index = Index::new();
    for item in 0..ITEMS {
        let values = [3, 5, 10, 50, 100, 500, 1_000].map(|of| format!("value-{}", item % of));
        let own = ["host", "pod", "hash"].map(|name| format!("{name}-{item}"));
        let names = ["l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9"];
        let labels = names.into_iter().zip(values.iter().chain(&own).map(String::as_str));
        index.set_item(item, labels, &[], &mut out);
    }
    println!(
        "E label_index_100000_items_of_10_labels {:.1} MB 159 {:.3}",
        megabytes_since(bytes),
        megabytes_since(bytes) / 159.0
    );
    drop(index);
    let bytes = LIVE_BYTES.load(Ordering::Relaxed);
    let mut index = Index::new();
    for item in 0..ITEMS {
        let values = [3, 5, 10, 50, 100, 500, 1_000, 2, 2, 5_000].map(|of| format!("value-{}", item % of));
        let names = ["l0", "l1", "l2", "l3", "l4", "l5", "l6", "l7", "l8", "l9"];
        index.set_item(item, names.into_iter().zip(values.iter().map(String::as_str)), &[], &mut out);
    }
    println!(
        "E label_index_100000_items_of_10_shared_labels {:.1} MB 159 {:.3}",
        megabytes_since(bytes),
        megabytes_since(bytes) / 159.0
    );
    drop(index);
}

fn megabytes_since(bytes: usize) -> f64 {
    (LIVE_BYTES.load(Ordering::Relaxed) - bytes) as f64 / 1e6
}

fn parse_cost() {
    let text =
        "projectcalico.org/namespace == 'default' && (role in {'frontend', 'backend'} || !has(retired))";
    let allocations = ALLOCATIONS.load(Ordering::Relaxed);
    let parsed = selector(text);
    let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
    report("selector_parse", time_us(100_000, |_| drop(black_box(parse(black_box(text))))), Some(5.0));
    println!("E selector_parse_allocations {allocations} each 36 {:.3}", allocations as f64 / 36.0);
    report("selector_uid", time_us(100_000, |_| drop(black_box(parsed.uid()))), None);
}
