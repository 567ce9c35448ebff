//! Felix's reports in the datastore: that it lives, and the states of its endpoints (spec 3 §6.10).

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use calico_api::{Key, Write};
use calico_calc::change::WorkloadId;
use calico_dataplane::WorkloadState;
use calico_store::{CommitError, Store};
use serde_json::json;
use smol_str::SmolStr;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Reports that this agent lives until it is dropped: at once, then every `interval`, each report expiring by itself
/// after `ttl`. Errors are logged and the next turn tries again.
pub async fn report_process(store: Arc<dyn Store>, node: SmolStr, interval: Duration, ttl: Duration) {
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
            expect: calico_api::Expect::Any,
            ttl_secs: u32::try_from(ttl.as_secs()).ok().filter(|s| *s > 0),
        };
        match store.commit(&[expiring, Write::put(Key::FelixLastStatus(node.clone()), value)]).await {
            Ok(_) => first = false,
            Err(error) => tracing::warn!(%error, "cannot report status"),
        }
    }
}

/// The writes that report endpoint states; `None` removes an endpoint's.
pub fn endpoint_writes(node: &SmolStr, states: &[(WorkloadId, Option<WorkloadState>)]) -> Vec<Write> {
    states
        .iter()
        .map(|(id, state)| {
            let WorkloadId { orchestrator, workload, endpoint } = id.clone();
            let key = Key::WorkloadStatus { host: node.clone(), orchestrator, workload, endpoint };
            match state {
                None => Write::Delete { key, expect: calico_api::Expect::Any },
                Some(state) => {
                    let word = match state {
                        WorkloadState::Up => "up",
                        WorkloadState::Down => "down",
                        WorkloadState::Error => "error",
                    };
                    Write::put(key, Bytes::from(json!({"status": word}).to_string()))
                }
            }
        })
        .collect()
}

/// Writes endpoint states, in commits that any store takes.
pub async fn report_endpoints(store: &dyn Store, writes: &[Write]) -> Result<(), CommitError> {
    for part in writes.chunks(calico_store::MAX_WRITES) {
        store.commit(part).await?;
    }
    Ok(())
}
