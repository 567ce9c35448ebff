//! The server over a real socket, with work that the test controls.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

use super::*;
use crate::arguments::Arguments;
use crate::client;
use crate::request::Plugin;

/// Waits for `release` in every ADD and in the container "stuck", counts, and says which file a descriptor is.
struct Held {
    started: AtomicUsize,
    release: Arc<Notify>,
    verbs: std::sync::Mutex<Vec<Verb>>,
}

#[async_trait::async_trait]
impl Work for Arc<Held> {
    async fn perform(
        &self,
        request: Request,
        netns: Option<OwnedFd>,
    ) -> Result<Option<serde_json::Value>, CniError> {
        self.started.fetch_add(1, Ordering::SeqCst);
        self.verbs.lock().expect("whole").push(request.arguments.verb);
        if request.arguments.container_id == "wrong" {
            return Err(CniError::new(Code::InvalidConfiguration, "planted", "planted"));
        }
        if request.arguments.container_id == "panics" {
            panic!("planted");
        }
        if request.arguments.verb == Verb::Add || request.arguments.container_id == "stuck" {
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

const SOCKET: &str = "cni.sock";

struct Fixture {
    dir: tempfile::TempDir,
    held: Arc<Held>,
    server: Arc<Server<Arc<Held>>>,
    shutdown: CancellationToken,
    serving: tokio::task::JoinHandle<io::Result<()>>,
}

impl Fixture {
    async fn start() -> Fixture {
        Fixture::start_in(tempfile::tempdir().expect("temporary directory")).await
    }

    async fn start_in(dir: tempfile::TempDir) -> Fixture {
        let held = Arc::new(Held {
            started: AtomicUsize::new(0),
            release: Arc::new(Notify::new()),
            verbs: std::sync::Mutex::default(),
        });
        let server = Server::new(held.clone(), &dir.path().join("spool"));
        let (socket, shutdown) = (dir.path().join(SOCKET), CancellationToken::new());
        let (serving, told) = (server.clone(), shutdown.clone());
        let serving = tokio::spawn(async move { serving.serve(&socket, told).await });
        Fixture { dir, held, server, shutdown, serving }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join(SOCKET)
    }

    /// Waits until the server has ended.
    async fn ended(&mut self) {
        (&mut self.serving).await.expect("no panic").expect("no error");
    }

    fn call(&self, request: Request, file: Option<std::fs::File>) -> tokio::task::JoinHandle<Response> {
        let socket = self.socket();
        tokio::task::spawn_blocking(move || {
            let long = Duration::from_secs(10);
            client::call(&socket, &request, file.as_ref().map(AsFd::as_fd), long, long).expect("answered")
        })
    }

    /// Waits until so many connections are served.
    async fn until_waiting(&self, count: usize) {
        while self.server.waiting.available_permits() != MAX_WAITING - count {
            tokio::task::yield_now().await;
        }
    }

    /// Waits until so many wait for the last request of the container.
    async fn until_asked(&self, container: &str, count: usize) {
        while self.server.queue.askers(&request(Verb::Add, container).arguments) != count {
            tokio::task::yield_now().await;
        }
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
    // Which of two calls comes first is the scheduler's choice.
    fixture.until_asked("a", 2).await;
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
async fn a_panic_is_an_error_and_its_retry_begins_anew() {
    let fixture = Fixture::start().await;
    for (verb, started) in [(Verb::Del, 1), (Verb::Del, 2), (Verb::Check, 3)] {
        let answer = fixture.call(request(verb, "panics"), None).await.expect("answered");
        assert!(matches!(answer, Response::Failed(_)), "{answer:?}");
        assert_eq!(fixture.held.started.load(Ordering::SeqCst), started);
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
async fn a_spooled_del_comes_before_an_add_of_its_container() {
    let fixture = Fixture::start().await;
    // The round at the start has found an empty spool; the next is seconds away.
    fixture.call(request(Verb::Del, "other"), None).await.expect("answered");
    let spool = fixture.dir.path().join("spool");
    spool::write(&spool, &request(Verb::Del, "a"), 1).expect("spooled");
    let add = fixture.call(request(Verb::Add, "a"), None);
    fixture.until_started(3).await;
    assert_eq!(spool::list(&spool).expect("listed"), Vec::<PathBuf>::new(), "done when the ADD begins");
    while !add.is_finished() {
        fixture.held.release.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert_eq!(fixture.held.started.load(Ordering::SeqCst), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spool_that_cannot_be_done_does_not_keep_the_socket_closed() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let spool = dir.path().join("spool");
    spool::write(&spool, &request(Verb::Del, "stuck"), 1).expect("spooled");
    let fixture = Fixture::start_in(dir).await;
    fixture.until_started(1).await;
    let answer = fixture.call(request(Verb::Del, "a"), None).await.expect("answered");
    assert!(matches!(answer, Response::Done(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_add_whose_plugin_has_gone_is_not_done_when_its_turn_comes() {
    let fixture = Fixture::start().await;
    let first = fixture.call(request(Verb::Add, "a"), None);
    fixture.until_started(1).await;
    let mut second = request(Verb::Add, "a");
    second.netconf = serde_json::json!({"name": "other"});
    let body = serde_json::to_vec(&second).expect("JSON");
    let mut plugin = UnixStream::connect(fixture.socket()).await.expect("connected");
    plugin.write_all(&header(&body).expect("short")).await.expect("written");
    plugin.write_all(&body).await.expect("written");
    fixture.until_waiting(2).await;
    drop(plugin);
    fixture.until_waiting(1).await;
    let del = fixture.call(request(Verb::Del, "a"), None);
    fixture.until_waiting(2).await;
    fixture.held.release.notify_one();
    first.await.expect("first");
    del.await.expect("the second does not hold it up");
    assert_eq!(*fixture.held.verbs.lock().expect("whole"), [Verb::Add, Verb::Del]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spooled_del_that_is_wrong_is_set_aside() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let spool = dir.path().join("spool");
    let file = spool::write(&spool, &request(Verb::Del, "wrong"), 1).expect("spooled");
    spool::write(&spool, &request(Verb::Del, "b"), 2).expect("spooled");
    let fixture = Fixture::start_in(dir).await;
    fixture.until_started(2).await;
    while fixture.server.spooled().expect("counted") > 0 {
        tokio::task::yield_now().await;
    }
    assert!(file.with_extension("bad").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_begun_is_answered_when_the_agent_ends_or_nothing_is_said() {
    let mut fixture = Fixture::start().await;
    let quick = fixture.call(request(Verb::Add, "a"), None);
    fixture.until_started(1).await;
    fixture.shutdown.cancel();
    while !quick.is_finished() {
        fixture.held.release.notify_waiters();
        tokio::task::yield_now().await;
    }
    assert!(matches!(quick.await.expect("in time"), Response::Done(_)));
    fixture.ended().await;

    let mut fixture = Fixture::start().await;
    let (socket, long) = (fixture.socket(), Duration::from_secs(10));
    let endless = tokio::task::spawn_blocking(move || {
        client::call(&socket, &request(Verb::Del, "stuck"), None, long, long)
    });
    fixture.until_started(1).await;
    fixture.shutdown.cancel();
    fixture.ended().await;
    endless.await.expect("no panic").expect_err("no answer: a DEL is spooled for the next agent");
}

#[test]
fn an_absent_agent_is_named() {
    let missing = Path::new("/nonexistent/cni.sock");
    let error = client::call(missing, &request(Verb::Add, "a"), None, Duration::ZERO, Duration::ZERO)
        .expect_err("nobody");
    assert!(error.to_string().contains("/nonexistent/cni.sock"), "{error}");
}

/// What a plugin never sends: nothing, half a header, a request that never comes to its end, the beginning of a TLS
/// handshake.
const UNFINISHED: [&[u8]; 4] =
    [b"", b"\0\0", b"\0\0\0\x40{\"protocol\":", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_holds_nobody_up() {
    let mut fixture = Fixture::start().await;
    let answered =
        async |container: &str| fixture.call(request(Verb::Del, container), None).await.expect("no panic");
    // The control.
    assert!(matches!(answered("first").await, Response::Done(_)));
    let begun = std::time::Instant::now();
    let mut silent = Vec::new();
    for unfinished in UNFINISHED {
        for _ in 0..MAX_WAITING / 2 / UNFINISHED.len() {
            let mut stream = UnixStream::connect(fixture.socket()).await.expect("connected");
            stream.write_all(unfinished).await.expect("written");
            silent.push(stream);
        }
    }
    assert!(matches!(answered("between them").await, Response::Done(_)));
    assert!(begun.elapsed() < REQUEST_TIMEOUT, "nobody's time was over");
    // Where all places are taken the answer says so at once.
    while fixture.server.waiting.available_permits() > 0 {
        silent.push(UnixStream::connect(fixture.socket()).await.expect("connected"));
        tokio::task::yield_now().await;
    }
    let Response::Failed(error) = answered("one too many").await else { panic!("there is no place") };
    assert_eq!((error.code, error.msg.as_str()), (Code::TryAgainLater.number(), "the agent is busy"));
    for stream in &mut silent {
        let mut said = Vec::new();
        // The end, or a reset: both say that it is over.
        let _ = stream.read_to_end(&mut said).await;
    }
    fixture.until_waiting(0).await;
    assert!(matches!(answered("last").await, Response::Done(_)));
    fixture.shutdown.cancel();
    fixture.ended().await;
}
