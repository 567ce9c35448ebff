//! The Linux kernel as the dataplane sees it: netlink, sysctls, network namespaces.
//!
//! Everything is blocking and thin: what to do was decided elsewhere. Unsafe code is confined to system calls that no
//! safe wrapper covers, each with its reason.

#![allow(
    clippy::disallowed_methods,
    reason = "this crate is the edge: it reads and writes the kernel's files"
)]

pub mod attr;
pub mod conntrack;
#[doc(hidden)]
pub mod decoders;
pub mod ethtool;
mod kernel;
mod leftovers;
pub mod lock;
pub mod monitor;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod rtnl;
pub mod sysctl;
pub mod veth;

#[cfg(test)]
mod testing;

pub use kernel::RealKernel;
