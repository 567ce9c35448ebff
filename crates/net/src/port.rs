//! Transport ports and inclusive ranges of them.

use std::fmt;
use std::str::FromStr;

/// An inclusive range of ports; one port is a range of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port, not below `first`.
    pub last: u16,
}

/// Why a text is not a port or a range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// Not `N` or `N:M` with numbers from 0 to 65535.
    #[error("{0:?} is not a port or a range such as 80 or 80:90")]
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

impl PortRange {
    /// One port.
    pub fn single(port: u16) -> PortRange {
        PortRange { first: port, last: port }
    }

    /// Whether `port` lies inside.
    pub fn contains(&self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }
}

impl FromStr for PortRange {
    type Err = PortError;

    fn from_str(text: &str) -> Result<PortRange, PortError> {
        let number = |t: &str| {
            (!t.is_empty() && t.bytes().all(|b| b.is_ascii_digit())).then(|| t.parse::<u16>().ok()).flatten()
        };
        let syntax = || PortError::Syntax(text.to_owned());
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let first = number(first).ok_or_else(syntax)?;
        let last = number(last).ok_or_else(syntax)?;
        if first > last {
            return Err(PortError::Backwards { first, last });
        }
        Ok(PortRange { first, last })
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}:{}", self.first, self.last)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_ports_and_ranges() {
        assert_eq!("80".parse(), Ok(PortRange::single(80)));
        assert_eq!("80:90".parse(), Ok(PortRange { first: 80, last: 90 }));
        let backwards = "90:80".parse::<PortRange>().unwrap_err();
        assert_eq!(backwards, PortError::Backwards { first: 90, last: 80 });
        let told = "\"90:80\" is a range whose first port is after its last; use \"80:90\"";
        assert_eq!(backwards.to_string(), told);
        for bad in ["", "x", "65536", "80-90", "80:", ":80", "+80", "80:90:100"] {
            assert!(matches!(bad.parse::<PortRange>(), Err(PortError::Syntax(_))), "{bad}");
        }
    }
}
