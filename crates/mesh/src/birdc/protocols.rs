//! `show protocols`: a table of protocols, and with `all` the state of each one's session and channels.

use super::{Line, PeerName, Reply, code};

/// One protocol of the daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProtocolStatus {
    /// Its name in the configuration.
    pub name: String,
    /// `BGP`, `Kernel`, `Static`, …
    pub proto: String,
    /// `---` where it has several channels, or none.
    pub table: String,
    /// `up`, `start`, `down`, `stop`, …
    pub state: String,
    /// When it came to this state: a time, a date, or both, as the daemon's `timeformat` says.
    pub since: String,
    /// For BGP its state (`Established`, `Active`, …) and the last error; else mostly empty.
    pub info: String,
    /// Of BGP protocols in the answer to `show protocols all`.
    pub bgp: Option<BgpDetail>,
    /// Of the answer to `show protocols all`.
    pub channels: Vec<ChannelStatus>,
}

/// A BGP session in detail. Texts are the daemon's; empty where it said nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BgpDetail {
    /// `Established`, `Connect`, `Active`, `Passive`, `Idle`, …
    pub state: String,
    /// The neighbour's address.
    pub neighbor_address: String,
    /// The neighbour's AS number.
    pub neighbor_as: String,
    /// Our AS number in this session.
    pub local_as: String,
    /// The last error, such as `Socket: Connection refused`.
    pub last_error: String,
    /// The neighbour's BGP identifier; only of an established session.
    pub neighbor_id: String,
    /// The hold time that the two agreed on, in seconds; only of an established session.
    pub hold_secs: Option<u32>,
    /// The time between keepalives that follows from it; only of an established session.
    pub keepalive_secs: Option<u32>,
}

/// One channel (address family) of a protocol.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChannelStatus {
    /// `ipv4` or `ipv6`.
    pub name: String,
    /// `UP`, `DOWN`, …
    pub state: String,
    /// Routes that came in and were accepted.
    pub imported: u64,
    /// Routes that went out.
    pub exported: u64,
    /// Those that came in and are the daemon's choice for their prefix.
    pub preferred: u64,
    /// Updates that came in and that the import filter kept out, since the daemon's start.
    pub import_filtered: u64,
    /// Routes that the export filter kept back, counted at each change of one, since the daemon's start.
    pub export_filtered: u64,
}

impl ProtocolStatus {
    /// The peer, if this is one of our BGP sessions.
    pub fn peer(&self) -> Option<PeerName> {
        if self.proto == "BGP" { PeerName::parse(&self.name) } else { None }
    }

    /// The last error of a BGP session; `None` if it never had one.
    pub fn last_error(&self) -> Option<&str> {
        self.bgp.as_ref().map(|bgp| bgp.last_error.as_str()).filter(|text| !text.is_empty())
    }

    /// Whether a BGP session is established.
    pub fn is_established(&self) -> bool {
        self.proto == "BGP" && self.info.split_whitespace().next() == Some("Established")
    }
}

/// Reads the answer to `show protocols` or `show protocols all`, in the daemon's order.
pub fn parse_protocols(reply: &Reply) -> Vec<ProtocolStatus> {
    let mut protocols: Vec<ProtocolStatus> = Vec::new();
    for Line { code, text } in &reply.lines {
        match *code {
            code::PROTOCOL => protocols.extend(parse_row(text)),
            code::PROTOCOL_DETAIL => {
                if let Some(protocol) = protocols.last_mut() {
                    read_detail(protocol, text);
                }
            }
            _ => {}
        }
    }
    protocols
}

fn parse_row(text: &str) -> Option<ProtocolStatus> {
    let mut words = text.split_whitespace();
    let mut next = || words.next().map(str::to_owned);
    let (name, proto, table, state) = (next()?, next()?, next()?, next()?);
    let mut since = next().unwrap_or_default();
    let mut rest: Vec<&str> = words.collect();
    // `iso long` prints a date and a time, two words.
    if is_date(&since) && rest.first().is_some_and(|w| is_time(w)) {
        since = format!("{since} {}", rest.remove(0));
    }
    Some(ProtocolStatus { name, proto, table, state, since, info: rest.join(" "), ..Default::default() })
}

fn is_date(word: &str) -> bool {
    word.contains('-') && word.bytes().all(|b| b.is_ascii_digit() || b == b'-')
}

fn is_time(word: &str) -> bool {
    word.contains(':') && word.bytes().all(|b| b.is_ascii_digit() || b == b':' || b == b'.')
}

fn read_detail(protocol: &mut ProtocolStatus, text: &str) {
    let text = text.trim();
    if let Some(name) = text.strip_prefix("Channel ") {
        protocol.channels.push(ChannelStatus { name: name.trim().to_owned(), ..Default::default() });
        return;
    }
    let Some((label, value)) = text.split_once(':') else { return };
    let value = value.trim();
    if let Some(channel) = protocol.channels.last_mut() {
        match label {
            "State" => channel.state = value.to_owned(),
            "Routes" => {
                channel.imported = count(value, "imported");
                channel.exported = count(value, "exported");
                channel.preferred = count(value, "preferred");
            }
            "Import updates" => channel.import_filtered = column(value, FILTERED),
            "Export updates" => channel.export_filtered = column(value, FILTERED),
            _ => {}
        }
        return;
    }
    if protocol.proto != "BGP" {
        return;
    }
    let bgp = protocol.bgp.get_or_insert_default();
    let mut set = |field: fn(&mut BgpDetail) -> &mut String| *field(bgp) = value.to_owned();
    match label {
        "Hold timer" => bgp.hold_secs = of_timer(value),
        "Keepalive timer" => bgp.keepalive_secs = of_timer(value),
        "BGP state" => set(|b| &mut b.state),
        "Neighbor address" => set(|b| &mut b.neighbor_address),
        "Neighbor AS" => set(|b| &mut b.neighbor_as),
        "Local AS" => set(|b| &mut b.local_as),
        "Last error" => set(|b| &mut b.last_error),
        "Neighbor ID" => set(|b| &mut b.neighbor_id),
        _ => {}
    }
}

/// `3` of `1 imported, 3 exported, 1 preferred`; a number that is not there counts as 0.
fn count(text: &str, what: &str) -> u64 {
    text.split(',').find_map(|part| part.trim().strip_suffix(what)?.trim().parse().ok()).unwrap_or(0)
}

/// Where `filtered` is in the table of route changes: received, rejected, filtered, ignored, accepted.
const FILTERED: usize = 2;

/// A column of the table of route changes; `---`, and what is not there, counts as 0.
fn column(text: &str, index: usize) -> u64 {
    text.split_whitespace().nth(index).and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// `240` of `180.277/240`: the whole of a timer.
fn of_timer(text: &str) -> Option<u32> {
    text.split_once('/')?.1.trim().parse().ok()
}
