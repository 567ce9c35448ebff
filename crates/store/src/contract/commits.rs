//! Cases about commits: expectations, atomicity, time to live.

use std::time::Duration;

use bytes::Bytes;
use calico_api::key::AffinityOwner;
use calico_api::{Expect, Key, Revision, Selection, Write};
use calico_net::Family;
use serde_json::json;

use super::document::{Seen, document, meaning, seen, text};
use super::{Subject, create, is_kept, next_change, policies, policy, put, write};
use crate::error::CommitError;
use crate::store::{Atomicity, MAX_WRITES, Store};
use crate::watch::WatchEvent;

/// The failing step, and what is there instead.
async fn conflict(store: &dyn Store, writes: &[Write]) -> (usize, Option<Seen>) {
    match store.commit(writes).await {
        Err(CommitError::Conflict { index, key, current }) => {
            assert_eq!(key, *writes[index].key());
            (index, current.map(|entry| (*entry).into()))
        }
        other => panic!("no conflict but {other:?}"),
    }
}

async fn get(store: &dyn Store, key: &Key) -> Option<Seen> {
    store.get(key).await.unwrap().map(Seen::from)
}

/// A compare-and-swap to a document that carries a text.
fn update(key: &Key, text: &str, revision: &Revision) -> Write {
    Write::update(key.clone(), document(key, text), revision.clone())
}

pub(super) async fn a_key_is_created_once(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "p");
    assert_eq!(get(&*store, &key).await, None);
    let revision = write(&*store, create(&key, "1")).await;
    let there = Some(seen(&key, "1", &revision));
    assert_eq!(get(&*store, &key).await, there);
    let other = subject.again().await;
    assert_eq!(conflict(&*other, &[create(&key, "2")]).await, (0, there.clone()));
    assert_eq!(get(&*other, &key).await, there);
}

pub(super) async fn updates_and_deletes_need_the_current_revision(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "p");
    let first = write(&*store, create(&key, "1")).await;
    let second = write(&*store, update(&key, "2", &first)).await;
    assert_ne!(first, second);
    let there = Some(seen(&key, "2", &second));
    assert_eq!(conflict(&*store, &[update(&key, "3", &first)]).await, (0, there.clone()));
    assert_eq!(conflict(&*store, &[Write::delete(key.clone(), first)]).await, (0, there));
    write(&*store, Write::delete(key.clone(), second.clone())).await;
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(conflict(&*store, &[Write::delete(key.clone(), second.clone())]).await, (0, None));
    // A successor of the same name is another object.
    write(&*store, create(&key, "4")).await;
    let (_, current) = conflict(&*store, &[update(&key, "5", &second)]).await;
    assert_eq!(current.unwrap().meaning, meaning(&document(&key, "4")));
    // What no store ever said is at no key.
    let odd = update(&key, "6", &Revision("not-a-number".into()));
    assert!(conflict(&*store, &[odd]).await.1.is_some());
}

/// IPAM's records are compared and swapped for every pod, and some back ends have a way of their own to delete them.
pub(super) async fn ipam_records_are_created_updated_and_deleted(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let owner = AffinityOwner::Host("n1".into());
    let block = "10.0.0.0/26".parse().unwrap();
    for key in [Key::Handle("h".into()), Key::Block(block), Key::Affinity { owner, block }] {
        let first = write(&*store, create(&key, "1")).await;
        assert_eq!(conflict(&*store, &[create(&key, "2")]).await, (0, Some(seen(&key, "1", &first))));
        let second = write(&*store, update(&key, "2", &first)).await;
        assert_eq!(get(&*store, &key).await, Some(seen(&key, "2", &second)));
        let there = (0, Some(seen(&key, "2", &second)));
        assert_eq!(conflict(&*store, &[update(&key, "3", &first)]).await, there);
        assert_eq!(conflict(&*store, &[Write::delete(key.clone(), first.clone())]).await, there);
        write(&*store, Write::delete(key.clone(), second.clone())).await;
        assert_eq!(get(&*store, &key).await, None, "{key}");
        assert_eq!(conflict(&*store, &[update(&key, "3", &second)]).await, (0, None));
        assert_eq!(conflict(&*store, &[Write::delete(key.clone(), second.clone())]).await, (0, None));
        // At once again, under the same name.
        let third = write(&*store, create(&key, "3")).await;
        assert_eq!(get(&*store, &key).await, Some(seen(&key, "3", &third)));
        assert_eq!(conflict(&*store, &[Write::delete(key.clone(), second)]).await.0, 0);
    }
}

pub(super) async fn anything_goes_without_an_expectation(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "p");
    write(&*store, put(&key, "1")).await;
    let revision = write(&*store, put(&key, "2")).await;
    assert_eq!(get(&*store, &key).await, Some(seen(&key, "2", &revision)));
    let delete = Write::Delete { key: key.clone(), expect: Expect::Any };
    write(&*store, delete.clone()).await;
    assert_eq!(store.get(&key).await.unwrap(), None);
    write(&*store, delete).await;
    assert!(store.commit(&[]).await.unwrap().revisions.is_empty());
}

pub(super) async fn a_commit_is_all_or_nothing(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let (a, b, c) = (policy("ns", "a"), policy("ns", "b"), policy("ns", "c"));
    let at = write(&*store, create(&b, "1")).await;
    let good =
        [create(&a, "1"), update(&b, "2", &at), Write::Check { key: c.clone(), expect: Expect::Absent }];
    let done = store.commit(&good).await.unwrap();
    assert_eq!(done.revisions.len(), 3);
    for (key, index) in [(&a, 0), (&b, 1)] {
        assert_eq!(store.get(key).await.unwrap().unwrap().revision, done.revisions[index]);
    }
    if store.atomicity() == Atomicity::Atomic {
        assert_eq!(done.revisions[0], done.revisions[1]);
    }
    let bad = [create(&c, "1"), update(&b, "3", &at)];
    assert_eq!(conflict(&*store, &bad).await, (1, Some(seen(&b, "2", &done.revisions[1]))));
    let left = get(&*store, &c).await.is_some();
    assert_eq!(left, store.atomicity() == Atomicity::Sequential, "what a failed commit left behind");
}

pub(super) async fn the_first_failing_step_is_named(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = |n: usize| policy("ns", &format!("p{n}"));
    let at = write(&*store, create(&key(2), "2")).await;
    let writes = [
        put(&key(0), "0"),
        create(&key(1), "1"),
        create(&key(2), "again"),
        Write::delete(key(3), at.clone()),
    ];
    let (index, current) = conflict(&*store, &writes).await;
    assert_eq!((index, current.unwrap().revision), (2, at));
}

pub(super) async fn checks_change_nothing(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "p");
    let absent = Write::Check { key: key.clone(), expect: Expect::Absent };
    let any = Write::Check { key: key.clone(), expect: Expect::Any };
    store.commit(&[absent.clone(), any]).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap(), None);
    let at = write(&*store, create(&key, "1")).await;
    assert_eq!(conflict(&*store, &[absent]).await.0, 0);
    let check = Write::Check { key: key.clone(), expect: Expect::At(at.clone()) };
    let before = store.list(&policies()).await.unwrap();
    store.commit(std::slice::from_ref(&check)).await.unwrap();
    let after = store.list(&policies()).await.unwrap();
    assert_eq!(after.entries, before.entries);
    // A sequential store's history may be everybody's, and go on by itself.
    if store.atomicity() == Atomicity::Atomic {
        assert_eq!(after.revision, before.revision);
    }
    // Guarding another key's write.
    let other = policy("ns", "other");
    store.commit(&[check.clone(), create(&other, "1")]).await.unwrap();
    write(&*store, update(&key, "2", &at)).await;
    assert_eq!(conflict(&*store, &[put(&other, "2"), check]).await.0, 1);
}

pub(super) async fn impossible_commits_are_refused(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let one = put(&policy("ns", "p"), "1");
    let twice = store.commit(&[one.clone(), one]).await;
    assert!(matches!(twice, Err(CommitError::Duplicate { .. })), "{twice:?}");
    let many = |n: usize| (0..n).map(|n| create(&policy("ns", &format!("p{n}")), "1"));
    let refused = store.commit(&many(MAX_WRITES + 1).collect::<Vec<_>>()).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
    store.commit(&many(MAX_WRITES).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.list(&policies()).await.unwrap().entries.len(), MAX_WRITES);
}

pub(super) async fn large_values_survive(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = |n: u8| Key::Block(format!("10.0.{n}.0/26").parse().unwrap());
    let selection = Selection::Blocks(Family::V4);
    let mut watch = store.watch(&selection, None).await.unwrap();
    // Nearly a megabyte: etcd's default limit of a request is a little above.
    let large = |key: &Key| {
        let mut block: serde_json::Value = serde_json::from_slice(&document(key, "large")).unwrap();
        block["attributes"] = json!([{ "handle_id": "h", "secondary": { "note": "x".repeat(900_000) } }]);
        Bytes::from(block.to_string())
    };
    let value = large(&key(0));
    write(&*store, Write::create(key(0), value.clone())).await;
    assert_eq!(get(&*subject.again().await, &key(0)).await.unwrap().meaning, meaning(&value));
    let WatchEvent::Put(entry) = next_change(&mut watch).await else { panic!("no put") };
    assert_eq!(meaning(&entry.value), meaning(&value));
    // Several of them in one list are more than gRPC's default limit.
    for n in 1..6 {
        let key = key(n);
        write(&*store, Write::create(key.clone(), large(&key))).await;
    }
    assert_eq!(store.list(&selection).await.unwrap().entries.len(), 6);
}

pub(super) async fn any_bytes_survive(subject: &dyn Subject) {
    if !subject.keeps_bytes() {
        return;
    }
    let store = subject.fresh().await;
    let mut watch = store.watch(&policies(), None).await.unwrap();
    let value: Bytes = (0..1_000_000u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>().into();
    for (name, value) in [("every", value), ("none", Bytes::new())] {
        let key = policy("ns", name);
        write(&*store, Write::create(key.clone(), value.clone())).await;
        assert_eq!(subject.again().await.get(&key).await.unwrap().unwrap().value, value);
        let WatchEvent::Put(entry) = next_change(&mut watch).await else { panic!("no put") };
        assert_eq!(entry.value, value);
    }
}

pub(super) async fn concurrent_increments_are_not_lost(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "counter");
    write(&*store, create(&key, "0")).await;
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = if n % 2 == 0 { store.clone() } else { subject.again().await };
        let key = key.clone();
        tasks.spawn(async move {
            for _ in 0..25 {
                increment(&*store, &key).await;
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(text(&store.get(&key).await.unwrap().unwrap().value), "200");
}

async fn increment(store: &dyn Store, key: &Key) {
    let mut entry = store.get(key).await.unwrap().unwrap();
    loop {
        let number: u32 = text(&entry.value).parse().unwrap();
        match store.commit(&[update(key, &(number + 1).to_string(), &entry.revision)]).await {
            Ok(_) => return,
            // The conflict brings the current entry: no read is needed.
            Err(CommitError::Conflict { current, .. }) => entry = *current.unwrap(),
            Err(other) => panic!("{other:?}"),
        }
    }
}

pub(super) async fn what_has_a_time_to_live_dies(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = Key::FelixStatus("n1".into());
    if !is_kept(&*store, &key).await {
        assert!(store.list(&Selection::Statuses(None)).await.unwrap().entries.is_empty());
        return;
    }
    let value = |key: &Key| document(key, "1");
    let put = |ttl_secs| Write::Put { key: key.clone(), value: value(&key), expect: Expect::Any, ttl_secs };
    write(&*store, put(Some(1))).await;
    assert!(store.get(&key).await.unwrap().is_some());
    while store.get(&key).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.list(&Selection::Statuses(None)).await.unwrap().entries.is_empty());
    let create =
        Write::Put { key: key.clone(), value: value(&key), expect: Expect::Absent, ttl_secs: Some(1) };
    write(&*store, create).await;
    // A later put without one lives on.
    write(&*store, put(None)).await;
    let witness = Write::Put {
        key: Key::FelixStatus("n2".into()),
        value: value(&key),
        expect: Expect::Absent,
        ttl_secs: Some(2),
    };
    let witness_key = witness.key().clone();
    write(&*store, witness).await;
    while store.get(&witness_key).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.get(&key).await.unwrap().is_some(), "a put without a time to live inherited one");
}
