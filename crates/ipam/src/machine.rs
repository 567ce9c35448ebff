//! The machine that runs an operation without doing IO: it says what to read or commit, and is fed the answers.
//!
//! ```text
//!            ┌────────────── decide(known) ◀───────────────┐
//!            ▼                    ▲                        │
//!   Read{keys, selections} ──feed(Read)──▶ known           │
//!   Commit(writes) ──feed(Committed | Conflict)──▶ known ──┘   at most 100 conflicts
//!   Done(outcome)
//! ```
//! An operation is a function of what is known: after every answer it decides anew. So a conflict needs no special
//! path: the entry that was in the way becomes known, and the next decision takes it into account.
//!
//! Driving a machine is a loop:
//!
//! ```
//! use calico_api::{Entry, Key, Revision, Selection, Write};
//! use calico_ipam::{Machine, Operation, Response, Step};
//!
//! /// What the loop needs of a datastore; in the roles this is `calico_store::Store`, and the loop is async.
//! trait Datastore {
//!     fn get(&self, key: &Key) -> Option<Entry>;
//!     fn list(&self, selection: &Selection) -> Vec<Entry>;
//!     fn commit(&self, writes: &[Write]) -> Response;
//! }
//!
//! fn drive<O: Operation>(machine: &mut Machine<O>, store: &impl Datastore) -> Result<O::Outcome, O::Error> {
//!     loop {
//!         let response = match machine.step() {
//!             Step::Read { keys, selections } => Response::Read {
//!                 entries: keys.into_iter().map(|key| (key.clone(), store.get(&key))).collect(),
//!                 listings: selections.into_iter().map(|s| (s.clone(), store.list(&s))).collect(),
//!             },
//!             Step::Commit(writes) => store.commit(&writes),
//!             Step::Done(result) => return result,
//!         };
//!         machine.feed(response);
//!     }
//! }
//! ```

use std::sync::Arc;

use calico_api::{AffinityOwner, AffinityState, BlockAffinity};
use calico_api::{Entry, Expect, IpamBlock, IpamHandle, Key, Revision, Selection, Write, encode_record};
use calico_net::Cidr;
use smol_str::SmolStr;

use crate::known::{Known, Need, Record};

/// Conflicts after which an operation gives up (spec 5 §2.5: the bound of datastore retries).
pub const MAX_CONFLICTS: u32 = 100;

/// The operation lost against other writers again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gave up after {MAX_CONFLICTS} write conflicts with other clients")]
pub struct Contended;

/// One write of a plan, with the record that it stores, so that nobody decodes what was just encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    pub(crate) write: Write,
    pub(crate) record: Option<Arc<Record>>,
}

impl Change {
    fn put(key: Key, value: bytes::Bytes, expect: Option<&Revision>, record: Record) -> Change {
        let expect = expect.map_or(Expect::Absent, |r| Expect::At(r.clone()));
        Change { write: Write::Put { key, value, expect, ttl_secs: None }, record: Some(Arc::new(record)) }
    }

    /// Stores a block: over a revision, or as a new one.
    pub(crate) fn block(block: IpamBlock, expect: Option<&Revision>) -> Change {
        Change::put(Key::Block(block.cidr), encode_record(&block), expect, Record::Block(block))
    }

    /// Stores a handle; one without blocks is deleted.
    pub(crate) fn handle(id: &SmolStr, handle: IpamHandle, expect: Option<&Revision>) -> Change {
        match expect {
            Some(revision) if handle.block.is_empty() => Change::delete(Key::Handle(id.clone()), revision),
            _ => Change::put(Key::Handle(id.clone()), encode_record(&handle), expect, Record::Handle(handle)),
        }
    }

    /// Stores an affinity, keeping what else the old one said.
    pub(crate) fn affinity(
        owner: &AffinityOwner,
        block: Cidr,
        state: AffinityState,
        old: Option<(&BlockAffinity, &Revision)>,
    ) -> Change {
        let key = Key::Affinity { owner: owner.clone(), block };
        let record = match old {
            Some((affinity, _)) => BlockAffinity { state, ..affinity.clone() },
            None => BlockAffinity::new(state),
        };
        Change::put(key, encode_record(&record), old.map(|(_, r)| r), Record::Affinity(record))
    }

    /// Removes an entry.
    pub(crate) fn delete(key: Key, revision: &Revision) -> Change {
        Change { write: Write::delete(key, revision.clone()), record: None }
    }

    /// Insists that there still is no such entry.
    pub(crate) fn check_absent(key: Key) -> Change {
        Change { write: Write::Check { key, expect: Expect::Absent }, record: None }
    }

    /// Insists that an entry is still as known.
    pub(crate) fn check(key: Key, revision: &Revision) -> Change {
        Change { write: Write::Check { key, expect: Expect::At(revision.clone()) }, record: None }
    }
}

/// What an operation wants next.
#[derive(Clone, Debug, PartialEq)]
pub enum Act<T> {
    /// These writes, in this order; every prefix leaves a safe state.
    Commit(Vec<Change>),
    /// It is finished.
    Done(T),
}

/// Why an operation cannot decide.
#[derive(Clone, Debug, PartialEq)]
pub enum Halt<E> {
    /// Something is not known yet.
    Need(Need),
    /// What is known is too old to base this decision on.
    Refresh,
    /// It failed.
    Fail(E),
}

impl<E> From<Need> for Halt<E> {
    fn from(need: Need) -> Halt<E> {
        Halt::Need(need)
    }
}

/// The next act, or why there is none yet.
pub type Decision<T, E> = Result<Act<T>, Halt<E>>;

/// One operation of IPAM: a decision from what is known.
pub trait Operation {
    /// What it achieves.
    type Outcome;
    /// How it fails.
    type Error: From<Contended>;

    /// Decides what to do next.
    fn decide(&mut self, known: &Known) -> Decision<Self::Outcome, Self::Error>;

    /// The first `applied` writes of the last commit have happened; `whole` if all have. `known` has them in.
    fn settle(&mut self, applied: usize, whole: bool, known: &Known) {
        let _ = (applied, whole, known);
    }
}

/// What the driver must do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<T, E> {
    /// Read these: one round trip where the store can.
    Read {
        /// Entries.
        keys: Vec<Key>,
        /// Whole selections.
        selections: Vec<Selection>,
    },
    /// Commit these.
    Commit(Vec<Write>),
    /// Stop. Further steps say the same as the last.
    Done(Result<T, E>),
}

/// What the driver found.
#[derive(Clone, Debug, PartialEq)]
pub enum Response {
    /// The answer to a read.
    Read {
        /// What is stored under each key asked for.
        entries: Vec<(Key, Option<Entry>)>,
        /// What each selection holds.
        listings: Vec<(Selection, Vec<Entry>)>,
    },
    /// Every write happened; the revision of each, in order.
    Committed(Vec<Revision>),
    /// A write's expectation did not hold.
    Conflict {
        /// Which write.
        index: usize,
        /// What is stored there now.
        current: Option<Entry>,
        /// On a sequential store, the revisions of the writes before it, which did happen. Empty on an atomic one.
        applied: Vec<Revision>,
    },
}

/// Runs one operation.
#[derive(Clone, Debug)]
pub struct Machine<O: Operation> {
    operation: O,
    known: Known,
    flight: Vec<Change>,
    conflicts: u32,
}

impl<O: Operation> Machine<O> {
    /// A machine that starts from nothing, or from what an earlier one knew.
    pub fn new(operation: O, mut known: Known) -> Machine<O> {
        known.age();
        Machine { operation, known, flight: Vec::new(), conflicts: 0 }
    }

    /// What to do now.
    pub fn step(&mut self) -> Step<O::Outcome, O::Error> {
        if self.conflicts > MAX_CONFLICTS {
            return Step::Done(Err(Contended.into()));
        }
        loop {
            return match self.operation.decide(&self.known) {
                Ok(Act::Done(outcome)) => Step::Done(Ok(outcome)),
                Ok(Act::Commit(changes)) => {
                    self.flight = changes;
                    Step::Commit(self.flight.iter().map(|c| c.write.clone()).collect())
                }
                Err(Halt::Need(Need { keys, selections })) => Step::Read { keys, selections },
                Err(Halt::Refresh) => {
                    self.known.drop_hints();
                    continue;
                }
                Err(Halt::Fail(error)) => Step::Done(Err(error)),
            };
        }
    }

    /// Takes in the answer to the last step.
    pub fn feed(&mut self, response: Response) {
        match response {
            Response::Read { entries, listings } => {
                for (key, entry) in entries {
                    match entry {
                        Some(entry) => self.known.observe(&entry),
                        None => self.known.observe_absent(key),
                    }
                }
                for (selection, entries) in listings {
                    self.known.observe_listing(selection, &entries);
                }
            }
            Response::Committed(revisions) => {
                let flight = std::mem::take(&mut self.flight);
                let applied = flight.len();
                self.learn(flight, revisions);
                self.operation.settle(applied, true, &self.known);
            }
            Response::Conflict { index, current, applied } => {
                self.conflicts += 1;
                let mut flight = std::mem::take(&mut self.flight);
                flight.truncate(index + 1);
                let lost = (flight.len() > index).then(|| flight.pop()).flatten();
                let happened = applied.len().min(flight.len());
                flight.truncate(happened);
                self.learn(flight, applied);
                match (current, lost) {
                    (Some(entry), _) => self.known.observe(&entry),
                    (None, Some(change)) => self.known.observe_absent(change.write.key().clone()),
                    (None, None) => {}
                }
                self.operation.settle(happened, false, &self.known);
            }
        }
    }

    fn learn(&mut self, changes: Vec<Change>, revisions: Vec<Revision>) {
        for (Change { write, record }, revision) in changes.into_iter().zip(revisions) {
            match (write, record) {
                (Write::Put { key, .. }, Some(record)) => self.known.observe_record(key, revision, record),
                (Write::Put { key, .. }, None) => self.known.forget(key),
                (Write::Delete { key, .. }, _) => self.known.observe_absent(key),
                (Write::Check { .. }, _) => {}
            }
        }
    }

    /// Conflicts so far.
    pub fn conflicts(&self) -> u32 {
        self.conflicts
    }

    /// What is known by now, for the next operation.
    pub fn known(&self) -> &Known {
        &self.known
    }

    /// The same, when the machine is done with.
    pub fn into_known(self) -> Known {
        self.known
    }
}
