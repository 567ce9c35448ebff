//! Which workload endpoints are live: routes and policy in the kernel. Whoever starts a container waits here.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use calico_calc::change::{Workload, WorkloadId};
use calico_net::Mac;
use tokio::sync::watch;

/// The live endpoints and what is live of each, shared between the loop that programs them and those who wait.
#[derive(Clone, Debug)]
pub struct LiveEndpoints(Arc<watch::Sender<BTreeMap<WorkloadId, Arc<Workload>>>>);

impl Default for LiveEndpoints {
    fn default() -> LiveEndpoints {
        LiveEndpoints(Arc::new(watch::Sender::new(BTreeMap::new())))
    }
}

impl LiveEndpoints {
    /// Marks endpoints as live, and others as not any more, in one step.
    pub fn update(&self, up: impl IntoIterator<Item = (WorkloadId, Arc<Workload>)>, down: &[WorkloadId]) {
        self.0.send_if_modified(|live| {
            let mut changed = down.iter().filter(|id| live.remove(id).is_some()).count() > 0;
            for (id, workload) in up {
                changed |= live.insert(id, workload.clone()).is_none_or(|old| !Arc::ptr_eq(&old, &workload));
            }
            changed
        });
    }

    /// Waits until an endpoint is live with this MAC and these addresses. A pod that comes again under its name has
    /// others: what is left of its previous life is no answer.
    pub async fn wait(&self, id: &WorkloadId, mac: Option<Mac>, addresses: &[IpAddr]) {
        let mut receiver = self.0.subscribe();
        // The sender lives as long as `self`, so this ends only when the endpoint is live.
        let _ = receiver.wait_for(|live| live.get(id).is_some_and(|w| is_of(w, mac, addresses))).await;
    }

    /// Whether an endpoint is live now, as whatever.
    pub fn contains(&self, id: &WorkloadId) -> bool {
        self.0.borrow().contains_key(id)
    }
}

fn is_of(workload: &Workload, mac: Option<Mac>, addresses: &[IpAddr]) -> bool {
    let has = |address: &IpAddr| workload.nets.iter().any(|net| net.contains(*address));
    (mac.is_none() || workload.mac == mac) && addresses.iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;
    use calico_api::ResourceKey;
    use calico_api::key::Kind;

    fn id(name: &str) -> WorkloadId {
        WorkloadId { orchestrator: "k8s".into(), workload: name.into(), endpoint: "eth0".into() }
    }

    fn workload(mac: u8, net: &str) -> Arc<Workload> {
        Arc::new(Workload {
            key: ResourceKey {
                kind: Kind::WorkloadEndpoint,
                namespace: "default".into(),
                name: "pod".into(),
            },
            interface: "cali1".parse().expect("a name"),
            mac: Some(Mac([2, 0, 0, 0, 0, mac])),
            nets: vec![net.parse().expect("a net")],
            allowed_sources: vec![],
            tiers: vec![].into(),
            profiles: vec![].into(),
        })
    }

    #[tokio::test]
    async fn waiting_ends_when_the_endpoint_is_live() {
        let live = LiveEndpoints::default();
        live.update([(id("a"), workload(1, "10.0.0.1/32"))], &[]);
        live.wait(&id("a"), None, &[]).await;
        let waiting = tokio::spawn({
            let live = live.clone();
            async move { live.wait(&id("b"), None, &[]).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        live.update([(id("b"), workload(2, "10.0.0.2/32"))], &[id("a")]);
        waiting.await.expect("woken");
        assert!(!live.contains(&id("a")));
    }

    #[tokio::test]
    async fn the_pods_previous_life_is_no_answer() {
        let live = LiveEndpoints::default();
        let mac = workload(2, "10.0.0.1/32").mac;
        let address: [IpAddr; 1] = [[10, 0, 0, 1].into()];
        live.update([(id("a"), workload(1, "10.0.0.1/32"))], &[]);
        let waiting = tokio::spawn({
            let live = live.clone();
            async move { live.wait(&id("a"), mac, &address).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "another MAC");
        live.update([(id("a"), workload(2, "10.0.0.9/32"))], &[]);
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished(), "another address");
        live.update([(id("a"), workload(2, "10.0.0.1/32"))], &[]);
        waiting.await.expect("woken");
    }
}
