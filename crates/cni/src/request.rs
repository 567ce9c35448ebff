//! What a plugin process says to the agent: one framed JSON message each way, the first with a descriptor.
//!
//! A frame is a 4-byte big-endian length and that many bytes of JSON. The request's first byte carries the container's
//! network namespace as SCM_RIGHTS (unix(7)), because a path in the plugin's mount namespace may mean nothing in the
//! agent's.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::arguments::Arguments;
use crate::error::CniError;

/// Version of this protocol. An agent answers a version that it does not speak with an error, never with a guess.
pub const PROTOCOL: u32 = 1;

/// The longest frame: a network configuration with its previous result is some kilobytes; a megabyte is an accident.
pub const MAX_FRAME: usize = 1 << 20;

/// A plugin's request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// [`PROTOCOL`] of the plugin.
    pub protocol: u32,
    /// Which plugin: the network plugin or IPAM alone.
    pub plugin: Plugin,
    /// The runtime's environment.
    pub arguments: Arguments,
    /// The network configuration, as the runtime gave it.
    pub netconf: Value,
}

/// Which of the two plugins was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Plugin {
    /// `calico`
    Network,
    /// `calico-ipam`
    Ipam,
}

/// The agent's answer: what to print, or the error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Response {
    /// Success; the document to print, if the verb has one.
    Done(Option<Value>),
    /// Failure.
    Failed(CniError),
}

/// The length header of a body.
pub fn header(body: &[u8]) -> Option<[u8; 4]> {
    u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_FRAME).map(u32::to_be_bytes)
}

/// The length that a header announces, if it is within bounds.
pub fn body_len(header: [u8; 4]) -> Option<usize> {
    usize::try_from(u32::from_be_bytes(header)).ok().filter(|n| *n <= MAX_FRAME)
}
