//! Cases about lists: exactly what the selection holds, as one snapshot.

use calico_api::key::AffinityOwner;
use calico_api::{Key, Kind, Selection, Write};
use calico_net::{Cidr, Family};

use super::document::{document, meaning, text};
use super::{Subject, create, is_kept, policies, policy, put};
use crate::store::{Atomicity, MAX_WRITES, Store};

/// Puts keys, each with its own text as value.
async fn fill(store: &dyn Store, keys: &[Key]) {
    let puts: Vec<Write> = keys.iter().map(|key| create(key, &key.to_string())).collect();
    let commits = puts.chunks(100).map(|chunk| store.commit(chunk));
    // Side by side: a sequential store takes a request for each key.
    for committed in futures::future::join_all(commits).await {
        committed.unwrap();
    }
}

async fn listed(store: &dyn Store, selection: &Selection) -> Vec<Key> {
    let listing = store.list(selection).await.unwrap();
    for entry in &listing.entries {
        let expected = document(&entry.key, &entry.key.to_string());
        assert_eq!(meaning(&entry.value), meaning(&expected), "{}", entry.key);
    }
    let mut keys: Vec<Key> = listing.entries.into_iter().map(|e| e.key).collect();
    keys.sort();
    keys
}

async fn expect(store: &dyn Store, selection: &Selection, keys: &[&Key]) {
    let mut keys: Vec<Key> = keys.iter().map(|k| (*k).clone()).collect();
    keys.sort();
    assert_eq!(listed(store, selection).await, keys, "{selection:?}");
}

pub(super) async fn a_list_is_exact(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let empty = store.list(&policies()).await.unwrap();
    assert!(empty.entries.is_empty());
    let keys = [
        Key::resource(Kind::GlobalNetworkSet, "", "a"),
        Key::resource(Kind::GlobalNetworkSet, "", "a.b"),
        Key::resource(Kind::IPReservation, "", "a"),
        policy("a", "p"),
        Key::resource(Kind::NetworkSet, "a", "p"),
        Key::resource(Kind::GlobalNetworkPolicy, "", "p"),
        Key::resource(Kind::StagedNetworkPolicy, "a", "p"),
    ];
    fill(&*store, &keys).await;
    expect(&*store, &Selection::all(Kind::GlobalNetworkSet), &[&keys[0], &keys[1]]).await;
    expect(&*store, &policies(), &[&keys[3]]).await;
    expect(&*store, &Selection::all(Kind::HostEndpoint), &[]).await;
    let listing = store.list(&policies()).await.unwrap();
    assert_ne!(listing.revision, empty.revision);
    assert_eq!(listing.history, empty.history);
    assert_eq!(listing.history, subject.again().await.list(&policies()).await.unwrap().history);
}

pub(super) async fn namespaces_and_name_prefixes(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let set = |ns: &str, name: &str| Key::resource(Kind::NetworkSet, ns, name);
    let keys = [set("a", "n1-k8s-x"), set("a", "n1-k8s-xy"), set("ab", "n1-k8s-x"), set("a", "n2-k8s-x")];
    fill(&*store, &keys).await;
    let select = |namespace: Option<&str>, name_prefix: &str| Selection::Resources {
        kind: Kind::NetworkSet,
        namespace: namespace.map(Into::into),
        name_prefix: name_prefix.into(),
    };
    expect(&*store, &select(Some("a"), ""), &[&keys[0], &keys[1], &keys[3]]).await;
    expect(&*store, &select(Some("a"), "n1-"), &[&keys[0], &keys[1]]).await;
    expect(&*store, &select(Some("ab"), ""), &[&keys[2]]).await;
    expect(&*store, &select(None, "n1-k8s-x"), &[&keys[0], &keys[1], &keys[2]]).await;
    expect(&*store, &select(None, ""), &keys.each_ref()).await;
    expect(&*store, &select(Some("b"), ""), &[]).await;
}

pub(super) async fn one_object_of_a_kind(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let set = |ns: &str, name: &str| Key::resource(Kind::NetworkSet, ns, name);
    let global = |name: &str| Key::resource(Kind::GlobalNetworkSet, "", name);
    let policy = |name: &str| Key::resource(Kind::NetworkPolicy, "a", name);
    let keys = [set("a", "x"), set("a", "xy"), set("a", "x.y"), set("b", "x"), global("x"), global("x1")];
    let policies = [policy("x"), policy("default.x"), policy("x-y")];
    fill(&*store, &keys).await;
    fill(&*store, &policies).await;
    for key in keys.iter().chain(&policies) {
        let Key::Resource(resource) = key else { unreachable!("all are resources") };
        expect(&*store, &Selection::Resource(resource.clone()), &[key]).await;
    }
    for (kind, namespace, name) in [
        (Kind::NetworkSet, "ab", "x"),
        (Kind::NetworkSet, "a", "y"),
        (Kind::GlobalNetworkSet, "", "x2"),
        (Kind::GlobalNetworkSet, "", ""),
    ] {
        expect(&*store, &Selection::one(kind, namespace, name), &[]).await;
    }
}

pub(super) async fn ipam_records_and_statuses(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let v4: Cidr = "10.0.0.0/26".parse().unwrap();
    let v6: Cidr = "fd00::/122".parse().unwrap();
    let host = |n: &str| AffinityOwner::Host(n.into());
    let affinity = |owner: AffinityOwner, block| Key::Affinity { owner, block };
    let status = |host: &str| Key::WorkloadStatus {
        host: host.into(),
        orchestrator: "k8s".into(),
        workload: "ns/pod".into(),
        endpoint: "eth0".into(),
    };
    let keys = [
        Key::Block(v4),
        Key::Block(v6),
        Key::Handle("h1".into()),
        affinity(host("n1"), v4),
        affinity(host("n1"), v6),
        affinity(host("n11"), v4),
        affinity(AffinityOwner::Virtual("load-balancer".into()), v4),
        status("n1"),
        status("n11"),
        Key::FelixStatus("n1".into()),
        Key::HostStatus { host: "n1".into(), endpoint: "eth0".into() },
    ];
    let mut kept = Vec::new();
    for key in keys.iter().chain(&[Key::IpamConfig, Key::IpamHost("n1".into())]) {
        if is_kept(&*store, key).await {
            kept.push(key.clone());
        }
    }
    fill(&*store, &kept).await;
    expect(&*store, &Selection::Blocks(Family::V4), &[&keys[0]]).await;
    expect(&*store, &Selection::Blocks(Family::V6), &[&keys[1]]).await;
    expect(&*store, &Selection::Handles, &[&keys[2]]).await;
    let all = Selection::Affinities { owner: None, family: None };
    expect(&*store, &all, &[&keys[3], &keys[4], &keys[5], &keys[6]]).await;
    let v4_of_all = Selection::Affinities { owner: None, family: Some(Family::V4) };
    expect(&*store, &v4_of_all, &[&keys[3], &keys[5], &keys[6]]).await;
    let of_n1 = Selection::Affinities { owner: Some(host("n1")), family: None };
    expect(&*store, &of_n1, &[&keys[3], &keys[4]]).await;
    let v6_of_n1 = Selection::Affinities { owner: Some(host("n1")), family: Some(Family::V6) };
    expect(&*store, &v6_of_n1, &[&keys[4]]).await;
    let statuses: Vec<&Key> = keys[7..].iter().filter(|key| kept.contains(key)).collect();
    let of_n11: Vec<&Key> = statuses.iter().filter(|key| ***key == keys[8]).copied().collect();
    expect(&*store, &Selection::Statuses(Some("n11".into())), &of_n11).await;
    let of_n1 = Selection::Statuses(Some("n1".into()));
    let selected: Vec<&Key> = statuses.iter().filter(|key| of_n1.contains(key)).copied().collect();
    expect(&*store, &of_n1, &selected).await;
    expect(&*store, &Selection::Statuses(None), &statuses).await;
}

pub(super) async fn a_long_list_is_one_snapshot(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let count = subject.long_list();
    let keys: Vec<Key> = (0..count).map(|n| policy("ns", &format!("p{n:05}"))).collect();
    fill(&*store, &keys).await;
    // The first key always changes just before the last one, and so must any list show them.
    let (first, last) = (keys[0].clone(), keys[count - 1].clone());
    let both = move |round: u64| [put(&first, &round.to_string()), put(&last, &round.to_string())];
    store.commit(&both(1)).await.unwrap();
    let other = subject.again().await;
    let writer = tokio::spawn(async move {
        for round in 2.. {
            other.commit(&both(round)).await.unwrap();
        }
    });
    for _ in 0..5 {
        let listing = store.list(&policies()).await.unwrap();
        assert_eq!(listing.entries.len(), count);
        assert!(listing.entries.windows(2).all(|w| w[0].key < w[1].key), "not in order");
        let round = |n: usize| text(&listing.entries[n].value).parse::<u64>().unwrap();
        let behind = round(0) - round(count - 1);
        assert!(behind == 0 || store.atomicity() == Atomicity::Sequential && behind == 1, "{behind}");
    }
    writer.abort();
}

/// More keys than one transaction has operations, absent ones among them, and a selection of several pages.
pub(super) async fn what_is_read_at_once_is_what_is_read_one_by_one(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let nothing = store.read(&[], &[]).await.unwrap();
    assert!(nothing.entries.is_empty() && nothing.listings.is_empty());
    let keys: Vec<Key> = (0..subject.long_list()).map(|n| policy("a", &format!("p{n:05}"))).collect();
    fill(&*store, &keys).await;
    fill(&*store, &[policy("ab", "p"), Key::resource(Kind::GlobalNetworkSet, "", "s")]).await;
    let namespace = |name: &str| Selection::Resources {
        kind: Kind::NetworkPolicy,
        namespace: Some(name.into()),
        name_prefix: "".into(),
    };
    let selections =
        [namespace("b"), namespace("a"), namespace("ab"), Selection::all(Kind::GlobalNetworkSet)];
    let mut asked: Vec<Key> = keys.iter().take(2 * MAX_WRITES).cloned().collect();
    asked.insert(1, policy("a", "absent"));
    asked.push(policy("ab", "p"));
    let found = store.read(&asked, &selections).await.unwrap();
    assert_eq!((found.entries.len(), found.listings.len()), (asked.len(), selections.len()));
    for (key, entry) in asked.iter().zip(&found.entries) {
        assert_eq!(*entry, store.get(key).await.unwrap(), "{key}");
    }
    for (selection, entries) in selections.iter().zip(&found.listings) {
        assert_eq!(*entries, store.list(selection).await.unwrap().entries, "{selection:?}");
    }
    assert_eq!(found.listings[1].len(), keys.len());
    let only = store.read(&[], &selections[2..3]).await.unwrap();
    assert_eq!((only.entries.len(), only.listings[0].len()), (0, 1));
}
