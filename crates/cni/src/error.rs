//! CNI errors: the JSON object that a failed plugin prints (CNI 1.1 specification, "Error").

use serde::{Deserialize, Serialize};

use crate::version::SpecVersion;

/// Error codes of the CNI specification, and ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Code {
    /// The configuration asks for a version that we do not speak.
    IncompatibleVersion,
    /// A field has a value that we do not support.
    UnsupportedField,
    /// The container is not known (CHECK).
    UnknownContainer,
    /// A CNI_ variable is missing or malformed.
    InvalidEnvironment,
    /// Reading or writing failed.
    Io,
    /// The configuration is not JSON of the right shape.
    Decode,
    /// The configuration is well-formed but wrong.
    InvalidConfiguration,
    /// The network namespace cannot be a container's.
    InvalidNetns,
    /// Nothing is broken; try again later.
    TryAgainLater,
    /// STATUS: ADD would fail.
    NotAvailable,
    /// Everything else. Calico's plugins use 999 for it too.
    Generic,
}

impl Code {
    /// The number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Code::IncompatibleVersion => 1,
            Code::UnsupportedField => 2,
            Code::UnknownContainer => 3,
            Code::InvalidEnvironment => 4,
            Code::Io => 5,
            Code::Decode => 6,
            Code::InvalidConfiguration => 7,
            Code::InvalidNetns => 8,
            Code::TryAgainLater => 11,
            Code::NotAvailable => 50,
            Code::Generic => 999,
        }
    }
}

/// Why a verb failed, as the runtime is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{msg}{}{details}", if details.is_empty() { "" } else { ": " })]
pub struct CniError {
    /// One of [`Code`]'s numbers.
    pub code: u32,
    /// What failed, in a few words.
    pub msg: String,
    /// More, for a person.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl CniError {
    /// An error with its reason.
    pub fn new(code: Code, msg: impl Into<String>, details: impl std::fmt::Display) -> CniError {
        CniError { code: code.number(), msg: msg.into(), details: details.to_string() }
    }

    /// An error of no special class.
    pub fn generic(msg: impl Into<String>, details: impl std::fmt::Display) -> CniError {
        CniError::new(Code::Generic, msg, details)
    }

    /// Whether the request itself is wrong: the same one fails again whenever it is tried.
    pub fn is_final(&self) -> bool {
        let wrong =
            [Code::UnsupportedField, Code::InvalidEnvironment, Code::InvalidConfiguration].map(Code::number);
        wrong.contains(&self.code)
    }

    /// The JSON object that the plugin prints.
    pub fn to_json(&self, version: SpecVersion) -> String {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Printed<'a> {
            cni_version: &'static str,
            #[serde(flatten)]
            error: &'a CniError,
        }
        serde_json::to_string(&Printed { cni_version: version.as_str(), error: self })
            .expect("strings and numbers always serialise")
    }
}
