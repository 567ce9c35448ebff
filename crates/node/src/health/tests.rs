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

/// Virtual time: it passes when everybody waits.
#[tokio::test(start_paused = true)]
async fn who_says_nothing_holds_nobody_up() {
    let health = Health::new();
    let shutdown = CancellationToken::new();
    let (sender, receiver) = oneshot::channel();
    let serving = serve_health(("127.0.0.1", 0), health, |a| sender.send(a).unwrap(), shutdown.clone());
    let served = tokio::spawn(serving);
    let address = receiver.await.unwrap();
    let begun = Instant::now();
    let mut silent = Vec::new();
    for _ in 0..2 * visits::MAX_VISITS {
        silent.push(TcpStream::connect(address).await.unwrap());
    }
    assert!(get(address, "/liveness").await.starts_with("HTTP/1.0 204"));
    let waited = begun.elapsed();
    assert!(waited >= visits::MAX_STAY && waited < visits::MAX_STAY * 4, "{waited:?}");
    for stream in &mut silent {
        let mut nothing = Vec::new();
        // The end, or a reset: both say that it is over.
        assert_eq!(stream.read_to_end(&mut nothing).await.unwrap_or(0), 0);
    }
    shutdown.cancel();
    served.await.unwrap().unwrap();
}
