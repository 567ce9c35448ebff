//! Two whole nodes on one embedded store: started, meshed, ready, and told of a block.

use std::path::Path;
use std::thread::JoinHandle;

use calico_api::key::AffinityOwner;
use calico_api::{
    AffinityState, BlockAffinity, EncapMode, IPPool, IPPoolSpec, Key, Kind, Write, encode, encode_record,
};
use calico_linux::netns::Netns;
use calico_store::EmbeddedStore;
use tempfile::TempDir;
use tokio::time::Instant;

use super::*;
use crate::testing::{block_on, connect, ip, is_possible, kill, wait_for};

struct Node {
    netns: Netns,
    directory: TempDir,
    health: Health,
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    fn new(netns: Netns, name: &'static str, datastore: &Path) -> Node {
        let directory = tempfile::tempdir().unwrap();
        let (health, stop) = (Health::new(), CancellationToken::new());
        let root = directory.path().to_owned();
        let datastore = datastore.to_owned();
        let inside = Netns::from(rustix::io::dup(&netns).unwrap());
        let (its_health, its_stop) = (health.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            inside.run(|| block_on(live(name, &datastore, &root, its_health, its_stop))).unwrap();
        });
        Node { netns, directory, health, stop, thread: Some(thread) }
    }

    fn is_ready(&self) -> bool {
        let summary = self.health.summary(Instant::now());
        summary.ready && summary.detail.starts_with("bgp: ")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        // A failed test fails by its own message.
        let _ = self.thread.take().map(JoinHandle::join);
        let pid = std::fs::read_to_string(self.directory.path().join("bird.pid"));
        if let Some(pid) = pid.ok().and_then(|text| text.trim().parse().ok()) {
            kill(pid);
        }
    }
}

async fn live(name: &str, datastore: &Path, root: &Path, health: Health, stop: CancellationToken) {
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(datastore).unwrap());
    let nodename = root.join("nodename").to_str().unwrap().to_owned();
    let vars = |variable: &str| match variable {
        "NODENAME" => Some(name.to_owned()),
        "CALICO_NODENAME_FILE" => Some(nodename.clone()),
        "IP" => Some("autodetect".to_owned()),
        "CALICO_IPV4POOL_CIDR" => Some("10.20.0.0/16".to_owned()),
        "CALICO_IPV6POOL_CIDR" => Some("none".to_owned()),
        _ => None,
    };
    let started = crate::start(&store, &vars, None, "v1").await.unwrap();
    let (_, ready) = watch::channel(BTreeSet::new());
    let args = NodeArgs::from_vars(store, started, ready, health, NodeMetrics::default(), &vars).unwrap();
    let bird = Paths {
        config: root.join("bird.cfg"),
        socket: root.join("bird.ctl"),
        pid_file: root.join("bird.pid"),
        log: root.join("bird.log"),
        ..Paths::default()
    };
    run(NodeArgs { bird, ..args }, stop).await;
}

fn claim(store: &EmbeddedStore, node: &str, block: &str, state: AffinityState) {
    let owner = AffinityOwner::Host(node.into());
    let key = Key::Affinity { owner, block: block.parse().unwrap() };
    let write = Write::put(key, encode_record(&BlockAffinity::new(state)));
    block_on(store.commit(&[write])).unwrap();
}

#[test]
fn two_nodes() {
    if !is_possible() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let datastore = directory.path().join("datastore.db");
    let store = EmbeddedStore::open(&datastore).unwrap();
    let (a, b) = (Netns::create().unwrap(), Netns::create().unwrap());
    connect(&a, &b);
    claim(&store, "a", "10.20.1.0/26", AffinityState::Confirmed);
    claim(&store, "a", "10.20.3.0/26", AffinityState::Pending);
    let (a, b) = (Node::new(a, "a", &datastore), Node::new(b, "b", &datastore));
    let routes = || ip(&b.netns, "route show proto bird");
    wait_for("readiness", || a.is_ready() && b.is_ready());
    wait_for("the block", || routes().contains("10.20.1.0/26 via 10.9.0.1"));
    claim(&store, "a", "10.20.2.0/26", AffinityState::Confirmed);
    wait_for("a further block", || routes().contains("10.20.2.0/26 via 10.9.0.1"));
    assert!(!routes().contains("10.20.3.0/26"), "a claim that is only begun is announced");
    // A pool that nobody routes takes the nodes out, and says why.
    let key = Key::resource(Kind::IPPool, "", "tunnels");
    let ipip_mode = Some(EncapMode::Always);
    let spec = IPPoolSpec { cidr: "10.30.0.0/16".into(), ipip_mode, ..IPPoolSpec::default() };
    let pool = IPPool::new("", "tunnels", spec);
    block_on(store.commit(&[Write::create(key, encode(&pool))])).unwrap();
    wait_for("the complaint", || {
        let summary = a.health.summary(Instant::now());
        !summary.ready
            && summary.detail.contains("IPPool(tunnels): ipipMode: this build has no IPIP tunnels yet")
    });
}
