//! Verbs of one workload take turns: a late DEL of an old sandbox must not meet the ADD of the pod's next one half-way,
//! when the new link exists and the new endpoint does not.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use smol_str::SmolStr;
use tokio::sync::OwnedMutexGuard;

/// Who is at work on what. Only workloads in progress are kept.
#[derive(Debug, Default)]
pub struct Turns(Mutex<HashMap<SmolStr, Weak<tokio::sync::Mutex<()>>>>);

impl Turns {
    /// Waits until nobody else works on the workload; it is ours until the guard is dropped.
    pub async fn wait(&self, workload: SmolStr) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let turn = turns.get(&workload).and_then(Weak::upgrade).unwrap_or_default();
            turns.insert(workload, Arc::downgrade(&turn));
            turn
        };
        turn.lock_owned().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_workload_waits_and_another_does_not() {
        let turns = Turns::default();
        let first = turns.wait("ns/a".into()).await;
        assert!(turns.wait("ns/a".into()).now_or_never().is_none());
        assert!(turns.wait("ns/b".into()).now_or_never().is_some());
        drop(first);
        assert!(turns.wait("ns/a".into()).now_or_never().is_some());
        assert_eq!(turns.0.lock().expect("whole").len(), 1, "what is done is forgotten");
    }
}
