//! The command line of `calico lab router`.

use std::str::FromStr;

use clap::Subcommand;

use crate::speaker::{Daemon, Peer};

/// What is done with routers.
#[derive(Subcommand, Debug)]
pub enum RouterCommand {
    /// Start a router on the fabric's first subnet.
    Add {
        /// Its name.
        name: String,
        /// What it runs.
        #[arg(long, value_enum)]
        daemon: Daemon,
        /// Its AS.
        #[arg(long)]
        asn: u32,
        /// With whom it speaks, once for each: `ADDRESS,AS[,gtsm][,password=TEXT]`; FRR takes no blanks in it.
        #[arg(long = "peer", required = true)]
        peers: Vec<Peer>,
        /// A prefix that it announces; the first address of it is its own.
        #[arg(long)]
        announce: Vec<String>,
    },
    /// End what runs in a router, and the router.
    Del {
        /// Which.
        name: String,
    },
    /// Kill what a router runs: its neighbours see it gone without a word.
    Kill {
        /// Which.
        name: String,
    },
    /// Start again what was killed, as after a restart.
    Start {
        /// Which.
        name: String,
    },
    /// Show the sessions of a router and what it was told over them, read from itself, as JSON.
    Show {
        /// Which.
        name: String,
    },
}

impl FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let mut words = text.split(',');
        let bad = |what: &str| format!("{text:?}: {what}; write ADDRESS,AS[,gtsm][,password=TEXT]");
        let addr = words.next().and_then(|w| w.parse().ok()).ok_or_else(|| bad("no address"))?;
        let asn = words.next().and_then(|w| w.parse().ok()).ok_or_else(|| bad("no AS"))?;
        let mut peer = Peer { addr, asn, password: None, ttl_security: false };
        for word in words {
            match word.split_once('=') {
                None if word == "gtsm" => peer.ttl_security = true,
                Some(("password", password)) => peer.password = Some(password.to_owned()),
                _ => return Err(bad(word)),
            }
        }
        Ok(peer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_an_address_an_as_and_what_protects_it() {
        let peer: Peer = "fd65::1,64512,gtsm,password=a=b".parse().unwrap();
        assert_eq!((peer.asn, peer.ttl_security, peer.password.as_deref()), (64512, true, Some("a=b")));
        for wrong in ["", "10.0.0.1", "10.0.0.1,x", "10.0.0.1,1,md5"] {
            assert!(wrong.parse::<Peer>().unwrap_err().contains("write ADDRESS,AS"), "{wrong}");
        }
    }
}
