//! Cases about commits: expectations, atomicity, time to live.

use std::time::Duration;

use bytes::Bytes;
use calico_api::{Entry, Expect, Key, Revision, Selection, Write};

use super::{Subject, json, next_change, policies, policy, write};
use crate::error::CommitError;
use crate::store::{Atomicity, MAX_WRITES, Store};
use crate::watch::WatchEvent;

/// The failing step, and what is there instead.
async fn conflict(store: &dyn Store, writes: &[Write]) -> (usize, Option<Entry>) {
    match store.commit(writes).await {
        Err(CommitError::Conflict { index, key, current }) => {
            assert_eq!(key, *writes[index].key());
            (index, current.map(|entry| *entry))
        }
        other => panic!("no conflict but {other:?}"),
    }
}

pub(super) async fn a_key_is_created_once(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "p");
    assert_eq!(store.get(&key).await.unwrap(), None);
    let revision = write(&*store, Write::create(key.clone(), json("1"))).await;
    let entry = Entry { key: key.clone(), value: json("1"), revision };
    assert_eq!(store.get(&key).await.unwrap(), Some(entry.clone()));
    let other = subject.again().await;
    assert_eq!(conflict(&*other, &[Write::create(key.clone(), json("2"))]).await, (0, Some(entry.clone())));
    assert_eq!(other.get(&key).await.unwrap(), Some(entry));
}

pub(super) async fn updates_and_deletes_need_the_current_revision(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "p");
    let first = write(&*store, Write::create(key.clone(), json("1"))).await;
    let second = write(&*store, Write::update(key.clone(), json("2"), first.clone())).await;
    assert_ne!(first, second);
    let entry = Entry { key: key.clone(), value: json("2"), revision: second.clone() };
    let stale_update = Write::update(key.clone(), json("3"), first.clone());
    assert_eq!(conflict(&*store, &[stale_update]).await, (0, Some(entry.clone())));
    assert_eq!(conflict(&*store, &[Write::delete(key.clone(), first)]).await, (0, Some(entry)));
    write(&*store, Write::delete(key.clone(), second.clone())).await;
    assert_eq!(store.get(&key).await.unwrap(), None);
    assert_eq!(conflict(&*store, &[Write::delete(key.clone(), second.clone())]).await, (0, None));
    // A successor of the same name is another object.
    write(&*store, Write::create(key.clone(), json("4"))).await;
    let (_, current) = conflict(&*store, &[Write::update(key, json("5"), second)]).await;
    assert_eq!(current.unwrap().value, json("4"));
    // What no store ever said is at no key.
    let odd = Write::update(policy("ns", "p"), json("6"), Revision("not-a-number".into()));
    assert!(conflict(&*store, &[odd]).await.1.is_some());
}

pub(super) async fn anything_goes_without_an_expectation(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "p");
    write(&*store, Write::put(key.clone(), json("1"))).await;
    write(&*store, Write::put(key.clone(), json("2"))).await;
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, json("2"));
    let delete = Write::Delete { key: key.clone(), expect: Expect::Any };
    write(&*store, delete.clone()).await;
    assert_eq!(store.get(&key).await.unwrap(), None);
    write(&*store, delete).await;
    assert!(store.commit(&[]).await.unwrap().revisions.is_empty());
}

pub(super) async fn a_commit_is_all_or_nothing(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let (a, b, c) = (policy("ns", "a"), policy("ns", "b"), policy("ns", "c"));
    let at = write(&*store, Write::create(b.clone(), json("1"))).await;
    let good = [
        Write::create(a.clone(), json("1")),
        Write::update(b.clone(), json("2"), at.clone()),
        Write::Check { key: c.clone(), expect: Expect::Absent },
    ];
    let done = store.commit(&good).await.unwrap();
    assert_eq!(done.revisions.len(), 3);
    for (key, index) in [(&a, 0), (&b, 1)] {
        assert_eq!(store.get(key).await.unwrap().unwrap().revision, done.revisions[index]);
    }
    let bad = [Write::create(c.clone(), json("1")), Write::update(b.clone(), json("3"), at)];
    assert_eq!(conflict(&*store, &bad).await.0, 1);
    assert_eq!(store.get(&b).await.unwrap().unwrap().value, json("2"));
    if store.atomicity() == Atomicity::Atomic {
        assert_eq!(store.get(&c).await.unwrap(), None, "a part of a failed commit was carried out");
    }
}

pub(super) async fn the_first_failing_step_is_named(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = |n: usize| policy("ns", &format!("p{n}"));
    let at = write(&*store, Write::create(key(2), json("2"))).await;
    let writes = [
        Write::put(key(0), json("0")),
        Write::create(key(1), json("1")),
        Write::create(key(2), json("again")),
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
    let at = write(&*store, Write::create(key.clone(), json("1"))).await;
    assert_eq!(conflict(&*store, &[absent]).await.0, 0);
    let check = Write::Check { key: key.clone(), expect: Expect::At(at.clone()) };
    let before = store.list(&policies()).await.unwrap().revision;
    store.commit(std::slice::from_ref(&check)).await.unwrap();
    assert_eq!(store.list(&policies()).await.unwrap().revision, before);
    // Guarding another key's write.
    let other = policy("ns", "other");
    store.commit(&[check.clone(), Write::create(other.clone(), json("1"))]).await.unwrap();
    write(&*store, Write::update(key, json("2"), at)).await;
    assert_eq!(conflict(&*store, &[Write::put(other, json("2")), check]).await.0, 1);
}

pub(super) async fn impossible_commits_are_refused(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let put = Write::put(policy("ns", "p"), json("1"));
    let twice = store.commit(&[put.clone(), put]).await;
    assert!(matches!(twice, Err(CommitError::Duplicate { .. })), "{twice:?}");
    let many = |n: usize| (0..n).map(|n| Write::create(policy("ns", &format!("p{n}")), json("1")));
    let refused = store.commit(&many(MAX_WRITES + 1).collect::<Vec<_>>()).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { .. })), "{refused:?}");
    store.commit(&many(MAX_WRITES).collect::<Vec<_>>()).await.unwrap();
    assert_eq!(store.list(&policies()).await.unwrap().entries.len(), MAX_WRITES);
}

pub(super) async fn large_values_survive(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "large");
    let mut watch = store.watch(&policies(), None).await.unwrap();
    // Every byte value, one megabyte: etcd's default limit of a request is a little above.
    let value: Bytes = (0..1_000_000u32).map(|n| (n % 251) as u8).collect::<Vec<u8>>().into();
    write(&*store, Write::create(key.clone(), value.clone())).await;
    write(&*store, Write::create(policy("ns", "empty"), Bytes::new())).await;
    assert_eq!(subject.again().await.get(&key).await.unwrap().unwrap().value, value);
    assert_eq!(store.get(&policy("ns", "empty")).await.unwrap().unwrap().value, Bytes::new());
    let WatchEvent::Put(entry) = next_change(&mut watch).await else { panic!("no put") };
    assert_eq!(entry.value, value);
    // Several of them in one list are more than gRPC's default limit.
    for n in 0..5 {
        write(&*store, Write::create(policy("ns", &format!("l{n}")), value.clone())).await;
    }
    assert_eq!(store.list(&policies()).await.unwrap().entries.len(), 7);
}

pub(super) async fn concurrent_increments_are_not_lost(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = policy("ns", "counter");
    write(&*store, Write::create(key.clone(), Bytes::from_static(b"0"))).await;
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
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, Bytes::from_static(b"200"));
}

async fn increment(store: &dyn Store, key: &Key) {
    let mut entry = store.get(key).await.unwrap().unwrap();
    loop {
        let number: u32 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
        let next = Bytes::from((number + 1).to_string());
        match store.commit(&[Write::update(key.clone(), next, entry.revision)]).await {
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
    let put = |ttl_secs| Write::Put { key: key.clone(), value: json("1"), expect: Expect::Any, ttl_secs };
    write(&*store, put(Some(1))).await;
    assert!(store.get(&key).await.unwrap().is_some());
    while store.get(&key).await.unwrap().is_some() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(store.list(&Selection::Statuses(None)).await.unwrap().entries.is_empty());
    let create = Write::Put { key: key.clone(), value: json("2"), expect: Expect::Absent, ttl_secs: Some(1) };
    write(&*store, create).await;
    // A later put without one lives on.
    write(&*store, put(None)).await;
    let witness = Write::Put {
        key: Key::FelixStatus("n2".into()),
        value: json("1"),
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
