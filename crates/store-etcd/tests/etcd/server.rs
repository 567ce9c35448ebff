//! An etcd server of a test's own: on loopback, in a temporary directory, gone with the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use calico_api::Key;
use calico_store::Store;
use calico_store_etcd::EtcdStore;
use etcd_client::Client;

/// How long a server may take to come up.
const START: Duration = Duration::from_secs(30);

pub struct Server {
    dir: tempfile::TempDir,
    name: &'static str,
    /// `name=peer URL` of every member.
    cluster: String,
    client_port: u16,
    peer_port: u16,
    arguments: Vec<String>,
    child: Child,
}

/// A port of loopback that nobody uses at this moment.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Server {
    /// Starts a server and waits until it serves. `None` where etcd is not installed, after saying so.
    pub async fn start(arguments: &[&str]) -> Option<Server> {
        is_installed().then_some(())?;
        let peer_port = free_port();
        let server = Server::spawn("test", peer_port, &format!("test={}", peer_url(peer_port)), arguments);
        if server.arguments.is_empty() {
            server.until_up().await;
        }
        Some(server)
    }

    /// A cluster of two: neither serves without the other.
    pub async fn start_pair() -> Option<[Server; 2]> {
        is_installed().then_some(())?;
        let ports = [free_port(), free_port()];
        let cluster = format!("one={},two={}", peer_url(ports[0]), peer_url(ports[1]));
        let pair =
            [Server::spawn("one", ports[0], &cluster, &[]), Server::spawn("two", ports[1], &cluster, &[])];
        pair[0].until_up().await;
        Some(pair)
    }

    fn spawn(name: &'static str, peer_port: u16, cluster: &str, arguments: &[&str]) -> Server {
        let dir = tempfile::tempdir().unwrap();
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let (client_port, cluster) = (free_port(), cluster.to_owned());
        let child = spawn(&dir, name, &cluster, client_port, peer_port, &arguments);
        Server { dir, name, cluster, client_port, peer_port, arguments, child }
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    /// SIGKILL, and nothing else.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts it again on the same ports and data.
    pub async fn revive(&mut self) {
        let Server { dir, name, cluster, client_port, peer_port, arguments, .. } = &*self;
        self.child = spawn(dir, name, cluster, *client_port, *peer_port, arguments);
        self.until_up().await;
    }

    /// Forgets its data.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.dir.path().join("data")).unwrap();
    }

    async fn until_up(&self) {
        let client = Client::connect([self.endpoint()], None).await.unwrap();
        until_up(&EtcdStore::new(client, "etcd")).await;
    }
}

/// Waits until a store answers.
pub async fn until_up(store: &dyn Store) {
    let deadline = Instant::now() + START;
    while let Err(error) = store.get(&Key::IpamConfig).await {
        assert!(Instant::now() < deadline, "etcd is not up: {error:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be dead already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether etcd can be started; says so where it can not.
fn is_installed() -> bool {
    let is_there = Command::new("etcd").arg("--version").output().is_ok();
    if !is_there {
        println!("skipped: etcd is not installed (Debian package etcd-server)");
    }
    is_there
}

fn peer_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

fn spawn(
    dir: &tempfile::TempDir,
    name: &str,
    cluster: &str,
    client_port: u16,
    peer_port: u16,
    arguments: &[String],
) -> Child {
    let scheme = if arguments.is_empty() { "http" } else { "https" };
    let client = format!("{scheme}://127.0.0.1:{client_port}");
    let peer = peer_url(peer_port);
    let log = std::fs::File::options().create(true).append(true).open(dir.path().join("log")).unwrap();
    Command::new("etcd")
        .args(["--name", name, "--logger", "zap", "--data-dir"])
        .arg(dir.path().join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", cluster, "--initial-cluster-state", "new"])
        // A quick election: the shortest lease and the wait after a restart are multiples of it.
        .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
