//! Cases about watches: every event once, in order, from anywhere in the history that is left.

use calico_api::{Entry, Expect, Key, Kind, Revision, Selection, Write};

use super::{Choices, Subject, json, next_change, policies, policy, within, write};
use crate::error::WatchError;
use crate::store::Store;
use crate::watch::{Watch, WatchEvent};

/// What a series of writes must look like to a watch.
async fn write_series(store: &dyn Store, n: usize) -> Vec<WatchEvent> {
    let mut expected = Vec::new();
    let mut choices = Choices(0x9E37_79B9);
    for step in 0..n {
        let key = policy("ns", &format!("p{}", choices.below(10)));
        let current = store.get(&key).await.unwrap();
        if let Some(entry) = current.filter(|_| choices.below(3) == 0) {
            let revision = write(store, Write::delete(key.clone(), entry.revision)).await;
            expected.push(WatchEvent::Deleted { key, revision });
        } else {
            let value = json(&step.to_string());
            let revision = write(store, Write::put(key.clone(), value.clone())).await;
            expected.push(WatchEvent::Put(Entry { key, value, revision }));
        }
    }
    expected
}

async fn collect(watch: &mut Watch, n: usize) -> Vec<WatchEvent> {
    let mut events = Vec::new();
    while events.len() < n {
        events.push(next_change(watch).await);
    }
    events
}

pub(super) async fn every_event_once_in_order(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let start = store.list(&policies()).await.unwrap().revision;
    let mut live = store.watch(&policies(), Some(start.clone())).await.unwrap();
    let expected = write_series(&*store, 100).await;
    assert_eq!(collect(&mut live, 100).await, expected);
    // From the same place, after the fact, and from the middle.
    let mut late = store.watch(&policies(), Some(start)).await.unwrap();
    assert_eq!(collect(&mut late, 100).await, expected);
    let (WatchEvent::Put(Entry { revision, .. }) | WatchEvent::Deleted { revision, .. }) = &expected[49]
    else {
        panic!("progress is not a change")
    };
    let mut middle = store.watch(&policies(), Some(revision.clone())).await.unwrap();
    assert_eq!(collect(&mut middle, 50).await, expected[50..]);
    // All steps of one commit come, in one revision.
    let both = [Write::put(policy("a", "1"), json("1")), Write::put(policy("a", "2"), json("2"))];
    let revision = store.commit(&both).await.unwrap().revisions.remove(0);
    for watch in [&mut live, &mut late, &mut middle] {
        let events = collect(watch, 2).await;
        for key in [policy("a", "1"), policy("a", "2")] {
            let found =
                |e: &WatchEvent| matches!(e, WatchEvent::Put(e) if e.key == key && e.revision == revision);
            assert!(events.iter().any(found), "{key} is not in {events:?}");
        }
    }
}

pub(super) async fn a_watch_from_nothing_begins_with_what_is_there(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let first = write(&*store, Write::create(policy("ns", "a"), json("1"))).await;
    let mut watch = store.watch(&policies(), None).await.unwrap();
    let entry = Entry { key: policy("ns", "a"), value: json("1"), revision: first };
    assert_eq!(watch.next().await.unwrap(), WatchEvent::Put(entry));
    assert!(matches!(watch.next().await.unwrap(), WatchEvent::Progress(_)));
    let second = write(&*store, Write::create(policy("ns", "b"), json("2"))).await;
    let entry = Entry { key: policy("ns", "b"), value: json("2"), revision: second };
    assert_eq!(next_change(&mut watch).await, WatchEvent::Put(entry));
}

pub(super) async fn a_watch_sees_only_its_selection(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let only = |ns: &str| Selection::Resources {
        kind: Kind::NetworkPolicy,
        namespace: Some(ns.into()),
        name_prefix: "".into(),
    };
    let mut a = store.watch(&only("a"), None).await.unwrap();
    let mut all = store.watch(&policies(), None).await.unwrap();
    let others =
        [policy("ab", "p"), Key::resource(Kind::NetworkSet, "a", "p"), Key::IpamConfig, policy("a", "p")];
    for key in &others {
        write(&*store, Write::create(key.clone(), json("1"))).await;
    }
    let key_of = |event: WatchEvent| match event {
        WatchEvent::Put(entry) => entry.key,
        other => panic!("{other:?}"),
    };
    assert_eq!(key_of(next_change(&mut a).await), policy("a", "p"));
    assert_eq!(key_of(next_change(&mut all).await), policy("ab", "p"));
    assert_eq!(key_of(next_change(&mut all).await), policy("a", "p"));
}

pub(super) async fn a_watch_resumes_on_another_connection(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let start = store.list(&policies()).await.unwrap().revision;
    let expected = write_series(&*store, 60).await;
    let mut seen: Vec<WatchEvent> = Vec::new();
    let mut from = start;
    // Ten connections, each cut after a few events; resumed from the last progress, a reader may see the revision
    // in between again, but never less.
    while seen.len() < expected.len() {
        let connection = subject.again().await;
        let mut watch = connection.watch(&policies(), Some(from.clone())).await.unwrap();
        let before = seen.len();
        while seen.len() < (before + 6).min(expected.len()) {
            match within("an event", watch.next()).await.unwrap() {
                WatchEvent::Progress(revision) => from = revision,
                event if seen.contains(&event) => {}
                event => seen.push(event),
            }
        }
    }
    assert_eq!(seen, expected);
}

pub(super) async fn old_history_is_compacted(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let start = store.list(&policies()).await.unwrap().revision;
    write_series(&*store, 20).await;
    let here = store.list(&policies()).await.unwrap().revision;
    store.compact(&here).await.unwrap();
    // Twice is no error.
    store.compact(&here).await.unwrap();
    let error = match store.watch(&policies(), Some(start)).await {
        Err(error) => error,
        Ok(mut watch) => loop {
            if let Err(error) = within("compaction", watch.next()).await {
                break error;
            }
        },
    };
    assert!(matches!(error, WatchError::Compacted), "{error:?}");
    // The present is never compacted.
    let mut watch = store.watch(&policies(), Some(here)).await.unwrap();
    let expected = write_series(&*store, 3).await;
    assert_eq!(collect(&mut watch, 3).await, expected);
}

pub(super) async fn revisions_of_nowhere_are_compacted(subject: &dyn Subject) {
    let store = subject.fresh().await;
    write(&*store, Write::create(policy("ns", "a"), json("1"))).await;
    for odd in ["999999999", "not-a-number"] {
        let watch = store.watch(&policies(), Some(Revision(odd.into()))).await;
        assert!(matches!(watch, Err(WatchError::Compacted)), "{odd}: {watch:?}");
    }
}

pub(super) async fn a_slow_reader_misses_nothing(subject: &dyn Subject) {
    const WRITERS: usize = 4;
    const EACH: usize = 500;
    let store = subject.fresh().await;
    let mut slow = store.watch(&policies(), None).await.unwrap();
    let mut quick = subject.again().await.watch(&policies(), None).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for w in 0..WRITERS {
        let store = if w % 2 == 0 { store.clone() } else { subject.again().await };
        writers.spawn(async move {
            let mut revisions = Vec::new();
            for n in 0..EACH {
                let key = policy("ns", &format!("w{w}-{}", n % 7));
                revisions.push(write(&*store, Write::put(key, json(&format!("{w}-{n}")))).await);
            }
            revisions
        });
    }
    let mut written: Vec<u64> = Vec::new();
    while let Some(revisions) = writers.join_next().await {
        written.extend(revisions.unwrap().iter().map(|r| r.0.parse::<u64>().unwrap()));
    }
    written.sort_unstable();
    // Nobody read anything so far, so that both queues are full and the senders wait.
    for watch in [&mut slow, &mut quick] {
        let events = collect(watch, WRITERS * EACH).await;
        let seen: Vec<u64> = events
            .iter()
            .map(|event| match event {
                WatchEvent::Put(entry) => entry.revision.0.parse().unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(seen == written, "events are missing, repeated or out of order");
    }
}

pub(super) async fn large_commits_come_whole(subject: &dyn Subject) {
    const STEPS: usize = 100;
    let store = subject.fresh().await;
    let start = store.list(&policies()).await.unwrap().revision;
    let mut expected = Vec::new();
    for n in 0..12 {
        let puts: Vec<Write> =
            (0..STEPS).map(|k| Write::put(policy("ns", &format!("p{k}")), json(&n.to_string()))).collect();
        expected.push((store.commit(&puts).await.unwrap().revisions.remove(0), STEPS));
    }
    // Read after the fact: whatever the store's pages or messages are, they must not lose a part of a commit.
    let mut watch = store.watch(&policies(), Some(start)).await.unwrap();
    let mut seen: Vec<(Revision, usize)> = Vec::new();
    for event in collect(&mut watch, 12 * STEPS).await {
        let WatchEvent::Put(entry) = event else { panic!("{event:?}") };
        match seen.last_mut().filter(|(revision, _)| *revision == entry.revision) {
            Some((_, count)) => *count += 1,
            None => seen.push((entry.revision, 1)),
        }
    }
    assert_eq!(seen, expected);
}

pub(super) async fn an_expiry_is_a_deletion(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = Key::FelixStatus("n1".into());
    let mut watch = store.watch(&Selection::Statuses(Some("n1".into())), None).await.unwrap();
    let put = Write::Put { key: key.clone(), value: json("1"), expect: Expect::Any, ttl_secs: Some(1) };
    write(&*store, put).await;
    assert!(matches!(next_change(&mut watch).await, WatchEvent::Put(_)));
    let WatchEvent::Deleted { key: deleted, .. } = next_change(&mut watch).await else {
        panic!("not deleted")
    };
    assert_eq!(deleted, key);
}
