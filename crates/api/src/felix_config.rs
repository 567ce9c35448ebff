//! The agent's options: one table, their text forms, and what is in force when sources differ (spec 3 §6.11).
//!
//! ```text
//! FelixConfigurations ─┐
//! file ────────────────┼─ settings (source, name, text) ── resolve ── values by name ── FelixConfig
//! environment ─────────┘
//! ```

pub mod config;
pub mod parse;
pub mod resolve;
pub mod resource;
pub mod table;

pub use config::FelixConfig;
pub use parse::{HostPort, OptionError, OptionValue};
pub use resolve::{OptionProblem, Resolution, Setting, Source, resolve};
pub use table::TABLE;

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct OptionRow {
    /// What it belongs to.
    pub group: Group,
    /// Name in configuration files, and after `FELIX_` in the environment; case is ignored when reading.
    pub name: &'static str,
    /// Name in a FelixConfiguration; empty if it cannot stand there.
    pub resource: &'static str,
    /// Default, in the text form of files and environment; empty for unset.
    pub default: &'static str,
    /// Which texts are values.
    pub kind: OptionType,
    /// What it does, one line.
    pub text: &'static str,
    /// Only from a file or the environment: one that comes from the datastore is passed over.
    pub local: bool,
    /// Has no empty value: `none` is refused.
    pub required: bool,
    /// A bad value stops the agent; others leave the default in force.
    pub fatal: bool,
    /// A change takes effect without a restart.
    pub live: bool,
}

impl OptionRow {
    /// The environment variable.
    pub fn environment(&self) -> String {
        format!("FELIX_{}", self.name)
    }
}

/// What an option belongs to, for documents and help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum Group {
    Datastore,
    Features,
    Runtime,
    Health,
    Logging,
    Metrics,
    Dataplane,
    Iptables,
    Nftables,
    Bpf,
    Windows,
    OpenStack,
    Xdp,
    Vxlan,
    Ipip,
    Wireguard,
    FlowLogs,
    Aws,
    Debug,
    Usage,
}

/// Which texts an option takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OptionType {
    /// true, 1, yes, y, t; false, 0, no, n, f; any case.
    Bool,
    /// A whole number from the first to the second, both included.
    Int(i64, i64),
    /// A length of time in seconds, with or without a fraction. In resources: a Go duration.
    Seconds,
    /// The same in milliseconds.
    Millis,
    /// One of these words, any case.
    OneOf(&'static [&'static str]),
    /// Any text.
    Text,
    /// Text that matches a regular expression.
    Matching(&'static str),
    /// A regular expression.
    Regex,
    /// A path.
    Path,
    /// A path of a file that exists.
    ExistingPath,
    /// A program's path or name.
    Executable,
    /// An IPv4 address.
    Ipv4,
    /// An IPv6 address.
    Ipv6,
    /// CIDRs between commas.
    Cidrs,
    /// Ports between commas: `tcp:22`, `udp:10.0.0.0/8:53`, `tcp:[fd00::/8]:22`; TCP if nothing is said.
    HostPorts,
    /// A port, or a range `n:m`.
    PortRange,
    /// Ports and ranges between commas.
    PortRanges,
    /// `key=value` pairs between commas.
    KeyValues,
    /// `key=duration` pairs between commas, Go durations.
    KeyDurations,
    /// URLs between commas.
    Endpoints,
    /// Interface names, or regular expressions between slashes; between commas.
    Interfaces,
    /// Interface names between commas; `+` at the end stands for any ending.
    InterfaceList,
    /// 32 bits, decimal or 0x…, at least two of them set.
    Mask,
    /// 0–63, or a name of RFC 4594's such as EF or AF11.
    Dscp,
    /// `n-m` within 1–250.
    TableRange,
    /// `n-m` ranges between commas or blanks, at most 65,535 tables in all.
    TableRanges,
    /// A DNS label.
    Region,
}

/// The row of an option, by its name in any case.
pub fn row(name: &str) -> Option<&'static OptionRow> {
    TABLE.iter().find(|row| row.name.eq_ignore_ascii_case(name))
}

/// The row of an option, by its exact name in a FelixConfiguration.
pub fn resource_row(name: &str) -> Option<&'static OptionRow> {
    TABLE.iter().find(|row| !row.resource.is_empty() && row.resource == name)
}

#[cfg(test)]
mod tests;
