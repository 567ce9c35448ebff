//! Cases about the syncer on a real store.

use std::collections::BTreeMap;
use std::time::Duration;

use calico_api::{Expect, Key, Kind, Selection, Write};

use super::{Choices, Subject, follow_until, policies, policy, put, state};
use crate::store::Store;
use crate::syncer::{Syncer, SyncerOptions};

const QUICK: SyncerOptions = SyncerOptions {
    min_resync_interval: Duration::from_millis(5),
    first_retry: Duration::from_millis(5),
    max_retry: Duration::from_millis(50),
};

fn selections() -> Vec<Selection> {
    vec![policies(), Selection::all(Kind::NetworkSet), Selection::Handles]
}

/// Random creates, updates, deletes and multi-key commits over a few dozen keys.
async fn churn(store: &dyn Store, choices: &mut Choices, steps: usize) {
    for step in 0..steps {
        let mut key = |n: u64| match choices.below(3) {
            0 => policy("ns", &format!("p{n}")),
            1 => Key::resource(Kind::NetworkSet, "ns", &format!("s{n}")),
            _ => Key::Handle(format!("h{n}").into()),
        };
        let (a, b) = (key(step as u64 % 10), key(10 + step as u64 % 7));
        let first = match choices.below(4) {
            0 => Write::Delete { key: a, expect: Expect::Any },
            _ => put(&a, &step.to_string()),
        };
        let mut writes = vec![first];
        if choices.below(3) == 0 {
            writes.push(put(&b, &format!("b{step}")));
        }
        store.commit(&writes).await.unwrap();
    }
}

pub(super) async fn a_syncer_follows_random_changes(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let mut choices = Choices(42);
    churn(&*store, &mut choices, 50).await;
    let mut syncer = Syncer::spawn(subject.again().await, selections(), QUICK);
    let mut view = BTreeMap::new();
    for _ in 0..5 {
        churn(&*store, &mut choices, 60).await;
        let now = state(&*store, &selections()).await;
        follow_until(&mut syncer, &mut view, |view, in_sync| in_sync && *view == now).await;
    }
    assert!(syncer.health().is_connected());
}

pub(super) async fn a_syncer_survives_compaction(subject: &dyn Subject) {
    let store = subject.fresh().await;
    let mut choices = Choices(7);
    churn(&*store, &mut choices, 30).await;
    let mut syncer = Syncer::spawn(subject.again().await, selections(), QUICK);
    let mut view = BTreeMap::new();
    // The syncer's queue fills up while nobody reads it, so that its watches fall behind the horizon; where they do
    // not, history is compacted under a watch that is up to date, which must not hurt either.
    for _ in 0..4 {
        churn(&*store, &mut choices, 300).await;
        let now = store.list(&policies()).await.unwrap().revision;
        store.compact(&now).await.unwrap();
        let now = state(&*store, &selections()).await;
        follow_until(&mut syncer, &mut view, |view, in_sync| in_sync && *view == now).await;
    }
}
