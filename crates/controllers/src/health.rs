//! Health: a file that the probes of the pod read (`check-status`), written again and again (spec 7 §6.1).

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use calico_api::{ClusterInformationSpec, Key, Kind, decode};
use calico_store::Store;
use calico_store::error::chain;
use serde::Serialize;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::cluster::Cluster;

/// Where the file is unless `CALICO_STATUS_FILE` says otherwise.
pub const FILE: &str = "/status/status.json";

/// Time between two checks while all is well, and while something is not.
const PERIOD: Duration = Duration::from_secs(10);
const PERIOD_OF_FAILURE: Duration = Duration::from_secs(2);

/// How long an answer may take at first; after each one that did not come, twice as long, up to [`LONGEST_PATIENCE`].
const PATIENCE: Duration = Duration::from_secs(4);
const LONGEST_PATIENCE: Duration = Duration::from_secs(16);

/// The datastore's entry in the file.
const DATASTORE: &str = "CalicoDatastore";
/// The Kubernetes API's.
const API: &str = "KubeAPIServer";

/// How one controller is. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Condition(Arc<Mutex<Option<String>>>);

impl Condition {
    /// It does what it is for.
    pub fn ready(&self) {
        self.set(None);
    }

    /// It does not, and why.
    pub fn not_ready(&self, reason: &str) {
        self.set(Some(reason.to_owned()));
    }

    /// Why it is not ready; `None` if it is.
    pub fn reason(&self) -> Option<String> {
        // A panic elsewhere leaves a whole reason behind.
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, reason: Option<String>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = reason;
    }
}

/// What the file says.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
struct Status {
    #[serde(rename = "Readiness")]
    readiness: BTreeMap<&'static str, Readiness>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Readiness {
    ready: bool,
    reason: String,
}

/// Whoever writes the file.
pub struct Reporter {
    /// Calico's datastore.
    pub store: Arc<dyn Store>,
    /// The Kubernetes API.
    pub cluster: Arc<dyn Cluster>,
    /// The controllers, by the names they have in the file.
    pub controllers: Vec<(&'static str, Condition)>,
    /// The file.
    pub file: PathBuf,
}

impl Reporter {
    /// Writes the file until it is told to stop.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut patience = PATIENCE;
        loop {
            let (status, is_late) = tokio::select! {
                () = shutdown.cancelled() => return,
                found = self.check(patience) => found,
            };
            patience = if is_late { (patience * 2).min(LONGEST_PATIENCE) } else { PATIENCE };
            if let Err(error) = write(&self.file, &status) {
                tracing::error!(file = %self.file.display(), %error, "probes read an old status");
            }
            let is_well = status.readiness.values().all(|r| r.ready);
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = sleep(if is_well { PERIOD } else { PERIOD_OF_FAILURE }) => {}
            }
        }
    }

    /// How everything is, and whether an answer did not come in time.
    async fn check(&self, patience: Duration) -> (Status, bool) {
        let late = |_| Err(format!("no answer in {} s", patience.as_secs()));
        let (datastore, api) =
            tokio::join!(timeout(patience, self.check_datastore()), timeout(patience, self.cluster.check()));
        let is_late = datastore.is_err() || api.is_err();
        let api = api.map_or_else(late, |answer| answer.map_err(|e| e.to_string()));
        let mut status = Status::default();
        let checks = [(DATASTORE, datastore.unwrap_or_else(late).err()), (API, api.err())];
        let controllers = self.controllers.iter().map(|(name, condition)| (*name, condition.reason()));
        for (name, reason) in checks.into_iter().chain(controllers) {
            let readiness = Readiness { ready: reason.is_none(), reason: reason.unwrap_or_default() };
            status.readiness.insert(name, readiness);
        }
        (status, is_late)
    }

    async fn check_datastore(&self) -> Result<(), String> {
        let key = Key::resource(Kind::ClusterInformation, "", "default");
        let entry = self.store.get(&key).await.map_err(|e| chain(&e))?;
        let entry = entry.ok_or("the cluster is not set up yet: no ClusterInformation")?;
        let information = decode::<ClusterInformationSpec>(&entry).map_err(|e| e.to_string())?;
        match information.spec.datastore_ready {
            Some(false) => Err("the datastore is locked".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Writes the file whole: a probe never reads half of it.
fn write(file: &Path, status: &Status) -> io::Result<()> {
    let text = serde_json::to_vec(status)?;
    let beside = file.with_extension("new");
    std::fs::write(&beside, text)?;
    std::fs::rename(&beside, file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::StoreCluster;
    use calico_api::{ClusterInformation, Write, encode};
    use calico_store::EmbeddedStore;

    #[tokio::test]
    async fn the_file_says_what_is_not_ready() {
        let directory = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(directory.path().join("db")).unwrap());
        let condition = Condition::default();
        let reporter = Reporter {
            store: store.clone(),
            cluster: Arc::new(StoreCluster(store.clone())),
            controllers: vec![("NodeController", condition.clone())],
            file: directory.path().join("status.json"),
        };
        let text = async || {
            let (status, is_late) = reporter.check(PATIENCE).await;
            assert!(!is_late);
            write(&reporter.file, &status).unwrap();
            std::fs::read_to_string(&reporter.file).unwrap()
        };
        let unset = text().await;
        assert!(
            unset.contains(r#""CalicoDatastore":{"Ready":false,"Reason":"the cluster is not"#),
            "{unset}"
        );
        let set = async |ready| {
            let spec = ClusterInformationSpec { datastore_ready: ready, ..ClusterInformationSpec::default() };
            let information = ClusterInformation::new("", "default", spec);
            store.commit(&[Write::put(information.key().into(), encode(&information))]).await.unwrap();
        };
        set(Some(false)).await;
        assert!(text().await.contains(r#""Reason":"the datastore is locked""#));
        set(Some(true)).await;
        condition.not_ready("reading");
        assert!(text().await.contains(r#""NodeController":{"Ready":false,"Reason":"reading"}"#));
        condition.ready();
        let good = r#"{"Readiness":{"CalicoDatastore":{"Ready":true,"Reason":""},"KubeAPIServer":{"Ready":true,"Reason":""},"NodeController":{"Ready":true,"Reason":""}}}"#;
        assert_eq!(text().await, good);
    }
}
