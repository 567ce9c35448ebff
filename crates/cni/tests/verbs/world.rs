//! The world of these tests: a host that is a network namespace of its own, a datastore in a temporary directory, and
//! containers that are namespaces.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use calico_api::node::NodeSpec;
use calico_api::workload_endpoint::WorkloadEndpointSpec;
use calico_api::{
    ClusterInformationSpec, IPPoolSpec, IpamBlock, Key, Kind, Resource, Selection, Spec, Write, decode,
    decode_record, encode,
};
use calico_cni::arguments::{Arguments, Verb};
use calico_cni::context::{Context, Expected, Live};
use calico_cni::error::CniError;
use calico_cni::kubernetes::{Api, ApiError};
use calico_cni::request::{PROTOCOL, Plugin, Request};
use calico_cni::work;
use calico_ipam::block::Slot;
use calico_linux::netns::Netns;
use calico_linux::rtnl::Rtnl;
use calico_linux::sysctl::Sysctl;
use calico_net::Family;
use calico_store::Store;
use calico_store::embedded::EmbeddedStore;
use futures::FutureExt;
use futures::future::BoxFuture;
use serde_json::{Value, json};

/// The node, and the network's name: as in the reference data.
pub const NODE: &str = "host1";
pub const NETWORK: &str = "k8s-pod-network";

pub struct World {
    pub context: Arc<Context>,
    pub kubernetes: Arc<Kubernetes>,
    pub store: Arc<dyn Store>,
    pub dir: tempfile::TempDir,
}

/// Runs a test on a host of its own; says so where that is not possible. Threads that the runtime starts are children
/// of the one in the namespace, and so in it too: the machine's own interfaces are never in sight.
pub fn on_host(test: impl AsyncFnOnce(World) + Send) {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: network namespaces need root");
        return;
    }
    let host = Netns::create().unwrap();
    host.run(|| {
        ip(&["link", "set", "lo", "up"]);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { test(World::start().await).await });
    })
    .unwrap();
}

/// Runs `ip`, which must succeed.
pub fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The Kubernetes API as a table of paths: the objects are written as the API server writes them.
#[derive(Default)]
pub struct Kubernetes(Mutex<HashMap<String, Value>>);

impl Kubernetes {
    pub fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().insert(path.to_owned(), object);
    }

    /// Pod `ns1/<name>` with these annotations, in a namespace with those.
    pub fn put_pod(&self, name: &str, annotations: Value, of_namespace: Value) {
        self.put(
            &format!("/api/v1/namespaces/ns1/pods/{name}"),
            json!({
                "kind": "Pod",
                "metadata": {"name": name, "namespace": "ns1", "uid": format!("uid-{name}"), "labels": {"app": name}, "annotations": annotations},
                "spec": {
                    "nodeName": NODE,
                    "serviceAccountName": "robot",
                    "containers": [{"name": "c", "ports": [{"name": "http", "containerPort": 80, "protocol": "TCP"}]}],
                },
            }),
        );
        let labels = json!({"kubernetes.io/metadata.name": "ns1", "team": "x"});
        self.put(
            "/api/v1/namespaces/ns1",
            json!({"metadata": {"labels": labels, "annotations": of_namespace}}),
        );
    }
}

#[async_trait::async_trait]
impl Api for Kubernetes {
    async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        Ok(self.0.lock().unwrap().get(path).cloned())
    }

    async fn create(&self, path: &str, _: Value) -> Result<Value, ApiError> {
        panic!("no attachment creates {path}")
    }

    async fn patch(&self, path: &str, _: Value) -> Result<(), ApiError> {
        panic!("no attachment patches {path}")
    }
}

/// Nobody waits for policy here.
struct Never;

impl Live for Never {
    fn wait_live(&self, _: Expected, _: Duration) -> BoxFuture<'_, bool> {
        async { panic!("no patience, no wait") }.boxed()
    }
}

impl World {
    async fn start() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path().join("calico.db")).unwrap());
        let kubernetes = Arc::new(Kubernetes::default());
        let context = Arc::new(Context {
            kubernetes: Some(kubernetes.clone()),
            ..Context::new(store.clone(), NODE, "cali", Arc::new(Never))
        });
        let world = World { context, kubernetes, store, dir };
        world.put(Resource::new("", NODE, NodeSpec::default())).await;
        world.set_ready(true).await;
        world.add_pool("pool4", "10.65.0.0/24").await;
        world.add_pool("pool6", "fd00:65::/116").await;
        world
    }

    pub async fn put<S: Spec>(&self, resource: Resource<S>) {
        self.store.commit(&[Write::put(resource.key().into(), encode(&resource))]).await.unwrap();
    }

    pub async fn set_ready(&self, ready: bool) {
        let spec =
            ClusterInformationSpec { datastore_ready: Some(ready), ..ClusterInformationSpec::default() };
        self.put(Resource::new("", "default", spec)).await;
    }

    pub async fn add_pool(&self, name: &str, cidr: &str) {
        let spec = IPPoolSpec {
            cidr: cidr.parse::<calico_net::Cidr>().unwrap().to_string().into(),
            ..IPPoolSpec::default()
        };
        self.put(Resource::new("", name, spec)).await;
    }

    pub async fn delete(&self, key: &Key) {
        let entry = self.store.get(key).await.unwrap().unwrap();
        self.store.commit(&[Write::delete(entry.key, entry.revision)]).await.unwrap();
    }

    /// Carries out a verb for a container.
    pub async fn run(
        &self,
        verb: Verb,
        container: &Container,
        conf: &Value,
    ) -> Result<Option<Value>, CniError> {
        self.run_in(verb, container, conf, container.descriptor()).await
    }

    /// The same with any descriptor, or none, as the namespace.
    pub async fn run_in(
        &self,
        verb: Verb,
        container: &Container,
        conf: &Value,
        netns: Option<OwnedFd>,
    ) -> Result<Option<Value>, CniError> {
        self.perform(Plugin::Network, container.arguments(verb), conf, netns).await
    }

    pub async fn perform(
        &self,
        plugin: Plugin,
        arguments: Arguments,
        conf: &Value,
        netns: Option<OwnedFd>,
    ) -> Result<Option<Value>, CniError> {
        let request = Request { protocol: PROTOCOL, plugin, arguments, netconf: conf.clone() };
        work::perform(&self.context, request, netns).await
    }

    /// ADD that must work: the result.
    pub async fn add(&self, container: &Container, conf: &Value) -> Value {
        self.run(Verb::Add, container, conf).await.unwrap().unwrap()
    }

    /// DEL that must work.
    pub async fn del(&self, container: &Container, conf: &Value) {
        assert_eq!(self.run(Verb::Del, container, conf).await, Ok(None));
    }

    pub async fn check(&self, container: &Container, conf: &Value) -> Result<(), CniError> {
        self.run(Verb::Check, container, conf).await.map(drop)
    }

    pub async fn endpoints(&self) -> Vec<Resource<WorkloadEndpointSpec>> {
        let listing = self.store.list(&Selection::all(Kind::WorkloadEndpoint)).await.unwrap();
        listing.entries.iter().map(|e| decode(e).unwrap()).collect()
    }

    /// All that attachments leave, on the host and in the datastore.
    pub async fn footprint(&self) -> Footprint {
        let names = |entries: Vec<calico_api::Entry>| entries.iter().map(|e| e.key.to_string()).collect();
        let list = async |selection| self.store.list(&selection).await.unwrap().entries;
        let mut assigned = BTreeSet::new();
        for family in Family::ALL {
            for entry in list(Selection::Blocks(family)).await {
                let block: IpamBlock = decode_record(&entry).unwrap();
                // A released ordinal may keep its slot until it has cooled down.
                let used = (0..block.allocations.len()).filter(|n| {
                    let ordinal = u16::try_from(*n).unwrap();
                    matches!(calico_ipam::block::slot(&block, ordinal), Slot::Used(_))
                });
                assigned.extend(used.map(|n| format!("{} {n}", block.cidr)));
            }
        }
        let links = Rtnl::open().unwrap().read_links().unwrap();
        let routes = Family::ALL.map(|f| {
            Rtnl::open()
                .and_then(|mut r| {
                    r.read_links()?;
                    r.read_routes(f, 254)
                })
                .unwrap()
        });
        Footprint {
            endpoints: names(list(Selection::all(Kind::WorkloadEndpoint)).await),
            handles: names(list(Selection::Handles).await),
            assigned,
            links: links.iter().map(|l| l.name.to_string()).collect(),
            routes: routes.iter().flatten().map(|r| format!("{r:?}")).collect(),
        }
    }
}

/// What [`World::footprint`] finds.
#[derive(Clone, Debug, PartialEq)]
pub struct Footprint {
    pub endpoints: BTreeSet<String>,
    pub handles: BTreeSet<String>,
    pub assigned: BTreeSet<String>,
    pub links: BTreeSet<String>,
    pub routes: BTreeSet<String>,
}

/// A container: an id, a namespace, and a pod if it is one.
pub struct Container {
    pub id: String,
    pub netns: Netns,
    pub args: String,
    pub ifname: String,
}

impl Container {
    pub fn new(id: &str) -> Container {
        Container {
            id: id.to_owned(),
            netns: Netns::create().unwrap(),
            args: String::new(),
            ifname: "eth0".to_owned(),
        }
    }

    /// A sandbox of pod `ns1/<pod>`.
    pub fn of_pod(id: &str, pod: &str) -> Container {
        Container {
            args: format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=ns1;K8S_POD_NAME={pod}"),
            ..Container::new(id)
        }
    }

    pub fn descriptor(&self) -> Option<OwnedFd> {
        Some(self.netns.as_fd().try_clone_to_owned().unwrap())
    }

    pub fn arguments(&self, verb: Verb) -> Arguments {
        Arguments {
            verb,
            container_id: self.id.clone(),
            netns: format!("/run/netns/{}", self.id),
            ifname: self.ifname.clone(),
            args: self.args.clone(),
            path: "/usr/lib/cni".to_owned(),
        }
    }

    /// Runs `ip` inside.
    pub fn ip(&self, arguments: &[&str]) -> String {
        self.netns.run(|| ip(arguments)).unwrap()
    }

    /// Reads a kernel parameter inside.
    pub fn sysctl(&self, name: &str) -> String {
        self.netns.run(|| Sysctl::default().read(name).unwrap()).unwrap()
    }
}

/// A network configuration of both families.
pub fn conf() -> Value {
    json!({
        "cniVersion": "1.1.0",
        "name": NETWORK,
        "type": "calico",
        // Said, so that no agent's file on this machine matters.
        "mtu": 1500,
        "ipam": {"type": "calico-ipam", "assign_ipv6": "true"},
    })
}

/// [`conf`] with members replaced.
pub fn conf_with(members: Value) -> Value {
    let mut conf = conf();
    for (name, value) in members.as_object().unwrap() {
        conf[name] = value.clone();
    }
    conf
}

/// The addresses of a result, without prefix lengths.
pub fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

/// A file of the reference data; `None`, with a word to the reader, where that is absent.
pub fn reference(name: &str) -> Option<String> {
    let shared = std::env::var_os("CALICO_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let text = std::fs::read_to_string(shared.join("data").join(name)).ok();
    if text.is_none() {
        println!("skipped: no ../shared");
    }
    text
}
