//! Names that Kubernetes objects of Calico's get, and hashes in names (spec 1 §3.4, §3.5).

use calico_net::Cidr;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use sha3::Sha3_256;
use smol_str::{SmolStr, SmolStrBuilder};

/// The label of block affinities by which those of one host are listed; its value is [`hostname_hash`].
pub const HOSTNAME_HASH_LABEL: &str = "projectcalico.org/hostname-hash";
/// The label of block affinities that says `host` or `virtual`.
pub const AFFINITY_TYPE_LABEL: &str = "projectcalico.org/affinity-type";
/// The label of block affinities that says `4` or `6`.
pub const IP_VERSION_LABEL: &str = "projectcalico.org/ip-version";
/// The name of what exists once in a cluster.
pub const DEFAULT: &str = "default";

/// Kubernetes' limit is 253 bytes; Calico shortens what reaches it.
const TOO_LONG: usize = 253;
/// Hex digits of a hash that stands in a name.
const HASH_DIGITS: usize = 11;

/// The name of a block's custom resource: `10-0-0-0-26`.
pub fn block(cidr: Cidr) -> SmolStr {
    SmolStr::from(cidr.object_name())
}

/// The name of an affinity's custom resource: `<host>-<block>`. A host's name that is too long for that is cut, and a
/// hash of the whole keeps the name unique.
pub fn affinity(host: &str, cidr: Cidr) -> SmolStr {
    let block = cidr.object_name();
    let name = format!("{host}-{block}");
    if name.len() < TOO_LONG {
        return SmolStr::from(name);
    }
    let room = TOO_LONG - 1 - block.len() - HASH_DIGITS - 2;
    let end = (0..=room).rev().find(|end| host.is_char_boundary(*end)).unwrap_or(0);
    let hash = hex_prefix(&Sha256::digest(format!("{host}+{block}")));
    SmolStr::from(format!("{}-{block}-{hash}", &host[..end]))
}

/// The name of a handle's custom resource: its id in lower case.
pub fn handle(id: &str) -> SmolStr {
    SmolStr::from(id.to_lowercase())
}

/// The value of [`HOSTNAME_HASH_LABEL`]: a label's value holds 63 characters, a host's name may be longer. SHA3-256 in
/// base 32 without padding.
pub fn hostname_hash(host: &str) -> SmolStr {
    base32(&Sha3_256::digest(host))
}

/// The host's side of a pod's interface: `prefix`, the first of Felix's interface prefixes, and a hash of the pod.
pub fn interface(prefix: &str, namespace: &str, pod: &str) -> SmolStr {
    SmolStr::from(format!("{prefix}{}", hex_prefix(&Sha1::digest(format!("{namespace}.{pod}")))))
}

/// The profile of a namespace.
pub fn namespace_profile(namespace: &str) -> SmolStr {
    SmolStr::from(format!("{NAMESPACE_PROFILE}{namespace}"))
}

/// The profile of a service account; one without a namespace is in `default`.
pub fn service_account_profile(namespace: &str, account: &str) -> SmolStr {
    let namespace = if namespace.is_empty() { "default" } else { namespace };
    SmolStr::from(format!("{SERVICE_ACCOUNT_PROFILE}{namespace}.{account}"))
}

/// How profiles of namespaces begin.
const NAMESPACE_PROFILE: &str = "kns.";
/// How profiles of service accounts begin.
const SERVICE_ACCOUNT_PROFILE: &str = "ksa.";

/// What a profile's name says that it is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProfileSource<'a> {
    /// A namespace.
    Namespace(&'a str),
    /// A service account, which may have dots in its name.
    ServiceAccount {
        /// Its namespace.
        namespace: &'a str,
        /// Its name.
        name: &'a str,
    },
}

/// Where the profile of a name comes from; `None` if Kubernetes has no such profile.
pub fn profile_source(profile: &str) -> Option<ProfileSource<'_>> {
    if let Some(namespace) = profile.strip_prefix(NAMESPACE_PROFILE) {
        return (!namespace.is_empty()).then_some(ProfileSource::Namespace(namespace));
    }
    let (namespace, name) = profile.strip_prefix(SERVICE_ACCOUNT_PROFILE)?.split_once('.')?;
    let named = !namespace.is_empty() && !name.is_empty();
    named.then_some(ProfileSource::ServiceAccount { namespace, name })
}

fn hex_prefix(hash: &[u8]) -> String {
    let mut text: String = hash.iter().take(HASH_DIGITS.div_ceil(2)).map(|b| format!("{b:02x}")).collect();
    text.truncate(HASH_DIGITS);
    text
}

/// RFC 4648 §6, without padding.
fn base32(bytes: &[u8]) -> SmolStr {
    let mut text = SmolStrBuilder::new();
    for chunk in bytes.chunks(5) {
        let mut five = [0; 5];
        five[..chunk.len()].copy_from_slice(chunk);
        let bits = five.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        for place in 0..(chunk.len() * 8).div_ceil(5) {
            let digit = (bits >> (35 - 5 * place) & 31) as usize;
            text.push(char::from(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"[digit]));
        }
    }
    text.finish()
}

#[cfg(test)]
mod tests;
