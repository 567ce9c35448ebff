//! Tunnel addresses: each node has one in every overlay that its pools use, assigned by IPAM and told in its Node (spec 6
//! §4.3). Where Calico runs a process of its own for this, here it is a task of the agent.
//!
//! ```text
//! pools, own Node ──▶ which kinds need one, of which ranges ──plan──▶ Step ──▶ IPAM, Node
//! agent: "the device is there" ──────────────────────────────────▲ others are told of an address only then
//! ```

pub mod kind;
pub mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use calico_api::{
    AffinityOwner, AllowedUse, DecodeError, Entry, IPPool, Key, Kind, Node, Selection, Write, decode, merge,
};
use calico_dataplane::tables::tunnel::TunnelId;
use calico_ipam::{
    AddressError, AddressRequest, AddressesOf, Assign, AssignAddress, AssignError, AssignRequest,
    AssignmentOf, Contended, ReleaseAddresses, ReleaseError, Target, UnixTime,
};
use calico_net::{Cidr, Family};
use calico_store::ipam::{DriveError, drive};
use calico_store::{CommitError, GetError, Store, SyncEvent, Syncer, SyncerOptions};
use futures::FutureExt;
use smol_str::SmolStr;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::kind::TunnelKind;
use self::plan::{Facts, Step};
use crate::health::{Report, Reporter};

/// How long an address is kept after the last pool that needed it: others may not have heard of the change yet and go
/// on sending to it. As long as the agent keeps what belongs to it.
const HANDOVER: Duration = Duration::from_secs(10);
/// Wait after something failed; doubled up to the longest.
const FIRST_RETRY: Duration = Duration::from_millis(200);
const LAST_RETRY: Duration = Duration::from_secs(30);
/// Far more steps than any state is away from the right one.
const MAX_STEPS: usize = 16;
/// Writers of one's own Node are few.
const NODE_TRIES: u32 = 10;

/// Now, for IPAM.
fn now() -> UnixTime {
    UnixTime::from_secs(SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_secs())
}

/// Why a tunnel address is not as it should be.
#[derive(Debug, thiserror::Error)]
enum TunnelError {
    #[error("cannot read who has the address")]
    Question(#[source] DriveError<Contended>),
    #[error("cannot assign an address")]
    Assign(#[source] DriveError<AssignError>),
    #[error("cannot assign an address: {0}")]
    Short(String),
    #[error("cannot take the address {0} that the Node says")]
    Claim(IpAddr, #[source] DriveError<AddressError>),
    #[error("cannot release an address")]
    Release(#[source] DriveError<ReleaseError>),
    #[error("cannot read this node's resource")]
    ReadNode(#[from] GetError),
    #[error("cannot understand this node's resource")]
    DecodeNode(#[from] DecodeError),
    #[error("cannot write this node's resource")]
    WriteNode(#[from] CommitError),
    #[error("this node has no resource")]
    NoNode,
    #[error("its state changes all the time")]
    Restless,
}

/// How far a tunnel address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// As it should be, until something changes.
    Settled,
    /// Others may learn of it when this node can receive.
    AwaitsDevice,
    /// Kept until then.
    Kept(Instant),
}

/// Keeps this node's tunnel addresses until told to stop. `ready` says through which tunnels the node can receive.
pub async fn run_tunnels(
    store: Arc<dyn Store>,
    node: SmolStr,
    mut ready: watch::Receiver<BTreeSet<TunnelId>>,
    reporter: Reporter,
    shutdown: CancellationToken,
) {
    let mut syncer = Syncer::spawn(store.clone(), selections(&node), SyncerOptions::default());
    let mut tunnels =
        Tunnels { store, node, world: World::default(), states: BTreeMap::new(), wait: FIRST_RETRY };
    let mut wake: Option<Instant> = None;
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            event = syncer.next() => {
                let Some(event) = event else { return };
                tunnels.world.take(&tunnels.node, event);
                while let Some(Some(event)) = syncer.next().now_or_never() {
                    tunnels.world.take(&tunnels.node, event);
                }
            }
            // Whoever has gone has nothing new to say.
            Ok(()) = ready.changed() => {}
            () = tokio::time::sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
        }
        if !tunnels.world.in_sync {
            continue;
        }
        let can_receive = ready.borrow_and_update().clone();
        // A datastore that is away must not hold up the end.
        let (next, report) = tokio::select! {
            () = shutdown.cancelled() => return,
            turned = tunnels.turn(&can_receive, Instant::now()) => turned,
        };
        wake = next;
        reporter.report(report);
    }
}

/// What is followed: of the nodes only the own one, lest every agent hears of every other once more.
fn selections(node: &str) -> Vec<Selection> {
    vec![Selection::all(Kind::IPPool), Selection::one(Kind::Node, "", node)]
}

/// What was heard of the datastore.
#[derive(Debug, Default)]
struct World {
    pools: BTreeMap<Key, IPPool>,
    node: Option<Node>,
    in_sync: bool,
}

impl World {
    fn take(&mut self, own: &str, event: SyncEvent) {
        let updates = match event {
            SyncEvent::InSync => {
                self.in_sync = true;
                return;
            }
            SyncEvent::Updates(updates) => updates,
        };
        for (key, entry) in updates {
            match &key {
                Key::Resource(resource) if resource.kind == Kind::IPPool => match read(entry.as_ref()) {
                    Some(pool) => drop(self.pools.insert(key, pool)),
                    None => drop(self.pools.remove(&key)),
                },
                Key::Resource(resource) if resource.kind == Kind::Node && resource.name == own => {
                    self.node = read(entry.as_ref());
                }
                _ => {}
            }
        }
    }
}

/// What cannot be read counts as absent, and is said.
fn read<S: calico_api::Spec>(entry: Option<&Entry>) -> Option<calico_api::Resource<S>> {
    let decoded = decode(entry?);
    decoded.inspect_err(|error| tracing::warn!(%error, "cannot read a resource; it counts as absent")).ok()
}

/// One kind's address: what it was last brought in line with, and since when nobody needs it.
#[derive(Clone, Debug, Default)]
struct State {
    settled: Option<(Vec<Cidr>, Option<IpAddr>)>,
    unneeded_since: Option<Instant>,
    problem: Option<String>,
}

struct Tunnels {
    store: Arc<dyn Store>,
    node: SmolStr,
    world: World,
    states: BTreeMap<TunnelKind, State>,
    wait: Duration,
}

impl Tunnels {
    /// Brings all kinds in line; when to look again unless something happens before, and how it is.
    async fn turn(&mut self, can_receive: &BTreeSet<TunnelId>, now: Instant) -> (Option<Instant>, Report) {
        let mut wake: Option<Instant> = None;
        let mut details = Vec::new();
        let mut failed = false;
        for kind in TunnelKind::ALL {
            let mut state = self.states.remove(&kind).unwrap_or_default();
            let outcome = self.bring_in_line(kind, &mut state, can_receive, now).await;
            let problem = outcome.as_ref().err().map(error_chain);
            if let Some(text) = problem.as_ref().filter(|text| state.problem.as_ref() != Some(*text)) {
                tracing::error!(
                    field = kind.field(),
                    error = text,
                    "this node's tunnel address is not as it should be"
                );
            }
            match outcome {
                Ok(Outcome::Settled) => {}
                Ok(Outcome::Kept(until)) => wake = Some(wake.map_or(until, |at| at.min(until))),
                Ok(Outcome::AwaitsDevice) => {
                    details.push(format!("{}: waiting for the tunnel device", kind.field()));
                }
                Err(_) => {
                    failed = true;
                    details.push(format!("{}: {}", kind.field(), problem.as_deref().unwrap_or_default()));
                }
            }
            state.problem = problem;
            self.states.insert(kind, state);
        }
        if failed {
            let at = now + self.wait;
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
            self.wait = (self.wait * 2).min(LAST_RETRY);
        } else {
            self.wait = FIRST_RETRY;
        }
        (wake, Report { live: true, ready: details.is_empty(), detail: details.join("; ") })
    }

    async fn bring_in_line(
        &self,
        kind: TunnelKind,
        state: &mut State,
        can_receive: &BTreeSet<TunnelId>,
        now: Instant,
    ) -> Result<Outcome, TunnelError> {
        let Some(node) = &self.world.node else { return Ok(Outcome::Settled) };
        let pools = kind.pools(self.world.pools.values(), &node.metadata.labels);
        let mut stored = kind.stored(&node.spec);
        if !pools.is_empty() || stored.is_none() {
            state.unneeded_since = None;
        } else {
            let since = *state.unneeded_since.get_or_insert(now);
            if now < since + HANDOVER {
                return Ok(Outcome::Kept(since + HANDOVER));
            }
        }
        if state.settled.as_ref().is_some_and(|(p, s)| (p, s) == (&pools, &stored)) {
            return Ok(Outcome::Settled);
        }
        state.settled = None;
        for _ in 0..MAX_STEPS {
            let holder = match stored {
                Some(addr) => {
                    drive(&*self.store, AssignmentOf::new(addr)).await.map_err(TunnelError::Question)?
                }
                None => None,
            };
            let question = AddressesOf::new(&kind.handle(&self.node));
            let held = drive(&*self.store, question).await.map_err(TunnelError::Question)?;
            let facts =
                Facts { node: &self.node, pools: &pools, stored, holder: holder.as_ref(), held: &held };
            match plan::plan(kind, &facts) {
                Step::Done => {
                    state.settled = Some((pools, stored));
                    return Ok(Outcome::Settled);
                }
                Step::Publish(_) if !can_receive.contains(&kind.device()) => {
                    return Ok(Outcome::AwaitsDevice);
                }
                Step::Publish(addr) => stored = self.tell(kind, Some(addr)).await?,
                Step::Withdraw => stored = self.tell(kind, None).await?,
                Step::Claim(addr) => match self.claim(kind, addr).await {
                    Ok(()) => {}
                    // Somebody was faster, or it rests after its release.
                    Err(TunnelError::Claim(_, DriveError::Refused(_))) => self.assign(kind, &pools).await?,
                    Err(error) => return Err(error),
                },
                Step::Assign => self.assign(kind, &pools).await?,
                Step::Release(addresses) => self.release(kind, &addresses).await?,
            }
        }
        Err(TunnelError::Restless)
    }

    async fn assign(&self, kind: TunnelKind, pools: &[Cidr]) -> Result<(), TunnelError> {
        let (num4, num6) = match kind.family() {
            Family::V4 => (1, 0),
            Family::V6 => (0, 1),
        };
        let mut request = AssignRequest::workload(&self.node, &kind.handle(&self.node), num4, num6);
        request.attributes = kind.attributes(&self.node);
        request.intended_use = AllowedUse::Tunnel;
        match kind.family() {
            Family::V4 => request.pools4 = pools.to_vec(),
            Family::V6 => request.pools6 = pools.to_vec(),
        }
        let assigned = drive(&*self.store, Assign::new(request, now())).await;
        let assigned = assigned.map_err(TunnelError::Assign)?;
        match assigned.shortfalls.first() {
            Some(shortfall) => Err(TunnelError::Short(shortfall.to_string())),
            None => Ok(()),
        }
    }

    async fn claim(&self, kind: TunnelKind, address: IpAddr) -> Result<(), TunnelError> {
        let request = AddressRequest {
            address,
            handle: calico_ipam::handle_id(&kind.handle(&self.node)),
            attributes: kind.attributes(&self.node),
            owner: AffinityOwner::Host(self.node.clone()),
            intended_use: Some(AllowedUse::Tunnel),
        };
        let claimed = drive(&*self.store, AssignAddress::new(request, now())).await;
        claimed.map(|_| ()).map_err(|error| TunnelError::Claim(address, error))
    }

    async fn release(&self, kind: TunnelKind, addresses: &[IpAddr]) -> Result<(), TunnelError> {
        let handle = calico_ipam::handle_id(&kind.handle(&self.node));
        let target = |addr: &IpAddr| Target { handle: Some(handle.clone()), ..Target::new(*addr) };
        let operation = ReleaseAddresses::new(addresses.iter().map(target).collect(), now());
        drive(&*self.store, operation).await.map(|_| ()).map_err(TunnelError::Release)
    }

    /// Lets the Node say an address, or none; returns what it says now.
    async fn tell(&self, kind: TunnelKind, addr: Option<IpAddr>) -> Result<Option<IpAddr>, TunnelError> {
        let key = Key::resource(Kind::Node, "", &self.node);
        for attempt in 1.. {
            let entry = self.store.get(&key).await?.ok_or(TunnelError::NoNode)?;
            let mut node: Node = decode(&entry)?;
            kind.store(&mut node.spec, addr);
            let write = Write::update(key.clone(), merge(&entry, &node)?, entry.revision.clone());
            match self.store.commit(&[write]).await {
                Ok(_) => {
                    let address = addr.map_or_else(|| "none".to_owned(), |addr| addr.to_string());
                    tracing::info!(field = kind.field(), address, "this node's tunnel address has changed");
                    return Ok(addr);
                }
                Err(CommitError::Conflict { .. }) if attempt < NODE_TRIES => {}
                Err(error) => return Err(error.into()),
            }
        }
        unreachable!("the last attempt returns")
    }
}

/// An error with its causes.
fn error_chain(error: &TunnelError) -> String {
    let causes = std::iter::successors(Some(error as &dyn std::error::Error), |e| e.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;
