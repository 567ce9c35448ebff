//! What is to be done about one tunnel address, from what is stored and what is wanted.

use std::net::IpAddr;

use calico_ipam::{Assigned, Assignment};
use calico_net::Cidr;

use super::kind::TunnelKind;

/// The next step towards the right address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// All is as it should be.
    Done,
    /// The Node says an address that nobody has in IPAM: take that one, or any if it cannot be had.
    Claim(IpAddr),
    /// Take a new one.
    Assign,
    /// This one is assigned already: the Node is to say so.
    Publish(IpAddr),
    /// The Node is to say none.
    Withdraw,
    /// Give these back.
    Release(Vec<IpAddr>),
}

/// What is known of a tunnel address.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// Whose tunnel.
    pub node: &'a str,
    /// The ranges that its address may be in; empty if it needs none.
    pub pools: &'a [Cidr],
    /// What the Node says.
    pub stored: Option<IpAddr>,
    /// Who has that in IPAM.
    pub holder: Option<&'a Assignment>,
    /// The addresses of the tunnel's handle.
    pub held: &'a [Assigned],
}

/// Decides. The Node is told of a new address before the old one is given back, and of none before the last is.
pub fn plan(kind: TunnelKind, facts: &Facts<'_>) -> Step {
    let Facts { node, pools, stored, holder, held } = facts;
    let in_pools = |addr: &IpAddr| pools.iter().any(|pool| pool.contains(*addr));
    let is_own = |addr: &IpAddr| held.iter().any(|assigned| assigned.address == *addr);
    let others = |keep: Option<IpAddr>| -> Vec<IpAddr> {
        held.iter().map(|assigned| assigned.address).filter(|addr| Some(*addr) != keep).collect()
    };
    if pools.is_empty() {
        return match (stored, held.is_empty()) {
            (Some(_), _) => Step::Withdraw,
            (None, false) => Step::Release(others(None)),
            (None, true) => Step::Done,
        };
    }
    let is_right = |addr: &IpAddr| {
        let stored = holder.and_then(|holder| holder.attribute.secondary.as_ref());
        let wanted = kind.attributes(node);
        let says_so = stored.is_some_and(|stored| wanted.iter().all(|(k, v)| stored.get(k) == Some(v)));
        in_pools(addr) && is_own(addr) && says_so
    };
    match stored {
        Some(addr) if is_right(addr) => match others(Some(*addr)) {
            rest if rest.is_empty() => Step::Done,
            rest => Step::Release(rest),
        },
        // An agent before this one assigned it and did not live to tell.
        _ if held.iter().any(|a| Some(a.address) != *stored && in_pools(&a.address)) => {
            let found = held.iter().map(|a| a.address).find(|a| Some(*a) != *stored && in_pools(a));
            found.map_or(Step::Assign, Step::Publish)
        }
        Some(addr) if holder.is_none() && in_pools(addr) => Step::Claim(*addr),
        _ => Step::Assign,
    }
}

#[cfg(test)]
mod tests;
