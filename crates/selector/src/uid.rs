//! Short unique names for long contents, as Calico makes them for IP sets and chains.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha224};

/// `prefix:` and the unpadded base64url of SHA-224 over `prefix:content` (spec 2 §4.3): 38 characters of hash.
pub fn unique_id(prefix: &str, content: &str) -> String {
    let mut hash = Sha224::new();
    hash.update(prefix);
    hash.update(":");
    hash.update(content);
    format!("{prefix}:{}", URL_SAFE_NO_PAD.encode(hash.finalize()))
}
