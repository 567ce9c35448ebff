//! IP protocols as policy names them: a few by name, the rest by number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An IP protocol number, 1 to 255 (IANA). Named ones print by name: `TCP UDP ICMP ICMPv6 SCTP UDPLite`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Protocol(u8);

/// Not a protocol's name or number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a protocol; use TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255")]
pub struct ProtocolError(pub String);

const NAMES: [(&str, Protocol); 6] = [
    ("TCP", Protocol::TCP),
    ("UDP", Protocol::UDP),
    ("ICMP", Protocol::ICMP),
    ("ICMPv6", Protocol::ICMPV6),
    ("SCTP", Protocol::SCTP),
    ("UDPLite", Protocol::UDP_LITE),
];

impl Protocol {
    /// Internet Control Message Protocol (RFC 792).
    pub const ICMP: Protocol = Protocol(1);
    /// Transmission Control Protocol.
    pub const TCP: Protocol = Protocol(6);
    /// User Datagram Protocol.
    pub const UDP: Protocol = Protocol(17);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: Protocol = Protocol(58);
    /// Stream Control Transmission Protocol.
    pub const SCTP: Protocol = Protocol(132);
    /// Lightweight UDP (RFC 3828).
    pub const UDP_LITE: Protocol = Protocol(136);

    /// The protocol of a number; 0 is none.
    pub fn new(number: u8) -> Option<Protocol> {
        (number != 0).then_some(Protocol(number))
    }

    /// The IANA number.
    pub fn number(self) -> u8 {
        self.0
    }

    /// Whether policy may match ports on it: TCP, UDP, SCTP.
    pub fn has_ports(self) -> bool {
        matches!(self, Protocol::TCP | Protocol::UDP | Protocol::SCTP)
    }

    /// The name, if it has one of the six.
    pub fn name(self) -> Option<&'static str> {
        NAMES.iter().find(|(_, p)| *p == self).map(|(n, _)| *n)
    }
}

impl FromStr for Protocol {
    type Err = ProtocolError;

    fn from_str(text: &str) -> Result<Protocol, ProtocolError> {
        if let Some((_, p)) = NAMES.iter().find(|(n, _)| n.eq_ignore_ascii_case(text)) {
            return Ok(*p);
        }
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok().and_then(Protocol::new))
            .flatten()
            .ok_or_else(|| ProtocolError(text.to_owned()))
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => self.0.fmt(f),
        }
    }
}

impl fmt::Debug for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A number that was written as a number stays one; names are text.
impl Serialize for Protocol {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self.name() {
            Some(name) => s.serialize_str(name),
            None => s.serialize_u8(self.0),
        }
    }
}

impl<'de> Deserialize<'de> for Protocol {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Protocol, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "must be a protocol: TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite or a number from 1 to 255"
        )]
        enum Form {
            Number(u64),
            Text(String),
        }
        match Form::deserialize(d)? {
            Form::Number(n) => {
                u8::try_from(n).ok().and_then(Protocol::new).ok_or_else(|| ProtocolError(n.to_string()))
            }
            Form::Text(t) => t.parse(),
        }
        .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!("tcp".parse(), Ok(Protocol::TCP));
        assert_eq!("icmpV6".parse::<Protocol>().map(|p| p.to_string()).as_deref(), Ok("ICMPv6"));
        assert_eq!("47".parse(), Ok(Protocol(47)));
        for bad in ["", "0", "256", "tcpx", "-1"] {
            assert!(bad.parse::<Protocol>().is_err(), "{bad}");
        }
    }
}
