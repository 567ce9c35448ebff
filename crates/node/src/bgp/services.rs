//! Kubernetes' services: followed while the BGPConfiguration asks for their addresses, and what was announced of them.

use std::sync::Arc;

use calico_mesh::{Index, Services};
use calico_net::Cidr;
use calico_store::{Store, SyncEvent, Syncer, SyncerOptions};
use futures::FutureExt;
use smol_str::SmolStr;

/// How many prefixes a line of the log names.
const NAMED: usize = 10;

/// Why nobody will ever know a service.
const NO_KUBERNETES: &str =
    "no way to the Kubernetes API is configured (KUBECONFIG, or a pod's service account)";

/// Where Kubernetes' services are, and what the environment says of them.
#[derive(Clone)]
pub struct ServiceSource {
    /// The Kubernetes API, whatever the datastore is.
    pub store: Option<Arc<dyn Store>>,
    /// This node, as Kubernetes calls it.
    pub node: SmolStr,
    /// `CALICO_ADVERTISE_CLUSTER_IPS`, if it is set.
    pub cluster_ranges: Option<Vec<Cidr>>,
}

/// Services and EndpointSlices, while they are wanted. Of most clusters nobody asks for them.
pub(super) struct Follower {
    store: Option<Arc<dyn Store>>,
    syncer: Option<Syncer>,
    in_sync: bool,
}

impl Follower {
    /// A follower, and an index to fill.
    pub(super) fn new(source: ServiceSource, index: Index) -> (Follower, Index) {
        let ServiceSource { store, node, cluster_ranges } = source;
        let missing = store.is_none().then_some(NO_KUBERNETES);
        let index = index.with_services(Services::new(node, cluster_ranges), missing);
        (Follower { store, syncer: None, in_sync: false }, index)
    }

    /// Begins to follow them, or ends it.
    pub(super) fn adjust(&mut self, index: &mut Index) {
        match (&self.store, &self.syncer) {
            (Some(store), None) if index.wants_services() => {
                tracing::info!("services are followed: the BGPConfiguration asks for their addresses");
                let options = SyncerOptions::default();
                self.syncer = Some(Syncer::spawn(store.clone(), Index::service_selections(), options));
                self.in_sync = false;
            }
            (_, Some(_)) if !index.wants_services() => {
                tracing::info!("services are not followed any more: nothing asks for their addresses");
                self.syncer = None;
                index.forget_services();
            }
            _ => {}
        }
    }

    /// Whether all that is wanted is known.
    pub(super) fn is_in_sync(&self) -> bool {
        self.syncer.is_none() || self.in_sync
    }

    /// The next event; none ever comes while they are not followed. Cancel-safe. `None` only while the runtime shuts down.
    pub(super) async fn next(&mut self) -> Option<SyncEvent> {
        match &mut self.syncer {
            Some(syncer) => syncer.next().await,
            None => std::future::pending().await,
        }
    }

    /// Takes an event, and whatever is there besides.
    pub(super) fn take(&mut self, event: Option<SyncEvent>, index: &mut Index) {
        let mut event = event;
        while let Some(taken) = event {
            match taken {
                SyncEvent::Updates(updates) => {
                    for (key, entry) in &updates {
                        index.update(key, entry.as_ref());
                    }
                }
                SyncEvent::InSync => self.in_sync = true,
            }
            event = self.next().now_or_never().flatten();
        }
    }
}

/// What was announced of services, to say what changes, once.
#[derive(Debug, Default)]
pub(super) struct Announced(Vec<Cidr>);

impl Announced {
    /// Says what has changed.
    pub(super) fn note(&mut self, routes: &[Cidr]) {
        if let Some(text) = describe("announced", &missing_in(&self.0, routes)) {
            tracing::info!("service routes {text}");
        }
        if let Some(text) = describe("withdrawn", &missing_in(routes, &self.0)) {
            tracing::info!("service routes {text}");
        }
        if self.0 != routes {
            self.0 = routes.to_vec();
        }
    }
}

/// What of a sorted list another does not have.
fn missing_in(had: &[Cidr], has: &[Cidr]) -> Vec<Cidr> {
    has.iter().filter(|route| had.binary_search(route).is_err()).copied().collect()
}

fn describe(what: &str, routes: &[Cidr]) -> Option<String> {
    let names: Vec<String> = routes.iter().take(NAMED).map(Cidr::to_string).collect();
    let more = match routes.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!routes.is_empty()).then(|| format!("{what}: {}{more}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_named_briefly() {
        let check = |had: &[&str], has: &[&str], expected: Option<&str>| {
            let cidrs = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<Cidr>>();
            let missing = missing_in(&cidrs(had), &cidrs(has));
            assert_eq!(describe("announced", &missing).as_deref(), expected);
        };
        check(&[], &[], None);
        check(&["10.0.0.1/32"], &["10.0.0.1/32"], None);
        check(&["10.0.0.1/32"], &["10.0.0.1/32", "10.0.0.2/32"], Some("announced: 10.0.0.2/32"));
        let many: Vec<Cidr> =
            (0..12).map(|n| Cidr::host(std::net::Ipv4Addr::new(10, 0, 0, n).into())).collect();
        let text = describe("withdrawn", &many).unwrap();
        assert!(
            text.starts_with("withdrawn: 10.0.0.0/32, ") && text.ends_with("10.0.0.9/32 and 2 more"),
            "{text}"
        );
    }
}
