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
        if Command::new("etcd").arg("--version").output().is_err() {
            println!("skipped: etcd is not installed (Debian package etcd-server)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (client_port, peer_port) = (free_port(), free_port());
        let arguments: Vec<String> = arguments.iter().map(|a| (*a).to_owned()).collect();
        let child = spawn(&dir, client_port, peer_port, &arguments);
        let server = Server { dir, client_port, peer_port, arguments, child };
        if server.arguments.is_empty() {
            server.until_up().await;
        }
        Some(server)
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
        self.child = spawn(&self.dir, self.client_port, self.peer_port, &self.arguments);
        self.until_up().await;
    }

    /// Forgets its data.
    pub fn wipe(&self) {
        std::fs::remove_dir_all(self.dir.path().join("data")).unwrap();
    }

    async fn until_up(&self) {
        let client = Client::connect([self.endpoint()], None).await.unwrap();
        until_up(&EtcdStore::new(client)).await;
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

fn spawn(dir: &tempfile::TempDir, client_port: u16, peer_port: u16, arguments: &[String]) -> Child {
    let scheme = if arguments.is_empty() { "http" } else { "https" };
    let client = format!("{scheme}://127.0.0.1:{client_port}");
    let peer = format!("http://127.0.0.1:{peer_port}");
    let log = std::fs::File::options().create(true).append(true).open(dir.path().join("log")).unwrap();
    Command::new("etcd")
        .args(["--name", "test", "--logger", "zap", "--data-dir"])
        .arg(dir.path().join("data"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .args(["--initial-cluster", &format!("test={peer}"), "--initial-cluster-state", "new"])
        // A quick election: the shortest lease and the wait after a restart are multiples of it.
        .args(["--heartbeat-interval", "20", "--election-timeout", "200"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap()
}
