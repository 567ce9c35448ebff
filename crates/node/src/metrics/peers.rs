//! What Prometheus may know of each BGP peer.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use calico_mesh::birdc::{PeerKind, ProtocolStatus};
use calico_net::Family as AddressFamily;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// How many peers have series of their own: a mesh of a hundred nodes and its reflectors several times over. What is
/// beyond is counted, so that a cluster's size never becomes a scrape's.
const MAX_PEERS: usize = 500;

/// Which session a series is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, EncodeLabelSet)]
struct Peer {
    /// Its address, with the port behind it where the session's name carries one.
    peer: String,
    /// `IPv4` or `IPv6`.
    family: &'static str,
    /// `mesh`, `global`, `node` or `local-workload`: two sessions with one address differ in it.
    kind: &'static str,
}

/// The series of peers. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct PeerMetrics {
    established: Family<Peer, Gauge>,
    imported: Family<Peer, Gauge>,
    exported: Family<Peer, Gauge>,
    import_filtered: Family<Peer, Gauge>,
    export_filtered: Family<Peer, Gauge>,
    unlisted: Gauge,
    /// Those that have series: others that had are removed.
    listed: Arc<Mutex<BTreeSet<Peer>>>,
}

impl PeerMetrics {
    /// Registers the series, as `calico_bgp_peer_…`.
    pub(super) fn register(self, registry: &mut Registry) {
        let PeerMetrics {
            established, imported, exported, import_filtered, export_filtered, unlisted, ..
        } = self;
        registry.register("calico_bgp_peer_established", "Whether the session is established", established);
        registry.register(
            "calico_bgp_peer_prefixes_imported",
            "Prefixes that the peer announced and that were accepted",
            imported,
        );
        registry.register(
            "calico_bgp_peer_prefixes_exported",
            "Prefixes that are announced to the peer",
            exported,
        );
        // BIRD counts from its own start, which is not the agent's: gauges, though they mostly grow.
        registry.register(
            "calico_bgp_peer_import_filtered",
            "Updates of the peer that the import filter kept out since BIRD's start",
            import_filtered,
        );
        registry.register(
            "calico_bgp_peer_export_filtered",
            "Changes of routes that the export filter kept from the peer since BIRD's start",
            export_filtered,
        );
        registry.register(
            "calico_bgp_peers_unlisted",
            "Peers beyond those that have series of their own",
            unlisted,
        );
    }

    /// Takes what BIRD says of its protocols; nothing where it does not answer.
    pub(super) fn note(&self, protocols: &[ProtocolStatus]) {
        let sessions = protocols.iter().filter_map(|p| Some((label(p)?, p)));
        let mut seen = BTreeSet::new();
        let mut unlisted = 0;
        for (peer, protocol) in sessions {
            if seen.len() == MAX_PEERS {
                unlisted += 1;
                continue;
            }
            self.established.get_or_create(&peer).set(protocol.is_established().into());
            let sum = |count: fn(&calico_mesh::birdc::ChannelStatus) -> u64| {
                let sum = protocol.channels.iter().map(count).sum::<u64>();
                i64::try_from(sum).unwrap_or(i64::MAX)
            };
            self.imported.get_or_create(&peer).set(sum(|c| c.imported));
            self.exported.get_or_create(&peer).set(sum(|c| c.exported));
            self.import_filtered.get_or_create(&peer).set(sum(|c| c.import_filtered));
            self.export_filtered.get_or_create(&peer).set(sum(|c| c.export_filtered));
            seen.insert(peer);
        }
        self.unlisted.set(unlisted);
        // A panic elsewhere leaves a whole set behind.
        let mut listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in listed.difference(&seen) {
            for family in [
                &self.established,
                &self.imported,
                &self.exported,
                &self.import_filtered,
                &self.export_filtered,
            ] {
                family.remove(gone);
            }
        }
        *listed = seen;
    }
}

fn label(protocol: &ProtocolStatus) -> Option<Peer> {
    let name = protocol.peer()?;
    let family = match AddressFamily::of(name.addr) {
        AddressFamily::V4 => "IPv4",
        AddressFamily::V6 => "IPv6",
    };
    let peer = match name.port {
        Some(port) => std::net::SocketAddr::new(name.addr, port).to_string(),
        None => name.addr.to_string(),
    };
    let kind = match name.kind {
        PeerKind::Mesh => "mesh",
        PeerKind::Global => "global",
        PeerKind::Node => "node",
        PeerKind::LocalWorkload => "local-workload",
    };
    Some(Peer { peer, family, kind })
}

#[cfg(test)]
mod tests {
    use calico_mesh::birdc::ChannelStatus;

    use super::*;

    fn session(name: &str, info: &str, imported: u64) -> ProtocolStatus {
        let channel =
            ChannelStatus { name: "ipv4".into(), imported, exported: 2, ..ChannelStatus::default() };
        ProtocolStatus {
            name: name.to_owned(),
            proto: "BGP".to_owned(),
            info: info.to_owned(),
            channels: vec![channel],
            ..ProtocolStatus::default()
        }
    }

    fn text(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }

    #[test]
    fn series_come_and_go_with_their_peers() {
        let mut registry = Registry::default();
        let metrics = PeerMetrics::default();
        metrics.clone().register(&mut registry);
        let device = ProtocolStatus { proto: "Device".into(), ..ProtocolStatus::default() };
        metrics.note(&[
            device,
            session("Mesh_10_0_0_2", "Established", 3),
            session("Node_10_0_0_2_port_180", "Active Socket: Connection refused", 0),
            session("Global_fd00__2", "Established", 1),
        ]);
        let now = text(&registry);
        for line in [
            "calico_bgp_peer_established{peer=\"10.0.0.2\",family=\"IPv4\",kind=\"mesh\"} 1",
            "calico_bgp_peer_established{peer=\"10.0.0.2:180\",family=\"IPv4\",kind=\"node\"} 0",
            "calico_bgp_peer_established{peer=\"fd00::2\",family=\"IPv6\",kind=\"global\"} 1",
            "calico_bgp_peer_prefixes_imported{peer=\"10.0.0.2\",family=\"IPv4\",kind=\"mesh\"} 3",
            "calico_bgp_peer_prefixes_exported{peer=\"10.0.0.2\",family=\"IPv4\",kind=\"mesh\"} 2",
        ] {
            assert!(now.lines().any(|l| l == line), "{line} in {now}");
        }
        metrics.note(&[session("Mesh_10_0_0_2", "Idle", 0)]);
        let later = text(&registry);
        assert!(
            later.contains("calico_bgp_peer_established{peer=\"10.0.0.2\",family=\"IPv4\",kind=\"mesh\"} 0")
        );
        assert!(!later.contains("fd00::2") && !later.contains(":180"), "{later}");
        metrics.note(&[]);
        assert!(!text(&registry).contains("10.0.0.2"));
    }

    #[test]
    fn a_cluster_s_size_is_not_a_scrape_s() {
        let mut registry = Registry::default();
        let metrics = PeerMetrics::default();
        metrics.clone().register(&mut registry);
        let sessions: Vec<ProtocolStatus> = (0..MAX_PEERS + 7)
            .map(|n| session(&format!("Mesh_10_0_{}_{}", n / 250, n % 250), "Established", 1))
            .collect();
        metrics.note(&sessions);
        let text = text(&registry);
        let series = text.lines().filter(|l| l.starts_with("calico_bgp_peer_established{")).count();
        assert_eq!(series, MAX_PEERS);
        assert!(text.lines().any(|l| l == "calico_bgp_peers_unlisted 7"), "{text}");
    }
}
