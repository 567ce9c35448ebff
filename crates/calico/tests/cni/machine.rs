//! A machine for plugins to work on: network and mount namespaces of its own, with an empty `/run` and `/var/lib`, a
//! datastore, and the binary under its two names.

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use calico_api::node::NodeSpec;
use calico_api::{
    ClusterInformationSpec, IPPoolSpec, Kind, Resource, Selection, Spec, Write as Step, encode,
};
use calico_cni::context::{Context, Expected, Live};
use calico_cni::server::Server;
use calico_linux::netns::Netns;
use calico_linux::rtnl::Rtnl;
use calico_store::Store;
use calico_store::embedded::EmbeddedStore;
use futures::FutureExt;
use futures::future::BoxFuture;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

/// Plugins of others.
pub const OTHERS: &str = "/usr/lib/cni";

pub struct Machine {
    pub dir: tempfile::TempDir,
}

/// Runs a test on a machine of its own. Processes that it starts see only that one; everything ends with the thread.
pub fn on_machine(test: impl FnOnce(Machine) + Send + 'static) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: namespaces need root");
        return;
    }
    let work = || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        for dir in ["/run", "/var/lib"] {
            mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        }
        run("ip", &["link", "set", "lo", "up"]);
        test(Machine::start());
    };
    // The thread that has left the namespaces of the process ends here.
    let worker = std::thread::Builder::new().name("machine".into()).spawn(work).unwrap();
    if let Err(panic) = worker.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Runs a program, which must succeed.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Waits until a condition holds, ten seconds at most.
pub fn wait_for(what: &str, happened: impl FnMut() -> bool) {
    let happened = calico_lab::until(Duration::from_secs(10), Duration::from_millis(1), happened);
    assert!(happened, "{what} did not happen");
}

/// A plugin that runs.
pub struct Plugin(std::process::Child);

impl Plugin {
    /// What it printed; the error object if it failed.
    pub fn finish(self) -> Result<Value, Value> {
        let Output { status, stdout, stderr } = self.0.wait_with_output().unwrap();
        let text = String::from_utf8(stdout).unwrap();
        let said = String::from_utf8_lossy(&stderr);
        let document = if text.is_empty() {
            Value::Null
        } else {
            serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}: {text:?}, {said}"))
        };
        match status.code() {
            Some(0) => Ok(document),
            Some(1) => Err(document),
            other => panic!("ended with {other:?}: {text} {said}"),
        }
    }
}

impl Machine {
    fn start() -> Machine {
        let machine = Machine { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir(machine.bin()).unwrap();
        for name in ["calico", "calico-ipam"] {
            symlink(env!("CARGO_BIN_EXE_calico"), machine.bin().join(name)).unwrap();
        }
        let pool = |name: &str, cidr: &str| {
            Resource::new("", name, IPPoolSpec { cidr: cidr.into(), ..IPPoolSpec::default() })
        };
        let ready =
            ClusterInformationSpec { datastore_ready: Some(true), ..ClusterInformationSpec::default() };
        let store = machine.store();
        let put = |step| store.commit_blocking(&[step]).unwrap();
        put(step(&Resource::new("", "host1", NodeSpec::default())));
        put(step(&Resource::new("", "default", ready)));
        put(step(&pool("pool4", "10.65.0.0/24")));
        put(step(&pool("pool6", "fd00:65::/116")));
        machine
    }

    pub fn bin(&self) -> PathBuf {
        self.dir.path().join("bin")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.path().join("cni.sock")
    }

    pub fn spool(&self) -> PathBuf {
        self.dir.path().join("spool")
    }

    pub fn database(&self) -> PathBuf {
        self.dir.path().join("calico.db")
    }

    pub fn store(&self) -> EmbeddedStore {
        EmbeddedStore::open(self.database()).unwrap()
    }

    /// A configuration without a datastore or an agent.
    pub fn conf(&self) -> Value {
        json!({
            "cniVersion": "1.1.0",
            "name": "net1",
            "type": "calico",
            "ipam": {"type": "calico-ipam", "assign_ipv6": "true"},
        })
    }

    /// A configuration to work directly.
    pub fn direct(&self) -> Value {
        let mut conf = self.conf();
        conf["datastore_type"] = "embedded".into();
        conf["datastore_path"] = self.database().to_str().unwrap().into();
        conf["nodename"] = "host1".into();
        conf
    }

    /// A configuration to ask the agent.
    pub fn through_agent(&self) -> Value {
        let mut conf = self.conf();
        conf["agent_socket"] = self.socket().to_str().unwrap().into();
        conf["spool_dir"] = self.spool().to_str().unwrap().into();
        conf
    }

    /// Makes a container: a namespace under `/run/netns`.
    pub fn container(&self, name: &str) -> Netns {
        run("ip", &["netns", "add", name]);
        Netns::open(&Path::new("/run/netns").join(name)).unwrap()
    }

    /// Starts a plugin with these CNI variables.
    pub fn spawn(&self, plugin: &str, environment: &[(&str, &str)], input: &[u8]) -> Plugin {
        let mut child = Command::new(self.bin().join(plugin))
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_PATH", format!("{}:{OTHERS}", self.bin().display()))
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        Plugin(child)
    }

    /// Starts the network plugin for a container made by [`Machine::container`].
    pub fn start_verb(&self, verb: &str, container: &str, conf: &Value) -> Plugin {
        let netns = format!("/run/netns/{container}");
        let environment = [
            ("CNI_COMMAND", verb),
            ("CNI_CONTAINERID", container),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", "eth0"),
        ];
        self.spawn("calico", &environment, conf.to_string().as_bytes())
    }

    /// Runs it to its end.
    pub fn verb(&self, verb: &str, container: &str, conf: &Value) -> Result<Value, Value> {
        self.start_verb(verb, container, conf).finish()
    }

    /// What attachments leave: keys of endpoints and handles, and interfaces.
    pub fn leftovers(&self) -> BTreeSet<String> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = self.store();
        let mut found = BTreeSet::new();
        for selection in [Selection::all(Kind::WorkloadEndpoint), Selection::Handles] {
            let listing = runtime.block_on(store.list(&selection)).unwrap();
            found.extend(listing.entries.iter().map(|e| e.key.to_string()));
        }
        let links = Rtnl::open().unwrap().read_links().unwrap();
        found.extend(links.iter().map(|l| l.name.to_string()).filter(|name| name != "lo"));
        found
    }

    /// Starts an agent's CNI server.
    pub fn agent(&self) -> Agent {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let store = Arc::new(self.store());
        let server = Server::new(Context::new(store, "host1", "cali", Arc::new(AtOnce)), &self.spool());
        let shutdown = CancellationToken::new();
        let socket = self.socket();
        let token = shutdown.clone();
        let serving = runtime.spawn(async move { server.serve(&socket, token).await });
        wait_for("listening", || std::os::unix::net::UnixStream::connect(self.socket()).is_ok());
        Agent { runtime, serving, shutdown }
    }
}

fn step<S: Spec>(resource: &Resource<S>) -> Step {
    Step::create(resource.key().into(), encode(resource))
}

/// Policy is in force at once.
struct AtOnce;

impl Live for AtOnce {
    fn wait_live(&self, _: Expected, _: Duration) -> BoxFuture<'_, bool> {
        async { true }.boxed()
    }
}

/// A running server.
pub struct Agent {
    runtime: tokio::runtime::Runtime,
    serving: tokio::task::JoinHandle<std::io::Result<()>>,
    shutdown: CancellationToken,
}

impl Agent {
    /// Stops it, in order.
    pub fn stop(self) {
        self.shutdown.cancel();
        self.runtime.block_on(self.serving).unwrap().unwrap();
    }
}
