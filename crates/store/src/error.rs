//! Why a store did not do what it was asked: one enum per operation.

use calico_api::{Entry, Key, Selection};

/// What a driver said, for the chain of causes.
pub type Cause = Box<dyn std::error::Error + Send + Sync>;

/// An error with its causes, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// What can befall any operation, whatever was asked.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// Not reached, busy for too long, or the connection broke before the answer. Trying again may help. **A commit that
    /// ends so may or may not have been carried out**: read back, or repeat it and treat a conflict whose current entry
    /// is the own value as success.
    #[error("the datastore does not answer")]
    Unavailable(#[source] Cause),
    /// The credentials or the file permissions do not suffice.
    #[error("the datastore refuses access")]
    Denied(#[source] Cause),
    /// The datastore is there but cannot serve: damaged, or of a version that we do not know. Trying again won't help.
    #[error("the datastore cannot be used")]
    Broken(#[source] Cause),
}

impl Fault {
    /// Whether the same request may succeed later without anybody's help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Fault::Unavailable(_))
    }
}

/// Why an entry could not be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {key}")]
pub struct GetError {
    /// Which.
    pub key: Key,
    /// Why.
    #[source]
    pub fault: Fault,
}

/// Why a selection could not be listed.
#[derive(Debug, thiserror::Error)]
#[error("cannot list {}", .selection.prefix())]
pub struct ListError {
    /// Which.
    pub selection: Selection,
    /// Why.
    #[source]
    pub fault: Fault,
}

/// Why one of several things that were read at once could not be.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// An entry.
    #[error(transparent)]
    Get(#[from] GetError),
    /// A selection.
    #[error(transparent)]
    List(#[from] ListError),
}

impl ReadError {
    /// What befell all of several reads, told of the first one.
    ///
    /// # Panics
    /// Where nothing was read.
    pub fn of_first(keys: &[Key], selections: &[Selection], fault: Fault) -> ReadError {
        match keys.first() {
            Some(key) => GetError { key: key.clone(), fault }.into(),
            None => ListError { selection: selections[0].clone(), fault }.into(),
        }
    }
}

/// Why a watch could not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    /// The history from the wanted revision on is gone, or the store's history is not the one the revision came from.
    /// List again.
    #[error("the history since the wanted revision is gone")]
    Compacted,
    /// The connection or the store's process was lost. Watch again from the last [`crate::WatchEvent::Progress`].
    #[error("the watch was lost")]
    Lost(#[source] Fault),
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// A step's expectation does not hold; nothing was written (of this step and, on atomic stores, of any other).
    #[error("{key} is not as expected (step {index})")]
    Conflict {
        /// The first step that failed.
        index: usize,
        /// Its key.
        key: Key,
        /// What is there instead; `None` if nothing.
        current: Option<Box<Entry>>,
    },
    /// Two steps write the same key: no back end can order them inside one transaction.
    #[error("{key} is written twice in one commit")]
    Duplicate {
        /// The key.
        key: Key,
    },
    /// More steps than one transaction may have ([`crate::MAX_WRITES`]).
    #[error("{writes} steps in one commit; {} are allowed", crate::MAX_WRITES)]
    TooLarge {
        /// How many there were.
        writes: usize,
    },
    /// The datastore does not take it, whatever is there: it has no place for the key, only a view of it that cannot be
    /// written, or rules that the value breaks. Steps before it may have happened on sequential stores.
    #[error("{key} cannot be written: {reason}")]
    Refused {
        /// The key.
        key: Key,
        /// Why, and what would be right.
        reason: String,
    },
    /// The store did not answer. See [`Fault::Unavailable`]: the outcome may be unknown.
    #[error("cannot write to the datastore")]
    Fault(#[from] Fault),
}

/// Why history could not be compacted.
#[derive(Debug, thiserror::Error)]
#[error("cannot compact the datastore's history")]
pub struct CompactError(#[source] pub Fault);
