//! Answers CalicoNodeStatus objects that name this node: what BIRD says of itself, its sessions and its routes.
//!
//! ```text
//! store ─syncer─▶ Questions ──due──▶ ask BIRD ──report──▶ NodeStatusReport ──compare-and-swap──▶ store
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use calico_api::calico_node_status::NodeStatusClass;
use calico_api::{CalicoNodeStatus, Kind, NodeStatusReport, Selection, Write, merge};
use calico_ipam::UnixTime;
use calico_mesh::birdc::{command, parse_protocols, parse_routes, parse_status};
use calico_store::{CommitError, Store, SyncEvent, Syncer, SyncerOptions};
use smol_str::SmolStr;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::bird::control::{ControlError, ask};

mod questions;
mod report;

use questions::{Question, Questions};
use report::Answers;

/// Runs until it is told to stop.
pub async fn run_status(store: Arc<dyn Store>, node: SmolStr, socket: PathBuf, shutdown: CancellationToken) {
    let selections = vec![Selection::all(Kind::CalicoNodeStatus)];
    let mut syncer = Syncer::spawn(store.clone(), selections, SyncerOptions::default());
    let mut questions = Questions::new(node);
    loop {
        let due = questions.next_due();
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = syncer.next() => event,
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                for question in questions.take_due(Instant::now()) {
                    // A datastore that is away must not hold up the end.
                    tokio::select! {
                        () = shutdown.cancelled() => return,
                        () = answer(&*store, &socket, question) => {}
                    }
                }
                continue;
            }
        };
        match event {
            None => return,
            Some(SyncEvent::InSync) => {}
            Some(SyncEvent::Updates(updates)) => {
                for (key, entry) in updates {
                    questions.update(&key, entry, Instant::now());
                }
            }
        }
    }
}

/// Answers one question. What fails is tried again when it is due again.
async fn answer(store: &dyn Store, socket: &Path, question: Question) {
    let Question { entry, mut resource } = question;
    let name = resource.metadata.name.clone();
    let classes = resource.spec.classes.clone();
    let answers = read_answers(socket, &classes).await;
    if let Err(error) = &answers {
        tracing::debug!(%name, error = error as &dyn std::error::Error, "BIRD does not answer");
    }
    let report = report::report(&classes, answers.ok().as_ref());
    if let Err(error) = write(store, &entry, &mut resource, report).await {
        match error {
            // It has changed or gone: the watch says so soon.
            WriteError::Commit(CommitError::Conflict { .. }) => {}
            error => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%name, error, "the status of this node cannot be written");
            }
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("it cannot be encoded")]
    Decode(#[from] calico_api::DecodeError),
    #[error("the datastore refuses it")]
    Commit(#[from] CommitError),
}

async fn write(
    store: &dyn Store,
    entry: &calico_api::Entry,
    resource: &mut CalicoNodeStatus,
    report: NodeStatusReport,
) -> Result<(), WriteError> {
    resource.status = Some(NodeStatusReport { last_updated: Some(now()), ..report });
    let value = merge(entry, resource)?;
    store.commit(&[Write::update(entry.key.clone(), value, entry.revision.clone())]).await?;
    Ok(())
}

/// RFC 3339, whole seconds.
fn now() -> SmolStr {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = UnixTime(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX));
    SmolStr::from(now.rfc3339())
}

/// Asks BIRD what the classes need.
async fn read_answers(socket: &Path, classes: &[NodeStatusClass]) -> Result<Answers, ControlError> {
    let unreadable = || ControlError::Refused("its status cannot be read".to_owned());
    let daemon = parse_status(&ask(socket, command::STATUS).await?.reply).ok_or_else(unreadable)?;
    let protocols = if classes.contains(&NodeStatusClass::Bgp) {
        parse_protocols(&ask(socket, command::PROTOCOLS_ALL).await?.reply)
    } else {
        Vec::new()
    };
    let routes = if classes.contains(&NodeStatusClass::Routes) {
        parse_routes(&ask(socket, command::ROUTES).await?.reply)
    } else {
        Vec::new()
    };
    Ok(Answers { daemon, protocols, routes })
}
