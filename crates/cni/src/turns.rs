//! Verbs of one workload take turns: a late DEL of an old sandbox must not meet the ADD of the pod's next one half-way,
//! when the new link exists and the new endpoint does not.

use std::collections::HashMap;
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use sha1::{Digest, Sha1};
use smol_str::SmolStr;
use tokio::sync::OwnedMutexGuard;

/// Who is at work on what. Only workloads in progress are kept.
#[derive(Debug, Default)]
pub struct Turns {
    within: Mutex<HashMap<SmolStr, Weak<tokio::sync::Mutex<()>>>>,
    /// Where processes lock each other out; `None` in the agent, which is alone.
    locks: Option<PathBuf>,
}

/// A workload is its holder's until this is dropped.
#[derive(Debug)]
pub struct Turn {
    _within: OwnedMutexGuard<()>,
    _across: Option<File>,
}

impl Turns {
    /// Turns that processes take too, by locks in a directory that is made when there is none.
    pub fn across_processes(locks: &Path) -> Turns {
        Turns { within: Mutex::default(), locks: Some(locks.to_owned()) }
    }

    /// Waits until nobody else works on the workload; it is ours until the turn is dropped.
    pub async fn wait(&self, workload: SmolStr) -> Turn {
        let across = self.locks.as_ref().map(|dir| (dir.clone(), lock_name(&workload)));
        let turn = {
            let mut turns = self.within.lock().unwrap_or_else(PoisonError::into_inner);
            turns.retain(|_, turn| turn.strong_count() > 0);
            let turn = turns.get(&workload).and_then(Weak::upgrade).unwrap_or_default();
            turns.insert(workload, Arc::downgrade(&turn));
            turn
        };
        let within = turn.lock_owned().await;
        let across = match across {
            // Waiting for another process blocks a thread of its own.
            Some((dir, name)) => {
                tokio::task::spawn_blocking(move || lock(&dir, &name)).await.unwrap_or_default()
            }
            None => None,
        };
        Turn { _within: within, _across: across }
    }
}

/// One of 256 files, so that they stay few: now and then two workloads wait for each other without need.
fn lock_name(workload: &str) -> String {
    format!("{:02x}", Sha1::digest(workload)[0])
}

/// Where no lock can be had a verb goes on: then only the runtime's own order protects it, as it does Calico's.
fn lock(dir: &Path, name: &str) -> Option<File> {
    let locked = (|| {
        dir.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let file = File::create(dir.join(name))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok::<_, std::io::Error>(file)
    })();
    locked.inspect_err(|error| tracing::warn!(dir = %dir.display(), %error, "no lock for the workload")).ok()
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
        assert_eq!(turns.within.lock().expect("whole").len(), 1, "what is done is forgotten");
    }

    #[tokio::test]
    async fn another_process_waits() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("temporary directory");
        let locks = dir.path().join("run/locks");
        let (ours, theirs) = (Turns::across_processes(&locks), Turns::across_processes(&locks));
        let first = ours.wait("ns/a".into()).await;
        let mode = std::fs::metadata(&locks).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        let (done, mut taken) = tokio::sync::oneshot::channel();
        let waiting = tokio::spawn(async move {
            let _other = theirs.wait("ns/b".into()).await;
            let turn = theirs.wait("ns/a".into()).await;
            done.send(()).map(|()| turn)
        });
        let file = File::open(locks.join(lock_name("ns/a"))).expect("there");
        let busy = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        assert_eq!(busy, Err(rustix::io::Errno::WOULDBLOCK));
        assert!(taken.try_recv().is_err(), "it is ours");
        drop(first);
        waiting.await.expect("its turn comes").expect("received");
    }
}
