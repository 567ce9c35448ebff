//! The store on etcd: reads, and the connection that all operations share.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use calico_api::{Entry, Key, Revision, Selection, Write};
use calico_store::{
    Atomicity, CommitError, Committed, CompactError, Fault, Found, GetError, ListError, Listing, ReadError,
    Store, Watch, WatchError, key_range,
};
use etcd_client::{Client, Error, GetOptions, KeyValue, KvClient, ResponseHeader, WatchClient};

use crate::fault::{fault, is_compacted};

/// How many keys one request of a list asks for. With Calico's values of 0.5–4 KB a page is a few megabytes, which
/// neither side minds; fewer would cost round trips.
pub(crate) const LIST_PAGE: i64 = 2_000;

/// How often a list starts again because compaction overtook its snapshot between two pages.
const LIST_TRIES: usize = 5;

/// An etcd cluster with Calico's data in it. Cheap to clone; clones share the connection.
#[derive(Clone)]
pub struct EtcdStore {
    pub(crate) client: Client,
    /// Where it is, for errors: URLs between commas.
    endpoints: Arc<str>,
    history: Arc<History>,
}

/// What tells one history of revisions from another that took its place, when a cluster is wiped or restored from a
/// backup: the cluster's id, if it changed with it, or revisions that go backwards, which linearizable reads never
/// do. A restore that keeps the id and overtakes the newest revision that was seen before anybody reads is not
/// noticed: nothing in the protocol would tell.
#[derive(Debug, Default)]
struct History {
    /// The cluster that was last listed; 0: none yet.
    cluster: AtomicU64,
    /// The newest revision that was seen.
    newest: AtomicI64,
    /// How often revisions went backwards.
    resets: AtomicU64,
}

impl std::fmt::Debug for EtcdStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdStore").field("history", &self.history).finish_non_exhaustive()
    }
}

impl EtcdStore {
    /// A store on a client of these endpoints (URLs between commas). It need not have connected yet.
    pub fn new(client: Client, endpoints: &str) -> EtcdStore {
        EtcdStore { client, endpoints: endpoints.into(), history: Arc::default() }
    }

    /// What an error of the client means; it names the endpoints.
    pub(crate) fn fault(&self, error: &Error) -> Fault {
        fault(Some(&self.endpoints), error)
    }

    /// A client whose answers may have any size: the values in a store are the limit, not gRPC's default of 4 MB.
    pub(crate) fn kv(&self) -> KvClient {
        self.client.kv_client().max_decoding_message_size(usize::MAX)
    }

    /// The same for watches.
    pub(crate) fn watches(&self) -> WatchClient {
        self.client.watch_client().max_decoding_message_size(usize::MAX)
    }

    /// Remembers what answered a list, and names its history. `before`: the newest revision that was known when the
    /// list was asked for.
    fn name_history(&self, cluster: u64, revision: i64, before: i64) -> u64 {
        let History { cluster: known, newest, resets } = &*self.history;
        known.store(cluster, Ordering::Relaxed);
        if revision < before {
            newest.store(revision, Ordering::Relaxed);
            resets.fetch_add(1, Ordering::Relaxed);
        } else {
            newest.fetch_max(revision, Ordering::Relaxed);
        }
        cluster.rotate_left(1) ^ resets.load(Ordering::Relaxed)
    }

    /// Remembers that a revision exists.
    pub(crate) fn note_revision(&self, revision: i64) {
        self.history.newest.fetch_max(revision, Ordering::Relaxed);
    }

    /// Whether an answer comes from another cluster than the one that was last listed.
    pub(crate) fn is_other_cluster(&self, header: &ResponseHeader) -> bool {
        let known = self.history.cluster.load(Ordering::Relaxed);
        known != 0 && known != header.cluster_id()
    }

    /// Reads a selection page by page, all pages at the revision of the first.
    async fn read_pages(&self, selection: &Selection) -> Result<Listing, Error> {
        let (mut start, end) = key_range(selection);
        let mut entries = Vec::new();
        let mut snapshot: Option<ResponseHeader> = None;
        let before = self.history.newest.load(Ordering::Relaxed);
        let mut kv = self.kv();
        loop {
            let mut options = GetOptions::new().with_range(end.as_str()).with_limit(LIST_PAGE);
            if let Some(first) = &snapshot {
                options = options.with_revision(first.revision());
            }
            let mut page = kv.get(start.as_str(), Some(options)).await?;
            let answer = header(page.take_header())?;
            let first = snapshot.get_or_insert(answer);
            let (revision, cluster) = (first.revision(), first.cluster_id());
            let more = page.more();
            let kvs = page.take_kvs();
            let next = match kvs.last() {
                // The first possible key after the last one.
                Some(last) if more => Some(format!("{}\0", last.key_str()?)),
                _ => None,
            };
            entries.extend(kvs.into_iter().filter_map(entry).filter(|e| selection.contains(&e.key)));
            match next {
                Some(next) => start = next,
                None => {
                    let history = self.name_history(cluster, revision, before);
                    return Ok(Listing { entries, revision: revision.into(), history });
                }
            }
        }
    }
}

/// A response without a header is not etcd's.
pub(crate) fn header(header: Option<ResponseHeader>) -> Result<ResponseHeader, Error> {
    header.ok_or_else(|| Error::InvalidArgs("the server's answer has no header".into()))
}

/// etcd's revisions are numbers; another store's, or none at all, never equals one.
pub(crate) fn number(revision: &Revision) -> i64 {
    revision.0.parse().unwrap_or(-1)
}

/// An entry; `None` if its key is none of ours.
pub(crate) fn entry(kv: KeyValue) -> Option<Entry> {
    let revision = kv.mod_revision().into();
    let key = Key::parse(kv.key_str().ok()?).ok()?;
    let (_, value) = kv.into_key_value();
    Some(Entry { key, value: Bytes::from(value), revision })
}

#[async_trait]
impl Store for EtcdStore {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, GetError> {
        let mut response = self
            .kv()
            .get(key.to_string(), None)
            .await
            .map_err(|error| GetError { key: key.clone(), fault: self.fault(&error) })?;
        Ok(response.take_kvs().pop().and_then(entry))
    }

    async fn list(&self, selection: &Selection) -> Result<Listing, ListError> {
        let failed = |fault: Fault| ListError { selection: selection.clone(), fault };
        for _ in 0..LIST_TRIES {
            match self.read_pages(selection).await {
                Ok(listing) => return Ok(listing),
                Err(error) if is_compacted(&error) => continue,
                Err(error) => return Err(failed(self.fault(&error))),
            }
        }
        Err(failed(Fault::Unavailable("compaction overtook the list again and again".into())))
    }

    async fn read(&self, keys: &[Key], selections: &[Selection]) -> Result<Found, ReadError> {
        crate::read::read(self, keys, selections).await
    }

    async fn watch(&self, selection: &Selection, from: Option<Revision>) -> Result<Watch, WatchError> {
        crate::watch::watch(self, selection.clone(), from).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Committed, CommitError> {
        crate::commit::commit(self, writes).await
    }

    fn atomicity(&self) -> Atomicity {
        Atomicity::Atomic
    }

    async fn compact(&self, revision: &Revision) -> Result<(), CompactError> {
        match self.kv().compact(number(revision), None).await {
            Ok(_) => Ok(()),
            Err(error) if is_compacted(&error) => Ok(()),
            Err(error) => Err(CompactError(self.fault(&error))),
        }
    }
}
