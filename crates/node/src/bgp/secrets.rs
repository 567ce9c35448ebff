//! The Secrets that sessions' passwords are in: followed one by one in the Kubernetes API, or read from files where the
//! datastore is another and has none.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use calico_api::kubernetes::secret::SecretSpec;
use calico_api::{Entry, Kind, Selection, decode};
use calico_mesh::password::SecretData;
use calico_store::{Atomicity, Store, SyncEvent, Syncer, SyncerOptions};
use futures::future::{pending, select_all};
use smol_str::SmolStr;
use tokio::time::{Instant, sleep_until};

use crate::startup::settings::Vars;

/// Where the files are unless `CALICO_BGP_SECRETS_DIR` says otherwise: `<directory>/<secret>/<key>`, as a mounted Secret
/// has them.
const DEFAULT_DIRECTORY: &str = "/etc/calico/bgp-secrets";
/// The namespace of the Secrets unless `NAMESPACE` says otherwise.
const DEFAULT_NAMESPACE: &str = "kube-system";
/// How often the files are read again: passwords change rarely, and at both ends at about the same time.
const FILES_POLL: Duration = Duration::from_secs(5);
/// The most that is read of a file: far more than any password may have.
const MAX_FILE_BYTES: u64 = 4096;

/// Where Secrets are.
#[derive(Clone)]
pub enum SecretSource {
    /// In a namespace of the Kubernetes API.
    Kubernetes {
        /// The API.
        store: Arc<dyn Store>,
        /// The namespace.
        namespace: SmolStr,
    },
    /// In files of this directory.
    Files(PathBuf),
}

impl SecretSource {
    /// What the environment says: files where a directory is named or the datastore is not Kubernetes.
    pub fn from_vars(store: &Arc<dyn Store>, vars: Vars<'_>) -> SecretSource {
        let set = |name: &str| vars(name).map(|text| text.trim().to_owned()).filter(|text| !text.is_empty());
        // Of the datastores the Kubernetes API alone carries commits out step by step, and it alone has Secrets.
        let is_kubernetes = store.atomicity() == Atomicity::Sequential;
        match set("CALICO_BGP_SECRETS_DIR") {
            None if is_kubernetes => {
                let namespace = set("NAMESPACE").unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned());
                SecretSource::Kubernetes { store: store.clone(), namespace: namespace.into() }
            }
            directory => {
                SecretSource::Files(directory.map_or_else(|| DEFAULT_DIRECTORY.into(), PathBuf::from))
            }
        }
    }
}

/// The Secrets that are followed.
pub struct Secrets {
    source: SecretSource,
    followed: BTreeMap<SmolStr, Followed>,
    /// When the files are read again.
    next_poll: Instant,
}

/// One of them.
struct Followed {
    /// Absent for files.
    syncer: Option<Syncer>,
    /// Whether it is known what it holds, or that it is absent.
    settled: bool,
    /// The last word.
    told: Option<SecretData>,
}

impl Secrets {
    /// Follows nothing yet.
    pub fn new(source: SecretSource) -> Secrets {
        Secrets { source, followed: BTreeMap::new(), next_poll: Instant::now() }
    }

    /// Follows these and no others. Those that are no longer followed are returned; nothing more comes of them.
    pub fn want(&mut self, names: &[SmolStr]) -> Vec<SmolStr> {
        let gone: Vec<SmolStr> = self.followed.keys().filter(|name| !names.contains(name)).cloned().collect();
        for name in &gone {
            self.followed.remove(name);
        }
        for name in names {
            if self.followed.contains_key(name) {
                continue;
            }
            let syncer = match &self.source {
                SecretSource::Files(_) => {
                    self.next_poll = Instant::now();
                    None
                }
                SecretSource::Kubernetes { store, namespace } => {
                    let selection = Selection::one(Kind::KubernetesSecret, namespace, name);
                    Some(Syncer::spawn(store.clone(), vec![selection], SyncerOptions::default()))
                }
            };
            self.followed.insert(name.clone(), Followed { syncer, settled: false, told: None });
        }
        gone
    }

    /// Whether of each it is known what it holds, or that it is absent.
    pub fn is_settled(&self) -> bool {
        self.followed.values().all(|followed| followed.settled)
    }

    /// Takes those of which nothing is known for absent, until there is news of them.
    pub fn wait_no_longer(&mut self) {
        for followed in self.followed.values_mut() {
            followed.settled = true;
        }
    }

    /// Waits for news: a Secret and what it holds now. Cancel-safe. Comes back without any where all that is new is that
    /// something has settled.
    pub async fn next(&mut self) -> Vec<(SmolStr, Option<SecretData>)> {
        if self.followed.is_empty() {
            return pending().await;
        }
        if let SecretSource::Files(directory) = &self.source {
            sleep_until(self.next_poll).await;
            self.next_poll = Instant::now() + FILES_POLL;
            let mut news = Vec::new();
            for (name, followed) in &mut self.followed {
                followed.settled = true;
                let data = read_files(&directory.join(name.as_str())).unwrap_or_else(|error| {
                    let path = directory.join(name.as_str());
                    tracing::warn!(path = %path.display(), %error, "a BGP secret cannot be read; it counts as absent");
                    None
                });
                if data != followed.told {
                    followed.told.clone_from(&data);
                    news.push((name.clone(), data));
                }
            }
            return news;
        }
        let waits = self.followed.iter_mut().filter_map(|(name, followed)| {
            let syncer = followed.syncer.as_mut()?;
            Some(Box::pin(async move { (name, syncer.next().await) }))
        });
        let ((name, event), _, _) = select_all(waits).await;
        let name = name.clone();
        let Some(followed) = self.followed.get_mut(&name) else { return Vec::new() };
        match event {
            Some(SyncEvent::Updates(updates)) => {
                let Some((_, entry)) = updates.into_iter().next_back() else { return Vec::new() };
                let data = entry.as_ref().and_then(read_entry);
                followed.told.clone_from(&data);
                vec![(name, data)]
            }
            Some(SyncEvent::InSync) => {
                followed.settled = true;
                Vec::new()
            }
            // The runtime ends.
            None => pending().await,
        }
    }
}

fn read_entry(entry: &Entry) -> Option<SecretData> {
    match decode::<SecretSpec>(entry) {
        Ok(secret) => Some(SecretData(secret.spec.data.decoded())),
        Err(_) => {
            // The reason might show what is in it.
            tracing::warn!(secret = %entry.key, "a BGP secret cannot be read; it counts as absent");
            None
        }
    }
}

/// The files of a Secret's directory; `None` without one. Those with a leading dot are the kubelet's.
fn read_files(directory: &Path) -> io::Result<Option<SecretData>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut data = BTreeMap::new();
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        if name.starts_with('.') || !std::fs::metadata(entry.path())?.is_file() {
            continue;
        }
        let mut bytes = Vec::new();
        std::fs::File::open(entry.path())?.take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
        data.insert(SmolStr::from(name), bytes);
    }
    Ok(Some(SecretData(data)))
}

#[cfg(test)]
mod tests;
