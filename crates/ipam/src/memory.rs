//! A datastore in memory with the semantics of `calico_api::record`, in both commit modes: for tests and measurements of
//! operations without IO.

use std::collections::BTreeMap;

use bytes::Bytes;
use calico_api::{Entry, Expect, Key, Revision, Selection, Write};

use crate::known::Known;
use crate::machine::{Machine, Operation, Response, Step};

/// The store. Revisions are counted up by every write.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    entries: BTreeMap<Key, (Bytes, i64)>,
    revision: i64,
    /// Whether commits stop at the first failing step instead of doing nothing (as Kubernetes does).
    pub is_sequential: bool,
    /// Reads and commits so far; a batch of reads counts as one.
    pub round_trips: usize,
}

impl MemoryStore {
    /// An empty store.
    pub fn new(is_sequential: bool) -> MemoryStore {
        MemoryStore { is_sequential, ..MemoryStore::default() }
    }

    /// Stores a value unconditionally.
    pub fn put(&mut self, key: Key, value: impl Into<Bytes>) {
        self.revision += 1;
        self.entries.insert(key, (value.into(), self.revision));
    }

    /// The number of writes so far.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// Reads one entry.
    pub fn get(&self, key: &Key) -> Option<Entry> {
        let (value, revision) = self.entries.get(key)?;
        Some(Entry { key: key.clone(), value: value.clone(), revision: Revision::from(*revision) })
    }

    /// Reads a selection.
    pub fn list(&self, selection: &Selection) -> Vec<Entry> {
        self.entries.keys().filter(|k| selection.contains(k)).filter_map(|k| self.get(k)).collect()
    }

    /// Everything, decoded.
    pub fn known(&self) -> Known {
        let mut known = Known::new();
        for key in self.entries.keys() {
            known.observe(&self.get(key).expect("the key was just seen"));
        }
        known
    }

    /// Whether a step's expectation holds.
    pub fn allows(&self, write: &Write) -> bool {
        let (Write::Put { key, expect, .. } | Write::Check { key, expect } | Write::Delete { key, expect }) =
            write;
        match (expect, self.entries.get(key)) {
            (Expect::Any, _) => true,
            (Expect::Absent, found) => found.is_none(),
            (Expect::At(revision), Some((_, at))) => *revision == Revision::from(*at),
            (Expect::At(_), None) => false,
        }
    }

    /// Carries out one step; `None` if its expectation does not hold.
    pub fn apply(&mut self, write: &Write) -> Option<Revision> {
        if !self.allows(write) {
            return None;
        }
        match write {
            Write::Put { key, value, .. } => {
                // As Kubernetes: writing what is there already does not make a new revision.
                let same = self.entries.get(key).filter(|(old, _)| self.is_sequential && old == value);
                if let Some((_, revision)) = same {
                    return Some(Revision::from(*revision));
                }
                self.put(key.clone(), value.clone());
            }
            Write::Delete { key, .. } => {
                self.revision += 1;
                self.entries.remove(key);
            }
            Write::Check { .. } => {}
        }
        Some(Revision::from(self.revision))
    }

    /// Carries out a commit.
    pub fn commit(&mut self, writes: &[Write]) -> Response {
        self.round_trips += 1;
        if !self.is_sequential
            && let Some(index) = writes.iter().position(|w| !self.allows(w))
        {
            return Response::Conflict { index, current: self.get(writes[index].key()), applied: Vec::new() };
        }
        let mut applied = Vec::with_capacity(writes.len());
        for (index, write) in writes.iter().enumerate() {
            match self.apply(write) {
                Some(revision) => applied.push(revision),
                None => return Response::Conflict { index, current: self.get(write.key()), applied },
            }
        }
        Response::Committed(applied)
    }

    /// Answers one read.
    pub fn read(&mut self, keys: Vec<Key>, selections: Vec<Selection>) -> Response {
        self.round_trips += 1;
        let entries = keys.into_iter().map(|key| (key.clone(), self.get(&key))).collect();
        let listings = selections.into_iter().map(|s| (s.clone(), self.list(&s))).collect();
        Response::Read { entries, listings }
    }

    /// Runs a machine to its end.
    pub fn drive<O: Operation>(&mut self, machine: &mut Machine<O>) -> Result<O::Outcome, O::Error> {
        loop {
            let response = match machine.step() {
                Step::Read { keys, selections } => self.read(keys, selections),
                Step::Commit(writes) => self.commit(&writes),
                Step::Done(result) => return result,
            };
            machine.feed(response);
        }
    }

    /// Runs an operation that knows nothing yet.
    pub fn run<O: Operation>(&mut self, operation: O) -> Result<O::Outcome, O::Error> {
        self.drive(&mut Machine::new(operation, Known::new()))
    }
}
