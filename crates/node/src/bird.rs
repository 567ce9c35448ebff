//! One BIRD, kept alive and up to date. It is a process of its own that outlives this one: a new agent adopts it.
//!
//! ```text
//!                 first configuration
//!                         ▼
//!     ┌──────────▶ adopt, else spawn ──fails──▶ back-off ──┐
//!     │                   ▼                                │
//!  back-off ◀──ends── running ──new configuration──▶ `bird -p` ─good─▶ rename, `configure`
//!             (or is killed, after a minute without an answer)
//!                                                          └─bad──▶ reported; the old one stays in force
//! ```

use std::time::Duration;

use calico_mesh::birdc::command;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

pub mod config;
pub mod control;
pub mod daemon;
pub mod process;
pub mod retirement;
pub mod routes;

use config::{ConfigError, install, reconfigure};
use control::{ControlError, ask};
use daemon::{Daemon, Paths};

/// The wait before the first restart. Short: peers and the kernel keep our routes only for a while.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait before a restart. A start costs milliseconds, and meanwhile this node learns of no change.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// A daemon that ran for so long was a good one: its successor starts without delay.
const GOOD_RUN: Duration = Duration::from_secs(10);
/// How long to wait before a failed reconfiguration of a good configuration is tried again.
const RECONFIGURE_RETRY: Duration = Duration::from_secs(1);
/// How often a running daemon is asked for a sign of life.
const PULSE: Duration = Duration::from_secs(10);
/// After how many times in a row without one it is taken for lost. A minute: a large table may keep it busy for seconds, and
/// while it hangs its peers give it up by themselves (hold time, 240 s).
const PULSES_MISSED: u32 = 5;

/// How BIRD is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BirdReport {
    /// The daemon's process, while there is one.
    pub pid: Option<i32>,
    /// Whether it was there before this agent.
    pub adopted: bool,
    /// How often it ended without being asked to.
    pub unexpected_ends: u64,
    /// How many configurations were put in force.
    pub reconfigurations: u64,
    /// Why the newest configuration is not in force, if it is not.
    pub config_error: Option<String>,
    /// Why there is no daemon, if there is none.
    pub start_error: Option<String>,
}

/// The handle of the supervised BIRD.
#[derive(Clone, Debug)]
pub struct Bird {
    desired: watch::Sender<Option<String>>,
    report: watch::Receiver<BirdReport>,
    paths: Paths,
}

impl Bird {
    /// A handle, and the supervisor to run. BIRD is neither adopted nor started before the first configuration.
    pub fn new(paths: Paths) -> (Bird, Supervisor) {
        let (desired, wanted) = watch::channel(None);
        let (reporter, report) = watch::channel(BirdReport::default());
        let supervisor = Supervisor { paths: paths.clone(), wanted, reporter, in_force: None, pulse: PULSE };
        (Bird { desired, report, paths }, supervisor)
    }

    /// Wants a configuration in force. Only the newest counts.
    pub fn configure(&self, text: String) {
        self.desired.send_if_modified(|desired| {
            let is_new = desired.as_ref() != Some(&text);
            *desired = Some(text);
            is_new
        });
    }

    /// How BIRD is doing, now and from now on.
    pub fn report(&self) -> watch::Receiver<BirdReport> {
        self.report.clone()
    }

    /// Where its files are.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }
}

/// What keeps BIRD alive.
#[derive(Debug)]
pub struct Supervisor {
    paths: Paths,
    wanted: watch::Receiver<Option<String>>,
    reporter: watch::Sender<BirdReport>,
    /// The configuration that the running daemon was told to take.
    in_force: Option<String>,
    /// [`PULSE`].
    pulse: Duration,
}

impl Supervisor {
    /// Runs until it is told to stop. BIRD is left running: forwarding does not depend on the agent.
    pub async fn run(mut self, shutdown: CancellationToken) {
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = self.supervise() => {}
        }
    }

    async fn supervise(&mut self) {
        let mut backoff = FIRST_BACKOFF;
        loop {
            self.prepare().await;
            let started = Instant::now();
            match self.bring_up().await {
                Ok(daemon) => {
                    self.follow(daemon).await;
                    if started.elapsed() >= GOOD_RUN {
                        backoff = FIRST_BACKOFF;
                    }
                }
                Err(error) => {
                    let text = error_chain(&error);
                    tracing::error!(error = text, "BIRD cannot be started");
                    self.reporter.send_modify(|r| r.start_error = Some(text));
                }
            }
            sleep(backoff).await;
            backoff = (backoff * 2).min(MAX_BACKOFF);
        }
    }

    /// Waits until a configuration that BIRD finds good is in its place.
    async fn prepare(&mut self) {
        loop {
            let text = self.wanted.borrow_and_update().clone();
            if let Some(text) = text {
                match install(&self.paths, &text).await {
                    Ok(()) => {
                        self.in_force = Some(text);
                        self.reporter.send_modify(|r| r.config_error = None);
                        return;
                    }
                    Err(error) => self.note_config_error(&error),
                }
                // A daemon can still be started on the file that was good before.
                if self.paths.config.exists() {
                    self.in_force = None;
                    return;
                }
            }
            next(&mut self.wanted).await;
        }
    }

    async fn bring_up(&mut self) -> Result<Daemon, daemon::StartError> {
        if let Some(found) = daemon::adopt(&self.paths).await? {
            tracing::info!(pid = found.pid, "adopted the BIRD of an earlier life");
            // The file may be newer than what it runs.
            self.in_force = None;
            return Ok(found);
        }
        daemon::spawn(&self.paths).await
    }

    /// Keeps a running daemon's configuration up to date until it ends.
    async fn follow(&mut self, mut daemon: Daemon) {
        self.reporter.send_modify(|r| {
            r.pid = Some(daemon.pid);
            r.adopted = daemon.adopted;
            r.start_error = None;
        });
        let mut missed = 0;
        let mut next_pulse = Instant::now() + self.pulse;
        loop {
            let retry = self.bring_up_to_date().await;
            tokio::select! {
                outcome = daemon.wait() => return self.note_end(daemon.pid, &outcome),
                () = next(&mut self.wanted) => {}
                () = sleep(RECONFIGURE_RETRY), if retry => {}
                () = sleep_until(next_pulse) => {
                    missed = if is_silent(&self.paths).await { missed + 1 } else { 0 };
                    next_pulse = Instant::now() + self.pulse;
                }
            }
            if missed >= PULSES_MISSED {
                // Killed, not told to end: its peers keep our routes until its successor is back.
                tracing::error!(pid = daemon.pid, "BIRD lives but has not answered for long; killing it");
                match daemon.kill().await {
                    Ok(()) => return self.note_end(daemon.pid, "it did not answer and was killed"),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::error!(error, pid = daemon.pid, "BIRD cannot be killed");
                        missed = 0;
                    }
                }
            }
        }
    }

    fn note_end(&self, pid: i32, outcome: &str) {
        tracing::error!(pid, outcome, "BIRD has ended");
        self.reporter.send_modify(|r| {
            r.pid = None;
            r.unexpected_ends += 1;
        });
    }

    /// Puts the newest configuration in force. `true` if it is worth trying again.
    async fn bring_up_to_date(&mut self) -> bool {
        let Some(text) = self.wanted.borrow_and_update().clone() else { return false };
        if self.in_force.as_ref() == Some(&text) {
            return false;
        }
        let outcome = match install(&self.paths, &text).await {
            Ok(()) => reconfigure(&self.paths).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.in_force = Some(text);
                self.reporter.send_modify(|r| {
                    r.reconfigurations += 1;
                    r.config_error = None;
                });
                false
            }
            Err(error) => {
                self.note_config_error(&error);
                !matches!(error, ConfigError::Refused(_))
            }
        }
    }

    fn note_config_error(&self, error: &ConfigError) {
        let text = error_chain(error);
        tracing::error!(error = text, "BIRD's new configuration is not in force");
        self.reporter.send_modify(|r| r.config_error = Some(text));
    }
}

/// Whether the daemon leaves a question without an answer. One that is not there to be asked ends, which is seen elsewhere.
async fn is_silent(paths: &Paths) -> bool {
    matches!(ask(&paths.socket, command::STATUS).await, Err(ControlError::Silent))
}

/// Waits for the next configuration; for ever if nobody can want one any more.
async fn next(wanted: &mut watch::Receiver<Option<String>>) {
    if wanted.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// An error with its causes, for reports.
fn error_chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
