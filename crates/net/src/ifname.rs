//! Names of network interfaces, within the kernel's limits (`IFNAMSIZ`, linux/if.h).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// A name that the kernel accepts for an interface: 1 to 15 bytes, no `/`, no whitespace, no `:`, not `.` or `..`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IfName(SmolStr);

/// The text cannot name an interface.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an interface name; use 1 to 15 bytes without slash, colon and blank")]
pub struct IfNameError(pub String);

impl IfName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IfName {
    type Err = IfNameError;

    fn from_str(text: &str) -> Result<IfName, IfNameError> {
        let legal = |b: u8| b != b'/' && b != b':' && b.is_ascii_graphic();
        if text.is_empty() || text.len() > 15 || text == "." || text == ".." || !text.bytes().all(legal) {
            return Err(IfNameError(text.to_owned()));
        }
        Ok(IfName(SmolStr::new(text)))
    }
}

impl fmt::Display for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IfName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for IfName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl Serialize for IfName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for IfName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<IfName, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_what_the_kernel_accepts() {
        for good in ["eth0", "cali0a1b2c3d4e5", "vxlan.calico", "a", "br-1_x"] {
            assert!(good.parse::<IfName>().is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "eth0:1", "sixteen-letters-", "ä"] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
    }
}
