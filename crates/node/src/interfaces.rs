//! Reads what autodetection looks at: the host's interfaces, and the address that the kernel uses towards somebody.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};

use calico_net::Family;
use nix::ifaddrs::getifaddrs;

use crate::autodetect::Interface;

/// Any port does: nothing is sent.
const DISCARD_PORT: u16 = 9;

/// Reads the interfaces of this network namespace with their addresses, in the kernel's order.
pub fn read_interfaces() -> io::Result<Vec<Interface>> {
    let mut interfaces: Vec<Interface> = Vec::new();
    for entry in getifaddrs()? {
        let index = match interfaces.iter().position(|i| i.name == entry.interface_name) {
            Some(index) => index,
            None => {
                interfaces.push(Interface { name: entry.interface_name.clone(), addrs: Vec::new() });
                interfaces.len() - 1
            }
        };
        let addr = entry.address.as_ref().and_then(ip);
        let mask = entry.netmask.as_ref().and_then(ip);
        if let (Some(addr), Some(mask)) = (addr, mask) {
            interfaces[index].addrs.push((addr, prefix_len(mask)));
        }
    }
    Ok(interfaces)
}

/// Asks the kernel which address of a family it would use towards a host name or address. Nothing is sent, but a name
/// is resolved. `None` if it is not reachable in that family.
pub fn read_source_address(destination: &str, family: Family) -> io::Result<Option<IpAddr>> {
    let wanted = |addr: &SocketAddr| Family::of(addr.ip()) == family;
    let Some(to) = (destination, DISCARD_PORT).to_socket_addrs()?.find(wanted) else { return Ok(None) };
    let from: IpAddr = match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((from, 0))?;
    socket.connect(to)?;
    Ok(Some(socket.local_addr()?.ip()))
}

fn ip(addr: &nix::sys::socket::SockaddrStorage) -> Option<IpAddr> {
    let v4 = || addr.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
    let v6 = || addr.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
    v4().or_else(v6)
}

fn prefix_len(mask: IpAddr) -> u8 {
    let ones = match mask {
        IpAddr::V4(m) => m.to_bits().leading_ones(),
        IpAddr::V6(m) => m.to_bits().leading_ones(),
    };
    // At most 128.
    ones as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_always_there() {
        let interfaces = read_interfaces().unwrap();
        let lo = interfaces.iter().find(|i| i.name == "lo").unwrap();
        assert!(lo.addrs.contains(&(Ipv4Addr::LOCALHOST.into(), 8)), "{lo:?}");
    }

    #[test]
    fn towards_oneself_by_loopback() {
        let seen = read_source_address("127.0.0.1", Family::V4).unwrap();
        assert_eq!(seen, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(read_source_address("127.0.0.1", Family::V6).unwrap(), None);
    }
}
