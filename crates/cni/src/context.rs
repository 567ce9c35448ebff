//! What carrying out a verb needs besides the request: the datastore, this node's name, and who knows when policy is
//! in the kernel.

use std::fs::File;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use calico_api::cluster_information::ClusterInformationSpec;
use calico_api::{Entry, Key, Kind, decode};
use calico_ipam::{Known, Operation};
use calico_linux::sysctl::Sysctl;
use calico_net::Mac;
use calico_store::Store;
use calico_store::error::chain;
use calico_store::ipam::drive_knowing;
use futures::future::BoxFuture;
use smol_str::SmolStr;
use tokio::sync::{Mutex, Semaphore, SemaphorePermit};

use crate::endpoint::Identity;
use crate::error::{CniError, Code};
use crate::gate;
use crate::kubernetes::{Api, PodFacts, read_pod};
use crate::netconf::NetConf;
use crate::turns::Turns;

/// Verbs worked on at once. The kernel serialises most of an ADD; more would only wait in another place.
const MAX_WORKING: usize = 32;

/// Which endpoint is waited for. A pod that comes again under its name has another MAC or other addresses: what was in
/// the kernel for its previous life says nothing of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Orchestrator, workload, endpoint.
    pub endpoint: [SmolStr; 3],
    /// The container's MAC; any with `None`.
    pub mac: Option<Mac>,
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
}

/// Tells when an endpoint's policy and routes are in the kernel.
pub trait Live: Send + Sync {
    /// Waits until the workload endpoint is live as expected; false when `patience` ran out.
    fn wait_live(&self, expected: Expected, patience: Duration) -> BoxFuture<'_, bool>;
}

/// Who waits for no endpoint: for work that is no attachment.
pub struct Nobody;

impl Live for Nobody {
    fn wait_live(&self, _: Expected, _: Duration) -> BoxFuture<'_, bool> {
        Box::pin(std::future::ready(false))
    }
}

/// Where and as whom verbs are carried out. One per agent; one per process in direct mode.
pub struct Context {
    /// The datastore.
    pub store: Arc<dyn Store>,
    /// This node's name.
    pub node: SmolStr,
    /// Workload interfaces begin with this (the first of Felix's `InterfacePrefix`).
    pub interface_prefix: SmolStr,
    /// Who knows when endpoints are live.
    pub live: Arc<dyn Live>,
    /// How long ADD waits for that if the configuration says nothing; `None`: not at all.
    pub patience: Option<Duration>,
    /// How long the readiness gates of the configuration may stay closed.
    pub gates: gate::Patience,
    /// The Kubernetes API, where this node has a way to it.
    pub kubernetes: Option<Arc<dyn Api>>,
    /// Whether the datastore keeps endpoints as objects of their own. On the Kubernetes API they are pods: each has one
    /// name, whoever may read one pod may not list them, and none knows its MAC.
    pub keeps_endpoints: bool,
    /// Kernel parameters.
    pub sysctl: Sysctl,
    /// What IPAM knew last: good enough for most assignments. Its lock also orders IPAM operations of this process, so
    /// that tens of ADDs at once do not fight for one block by compare-and-swap.
    pub known: Mutex<Known>,
    /// A file whose lock orders the IPAM work of separate processes, best effort as Calico's (spec 5 §2.1). The agent
    /// is one process and needs none.
    pub ipam_lock: Option<PathBuf>,
    /// Verbs of one workload, one after the other.
    pub turns: Turns,
    /// One permit for each verb that works on links and the datastore; who only waits for policy needs none.
    pub working: Semaphore,
}

impl Context {
    /// A context with defaults: no wait for policy unless the configuration says so, no lock file, nothing known.
    pub fn new(store: Arc<dyn Store>, node: &str, interface_prefix: &str, live: Arc<dyn Live>) -> Context {
        Context {
            store,
            node: SmolStr::new(node),
            interface_prefix: SmolStr::new(interface_prefix),
            live,
            patience: None,
            gates: gate::Patience::default(),
            kubernetes: None,
            keeps_endpoints: true,
            sysctl: Sysctl::default(),
            known: Mutex::default(),
            ipam_lock: None,
            turns: Turns::default(),
            working: Semaphore::new(MAX_WORKING),
        }
    }

    /// Waits until not too many others work.
    pub async fn permit(&self) -> SemaphorePermit<'_> {
        self.working.acquire().await.expect("the semaphore is never closed")
    }

    /// Runs one IPAM operation over the datastore. The outer error is the datastore's, the inner one IPAM's.
    pub async fn ipam<O: Operation>(&self, operation: O) -> Result<Result<O::Outcome, O::Error>, CniError> {
        let mut known = self.known.lock().await;
        let _order = match self.ipam_lock.clone() {
            // Waiting for another process blocks a thread of its own.
            Some(path) => tokio::task::spawn_blocking(move || lock(&path)).await.unwrap_or_default(),
            None => None,
        };
        drive_knowing(&*self.store, operation, &mut known).await.map_err(|e| unavailable(&e))
    }

    /// The Kubernetes API, or what to do so that there is a way to it.
    pub fn kubernetes(&self) -> Result<&dyn Api, CniError> {
        self.kubernetes.as_deref().ok_or_else(|| {
            let details = "set kubernetes.kubeconfig in the network configuration; where the agent does the work, \
                           KUBECONFIG in its environment, or run it as a pod";
            CniError::new(Code::InvalidConfiguration, "no way to the Kubernetes API", details)
        })
    }

    /// Reads the pod of an attachment, where the configuration has pods looked up.
    pub async fn read_pod(&self, conf: &NetConf, identity: &Identity) -> Result<Option<PodFacts>, CniError> {
        match &identity.pod {
            Some(pod) if conf.reads_pods() => {
                read_pod(self.kubernetes()?, &identity.namespace, pod).await.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Reads one entry.
    pub async fn get(&self, key: &Key) -> Result<Option<Entry>, CniError> {
        self.store.get(key).await.map_err(|e| unavailable(&e))
    }

    /// Reads whether the datastore is ready: see [`judge_ready`].
    pub async fn check_ready(&self) -> Result<(), CniError> {
        judge_ready(self.get(&ready_key()).await?.as_ref())
    }
}

/// Where it is said whether the datastore is ready.
pub fn ready_key() -> Key {
    Key::resource(Kind::ClusterInformation, "", "default")
}

/// Fails while an operator has locked the datastore, or nobody has set the cluster up (spec 5 §1.5).
pub fn judge_ready(entry: Option<&Entry>) -> Result<(), CniError> {
    let entry = entry.ok_or_else(|| {
        CniError::new(
            Code::TryAgainLater,
            "the cluster is not set up yet",
            "there is no ClusterInformation \"default\"; is calico node running?",
        )
    })?;
    let information = decode::<ClusterInformationSpec>(entry)
        .map_err(|e| CniError::generic("cannot read ClusterInformation", e))?;
    if information.spec.datastore_ready == Some(true) {
        return Ok(());
    }
    let details = "datastoreReady is not true; `calicoctl datastore migrate unlock` sets it";
    Err(CniError::new(Code::TryAgainLater, "Calico is currently not ready to process requests", details))
}

/// Held until the file is dropped. Without it assignments are as correct, by compare-and-swap, only slower.
fn lock(path: &Path) -> Option<File> {
    let locked = (|| {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        let file = File::create(path)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok::<_, std::io::Error>(file)
    })();
    locked.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "no IPAM lock")).ok()
}

/// The datastore did not do what it was asked: the runtime may try again.
pub fn unavailable(error: &dyn std::error::Error) -> CniError {
    CniError::new(Code::TryAgainLater, "the datastore failed", chain(error))
}
