//! The store against a real etcd: the contract, reference data, death and rebirth of the server, TLS and login.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a test: it reads its own environment and files, and stops at the first surprise"
)]

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use calico_api::{Entry, Key, Kind, Selection, Write};
use calico_store::config::Settings;
use calico_store::contract::{self, Subject, follow_until};
use calico_store::{Fault, Store, Syncer, SyncerOptions};
use calico_store_etcd::{ConnectError, EtcdStore, connect};
use etcd_client::{Client, ConnectOptions, DeleteOptions};

#[path = "etcd/certificates.rs"]
mod certificates;
#[path = "etcd/server.rs"]
mod server;

use server::Server;

struct Etcd(Server);

impl Etcd {
    async fn client(&self) -> Client {
        Client::connect([self.0.endpoint()], None::<ConnectOptions>).await.unwrap()
    }
}

#[async_trait]
impl Subject for Etcd {
    async fn fresh(&self) -> Arc<dyn Store> {
        let mut client = self.client().await;
        client.delete("/calico/", Some(DeleteOptions::new().with_prefix())).await.unwrap();
        Arc::new(EtcdStore::new(client, "etcd"))
    }

    async fn again(&self) -> Arc<dyn Store> {
        Arc::new(EtcdStore::new(self.client().await, "etcd"))
    }
}

/// A policy of a test's own.
fn policy(name: &str) -> Key {
    Key::resource(Kind::NetworkPolicy, "ns", name)
}

async fn put(store: &dyn Store, name: &str, value: &str) {
    store.commit(&[Write::put(policy(name), Bytes::from(value.to_owned()))]).await.unwrap();
}

async fn state(store: &dyn Store) -> BTreeMap<Key, Entry> {
    let listing = store.list(&Selection::all(Kind::NetworkPolicy)).await.unwrap();
    listing.entries.into_iter().map(|e| (e.key.clone(), e)).collect()
}

fn settings(pairs: &[(&str, &str)]) -> Settings {
    Settings::from_environment(&|name| {
        pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
    })
}

#[tokio::test]
async fn etcd_keeps_the_contract() {
    let Some(server) = Server::start(&[]).await else { return };
    let only = std::env::var("CASE").ok();
    contract::check(&Etcd(server), only.as_deref()).await;
}

#[tokio::test]
async fn reference_data_survives() {
    let shared = std::env::var("CALICO_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned());
    let Ok(text) = std::fs::read_to_string(format!("{shared}/data/etcd-samples.txt")) else {
        println!("skipped: no ../shared");
        return;
    };
    let Some(server) = Server::start(&[]).await else { return };
    let pairs = contract::parse_pairs(&text);
    assert!(pairs.len() > 50);
    let etcd = Etcd(server);
    contract::check_round_trip(&*etcd.fresh().await, &pairs).await;
    // Byte for byte under the very keys.
    let mut client = etcd.client().await;
    for line in text.lines().filter(|l| l.starts_with('/')) {
        assert_eq!(client.get(line, None).await.unwrap().count(), 1, "{line}");
    }
}

#[tokio::test]
async fn a_syncer_outlives_the_server() {
    let Some(server) = Server::start(&[]).await else { return };
    let mut etcd = Etcd(server);
    let store = etcd.again().await;
    for n in 0..20 {
        put(&*store, &format!("p{n}"), "1").await;
    }
    let options = SyncerOptions::default();
    let kinds = vec![Selection::all(Kind::NetworkPolicy), Selection::all(Kind::Profile)];
    let mut syncer = Syncer::spawn(etcd.again().await, kinds, options);
    let mut view = BTreeMap::new();
    follow_until(&mut syncer, &mut view, |view, in_sync| in_sync && view.len() == 20).await;

    // kill -9, the same data again; writes before the syncer notices and after.
    for round in 0..3 {
        put(&*store, "before", &round.to_string()).await;
        etcd.0.kill();
        etcd.0.revive().await;
        let store = etcd.again().await;
        put(&*store, &format!("after-{round}"), "1").await;
        let gone = Write::Delete { key: policy(&format!("p{round}")), expect: calico_api::Expect::Any };
        store.commit(&[gone]).await.unwrap();
        let now = state(&*store).await;
        follow_until(&mut syncer, &mut view, |view, _| *view == now).await;
    }

    // Away, and compacted before the syncer is back.
    etcd.0.kill();
    etcd.0.revive().await;
    let store = etcd.again().await;
    put(&*store, "p10", "2").await;
    store.commit(&[Write::Delete { key: policy("p11"), expect: calico_api::Expect::Any }]).await.unwrap();
    let here = store.list(&Selection::all(Kind::NetworkPolicy)).await.unwrap().revision;
    store.compact(&here).await.unwrap();
    let now = state(&*store).await;
    follow_until(&mut syncer, &mut view, |view, _| *view == now).await;

    // Wiped: another history, in which the same keys have the same revisions as before but other values. (It stays
    // behind the old one, or nothing in the protocol would tell.)
    etcd.0.kill();
    etcd.0.wipe();
    etcd.0.revive().await;
    let store = etcd.again().await;
    for n in 0..10 {
        put(&*store, &format!("p{n}"), "other").await;
    }
    let now = state(&*store).await;
    follow_until(&mut syncer, &mut view, |view, _| *view == now).await;
    let health = syncer.health();
    let connected = async {
        while !health.is_connected() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), connected).await.unwrap();
}

/// A member that is cut off from the others hears nothing more and would keep its watches open, silent for ever.
#[tokio::test]
async fn a_watch_ends_with_the_members_leader() {
    let Some([first, mut second]) = Server::start_pair().await else { return };
    let config = settings(&[("ETCD_ENDPOINTS", &first.endpoint())]).resolve().unwrap();
    let store = connect(&config).await.unwrap();
    put(&*store, "p", "1").await;
    let mut watch = store.watch(&Selection::all(Kind::NetworkPolicy), None).await.unwrap();
    while !matches!(watch.next().await.unwrap(), calico_store::WatchEvent::Progress(_)) {}
    second.kill();
    let ended = tokio::time::timeout(std::time::Duration::from_secs(30), watch.next()).await.unwrap();
    assert!(matches!(ended, Err(calico_store::WatchError::Lost(Fault::Unavailable(_)))), "{ended:?}");
    second.revive().await;
    server::until_up(&*store).await;
    store.watch(&Selection::all(Kind::NetworkPolicy), None).await.unwrap();
}

#[tokio::test]
async fn an_absent_server_is_unavailable_and_soon() {
    let port = server::free_port();
    let config = settings(&[("ETCD_ENDPOINTS", &format!("http://127.0.0.1:{port}"))]).resolve().unwrap();
    let store = connect(&config).await.unwrap();
    let error =
        tokio::time::timeout(std::time::Duration::from_secs(5), store.get(&policy("p"))).await.unwrap();
    assert!(error.unwrap_err().fault.is_transient());
    let commit = store.commit(&[Write::put(policy("p"), Bytes::new())]).await;
    assert!(matches!(commit, Err(calico_store::CommitError::Fault(Fault::Unavailable(_)))), "{commit:?}");
}

#[tokio::test]
async fn kubernetes_is_refused_in_words() {
    let config = settings(&[("DATASTORE_TYPE", "kubernetes")]).resolve().unwrap();
    let Err(error) = connect(&config).await else { panic!("connected") };
    assert_eq!(
        error.to_string(),
        "datastore type kubernetes is opened elsewhere; here are etcdv3 and embedded"
    );
}

#[tokio::test]
async fn tls_with_client_certificates() {
    let Some(certs) = certificates::make() else { return };
    let (ca, cert, key) = (certs.path("ca.pem"), certs.path("server.pem"), certs.path("server.key"));
    let arguments =
        ["--cert-file", &cert, "--key-file", &key, "--trusted-ca-file", &ca, "--client-cert-auth"];
    let Some(server) = Server::start(&arguments).await else { return };
    let endpoint = server.endpoint().replace("http://", "https://");
    let (client_cert, client_key) = (certs.path("client.pem"), certs.path("client.key"));
    let all = [
        ("ETCD_ENDPOINTS", endpoint.as_str()),
        ("ETCD_CA_CERT_FILE", &ca),
        ("ETCD_CERT_FILE", &client_cert),
        ("ETCD_KEY_FILE", &client_key),
    ];
    let store = connect(&settings(&all).resolve().unwrap()).await.unwrap();
    server::until_up(&*store).await;
    put(&*store, "p", "1").await;
    assert_eq!(state(&*store).await.len(), 1);
    // Without a certificate, and without trusting the authority.
    for fields in [&all[..2], &all[..1]] {
        let store = connect(&settings(fields).resolve().unwrap()).await.unwrap();
        assert!(store.get(&policy("p")).await.is_err());
    }
    let missing = [all[0], ("ETCD_CA_CERT_FILE", "/nonexistent/ca.pem")];
    let error = connect(&settings(&missing).resolve().unwrap()).await.err().unwrap();
    assert_eq!(error.to_string(), "cannot read /nonexistent/ca.pem");
}

#[tokio::test]
async fn login_and_rights() {
    let Some(server) = Server::start(&[]).await else { return };
    let endpoint = server.endpoint();
    let mut client = Client::connect([&endpoint], None).await.unwrap();
    client.user_add("root", "secret", None).await.unwrap();
    client.user_grant_role("root", "root").await.unwrap();
    client.user_add("guest", "guest", None).await.unwrap();
    client.auth_enable().await.unwrap();
    let login = |user: &str, password: &str| {
        let vars =
            [("ETCD_ENDPOINTS", endpoint.as_str()), ("ETCD_USERNAME", user), ("ETCD_PASSWORD", password)];
        settings(&vars).resolve().unwrap()
    };
    let store = connect(&login("root", "secret")).await.unwrap();
    put(&*store, "p", "1").await;
    let Err(ConnectError::Etcd { source, .. }) = connect(&login("root", "wrong")).await else { panic!() };
    assert!(matches!(source, Fault::Denied(_)), "{source:?}");
    let guest = connect(&login("guest", "guest")).await.unwrap();
    assert!(matches!(guest.get(&policy("p")).await.unwrap_err().fault, Fault::Denied(_)));
    let watch = guest.watch(&Selection::all(Kind::NetworkPolicy), Some(1.into())).await;
    let Err(calico_store::WatchError::Lost(Fault::Denied(_))) = watch else { panic!("{watch:?}") };
    let anonymous = connect(&settings(&[("ETCD_ENDPOINTS", &endpoint)]).resolve().unwrap()).await.unwrap();
    let error = anonymous.get(&policy("p")).await.unwrap_err();
    assert!(matches!(error.fault, Fault::Denied(_)), "{error:?}");
}
