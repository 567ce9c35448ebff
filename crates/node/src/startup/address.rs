//! The node's address in one family: given, detected, or what is stored (spec 6 §4.2, step 5).

use std::net::IpAddr;

use calico_net::{Cidr, Family};
use smol_str::{SmolStr, format_smolstr};

use super::settings::{AddressSettings, AddressSource};
use crate::autodetect::Interface;

/// What this host looks like to autodetection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its interfaces, in the kernel's order.
    pub interfaces: Vec<Interface>,
    /// The kernel's answer for `can-reach`, IPv4.
    pub reached_v4: Option<IpAddr>,
    /// The kernel's answer for `can-reach`, IPv6.
    pub reached_v6: Option<IpAddr>,
}

impl Host {
    fn reached(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.reached_v4,
            Family::V6 => self.reached_v6,
        }
    }

    /// The length of the prefix with which an address is on an interface; `None` if it is on none.
    fn prefix_len(&self, addr: IpAddr) -> Option<u8> {
        self.interfaces.iter().flat_map(|i| &i.addrs).find(|(a, _)| *a == addr).map(|(_, len)| *len)
    }
}

/// What to store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// `address/length`, or empty for none.
    pub value: SmolStr,
    /// What an operator should know, though it goes on.
    pub warning: Option<String>,
}

/// Nothing was found, and nothing is stored to fall back on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no {family} address of this node was found by {method}")]
pub struct NotFound {
    /// Which family.
    pub family: Family,
    /// By which method.
    pub method: String,
}

/// Decides the address of a family. `stored` is what the Node has, empty for nothing.
pub fn resolve_address(
    family: Family,
    settings: &AddressSettings,
    stored: &str,
    host: &Host,
) -> Result<Resolved, NotFound> {
    let AddressSettings { source, method } = settings;
    let detects = match source {
        AddressSource::Given(addr, len) => return Ok(given(family, *addr, *len, host)),
        AddressSource::Keep => false,
        AddressSource::Autodetect => true,
        AddressSource::Unset => family == Family::V4 && stored.is_empty(),
    };
    if !detects {
        return Ok(checked(SmolStr::new(stored), host));
    }
    match method.select(family, &host.interfaces, host.reached(family)) {
        Some(found) => Ok(Resolved { value: format_smolstr!("{}/{}", found.addr, found.len), warning: None }),
        None if stored.is_empty() => Err(NotFound { family, method: method.to_string() }),
        None => {
            let warning = format!("{method} finds no {family} address any more; {stored} is kept");
            Ok(Resolved { value: SmolStr::new(stored), warning: Some(warning) })
        }
    }
}

fn given(family: Family, addr: IpAddr, len: Option<u8>, host: &Host) -> Resolved {
    let on_host = host.prefix_len(addr);
    // An IPv6 address without a length is used as given; only IPv4 looks the length up.
    let looked_up = on_host.filter(|_| family == Family::V4);
    let len = len.or(looked_up).unwrap_or(family.bits());
    let value = format_smolstr!("{addr}/{len}");
    let warning = on_host.is_none().then(|| format!("{addr} is on no interface of this host"));
    Resolved { value, warning }
}

/// A stored address with a warning if the host does not have it.
fn checked(value: SmolStr, host: &Host) -> Resolved {
    let warning = match Cidr::parse_interface(&value) {
        _ if value.is_empty() => None,
        Ok((addr, _)) if host.prefix_len(addr).is_some() => None,
        Ok((addr, _)) => Some(format!("{addr} is on no interface of this host")),
        Err(e) => Some(format!("the stored address is unusable: {e}")),
    };
    Resolved { value, warning }
}

#[cfg(test)]
mod tests;
