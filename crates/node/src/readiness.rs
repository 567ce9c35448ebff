//! Whether BGP is ready (spec 6 §4.4), from what BIRD says of itself.

use std::path::Path;
use std::time::{Duration, SystemTime};

use calico_mesh::birdc::{DaemonStatus, ProtocolStatus, command, parse_protocols, parse_status};

use crate::bgp::BgpReport;
use crate::bird::control::{ControlError, ask};

/// How old the nodename file may be for the strict judgement of a node that has just started.
pub const GRACE_PERIOD: Duration = Duration::from_secs(30);

/// What BIRD says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BirdStatus {
    /// The daemon.
    pub daemon: DaemonStatus,
    /// Its protocols, with details.
    pub protocols: Vec<ProtocolStatus>,
}

impl BirdStatus {
    /// The sessions with peers: all, and those that are established.
    pub fn sessions(&self) -> (usize, usize) {
        let peers = || self.protocols.iter().filter(|p| p.peer().is_some());
        (peers().count(), peers().filter(|p| p.is_established()).count())
    }
}

/// Asks BIRD.
pub async fn read_bird_status(socket: &Path) -> Result<BirdStatus, ControlError> {
    let unreadable = || ControlError::Refused("its status cannot be read".to_owned());
    let daemon = parse_status(&ask(socket, command::STATUS).await?.reply).ok_or_else(unreadable)?;
    let protocols = parse_protocols(&ask(socket, command::PROTOCOLS_ALL).await?.reply);
    Ok(BirdStatus { daemon, protocols })
}

/// How long ago the start of this node was complete; `None` if it never was.
pub fn read_age(nodename_file: &Path, now: SystemTime) -> Option<Duration> {
    let written = std::fs::metadata(nodename_file).and_then(|m| m.modified()).ok()?;
    // A clock that was set back makes a file of the future: as good as new.
    Some(now.duration_since(written).unwrap_or_default())
}

/// Judges: a node that has just started is ready when all peers are there and nothing is being recovered; later one
/// peer suffices. Without peers it is ready. `Err` says what is missing.
pub fn judge(status: &BirdStatus, age: Option<Duration>) -> Result<(), String> {
    let (peers, established) = status.sessions();
    if peers == 0 {
        return Ok(());
    }
    if age.is_none_or(|age| age < GRACE_PERIOD) {
        if established < peers {
            return Err(format!(
                "BGP sessions: {established} of {peers} established, all needed after a start"
            ));
        }
        if status.daemon.graceful_restart {
            return Err("BIRD is recovering from a restart".to_owned());
        }
    } else if established == 0 {
        return Err(format!("BGP sessions: none of {peers} established"));
    }
    Ok(())
}

/// Whether the kernel has IPIP: its module is loaded, or built in, which gives every namespace a `tunl0`. The agent has it
/// loaded as soon as a pool needs it.
pub fn read_ipip() -> bool {
    ["/sys/module/ipip", "/sys/class/net/tunl0"].iter().any(|path| Path::new(path).exists())
}

/// What keeps traffic between nodes from being routed, in one line; nothing if all of it is.
pub fn explain_unrouted(bgp: &BgpReport, has_ipip: bool) -> Option<String> {
    let pools = bgp.needs_ipip.iter().filter(|_| !has_ipip);
    let texts: Vec<String> = bgp.unrouted.iter().chain(pools).map(ToString::to_string).collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}

#[cfg(test)]
mod tests {
    use calico_api::{Kind, ResourceKey};
    use calico_mesh::Problem;

    use super::*;

    #[test]
    fn pools_that_need_ipip_count_where_there_is_none() {
        let problem = |kind, text: &str| Problem {
            resource: ResourceKey { kind, namespace: "".into(), name: "p".into() },
            text: text.to_owned(),
        };
        let mut bgp =
            BgpReport { needs_ipip: vec![problem(Kind::IPPool, "no IPIP")], ..BgpReport::default() };
        assert_eq!(explain_unrouted(&bgp, true), None);
        assert_eq!(explain_unrouted(&bgp, false).as_deref(), Some("IPPool(p): no IPIP"));
        bgp.unrouted = vec![problem(Kind::BGPConfiguration, "off")];
        assert_eq!(explain_unrouted(&bgp, true).as_deref(), Some("BGPConfiguration(p): off"));
        let both = "BGPConfiguration(p): off; IPPool(p): no IPIP";
        assert_eq!(explain_unrouted(&bgp, false).as_deref(), Some(both));
    }

    fn status(sessions: &[(&str, &str)], graceful_restart: bool) -> BirdStatus {
        let protocol = |(name, info): &(&str, &str)| ProtocolStatus {
            name: (*name).to_owned(),
            proto: "BGP".to_owned(),
            info: (*info).to_owned(),
            ..ProtocolStatus::default()
        };
        BirdStatus {
            daemon: DaemonStatus { graceful_restart, ..DaemonStatus::default() },
            protocols: sessions.iter().map(protocol).collect(),
        }
    }

    const UP: (&str, &str) = ("Mesh_10_0_0_2", "Established");
    const DOWN: (&str, &str) = ("Mesh_10_0_0_3", "Active");
    const FOREIGN: (&str, &str) = ("uplink", "Active");

    #[test]
    fn a_node_that_has_just_started_needs_all() {
        let young = Some(Duration::from_secs(29));
        assert_eq!(judge(&status(&[], false), young), Ok(()));
        assert_eq!(judge(&status(&[UP, FOREIGN], false), young), Ok(()));
        assert!(judge(&status(&[UP, DOWN], false), young).unwrap_err().contains("1 of 2"));
        assert!(judge(&status(&[UP], true), young).unwrap_err().contains("recovering"));
        assert!(judge(&status(&[UP, DOWN], false), None).is_err());
    }

    #[test]
    fn later_one_suffices() {
        let old = Some(Duration::from_secs(30));
        assert_eq!(judge(&status(&[UP, DOWN], true), old), Ok(()));
        assert!(judge(&status(&[DOWN], false), old).unwrap_err().contains("none of 1"));
    }

    #[test]
    fn age_of_the_nodename_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("nodename");
        let now = SystemTime::now();
        assert_eq!(read_age(&file, now), None);
        std::fs::write(&file, "a").unwrap();
        assert_eq!(read_age(&file, now - Duration::from_secs(100)), Some(Duration::ZERO));
        assert!(read_age(&file, now + Duration::from_secs(100)).unwrap() >= Duration::from_secs(99));
    }
}
