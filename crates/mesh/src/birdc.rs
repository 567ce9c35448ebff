//! BIRD's control socket, as pure text: bytes → replies → status, protocols, routes (spec 6 §3.10).
//!
//! A reply is a run of lines `NNNN-text` (more follows) closed by one `NNNN text`; a line that begins with a blank
//! repeats the code before it. The greeting, code 1, is a reply of its own. Nothing here reads a socket: feed
//! [`ReplyDecoder`] with what was read, send [`command::STATUS`] and its like, and hand each [`Reply`] to
//! [`parse_status`], [`parse_protocols`] or [`parse_routes`]. No input makes any of them panic; what is not
//! understood is left out.
//!
//! ```text
//! bytes ──ReplyDecoder──▶ Reply ──parse_status────▶ DaemonStatus
//!                               ──parse_protocols─▶ Vec<ProtocolStatus> ──peer()──▶ PeerName
//!                               ──parse_routes────▶ Vec<Route>
//! ```

use std::net::IpAddr;

use smol_str::SmolStr;

mod protocols;
mod routes;

pub use protocols::{BgpDetail, ChannelStatus, ProtocolStatus, parse_protocols};
pub use routes::{Destination, NextHop, Route, parse_routes};

/// What to send; each ends with the newline that the daemon waits for.
pub mod command {
    /// Answered for [`super::parse_status`].
    pub const STATUS: &str = "show status\n";
    /// Answered for [`super::parse_protocols`], without details.
    pub const PROTOCOLS: &str = "show protocols\n";
    /// Answered for [`super::parse_protocols`], with BGP details and channels.
    pub const PROTOCOLS_ALL: &str = "show protocols all\n";
    /// Answered for [`super::parse_routes`].
    pub const ROUTES: &str = "show route\n";
    /// Reads the configuration file again and applies the difference; see [`super::Reply::is_error`].
    pub const CONFIGURE: &str = "configure\n";
    /// Ends the daemon in order.
    pub const DOWN: &str = "down\n";
}

/// The longest line that is kept; BIRD's own stay far below. A longer one is cut, not refused.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Codes of the replies that we look at (BIRD 2.0, `doc/reply_codes`).
mod code {
    pub const GREETING: u16 = 1;
    pub const UP: u16 = 13;
    pub const GRACEFUL_RESTART: u16 = 24;
    pub const VERSION: u16 = 1000;
    pub const PROTOCOL: u16 = 1002;
    pub const PROTOCOL_DETAIL: u16 = 1006;
    pub const ROUTE: u16 = 1007;
    pub const STATUS: u16 = 1011;
    /// Codes from here on are failures: 8xxx at run time, 9xxx in the command itself.
    pub const FIRST_ERROR: u16 = 8000;
}

/// One line of a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Four digits.
    pub code: u16,
    /// What follows the code and its separator, blanks of indented lines included.
    pub text: String,
}

/// One whole answer; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Its lines, the closing one last.
    pub lines: Vec<Line>,
}

impl Reply {
    /// Whether this is what the daemon says when a client connects.
    pub fn is_greeting(&self) -> bool {
        self.last().is_some_and(|line| line.code == code::GREETING)
    }

    /// The daemon's complaint, if it refused the command.
    pub fn error(&self) -> Option<&str> {
        self.last().filter(|line| line.code >= code::FIRST_ERROR).map(|line| line.text.trim())
    }

    /// Whether the daemon refused the command.
    pub fn is_error(&self) -> bool {
        self.error().is_some()
    }

    fn last(&self) -> Option<&Line> {
        self.lines.last()
    }
}

/// Cuts the byte stream of a control socket into replies.
#[derive(Debug, Default)]
pub struct ReplyDecoder {
    partial: Vec<u8>,
    lines: Vec<Line>,
    ready: std::collections::VecDeque<Reply>,
}

impl ReplyDecoder {
    /// An empty decoder, for a connection that has just been opened.
    pub fn new() -> ReplyDecoder {
        ReplyDecoder::default()
    }

    /// Takes bytes as they come, cut anywhere.
    pub fn push(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.partial);
                self.push_line(&String::from_utf8_lossy(&line));
            } else if self.partial.len() < MAX_LINE_BYTES {
                self.partial.push(byte);
            }
        }
    }

    /// The next whole reply, in order.
    pub fn pop(&mut self) -> Option<Reply> {
        self.ready.pop_front()
    }

    fn push_line(&mut self, line: &str) {
        let line = line.trim_end_matches('\r');
        if let Some(text) = line.strip_prefix([' ', '+']) {
            // `+` is an asynchronous log line in a session that asked for it; ours never do.
            if line.starts_with(' ') {
                let code = self.lines.last().map_or(0, |l| l.code);
                self.lines.push(Line { code, text: text.to_owned() });
            }
            return;
        }
        let Some((digits, rest)) = line.split_at_checked(4) else { return };
        let Ok(code) = digits.parse::<u16>() else { return };
        let (text, closes) = match rest.chars().next() {
            Some('-') => (&rest[1..], false),
            Some(' ') => (&rest[1..], true),
            None => ("", true),
            Some(_) => return,
        };
        self.lines.push(Line { code, text: text.to_owned() });
        if closes {
            self.ready.push_back(Reply { lines: std::mem::take(&mut self.lines) });
        }
    }
}

/// What `show status` tells of the daemon. Times are texts in the daemon's own format and zone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DaemonStatus {
    /// As in `2.0.12`, without the leading `BIRD`.
    pub version: String,
    /// Router id, dotted.
    pub router_id: String,
    /// The daemon's clock.
    pub server_time: String,
    /// When it started.
    pub last_reboot: String,
    /// When it last took a configuration.
    pub last_reconfiguration: String,
    /// It still waits for peers before it prunes routes of its former life.
    pub graceful_restart: bool,
    /// It says that it is up and running (not shutting down, not amid a reconfiguration).
    pub up: bool,
}

/// Reads the answer to [`command::STATUS`]; `None` if the daemon refused it or it is some other answer.
pub fn parse_status(reply: &Reply) -> Option<DaemonStatus> {
    if reply.is_error() || !reply.lines.iter().any(|l| l.code == code::STATUS || l.code == code::VERSION) {
        return None;
    }
    let mut status = DaemonStatus::default();
    for Line { code, text } in &reply.lines {
        let text = text.trim();
        match *code {
            code::VERSION => status.version = text.strip_prefix("BIRD").unwrap_or(text).trim().to_owned(),
            code::GRACEFUL_RESTART => status.graceful_restart = true,
            code::UP => status.up = true,
            code::STATUS => {
                for (label, field) in [
                    ("Router ID is ", &mut status.router_id),
                    ("Current server time is ", &mut status.server_time),
                    ("Last reboot on ", &mut status.last_reboot),
                    ("Last reconfiguration on ", &mut status.last_reconfiguration),
                ] {
                    if let Some(value) = text.strip_prefix(label) {
                        *field = value.to_owned();
                    }
                }
            }
            _ => {}
        }
    }
    Some(status)
}

/// Why a session exists; the first word of its protocol's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeerKind {
    /// Between all nodes.
    Mesh,
    /// A BGPPeer of all nodes.
    Global,
    /// A BGPPeer of one node or of selected ones.
    Node,
    /// A workload of this node.
    LocalWorkload,
}

impl PeerKind {
    const ALL: [PeerKind; 4] = [PeerKind::Mesh, PeerKind::Global, PeerKind::Node, PeerKind::LocalWorkload];

    /// How names of protocols begin.
    pub fn prefix(self) -> &'static str {
        match self {
            PeerKind::Mesh => "Mesh_",
            PeerKind::Global => "Global_",
            PeerKind::Node => "Node_",
            PeerKind::LocalWorkload => "Local_Workload_",
        }
    }

    /// How `calicoctl node status` calls it.
    pub fn title(self) -> &'static str {
        match self {
            PeerKind::Mesh => "node-to-node mesh",
            PeerKind::Global => "global",
            PeerKind::Node => "node specific",
            PeerKind::LocalWorkload => "local workload",
        }
    }
}

/// The name of a BGP protocol, and what it says (spec 6 §3.3, point 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName {
    /// Why the session exists.
    pub kind: PeerKind,
    /// The neighbour.
    pub addr: IpAddr,
    /// The neighbour's port, where the name carries one; a mesh name never does.
    pub port: Option<u16>,
}

impl PeerName {
    /// Reads a protocol's name; `None` if it is not a peer of ours.
    pub fn parse(name: &str) -> Option<PeerName> {
        let (kind, rest) =
            PeerKind::ALL.into_iter().find_map(|k| Some((k, name.strip_prefix(k.prefix())?)))?;
        let (addr, port) = match rest.split_once("_port_") {
            Some((addr, port)) => (addr, Some(port.parse().ok()?)),
            None => (rest, None),
        };
        // An IPv4 address has exactly three separators and decimal groups; everything else is IPv6.
        let addr = addr.replace('_', ".").parse().or_else(|_| addr.replace('_', ":").parse()).ok()?;
        Some(PeerName { kind, addr, port })
    }
}

impl std::fmt::Display for PeerName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let PeerName { kind, addr, port } = self;
        write!(f, "{}{}", kind.prefix(), addr.to_string().replace(['.', ':'], "_"))?;
        match port {
            Some(port) if *kind != PeerKind::Mesh => write!(f, "_port_{port}"),
            _ => Ok(()),
        }
    }
}

/// The protocol's name as a word of the configuration.
impl From<PeerName> for SmolStr {
    fn from(name: PeerName) -> SmolStr {
        SmolStr::from(name.to_string())
    }
}

#[cfg(test)]
mod tests;
