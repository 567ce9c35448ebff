//! Felix's reports in the datastore: that it lives, and the states of its endpoints (spec 3 §6.10).
//!
//! Neither holds up the loop: each has a task of its own, which tries again until the datastore takes what it has.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use calico_api::{Expect, Key, Selection, Write};
use calico_calc::change::WorkloadId;
use calico_dataplane::WorkloadState;
use calico_store::{CommitError, ListError, Store};
use serde_json::json;
use smol_str::SmolStr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::watch;

/// Wait after a report that the datastore did not take; doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// Reports for as long as it is polled that this agent lives: at once, then every `interval`. One report is kept; the
/// other expires by itself after `ttl`. Errors are logged and the next turn tries again. Ends at once where the store has
/// no place for it (the Kubernetes API).
pub async fn report_process(store: Arc<dyn Store>, node: SmolStr, interval: Duration, ttl: Duration) {
    if !store.keeps(&Key::FelixStatus(node.clone())) {
        tracing::debug!("this datastore keeps no process status");
        return;
    }
    let started = Instant::now();
    let mut first = true;
    let mut ticks = tokio::time::interval(interval);
    loop {
        ticks.tick().await;
        let now = OffsetDateTime::from(SystemTime::now());
        let report = json!({
            "time": now.format(&Rfc3339).unwrap_or_default(),
            "uptime": started.elapsed().as_secs_f64(),
            "first_update": first,
        });
        let value = Bytes::from(report.to_string());
        let expiring = Write::Put {
            key: Key::FelixStatus(node.clone()),
            value: value.clone(),
            expect: Expect::Any,
            ttl_secs: u32::try_from(ttl.as_secs()).ok().filter(|s| *s > 0),
        };
        match store.commit(&[expiring, Write::put(Key::FelixLastStatus(node.clone()), value)]).await {
            Ok(_) => first = false,
            Err(error) => {
                tracing::warn!(error = calico_store::error::chain(&error), "cannot report status");
            }
        }
    }
}

/// Keeps the states of this node's endpoints in the datastore (`EndpointReportingEnabled`).
#[derive(Debug)]
pub struct EndpointReporter(watch::Sender<BTreeMap<WorkloadId, WorkloadState>>);

/// Why endpoint states were not reported.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("cannot read the reports of before")]
    List(#[from] ListError),
    #[error("cannot write reports")]
    Commit(#[from] CommitError),
}

impl EndpointReporter {
    /// Starts its task, which ends with the reporter. A state that changes within `delay` after it was written waits;
    /// only its last value is written.
    pub fn spawn(store: Arc<dyn Store>, node: SmolStr, delay: Duration) -> EndpointReporter {
        let (sender, receiver) = watch::channel(BTreeMap::new());
        tokio::spawn(report_endpoints(store, node, delay, receiver));
        EndpointReporter(sender)
    }

    /// Notes states, and endpoints that are gone. The first call must come with all that there are: what the datastore
    /// holds of others is removed from then on.
    pub fn update(&self, states: &[(WorkloadId, WorkloadState)], gone: &[WorkloadId]) {
        self.0.send_modify(|all| {
            all.retain(|id, _| !gone.contains(id));
            all.extend(states.iter().cloned());
        });
    }
}

async fn report_endpoints(
    store: Arc<dyn Store>,
    node: SmolStr,
    delay: Duration,
    mut states: watch::Receiver<BTreeMap<WorkloadId, WorkloadState>>,
) {
    let any = Key::HostStatus { host: node.clone(), endpoint: SmolStr::default() };
    if !store.keeps(&any) {
        tracing::debug!("this datastore keeps no endpoint states");
        return;
    }
    // What the datastore holds; read again after any failure.
    let mut known = None;
    while states.changed().await.is_ok() {
        let mut wait = FIRST_RETRY;
        loop {
            let wanted = endpoint_reports(&node, &states.borrow_and_update());
            match write_reports(&*store, &node, known.take(), &wanted).await {
                Ok(()) => {
                    known = Some(wanted);
                    break;
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "endpoint states wait");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LAST_RETRY);
                }
            }
        }
        tokio::time::sleep(delay).await;
    }
}

/// Writes what differs, in commits that any store takes.
async fn write_reports(
    store: &dyn Store,
    node: &SmolStr,
    known: Option<BTreeMap<Key, Bytes>>,
    wanted: &BTreeMap<Key, Bytes>,
) -> Result<(), ReportError> {
    let known = match known {
        Some(known) => known,
        None => {
            let listing = store.list(&Selection::Statuses(Some(node.clone()))).await?;
            let ours = listing.entries.into_iter().filter(|e| matches!(e.key, Key::WorkloadStatus { .. }));
            ours.map(|e| (e.key, e.value)).collect()
        }
    };
    for part in plan(&known, wanted).chunks(calico_store::MAX_WRITES) {
        store.commit(part).await?;
    }
    Ok(())
}

/// The entries that report these states.
fn endpoint_reports(node: &SmolStr, states: &BTreeMap<WorkloadId, WorkloadState>) -> BTreeMap<Key, Bytes> {
    let report = |(id, state): (&WorkloadId, &WorkloadState)| {
        let WorkloadId { orchestrator, workload, endpoint } = id.clone();
        let word = match state {
            WorkloadState::Up => "up",
            WorkloadState::Down => "down",
            WorkloadState::Error => "error",
        };
        let key = Key::WorkloadStatus { host: node.clone(), orchestrator, workload, endpoint };
        (key, Bytes::from(json!({"status": word}).to_string()))
    };
    states.iter().map(report).collect()
}

/// From what the datastore holds to what it should hold.
fn plan(known: &BTreeMap<Key, Bytes>, wanted: &BTreeMap<Key, Bytes>) -> Vec<Write> {
    let stale = known.keys().filter(|key| !wanted.contains_key(*key));
    let deletes = stale.map(|key| Write::Delete { key: key.clone(), expect: Expect::Any });
    let changed = wanted.iter().filter(|(key, value)| known.get(*key) != Some(*value));
    deletes.chain(changed.map(|(key, value)| Write::put(key.clone(), value.clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> WorkloadId {
        WorkloadId { orchestrator: "k8s".into(), workload: name.into(), endpoint: "eth0".into() }
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_stale_goes() {
        let node = SmolStr::new("n");
        let reports = |states: &[(&str, WorkloadState)]| {
            endpoint_reports(&node, &states.iter().map(|(name, state)| (id(name), *state)).collect())
        };
        let before =
            reports(&[("a", WorkloadState::Up), ("b", WorkloadState::Up), ("c", WorkloadState::Down)]);
        let after =
            reports(&[("a", WorkloadState::Up), ("b", WorkloadState::Error), ("d", WorkloadState::Up)]);
        let writes = plan(&before, &after);
        let (deletes, puts): (Vec<_>, Vec<_>) =
            writes.iter().partition(|w| matches!(w, Write::Delete { .. }));
        assert_eq!((deletes.len(), puts.len()), (1, 2), "{writes:?}");
        assert!(plan(&after, &after).is_empty());
    }

    #[tokio::test]
    async fn states_are_swept_written_and_followed() {
        let dir = std::env::temp_dir().join(format!("calico-reports-{}", std::process::id()));
        let store: Arc<dyn Store> =
            Arc::new(calico_store::EmbeddedStore::open(dir.join("store")).expect("a store"));
        let node = SmolStr::new("n");
        let all = Selection::Statuses(Some(node.clone()));
        let stale = endpoint_reports(&node, &[(id("stale"), WorkloadState::Up)].into());
        store.commit(&plan(&BTreeMap::new(), &stale)).await.expect("written");

        let reporter = EndpointReporter::spawn(store.clone(), node.clone(), Duration::from_millis(1));
        reporter.update(&[(id("a"), WorkloadState::Down), (id("b"), WorkloadState::Up)], &[]);
        reporter.update(&[(id("a"), WorkloadState::Up)], &[id("b")]);
        let wanted = endpoint_reports(&node, &[(id("a"), WorkloadState::Up)].into());
        let reached = async {
            loop {
                let found = store.list(&all).await.expect("a listing").entries;
                if found.into_iter().map(|e| (e.key, e.value)).collect::<BTreeMap<_, _>>() == wanted {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), reached).await.expect("reported");
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
