//! The Node resource of this node: created, or brought up to date (spec 6 §4.2, steps 4 to 7).

use std::net::IpAddr;

use calico_api::{
    DecodeError, Entry, Key, Kind, Node, NodeBgp, NodeInterface, NodeSpec, OrchRef, Write, decode, encode,
    merge,
};
use calico_net::{Cidr, Family};
use smol_str::{SmolStr, format_smolstr};

use super::address::{Host, NotFound, resolve_address};
use super::births::Births;
use super::settings::{AddressSettings, AddressSource, Backend, Settings};
use crate::autodetect::{is_ever_meant, is_global};

/// What to write of the Node.
#[derive(Clone, Debug, PartialEq)]
pub struct NodePlan {
    /// The create or update; `None` if all is as it should be.
    pub write: Option<Write>,
    /// What an operator should know, though it goes on.
    pub warnings: Vec<String>,
}

/// Why the node cannot start, and what must be written before it gives up.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Clears detected addresses that others might rely on in vain.
    pub clear: Option<Write>,
}

/// Why the node cannot start.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Reason {
    /// Detection failed.
    #[error(transparent)]
    NotFound(#[from] NotFound),
    /// The node would have no address at all.
    #[error("the node has no address: set IP or IP6, or let them be detected")]
    NoAddress,
    /// Another node has the address.
    #[error("node {other} has the address {addr} too (DISABLE_NODE_IP_CHECK=true goes on regardless)")]
    Conflict {
        /// The address.
        addr: IpAddr,
        /// The other node.
        other: SmolStr,
    },
    /// The stored Node cannot be read.
    #[error(transparent)]
    Stored(#[from] DecodeError),
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Refusal {
        Refusal { reason, clear: None }
    }
}

/// Plans the Node called `name`. `stored` is what is there, `others` are the other Nodes.
pub fn plan_node(
    name: &str,
    settings: &Settings,
    host: &Host,
    stored: Option<&Entry>,
    others: &[Entry],
    births: &mut Births<'_>,
) -> Result<NodePlan, Refusal> {
    let before: Option<Node> = stored.map(decode).transpose().map_err(Reason::from)?;
    let mut node = match &before {
        Some(node) => node.clone(),
        None => births.resource(name, NodeSpec::default()),
    };
    let mut warnings = Vec::new();
    if settings.backend != Backend::None {
        set_addresses(&mut node, settings, host, &mut warnings)
            .and_then(|()| check_conflicts(&node, before.as_ref(), settings, others))
            .map_err(|(reason, families)| refuse(reason, &families, stored, before.as_ref()))?;
    }
    if let Some(asn) = settings.asn {
        node.spec.bgp.get_or_insert_default().as_number = Some(asn);
    }
    if let Some(k8s_node) = &settings.k8s_node {
        let reference = OrchRef { node_name: k8s_node.clone(), orchestrator: "k8s".into() };
        if !node.spec.orch_refs.contains(&reference) {
            node.spec.orch_refs.push(reference);
        }
    }
    let write = match (stored, before) {
        (_, Some(before)) if before == node => None,
        (Some(stored), _) => {
            let value = merge(stored, &node).map_err(Reason::from)?;
            Some(Write::update(stored.key.clone(), value, stored.revision.clone()))
        }
        (None, _) => Some(Write::create(Key::resource(Kind::Node, "", name), encode(&node))),
    };
    Ok(NodePlan { write, warnings })
}

/// A reason, and the families whose detected addresses must go.
type Refused = (Reason, Vec<Family>);

fn set_addresses(
    node: &mut Node,
    settings: &Settings,
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<(), Refused> {
    let mut addrs = [SmolStr::default(), SmolStr::default()];
    for (family, addr) in Family::ALL.into_iter().zip(&mut addrs) {
        let stored = address_of(&node.spec, family).cloned().unwrap_or_default();
        let resolved = resolve_address(family, of(settings, family), &stored, host)
            .map_err(|e| (e.into(), detected(settings)))?;
        warnings.extend(resolved.warning);
        *addr = resolved.value;
    }
    if addrs.iter().all(SmolStr::is_empty) {
        return Err((Reason::NoAddress, detected(settings)));
    }
    let [v4, v6] = addrs;
    let bgp = node.spec.bgp.get_or_insert_default();
    (bgp.ipv4_address, bgp.ipv6_address) = (v4, v6);
    let wanted: Vec<Family> =
        Family::ALL.into_iter().filter(|family| of(settings, *family).is_wanted()).collect();
    if !wanted.is_empty() {
        node.spec.interfaces = interfaces(host, &wanted);
    }
    Ok(())
}

/// The host's interfaces with their addresses of some families, by name.
fn interfaces(host: &Host, families: &[Family]) -> Vec<NodeInterface> {
    let mut list: Vec<NodeInterface> = host
        .interfaces
        .iter()
        .filter(|i| is_ever_meant(&i.name))
        .map(|i| {
            let addrs = i.addrs.iter().map(|(addr, _)| *addr);
            let addresses = addrs
                .filter(|addr| families.contains(&Family::of(*addr)) && is_global(*addr))
                .map(|addr| format_smolstr!("{addr}"))
                .collect();
            NodeInterface { name: SmolStr::new(&i.name), addresses }
        })
        .collect();
    list.sort_by(|a, b| a.name.cmp(&b.name));
    list
}

/// Refuses an address that another node has; only looked at when addresses or interfaces have changed.
fn check_conflicts(
    node: &Node,
    before: Option<&Node>,
    settings: &Settings,
    others: &[Entry],
) -> Result<(), Refused> {
    let same = |family, before: &Node| address_of(&before.spec, family) == address_of(&node.spec, family);
    let is_unchanged = before.is_some_and(|before| {
        Family::ALL.into_iter().all(|family| same(family, before))
            && before.spec.interfaces == node.spec.interfaces
    });
    if settings.skip_conflict_check || is_unchanged {
        return Ok(());
    }
    // A Node that cannot be read has no address that anybody could use.
    let others: Vec<Node> = others.iter().filter_map(|entry| decode(entry).ok()).collect();
    for family in Family::ALL {
        let Some(own) = address_of(&node.spec, family).and_then(|text| host_part(text)) else { continue };
        let has_it =
            |other: &&Node| address_of(&other.spec, family).and_then(|text| host_part(text)) == Some(own);
        let rival = others.iter().filter(|n| n.metadata.name != node.metadata.name).find(has_it);
        if let Some(other) = rival {
            let reason = Reason::Conflict { addr: own, other: other.metadata.name.clone() };
            let families = detected(settings).into_iter().filter(|f| *f == family).collect();
            return Err((reason, families));
        }
    }
    Ok(())
}

/// The refusal with the write that clears what was detected in the families, if a Node is there to clear it in.
fn refuse(reason: Reason, families: &[Family], stored: Option<&Entry>, before: Option<&Node>) -> Refusal {
    let (Some(stored), Some(before)) = (stored, before) else { return reason.into() };
    let mut cleared = before.clone();
    if let Some(bgp) = &mut cleared.spec.bgp {
        for family in families {
            *address_mut(bgp, *family) = SmolStr::default();
        }
        if *bgp == NodeBgp::default() {
            cleared.spec.bgp = None;
        }
    }
    let write = (cleared != *before)
        .then(|| merge(stored, &cleared).ok())
        .flatten()
        .map(|value| Write::update(stored.key.clone(), value, stored.revision.clone()));
    Refusal { reason, clear: write }
}

fn detected(settings: &Settings) -> Vec<Family> {
    let is_detected = |family: &Family| of(settings, *family).source == AddressSource::Autodetect;
    Family::ALL.into_iter().filter(is_detected).collect()
}

fn of(settings: &Settings, family: Family) -> &AddressSettings {
    match family {
        Family::V4 => &settings.v4,
        Family::V6 => &settings.v6,
    }
}

fn address_of(spec: &NodeSpec, family: Family) -> Option<&SmolStr> {
    let bgp = spec.bgp.as_ref()?;
    let text = match family {
        Family::V4 => &bgp.ipv4_address,
        Family::V6 => &bgp.ipv6_address,
    };
    (!text.is_empty()).then_some(text)
}

fn address_mut(bgp: &mut NodeBgp, family: Family) -> &mut SmolStr {
    match family {
        Family::V4 => &mut bgp.ipv4_address,
        Family::V6 => &mut bgp.ipv6_address,
    }
}

fn host_part(text: &str) -> Option<IpAddr> {
    Cidr::parse_interface(text).ok().map(|(addr, _)| addr)
}

#[cfg(test)]
mod tests;
