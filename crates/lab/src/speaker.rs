//! A BGP speaker that is none of ours: what it says and to whom, as the configuration of FRR, GoBGP or BIRD; and what each
//! tells of its sessions and routes, in one form.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Result, bail};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

pub mod bird;
pub mod frr;
pub mod gobgp;

/// How long the others are to keep the routes of one that restarts, in seconds.
const RESTART_TIME_SECS: u32 = 120;
/// Between attempts to connect, in seconds; what is waited for here should not take a minute.
const CONNECT_RETRY_SECS: u32 = 3;

/// A program that speaks BGP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Daemon {
    /// FRRouting: bgpd, and zebra, which installs routes.
    Frr,
    /// GoBGP, which installs no routes.
    Gobgp,
    /// BIRD 2, configured as a router of another's.
    Bird,
}

impl Daemon {
    /// How it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Daemon::Frr => "frr",
            Daemon::Gobgp => "gobgp",
            Daemon::Bird => "bird",
        }
    }

    /// Whether packets follow its routes.
    pub fn forwards(self) -> bool {
        self != Daemon::Gobgp
    }

    /// What it runs and is asked by, and Debian's package of it.
    fn needs(self) -> (&'static [&'static str], &'static str) {
        match self {
            Daemon::Frr => (&[frr::ZEBRA, frr::BGPD, frr::VTYSH], "frr"),
            Daemon::Gobgp => (&[gobgp::DAEMON, gobgp::CLIENT], "gobgpd"),
            Daemon::Bird => (&[bird::DAEMON, bird::CLIENT], "bird2"),
        }
    }

    /// Says which package is missing.
    pub fn check_installed(self) -> Result<()> {
        let (programs, package) = self.needs();
        match programs.iter().find(|program| !Path::new(program).exists()) {
            None => Ok(()),
            Some(missing) => bail!(
                "{missing} is not there: install Debian's package {package} (its own service need not run)"
            ),
        }
    }
}

/// What a speaker says and to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Speaker {
    /// Its AS.
    pub asn: u32,
    /// With whom it has sessions; each carries routes of the family of its address.
    pub peers: Vec<Peer>,
    /// Prefixes of its own.
    pub announce: Vec<String>,
}

/// The other end of a session, which is on one of the speaker's own subnets: the kernel chooses the address to speak from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Where.
    pub addr: IpAddr,
    /// Its AS.
    pub asn: u32,
    /// The key of TCP MD5 signatures (RFC 2385).
    pub password: Option<String>,
    /// Take packets from the next hop only (RFC 5082).
    pub ttl_security: bool,
}

/// A session as a speaker sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Session {
    /// The other end.
    pub peer: String,
    /// `Established`, or the speaker's own word for what it is doing instead.
    pub state: String,
}

/// A way to a prefix that a speaker was told of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Received {
    /// The prefix.
    pub prefix: String,
    /// Who told it.
    pub from: String,
    /// Where it leads.
    pub next_hop: String,
    /// The ASes on the way, the nearest first, as the speaker writes them.
    pub as_path: String,
}

/// `ipv4` or `ipv6`.
fn family(v6: bool) -> &'static str {
    if v6 { "ipv6" } else { "ipv4" }
}

/// Whether a prefix is one of IPv6.
fn is_v6(prefix: &str) -> bool {
    prefix.contains(':')
}

#[cfg(test)]
mod tests;
