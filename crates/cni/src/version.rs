//! Versions of the CNI specification that we speak.

use std::fmt;
use std::str::FromStr;

/// A supported version of the CNI specification, in order of age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    /// 0.1.0
    V0_1_0,
    /// 0.2.0: what a configuration without `cniVersion` means (spec 5 §1.2).
    V0_2_0,
    /// 0.3.0: results with interfaces and lists of addresses.
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0: CHECK.
    V0_4_0,
    /// 1.0.0: addresses without a `version` field.
    V1_0_0,
    /// 1.1.0: GC and STATUS.
    V1_1_0,
}

impl SpecVersion {
    /// Every version, oldest first.
    pub const ALL: [SpecVersion; 7] = [
        SpecVersion::V0_1_0,
        SpecVersion::V0_2_0,
        SpecVersion::V0_3_0,
        SpecVersion::V0_3_1,
        SpecVersion::V0_4_0,
        SpecVersion::V1_0_0,
        SpecVersion::V1_1_0,
    ];
    /// The newest version.
    pub const LATEST: SpecVersion = SpecVersion::V1_1_0;

    /// The version's text.
    pub fn as_str(self) -> &'static str {
        match self {
            SpecVersion::V0_1_0 => "0.1.0",
            SpecVersion::V0_2_0 => "0.2.0",
            SpecVersion::V0_3_0 => "0.3.0",
            SpecVersion::V0_3_1 => "0.3.1",
            SpecVersion::V0_4_0 => "0.4.0",
            SpecVersion::V1_0_0 => "1.0.0",
            SpecVersion::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for SpecVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<SpecVersion, String> {
        if text.is_empty() {
            return Ok(SpecVersion::V0_2_0);
        }
        SpecVersion::ALL.into_iter().find(|v| v.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = SpecVersion::ALL.iter().map(|v| v.as_str()).collect();
            format!("unsupported CNI version {text:?}: this plugin speaks {}", known.join(", "))
        })
    }
}
