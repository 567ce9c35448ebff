//! Checksum offload of a device, by ethtool's ioctl (linux/ethtool.h): rtnetlink cannot change it.

use std::os::fd::AsRawFd;

use calico_net::IfName;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use thiserror::Error;

const SIOCETHTOOL: libc::c_int = 0x8946;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_STXCSUM: u32 = 0x17;

/// The offload could not be read or set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("ethtool {device} tx-checksumming: {errno}")]
pub struct EthtoolError {
    /// Of which device.
    pub device: IfName,
    /// Why.
    pub errno: Errno,
}

/// `struct ethtool_value`.
#[repr(C)]
struct EthtoolValue {
    command: u32,
    data: u32,
}

/// Whether the device computes checksums of what it sends (`tx-checksumming`).
pub fn read_checksum_offload(device: &IfName) -> Result<bool, EthtoolError> {
    ethtool(device, EthtoolValue { command: ETHTOOL_GTXCSUM, data: 0 }).map(|value| value != 0)
}

/// Lets the device compute checksums, or the kernel.
pub fn set_checksum_offload(device: &IfName, on: bool) -> Result<(), EthtoolError> {
    ethtool(device, EthtoolValue { command: ETHTOOL_STXCSUM, data: u32::from(on) }).map(|_| ())
}

/// One request in the calling thread's network namespace; returns the value as the kernel leaves it.
fn ethtool(device: &IfName, mut value: EthtoolValue) -> Result<u32, EthtoolError> {
    let failed = |errno| EthtoolError { device: device.clone(), errno };
    let fd = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    // SAFETY: an ifreq of zeros is a valid one: an empty name and a null pointer.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // An IfName is shorter than the field, whose last byte so stays zero.
    for (to, from) in request.ifr_name.iter_mut().zip(device.as_str().bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the descriptor is open; `request` and the `value` that it points to are alive for the call, of the types
    // that SIOCETHTOOL with these two commands takes, and the kernel writes to nothing else.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), SIOCETHTOOL as _, &raw mut request) };
    Errno::result(result).map_err(failed)?;
    Ok(value.data)
}
