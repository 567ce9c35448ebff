//! Names of chains and sets: Calico's, hash for hash, so that people and tools find what they know (spec 3 §6.3–6.5).

mod content;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use calico_api::ResourceKey;
use calico_api::key::Kind;
use calico_calc::change::Direction;
use sha2::{Digest, Sha256};
use smol_str::{SmolStr, SmolStrBuilder};

use self::content::Content;

/// Calico's limit for chain names in iptables, kept in nftables.
pub const CHAIN_MAX: usize = 28;

/// Our chains and the verdict maps that lead to them.
pub mod chain {
    /// Workload traffic by input interface: chain and map.
    pub const FROM_WORKLOAD: &str = "cali-from-wl-dispatch";
    /// Workload traffic by output interface: chain and map.
    pub const TO_WORKLOAD: &str = "cali-to-wl-dispatch";
    /// Workload traffic to this host.
    pub const WORKLOAD_TO_HOST: &str = "cali-wl-to-host";
    /// Source checks of workload interfaces: chain.
    pub const RPF: &str = "cali-rpf";
    /// Workloads that may use other sources: map.
    pub const RPF_SKIP: &str = "cali-rpf-skip";
    /// Traffic that this host ends: chain and map.
    pub const FROM_HOST: &str = "cali-from-host-endpoint";
    /// Traffic that this host starts: chain and map.
    pub const TO_HOST: &str = "cali-to-host-endpoint";
    /// Forwarded traffic by input interface: chain and map.
    pub const FROM_HOST_FORWARD: &str = "cali-from-hep-forward";
    /// Forwarded traffic by output interface: chain and map.
    pub const TO_HOST_FORWARD: &str = "cali-to-hep-forward";
    /// Untracked policy by input interface: chain and map.
    pub const RAW_FROM_HOST: &str = "raw-cali-from-host-endpoint";
    /// Untracked policy by output interface: chain and map.
    pub const RAW_TO_HOST: &str = "raw-cali-to-host-endpoint";
    /// Pre-DNAT policy by input interface: chain and map.
    pub const MANGLE_FROM_HOST: &str = "mangle-cali-from-host-endpoint";
    /// Failsafe ports to this host.
    pub const FAILSAFE_IN: &str = "cali-failsafe-in";
    /// Failsafe ports from this host.
    pub const FAILSAFE_OUT: &str = "cali-failsafe-out";
    /// Failsafe ports to this host before conntrack: replies to ours too.
    pub const RAW_FAILSAFE_IN: &str = "raw-cali-failsafe-in";
    /// Failsafe ports from this host before conntrack: replies of ours too.
    pub const RAW_FAILSAFE_OUT: &str = "raw-cali-failsafe-out";
    /// Outgoing NAT.
    pub const NAT_OUTGOING: &str = "cali-nat-outgoing";
    /// Service loop prevention.
    pub const CIDR_BLOCK: &str = "cali-cidr-block";
    /// ARP replies that must not leave: set of (interface, address).
    pub const ARP_OWN: &str = "cali-arp-own";
    /// The protocols that have ports: set.
    pub const PORT_PROTOCOLS: &str = "cali-port-protocols";
}

/// `prefix` and `suffix` within [`CHAIN_MAX`] bytes: a suffix that is too long, or that could be mistaken for a hash,
/// becomes `_` and as much of its base64url SHA-256 as fits; an empty one becomes `_`.
pub fn limited(prefix: &str, suffix: &str) -> SmolStr {
    let room = CHAIN_MAX - prefix.len();
    let mut name = SmolStrBuilder::new();
    name.push_str(prefix);
    if suffix.is_empty() {
        name.push('_');
    } else if suffix.len() > room || (suffix.len() == room && suffix.starts_with('_')) {
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(suffix));
        name.push('_');
        name.push_str(&hash[..(room - 1).min(hash.len())]);
    } else {
        name.push_str(suffix);
    }
    name.finish()
}

/// A name that is a function of what it names: `prefix`, `_` and a hash, [`CHAIN_MAX`] bytes in all (or 16 characters
/// of hash if the prefix leaves fewer).
///
/// Every build chooses the same name for the same content ([`content`]).
pub(crate) fn by_content(prefix: &str, content: &(impl Content + ?Sized)) -> SmolStr {
    let mut bytes = Vec::with_capacity(512);
    content.write(&mut bytes);
    let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(&bytes));
    let room = CHAIN_MAX.saturating_sub(prefix.len() + 1).max(16);
    let mut name = SmolStrBuilder::new();
    name.push_str(prefix);
    name.push('_');
    name.push_str(&hash[..room]);
    name.finish()
}

/// The short name of a policy's kind, as chains and flow logs use it.
fn short_kind(kind: Kind) -> &'static str {
    match kind {
        Kind::NetworkPolicy => "np",
        Kind::GlobalNetworkPolicy => "gnp",
        Kind::StagedNetworkPolicy => "snp",
        Kind::StagedGlobalNetworkPolicy => "sgnp",
        Kind::StagedKubernetesNetworkPolicy => "sknp",
        other => other.plural(),
    }
}

/// `<short kind>/<namespace>/<name>`, or without the namespace. A policy that comes from a Kubernetes NetworkPolicy
/// (its name says so: `knp.default.<name>`) has that kind and name.
pub fn policy_text(key: &ResourceKey) -> String {
    let ResourceKey { kind, namespace, name } = key;
    let kubernetes = (*kind == Kind::NetworkPolicy).then(|| name.strip_prefix("knp.default.")).flatten();
    match kubernetes {
        Some(name) => format!("knp/{namespace}/{name}"),
        None if namespace.is_empty() => format!("{}/{name}", short_kind(*kind)),
        None => format!("{}/{namespace}/{name}", short_kind(*kind)),
    }
}

/// The chain of one direction of a policy: `cali-pi-…`, `cali-po-…`.
pub fn policy_chain(key: &ResourceKey, direction: Direction) -> SmolStr {
    let prefix = match direction {
        Direction::Ingress => "cali-pi-",
        Direction::Egress => "cali-po-",
    };
    limited(prefix, &policy_text(key))
}

/// The chain of one direction of a profile: `cali-pri-…`, `cali-pro-…`.
pub fn profile_chain(name: &str, direction: Direction) -> SmolStr {
    let prefix = match direction {
        Direction::Ingress => "cali-pri-",
        Direction::Egress => "cali-pro-",
    };
    limited(prefix, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: Kind, namespace: &str, name: &str) -> ResourceKey {
        ResourceKey { kind, namespace: namespace.into(), name: name.into() }
    }

    /// Spec 3 §6.4.
    #[test]
    fn chains_are_named_as_calico_names_them() {
        let gnp = key(Kind::GlobalNetworkPolicy, "", "allow-all");
        assert_eq!(policy_chain(&gnp, Direction::Ingress), "cali-pi-gnp/allow-all");
        let knp = key(Kind::NetworkPolicy, "default", "knp.default.allow-from-frontend");
        assert_eq!(policy_text(&knp), "knp/default/allow-from-frontend");
        assert_eq!(policy_chain(&knp, Direction::Ingress), "cali-pi-_Ky8Y9BNvuL3w6nNf2th");
        assert_eq!(
            profile_chain("ksa.kube-system.coredns", Direction::Ingress),
            "cali-pri-_u2Tn2rSoAPffvE7JO6"
        );
        assert_eq!(profile_chain("kns.default", Direction::Egress), "cali-pro-kns.default");
    }

    #[test]
    fn a_name_that_looks_like_a_hash_is_hashed() {
        assert_eq!(limited("cali-pi-", ""), "cali-pi-_");
        let fits = "a".repeat(20);
        assert_eq!(limited("cali-pi-", &fits), format!("cali-pi-{fits}"));
        let disguised = format!("_{}", "a".repeat(19));
        let name = limited("cali-pi-", &disguised);
        assert_ne!(name, format!("cali-pi-{disguised}"));
        assert_eq!(name.len(), CHAIN_MAX);
        assert_eq!(limited("cali-pi-", "_short"), "cali-pi-_short");
    }
}
