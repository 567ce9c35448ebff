//! The kernel, as the dataplane needs it: what can be read and what can be done.
//!
//! `calico-linux` has the real one; [`crate::fake::FakeKernel`] refuses what the real one refuses, and both pass
//! [`crate::contract`].

use std::net::IpAddr;

use calico_rules::nft::Table;
use thiserror::Error;

use crate::leftovers::{LeftoverOp, Leftovers};
use crate::tables::fdb::{FdbEntry, FdbOp};
use crate::tables::link::{Address, AddressOp, Link};
use crate::tables::neigh::{Neighbour, NeighbourOp};
use crate::tables::nft::{ActualNft, ActualRule, NftOp};
use crate::tables::route::{Route, RouteOp};
use crate::tables::sysctl::Sysctl;
use crate::tables::tunnel::{Tunnel, TunnelOp};

/// Why something was not done, in words for the operator.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct KernelError(pub String);

/// Why a transaction was not done. None of it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NftRefusal {
    /// One operation is at fault.
    #[error("{reason}")]
    Operation {
        /// Its place in the transaction.
        index: usize,
        /// Why.
        reason: String,
    },
    /// There is no memory for it. What was there before is in force.
    #[error("no memory for the ruleset: {0}")]
    NoMemory(String),
    /// The transaction could not be tried: no privilege, another agent owns the tables, a broken socket.
    #[error("{0}")]
    Failed(String),
}

/// Why one route was not changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RouteRefusal {
    /// A route was to be added, and there is one with its key.
    #[error("another route is in its place")]
    Exists,
    /// Anything else.
    #[error("{0}")]
    Failed(KernelError),
}

/// What the dataplane asks of a kernel. Reads are complete and consistent; writes say exactly what they did not do.
pub trait Kernel {
    /// All of our nf_tables tables.
    fn read_nft(&mut self) -> Result<ActualNft, KernelError>;
    /// The rules of one chain, with their handles.
    fn read_chain(&mut self, table: Table, chain: &str) -> Result<Vec<ActualRule>, KernelError>;
    /// Whether nobody but us can change our nf_tables tables.
    fn owns_tables(&self) -> bool;
    /// The number of nf_tables transactions that anybody made.
    fn read_generation(&mut self) -> Result<u32, KernelError>;
    /// Does all operations in one transaction, or none.
    fn apply_nft(&mut self, ops: &[NftOp]) -> Result<(), NftRefusal>;
    /// All interfaces.
    fn read_links(&mut self) -> Result<Vec<Link>, KernelError>;
    /// The addresses of all interfaces.
    fn read_addresses(&mut self) -> Result<Vec<Address>, KernelError>;
    /// Changes addresses, each for itself; returns those refused by their place in `ops`.
    fn apply_addresses(&mut self, ops: &[AddressOp]) -> Result<Vec<(usize, KernelError)>, KernelError>;
    /// The tunnel devices that have names of ours; an IPIP device that is switched off is none.
    fn read_tunnels(&mut self) -> Result<Vec<Tunnel>, KernelError>;
    /// Changes a tunnel device.
    fn apply_tunnel(&mut self, op: &TunnelOp) -> Result<(), KernelError>;
    /// The forwarding entries of our VXLAN devices.
    fn read_fdb(&mut self) -> Result<Vec<FdbEntry>, KernelError>;
    /// Changes forwarding entries, each for itself; returns those refused by their place in `ops`.
    fn apply_fdb(&mut self, ops: &[FdbOp]) -> Result<Vec<(usize, KernelError)>, KernelError>;
    /// The main tables of both families.
    fn read_routes(&mut self) -> Result<Vec<Route>, KernelError>;
    /// Changes routes, each for itself; returns those refused by their place in `ops`.
    fn apply_routes(&mut self, ops: &[RouteOp]) -> Result<Vec<(usize, RouteRefusal)>, KernelError>;
    /// The neighbours of both families.
    fn read_neighbours(&mut self) -> Result<Vec<Neighbour>, KernelError>;
    /// Changes neighbours, each for itself; returns those refused by their place in `ops`.
    fn apply_neighbours(&mut self, ops: &[NeighbourOp]) -> Result<Vec<(usize, KernelError)>, KernelError>;
    /// Sets a parameter.
    fn write_sysctl(&mut self, sysctl: &Sysctl) -> Result<(), KernelError>;
    /// Forgets all connections from or to these addresses; returns how many there were.
    fn delete_conntrack(&mut self, addresses: &[IpAddr]) -> Result<usize, KernelError>;
    /// What another Calico may have left.
    fn read_leftovers(&mut self) -> Result<Leftovers, KernelError>;
    /// Removes one thing that another Calico left.
    fn apply_leftover(&mut self, op: &LeftoverOp) -> Result<(), KernelError>;
}
