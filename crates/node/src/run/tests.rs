//! Two whole nodes on one embedded store: started, meshed, ready, and told of a block.

use std::path::Path;
use std::thread::JoinHandle;

use calico_api::calico_node_status::{BgpDaemonState, NodePeerType, NodeStatusClass};
use calico_api::key::AffinityOwner;
use calico_api::kubernetes::endpoint_slice::EndpointSliceSpec;
use calico_api::kubernetes::service::ServiceSpec;
use calico_api::{
    AffinityState, BGPConfiguration, BGPConfigurationSpec, BlockAffinity, CalicoNodeStatus,
    CalicoNodeStatusSpec, EncapMode, IPPool, IPPoolSpec, Key, Kind, NodeStatusReport, Resource, ServiceBlock,
    Spec, Write, decode, encode, encode_record,
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
    // Here, services are in the same store.
    let services = Some(args.store.clone());
    run(NodeArgs { bird, services, ..args }, stop).await;
}

fn claim(store: &EmbeddedStore, node: &str, block: &str, state: AffinityState) {
    let owner = AffinityOwner::Host(node.into());
    let key = Key::Affinity { owner, block: block.parse().unwrap() };
    let write = Write::put(key, encode_record(&BlockAffinity::new(state)));
    block_on(store.commit(&[write])).unwrap();
}

/// A CalicoNodeStatus of node b is answered by it, again and again, and one with period 0 once.
fn answers(store: &EmbeddedStore) {
    let ask = |name: &str, period| {
        let classes = vec![NodeStatusClass::Agent, NodeStatusClass::Bgp, NodeStatusClass::Routes];
        let spec = CalicoNodeStatusSpec { node: "b".into(), classes, update_period_seconds: Some(period) };
        let key = Key::resource(Kind::CalicoNodeStatus, "", name);
        block_on(store.commit(&[Write::create(key, encode(&CalicoNodeStatus::new("", name, spec)))]))
            .unwrap();
    };
    let read = |name: &str| -> NodeStatusReport {
        let key = Key::resource(Kind::CalicoNodeStatus, "", name);
        let entry = block_on(store.get(&key)).unwrap().unwrap();
        decode::<CalicoNodeStatusSpec>(&entry).unwrap().status.unwrap_or_default()
    };
    ask("often", 1);
    ask("once", 0);
    for name in ["often", "once"] {
        wait_for("an answer", || read(name).last_updated.is_some());
        let NodeStatusReport { agent, bgp, routes, .. } = read(name);
        assert_eq!(agent.unwrap().bird_v4.state, Some(BgpDaemonState::Ready));
        let bgp = bgp.unwrap();
        assert_eq!((bgp.number_established_v4, bgp.number_not_established_v4), (1, 0));
        assert_eq!(
            (bgp.peers_v4[0].peer_ip.as_str(), &bgp.peers_v4[0].peer_type),
            ("10.9.0.1", &NodePeerType::Mesh)
        );
        let routes = routes.unwrap().routes_v4;
        let learned = routes.iter().find(|route| route.destination == "10.20.1.0/26").unwrap();
        assert_eq!(
            (learned.gateway.as_str(), learned.learned_from.peer_ip.as_str()),
            ("10.9.0.1", "10.9.0.1")
        );
    }
    let (often, once) = (read("often"), read("once"));
    wait_for("a further answer", || read("often").last_updated != often.last_updated);
    assert_eq!(read("once"), once);
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
    answers(&store);
    // A pool whose tunnels the kernel does not have takes the nodes out, and says why and what to do.
    let key = Key::resource(Kind::IPPool, "", "tunnels");
    let ipip_mode = Some(EncapMode::Always);
    let spec = IPPoolSpec { cidr: "10.30.0.0/16".into(), ipip_mode, ..IPPoolSpec::default() };
    let pool = IPPool::new("", "tunnels", spec);
    block_on(store.commit(&[Write::create(key, encode(&pool))])).unwrap();
    let summary = || a.health.summary(Instant::now());
    if read_ipip() {
        // Nobody here makes the device.
        wait_for("the tunnel's address", || summary().detail.contains("waiting for the tunnel device"));
        assert!(!summary().detail.contains("modprobe"));
    } else {
        wait_for("the complaint", || {
            let summary = summary();
            let named = "IPPool(tunnels): ipipMode: this node's kernel has no IPIP";
            !summary.ready && summary.detail.contains(named) && summary.detail.contains("modprobe ipip")
        });
    }
}

fn put<S: Spec>(store: &EmbeddedStore, resource: &Resource<S>) {
    let write = Write::put(Key::Resource(resource.key()), encode(resource));
    block_on(store.commit(&[write])).unwrap();
}

/// The ranges of external addresses that are announced.
fn external(store: &EmbeddedStore, ranges: &[&str]) {
    let service_external_ips = ranges.iter().map(|cidr| ServiceBlock { cidr: (*cidr).into() }).collect();
    let spec = BGPConfigurationSpec { service_external_ips, ..BGPConfigurationSpec::default() };
    put(store, &BGPConfiguration::new("", "default", spec));
}

fn endpoint(store: &EmbeddedStore, node: &str) {
    let (service, address_type) = ("web".into(), "IPv4".into());
    let spec =
        EndpointSliceSpec { service, address_type, ready_nodes: vec![node.into()], ..Default::default() };
    put(store, &Resource::new("default", "web-1", spec));
}

#[test]
fn services_that_only_one_node_serves() {
    if !is_possible() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let datastore = directory.path().join("datastore.db");
    let store = EmbeddedStore::open(&datastore).unwrap();
    let (a, b) = (Netns::create().unwrap(), Netns::create().unwrap());
    connect(&a, &b);
    let spec = ServiceSpec {
        service_type: "NodePort".into(),
        cluster_ips: vec!["10.96.0.1".into()],
        external_ips: vec!["192.0.2.1".into()],
        external_traffic_policy: "Local".into(),
        ..ServiceSpec::default()
    };
    put(&store, &Resource::new("default", "web", spec));
    endpoint(&store, "a");
    claim(&store, "a", "10.20.1.0/26", AffinityState::Confirmed);
    let (a, b) = (Node::new(a, "a", &datastore), Node::new(b, "b", &datastore));
    let installed = |node: &Node| ip(&node.netns, "route show proto bird");
    let one = |via: &str| format!("192.0.2.1 via {via}");
    wait_for("the block", || installed(&b).contains("10.20.1.0/26 via 10.9.0.1"));
    assert!(!installed(&b).contains("192.0.2.1"), "nobody asks for services");
    external(&store, &["192.0.2.1/32"]);
    wait_for("the service's address", || installed(&b).contains(&one("10.9.0.1")));
    assert!(!installed(&b).contains("10.96.0.1"), "no cluster range is announced");
    endpoint(&store, "b");
    wait_for("the moved endpoint", || {
        installed(&a).contains(&one("10.9.0.2")) && !installed(&b).contains("192.0.2.1")
    });
    // What is in a whole range is announced, and installed by no node.
    external(&store, &["192.0.2.0/24"]);
    wait_for("the range's end in the kernel", || !installed(&a).contains("192.0.2."));
    external(&store, &["192.0.2.1/32"]);
    wait_for("the address again", || installed(&a).contains(&one("10.9.0.2")));
    external(&store, &[]);
    wait_for("no service", || !installed(&a).contains("192.0.2."));
    assert!(installed(&b).contains("10.20.1.0/26 via 10.9.0.1"));
}

#[test]
fn cluster_ranges_of_the_environment() {
    let check = |text: &str, expected: Result<Option<&[&str]>, &str>| {
        let read =
            read_cluster_ranges(&|name| (name == "CALICO_ADVERTISE_CLUSTER_IPS").then(|| text.to_owned()));
        let texts = |ranges: Vec<Cidr>| ranges.iter().map(Cidr::to_string).collect::<Vec<_>>();
        let expected = expected.map(|ranges| ranges.map(|r| r.iter().map(|t| (*t).to_owned()).collect()));
        match (read.map(|ranges| ranges.map(texts)), expected) {
            (Err(error), Err(word)) => assert!(error.to_string().contains(word), "{error}"),
            (read, expected) => assert_eq!(read.unwrap(), expected.unwrap(), "{text}"),
        }
    };
    check("", Ok(None));
    check(" , ", Ok(None));
    check("10.96.0.0/12", Ok(Some(&["10.96.0.0/12"])));
    check("fd00:96::/112, 10.96.0.0/12", Ok(Some(&["10.96.0.0/12", "fd00:96::/112"])));
    check("ten", Err("CALICO_ADVERTISE_CLUSTER_IPS"));
}
