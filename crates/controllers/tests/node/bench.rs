//! A running role on any store, with IPAM at hand.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use calico_api::{
    AffinityOwner, ClusterInformation, ClusterInformationSpec, Entry, GoDuration, IPPool, IPPoolSpec, Key,
    Kind, KubeControllersConfiguration, KubeControllersConfigurationSpec, Labels, Selection, Write, decode,
    encode, merge,
};
use calico_controllers::config::Environment;
use calico_controllers::{Cluster, Options, Surroundings};
use calico_ipam::{
    AddressRequest, AssignAddress, ClaimAffinity, Known, Machine, Operation, Response, Step, UnixTime,
};
use calico_net::Family;
use calico_store::{Atomicity, CommitError, Store};
use prometheus_client::registry::Registry;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// How long something may take that must happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Keeps the registries that would be served.
#[derive(Clone, Default)]
struct Registries(Arc<Mutex<Option<Registry>>>);

impl Surroundings for Registries {
    fn follow_log(&self, _: &str) {}

    fn serve_metrics(&self, _: u16, registry: Registry, _: CancellationToken) {
        *self.0.lock().unwrap() = Some(registry);
    }
}

/// A role that runs.
pub struct Role {
    shutdown: CancellationToken,
    task: JoinHandle<()>,
    registries: Registries,
    pub status: PathBuf,
}

impl Role {
    /// Starts it as the manifest does.
    pub fn start(store: &Arc<dyn Store>, cluster: Arc<dyn Cluster>, status: PathBuf) -> Role {
        let env = |name: &str| (name == "ENABLED_CONTROLLERS").then(|| "node".to_owned());
        let (shutdown, registries) = (CancellationToken::new(), Registries::default());
        let options = Options {
            kubernetes: store.clone(),
            calico: store.clone(),
            cluster,
            environment: Environment::read(&env).unwrap(),
            status_file: status.clone(),
            surroundings: Box::new(registries.clone()),
        };
        let task = tokio::spawn(calico_controllers::run(options, shutdown.clone()));
        Role { shutdown, task, registries, status }
    }

    /// Tells it to end, and waits until it has.
    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time").unwrap();
    }

    /// What Prometheus would read.
    pub fn metrics(&self) -> String {
        let mut text = String::new();
        if let Some(registry) = &*self.registries.0.lock().unwrap() {
            prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        }
        text
    }

    /// What probes would read.
    pub fn status(&self) -> String {
        std::fs::read_to_string(&self.status).unwrap_or_default()
    }
}

/// Waits for a condition.
pub async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64)
}

/// A store with what IPAM needs, and IPAM over it.
pub struct Ipam(pub Arc<dyn Store>);

impl Ipam {
    /// Sets the cluster up: information and a pool.
    pub async fn set_up(&self) {
        let ready = ClusterInformationSpec { datastore_ready: Some(true), ..Default::default() };
        let information = ClusterInformation::new("", "default", ready);
        let pool = IPPoolSpec { cidr: "10.0.0.0/16".into(), block_size: Some(28), ..IPPoolSpec::default() };
        let pool = IPPool::new("", "pool", pool);
        for (key, value) in [(information.key(), encode(&information)), (pool.key(), encode(&pool))] {
            self.0.commit(&[Write::create(key.into(), value)]).await.unwrap();
        }
    }

    /// Waits until the role has made its settings and reported them; then sets the grace period, and waits until that is
    /// in force.
    pub async fn set_grace(&self, secs: i64) {
        until("settings are made and reported", async || self.in_force().await.is_some()).await;
        let period = GoDuration::from_secs(secs);
        loop {
            let (entry, mut settings) = self.settings().await.unwrap();
            settings.spec.controllers.node.as_mut().unwrap().leak_grace_period = Some(period);
            let value = merge(&entry, &settings).unwrap();
            match self.0.commit(&[Write::update(entry.key, value, entry.revision)]).await {
                Ok(_) => break,
                Err(CommitError::Conflict { .. }) => {}
                Err(error) => panic!("{error}: {error:?}"),
            }
        }
        until("the grace period is in force", async || {
            self.in_force().await.and_then(|r| r.controllers.node?.leak_grace_period) == Some(period)
        })
        .await;
    }

    /// The settings that the role says are in force.
    pub async fn in_force(&self) -> Option<KubeControllersConfigurationSpec> {
        self.settings().await?.1.status?.running_config
    }

    /// Claims a block for a node.
    pub async fn claim(&self, node: &str, block: &str) {
        let owner = AffinityOwner::Host(node.into());
        let claims = self.run(ClaimAffinity::new(block.parse().unwrap(), owner, now())).await.unwrap();
        assert_eq!(claims.done.len(), 1, "{claims:?}");
    }

    /// Assigns an address on a node.
    pub async fn assign(&self, node: &str, address: &str, handle: &str, attributes: &[(&str, &str)]) {
        let mut labels: Labels = attributes.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        labels.insert("node".into(), node.into());
        let request = AddressRequest {
            address: address.parse().unwrap(),
            handle: handle.into(),
            attributes: labels,
            owner: AffinityOwner::Host(node.into()),
            intended_use: None,
        };
        self.run(AssignAddress::new(request, now())).await.unwrap();
    }

    /// Assigns an address for a pod, with a handle of the pod's name.
    pub async fn assign_pod(&self, node: &str, pod: &str, address: &str) {
        let attributes = [("namespace", "shop"), ("pod", pod)];
        self.assign(node, address, &format!("k8s-pod-network.{pod}"), &attributes).await;
    }

    /// The addresses in use, each with its handle.
    pub async fn assigned(&self) -> BTreeMap<IpAddr, String> {
        let mut known = Known::new();
        for selection in Family::ALL.map(Selection::Blocks) {
            for entry in self.0.list(&selection).await.unwrap().entries {
                known.observe(&entry);
            }
        }
        let blocks = Family::ALL.into_iter().flat_map(|family| known.blocks(family));
        blocks
            .filter_map(|(_, held)| held)
            .flat_map(|(b, _)| {
                calico_ipam::block::used(b).map(|(ordinal, attribute)| {
                    let handle = attribute.handle_id.clone().unwrap_or_default();
                    (calico_ipam::block::address(b, ordinal).unwrap(), handle.to_string())
                })
            })
            .collect()
    }

    /// Keys of a selection, in words.
    pub async fn keys(&self, selection: Selection) -> Vec<String> {
        let listing = self.0.list(&selection).await.unwrap();
        listing.entries.iter().map(|entry| entry.key.to_string()).collect()
    }

    /// Handles and affinities together, in words.
    pub async fn records(&self) -> Vec<String> {
        let mut keys = self.keys(Selection::Handles).await;
        keys.extend(self.keys(Selection::Affinities { owner: None, family: None }).await);
        keys
    }

    async fn settings(&self) -> Option<(Entry, KubeControllersConfiguration)> {
        let key = Key::resource(Kind::KubeControllersConfiguration, "", "default");
        let entry = self.0.get(&key).await.unwrap()?;
        let settings = decode::<KubeControllersConfigurationSpec>(&entry).unwrap();
        Some((entry, settings))
    }

    async fn run<O: Operation>(&self, operation: O) -> Result<O::Outcome, O::Error> {
        let mut machine = Machine::new(operation, Known::new());
        loop {
            let response = match machine.step() {
                Step::Done(result) => return result,
                Step::Read { keys, selections } => {
                    let (mut entries, mut listings) = (Vec::new(), Vec::new());
                    for key in keys {
                        let entry = self.0.get(&key).await.unwrap();
                        entries.push((key, entry));
                    }
                    for selection in selections {
                        let listing = self.0.list(&selection).await.unwrap();
                        listings.push((selection, listing.entries));
                    }
                    Response::Read { entries, listings }
                }
                Step::Commit(writes) => self.commit(&writes).await,
            };
            machine.feed(response);
        }
    }

    async fn commit(&self, writes: &[Write]) -> Response {
        let portion = if self.0.atomicity() == Atomicity::Atomic { writes.len() } else { 1 };
        let mut applied = Vec::new();
        for part in writes.chunks(portion) {
            match self.0.commit(part).await {
                Ok(committed) => applied.extend(committed.revisions),
                Err(CommitError::Conflict { index, current, .. }) => {
                    let index = applied.len() + index;
                    return Response::Conflict { index, current: current.map(|e| *e), applied };
                }
                Err(error) => panic!("{error}: {error:?}"),
            }
        }
        Response::Committed(applied)
    }
}
