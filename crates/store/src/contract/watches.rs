//! Cases about watches: every event once, in order, from anywhere in the history that is left.

use calico_api::{Entry, Expect, Key, Kind, Revision, Selection, Write};

use super::document::{Event, document, seen};
use super::{Choices, Subject, create, is_kept, next_change, policies, policy, put, within, write};
use crate::error::WatchError;
use crate::store::Store;
use crate::watch::{Watch, WatchEvent};

/// What a series of writes must look like to a watch.
async fn write_series(store: &dyn Store, n: usize) -> Vec<Event> {
    let mut expected = Vec::new();
    let mut choices = Choices(0x9E37_79B9);
    for step in 0..n {
        let key = policy("ns", &format!("p{}", choices.below(10)));
        let current = store.get(&key).await.unwrap();
        if let Some(entry) = current.filter(|_| choices.below(3) == 0) {
            write(store, Write::delete(key.clone(), entry.revision)).await;
            expected.push(Event::Deleted(key));
        } else {
            let text = format!("{n}-{step}");
            let revision = write(store, put(&key, &text)).await;
            expected.push(Event::Put(seen(&key, &text, &revision)));
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

fn plain(events: &[WatchEvent]) -> Vec<Event> {
    events.iter().cloned().map(Event::from).collect()
}

pub(super) async fn every_event_once_in_order(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let start = store.list(&policies()).await.unwrap().revision;
    let mut live = store.watch(&policies(), Some(start.clone())).await.unwrap();
    let expected = write_series(&*store, 100).await;
    let events = collect(&mut live, 100).await;
    assert_eq!(plain(&events), expected);
    // From the same place, after the fact, and from the middle.
    let mut late = store.watch(&policies(), Some(start)).await.unwrap();
    assert_eq!(collect(&mut late, 100).await, events);
    let (WatchEvent::Put(Entry { revision, .. }) | WatchEvent::Deleted { revision, .. }) = &events[49] else {
        panic!("progress is not a change")
    };
    let mut middle = store.watch(&policies(), Some(revision.clone())).await.unwrap();
    assert_eq!(collect(&mut middle, 50).await, events[50..]);
    // All steps of one commit come, each in its revision.
    let (one, two) = (policy("a", "1"), policy("a", "2"));
    let revisions = store.commit(&[put(&one, "1"), put(&two, "2")]).await.unwrap().revisions;
    for watch in [&mut live, &mut late, &mut middle] {
        let events = plain(&collect(watch, 2).await);
        for (key, text, revision) in [(&one, "1", &revisions[0]), (&two, "2", &revisions[1])] {
            assert!(events.contains(&Event::Put(seen(key, text, revision))), "{key} is not in {events:?}");
        }
    }
}

pub(super) async fn a_watch_from_nothing_begins_with_what_is_there(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let (a, b) = (policy("ns", "a"), policy("ns", "b"));
    let first = write(&*store, create(&a, "1")).await;
    let mut watch = store.watch(&policies(), None).await.unwrap();
    assert_eq!(Event::from(watch.next().await.unwrap()), Event::Put(seen(&a, "1", &first)));
    assert!(matches!(watch.next().await.unwrap(), WatchEvent::Progress(_)));
    let second = write(&*store, create(&b, "2")).await;
    assert_eq!(Event::from(next_change(&mut watch).await), Event::Put(seen(&b, "2", &second)));
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
        write(&*store, create(key, "1")).await;
    }
    let key_of = |event: WatchEvent| match event {
        WatchEvent::Put(entry) => entry.key,
        other => panic!("{other:?}"),
    };
    assert_eq!(key_of(next_change(&mut a).await), policy("a", "p"));
    assert_eq!(key_of(next_change(&mut all).await), policy("ab", "p"));
    assert_eq!(key_of(next_change(&mut all).await), policy("a", "p"));
}

pub(super) async fn a_watch_of_one_object_sees_no_other(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let set = |name: &str| Key::resource(Kind::GlobalNetworkSet, "", name);
    let one = Selection::one(Kind::GlobalNetworkSet, "", "n1");
    write(&*store, create(&set("n1"), "1")).await;
    write(&*store, create(&set("n11"), "1")).await;
    let mut watch = store.watch(&one, None).await.unwrap();
    assert!(matches!(next_change(&mut watch).await, WatchEvent::Put(entry) if entry.key == set("n1")));
    let from = store.list(&one).await.unwrap().revision;
    let mut later = store.watch(&one, Some(from)).await.unwrap();
    write(&*store, put(&set("n11"), "2")).await;
    write(&*store, put(&set("n1-2"), "2")).await;
    write(&*store, put(&set("n1"), "2")).await;
    write(&*store, Write::Delete { key: set("n11"), expect: Expect::Any }).await;
    write(&*store, Write::Delete { key: set("n1"), expect: Expect::Any }).await;
    for watch in [&mut watch, &mut later] {
        let changed = next_change(watch).await;
        assert!(matches!(&changed, WatchEvent::Put(entry) if entry.key == set("n1")), "{changed:?}");
        let deleted = next_change(watch).await;
        assert!(matches!(&deleted, WatchEvent::Deleted { key, .. } if *key == set("n1")), "{deleted:?}");
    }
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
    assert_eq!(plain(&seen), expected);
}

pub(super) async fn old_history_is_compacted(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let start = store.list(&policies()).await.unwrap().revision;
    let start = subject.forgotten().unwrap_or(start);
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
    assert_eq!(plain(&collect(&mut watch, 3).await), expected);
}

pub(super) async fn revisions_of_nowhere_are_compacted(subject: &dyn Subject) {
    let store = subject.fresh().await;
    write(&*store, create(&policy("ns", "a"), "1")).await;
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
                revisions.push(write(&*store, put(&key, &format!("{w}-{n}"))).await);
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
    let mut expected: Vec<Revision> = Vec::new();
    for n in 0..12 {
        let puts: Vec<Write> =
            (0..STEPS).map(|k| put(&policy("ns", &format!("p{k}")), &n.to_string())).collect();
        expected.extend(store.commit(&puts).await.unwrap().revisions);
    }
    // Read after the fact: whatever the store's pages or messages are, they must not lose a part of a commit.
    let mut watch = store.watch(&policies(), Some(start)).await.unwrap();
    let mut seen: Vec<Revision> = Vec::new();
    for event in collect(&mut watch, 12 * STEPS).await {
        let WatchEvent::Put(entry) = event else { panic!("{event:?}") };
        seen.push(entry.revision);
    }
    assert_eq!(seen, expected);
}

pub(super) async fn an_expiry_is_a_deletion(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let key = Key::FelixStatus("n1".into());
    let mut watch = store.watch(&Selection::Statuses(Some("n1".into())), None).await.unwrap();
    if !is_kept(&*store, &key).await {
        assert!(matches!(watch.next().await, Ok(WatchEvent::Progress(_))));
        return;
    }
    let value = document(&key, "1");
    let put = Write::Put { key: key.clone(), value, expect: Expect::Any, ttl_secs: Some(1) };
    write(&*store, put).await;
    assert!(matches!(next_change(&mut watch).await, WatchEvent::Put(_)));
    let WatchEvent::Deleted { key: deleted, .. } = next_change(&mut watch).await else {
        panic!("not deleted")
    };
    assert_eq!(deleted, key);
}
