//! The sum of reports, and what a probe sees of it.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::*;

const BOTH: Promise = Promise { live: true, ready: true, timeout: Some(Duration::from_secs(10)) };

fn good() -> Report {
    Report { live: true, ready: true, detail: String::new() }
}

#[test]
fn nobody_is_well() {
    let summary = Health::new().summary(Instant::now());
    assert_eq!(summary, Summary { live: true, ready: true, detail: String::new() });
}

#[test]
fn a_part_is_ready_only_after_its_report() {
    let health = Health::new();
    let now = Instant::now();
    let part = health.register("dataplane", BOTH);
    let summary = health.summary(now);
    assert_eq!((summary.live, summary.ready), (true, false));
    assert_eq!(summary.detail, "dataplane: live, not ready: no report yet\n");
    part.report_at(good(), now);
    assert_eq!(health.summary(now).detail, "dataplane: live, ready\n");
}

#[test]
fn silence_is_bad() {
    let health = Health::new();
    let now = Instant::now();
    health.register("loop", BOTH).report_at(good(), now);
    assert!(health.summary(now + Duration::from_secs(10)).live);
    let summary = health.summary(now + Duration::from_secs(11));
    assert_eq!((summary.live, summary.ready), (false, false));
    assert!(summary.detail.contains("silent for 11 s"), "{}", summary.detail);
}

#[test]
fn only_what_counts_counts() {
    let health = Health::new();
    let now = Instant::now();
    let ready_only = Promise { live: false, ready: true, timeout: None };
    health.register("bird", ready_only).report_at(Report { live: false, ..good() }, now);
    let live_only = Promise { live: true, ready: false, timeout: None };
    health.register("loop", live_only).report_at(Report { ready: false, ..good() }, now);
    let summary = health.summary(now);
    assert_eq!((summary.live, summary.ready), (true, true));
    assert_eq!(summary.detail, "bird: -, ready\nloop: live, -\n");
}

async fn get(address: std::net::SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    text
}

#[tokio::test]
async fn probes() {
    let health = Health::new();
    let shutdown = CancellationToken::new();
    let (sender, receiver) = oneshot::channel();
    let served = tokio::spawn({
        let (health, shutdown) = (health.clone(), shutdown.clone());
        async move { serve_health(("127.0.0.1", 0), health, |a| sender.send(a).unwrap(), shutdown).await }
    });
    let address = receiver.await.unwrap();
    assert!(get(address, "/liveness").await.starts_with("HTTP/1.0 204"));
    let part = health.register("bgp", BOTH);
    part.not_ready("none of 2 established");
    assert!(get(address, "/liveness").await.starts_with("HTTP/1.0 200"));
    let refused = get(address, "/readiness").await;
    assert!(refused.starts_with("HTTP/1.0 503") && refused.contains("none of 2"), "{refused}");
    part.good();
    assert!(get(address, "/readiness").await.starts_with("HTTP/1.0 200"));
    assert!(get(address, "/other").await.starts_with("HTTP/1.0 404"));
    shutdown.cancel();
    served.await.unwrap().unwrap();
}

/// What is never finished: nothing, a request that trickles in, the beginning of a TLS handshake, and requests whose
/// answers nobody reads.
const UNFINISHED: [&[u8]; 4] = [
    b"",
    b"GET /liveness HTTP/1.1\r\nX-Slow: ",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /liveness HTTP/1.1\r\nHost: node\r\n\r\n",
];

/// A server of health on loopback, until the token is cancelled.
async fn serve(shutdown: &CancellationToken) -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = oneshot::channel();
    let shutdown = shutdown.clone();
    let served = tokio::spawn(async move {
        let bound = |address| sender.send(address).unwrap();
        serve_health(("127.0.0.1", 0), Health::new(), bound, shutdown).await.unwrap();
    });
    (receiver.await.unwrap(), served)
}

/// A connection of a guest: all of 127.0.0.0/8 is here.
async fn connect(from: &str, to: std::net::SocketAddr) -> TcpStream {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// One answer on a connection that goes on.
async fn ask(stream: &mut TcpStream) -> String {
    stream.write_all(b"GET /liveness HTTP/1.1\r\nHost: node\r\n\r\n").await.unwrap();
    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.expect("an answer");
        text.push(byte);
    }
    String::from_utf8(text).unwrap()
}

async fn is_over(stream: &mut TcpStream) {
    let mut said = Vec::new();
    // The end, or a reset: both say that it is over.
    let _ = stream.read_to_end(&mut said).await;
}

/// The others' patience: an answer takes milliseconds, and nobody's place comes free by itself so soon.
const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn who_takes_every_place_takes_it_from_itself() {
    let shutdown = CancellationToken::new();
    let (address, served) = serve(&shutdown).await;
    for unfinished in UNFINISHED {
        // The control: before anybody is in the way.
        let mut scraper = connect("127.0.0.2", address).await;
        assert!(ask(&mut scraper).await.starts_with("HTTP/1.1 204"));
        let mut silent = Vec::new();
        for _ in 0..3 * visits::MAX_VISITS {
            let mut stream = connect("127.0.0.1", address).await;
            // It may be over already, which is what it is about.
            let _ = stream.write_all(unfinished).await;
            silent.push(stream);
        }
        let answered = async {
            assert!(ask(&mut scraper).await.starts_with("HTTP/1.1 204"), "who was here before");
            for from in ["127.0.0.1", "127.0.0.3"] {
                assert!(ask(&mut connect(from, address).await).await.starts_with("HTTP/1.1 204"), "{from}");
            }
            // There is room for so many: the others' descriptors are free again.
            for stream in &mut silent[..2 * visits::MAX_VISITS] {
                is_over(stream).await;
            }
        };
        tokio::time::timeout(SOON, answered).await.expect("long before their time is over");
    }
    shutdown.cancel();
    served.await.unwrap();
}

/// Virtual time: it passes when everybody waits.
#[tokio::test(start_paused = true)]
async fn nobody_stays_for_ever() {
    let shutdown = CancellationToken::new();
    let (address, served) = serve(&shutdown).await;
    for unfinished in UNFINISHED {
        let begun = Instant::now();
        let mut stream = connect("127.0.0.1", address).await;
        stream.write_all(unfinished).await.unwrap();
        is_over(&mut stream).await;
        let stayed = begun.elapsed();
        assert!(stayed < visits::MAX_STAY * 2, "{stayed:?}");
    }
    shutdown.cancel();
    served.await.unwrap();
}
