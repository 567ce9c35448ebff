//! Liveness and readiness: parts of the agent report how they are, and the sum of it is served by HTTP.
//!
//! ```text
//! Reporter::report ──▶ Health ──summary(now)──▶ GET /liveness, /readiness: 204 or 200 good, 503 bad
//! ```
//!
//! A part that promised to report regularly and does not counts as neither live nor ready.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

mod server;
mod visits;

pub use server::{ServeError, serve_health, serve_metrics};

/// How the parts of the agent are. Clones share their state.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<&'static str, Part>>>,
}

/// What a part promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Promise {
    /// Its liveness counts.
    pub live: bool,
    /// Its readiness counts.
    pub ready: bool,
    /// It reports at least so often; never stale with `None`.
    pub timeout: Option<Duration>,
}

/// What a part says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// It works; a process whose parts do not is worth restarting.
    pub live: bool,
    /// It does what it is for.
    pub ready: bool,
    /// One line for whoever asks why; may be empty.
    pub detail: String,
}

#[derive(Debug)]
struct Part {
    promise: Promise,
    last: Option<(Instant, Report)>,
}

/// One part's way to report. Clones are the same part.
#[derive(Clone, Debug)]
pub struct Reporter {
    health: Health,
    name: &'static str,
}

/// The sum of all reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Every part whose liveness counts is live.
    pub live: bool,
    /// Every part whose readiness counts is ready.
    pub ready: bool,
    /// A line for each part.
    pub detail: String,
}

impl Health {
    /// No part yet: live and ready.
    pub fn new() -> Health {
        Health::default()
    }

    /// Adds a part. Until its first report it is live, if it has time to report at all, and not ready.
    pub fn register(&self, name: &'static str, promise: Promise) -> Reporter {
        self.with(|parts| parts.insert(name, Part { promise, last: None }));
        Reporter { health: self.clone(), name }
    }

    /// How the agent is at a moment.
    pub fn summary(&self, now: Instant) -> Summary {
        self.with(|parts| {
            let mut summary = Summary { live: true, ready: true, detail: String::new() };
            for (name, part) in parts.iter() {
                let Report { live, ready, detail } = part.at(now);
                let Promise { live: live_counts, ready: ready_counts, timeout: _ } = part.promise;
                summary.live &= live || !live_counts;
                summary.ready &= ready || !ready_counts;
                let word = |counts: bool, good: bool, yes, no| match (counts, good) {
                    (false, _) => "-",
                    (true, true) => yes,
                    (true, false) => no,
                };
                let live = word(live_counts, live, "live", "not live");
                let ready = word(ready_counts, ready, "ready", "not ready");
                let separator = if detail.is_empty() { "" } else { ": " };
                writeln!(summary.detail, "{name}: {live}, {ready}{separator}{detail}")
                    .expect("writing to a String cannot fail");
            }
            summary
        })
    }

    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<&'static str, Part>) -> T) -> T {
        // A panic elsewhere leaves whole reports behind.
        work(&mut self.parts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Part {
    fn at(&self, now: Instant) -> Report {
        match &self.last {
            None => Report { live: true, ready: false, detail: "no report yet".to_owned() },
            Some((at, report)) => match self.promise.timeout {
                Some(timeout) if now.saturating_duration_since(*at) > timeout => {
                    let secs = now.saturating_duration_since(*at).as_secs();
                    Report { live: false, ready: false, detail: format!("silent for {secs} s") }
                }
                _ => report.clone(),
            },
        }
    }
}

impl Reporter {
    /// Says how the part is, now.
    pub fn report(&self, report: Report) {
        self.report_at(report, Instant::now());
    }

    /// Says how the part was at a moment.
    pub fn report_at(&self, report: Report, now: Instant) {
        self.health.with(|parts| {
            if let Some(part) = parts.get_mut(self.name) {
                part.last = Some((now, report));
            }
        });
    }

    /// Says that the part is live and ready.
    pub fn good(&self) {
        self.report(Report { live: true, ready: true, detail: String::new() });
    }

    /// Says that the part is live but not ready, and why.
    pub fn not_ready(&self, detail: impl Into<String>) {
        self.report(Report { live: true, ready: false, detail: detail.into() });
    }
}

#[cfg(test)]
mod tests;
