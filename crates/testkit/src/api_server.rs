//! A Kubernetes API server of a test's own: etcd and kube-apiserver on loopback, in a temporary directory, gone with
//! the test. Who asks is said by a token, so that a test may ask as anybody whom it names at the start.

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long the servers may take to come up: three seconds on an idle machine.
const START: Duration = Duration::from_secs(120);
/// Between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(50);

/// The user that may do everything.
pub const ADMIN: &str = "admin";

/// The servers.
pub struct ApiServer {
    dir: tempfile::TempDir,
    programs: PathBuf,
    port: u16,
    etcd_port: u16,
    etcd: Child,
    server: Child,
}

/// A port of loopback that nobody uses at this moment.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
    listener.local_addr().expect("the listener has an address").port()
}

/// The multi-call binary of Kubernetes' programs that the lab builds and keeps outside the tree.
fn programs() -> Option<PathBuf> {
    let cache = std::env::var_os("CALICO_LAB_CACHE").map_or_else(
        || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(".cache/calico-lab"),
        Into::into,
    );
    let binary = cache.join("bin/hyperkube");
    binary.exists().then_some(binary)
}

impl ApiServer {
    /// Starts the servers, with [`ADMIN`] and further users as (name, groups), and waits until they serve. `None` where
    /// Kubernetes' programs have not been built, after saying so.
    pub fn start(users: &[(&str, &[&str])]) -> Option<ApiServer> {
        let Some(programs) = programs() else {
            println!("skipped: Kubernetes' programs are not built (`calico lab k8s up` builds them)");
            return None;
        };
        let dir = tempfile::tempdir().expect("a temporary directory");
        write_tokens(dir.path(), users);
        make_key(dir.path());
        let (port, etcd_port, peer_port) = (free_port(), free_port(), free_port());
        let (client, peer) =
            (format!("http://127.0.0.1:{etcd_port}"), format!("http://127.0.0.1:{peer_port}"));
        let etcd = spawn(
            &programs,
            dir.path(),
            "etcd",
            &[
                format!("--data-dir={}", dir.path().join("etcd").display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
                "--unsafe-no-fsync".to_owned(),
                "--log-level=warn".to_owned(),
            ],
        );
        let server = spawn_server(&programs, dir.path(), port, etcd_port);
        let started = ApiServer { dir, programs, port, etcd_port, etcd, server };
        started.until_ready();
        Some(started)
    }

    /// SIGKILL to the API server; etcd goes on.
    ///
    /// # Panics
    /// When it cannot be killed.
    pub fn kill(&mut self) {
        self.server.kill().expect("the API server can be killed");
        self.server.wait().expect("the API server ends");
    }

    /// Starts the API server again, on the same port and the same etcd, and waits until it serves.
    pub fn revive(&mut self) {
        self.server = spawn_server(&self.programs, self.dir.path(), self.port, self.etcd_port);
        self.until_ready();
    }

    /// `http://127.0.0.1:…`, where its etcd listens.
    pub fn etcd(&self) -> String {
        format!("http://127.0.0.1:{}", self.etcd_port)
    }

    fn until_ready(&self) {
        self.until("the API server is ready", || self.request(ADMIN, "GET", "/readyz", None).0 == 200);
    }

    /// `https://127.0.0.1:…`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.port)
    }

    /// The certificate to trust, PEM.
    pub fn ca(&self) -> PathBuf {
        self.dir.path().join("tls/apiserver.crt")
    }

    /// The token of a user that was named at the start.
    pub fn token(user: &str) -> String {
        format!("token-{}", user.replace(':', "-"))
    }

    /// A kubeconfig of a user; the file goes with the server.
    pub fn kubeconfig(&self, user: &str) -> PathBuf {
        let path = self.dir.path().join(format!("{}.conf", user.replace(':', "-")));
        let config = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "contexts": [{ "name": "test", "context": { "cluster": "test", "user": "test" } }],
            "clusters": [{ "name": "test", "cluster": { "server": self.url(), "certificate-authority": self.ca() } }],
            "users": [{ "name": "test", "user": { "token": Self::token(user) } }],
        });
        std::fs::write(&path, config.to_string()).expect("the kubeconfig is written");
        path
    }

    /// One request as a user: status and body; status 0 where no answer came.
    pub fn request(&self, user: &str, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        self.request_as(user, method, path, "application/json", body)
    }

    /// The same with a content type of one's own, for patches.
    pub fn request_as(
        &self,
        user: &str,
        method: &str,
        path: &str,
        kind: &str,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let mut curl = Command::new("curl");
        curl.args([
            "--silent",
            "--show-error",
            "--write-out",
            "\n%{http_code}",
            "--request",
            method,
            "--cacert",
        ])
        .arg(self.ca())
        .args(["--header", &format!("Authorization: Bearer {}", Self::token(user))])
        .args(["--header", &format!("Content-Type: {kind}")]);
        if let Some(body) = body {
            let file = self.dir.path().join("body");
            std::fs::write(&file, body.to_string()).expect("the body is written");
            curl.arg("--data-binary").arg(format!("@{}", file.display()));
        }
        let output = curl.arg(format!("{}{path}", self.url())).output().expect("curl is installed");
        let text = String::from_utf8_lossy(&output.stdout);
        let (body, status) = text.rsplit_once('\n').unwrap_or(("", "0"));
        (status.parse().unwrap_or(0), serde_json::from_str(body).unwrap_or_default())
    }

    /// Applies documents as kubectl does on the server's side: makes them, or gives them these contents.
    ///
    /// # Panics
    /// When the server refuses one.
    pub fn apply(&self, path: &str, document: &Value) -> Value {
        let name = document["metadata"]["name"].as_str().expect("the document has a name");
        let target = format!("{path}/{name}?fieldManager=test&force=true");
        let (status, body) =
            self.request_as(ADMIN, "PATCH", &target, "application/apply-patch+yaml", Some(document));
        assert!(status == 200 || status == 201, "{target}: {status} {body}");
        body
    }

    /// Applies CustomResourceDefinitions and waits until the server serves them.
    ///
    /// # Panics
    /// When the server refuses one, or does not establish it in time.
    pub fn define(&self, definitions: &[Value]) {
        const PATH: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        for definition in definitions {
            self.apply(PATH, definition);
        }
        for definition in definitions {
            let name = definition["metadata"]["name"].as_str().expect("the definition has a name");
            self.until(&format!("{name} is established"), || {
                let (_, found) = self.request(ADMIN, "GET", &format!("{PATH}/{name}"), None);
                let conditions = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
                conditions.iter().any(|c| c["type"] == "Established" && c["status"] == "True")
            });
        }
    }

    /// Waits for a condition.
    ///
    /// # Panics
    /// When it does not come true in time.
    pub fn until(&self, what: &str, condition: impl Fn() -> bool) {
        let deadline = Instant::now() + START;
        while !condition() {
            assert!(Instant::now() < deadline, "not in time: {what}\n{}", self.last_words());
            std::thread::sleep(LOOK);
        }
    }

    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.dir.path().join("kube-apiserver.log")).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(10)..].join("\n")
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in [&mut self.server, &mut self.etcd] {
            // It may be dead already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Starts one of Kubernetes' programs; its log goes on where it ended.
fn spawn(programs: &Path, dir: &Path, name: &str, arguments: &[String]) -> Child {
    let log = File::options().create(true).append(true).open(dir.join(format!("{name}.log"))).expect("a log");
    Command::new(programs)
        .arg0(name)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("the log again"))
        .stderr(log)
        .spawn()
        .expect("the program starts")
}

fn spawn_server(programs: &Path, dir: &Path, port: u16, etcd_port: u16) -> Child {
    let path = |name: &str| dir.join(name).display().to_string();
    spawn(
        programs,
        dir,
        "kube-apiserver",
        &[
            format!("--etcd-servers=http://127.0.0.1:{etcd_port}"),
            "--bind-address=127.0.0.1".to_owned(),
            "--advertise-address=127.0.0.1".to_owned(),
            format!("--secure-port={port}"),
            // It makes a certificate for itself there.
            format!("--cert-dir={}", path("tls")),
            format!("--token-auth-file={}", path("tokens")),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--service-cluster-ip-range=10.96.0.0/16".to_owned(),
            "--allow-privileged=true".to_owned(),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", path("accounts.key")),
            format!("--service-account-signing-key-file={}", path("accounts.key")),
            "--endpoint-reconciler-type=none".to_owned(),
        ],
    )
}

/// The file of tokens: token, name, identity, groups.
fn write_tokens(dir: &Path, users: &[(&str, &[&str])]) {
    let mut lines = String::new();
    for (user, groups) in users.iter().copied().chain([(ADMIN, &["system:masters"] as &[&str])]) {
        lines += &format!("{},{user},{user},\"{}\"\n", ApiServer::token(user), groups.join(","));
    }
    std::fs::write(dir.join("tokens"), lines).expect("the tokens are written");
}

/// The key that signs tokens of service accounts.
fn make_key(dir: &Path) {
    let made = Command::new("openssl")
        .args(["ecparam", "-genkey", "-noout", "-name", "prime256v1", "-out"])
        .arg(dir.join("accounts.key"))
        .output()
        .expect("openssl is installed");
    assert!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
}
