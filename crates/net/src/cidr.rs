//! IP prefixes in both families: always masked, ordered, cheap to copy.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The two address families.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(addr: IpAddr) -> Family {
        if addr.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// Bits of an address: 32 or 128.
    pub fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// `4` or `6`, as resources and datastore keys spell it.
    pub fn number(self) -> u8 {
        match self {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IPv{}", self.number())
    }
}

/// An IP prefix. Host bits are always zero, so equal prefixes compare equal.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cidr {
    addr: IpAddr,
    len: u8,
}

/// Why a text is not a prefix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CidrError {
    /// Neither an address nor `address/length`.
    #[error("{0:?} is not an IP address or CIDR such as 10.0.0.0/24 or fd00::/64")]
    Syntax(String),
    /// The length exceeds the family's bits.
    #[error("prefix length {len} is longer than {family} allows ({})", family.bits())]
    Length {
        /// The length given.
        len: u8,
        /// The address's family.
        family: Family,
    },
    /// Host bits are set where a strict prefix is required.
    #[error("{given:?} has host bits set; the network is {masked}")]
    HostBits {
        /// The text given.
        given: String,
        /// The prefix it would be when masked.
        masked: Cidr,
    },
}

impl Cidr {
    /// The prefix of `len` bits that contains `addr`; host bits are cleared.
    pub fn new(addr: IpAddr, len: u8) -> Result<Cidr, CidrError> {
        let family = Family::of(addr);
        if len > family.bits() {
            return Err(CidrError::Length { len, family });
        }
        Ok(Cidr { addr: mask(addr, len), len })
    }

    /// The /32 or /128 of one address.
    pub fn host(addr: IpAddr) -> Cidr {
        Cidr { addr, len: Family::of(addr).bits() }
    }

    /// Everything of a family: `0.0.0.0/0` or `::/0`.
    pub fn everything(family: Family) -> Cidr {
        match family {
            Family::V4 => Cidr { addr: IpAddr::V4(Ipv4Addr::UNSPECIFIED), len: 0 },
            Family::V6 => Cidr { addr: IpAddr::V6(Ipv6Addr::UNSPECIFIED), len: 0 },
        }
    }

    /// Parses `address` or `address/len`, refusing set host bits (`net` of the validators, spec 1 §1.2).
    pub fn parse_strict(text: &str) -> Result<Cidr, CidrError> {
        let (addr, len) = split(text)?;
        let cidr = Cidr::new(addr, len)?;
        if cidr.addr != addr {
            return Err(CidrError::HostBits { given: text.to_owned(), masked: cidr });
        }
        Ok(cidr)
    }

    /// The address and length as written, host bits kept: for an interface's own address (`10.0.0.5/24`).
    pub fn parse_interface(text: &str) -> Result<(IpAddr, u8), CidrError> {
        let (addr, len) = split(text)?;
        Cidr::new(addr, len)?;
        Ok((addr, len))
    }

    /// The first address.
    pub fn addr(&self) -> IpAddr {
        self.addr
    }

    /// The length in bits.
    pub fn prefix_len(&self) -> u8 {
        self.len
    }

    /// The address family.
    pub fn family(&self) -> Family {
        Family::of(self.addr)
    }

    /// Whether this is one address (/32 or /128).
    pub fn is_host(&self) -> bool {
        self.len == self.family().bits()
    }

    /// Whether `addr` lies inside.
    pub fn contains(&self, addr: IpAddr) -> bool {
        self.family() == Family::of(addr) && mask(addr, self.len) == self.addr
    }

    /// Whether `other` lies wholly inside (equal counts).
    pub fn covers(&self, other: &Cidr) -> bool {
        other.len >= self.len && self.contains(other.addr)
    }

    /// Whether the two share any address.
    pub fn overlaps(&self, other: &Cidr) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// How many addresses: 2^(bits − len), saturating at `u128::MAX` for `::/0`.
    pub fn size(&self) -> u128 {
        1u128.checked_shl(u32::from(self.family().bits() - self.len)).unwrap_or(u128::MAX)
    }

    /// The address `offset` places after the first, if it is inside.
    pub fn nth(&self, offset: u128) -> Option<IpAddr> {
        if offset >= self.size() {
            return None;
        }
        Some(match self.addr {
            IpAddr::V4(a) => IpAddr::V4(Ipv4Addr::from(u32::from(a) + offset as u32)),
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(u128::from(a) + offset)),
        })
    }

    /// How many places `addr` lies after the first address, if it is inside.
    pub fn offset_of(&self, addr: IpAddr) -> Option<u128> {
        self.contains(addr).then(|| to_u128(addr) - to_u128(self.addr))
    }

    /// The last address.
    pub fn last(&self) -> IpAddr {
        let bits = self.family().bits() - self.len;
        match self.addr {
            IpAddr::V4(a) => {
                IpAddr::V4(Ipv4Addr::from(u32::from(a) | 1u32.checked_shl(bits.into()).map_or(!0, |b| b - 1)))
            }
            IpAddr::V6(a) => IpAddr::V6(Ipv6Addr::from(
                u128::from(a) | 1u128.checked_shl(bits.into()).map_or(!0, |b| b - 1),
            )),
        }
    }

    /// The `index`-th sub-prefix of length `len`, if there is one.
    pub fn subnet(&self, len: u8, index: u128) -> Option<Cidr> {
        let family = self.family();
        if len < self.len || len > family.bits() {
            return None;
        }
        let step = u32::from(family.bits() - len);
        let offset = index.checked_shl(step).filter(|o| o >> step == index)?;
        self.nth(offset).map(|addr| Cidr { addr, len })
    }

    /// The text with `.`, `:` and `/` replaced by `-`, as Kubernetes object names need it (spec 1 §1.7).
    pub fn object_name(&self) -> String {
        self.to_string().replace(['.', ':', '/'], "-")
    }

    /// The text with `/` replaced by `-`, as datastore keys need it (spec 1 §2.2).
    pub fn key_name(&self) -> String {
        self.to_string().replace('/', "-")
    }
}

fn split(text: &str) -> Result<(IpAddr, u8), CidrError> {
    let syntax = || CidrError::Syntax(text.to_owned());
    match text.split_once('/') {
        None => {
            let addr: IpAddr = text.parse().map_err(|_| syntax())?;
            Ok((addr, Family::of(addr).bits()))
        }
        Some((addr, len)) => {
            let addr: IpAddr = addr.parse().map_err(|_| syntax())?;
            if len.is_empty() || len.len() > 3 || !len.bytes().all(|b| b.is_ascii_digit()) {
                return Err(syntax());
            }
            let len: u16 = len.parse().map_err(|_| syntax())?;
            Ok((addr, u8::try_from(len).map_err(|_| syntax())?))
        }
    }
}

fn to_u128(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(a) => u32::from(a).into(),
        IpAddr::V6(a) => a.into(),
    }
}

fn mask(addr: IpAddr, len: u8) -> IpAddr {
    match addr {
        IpAddr::V4(a) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(len)).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from(u32::from(a) & mask))
        }
        IpAddr::V6(a) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from(u128::from(a) & mask))
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    /// Parses `address` or `address/len`; set host bits are cleared (the loose `cidr` of the validators).
    fn from_str(text: &str) -> Result<Cidr, CidrError> {
        let (addr, len) = split(text)?;
        Cidr::new(addr, len)
    }
}

impl From<IpAddr> for Cidr {
    fn from(addr: IpAddr) -> Cidr {
        Cidr::host(addr)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.addr, self.len)
    }
}

impl fmt::Debug for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Cidr, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(d)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
