//! BGPPeer → [`PeerFacts`]. A peer that is wrong in any part is left out whole: half a session may be worse than none.

use std::net::IpAddr;

use calico_api::meta::Metadata;
use calico_api::{BGPPeerSpec, BgpPassword, GoDuration, NextHopMode as ApiNextHopMode, Resource};
use calico_selector::Selector;
use smol_str::SmolStr;

use super::Texts;
use crate::intent::NextHopMode;
use crate::password::SecretRef;
use crate::world::{PeerFacts, PeerOptions, PeerScope, PeerTarget};

/// What Calico has no fields for, as annotations: of a BGPPeer for its sessions, of the BGPConfiguration `default` for the
/// mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Extensions {
    /// Watch the way to the neighbour with BFD.
    pub(super) bfd: bool,
    /// Long-lived graceful restart.
    pub(super) long_lived: bool,
}

/// Its annotation.
const BFD: &str = "calico-rs/bfd";
/// Its annotation.
const LONG_LIVED: &str = "calico-rs/long-lived-graceful-restart";

pub(super) fn peer_facts(peer: Resource<BGPPeerSpec>, texts: &mut Texts) -> Option<PeerFacts> {
    let facts = extensions(&peer.metadata).and_then(|extensions| try_peer_facts(&peer.spec, extensions));
    facts.map_err(|text| texts.push(format!("{text}; no session comes of it"))).ok()
}

/// Reads the annotations of an object.
pub(super) fn extensions(metadata: &Metadata) -> Result<Extensions, String> {
    let switch = |name: &str| match metadata.annotations.get(name).map(SmolStr::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(other) => {
            Err(format!("metadata.annotations[{name}]: {other:?} is neither \"true\" nor \"false\""))
        }
    };
    Ok(Extensions { bfd: switch(BFD)?, long_lived: switch(LONG_LIVED)? })
}

/// Where a password is; `None` without one.
pub(super) fn secret_ref(field: &str, password: Option<&BgpPassword>) -> Result<Option<SecretRef>, String> {
    let Some(password) = password else { return Ok(None) };
    let Some(reference) = &password.secret_key_ref else {
        return Err(format!("{field}: it has no secretKeyRef"));
    };
    for (part, text) in [("name", &reference.name), ("key", &reference.key)] {
        // They become names of files and parts of paths.
        let is_plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if text.is_empty() || text.starts_with('.') || !text.bytes().all(is_plain) {
            return Err(format!("{field}.secretKeyRef.{part}: {text:?} is no {part} of a Secret"));
        }
    }
    let optional = reference.optional == Some(true);
    Ok(Some(SecretRef { name: reference.name.clone(), key: reference.key.clone(), optional }))
}

fn try_peer_facts(spec: &BGPPeerSpec, extensions: Extensions) -> Result<PeerFacts, String> {
    let BGPPeerSpec {
        node,
        node_selector,
        peer_ip,
        as_number,
        peer_selector,
        keep_original_next_hop,
        next_hop_mode,
        password,
        source_address,
        max_restart_time,
        keepalive_time,
        num_allowed_local_as_numbers,
        ttl_security,
        reachable_by,
        filters,
        local_as_number,
        local_workload_selector,
        reverse_peering,
    } = spec;
    let scope = match (node.as_str(), node_selector.as_str()) {
        ("", "") => PeerScope::Global,
        (node, "") => PeerScope::Node(SmolStr::new(node)),
        ("", selector) => PeerScope::Selected(parse_selector("nodeSelector", selector)?),
        _ => return Err("nodeSelector: node is set too".into()),
    };
    let asn = as_number.filter(|asn| asn.0 != 0);
    let target = match (peer_ip.as_str(), peer_selector.as_str(), local_workload_selector.as_str()) {
        ("", "", "") => {
            return Err("peerIP: none of peerIP, peerSelector and localWorkloadSelector is set".into());
        }
        ("", selector, "") => PeerTarget::Nodes(parse_selector("peerSelector", selector)?),
        (peer_ip, "", "") => {
            let (addr, port) = parse_peer_ip(peer_ip)?;
            let asn = asn.ok_or("asNumber: it is not set, and peerIP needs it")?;
            PeerTarget::Address { addr, port, asn }
        }
        ("", "", selector) => PeerTarget::Workloads {
            selector: parse_selector("localWorkloadSelector", selector)?,
            asn: asn.ok_or("asNumber: it is not set, and localWorkloadSelector needs it")?,
        },
        _ => return Err("peerIP, peerSelector, localWorkloadSelector: more than one is set".into()),
    };
    let next_hop = match next_hop_mode {
        None | Some(ApiNextHopMode::Auto) => NextHopMode::Auto,
        Some(ApiNextHopMode::SelfNode) => NextHopMode::Own,
        Some(ApiNextHopMode::Keep) => NextHopMode::Keep,
        Some(ApiNextHopMode::Other(word)) => return Err(format!("nextHopMode: {word:?} is unknown")),
    };
    let reachable_by = match reachable_by.as_str() {
        "" => None,
        text => Some(text.parse().map_err(|_| format!("reachableBy: {text:?} is not an IP address"))?),
    };
    let allow_local_as = match num_allowed_local_as_numbers {
        None => None,
        Some(n) => {
            Some(u8::try_from(*n).map_err(|_| format!("numAllowedLocalASNumbers: {n} is more than 255"))?)
        }
    };
    Ok(PeerFacts {
        scope,
        target,
        reverse: !reverse_peering.as_ref().is_some_and(|word| word.eq_ignore_ascii_case("Manual")),
        options: PeerOptions {
            local_as: *local_as_number,
            from_node_addr: !source_address.eq_ignore_ascii_case("None"),
            restart_time_secs: max_restart_time.map(|t| secs("maxRestartTime", t)).transpose()?,
            keepalive_secs: keepalive_time.map(|t| secs("keepaliveTime", t)).transpose()?,
            next_hop,
            keep_original_next_hop: *keep_original_next_hop,
            allow_local_as,
            ttl_security_hops: *ttl_security,
            reachable_by,
            filters: filters.clone(),
            password: secret_ref("password", password.as_ref())?,
            bfd: extensions.bfd,
            long_lived: extensions.long_lived,
        },
    })
}

fn parse_selector(field: &str, text: &str) -> Result<Selector, String> {
    calico_selector::parse(text).map_err(|e| format!("{field}: {e}"))
}

/// `IP`, `IPv4:port` or `[IPv6]:port`.
fn parse_peer_ip(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    if let Ok(addr) = text.parse() {
        return Ok((addr, None));
    }
    match text.parse::<std::net::SocketAddr>() {
        Ok(socket) if socket.port() != 0 => Ok((socket.ip(), Some(socket.port()))),
        _ => Err(format!("peerIP: {text:?} is not an IP address with or without a port")),
    }
}

/// BGP's timers are 16 bits of whole seconds at most (RFC 4271 §4.2), those of graceful restart 12 (RFC 4724 §3).
const MAX_SECS: u64 = 4095;

/// Rounded to whole seconds, as BGP counts them.
pub(super) fn secs(field: &str, duration: GoDuration) -> Result<u32, String> {
    let secs = duration.to_std().map(|d| (d.as_millis() as u64 + 500) / 1000);
    match secs.filter(|secs| (1..=MAX_SECS).contains(secs)) {
        // At most 4095.
        Some(secs) => Ok(secs as u32),
        None => Err(format!("{field}: not between 1 second and {MAX_SECS} seconds")),
    }
}
