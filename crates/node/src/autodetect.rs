//! Which of the host's addresses is the node's: the methods of `IP_AUTODETECTION_METHOD` (spec 6 §4.2), over a list
//! of interfaces that somebody else has read.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use calico_net::{Cidr, Family};
use regex_lite::Regex;

/// One interface of the host, as the kernel lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its addresses with the lengths of their prefixes, in the kernel's order.
    pub addrs: Vec<(IpAddr, u8)>,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// On which interface.
    pub interface: String,
    /// The address.
    pub addr: IpAddr,
    /// The length of its prefix.
    pub len: u8,
}

/// How to look.
#[derive(Clone, Debug)]
pub enum Method {
    /// On any interface but those that are never meant.
    FirstFound,
    /// The address that the kernel would use towards a destination: a host name or an address.
    CanReach(String),
    /// On interfaces that match, whatever they are.
    Interface(Regex),
    /// On any interface but those that match and those that are never meant.
    SkipInterface(Regex),
    /// Inside one of the prefixes, on any interface.
    Cidr(Vec<Cidr>),
}

/// The method is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MethodError {
    /// No such method.
    #[error(
        "{0:?} is no method: first-found, can-reach=DESTINATION, interface=REGEX, skip-interface=REGEX or cidr=CIDR"
    )]
    Unknown(String),
    /// It needs the Kubernetes API.
    #[error("kubernetes-internal-ip needs the Kubernetes datastore")]
    Kubernetes,
    /// A regular expression that is none.
    #[error("{text:?} is no regular expression: {reason}")]
    Regex {
        /// The expression.
        text: String,
        /// What is wrong.
        reason: String,
    },
    /// A prefix that is none.
    #[error(transparent)]
    Cidr(#[from] calico_net::CidrError),
}

/// Interfaces that never carry a node's address: those of container runtimes, of tunnels and our own (spec 6 §4.2).
const NEVER_MEANT: &str = "^docker.*|^cbr.*|^dummy.*|^podman.*|^virbr.*|^lxcbr.*|^veth.*|^lo|^br-.*|^cali.*|^tunl.*\
|^flannel.*|^kube-ipvs.*|^cni.*|^vxlan\\.calico.*|^vxlan-v6\\.calico.*|^wireguard\\.cali.*|^wg-v6\\.cali.*|^nodelocaldns.*";

impl Method {
    /// Reads a setting; blank is `first-found`.
    pub fn parse(text: &str) -> Result<Method, MethodError> {
        match text.split_once('=') {
            None if text.is_empty() || text == "first-found" => Ok(Method::FirstFound),
            None if text == "kubernetes-internal-ip" => Err(MethodError::Kubernetes),
            Some(("can-reach", destination)) => Ok(Method::CanReach(destination.to_owned())),
            Some(("interface", list)) => alternation(list).map(Method::Interface),
            Some(("skip-interface", list)) => alternation(list).map(Method::SkipInterface),
            Some(("cidr", list)) => {
                let cidrs = list.split(',').map(str::trim).map(str::parse).collect::<Result<_, _>>()?;
                Ok(Method::Cidr(cidrs))
            }
            _ => Err(MethodError::Unknown(text.to_owned())),
        }
    }

    /// Looks for a global unicast address of a family. Interfaces are walked from the last to the first, the addresses
    /// of one in order. `reached` is the kernel's answer for [`Method::CanReach`].
    pub fn select(&self, family: Family, interfaces: &[Interface], reached: Option<IpAddr>) -> Option<Found> {
        let find = |is_meant: &dyn Fn(&str) -> bool, is_wanted: &dyn Fn(IpAddr) -> bool| {
            interfaces.iter().rev().filter(|i| is_meant(&i.name)).find_map(|i| {
                let mut addrs = i.addrs.iter();
                let (addr, len) =
                    addrs.find(|(a, _)| Family::of(*a) == family && is_global(*a) && is_wanted(*a))?;
                Some(Found { interface: i.name.clone(), addr: *addr, len: *len })
            })
        };
        match self {
            Method::FirstFound => find(&is_ever_meant, &|_| true),
            Method::CanReach(_) => find(&|_| true, &|addr| reached == Some(addr)),
            Method::Interface(regex) => find(&|name| regex.is_match(name), &|_| true),
            Method::SkipInterface(regex) => {
                find(&|name| is_ever_meant(name) && !regex.is_match(name), &|_| true)
            }
            Method::Cidr(cidrs) => find(&|_| true, &|addr| cidrs.iter().any(|c| c.contains(addr))),
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Method::FirstFound => f.write_str("first-found"),
            Method::CanReach(destination) => write!(f, "can-reach={destination}"),
            Method::Interface(regex) => write!(f, "interface={regex}"),
            Method::SkipInterface(regex) => write!(f, "skip-interface={regex}"),
            Method::Cidr(cidrs) => {
                let cidrs: Vec<String> = cidrs.iter().map(Cidr::to_string).collect();
                write!(f, "cidr={}", cidrs.join(","))
            }
        }
    }
}

/// Whether an interface may carry the node's address at all.
pub fn is_ever_meant(name: &str) -> bool {
    !regex(NEVER_MEANT).is_ok_and(|never| never.is_match(name))
}

/// Whether an address is of use to other nodes: not unspecified, loopback, link-local, multicast or broadcast.
/// Private addresses count (as in Go's `IsGlobalUnicast`).
pub fn is_global(addr: IpAddr) -> bool {
    !addr.is_unspecified()
        && !addr.is_loopback()
        && !addr.is_multicast()
        && match addr {
            IpAddr::V4(a) => !a.is_link_local() && a != Ipv4Addr::BROADCAST,
            IpAddr::V6(a) => !a.is_unicast_link_local(),
        }
}

/// A comma-separated list of expressions as one.
fn alternation(list: &str) -> Result<Regex, MethodError> {
    regex(&list.split(',').map(|part| format!("({})", part.trim())).collect::<Vec<_>>().join("|"))
}

fn regex(text: &str) -> Result<Regex, MethodError> {
    Regex::new(text).map_err(|e| MethodError::Regex { text: text.to_owned(), reason: e.to_string() })
}

#[cfg(test)]
mod tests;
