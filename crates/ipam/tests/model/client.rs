//! A client of the model: a script of operations, each run by a machine, one small action at a time.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use calico_api::{AffinityOwner, Entry, Key, Revision, Selection, Write};
use calico_ipam::memory::MemoryStore;
use calico_ipam::{
    AddressRequest, Assign, AssignAddress, AssignRequest, ClaimAffinity, Known, Machine, Operation,
    ReleaseAddresses, ReleaseAffinities, ReleaseByHandle, Response, Scope, Step, Target, UnixTime,
};
use calico_net::Cidr;

/// One operation of a script.
#[derive(Clone, Debug)]
pub enum Job {
    /// Assign so many addresses to a handle.
    Assign { node: &'static str, handle: &'static str, count: usize },
    /// Assign this address to a handle.
    AssignIp { node: &'static str, handle: &'static str, address: &'static str },
    /// Release a handle.
    ReleaseHandle { handle: &'static str },
    /// Release one address, whoever has it.
    ReleaseIp { address: &'static str },
    /// Claim a range.
    Claim { node: &'static str, cidr: &'static str },
    /// Give up what a node has.
    GiveUp { node: &'static str, must_be_empty: bool },
}

/// What an operation that has ended means for who holds what.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// These addresses are the handle's now.
    Holds { handle: &'static str, addresses: Vec<IpAddr> },
    /// Nothing to remember.
    Nothing,
    /// It failed for a reason that the model allows.
    Failed(String),
}

enum Todo {
    Read { keys: Vec<Key>, selections: Vec<Selection> },
    Commit(Vec<Write>),
    Done(Effect),
}

trait Task {
    fn step(&mut self) -> Todo;
    fn feed(&mut self, response: Response);
    fn known(&self) -> Known;
}

struct Running<O: Operation, F> {
    machine: Machine<O>,
    effect: F,
}

impl<O: Operation, F: Fn(Result<O::Outcome, O::Error>) -> Effect> Task for Running<O, F> {
    fn step(&mut self) -> Todo {
        match self.machine.step() {
            Step::Read { keys, selections } => Todo::Read { keys, selections },
            Step::Commit(writes) => Todo::Commit(writes),
            Step::Done(result) => Todo::Done((self.effect)(result)),
        }
    }

    fn feed(&mut self, response: Response) {
        self.machine.feed(response);
    }

    fn known(&self) -> Known {
        self.machine.known().clone()
    }
}

fn run<O: Operation + 'static>(
    operation: O,
    known: Known,
    effect: impl Fn(Result<O::Outcome, O::Error>) -> Effect + 'static,
) -> Box<dyn Task> {
    Box::new(Running { machine: Machine::new(operation, known), effect })
}

fn failed<T, E: std::fmt::Display>(result: Result<T, E>) -> Effect {
    match result {
        Ok(_) => Effect::Nothing,
        Err(e) => Effect::Failed(e.to_string()),
    }
}

impl Job {
    fn start(&self, known: Known, now: UnixTime) -> Box<dyn Task> {
        let host = |node: &str| AffinityOwner::Host(node.into());
        match *self {
            Job::Assign { node, handle, count } => {
                let request = AssignRequest {
                    all_or_nothing: false,
                    ..AssignRequest::workload(node, handle, count, 0)
                };
                run(Assign::new(request, now), known, move |result| match result {
                    Ok(o) => Effect::Holds { handle, addresses: o.v4.iter().map(|a| a.address).collect() },
                    Err(e) => Effect::Failed(e.to_string()),
                })
            }
            Job::AssignIp { node, handle, address } => {
                let request = AddressRequest {
                    address: address.parse().unwrap(),
                    handle: handle.into(),
                    attributes: Default::default(),
                    owner: host(node),
                    intended_use: None,
                };
                run(AssignAddress::new(request, now), known, move |result| match result {
                    Ok(a) => Effect::Holds { handle, addresses: vec![a.address] },
                    Err(e) => Effect::Failed(e.to_string()),
                })
            }
            Job::ReleaseHandle { handle } => run(ReleaseByHandle::new(handle, now), known, failed),
            Job::ReleaseIp { address } => {
                run(ReleaseAddresses::new(vec![Target::new(address.parse().unwrap())], now), known, failed)
            }
            Job::Claim { node, cidr } => {
                run(ClaimAffinity::new(cidr.parse::<Cidr>().unwrap(), host(node), now), known, failed)
            }
            Job::GiveUp { node, must_be_empty } => {
                run(ReleaseAffinities::new(Scope::Owner(host(node)), must_be_empty, now), known, failed)
            }
        }
    }
}

enum State {
    /// Ask the machine.
    Ask,
    /// Reading: what was asked and not read yet, and what was.
    Reading {
        keys: VecDeque<Key>,
        selections: VecDeque<Selection>,
        entries: Vec<(Key, Option<Entry>)>,
        listings: Vec<(Selection, Vec<Entry>)>,
    },
    /// Writing one step after the other (sequential stores only).
    Writing { writes: Vec<Write>, applied: Vec<Revision> },
}

/// A client.
pub struct Client {
    jobs: VecDeque<Job>,
    task: Option<(Job, Box<dyn Task>)>,
    state: State,
    keeps_cache: bool,
    cache: Known,
}

impl Client {
    /// A client with a script; one that keeps a cache starts each operation with what the last one knew.
    pub fn new(jobs: &[Job], keeps_cache: bool) -> Client {
        let jobs = jobs.iter().cloned().collect();
        Client { jobs, task: None, state: State::Ask, keeps_cache, cache: Known::new() }
    }

    /// Whether there is anything left to do.
    pub fn is_done(&self) -> bool {
        self.task.is_none() && self.jobs.is_empty()
    }

    /// Dies in the middle of its operation; the next one is another process's. Returns the job that was cut off.
    pub fn die(&mut self) -> Option<Job> {
        self.state = State::Ask;
        self.cache = Known::new();
        self.task.take().map(|(job, _)| job)
    }

    /// What the client is at.
    pub fn job(&self) -> Option<&Job> {
        self.task.as_ref().map(|(job, _)| job).or(self.jobs.front())
    }

    /// Whether the operation under way may release an address that a handle was given just now.
    pub fn may_release(&self, handle: &str, address: IpAddr) -> bool {
        match self.task.as_ref().map(|(job, _)| job) {
            Some(Job::ReleaseHandle { handle: h }) => *h == handle,
            Some(Job::ReleaseIp { address: a }) => a.parse() == Ok(address),
            _ => false,
        }
    }

    /// One action: a read, a write (or whole commit), or the end of an operation. Returns what ended.
    pub fn act(&mut self, store: &mut MemoryStore, now: UnixTime) -> Option<(Job, Effect)> {
        if self.task.is_none() {
            let job = self.jobs.pop_front()?;
            let task = job.start(std::mem::take(&mut self.cache), now);
            self.task = Some((job, task));
        }
        let (_, task) = self.task.as_mut()?;
        while let State::Ask = self.state {
            match task.step() {
                Todo::Read { keys, selections } => {
                    // What nobody writes is read along with the next thing: its place in the order does not matter.
                    let is_fixed = |key: &Key| matches!(key, Key::Resource(_) | Key::IpamConfig);
                    let is_list = |s: &Selection| matches!(s, Selection::Resources { .. });
                    let (fixed, keys): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(is_fixed);
                    let (lists, selections): (Vec<Selection>, Vec<Selection>) =
                        selections.into_iter().partition(is_list);
                    let entries = fixed.into_iter().map(|key| (key.clone(), store.get(&key))).collect();
                    let listings = lists.into_iter().map(|s| (s.clone(), store.list(&s))).collect();
                    if keys.is_empty() && selections.is_empty() {
                        task.feed(Response::Read { entries, listings });
                        continue;
                    }
                    let (keys, selections) = (keys.into(), selections.into());
                    self.state = State::Reading { keys, selections, entries, listings };
                }
                Todo::Commit(writes) if store.is_sequential => {
                    self.state = State::Writing { writes, applied: Vec::new() };
                }
                Todo::Commit(writes) => {
                    task.feed(store.commit(&writes));
                    return None;
                }
                Todo::Done(effect) => {
                    let (job, task) = self.task.take()?;
                    if self.keeps_cache {
                        self.cache = task.known();
                    }
                    return Some((job, effect));
                }
            }
        }
        let response = match &mut self.state {
            State::Ask => None,
            State::Reading { keys, selections, entries, listings } => {
                if let Some(selection) = selections.pop_front() {
                    listings.push((selection.clone(), store.list(&selection)));
                } else if let Some(key) = keys.pop_front() {
                    entries.push((key.clone(), store.get(&key)));
                }
                (keys.is_empty() && selections.is_empty()).then(|| Response::Read {
                    entries: std::mem::take(entries),
                    listings: std::mem::take(listings),
                })
            }
            State::Writing { writes, applied } => {
                let index = applied.len();
                match store.apply(&writes[index]) {
                    Some(revision) => {
                        applied.push(revision);
                        (applied.len() == writes.len()).then(|| Response::Committed(std::mem::take(applied)))
                    }
                    None => Some(Response::Conflict {
                        index,
                        current: store.get(writes[index].key()),
                        applied: std::mem::take(applied),
                    }),
                }
            }
        };
        if let Some(response) = response {
            self.state = State::Ask;
            task.feed(response);
        }
        None
    }
}

/// Who holds which address, by what clients were told. An operation that may take addresses away ends all claims to
/// them when it starts.
#[derive(Default)]
pub struct Ledger {
    /// By address: the handle.
    pub holds: BTreeMap<IpAddr, &'static str>,
}

impl Ledger {
    /// A job begins.
    pub fn begin(&mut self, job: &Job) {
        match job {
            Job::ReleaseHandle { handle } => self.holds.retain(|_, h| h != handle),
            Job::ReleaseIp { address } => {
                self.holds.remove(&address.parse::<IpAddr>().unwrap());
            }
            _ => {}
        }
    }
}
