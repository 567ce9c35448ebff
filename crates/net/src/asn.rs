//! Autonomous system numbers, 32 bits (RFC 6793).

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize};

/// An AS number. Text may be plain (`64512`) or dotted (`1.10`, RFC 5396 asdot); it is printed plain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Asn(pub u32);

impl Asn {
    /// The AS of a cluster whose BGPConfiguration names none (spec 1 §1.6).
    pub const DEFAULT: Asn = Asn(64512);
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Asn {
    type Err = String;

    fn from_str(text: &str) -> Result<Asn, String> {
        let bad =
            || format!("{text:?} is not an AS number; use 0 to 4294967295, or dotted text such as 1.10");
        if !text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
            return Err(bad());
        }
        match text.split_once('.') {
            None => text.parse().map(Asn).map_err(|_| bad()),
            Some((high, low)) => {
                let high: u16 = high.parse().map_err(|_| bad())?;
                let low: u16 = low.parse().map_err(|_| bad())?;
                Ok(Asn(u32::from(high) << 16 | u32::from(low)))
            }
        }
    }
}

impl<'de> Deserialize<'de> for Asn {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Asn, D::Error> {
        #[derive(Deserialize)]
        #[serde(
            untagged,
            expecting = "is not an AS number; use 0 to 4294967295, or dotted text such as 1.10"
        )]
        enum Form {
            Number(u32),
            Text(String),
        }
        match Form::deserialize(d)? {
            Form::Number(n) => Ok(Asn(n)),
            Form::Text(t) => t.parse().map_err(serde::de::Error::custom),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_plain_and_dotted() {
        assert_eq!("64512".parse(), Ok(Asn(64512)));
        assert_eq!("1.10".parse(), Ok(Asn(65546)));
        for bad in ["", "x", "-1", "4294967296", "1.65536", "1.2.3", "+1", "."] {
            assert!(bad.parse::<Asn>().is_err(), "{bad}");
        }
    }
}
