//! A watch as its reader and its back end see it: a bounded channel of batches of events.

use std::collections::VecDeque;

use calico_api::{Entry, Key, Revision};
use tokio::sync::mpsc;

use crate::error::{Fault, WatchError};

/// How many batches wait for a slow reader before its watch pauses. A batch is one page of the embedded log or one
/// etcd response, so this bounds a watch to a few megabytes, and lets the sender run ahead of a reader that is busy
/// with a batch.
const BATCHES: usize = 16;

/// Something that happened, or did not.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// An entry was created or replaced.
    Put(Entry),
    /// An entry was removed, or expired.
    Deleted {
        /// Which.
        key: Key,
        /// The revision of the removal.
        revision: Revision,
    },
    /// Every event up to and including this revision has been delivered: where to resume.
    Progress(Revision),
}

/// The reader's end. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    ready: VecDeque<WatchEvent>,
    receiver: mpsc::Receiver<Result<Vec<WatchEvent>, WatchError>>,
}

/// The back end's end.
#[derive(Clone, Debug)]
pub struct WatchSender(mpsc::Sender<Result<Vec<WatchEvent>, WatchError>>);

/// The reader has gone: there is nobody to send to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the watch's reader has gone")]
pub struct ReaderGone;

impl Watch {
    /// A watch that delivers `first` and then what the sender sends.
    pub fn channel(first: Vec<WatchEvent>) -> (WatchSender, Watch) {
        let (sender, receiver) = mpsc::channel(BATCHES);
        (WatchSender(sender), Watch { ready: first.into(), receiver })
    }

    /// The next event. Cancel-safe. An error is the end; after it every call says [`WatchError::Lost`].
    pub async fn next(&mut self) -> Result<WatchEvent, WatchError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let batch = self.receive().await?;
            self.ready.extend(batch);
        }
    }

    /// The next events, as many as arrived together; at least one. Cancel-safe.
    pub async fn next_batch(&mut self) -> Result<Vec<WatchEvent>, WatchError> {
        if !self.ready.is_empty() {
            return Ok(std::mem::take(&mut self.ready).into());
        }
        loop {
            let batch = self.receive().await?;
            if !batch.is_empty() {
                return Ok(batch);
            }
        }
    }

    async fn receive(&mut self) -> Result<Vec<WatchEvent>, WatchError> {
        match self.receiver.recv().await {
            Some(batch) => batch,
            None => Err(WatchError::Lost(Fault::Unavailable("the watch has ended".into()))),
        }
    }
}

impl WatchSender {
    /// Delivers events that belong together; waits while the reader is behind.
    pub async fn send(&self, batch: Vec<WatchEvent>) -> Result<(), ReaderGone> {
        self.0.send(Ok(batch)).await.map_err(|_| ReaderGone)
    }

    /// Ends the watch with an error.
    pub async fn fail(self, error: WatchError) {
        // A reader that has gone does not want to know.
        let _ = self.0.send(Err(error)).await;
    }

    /// Resolves when the reader has gone.
    pub async fn closed(&self) {
        self.0.closed().await;
    }
}
