//! Numbers in the forms that resources allow: policy order, ports, protocols, Go durations.

use std::fmt;
use std::str::FromStr;

use calico_net::{PortError, PortRange, Protocol, ProtocolError};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use smol_str::SmolStr;

/// The place of a policy or tier: lower first. Absent orders come last (spec 1 §1.3). Whole numbers are written
/// without a fraction, as Calico's are.
#[derive(Clone, Copy, Debug)]
pub struct Order(pub f64);

impl PartialEq for Order {
    fn eq(&self, other: &Order) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Order {}

impl PartialOrd for Order {
    fn partial_cmp(&self, other: &Order) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Order {
    fn cmp(&self, other: &Order) -> std::cmp::Ordering {
        // Adding zero makes -0.0 and 0.0 the same place.
        (self.0 + 0.0).total_cmp(&(other.0 + 0.0))
    }
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Order {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        /// Whole numbers below 2^53 are exact in both forms.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.0.fract() == 0.0 && self.0.abs() < EXACT {
            s.serialize_i64(self.0 as i64)
        } else {
            s.serialize_f64(self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Order {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Order, D::Error> {
        f64::deserialize(d).map(Order).map_err(|_| serde::de::Error::custom("must be a number"))
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "must be a number or text")]
enum NumberOrText<'a> {
    Number(i64),
    #[serde(borrow)]
    Text(std::borrow::Cow<'a, str>),
}

/// A protocol as policy writes it: a number stays a number, one of the six names gets its canonical spelling.
/// Other text is kept, so that a stored rule can be shown; [`ProtocolForm::resolve`] refuses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolForm {
    /// Written as a number.
    Number(i64),
    /// Written as a name.
    Name(SmolStr),
}

impl ProtocolForm {
    /// The protocol meant.
    pub fn resolve(&self) -> Result<Protocol, ProtocolError> {
        match self {
            ProtocolForm::Number(n) => {
                u8::try_from(*n).ok().and_then(Protocol::new).ok_or_else(|| ProtocolError(n.to_string()))
            }
            ProtocolForm::Name(name) => name.parse(),
        }
    }
}

impl From<Protocol> for ProtocolForm {
    fn from(protocol: Protocol) -> ProtocolForm {
        match protocol.name() {
            Some(name) => ProtocolForm::Name(SmolStr::new_static(name)),
            None => ProtocolForm::Number(protocol.number().into()),
        }
    }
}

impl From<&str> for ProtocolForm {
    fn from(text: &str) -> ProtocolForm {
        if let Ok(n) = text.parse::<i64>() {
            return ProtocolForm::Number(n);
        }
        match text.parse::<Protocol>().ok().and_then(Protocol::name) {
            Some(name) => ProtocolForm::Name(SmolStr::new_static(name)),
            None => ProtocolForm::Name(SmolStr::new(text)),
        }
    }
}

impl fmt::Display for ProtocolForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProtocolForm::Number(n) => n.fmt(f),
            ProtocolForm::Name(name) => f.write_str(name),
        }
    }
}

impl Serialize for ProtocolForm {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            ProtocolForm::Number(n) => s.serialize_i64(*n),
            ProtocolForm::Name(name) => s.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for ProtocolForm {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ProtocolForm, D::Error> {
        Ok(match NumberOrText::deserialize(d)? {
            NumberOrText::Number(n) => ProtocolForm::Number(n),
            NumberOrText::Text(t) => ProtocolForm::from(&*t),
        })
    }
}

/// A port of a rule: a number, a range `"80:90"`, or the name of an endpoint's port (spec 1 §1.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// One port or an inclusive range.
    Range(PortRange),
    /// A name that endpoints give to their ports.
    Named(SmolStr),
}

/// Why a text is no port of a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortFormError {
    /// Neither a number, nor a range, nor a name.
    #[error("{0:?} is not a port; use a number from 1 to 65535, a range such as \"80:90\", or a port name")]
    Syntax(String),
    /// The range runs backwards.
    #[error("\"{first}:{last}\" is a range whose first port is after its last; use \"{last}:{first}\"")]
    Backwards {
        /// The port that stands first, the higher one.
        first: u16,
        /// The port that stands last.
        last: u16,
    },
}

impl FromStr for Port {
    type Err = PortFormError;

    fn from_str(text: &str) -> Result<Port, PortFormError> {
        let bad = || PortFormError::Syntax(text.to_owned());
        if text.bytes().all(|b| b.is_ascii_digit() || b == b':') {
            let range: PortRange = text.parse().map_err(|error| match error {
                PortError::Backwards { first, last: last @ 1.. } => PortFormError::Backwards { first, last },
                PortError::Backwards { .. } | PortError::Syntax(_) => bad(),
            })?;
            return if range.first == 0 { Err(bad()) } else { Ok(Port::Range(range)) };
        }
        let named = text.len() <= 128
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'));
        if named { Ok(Port::Named(SmolStr::new(text))) } else { Err(bad()) }
    }
}

impl From<u16> for Port {
    fn from(port: u16) -> Port {
        Port::Range(PortRange::single(port))
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Port::Range(range) => range.fmt(f),
            Port::Named(name) => f.write_str(name),
        }
    }
}

impl Serialize for Port {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match self {
            Port::Range(r) if r.first == r.last => s.serialize_u16(r.first),
            Port::Range(r) => s.collect_str(r),
            Port::Named(name) => s.serialize_str(name),
        }
    }
}

impl<'de> Deserialize<'de> for Port {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Port, D::Error> {
        match NumberOrText::deserialize(d)? {
            NumberOrText::Number(n) => match u16::try_from(n) {
                Ok(n) if n != 0 => Ok(Port::from(n)),
                _ => Err(PortFormError::Syntax(n.to_string())),
            },
            NumberOrText::Text(t) => t.parse(),
        }
        .map_err(serde::de::Error::custom)
    }
}

/// A duration as Go prints and reads it: `1m30s`, `500ms`, `2h45m10s`, `0s` (Go's time.ParseDuration and
/// Duration.String). Kept in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GoDuration {
    /// Signed length in nanoseconds.
    pub nanos: i64,
}

/// Why a text is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration such as 90s, 1m30s or 500ms")]
pub struct GoDurationError(pub String);

const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

impl GoDuration {
    /// Whole seconds.
    pub const fn from_secs(secs: i64) -> GoDuration {
        GoDuration { nanos: secs * 1_000_000_000 }
    }

    /// As an unsigned length; `None` if negative.
    pub fn to_std(self) -> Option<std::time::Duration> {
        u64::try_from(self.nanos).ok().map(std::time::Duration::from_nanos)
    }
}

impl FromStr for GoDuration {
    type Err = GoDurationError;

    fn from_str(text: &str) -> Result<GoDuration, GoDurationError> {
        parse_duration(text).ok_or_else(|| GoDurationError(text.to_owned()))
    }
}

/// The most nanoseconds before or after zero.
const LONGEST: i128 = 1 << 63;

fn parse_duration(text: &str) -> Option<GoDuration> {
    let (negative, mut rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(GoDuration::default());
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(number_len);
        let unit_len = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        let scale = UNITS.iter().find(|(name, _)| *name == unit)?.1;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 24 {
            return None;
        }
        let digits = |d: &str| if d.is_empty() { Some(0) } else { d.parse::<i128>().ok() };
        let tenths = 10i128.pow(u32::try_from(fraction.len()).ok()?);
        total += digits(whole)? * i128::from(scale) + digits(fraction)? * i128::from(scale) / tenths;
        // What is too long cannot become shorter, and many such terms would be too much for the sum.
        if total > LONGEST {
            return None;
        }
        rest = next;
    }
    let nanos = i64::try_from(if negative { -total } else { total }).ok()?;
    Some(GoDuration { nanos })
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.nanos.unsigned_abs();
        if total == 0 {
            return f.write_str("0s");
        }
        if self.nanos < 0 {
            f.write_str("-")?;
        }
        let fraction = |f: &mut fmt::Formatter<'_>, value: u64, scale: u64, unit: &str| {
            let digits = scale.ilog10() as usize;
            let tail = format!("{:0digits$}", value % scale);
            let tail = tail.trim_end_matches('0');
            let point = if tail.is_empty() || scale == 1 { "" } else { "." };
            let tail = if scale == 1 { "" } else { tail };
            write!(f, "{}{point}{tail}{unit}", value / scale)
        };
        match total {
            0..1_000 => fraction(f, total, 1, "ns"),
            1_000..1_000_000 => fraction(f, total, 1_000, "µs"),
            1_000_000..1_000_000_000 => fraction(f, total, 1_000_000, "ms"),
            _ => {
                let (minutes, rest) = (total / 60_000_000_000, total % 60_000_000_000);
                if minutes >= 60 {
                    write!(f, "{}h", minutes / 60)?;
                }
                if minutes > 0 {
                    write!(f, "{}m", minutes % 60)?;
                }
                fraction(f, rest, 1_000_000_000, "s")
            }
        }
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<GoDuration, D::Error> {
        <std::borrow::Cow<'_, str>>::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
