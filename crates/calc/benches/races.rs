//! Races A and D: the calculation alone, one thread, from typed updates to emitted changes, timed and weighed.
//!
//! Each line reads: letter, name, figure, unit, Calico's figure on the same workload, and ours by it (below 1 we win).

#[path = "races/scale.rs"]
mod scale;
#[path = "races/workload.rs"]
mod workload;

use std::time::Duration;

use calico_calc::{Calc, Change, Update};

use scale::Live;

#[global_allocator]
static HEAP: scale::Counting = scale::Counting;

/// Updates are made in batches outside the clock, so that neither making nor keeping them is measured.
const BATCH: usize = 1_000;

struct Run {
    calc: Calc,
    spent: Duration,
    changes: Vec<Change>,
}

impl Run {
    fn new() -> Run {
        Run { calc: Calc::new(workload::NODE), spent: Duration::ZERO, changes: Vec::new() }
    }

    fn feed(&mut self, mut updates: impl Iterator<Item = Update>) {
        loop {
            let batch: Vec<Update> = updates.by_ref().take(BATCH).collect();
            if batch.is_empty() {
                return;
            }
            let start = scale::cpu_time();
            for update in batch {
                self.calc.update(update);
            }
            self.spent += scale::cpu_time() - start;
        }
    }

    fn flush(&mut self) {
        let start = scale::cpu_time();
        self.calc.in_sync();
        self.calc.flush(&mut self.changes);
        self.spent += scale::cpu_time() - start;
    }
}

#[expect(clippy::print_stdout, reason = "the result of the race")]
fn report(letter: char, name: &str, figure: f64, unit: &str, peer: f64) {
    println!("{letter} {name} {figure:.3} {unit} {peer} {:.3}", figure / peer);
}

/// Runs the snapshot and reports its time and what stays on the heap, the changes told but dropped.
fn race(letter: char, name: &str, peer_secs: f64, peer_mb: f64, feed: impl FnOnce(&mut Run)) -> Run {
    let before = Live::now();
    let mut run = Run::new();
    feed(&mut run);
    run.flush();
    let emitted = run.changes.len();
    run.changes = Vec::new();
    let heap = Live::now().since(&before);
    report(letter, &format!("{name}_s"), run.spent.as_secs_f64(), "s", peer_secs);
    report(letter, &format!("{name}_heap_mb"), heap, "MB", peer_mb);
    assert!(emitted > 0, "a snapshot has something to say");
    run
}

fn main() {
    let only = scale::arguments();
    let wanted = |letter: &str| only.is_empty() || only.iter().any(|wanted| wanted == letter);
    if wanted("A") {
        let run = race('A', "snapshot_tag_policies", 9.7, 283.0, |run| {
            run.feed(workload::tag_policies(10_000));
            run.feed(workload::tag_profiles());
            run.feed(workload::tag_endpoints(0..250_000, "remote"));
            run.feed(workload::tag_endpoints(250_000..250_200, workload::NODE));
        });
        drop(run);
    }
    if wanted("D") {
        for (namespaces, secs, mb) in [(1_000, 0.07, 9.0), (10_000, 0.57, 39.0), (100_000, 10.9, 316.0)] {
            race('D', &format!("isolated_customers_{namespaces}"), secs, mb, |run| {
                run.feed(workload::customers(namespaces));
            });
        }
    }
}
