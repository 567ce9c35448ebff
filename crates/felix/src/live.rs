//! Which workload endpoints are live: routes and policy in the kernel. Whoever starts a container waits here.

use std::collections::BTreeSet;
use std::sync::Arc;

use calico_calc::change::WorkloadId;
use tokio::sync::watch;

/// The live endpoints, shared between the loop that programs them and those who wait.
#[derive(Clone, Debug)]
pub struct LiveEndpoints(Arc<watch::Sender<BTreeSet<WorkloadId>>>);

impl Default for LiveEndpoints {
    fn default() -> LiveEndpoints {
        LiveEndpoints(Arc::new(watch::Sender::new(BTreeSet::new())))
    }
}

impl LiveEndpoints {
    /// Marks endpoints as live, and others as not any more, in one step.
    pub fn update(&self, up: impl IntoIterator<Item = WorkloadId>, down: &[WorkloadId]) {
        self.0.send_if_modified(|live| {
            let before = live.len();
            let removed = down.iter().filter(|id| live.remove(id)).count();
            live.extend(up);
            removed > 0 || live.len() != before
        });
    }

    /// Waits until an endpoint is live.
    pub async fn wait(&self, id: &WorkloadId) {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as `self`, so this ends only when the endpoint is live.
        let _ = receiver.wait_for(|live| live.contains(id)).await;
    }

    /// Whether an endpoint is live now.
    pub fn contains(&self, id: &WorkloadId) -> bool {
        self.0.borrow().contains(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> WorkloadId {
        WorkloadId { orchestrator: "k8s".into(), workload: name.into(), endpoint: "eth0".into() }
    }

    #[tokio::test]
    async fn waiting_ends_when_the_endpoint_is_live() {
        let live = LiveEndpoints::default();
        live.update([id("a")], &[]);
        live.wait(&id("a")).await;
        let waiting = tokio::spawn({
            let live = live.clone();
            async move { live.wait(&id("b")).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        live.update([id("b")], &[id("a")]);
        waiting.await.expect("woken");
        assert!(!live.contains(&id("a")));
    }
}
