//! Text of an option → its value.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use calico_net::{Cidr, PortRange, Protocol};
use smol_str::SmolStr;

use super::{OptionRow, OptionType};
use crate::number::GoDuration;

/// A port of hosts that policy leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    /// TCP or UDP.
    pub protocol: Protocol,
    /// The port.
    pub port: u16,
    /// Only for peers in this range.
    pub net: Option<Cidr>,
}

/// The value of an option.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs, reason = "each variant is named after its content")]
pub enum OptionValue {
    /// Not set, or `none`.
    Unset,
    Bool(bool),
    Int(i64),
    Duration(Duration),
    Text(SmolStr),
    List(Vec<SmolStr>),
    Addr(IpAddr),
    Cidrs(Vec<Cidr>),
    HostPorts(Vec<HostPort>),
    PortRanges(Vec<PortRange>),
    Pairs(BTreeMap<SmolStr, SmolStr>),
    Durations(BTreeMap<SmolStr, GoDuration>),
    Mask(u32),
    /// Inclusive ranges of routing tables.
    TableRanges(Vec<(u32, u32)>),
}

/// A text is no value of an option: what would be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct OptionError(pub String);

/// The names of DSCP values (RFC 2474, 2597, 3246, 5865, 8622).
const DSCP_NAMES: [(&str, i64); 24] = [
    ("DF", 0),
    ("CS0", 0),
    ("LE", 1),
    ("CS1", 8),
    ("AF11", 10),
    ("AF12", 12),
    ("AF13", 14),
    ("CS2", 16),
    ("AF21", 18),
    ("AF22", 20),
    ("AF23", 22),
    ("CS3", 24),
    ("AF31", 26),
    ("AF32", 28),
    ("AF33", 30),
    ("CS4", 32),
    ("AF41", 34),
    ("AF42", 36),
    ("AF43", 38),
    ("CS5", 40),
    ("VA", 44),
    ("EF", 46),
    ("CS6", 48),
    ("CS7", 56),
];

/// Most routing tables that RouteTableRanges may name.
const MAX_TABLES: u64 = 65_535;

/// The value of a text. Empty text and `none` mean unset.
///
/// # Errors
/// When the text is no value of the option's type, or means unset for an option that must have a value.
pub fn parse(row: &OptionRow, text: &str) -> Result<OptionValue, OptionError> {
    let text = text.trim();
    if text.is_empty() || text.eq_ignore_ascii_case("none") {
        // Words win: `None` is itself a choice of some options.
        if let OptionType::OneOf(words) = row.kind
            && let Some(word) = words.iter().find(|w| w.eq_ignore_ascii_case(text))
        {
            return Ok(OptionValue::Text(SmolStr::new_static(word)));
        }
        if row.required && !text.is_empty() {
            return Err(OptionError("must not be none".to_owned()));
        }
        return Ok(OptionValue::Unset);
    }
    parse_kind(row.kind, text)
}

fn parse_kind(kind: OptionType, text: &str) -> Result<OptionValue, OptionError> {
    let wanted = |what: &str| OptionError(format!("must be {what}"));
    Ok(match kind {
        OptionType::Bool => OptionValue::Bool(parse_bool(text).ok_or_else(|| wanted("true or false"))?),
        OptionType::Int(min, max) => OptionValue::Int(parse_int(text, min, max)?),
        OptionType::Seconds => OptionValue::Duration(parse_seconds(text, 1.0)?),
        OptionType::Millis => OptionValue::Duration(parse_seconds(text, 1e-3)?),
        OptionType::OneOf(words) => match words.iter().find(|w| w.eq_ignore_ascii_case(text)) {
            Some(word) => OptionValue::Text(SmolStr::new_static(word)),
            None => return Err(OptionError(format!("must be one of {}", words.join(", ")))),
        },
        OptionType::Text | OptionType::Path | OptionType::ExistingPath | OptionType::Executable => {
            OptionValue::Text(SmolStr::new(text))
        }
        OptionType::Matching(pattern) => {
            let regex = regex_lite::Regex::new(pattern).map_err(|e| OptionError(e.to_string()))?;
            if !regex.is_match(text) {
                return Err(OptionError(format!("must match {pattern}")));
            }
            OptionValue::Text(SmolStr::new(text))
        }
        OptionType::Regex => {
            regex_lite::Regex::new(text)
                .map_err(|e| OptionError(format!("is no regular expression: {e}")))?;
            OptionValue::Text(SmolStr::new(text))
        }
        OptionType::Ipv4 => {
            OptionValue::Addr(IpAddr::V4(text.parse().map_err(|_| wanted("an IPv4 address"))?))
        }
        OptionType::Ipv6 => {
            OptionValue::Addr(IpAddr::V6(text.parse().map_err(|_| wanted("an IPv6 address"))?))
        }
        OptionType::Cidrs => {
            let parse = |t: &str| t.parse::<Cidr>().map_err(|e| OptionError(e.to_string()));
            OptionValue::Cidrs(items(text).map(parse).collect::<Result<_, _>>()?)
        }
        OptionType::HostPorts => {
            OptionValue::HostPorts(items(text).map(parse_host_port).collect::<Result<_, _>>()?)
        }
        OptionType::PortRange => OptionValue::PortRanges(vec![parse_ports(text)?]),
        OptionType::PortRanges => {
            OptionValue::PortRanges(items(text).map(parse_ports).collect::<Result<_, _>>()?)
        }
        OptionType::KeyValues => {
            let pair = |t: &str| {
                let (key, value) =
                    t.split_once('=').ok_or_else(|| wanted("key=value pairs between commas"))?;
                Ok((SmolStr::new(key.trim()), SmolStr::new(value.trim())))
            };
            OptionValue::Pairs(items(text).map(pair).collect::<Result<_, _>>()?)
        }
        OptionType::KeyDurations => {
            let pair = |t: &str| {
                let (key, value) =
                    t.split_once('=').ok_or_else(|| wanted("name=duration pairs between commas"))?;
                let value: GoDuration = value.trim().parse().map_err(|e| OptionError(format!("{e}")))?;
                Ok((SmolStr::new(key.trim()), value))
            };
            OptionValue::Durations(items(text).map(pair).collect::<Result<_, _>>()?)
        }
        OptionType::Endpoints => OptionValue::List(parse_list(text, |t| {
            (t.starts_with("http://") || t.starts_with("https://"))
                .then_some(())
                .ok_or_else(|| wanted("http:// or https:// URLs between commas"))
        })?),
        OptionType::Interfaces => OptionValue::List(parse_list(text, check_interface)?),
        OptionType::InterfaceList => OptionValue::List(parse_list(text, |t| {
            is_interface_filter(t).then_some(()).ok_or_else(|| wanted("interface names between commas"))
        })?),
        OptionType::Mask => {
            let mask =
                text.strip_prefix("0x").map_or_else(|| text.parse(), |hex| u32::from_str_radix(hex, 16));
            let mask = mask.ok().filter(|m: &u32| m.count_ones() >= 2);
            OptionValue::Mask(
                mask.ok_or_else(|| wanted("32 bits such as 0xffff0000, at least two of them set"))?,
            )
        }
        OptionType::Dscp => OptionValue::Int(
            DSCP_NAMES
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(text))
                .map(|(_, n)| *n)
                .or_else(|| text.parse().ok().filter(|n| (0..64).contains(n)))
                .ok_or_else(|| wanted("a DSCP value from 0 to 63 or a name such as EF"))?,
        ),
        OptionType::TableRange => {
            let range = parse_tables(text)?;
            if range.1 > 250 {
                return Err(wanted("a range n-m of tables within 1-250"));
            }
            OptionValue::TableRanges(vec![range])
        }
        OptionType::TableRanges => {
            let ranges: Vec<(u32, u32)> = text
                .split([',', ' '])
                .filter(|t| !t.is_empty())
                .map(parse_tables)
                .collect::<Result<_, _>>()?;
            if ranges.iter().map(|(a, b)| u64::from(b - a) + 1).sum::<u64>() > MAX_TABLES {
                return Err(OptionError(format!("names more than {MAX_TABLES} tables")));
            }
            OptionValue::TableRanges(ranges)
        }
        OptionType::Region => {
            let label = text.len() <= 46
                && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
                && !text.starts_with('-')
                && !text.ends_with('-');
            if !label {
                return Err(wanted("a DNS label of at most 46 characters"));
            }
            OptionValue::Text(SmolStr::new(text))
        }
    })
}

fn items(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|t| !t.is_empty())
}

fn parse_bool(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|w| w.eq_ignore_ascii_case(text));
    match () {
        () if is(&["true", "1", "yes", "y", "t"]) => Some(true),
        () if is(&["false", "0", "no", "n", "f"]) => Some(false),
        () => None,
    }
}

fn parse_int(text: &str, min: i64, max: i64) -> Result<i64, OptionError> {
    let number = text.parse::<i64>().ok().filter(|n| (min..=max).contains(n));
    number.ok_or_else(|| {
        OptionError(match (min, max) {
            (i64::MIN, i64::MAX) => "must be a whole number".to_owned(),
            (min, i64::MAX) => format!("must be a whole number, {min} or more"),
            (min, max) => format!("must be a whole number from {min} to {max}"),
        })
    })
}

fn parse_seconds(text: &str, scale: f64) -> Result<Duration, OptionError> {
    let number = text.parse::<f64>().ok().filter(|n| n.is_finite());
    number.and_then(|n| Duration::try_from_secs_f64(n * scale).ok()).ok_or_else(|| {
        let unit = if scale < 1.0 { "milliseconds" } else { "seconds" };
        OptionError(format!("must be a number of {unit}, 0 or more"))
    })
}

fn parse_ports(text: &str) -> Result<PortRange, OptionError> {
    text.parse().map_err(|e| OptionError(format!("{e}")))
}

fn parse_host_port(text: &str) -> Result<HostPort, OptionError> {
    let bad =
        || OptionError(format!("{text:?} is no port such as tcp:22, udp:10.0.0.0/8:53 or tcp:[fd00::/8]:22"));
    let (rest, port) = match text.rsplit_once(':') {
        None => ("tcp", text),
        Some((rest, port)) => (rest, port),
    };
    let (protocol, net) = match rest.split_once(':') {
        None => (rest, None),
        Some((protocol, net)) => {
            let net = net.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(net);
            (protocol, Some(net.parse::<Cidr>().map_err(|_| bad())?))
        }
    };
    let protocol = protocol
        .parse::<Protocol>()
        .ok()
        .filter(|p| matches!(*p, Protocol::TCP | Protocol::UDP))
        .ok_or_else(bad)?;
    Ok(HostPort { protocol, port: port.parse().map_err(|_| bad())?, net })
}

fn parse_tables(text: &str) -> Result<(u32, u32), OptionError> {
    let bad = || OptionError(format!("{text:?} is no range n-m of routing tables from 1 up"));
    let (first, last) = text.split_once('-').ok_or_else(bad)?;
    let first: u32 = first.trim().parse().map_err(|_| bad())?;
    let last: u32 = last.trim().parse().map_err(|_| bad())?;
    if first == 0 || first > last { Err(bad()) } else { Ok((first, last)) }
}

fn parse_list(
    text: &str,
    check: impl Fn(&str) -> Result<(), OptionError>,
) -> Result<Vec<SmolStr>, OptionError> {
    items(text).map(|t| check(t).map(|()| SmolStr::new(t))).collect()
}

fn check_interface(text: &str) -> Result<(), OptionError> {
    match text.strip_prefix('/').and_then(|t| t.strip_suffix('/')) {
        Some(pattern) => {
            regex_lite::Regex::new(pattern).map(|_| ()).map_err(|e| OptionError(format!("{text:?}: {e}")))
        }
        None if is_interface_filter(text) => Ok(()),
        None => Err(OptionError(format!("{text:?} is no interface name and no /pattern/"))),
    }
}

fn is_interface_filter(text: &str) -> bool {
    (1..=15).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b":._+-".contains(&b))
}
