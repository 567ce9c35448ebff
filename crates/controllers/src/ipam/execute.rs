//! Carries a plan out: asks the cluster once more, then releases by compare-and-swap.

use std::collections::{BTreeMap, BTreeSet};

use calico_api::AffinityOwner;
use calico_ipam::check::Leftover;
use calico_ipam::{Collect, ReleaseAddresses, ReleaseAffinities, Released, Scope, Target, UnixTime};
use calico_net::Cidr;
use calico_store::Store;
use calico_store::error::chain;
use calico_store::ipam::drive;
use futures::{StreamExt, stream};
use smol_str::SmolStr;

use super::{Action, AllocationId, Leak, Reason, User};
use crate::cluster::{AskError, Cluster};

/// How many pods and nodes are looked up at once.
const MAX_ASKING: usize = 8;

/// How many addresses of a block one operation releases: it is one write of the block, and one of each handle.
const PORTION: usize = 64;

/// What became of a plan.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Addresses that were released.
    pub released: Vec<Leak>,
    /// Addresses that turned out to be in use.
    pub in_use: Vec<AllocationId>,
    /// What went wrong; worth another try.
    pub failures: Vec<String>,
}

/// Who carries out.
pub struct Executor<'a> {
    /// Calico's datastore.
    pub store: &'a dyn Store,
    /// Who is asked.
    pub cluster: &'a dyn Cluster,
    /// The time of day.
    pub wall: UnixTime,
}

impl Executor<'_> {
    /// Carries out.
    pub async fn execute(&self, actions: Vec<Action>) -> Outcome {
        let mut outcome = Outcome::default();
        // Nodes of which something stays that was to go.
        let mut kept: BTreeSet<SmolStr> = BTreeSet::new();
        let (mut releases, mut leftovers, mut rest) = (Vec::new(), Vec::new(), Vec::new());
        for action in actions {
            match action {
                Action::Release(leaks) => releases.push(leaks),
                Action::Collect(leftover) => leftovers.push(leftover),
                action => rest.push(action),
            }
        }
        self.release(releases, &mut kept, &mut outcome).await;
        for action in rest {
            let done = match action {
                Action::ReleaseBlock { node, block } => self.release_block(&node, block).await,
                Action::ForgetNode(node) if kept.contains(&node) => Ok(()),
                Action::ForgetNode(node) => self.forget_node(&node).await,
                // They were sorted out above.
                Action::Release(_) | Action::Collect(_) => Ok(()),
            };
            outcome.failures.extend(done.err());
        }
        if !leftovers.is_empty() {
            outcome.failures.extend(self.collect(leftovers).await.err());
        }
        outcome
    }

    async fn release(&self, handles: Vec<Vec<Leak>>, kept: &mut BTreeSet<SmolStr>, outcome: &mut Outcome) {
        let asked = stream::iter(handles.into_iter().map(async |leaks| {
            let answer = self.is_leaked(&leaks).await;
            (leaks, answer)
        }));
        let mut answers = asked.buffered(MAX_ASKING);
        let mut blocks: BTreeMap<Cidr, Vec<Leak>> = BTreeMap::new();
        while let Some((leaks, answer)) = answers.next().await {
            if answer == Ok(true) {
                for leak in leaks {
                    blocks.entry(leak.allocation.block).or_default().push(leak);
                }
                continue;
            }
            kept.extend(leaks.iter().filter_map(|leak| leak.allocation.home().cloned()));
            match answer {
                Err(error) => outcome.failures.push(error.to_string()),
                Ok(_) => {
                    for Leak { allocation, reason } in &leaks {
                        let address = allocation.id.address;
                        tracing::debug!(%address, %reason, "kept: it is in use after all");
                    }
                    outcome.in_use.extend(leaks.into_iter().map(|leak| leak.allocation.id));
                }
            }
        }
        for (block, leaks) in blocks {
            for portion in leaks.chunks(PORTION) {
                self.release_portion(block, portion, kept, outcome).await;
            }
        }
    }

    async fn release_portion(
        &self,
        block: Cidr,
        leaks: &[Leak],
        kept: &mut BTreeSet<SmolStr>,
        outcome: &mut Outcome,
    ) {
        let target = |leak: &Leak| {
            let AllocationId { handle, address, sequence } = leak.allocation.id.clone();
            Target { address, block: Some(block), handle: Some(handle), sequence: Some(sequence) }
        };
        let operation = ReleaseAddresses::new(leaks.iter().map(target).collect(), self.wall);
        match drive(self.store, operation).await {
            Ok(Released { released, unallocated, refused }) => {
                for Leak { allocation, reason } in leaks {
                    let address = allocation.id.address;
                    if released.contains(&address) {
                        let handle = &allocation.id.handle;
                        tracing::info!(%address, %handle, %reason, "address released");
                    } else if !unallocated.contains(&address) {
                        kept.extend(allocation.home().cloned());
                    }
                }
                let is_released = |leak: &&Leak| released.contains(&leak.allocation.id.address);
                outcome.released.extend(leaks.iter().filter(is_released).cloned());
                for refusal in refused {
                    // It was assigned anew since: no leak, and nothing to try again.
                    tracing::debug!(%refusal, "kept");
                }
            }
            Err(error) => {
                kept.extend(leaks.iter().filter_map(|leak| leak.allocation.home().cloned()));
                outcome.failures.push(format!("cannot release addresses of {block}: {}", chain(&error)));
            }
        }
    }

    /// Whether nothing uses any address of a handle, by the cluster's own word.
    async fn is_leaked(&self, leaks: &[Leak]) -> Result<bool, AskError> {
        for Leak { allocation, reason } in leaks {
            // It did not wait for its grace period, since its node was gone.
            if let Reason::PodAndNode(_, _, node) = reason
                && self.cluster.has_node(node).await?
            {
                return Ok(false);
            }
            match (&allocation.user, &allocation.node) {
                (User::Pods(pods), _) => {
                    for pod in pods {
                        if self.cluster.uses(pod, &allocation.id).await? {
                            return Ok(false);
                        }
                    }
                }
                (User::Tunnel, Some(node)) if !self.cluster.has_node(node).await? => {}
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    async fn release_block(&self, node: &SmolStr, block: Cidr) -> Result<(), String> {
        let scope = Scope::Range { owner: AffinityOwner::Host(node.clone()), cidr: block };
        let operation = ReleaseAffinities::new(scope, true, self.wall);
        match drive(self.store, operation).await {
            Ok(claims) => {
                if claims.done.contains(&block) {
                    let reason = "it is empty, and its node has others";
                    tracing::info!(%block, %node, reason, "block released");
                }
                Ok(())
            }
            Err(error) => Err(format!("cannot release block {block} of node {node}: {}", chain(&error))),
        }
    }

    async fn forget_node(&self, node: &SmolStr) -> Result<(), String> {
        match self.cluster.has_node(node).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => return Err(error.to_string()),
        }
        match drive(self.store, ReleaseAffinities::remove_host(node, self.wall)).await {
            Ok(claims) => {
                for block in claims.done {
                    tracing::info!(%block, %node, reason = "its node is gone", "block released");
                }
                Ok(())
            }
            Err(error) => Err(format!("cannot release blocks of node {node}: {}", chain(&error))),
        }
    }

    async fn collect(&self, leftovers: Vec<Leftover>) -> Result<(), String> {
        let mut failures = Vec::new();
        for leftover in leftovers {
            let reason = leftover.to_string();
            match drive(self.store, Collect::new([leftover], self.wall)).await {
                Ok(0) => {}
                Ok(_) => tracing::info!(reason, "leftover collected"),
                Err(error) => failures.push(format!("cannot collect ({reason}): {}", chain(&error))),
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(failures.join("; ")) }
    }
}
