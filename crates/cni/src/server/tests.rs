//! The server over a real socket, with work that the test controls.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;
use crate::arguments::Arguments;
use crate::client;
use crate::request::Plugin;

/// Waits for `release` in every ADD, counts, and says which file a descriptor is.
struct Held {
    started: AtomicUsize,
    release: Arc<Notify>,
}

#[async_trait::async_trait]
impl Work for Arc<Held> {
    async fn perform(
        &self,
        request: Request,
        netns: Option<OwnedFd>,
    ) -> Result<Option<serde_json::Value>, CniError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        if request.arguments.container_id == "panics" {
            panic!("planted");
        }
        if request.arguments.verb == Verb::Add {
            self.release.notified().await;
        }
        let seen = netns.and_then(|fd| std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok());
        Ok(Some(serde_json::json!({"container": request.arguments.container_id, "netns": seen})))
    }
}

fn request(verb: Verb, container: &str) -> Request {
    Request {
        protocol: PROTOCOL,
        plugin: Plugin::Network,
        arguments: Arguments {
            verb,
            container_id: container.to_owned(),
            netns: String::new(),
            ifname: "eth0".to_owned(),
            args: String::new(),
            path: String::new(),
        },
        netconf: serde_json::json!({"name": "n"}),
    }
}

struct Fixture {
    dir: tempfile::TempDir,
    held: Arc<Held>,
    shutdown: CancellationToken,
}

impl Fixture {
    async fn start() -> Fixture {
        let dir = tempfile::tempdir().expect("temporary directory");
        let fixture = Fixture {
            held: Arc::new(Held { started: AtomicUsize::new(0), release: Arc::new(Notify::new()) }),
            shutdown: CancellationToken::new(),
            dir,
        };
        let server = Server::new(fixture.held.clone(), &fixture.dir.path().join("spool"));
        let (socket, shutdown) = (fixture.socket(), fixture.shutdown.clone());
        tokio::spawn(async move { server.serve(&socket, shutdown).await });
        fixture
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("cni.sock")
    }

    fn call(&self, request: Request, file: Option<std::fs::File>) -> tokio::task::JoinHandle<Response> {
        let socket = self.socket();
        tokio::task::spawn_blocking(move || {
            let long = Duration::from_secs(10);
            client::call(&socket, &request, file.as_ref().map(AsFd::as_fd), long, long).expect("answered")
        })
    }

    async fn until_started(&self, count: usize) {
        while self.held.started.load(Ordering::SeqCst) < count {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retries_join_and_other_verbs_wait() {
    let fixture = Fixture::start().await;
    let first = fixture.call(request(Verb::Add, "a"), None);
    fixture.until_started(1).await;
    let retry = fixture.call(request(Verb::Add, "a"), None);
    let del = fixture.call(request(Verb::Del, "a"), None);
    let other = fixture.call(request(Verb::Del, "b"), None);
    other.await.expect("another container does not wait");
    assert_eq!(fixture.held.started.load(Ordering::SeqCst), 2, "the retry joined, the DEL waits");
    while !del.is_finished() {
        fixture.held.release.notify_waiters();
        tokio::task::yield_now().await;
    }
    let (first, retry) = (first.await.expect("first"), retry.await.expect("retry"));
    assert_eq!(first, retry);
    assert_eq!(
        del.await.expect("del"),
        Response::Done(Some(serde_json::json!({"container": "a", "netns": null})))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_descriptor_arrives() {
    let fixture = Fixture::start().await;
    let path = fixture.dir.path().join("netns").canonicalize().unwrap_or(fixture.dir.path().join("netns"));
    let file = std::fs::File::create(&path).expect("file");
    let answer = fixture.call(request(Verb::Del, "a"), Some(file)).await.expect("answered");
    assert_eq!(answer, Response::Done(Some(serde_json::json!({"container": "a", "netns": path}))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_panic_is_an_error_and_does_not_block_the_container() {
    let fixture = Fixture::start().await;
    for verb in [Verb::Del, Verb::Check] {
        let answer = fixture.call(request(verb, "panics"), None).await.expect("answered");
        assert!(matches!(answer, Response::Failed(_)), "{answer:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_protocol_is_refused_by_name() {
    let fixture = Fixture::start().await;
    let answer =
        fixture.call(Request { protocol: 99, ..request(Verb::Del, "a") }, None).await.expect("answered");
    let Response::Failed(error) = answer else { panic!("{answer:?}") };
    assert!(error.details.contains("protocol 99"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spooled_requests_are_done_before_the_socket_opens() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let spool = dir.path().join("spool");
    spool::write(&spool, &request(Verb::Del, "old"), 1).expect("spooled");
    let held = Arc::new(Held { started: AtomicUsize::new(0), release: Arc::new(Notify::new()) });
    let server = Server::new(held.clone(), &spool);
    let socket = dir.path().join("cni.sock");
    let task = tokio::spawn({
        let socket = socket.clone();
        async move { server.serve(&socket, CancellationToken::new()).await }
    });
    while !socket.exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(held.started.load(Ordering::SeqCst), 1);
    assert_eq!(spool::list(&spool).expect("listed"), Vec::<PathBuf>::new());
    task.abort();
}

#[test]
fn an_absent_agent_is_named() {
    let missing = Path::new("/nonexistent/cni.sock");
    let error = client::call(missing, &request(Verb::Add, "a"), None, Duration::ZERO, Duration::ZERO)
        .expect_err("nobody");
    assert!(error.to_string().contains("/nonexistent/cni.sock"), "{error}");
}
