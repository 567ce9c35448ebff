//! Allocations: what a block says of each address in use, and whether anything still uses it.

use std::fmt;
use std::net::IpAddr;

use calico_api::{AffinityOwner, Labels};
use calico_ipam::block;
use calico_net::{Cidr, Family};
use smol_str::SmolStr;

use crate::world::{Endpoint, World};

/// The handle of addresses that Windows keeps back in every block.
const WINDOWS_HANDLE: &str = "windows-reserved-ipam-handle";

/// The types of addresses that nodes have for themselves, and how the handle of each begins (spec 5 §2.2).
const TUNNELS: [(&str, &str); 5] = [
    ("ipipTunnelAddress", "ipip-tunnel-addr-"),
    ("vxlanTunnelAddress", "vxlan-tunnel-addr-"),
    ("vxlanV6TunnelAddress", "vxlan-v6-tunnel-addr-"),
    ("wireguardTunnelAddress", "wireguard-tunnel-addr-"),
    ("wireguardV6TunnelAddress", "wireguard-v6-tunnel-addr-"),
];

/// One assignment of one address: another one of the same address is another allocation.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AllocationId {
    /// The handle that releases it; empty if there is none.
    pub handle: SmolStr,
    /// The address.
    pub address: IpAddr,
    /// The block's sequence number when it was assigned.
    pub sequence: u64,
}

impl AllocationId {
    /// Whether it was made for a container: `<network>.<container>` is how plugins name handles. All addresses of one
    /// sandbox have the life of the sandbox, whichever of its networks they are of; a pod shows those of one network.
    pub fn is_of(&self, container: &str) -> bool {
        let network = self.handle.strip_suffix(container).and_then(|rest| rest.strip_suffix('.'));
        !container.is_empty() && network.is_some_and(|network| !network.is_empty())
    }
}

/// A pod that an allocation was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Its namespace.
    pub namespace: SmolStr,
    /// Its name.
    pub name: SmolStr,
    /// The node it was on, where the allocation says.
    pub node: Option<SmolStr>,
}

impl fmt::Display for PodRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pod {}/{}", self.namespace, self.name)
    }
}

/// Who an allocation was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum User {
    /// A pod; two while a virtual machine moves.
    Pods(Vec<PodRef>),
    /// The node itself.
    Tunnel,
    /// Windows keeps it back.
    Reserved,
    /// Somebody that we cannot look up: a virtual machine, a service, a user of calicoctl, another orchestrator.
    Unknown,
}

/// An address in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// Which.
    pub id: AllocationId,
    /// The block that it is in.
    pub block: Cidr,
    /// Whose block that is.
    pub owner: Option<AffinityOwner>,
    /// The node it was assigned on, where that is known.
    pub node: Option<SmolStr>,
    /// Who it was made for.
    pub user: User,
}

impl Allocation {
    /// The node whose removal it concerns: its own, or else the one whose block it is in.
    pub fn home(&self) -> Option<&SmolStr> {
        self.node.as_ref().or(match &self.owner {
            Some(AffinityOwner::Host(node)) => Some(node),
            _ => None,
        })
    }

    /// Whether it is in a block that is not its node's.
    pub fn is_borrowed(&self) -> bool {
        match (&self.node, &self.owner) {
            (Some(node), Some(AffinityOwner::Host(owner))) => node != owner,
            (Some(_), None) => true,
            _ => false,
        }
    }
}

/// Every address in use, in the order of blocks.
pub fn allocations(world: &World) -> impl Iterator<Item = Allocation> + '_ {
    let blocks = Family::ALL.into_iter().flat_map(|family| world.known.blocks(family));
    blocks.filter_map(|(_, held)| held).flat_map(|(b, _)| {
        let owner = b.owner();
        block::used(b).filter_map(move |(ordinal, attribute)| {
            let handle = attribute.handle_id.clone().unwrap_or_default();
            let sequence = b.sequence_number_for_allocation.get(&ordinal).copied().unwrap_or(0);
            let both = [&attribute.secondary, &attribute.alternate_owner_attrs];
            let attributes: Vec<&Labels> = both.into_iter().flatten().map(AsRef::as_ref).collect();
            Some(Allocation {
                user: user(&handle, &attributes),
                node: node(&handle, &attributes),
                id: AllocationId { address: block::address(b, ordinal)?, handle, sequence },
                block: b.cidr,
                owner: owner.clone(),
            })
        })
    })
}

fn text<'a>(attributes: &'a Labels, name: &str) -> Option<&'a SmolStr> {
    attributes.get(name).filter(|value| !value.is_empty())
}

fn user(handle: &str, attributes: &[&Labels]) -> User {
    if handle == WINDOWS_HANDLE {
        return User::Reserved;
    }
    let is_tunnel = |a: &&Labels| text(a, "type").is_some_and(|t| TUNNELS.iter().any(|(name, _)| t == name));
    if attributes.iter().any(is_tunnel) {
        return User::Tunnel;
    }
    // A machine that is stopped has no pod, and keeps its address.
    if attributes.iter().any(|a| text(a, "vmi-name").is_some()) {
        return User::Unknown;
    }
    let pods = attributes.iter().filter_map(|a| {
        let (namespace, name) = (text(a, "namespace")?.clone(), text(a, "pod")?.clone());
        Some(PodRef { namespace, name, node: text(a, "node").cloned() })
    });
    match pods.collect::<Vec<_>>() {
        pods if pods.is_empty() => User::Unknown,
        pods => User::Pods(pods),
    }
}

fn node(handle: &str, attributes: &[&Labels]) -> Option<SmolStr> {
    attributes
        .iter()
        .find_map(|a| text(a, "node").cloned())
        .or_else(|| TUNNELS.iter().find_map(|(_, prefix)| handle.strip_prefix(prefix)).map(SmolStr::new))
}

/// Why an address counts as without a user.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// There is no such pod.
    NoPod,
    /// The pod of that name is on another node.
    Elsewhere,
    /// The pod has ended.
    Ended,
    /// The pod has other addresses.
    OtherAddresses,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::NoPod => "does not exist",
            Why::Elsewhere => "is on another node",
            Why::Ended => "has ended",
            Why::OtherAddresses => "has other addresses",
        })
    }
}

/// What is known of an allocation's user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It uses the address, or may.
    Valid,
    /// It goes with its node.
    Tunnel,
    /// Nothing that we look after.
    Reserved,
    /// We cannot tell; it is left alone.
    Unknown,
    /// It does not use the address: which pod, and why.
    Leaked(PodRef, Why),
}

/// Judges an allocation by what is known of pods.
pub fn judge(allocation: &Allocation, world: &World) -> Verdict {
    match &allocation.user {
        User::Tunnel => Verdict::Tunnel,
        User::Reserved => Verdict::Reserved,
        User::Unknown => Verdict::Unknown,
        User::Pods(pods) => {
            let mut verdict = Verdict::Unknown;
            for pod in pods {
                let id = (pod.namespace.clone(), pod.name.clone());
                let endpoints = world.pods.get(&id).into_iter().flat_map(|e| e.values());
                match why_leaked(pod, &allocation.id, endpoints) {
                    None => return Verdict::Valid,
                    Some(why) => verdict = Verdict::Leaked(pod.clone(), why),
                }
            }
            verdict
        }
    }
}

/// Why none of a pod's endpoints has an allocation's address; `None` if one has, or may get it, or cannot be read.
pub fn why_leaked<'a>(
    pod: &PodRef,
    allocation: &AllocationId,
    endpoints: impl Iterator<Item = &'a Endpoint>,
) -> Option<Why> {
    let mut why = Why::NoPod;
    for endpoint in endpoints {
        let Endpoint { node, addresses, container, is_unreadable } = endpoint;
        let is_of_sandbox = !addresses.is_empty() && allocation.is_of(container);
        if *is_unreadable || is_of_sandbox || addresses.contains(&allocation.address) {
            return None;
        }
        if pod.node.as_ref().is_some_and(|expected| expected != node) {
            why = why.max(Why::Elsewhere);
        } else if !addresses.is_empty() {
            why = why.max(Why::OtherAddresses);
        } else if !container.is_empty() {
            why = why.max(Why::Ended);
        } else {
            // It waits for an address: maybe this one.
            return None;
        }
    }
    Some(why)
}
