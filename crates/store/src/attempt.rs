//! A commit that may lose a race, and what of it happened then: what a compare-and-swap machine has to know.

use calico_api::{Entry, Revision, Write};

use crate::error::CommitError;
use crate::store::{Atomicity, Store};

/// What became of a commit.
#[derive(Clone, Debug, PartialEq)]
pub enum Attempt {
    /// Every write happened; the revision of each, in order.
    Committed(Vec<Revision>),
    /// A write's expectation did not hold.
    Conflict {
        /// Which write.
        index: usize,
        /// What is stored there instead.
        current: Option<Entry>,
        /// The revisions of the writes before it that did happen: none on an atomic store.
        applied: Vec<Revision>,
    },
}

/// Commits, and knows after a conflict what happened. A sequential store leaves the writes before a conflict, so there they
/// go one by one.
pub async fn attempt(store: &dyn Store, writes: &[Write]) -> Result<Attempt, CommitError> {
    let portion = match store.atomicity() {
        Atomicity::Atomic => writes.len().max(1),
        Atomicity::Sequential => 1,
    };
    let mut applied = Vec::with_capacity(writes.len());
    for part in writes.chunks(portion) {
        match store.commit(part).await {
            Ok(committed) => applied.extend(committed.revisions),
            Err(CommitError::Conflict { index, key: _, current }) => {
                let index = applied.len() + index;
                return Ok(Attempt::Conflict { index, current: current.map(|entry| *entry), applied });
            }
            Err(error) => return Err(error),
        }
    }
    Ok(Attempt::Committed(applied))
}

#[cfg(test)]
pub(crate) mod tests {
    use async_trait::async_trait;
    use calico_api::{Expect, Key, Selection};

    use super::*;
    use crate::{Committed, CompactError, EmbeddedStore, GetError, ListError, Listing, Watch, WatchError};

    /// The embedded store as one whose commits are not whole.
    pub(crate) struct OneByOne(pub(crate) EmbeddedStore);

    #[async_trait]
    impl Store for OneByOne {
        async fn get(&self, key: &Key) -> Result<Option<Entry>, GetError> {
            self.0.get(key).await
        }
        async fn list(&self, selection: &Selection) -> Result<Listing, ListError> {
            self.0.list(selection).await
        }
        async fn watch(&self, selection: &Selection, from: Option<Revision>) -> Result<Watch, WatchError> {
            self.0.watch(selection, from).await
        }
        async fn commit(&self, writes: &[Write]) -> Result<Committed, CommitError> {
            let mut revisions = Vec::new();
            for write in writes {
                revisions.extend(self.0.commit(std::slice::from_ref(write)).await?.revisions);
            }
            Ok(Committed { revisions })
        }
        fn atomicity(&self) -> Atomicity {
            Atomicity::Sequential
        }
        async fn compact(&self, revision: &Revision) -> Result<(), CompactError> {
            self.0.compact(revision).await
        }
    }

    /// Three creations of which the second finds something there.
    async fn lose(store: &dyn Store) -> (Attempt, Vec<bool>) {
        let keys = ["a", "b", "c"].map(|name| Key::Handle(name.into()));
        store.commit(&[Write::put(keys[1].clone(), "{}".into())]).await.unwrap();
        let writes: Vec<Write> = keys.iter().map(|key| Write::create(key.clone(), "{}".into())).collect();
        assert!(matches!(writes[0], Write::Put { expect: Expect::Absent, .. }));
        let attempt = attempt(store, &writes).await.unwrap();
        let mut there = Vec::new();
        for key in &keys {
            there.push(store.get(key).await.unwrap().is_some());
        }
        (attempt, there)
    }

    #[tokio::test]
    async fn after_a_conflict_it_is_known_what_happened() {
        let directory = tempfile::tempdir().unwrap();
        let open = |name: &str| EmbeddedStore::open(directory.path().join(name)).unwrap();
        let (attempt, there) = lose(&open("atomic.db")).await;
        let Attempt::Conflict { index: 1, current: Some(current), applied } = attempt else {
            panic!("{attempt:?}")
        };
        assert_eq!((current.key, applied.len()), (Key::Handle("b".into()), 0));
        assert_eq!(there, [false, true, false]);

        let store = OneByOne(open("sequential.db"));
        let (attempt, there) = lose(&store).await;
        let Attempt::Conflict { index: 1, current: Some(current), applied } = attempt else {
            panic!("{attempt:?}")
        };
        let first = store.get(&Key::Handle("a".into())).await.unwrap().unwrap();
        assert_eq!((current.key, applied), (Key::Handle("b".into()), vec![first.revision]));
        assert_eq!(there, [true, true, false]);
    }
}
