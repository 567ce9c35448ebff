//! The real kernel behind the dataplane's trait: one socket for nf_tables, kept for life, and one for rtnetlink.

use std::net::IpAddr;

use calico_dataplane::kernel::RouteRefusal;
use calico_dataplane::leftovers::{LeftoverOp, Leftovers};
use calico_dataplane::tables::fdb::{FdbEntry, FdbOp};
use calico_dataplane::tables::link::{Address, AddressOp, Link};
use calico_dataplane::tables::neigh::{Neighbour, NeighbourOp};
use calico_dataplane::tables::nft::{ActualNft, ActualRule, NftOp};
use calico_dataplane::tables::route::{MAIN_TABLE, Route, RouteOp};
use calico_dataplane::tables::sysctl;
use calico_dataplane::tables::tunnel::{Tunnel, TunnelOp};
use calico_dataplane::{Kernel, KernelError, NftRefusal};
use calico_net::Family;
use calico_rules::nft::Table;
use nix::errno::Errno;

use crate::netlink::{NetlinkError, Traffic};
use crate::nft::{NftError, NftSocket};
use crate::rtnl::{Rtnl, RtnlError};
use crate::sysctl::Sysctl;

/// The kernel of the network namespace in which it was opened. Parameters are those of the calling thread's.
#[derive(Debug)]
pub struct RealKernel {
    nft: NftSocket,
    rtnl: Rtnl,
    sysctl: Sysctl,
}

impl RealKernel {
    /// Opens the sockets in the calling thread's network namespace.
    pub fn open(sysctl: Sysctl) -> Result<RealKernel, KernelError> {
        Ok(RealKernel { nft: NftSocket::open().map_err(words)?, rtnl: Rtnl::open().map_err(words)?, sysctl })
    }

    /// What went out to nf_tables and to rtnetlink so far.
    pub fn traffic(&self) -> (Traffic, Traffic) {
        (self.nft.traffic(), self.rtnl.traffic())
    }

    /// The rtnetlink socket, for what the trait does not cover.
    pub fn rtnl(&mut self) -> &mut Rtnl {
        &mut self.rtnl
    }

    /// The nf_tables socket, for what the trait does not cover.
    pub fn nft(&mut self) -> &mut NftSocket {
        &mut self.nft
    }
}

fn words(error: impl std::fmt::Display) -> KernelError {
    KernelError(error.to_string())
}

fn each(refused: Vec<(usize, RtnlError)>) -> Vec<(usize, KernelError)> {
    refused.into_iter().map(|(place, error)| (place, words(error))).collect()
}

impl Kernel for RealKernel {
    fn read_nft(&mut self) -> Result<ActualNft, KernelError> {
        self.nft.read().map_err(words)
    }

    fn read_chain(&mut self, table: Table, chain: &str) -> Result<Vec<ActualRule>, KernelError> {
        self.nft.read_chain(table, chain).map_err(words)
    }

    fn owns_tables(&self) -> bool {
        self.nft.features().persistent_owner
    }

    fn read_generation(&mut self) -> Result<u32, KernelError> {
        self.nft.read_generation().map_err(words)
    }

    fn apply_nft(&mut self, ops: &[NftOp]) -> Result<(), NftRefusal> {
        let no_memory = |errno: Errno| matches!(errno, Errno::ENOMEM | Errno::ENOBUFS | Errno::EMSGSIZE);
        self.nft.apply(ops).map_err(|error| match &error {
            NftError::Refused { refusal, .. } | NftError::RefusedWhole(refusal)
                if no_memory(refusal.errno) =>
            {
                NftRefusal::NoMemory(error.to_string())
            }
            NftError::Netlink(NetlinkError::System { errno, .. }) if no_memory(*errno) => {
                NftRefusal::NoMemory(error.to_string())
            }
            NftError::Refused { index, .. } => {
                NftRefusal::Operation { index: *index, reason: error.to_string() }
            }
            NftError::Netlink(_) | NftError::RefusedWhole(_) | NftError::Owned { .. } => {
                NftRefusal::Failed(error.to_string())
            }
        })
    }

    fn read_links(&mut self) -> Result<Vec<Link>, KernelError> {
        self.rtnl.read_links().map_err(words)
    }

    fn read_addresses(&mut self) -> Result<Vec<Address>, KernelError> {
        self.rtnl.read_addresses().map_err(words)
    }

    fn apply_addresses(&mut self, ops: &[AddressOp]) -> Result<Vec<(usize, KernelError)>, KernelError> {
        self.rtnl.apply_each_address(ops).map(each).map_err(words)
    }

    fn read_tunnels(&mut self) -> Result<Vec<Tunnel>, KernelError> {
        self.rtnl.read_tunnels().map_err(words)
    }

    fn apply_tunnel(&mut self, op: &TunnelOp) -> Result<(), KernelError> {
        self.rtnl.apply_tunnel(op).map_err(words)
    }

    fn read_fdb(&mut self) -> Result<Vec<FdbEntry>, KernelError> {
        self.rtnl.read_fdb().map_err(words)
    }

    fn apply_fdb(&mut self, ops: &[FdbOp]) -> Result<Vec<(usize, KernelError)>, KernelError> {
        self.rtnl.apply_fdb(ops).map(each).map_err(words)
    }

    fn read_routes(&mut self) -> Result<Vec<Route>, KernelError> {
        self.rtnl.read_links().map_err(words)?;
        let mut routes = self.rtnl.read_routes(Family::V4, MAIN_TABLE).map_err(words)?;
        routes.extend(self.rtnl.read_routes(Family::V6, MAIN_TABLE).map_err(words)?);
        Ok(routes)
    }

    fn apply_routes(&mut self, ops: &[RouteOp]) -> Result<Vec<(usize, RouteRefusal)>, KernelError> {
        let why = |error: RtnlError| match error.errno() {
            Some(Errno::EEXIST) => RouteRefusal::Exists,
            _ => RouteRefusal::Failed(words(error)),
        };
        let refused = self.rtnl.apply_routes(ops).map_err(words)?;
        Ok(refused.into_iter().map(|(place, error)| (place, why(error))).collect())
    }

    fn read_neighbours(&mut self) -> Result<Vec<Neighbour>, KernelError> {
        self.rtnl.read_neighbours().map_err(words)
    }

    fn apply_neighbours(&mut self, ops: &[NeighbourOp]) -> Result<Vec<(usize, KernelError)>, KernelError> {
        self.rtnl.apply_neighbours(ops).map(each).map_err(words)
    }

    fn write_sysctl(&mut self, sysctl: &sysctl::Sysctl) -> Result<(), KernelError> {
        self.sysctl.write(&sysctl.name, &sysctl.value).map_err(words)
    }

    fn read_leftovers(&mut self) -> Result<Leftovers, KernelError> {
        crate::leftovers::read(&mut self.nft).map_err(words)
    }

    fn apply_leftover(&mut self, op: &LeftoverOp) -> Result<(), KernelError> {
        crate::leftovers::apply(&mut self.nft, op).map_err(words)
    }

    fn delete_conntrack(&mut self, addresses: &[IpAddr]) -> Result<usize, KernelError> {
        crate::conntrack::delete_by_address(addresses).map_err(words)
    }
}

#[cfg(test)]
mod tests;
