//! Addresses of interfaces (linux/if_addr.h).

use calico_dataplane::tables::link::{Address, AddressOp};
use calico_net::{Family, IfName};
use nix::errno::Errno;

use super::change::Change;
use super::{Rtnl, RtnlError, address_family, failed, read_address, write_address};
use crate::attr::{Attrs, Writer, read_u32};
use crate::netlink::{CREATE, REPLACE};

pub(crate) const RTM_NEWADDR: u16 = 20;
pub(crate) const RTM_DELADDR: u16 = 21;
const RTM_GETADDR: u16 = 22;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
/// `IFA_F_NODAD`: the address works at once, without duplicate address detection.
const IFA_F_NODAD: u8 = 2;

/// `struct ifaddrmsg`.
fn ifaddrmsg(address: &Address, flags: u8, index: u32) -> [u8; 8] {
    let family = address_family(Family::of(address.address));
    let [a, b, c, d] = index.to_ne_bytes();
    [family, address.prefix_len, flags, address.scope, a, b, c, d]
}

impl Rtnl {
    /// Reads the addresses of all interfaces. Those of interfaces not known by name are left out: read links first.
    pub fn read_addresses(&mut self) -> Result<Vec<Address>, RtnlError> {
        let names = &self.name_of;
        self.socket
            .dump(
                RTM_GETADDR,
                |w| w.raw(&[0; 8]),
                |m| {
                    let (index, address, prefix_len, scope) = decode_address(m.payload)?;
                    Some(Address { device: names.get(&index)?.clone(), address, prefix_len, scope })
                },
            )
            .map_err(failed("read addresses"))
    }

    /// Adds and removes addresses. Adding what is there and removing what is not there both succeed.
    pub fn apply_addresses(&mut self, ops: &[AddressOp]) -> Result<(), RtnlError> {
        match self.apply_each_address(ops)?.into_iter().next() {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    /// The same, each for itself. Returns those refused, by their place in `ops`.
    pub fn apply_each_address(&mut self, ops: &[AddressOp]) -> Result<Vec<(usize, RtnlError)>, RtnlError> {
        self.apply_changes("change addresses", ops)
    }
}

impl Change for AddressOp {
    fn device(&self) -> Option<&IfName> {
        Some(&self.address().device)
    }

    fn is_removal(&self) -> bool {
        matches!(self, AddressOp::Delete(_))
    }

    fn is_as_wanted(&self, errno: Errno) -> bool {
        let done = if self.is_removal() { Errno::EADDRNOTAVAIL } else { Errno::EEXIST };
        errno == done
    }

    fn encode(&self, w: &mut Writer, seq: u32, flags: u16, index: u32) {
        let (kind, flags) = match self {
            AddressOp::Add(_) => (RTM_NEWADDR, flags | CREATE | REPLACE),
            AddressOp::Delete(_) => (RTM_DELADDR, flags),
        };
        let address = self.address();
        w.message(kind, flags, seq, |w| {
            let nodad = if address.address.is_ipv6() { IFA_F_NODAD } else { 0 };
            w.raw(&ifaddrmsg(address, nodad, index));
            write_address(w, IFA_LOCAL, address.address);
            write_address(w, IFA_ADDRESS, address.address);
        });
    }
}

/// Interface number, address, prefix length and scope.
pub(crate) fn decode_address(payload: &[u8]) -> Option<(u32, std::net::IpAddr, u8, u8)> {
    let [_, prefix_len, _, scope] = *payload.first_chunk::<4>()?;
    let attrs = Attrs::after(payload, 8);
    // On point-to-point links ADDRESS is the other end's; LOCAL is absent in IPv6.
    let address = attrs.find(IFA_LOCAL).or_else(|| attrs.find(IFA_ADDRESS)).and_then(read_address)?;
    Some((read_u32(payload.get(4..)?)?, address, prefix_len, scope))
}
