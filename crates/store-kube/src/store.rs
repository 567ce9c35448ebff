//! The store: reads, what a reader must finish for others, and what all operations know together.

use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use calico_api::kubernetes::ApiGroup;
use calico_api::{AffinityOwner, Entry, Key, Revision, Selection, Write};
use calico_store::config::KubernetesConfig;
use calico_store::{
    Atomicity, CommitError, Committed, CompactError, Fault, GetError, ListError, Listing, Store, Watch,
    WatchError,
};
use rustc_hash::{FxHashMap, FxHashSet};
use serde_json::json;
use smol_str::SmolStr;
use tokio::sync::OnceCell;

use crate::client::{Call, KubeClient};
use crate::error::{ConnectError, RequestError};
use crate::part::{Doomed, Object, Part, View};
use crate::position::Mark;
use crate::{commit, list, position, served, watch};

/// How the host's side of pods' interfaces begins unless Felix is told otherwise.
const INTERFACE_PREFIX: &str = "cali";

/// The Kubernetes API with Calico's data in it. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct KubeStore(Arc<Inner>);

struct Inner {
    client: KubeClient,
    /// What the settings say; the group only if they do.
    settings: Settings,
    view: OnceCell<View>,
    history: Mutex<History>,
    /// Whose affinities all have the label that selects them.
    labelled: Mutex<FxHashSet<AffinityOwner>>,
}

struct Settings {
    group: Option<ApiGroup>,
    use_pod_cidr: bool,
    interface_prefix: SmolStr,
}

/// What tells one history of revisions from another that took its place, when a cluster is restored from a backup:
/// revisions that go backwards, which consistent reads of one API resource never do.
#[derive(Default)]
struct History {
    /// The newest revision seen of each API resource; they may live in different etcds.
    newest: FxHashMap<Part, u64>,
    /// What lists have come to since a watch last broke off: so far the server's history is known to reach.
    reached: FxHashMap<Part, u64>,
    /// How often revisions went backwards.
    resets: u64,
}

impl std::fmt::Debug for KubeStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KubeStore").field("client", &self.0.client).finish_non_exhaustive()
    }
}

impl KubeStore {
    /// A store as the settings want it. The server is not asked anything yet. `environment` names the pod's API server
    /// and Felix's interface prefixes.
    pub fn open(
        config: &KubernetesConfig,
        environment: &dyn Fn(&str) -> Option<String>,
    ) -> Result<KubeStore, ConnectError> {
        let client = KubeClient::open(config, environment)?;
        let prefixes = environment("FELIX_INTERFACEPREFIX").unwrap_or_default();
        let prefix = prefixes.split(',').next().map(str::trim).filter(|p| !p.is_empty());
        let settings = Settings {
            group: config.group,
            use_pod_cidr: config.use_pod_cidr,
            interface_prefix: SmolStr::new(prefix.unwrap_or(INTERFACE_PREFIX)),
        };
        let inner = Inner {
            client,
            settings,
            view: OnceCell::new(),
            history: Mutex::default(),
            labelled: Mutex::default(),
        };
        Ok(KubeStore(Arc::new(inner)))
    }

    /// The client, for requests that are not about Calico's data.
    pub fn client(&self) -> &KubeClient {
        &self.0.client
    }

    /// How objects are read. The first call may ask the server which API groups it has.
    pub(crate) async fn view(&self) -> Result<&View, Fault> {
        let Settings { group, use_pod_cidr, interface_prefix } = &self.0.settings;
        let view = self.0.view.get_or_try_init(|| async {
            let group = match group {
                Some(group) => *group,
                None => self.discover().await?,
            };
            let (use_pod_cidr, interface_prefix) = (*use_pod_cidr, interface_prefix.clone());
            Ok(View { group, use_pod_cidr, interface_prefix })
        });
        view.await
    }

    async fn discover(&self) -> Result<ApiGroup, Fault> {
        let groups = served::groups(&self.0.client).await?;
        let group = ApiGroup::discover(groups.iter().map(String::as_str));
        tracing::debug!(%group, "the API group of Calico's resources");
        Ok(group)
    }

    /// One object as it is stored, if it is there; one that is half deleted is finished and counts as absent.
    pub(crate) async fn fetch(
        &self,
        part: Part,
        path: &str,
    ) -> Result<Option<(Object, bytes::Bytes)>, RequestError> {
        let view = self.view().await.map_err(RequestError::Fault)?;
        let body = match self.0.client.call(&Call::get(path)).await {
            Ok(body) => body,
            Err(error) if error.is(404) => return Ok(None),
            Err(error) => return Err(error),
        };
        let object =
            part.read(view, &body).map_err(|error| RequestError::Fault(Fault::Broken(error.into())))?;
        if let Some(doomed) = &object.doomed {
            self.finish(doomed).await;
            return Ok(None);
        }
        Ok(Some((object, body)))
    }

    /// The entry of a key, wherever old or new writers put it.
    pub(crate) async fn find(&self, key: &Key) -> Result<Option<Entry>, Fault> {
        let view = self.view().await?;
        let Some((part, path)) = Part::of_key(key, view) else { return Ok(None) };
        for path in std::iter::once(path).chain(Part::old_path(key, view)) {
            if let Some((object, _)) = self.fetch(part, &path).await.map_err(RequestError::into_fault)? {
                // Handles that differ in case alone share a name, and so do pods of one name on two nodes.
                return Ok(object.entries.into_iter().find(|entry| entry.key == *key));
            }
        }
        Ok(None)
    }

    /// The second step of a deletion whose first step has happened. Whoever finds it half done does it; that somebody
    /// else was quicker, or may and this reader may not, is no error.
    pub(crate) async fn finish(&self, doomed: &Doomed) {
        let Doomed { path, uid, revision } = doomed;
        let preconditions = json!({ "preconditions": { "uid": uid, "resourceVersion": revision } });
        match self.0.client.call(&Call::delete(path.as_str(), &preconditions)).await {
            Ok(_) => {}
            Err(error) if error.is(404) || error.is(409) => {}
            Err(error) => {
                let error = error.into_fault();
                tracing::debug!(error = &error as &dyn std::error::Error, path, "a deletion stays half done");
            }
        }
    }

    /// The newest revision seen of an API resource; 0: none yet.
    pub(crate) fn newest(&self, part: Part) -> u64 {
        self.history().newest.get(&part).copied().unwrap_or(0)
    }

    /// A consistent read, begun when `known` was the newest revision, came to another: it can only be newer.
    pub(crate) fn note_listed(&self, part: Part, known: u64, number: u64) {
        let mut history = self.history();
        history.reached.insert(part, number);
        if number < known {
            history.resets += 1;
            history.newest.insert(part, number);
        } else {
            let newest = history.newest.entry(part).or_default();
            *newest = number.max(*newest);
        }
    }

    /// Whether the server's history of an API resource has surely come to a revision.
    pub(crate) fn has_reached(&self, part: Part, number: u64) -> bool {
        self.history().reached.get(&part).is_some_and(|reached| *reached >= number)
    }

    /// A watch has broken off: the server that comes back may be one with an older history.
    pub(crate) fn note_break(&self) {
        self.history().reached.clear();
    }

    /// A watch has come to a revision.
    pub(crate) fn note_newest(&self, part: Part, number: u64) {
        let mut history = self.history();
        let newest = history.newest.entry(part).or_default();
        *newest = number.max(*newest);
    }

    /// Whether an owner's affinities are known to have the label that selects them. Nobody writes others any more.
    pub(crate) fn is_labelled(&self, owner: &AffinityOwner) -> bool {
        self.0.labelled.lock().unwrap_or_else(PoisonError::into_inner).contains(owner)
    }

    /// All of an owner's affinities have the label.
    pub(crate) fn note_labelled(&self, owner: &AffinityOwner) {
        self.0.labelled.lock().unwrap_or_else(PoisonError::into_inner).insert(owner.clone());
    }

    fn history(&self) -> std::sync::MutexGuard<'_, History> {
        self.0.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn list_all(&self, selection: &Selection) -> Result<Listing, Fault> {
        let parts = Part::of_selection(selection, self.view().await?);
        let mut entries = Vec::new();
        let mut marks: Vec<Mark> = Vec::with_capacity(parts.len());
        for part in parts {
            let (found, mark) = list::list(self, part, selection).await?;
            entries.extend(found);
            marks.push(mark);
        }
        entries.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        Ok(Listing { entries, revision: position::revision(&marks), history: self.history().resets })
    }
}

#[async_trait]
impl Store for KubeStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, GetError> {
        self.find(key).await.map_err(|fault| GetError { key: key.clone(), fault })
    }

    async fn list(&self, selection: &Selection) -> Result<Listing, ListError> {
        self.list_all(selection).await.map_err(|fault| ListError { selection: selection.clone(), fault })
    }

    async fn watch(&self, selection: &Selection, from: Option<Revision>) -> Result<Watch, WatchError> {
        watch::start(self, selection.clone(), from).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Committed, CommitError> {
        commit::commit(self, writes).await
    }

    fn atomicity(&self) -> Atomicity {
        Atomicity::Sequential
    }

    fn keeps(&self, key: &Key) -> bool {
        !matches!(
            key,
            Key::IpamHost(_)
                | Key::FelixStatus(_)
                | Key::FelixLastStatus(_)
                | Key::WorkloadStatus { .. }
                | Key::HostStatus { .. }
        )
    }

    /// The API server compacts its etcd by itself.
    async fn compact(&self, _: &Revision) -> Result<(), CompactError> {
        Ok(())
    }
}
