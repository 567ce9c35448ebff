//! The roles that one process composes. When one of them ends all do: a node whose BGP or CNI server is gone while the
//! rest goes on looks well and is not, and a supervisor that starts the process again mends it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use calico_felix::Exit;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// How long the others may take to end after the first has.
const ENDING: Duration = Duration::from_secs(5);

/// Running roles.
pub struct Roles {
    shutdown: CancellationToken,
    tasks: JoinSet<(&'static str, Result<Option<Exit>>)>,
}

impl Roles {
    /// None yet; `shutdown` tells them to end.
    pub fn new(shutdown: CancellationToken) -> Roles {
        Roles { shutdown, tasks: JoinSet::new() }
    }

    /// Starts a role that runs until it is told to end.
    pub fn spawn(&mut self, name: &'static str, role: impl Future<Output = Result<()>> + Send + 'static) {
        self.tasks.spawn(async move { (name, role.await.map(|()| None)) });
    }

    /// Starts the role that may decide how the process ends.
    pub fn spawn_leading(
        &mut self,
        name: &'static str,
        role: impl Future<Output = Result<Exit>> + Send + 'static,
    ) {
        self.tasks.spawn(async move { (name, role.await.map(Some)) });
    }

    /// Waits until the process must end, and ends the roles that are left.
    pub async fn run(mut self) -> Result<Exit> {
        let exit = self.first_end().await;
        self.shutdown.cancel();
        let others = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(ENDING, others).await.is_err() {
            tracing::warn!("not every role ends in time");
        }
        exit
    }

    async fn first_end(&mut self) -> Result<Exit> {
        while let Some(ended) = self.tasks.join_next().await {
            let (name, outcome) = ended.context("a role panicked")?;
            match outcome.context(name)? {
                Some(exit) => return Ok(exit),
                None if self.shutdown.is_cancelled() => {}
                None => bail!("{name} ended, which it should not"),
            }
        }
        Ok(Exit::Shutdown)
    }
}

/// Ends a process's roles on SIGTERM and SIGINT; `word` is what the log says then.
pub fn spawn_signals(shutdown: CancellationToken, word: &'static str) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT")?;
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("{word}");
        shutdown.cancel();
    });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn until(shutdown: CancellationToken) -> Result<()> {
        shutdown.cancelled().await;
        Ok(())
    }

    #[tokio::test]
    async fn one_that_ends_ends_all() {
        let shutdown = CancellationToken::new();
        let mut roles = Roles::new(shutdown.clone());
        roles.spawn("BGP", async { Ok(()) });
        roles.spawn("CNI", until(shutdown.clone()));
        let error = roles.run().await.expect_err("an end that nobody asked for");
        assert!(error.to_string().contains("BGP"), "{error:#}");
        assert!(shutdown.is_cancelled());
    }

    #[tokio::test]
    async fn told_to_end_is_no_error() {
        let shutdown = CancellationToken::new();
        let mut roles = Roles::new(shutdown.clone());
        roles.spawn("BGP", until(shutdown.clone()));
        let told = shutdown.clone();
        roles.spawn_leading("Felix", async move {
            told.cancelled().await;
            Ok(Exit::Shutdown)
        });
        shutdown.cancel();
        assert_eq!(roles.run().await.expect("no error"), Exit::Shutdown);
    }

    #[tokio::test]
    async fn errors_and_restarts_are_handed_on() {
        let shutdown = CancellationToken::new();
        let mut roles = Roles::new(shutdown.clone());
        roles.spawn("CNI", async { bail!("no socket") });
        assert_eq!(format!("{:#}", roles.run().await.expect_err("it failed")), "CNI: no socket");

        let mut roles = Roles::new(CancellationToken::new());
        roles.spawn_leading("Felix", async { Ok(Exit::Restart(vec!["HealthPort"])) });
        assert_eq!(roles.run().await.expect("no error"), Exit::Restart(vec!["HealthPort"]));
    }
}
