//! Ports of a rule, gathered by protocol (spec 1 §3.7).

use std::collections::BTreeMap;

use calico_net::{PortRange, Protocol};
use smol_str::SmolStr;

use super::{PolicyPort, PortWord};
use crate::number::{Port, ProtocolForm};

/// A protocol (none means all) and its ports (none means all).
pub(in crate::kubernetes) type ProtocolPorts = (Option<ProtocolForm>, Vec<Port>);

/// For each protocol, the ports of it. Without any entry: all of all protocols.
pub(super) fn by_protocol(ports: &[PolicyPort]) -> Result<Vec<ProtocolPorts>, String> {
    if ports.is_empty() {
        return Ok(vec![(None, Vec::new())]);
    }
    let mut read = Vec::with_capacity(ports.len());
    for (place, entry) in ports.iter().enumerate() {
        let (protocol, port) = read_port(entry).map_err(|reason| format!("ports[{place}].{reason}"))?;
        read.push((Some(protocol), port));
    }
    Ok(gather(read))
}

/// Gathers pairs of protocol and port. Once a pair of a protocol has no port, the protocol has all, whatever others say.
pub(in crate::kubernetes) fn gather(
    pairs: impl IntoIterator<Item = (Option<&'static str>, Option<Port>)>,
) -> Vec<ProtocolPorts> {
    let mut gathered: BTreeMap<Option<&'static str>, Option<Vec<Port>>> = BTreeMap::new();
    for (protocol, port) in pairs {
        let known = gathered.entry(protocol).or_insert_with(|| Some(Vec::new()));
        match (port, known.as_mut()) {
            (Some(port), Some(known)) => known.push(port),
            (None, _) => *known = None,
            (Some(_), None) => {}
        }
    }
    let protocols = gathered.into_iter().map(|(protocol, ports)| {
        let protocol = protocol.map(|name| ProtocolForm::Name(SmolStr::new_static(name)));
        (protocol, coalesce(ports.unwrap_or_default()))
    });
    protocols.collect()
}

/// A range from numbers as written in two fields.
pub(in crate::kubernetes) fn range(
    first_field: &str,
    first: i64,
    last_field: &str,
    last: i64,
) -> Result<Port, String> {
    let number = |field: &str, number: i64| match u16::try_from(number) {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("{field}: {number} is not a port; use 1 to 65535")),
    };
    let range = PortRange { first: number(first_field, first)?, last: number(last_field, last)? };
    if range.last < range.first {
        return Err(format!("{last_field}: {last} is less than {first_field} {first}"));
    }
    Ok(Port::Range(range))
}

fn read_port(entry: &PolicyPort) -> Result<(&'static str, Option<Port>), String> {
    let PolicyPort { protocol, port, end_port } = entry;
    let protocol = match protocol.as_deref() {
        None | Some("") => "TCP",
        Some(text) => [Protocol::TCP, Protocol::UDP, Protocol::SCTP]
            .into_iter()
            .filter_map(Protocol::name)
            .find(|name| *name == text)
            .ok_or_else(|| format!("protocol: {text:?} is none of TCP, UDP, SCTP"))?,
    };
    let port = match (port, end_port) {
        (None, None) => None,
        (Some(PortWord::Number(first)), last) => {
            Some(range("port", *first, "endPort", last.unwrap_or(*first))?)
        }
        (Some(PortWord::Name(name)), None) => match name.parse() {
            Ok(port @ Port::Named(_)) => Some(port),
            _ => return Err(format!("port: {name:?} is not the name of a port")),
        },
        (None | Some(PortWord::Name(_)), Some(last)) => {
            return Err(format!("endPort: {last} needs a number as port"));
        }
    };
    Ok((protocol, port))
}

/// Names first, in order; then numbers in order, as few ranges as they make.
fn coalesce(mut ports: Vec<Port>) -> Vec<Port> {
    ports.sort_unstable_by(|a, b| {
        matches!(a, Port::Range(_)).cmp(&matches!(b, Port::Range(_))).then(a.cmp(b))
    });
    let mut merged: Vec<Port> = Vec::with_capacity(ports.len());
    for port in ports {
        match (merged.last_mut(), &port) {
            (Some(Port::Range(last)), Port::Range(next)) if next.first <= last.last.saturating_add(1) => {
                last.last = last.last.max(next.last);
            }
            (Some(last), port) if last == port => {}
            _ => merged.push(port),
        }
    }
    merged
}
