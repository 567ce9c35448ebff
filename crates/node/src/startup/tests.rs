//! A start on the embedded store, twice.

use std::sync::atomic::{AtomicUsize, Ordering};

use calico_api::{NodeBgp, NodeSpec, Revision, encode};
use calico_store::{Atomicity, Committed, CompactError, EmbeddedStore, Listing, Watch, WatchError};

use super::*;

/// A store that counts listings.
struct Counting {
    store: EmbeddedStore,
    listings: AtomicUsize,
}

#[async_trait::async_trait]
impl Store for Counting {
    async fn get(&self, key: &Key) -> Result<Option<Entry>, GetError> {
        self.store.get(key).await
    }

    async fn list(&self, selection: &Selection) -> Result<Listing, ListError> {
        self.listings.fetch_add(1, Ordering::Relaxed);
        self.store.list(selection).await
    }

    async fn watch(&self, selection: &Selection, from: Option<Revision>) -> Result<Watch, WatchError> {
        self.store.watch(selection, from).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Committed, CommitError> {
        self.store.commit(writes).await
    }

    fn atomicity(&self) -> Atomicity {
        self.store.atomicity()
    }

    async fn compact(&self, revision: &Revision) -> Result<(), CompactError> {
        self.store.compact(revision).await
    }
}

/// Every node looks at its address every minute: it must not read all the others for it.
#[tokio::test]
async fn others_are_read_only_where_an_address_changes() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("datastore.db")).unwrap();
    let counting = Arc::new(Counting { store, listings: AtomicUsize::new(0) });
    let store: Arc<dyn Store> = counting.clone();
    let settings = |ip: &str| {
        let ip = ip.to_owned();
        Settings::from_vars(&move |name: &str| (name == "IP").then(|| ip.clone())).unwrap()
    };
    let listings = || counting.listings.load(Ordering::Relaxed);
    assert!(apply_node(&store, "a", &settings("127.0.0.1")).await.unwrap());
    assert_eq!(listings(), 1);
    assert!(!apply_node(&store, "a", &settings("127.0.0.1")).await.unwrap());
    assert_eq!(listings(), 1, "nothing has changed");
    // Another node has the address that this one gets.
    let bgp = NodeBgp { ipv4_address: "127.0.0.2/8".into(), ..NodeBgp::default() };
    let other = calico_api::Node::new("", "b", NodeSpec { bgp: Some(bgp), ..NodeSpec::default() });
    store.commit(&[Write::put(Key::resource(Kind::Node, "", "b"), encode(&other))]).await.unwrap();
    let error = apply_node(&store, "a", &settings("127.0.0.2")).await.unwrap_err();
    assert!(error.to_string().contains("node b has the address 127.0.0.2"), "{error}");
    assert_eq!(listings(), 2);
}

async fn keys(store: &Arc<dyn Store>, kind: Kind) -> Vec<String> {
    let entries = store.list(&Selection::all(kind)).await.unwrap().entries;
    entries.iter().map(|e| e.key.to_string().rsplit('/').next().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_start_writes_everything_and_a_second_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("datastore.db")).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let file = directory.path().join("nodename");
    let file_text = file.to_str().unwrap().to_owned();
    let vars = |name: &str| match name {
        "NODENAME" => Some("a".to_owned()),
        "CALICO_NODENAME_FILE" => Some(file_text.clone()),
        "WAIT_FOR_DATASTORE" => Some("true".to_owned()),
        // Any host has it, so that this test needs no network of its own.
        "IP" => Some("127.0.0.1".to_owned()),
        "CALICO_IPV6POOL_CIDR" => Some("none".to_owned()),
        _ => None,
    };
    let started = start(&store, &vars, None, "v1").await.unwrap();
    assert_eq!(started.node, "a");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "a");
    assert_eq!(keys(&store, Kind::Node).await, ["a"]);
    assert_eq!(keys(&store, Kind::IPPool).await, ["default-ipv4-ippool"]);
    assert_eq!(keys(&store, Kind::ClusterInformation).await, ["default"]);
    assert_eq!(keys(&store, Kind::FelixConfiguration).await, ["default", "node.a"]);
    assert_eq!(keys(&store, Kind::Tier).await, ["default", "kube-admin", "kube-baseline"]);
    let node = store.get(&Key::resource(Kind::Node, "", "a")).await.unwrap().unwrap();
    let node: calico_api::Node = calico_api::decode(&node).unwrap();
    assert_eq!(node.spec.bgp.unwrap().ipv4_address, "127.0.0.1/8");

    let revision = store.list(&Selection::all(Kind::Node)).await.unwrap().revision;
    start(&store, &vars, None, "v1").await.unwrap();
    assert_eq!(store.list(&Selection::all(Kind::Node)).await.unwrap().revision, revision);
}

#[tokio::test]
async fn ipams_resource_says_what_its_record_says() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("datastore.db")).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let record = r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":3}"#;
    store.commit(&[Write::put(Key::IpamConfig, record.into())]).await.unwrap();
    apply_defaults(&store, "a").await.unwrap();
    let entry = store.get(&Key::resource(Kind::IPAMConfiguration, "", "default")).await.unwrap().unwrap();
    let resource: calico_api::IPAMConfiguration = calico_api::decode(&entry).unwrap();
    assert!(resource.spec.strict_affinity);
    assert_eq!(resource.spec.max_blocks_per_host, 3);

    store
        .commit(&[Write::put(Key::IpamConfig, "[]".into()), Write::delete(entry.key, entry.revision)])
        .await
        .unwrap();
    apply_defaults(&store, "a").await.unwrap();
    assert!(keys(&store, Kind::IPAMConfiguration).await.is_empty());
}

#[tokio::test]
async fn a_refused_start_leaves_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(directory.path().join("datastore.db")).unwrap();
    let store: Arc<dyn Store> = Arc::new(store);
    let file = directory.path().join("nodename");
    let file_text = file.to_str().unwrap().to_owned();
    let vars = |name: &str| match name {
        "NODENAME" => Some("a".to_owned()),
        "CALICO_NODENAME_FILE" => Some(file_text.clone()),
        "IP_AUTODETECTION_METHOD" => Some("interface=no-such-interface".to_owned()),
        _ => None,
    };
    let error = start(&store, &vars, None, "v1").await.unwrap_err();
    assert!(matches!(error, StartupError::Refused(_)), "{error}");
    assert!(!file.exists());
    assert!(keys(&store, Kind::Node).await.is_empty());
}

/// Why a question was not answered.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Silence(&'static str);

#[tokio::test(start_paused = true)]
async fn only_what_waiting_may_mend_is_waited_for() {
    let start = tokio::time::Instant::now();
    let ask = async |answers: &[Result<u32, &'static str>]| {
        let mut answers = answers.iter();
        let next = async || answers.next().unwrap().map_err(Silence);
        ask_until_answered(next, |silence| silence.0 == "later").await.map_err(|silence| silence.0)
    };
    assert_eq!(ask(&[Ok(1)]).await, Ok(1));
    assert_eq!(ask(&[Err("never")]).await, Err("never"));
    assert_eq!(start.elapsed(), Duration::ZERO);
    // It waits longer each time, and not without end.
    let mut answers = [Err("later"); 12];
    answers[10] = Ok(2);
    assert_eq!(ask(&answers).await, Ok(2));
    let secs = start.elapsed().as_secs_f64();
    assert!((35.0..40.0).contains(&secs), "{secs}");
}
