//! Words of the network: addresses, prefixes, MACs, interface names, ports, protocols.
//!
//! Pure and small. Every other crate speaks in these types; none of them reads a clock, a file or a socket.

mod asn;
mod cidr;
mod ifname;
mod mac;
mod port;
mod protocol;

pub use asn::Asn;
pub use cidr::{Cidr, CidrError, Family};
pub use ifname::{IfName, IfNameError};
pub use mac::{Mac, MacError};
pub use port::{PortError, PortRange};
pub use protocol::{Protocol, ProtocolError};
