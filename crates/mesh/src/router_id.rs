//! The router id: a literal, a hash of the node's name, or the node's IPv4 address (spec 6 §3.4, point 4).

use std::net::Ipv4Addr;

use sha2::{Digest, Sha256};

/// Chooses the router id from `CALICO_ROUTER_ID` (`setting`, empty if unset), the node's name and its IPv4 address;
/// with a complaint if the setting is neither empty, `hash` nor an IPv4 address, and so was ignored.
///
/// `hash`, and a node that has neither a setting nor an IPv4 address, takes it from the name. (Calico leaves such a
/// node without BGP until `hash` is set; nothing is gained by that.)
pub fn select_router_id(setting: &str, node: &str, v4: Option<Ipv4Addr>) -> (Ipv4Addr, Option<String>) {
    let unset = || v4.unwrap_or_else(|| hash(node));
    match setting {
        "" => (unset(), None),
        "hash" => (hash(node), None),
        literal => match literal.parse() {
            Ok(id) => (id, None),
            Err(_) => {
                let text = format!("CALICO_ROUTER_ID {literal:?} is neither \"hash\" nor an IPv4 address");
                (unset(), Some(text))
            }
        },
    }
}

/// The first four bytes of the name's SHA-256; out of the multicast range, which no router id may be in.
fn hash(node: &str) -> Ipv4Addr {
    let digest = Sha256::digest(node.as_bytes());
    let first = if digest[0] > 223 { digest[0] - 32 } else { digest[0] };
    Ipv4Addr::new(first, digest[1], digest[2], digest[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literal_hash_address() {
        let addr = Some(Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(select_router_id("", "a", addr), (Ipv4Addr::new(10, 0, 0, 1), None));
        assert_eq!(select_router_id("10.10.10.10", "a", addr), (Ipv4Addr::new(10, 10, 10, 10), None));
        assert_eq!(select_router_id("", "a", None), select_router_id("hash", "a", addr));
        let (id, complaint) = select_router_id("fd00::1", "a", addr);
        assert_eq!(Some(id), addr);
        assert!(complaint.unwrap().contains("fd00::1"));
    }

    #[test]
    fn hash_is_sha_256_out_of_multicast() {
        // As sha256sum prints them: 194fd408… and e3b98a4d….
        assert_eq!(hash("kube-master"), Ipv4Addr::new(0x19, 0x4f, 0xd4, 0x08));
        assert_eq!(hash("t"), Ipv4Addr::new(0xe3 - 32, 0xb9, 0x8a, 0x4d));
    }
}
