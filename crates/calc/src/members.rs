//! What one endpoint or network set contributes to the IP sets whose selector it matches.

use std::net::IpAddr;

use calico_net::{Cidr, Protocol};

use crate::change::{IpSetKind, Member};

/// A port that an endpoint declares by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct NamedPort {
    /// Its name.
    pub(crate) name: Box<str>,
    /// Its protocol.
    pub(crate) protocol: Protocol,
    /// Its number.
    pub(crate) port: u16,
}

/// The addresses of an item, each once. Nearly every endpoint has one IPv4 address, which needs no allocation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nets {
    /// One IPv4 /32.
    HostV4(u32),
    /// Anything else, sorted.
    List(Box<[Cidr]>),
}

impl Nets {
    /// Sorted and without repetitions.
    pub(crate) fn new(mut nets: Vec<Cidr>) -> Nets {
        nets.sort_unstable();
        nets.dedup();
        match *nets {
            [only] if only.is_host() => match only.addr() {
                IpAddr::V4(addr) => Nets::HostV4(addr.into()),
                IpAddr::V6(_) => Nets::List(nets.into_boxed_slice()),
            },
            _ => Nets::List(nets.into_boxed_slice()),
        }
    }

    /// Each address or prefix.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Cidr> + '_ {
        let (host, list) = match self {
            Nets::HostV4(addr) => (Some(Cidr::host(IpAddr::V4((*addr).into()))), [].as_slice()),
            Nets::List(list) => (None, &**list),
        };
        host.into_iter().chain(list.iter().copied())
    }
}

/// What a set is made of. Nobody's selector reaches the slices of services, and no rule's service reaches endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Population {
    /// Endpoints and network sets.
    Labelled,
    /// Endpoint slices.
    Slices,
}

/// What a set takes of the items that match its selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Contents {
    /// Their addresses and prefixes.
    Nets,
    /// Their addresses with the ports that they declare under a name.
    Ports {
        /// The port's name.
        name: Box<str>,
        /// Only ports of this protocol; any with `None`.
        protocol: Option<Protocol>,
    },
    /// Their addresses with all ports that they have.
    AllPorts,
}

impl Contents {
    /// What the members are.
    pub(crate) fn kind(&self) -> IpSetKind {
        match self {
            Contents::Nets => IpSetKind::Net,
            Contents::Ports { .. } | Contents::AllPorts => IpSetKind::IpPort,
        }
    }

    /// The members that an item with these addresses and ports contributes, each once.
    pub(crate) fn members<'a>(
        &'a self,
        nets: &'a Nets,
        ports: &'a [NamedPort],
    ) -> impl Iterator<Item = Member> + 'a {
        let plain = matches!(self, Contents::Nets).then(|| nets.iter().map(Member::Net));
        let with_ports = self.named(ports).flat_map(|port| {
            let hosts = nets.iter().filter(Cidr::is_host);
            hosts.map(|host| Member::IpPort { addr: host.addr(), protocol: port.protocol, port: port.port })
        });
        plain.into_iter().flatten().chain(with_ports)
    }

    /// Whether an item with these ports contributes `member`, given that the address is one of its own.
    pub(crate) fn contributes(&self, member: Member, ports: &[NamedPort]) -> bool {
        match member {
            Member::Net(_) => matches!(self, Contents::Nets),
            Member::IpPort { addr: _, protocol, port } => {
                self.named(ports).any(|named| named.protocol == protocol && named.port == port)
            }
        }
    }

    fn named<'a>(&'a self, ports: &'a [NamedPort]) -> impl Iterator<Item = &'a NamedPort> {
        ports.iter().filter(move |port| match self {
            Contents::Nets => false,
            Contents::AllPorts => true,
            Contents::Ports { name, protocol } => {
                port.name == *name && protocol.is_none_or(|protocol| port.protocol == protocol)
            }
        })
    }
}

/// The address under which claims of a member are kept.
pub(crate) fn claimed(member: Member) -> Cidr {
    match member {
        Member::Net(net) => net,
        Member::IpPort { addr, .. } => Cidr::host(addr),
    }
}
