//! What automatic assignment is asked for, and what it answers.

use std::fmt;
use std::net::IpAddr;

use calico_api::{AffinityOwner, AllowedUse, Labels};
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::machine::Contended;
use crate::pools::PoolError;

/// A request for addresses.
#[derive(Clone, Debug, PartialEq)]
pub struct AssignRequest {
    /// IPv4 addresses wanted.
    pub num4: usize,
    /// IPv6 addresses wanted.
    pub num6: usize,
    /// The handle that will release them.
    pub handle: SmolStr,
    /// Stored beside each address: pod, namespace, node, timestamp, type (spec 5 §2.2).
    pub attributes: Labels,
    /// Whose blocks to use: the node, or the virtual owner of load-balancer addresses, which has no Node resource.
    pub owner: AffinityOwner,
    /// Only these IPv4 pools; empty for any.
    pub pools4: Vec<Cidr>,
    /// Only these IPv6 pools; empty for any.
    pub pools6: Vec<Cidr>,
    /// What for; a pool must allow it.
    pub intended_use: AllowedUse,
    /// The labels of the workload's namespace, for namespace selectors; empty if there is none.
    pub namespace_labels: Labels,
    /// The most blocks that the owner may have; the configured limit counts too, the lower wins.
    pub max_blocks: Option<u32>,
    /// Pass over pools of blocks longer than this.
    pub max_block_len: Option<u8>,
    /// If fewer addresses than wanted can be had, release what was assigned and fail (spec 5 §2.1, dual stack).
    pub all_or_nothing: bool,
}

impl AssignRequest {
    /// A request of a workload on a node for so many addresses of each family, and nothing special.
    pub fn workload(node: &str, handle: &str, num4: usize, num6: usize) -> AssignRequest {
        AssignRequest {
            num4,
            num6,
            handle: crate::handle_id(handle),
            attributes: Labels::new(),
            owner: AffinityOwner::Host(SmolStr::new(node)),
            pools4: Vec::new(),
            pools6: Vec::new(),
            intended_use: AllowedUse::Workload,
            namespace_labels: Labels::new(),
            max_blocks: None,
            max_block_len: None,
            all_or_nothing: true,
        }
    }

    pub(crate) fn count(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.num4,
            Family::V6 => self.num6,
        }
    }

    pub(crate) fn pools(&self, family: Family) -> &[Cidr] {
        match family {
            Family::V4 => &self.pools4,
            Family::V6 => &self.pools6,
        }
    }

    pub(crate) fn owner_name(&self) -> &SmolStr {
        match &self.owner {
            AffinityOwner::Host(name) | AffinityOwner::Virtual(name) => name,
        }
    }
}

/// One assigned address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Assigned {
    /// The address.
    pub address: IpAddr,
    /// Its block: results name the address with the block's mask (spec 5 §2.1).
    pub block: Cidr,
}

/// Why a family has fewer addresses than wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// The owner has as many blocks as it may (spec 5 §2.5, step 5b). Nothing is borrowed then.
    #[error("limit of {0} blocks reached for this node")]
    BlockLimit(u32),
    /// Every block is full, and under strict affinity nothing may be borrowed.
    #[error("no more free affine blocks and strict affinity enabled")]
    Strict,
    /// Nothing is free in any pool.
    #[error("no more free addresses in any of the pools")]
    Exhausted,
}

/// A family that has fewer addresses than wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Which.
    pub family: Family,
    /// Wanted.
    pub requested: usize,
    /// Assigned.
    pub assigned: usize,
    /// Why not all.
    pub reason: Reason,
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shortfall { family, requested, assigned, reason } = self;
        write!(f, "Assigned {assigned} out of {requested} requested {family} addresses; {reason}")
    }
}

/// What was assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AssignOutcome {
    /// IPv4 addresses.
    pub v4: Vec<Assigned>,
    /// IPv6 addresses.
    pub v6: Vec<Assigned>,
    /// Families with too few.
    pub shortfalls: Vec<Shortfall>,
}

impl AssignOutcome {
    pub(crate) fn of(&mut self, family: Family) -> &mut Vec<Assigned> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    pub(crate) fn assigned(&self, family: Family) -> usize {
        match family {
            Family::V4 => self.v4.len(),
            Family::V6 => self.v6.len(),
        }
    }
}

/// Why nothing was assigned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AssignError {
    /// No pool serves the request.
    #[error(transparent)]
    Pool(#[from] PoolError),
    /// The node has no Node resource, so nobody knows which pools select it.
    #[error("node {0} does not exist")]
    NoNode(SmolStr),
    /// The settings contradict themselves.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// The settings, a reservation or the handle cannot be read.
    #[error(transparent)]
    Unreadable(#[from] crate::known::Problem),
    /// Fewer addresses than wanted; those that were assigned have been released.
    #[error("{}", .0.iter().map(|s| s.to_string()).collect::<Vec<_>>().join("; "))]
    Short(Vec<Shortfall>),
    /// Too many conflicts.
    #[error(transparent)]
    Contended(#[from] Contended),
}
