//! What is tried again and what is not, and how a watch goes on, against a server that says what a script says.

use std::sync::Arc;

use calico_api::{Kind, Selection};
use calico_store::{Store, WatchError, WatchEvent};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex as AsyncMutex;

use super::*;
use crate::store::KubeStore;

/// A server with prepared answers. What it was asked, one line each, with `*` before the first of a connection.
#[derive(Clone)]
struct Script {
    answers: Arc<AsyncMutex<Vec<String>>>,
    asked: Arc<AsyncMutex<Vec<String>>>,
}

fn answer(code: u16, headers: &str, body: &str) -> String {
    format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n{headers}\r\n{body}", body.len())
}

async fn serve(answers: &[String]) -> (Script, KubernetesConfig) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(format!("http://{}/base", listener.local_addr().unwrap()));
    let script = Script {
        answers: Arc::new(AsyncMutex::new(answers.iter().rev().cloned().collect())),
        asked: Arc::default(),
    };
    let server = script.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(server.clone().talk(stream));
        }
    });
    let group = Some(calico_api::kubernetes::ApiGroup::CrdV1);
    (script, KubernetesConfig { endpoint, group, token: Some("t".to_owned()), ..KubernetesConfig::default() })
}

impl Script {
    async fn talk(self, mut stream: TcpStream) {
        let mut mark = "*";
        let mut buffer = Vec::new();
        loop {
            let head = loop {
                if let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                    let rest = buffer.split_off(end + 4);
                    break String::from_utf8(std::mem::replace(&mut buffer, rest)).unwrap();
                }
                if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
            };
            let length = head
                .to_lowercase()
                .lines()
                .find_map(|l| Some(l.strip_prefix("content-length: ")?.parse::<usize>().unwrap()));
            while buffer.len() < length.unwrap_or(0) {
                stream.read_buf(&mut buffer).await.unwrap();
            }
            buffer.drain(..length.unwrap_or(0));
            assert!(head.to_lowercase().contains("authorization: bearer t\r\n"), "{head}");
            let line = head.lines().next().unwrap().trim_end_matches(" HTTP/1.1");
            self.asked.lock().await.push(format!("{mark}{line}"));
            mark = "";
            let Some(answer) = self.answers.lock().await.pop() else { return };
            stream.write_all(answer.as_bytes()).await.unwrap();
            // Without a length the end of the connection is the end of the answer.
            if !answer.contains("content-length") {
                return;
            }
        }
    }

    async fn asked(&self) -> Vec<String> {
        self.asked.lock().await.clone()
    }
}

async fn check(call: Call, answers: &[String], code: u16, asked: &[&str]) {
    let (script, config) = serve(answers).await;
    let client = KubeClient::open(&config, &|_| None).unwrap();
    let found = match client.call(&call).await {
        Ok(_) => 200,
        Err(RequestError::Refused(refusal)) => refusal.code,
        Err(RequestError::Fault(fault)) => panic!("{fault:?}"),
    };
    assert_eq!(found, code);
    assert_eq!(script.asked().await, asked);
}

#[tokio::test]
async fn reads_are_tried_again_and_writes_are_not() {
    let ok = answer(200, "", "{}");
    let failed = answer(503, "", "{}");
    let get = || Call::get("/x");
    let put = || Call::put("/x", &serde_json::json!({ "a": 1 }));
    check(get(), &[failed.clone(), ok.clone()], 200, &["*GET /base/x", "GET /base/x"]).await;
    let four = vec![failed.clone(); 5];
    check(get(), &four, 503, &["*GET /base/x", "GET /base/x", "GET /base/x", "GET /base/x"]).await;
    check(put(), &[failed, ok.clone()], 503, &["*PUT /base/x"]).await;
    check(get(), &[answer(404, "", "{}"), ok.clone()], 404, &["*GET /base/x"]).await;
    check(get(), &[answer(401, "", "{}"), ok], 401, &["*GET /base/x"]).await;
}

#[tokio::test]
async fn whoever_is_told_to_wait_waits() {
    let busy = answer(429, "retry-after: 1\r\n", "{}");
    let put = Call::put("/x", &serde_json::json!({}));
    let started = Instant::now();
    check(put, &[busy, answer(200, "", "{}")], 200, &["*PUT /base/x", "PUT /base/x"]).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test]
async fn a_connection_that_ended_between_two_requests_is_no_error() {
    // The first answer's end is the connection's.
    let last = "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n{}".to_owned();
    let (script, config) = serve(&[last, answer(200, "", "{}")]).await;
    let client = KubeClient::open(&config, &|_| None).unwrap();
    for _ in 0..2 {
        client.call(&Call::put("/x", &serde_json::json!({}))).await.unwrap();
    }
    assert_eq!(script.asked().await, ["*PUT /base/x", "*PUT /base/x"]);
}

#[tokio::test]
async fn a_watch_goes_on_where_the_server_ended_it() {
    let head = "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n";
    let space = |name: &str, revision: u32| {
        format!(r#"{{"metadata":{{"name":"{name}","resourceVersion":"{revision}"}}}}"#)
    };
    let answers = [
        answer(200, "", r#"{"metadata":{"resourceVersion":"5"},"items":[]}"#),
        answer(200, "", r#"{"metadata":{"resourceVersion":"6"},"items":null}"#),
        format!(
            "{head}{{\"type\":\"ADDED\",\"object\":{}}}\n{{\"type\":\"BOOKMARK\",\"object\":{}}}\n",
            space("a", 7),
            space("", 9)
        ),
        // The service accounts' stream: open, and silent.
        "HTTP/1.1 200 X\r\ncontent-length: 1000\r\n\r\n".to_owned(),
        // Streams that ended before their time: whether the server is still the one it was is asked.
        answer(200, "", r#"{"metadata":{"resourceVersion":"9"},"items":[]}"#),
        format!("{head}{{\"type\":\"DELETED\",\"object\":{}}}\n", space("a", 11)),
        answer(200, "", r#"{"metadata":{"resourceVersion":"12"},"items":[]}"#),
        format!("{head}{{\"type\":\"ERROR\",\"object\":{{\"code\":410}}}}\n"),
    ];
    let (script, config) = serve(&answers).await;
    let store = KubeStore::open(&config, &|_| None).unwrap();
    let mut watch = store.watch(&Selection::all(Kind::Profile), None).await.unwrap();
    let mut told = Vec::new();
    let error = loop {
        match watch.next().await {
            Ok(WatchEvent::Put(entry)) => told.push(format!("+{}", entry.revision)),
            Ok(WatchEvent::Deleted { revision, .. }) => told.push(format!("-{revision}")),
            Ok(WatchEvent::Progress(revision)) => told.push(revision.to_string()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, WatchError::Compacted), "{error:?}");
    assert_eq!(told, ["5/6", "+7/", "9/6", "-11/", "11/6"]);
    let asked = script.asked().await;
    let revisions: Vec<&str> = asked
        .iter()
        .filter(|line| line.contains("/namespaces?"))
        .filter_map(|line| line.split("resourceVersion=").nth(1)?.split('&').next())
        .collect();
    assert_eq!(revisions, ["5", "9", "11"], "{asked:?}");
}

#[tokio::test]
async fn a_list_that_outlives_its_snapshot_begins_again() {
    let page = |next: &str, name: &str| {
        answer(
            200,
            "",
            &format!(
                r#"{{"metadata":{{"resourceVersion":"5","continue":"{next}"}},"items":[{{"metadata":{{"name":"{name}","resourceVersion":"1"}}}}]}}"#
            ),
        )
    };
    let expired = answer(410, "", r#"{"reason":"Expired"}"#);
    let accounts = answer(200, "", r#"{"metadata":{"resourceVersion":"5"},"items":[]}"#);
    let (_, config) = serve(&[page("x", "a"), expired, page("y", "a"), page("", "b"), accounts]).await;
    let store = KubeStore::open(&config, &|_| None).unwrap();
    let listing = store.list(&Selection::all(Kind::Profile)).await.unwrap();
    let names: Vec<String> = listing.entries.iter().map(|e| e.key.to_string()).collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(listing.revision.to_string(), "5/5");
}

/// Lists a kind from a server with these answers: the revision, or in what way it failed.
async fn listed(kind: Kind, answers: &[String]) -> Result<String, Fault> {
    let (_, config) = serve(answers).await;
    let store = KubeStore::open(&config, &|_| None).unwrap();
    let listing = store.list(&Selection::all(kind)).await;
    listing.map(|listing| listing.revision.to_string()).map_err(|error| error.fault)
}

#[tokio::test]
async fn only_an_api_server_can_say_that_a_resource_is_missing() {
    // What a balancer says whose server is away, and an API server of a path that it does not have.
    let no = || answer(404, "", "404 page not found\n");
    let groups = |name: &str| answer(200, "", &format!(r#"{{"groups":[{{"name":"{name}"}}]}}"#));
    let resources = |name: &str| answer(200, "", &format!(r#"{{"resources":[{{"name":"{name}"}}]}}"#));
    let (ours, plural) = ("crd.projectcalico.org", "globalnetworkpolicies");
    let unavailable = |listed: Result<String, Fault>| matches!(listed, Err(Fault::Unavailable(_)));

    let policies = Kind::GlobalNetworkPolicy;
    assert_eq!(listed(policies, &[no(), groups("apps")]).await.unwrap(), "-");
    assert_eq!(listed(policies, &[no(), groups(ours), resources("tiers")]).await.unwrap(), "-");
    assert_eq!(listed(policies, &[no(), groups(ours), no()]).await.unwrap(), "-");
    assert!(unavailable(listed(policies, &[no(), groups(ours), resources(plural)]).await));
    assert!(unavailable(listed(policies, &[no(), no()]).await), "a balancer without a server");
    assert!(unavailable(listed(policies, &[no(), answer(200, "", "<html>")]).await));
    // Who may not read what nobody has installed lacks nothing.
    let forbidden = || answer(403, "", r#"{"reason":"Forbidden"}"#);
    assert_eq!(listed(policies, &[forbidden(), groups("apps")]).await.unwrap(), "-");
    let denied = listed(policies, &[forbidden(), forbidden()]).await;
    assert!(matches!(denied, Err(Fault::Denied(f)) if f.to_string().contains(plural)), "what was asked for");
    let denied = listed(policies, &[forbidden(), groups(ours), resources(plural)]).await;
    assert!(matches!(denied, Err(Fault::Denied(_))), "{denied:?}");
    let denied = listed(Kind::Node, &[forbidden()]).await;
    assert!(matches!(denied, Err(Fault::Denied(_))), "{denied:?}");
    // Every server has these: their absence would open every pod.
    assert!(unavailable(listed(Kind::Node, &[no()]).await));
    assert!(unavailable(listed(Kind::KubernetesNetworkPolicy, &[no(), no()]).await));
}

#[tokio::test]
async fn what_becomes_unreadable_is_gone_until_it_can_be_read_again() {
    let head = "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n";
    let pod = |verb: &str, revision: u32, sources: &str| {
        let sources = format!(r#"{{"cni.projectcalico.org/allowedSourcePrefixes":"{sources}"}}"#);
        let meta = format!(
            r#"{{"name":"p","namespace":"ns","resourceVersion":"{revision}","annotations":{sources}}}"#
        );
        let spec = r#"{"nodeName":"n1"}"#;
        format!(r#"{{"type":"{verb}","object":{{"metadata":{meta},"spec":{spec}}}}}"#) + "\n"
    };
    let events = pod("ADDED", 6, "[]") + &pod("MODIFIED", 7, "x") + &pod("MODIFIED", 8, "[]");
    let events = events + &pod("MODIFIED", 9, "x") + &pod("DELETED", 10, "x");
    let answers = [
        answer(200, "", r#"{"metadata":{"resourceVersion":"5"},"items":[]}"#),
        format!("{head}{events}"),
        answer(200, "", r#"{"metadata":{"resourceVersion":"10"},"items":[]}"#),
        format!("{head}{{\"type\":\"ERROR\",\"object\":{{\"code\":410}}}}\n"),
    ];
    let (script, config) = serve(&answers).await;
    let store = KubeStore::open(&config, &|_| None).unwrap();
    let mut watch = store.watch(&Selection::all(Kind::WorkloadEndpoint), None).await.unwrap();
    let mut told = Vec::new();
    while let Ok(event) = watch.next().await {
        match event {
            WatchEvent::Put(entry) => told.push(format!("+{}", entry.revision)),
            WatchEvent::Deleted { key, revision } => {
                assert_eq!(key, calico_api::Key::resource(Kind::WorkloadEndpoint, "ns", "n1-k8s-p-eth0"));
                told.push(format!("-{revision}"));
            }
            WatchEvent::Progress(_) => {}
        }
    }
    assert_eq!(told, ["+6", "-7", "+8", "-9", "-10"]);
    let asked = script.asked().await;
    assert!(asked.last().unwrap().contains("resourceVersion=10&"), "{asked:?}");
}

#[tokio::test]
async fn a_server_with_an_older_history_is_not_waited_for() {
    let head = "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n";
    let empty = |revision: u32| {
        answer(200, "", &format!(r#"{{"metadata":{{"resourceVersion":"{revision}"}},"items":[]}}"#))
    };
    let bookmark = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"90"}}}"#;
    // It ends the stream in order and comes back as it was in its backup.
    let (script, config) = serve(&[empty(50), format!("{head}{bookmark}\n"), empty(20), empty(21)]).await;
    let store = KubeStore::open(&config, &|_| None).unwrap();
    let selection = Selection::all(Kind::Node);
    let mut watch = store.watch(&selection, None).await.unwrap();
    let mut reached = None;
    let end = loop {
        match watch.next().await {
            Ok(WatchEvent::Progress(revision)) => reached = Some(revision),
            Ok(event) => panic!("{event:?}"),
            Err(error) => break error,
        }
    };
    assert!(matches!(end, WatchError::Compacted), "{end:?}");
    // Nor is it by a watch that goes on from where the first stood.
    let again = store.watch(&selection, reached).await;
    assert!(matches!(again, Err(WatchError::Compacted)), "{again:?}");
    let asked = script.asked().await;
    let watches = asked.iter().filter(|line| line.contains("watch=true")).count();
    assert_eq!((watches, asked.len()), (1, 4), "{asked:?}");
}

#[tokio::test]
async fn what_cannot_even_be_named_is_listed_again() {
    let head = "HTTP/1.1 200 X\r\nconnection: close\r\n\r\n";
    let block = r#"{"metadata":{"name":"10-0-0-0-26","resourceVersion":"7"},"spec":{}}"#;
    let answers = [
        answer(200, "", r#"{"metadata":{"resourceVersion":"5"},"items":[]}"#),
        format!("{head}{{\"type\":\"DELETED\",\"object\":{block}}}\n"),
    ];
    let (_, config) = serve(&answers).await;
    let store = KubeStore::open(&config, &|_| None).unwrap();
    let selection = Selection::Blocks(calico_net::Family::V4);
    let mut watch = store.watch(&selection, None).await.unwrap();
    assert!(matches!(watch.next().await, Ok(WatchEvent::Progress(_))));
    let end = watch.next().await;
    assert!(matches!(end, Err(WatchError::Compacted)), "{end:?}");
}

#[tokio::test]
async fn who_may_not_label_old_affinities_selects_among_all() {
    let affinity = |node: &str| {
        format!(
            r#"{{"metadata":{{"name":"{node}-10-0-0-0-26","resourceVersion":"4"}},"spec":{{"node":"{node}","cidr":"10.0.0.0/26","state":"confirmed","deleted":"false"}}}}"#
        )
    };
    let list = |items: &[String]| {
        let items = items.join(",");
        answer(200, "", &format!(r#"{{"metadata":{{"resourceVersion":"5"}},"items":[{items}]}}"#))
    };
    let old = list(&[affinity("n1"), affinity("n2")]);
    let forbidden = answer(403, "", r#"{"reason":"Forbidden"}"#);
    let written = answer(200, "", r#"{"metadata":{"resourceVersion":"6"}}"#);
    let only = list(&[affinity("n1")]);
    let answers = [old.clone(), forbidden, old.clone(), old, written, only.clone(), only];
    let (script, config) = serve(&answers).await;
    let store = KubeStore::open(&config, &|_| None).unwrap();
    let owner = calico_api::AffinityOwner::Host("n1".into());
    let selection = Selection::Affinities { owner: Some(owner), family: None };
    // Refused; then it may, and after that nothing is left to label.
    for _ in 0..3 {
        assert_eq!(store.list(&selection).await.unwrap().entries.len(), 1);
    }
    let path = "/base/apis/crd.projectcalico.org/v1/blockaffinities";
    let (all, unlabelled) =
        (format!("GET {path}?limit="), format!("GET {path}?labelSelector=%21projectcalico"));
    let labelled = format!("GET {path}?labelSelector=projectcalico");
    let put = format!("PUT {path}/n1-10-0-0-0-26");
    let expected = [&unlabelled, &put, &all, &unlabelled, &put, &labelled, &labelled];
    let asked = script.asked().await;
    assert_eq!(asked.len(), expected.len(), "{asked:?}");
    for (line, begin) in asked.iter().zip(expected) {
        assert!(line.trim_start_matches('*').starts_with(begin), "{line} {begin}");
    }
}
