//! What Prometheus may know of BGP on this node.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::bgp::BgpReport;
use crate::bird::BirdReport;
use crate::readiness::BirdStatus;

mod peers;

use peers::PeerMetrics;

/// The node's metrics. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct NodeMetrics {
    bird_up: Gauge,
    bird_unexpected_ends: Counter<u64, AtomicU64>,
    bird_reconfigurations: Counter<u64, AtomicU64>,
    sessions: Gauge,
    sessions_established: Gauge,
    resolutions: Counter<u64, AtomicU64>,
    blocks: Gauge,
    service_routes: Gauge,
    problems: Gauge,
    peers: PeerMetrics,
}

impl NodeMetrics {
    /// Registers the metrics, as `calico_bird_…` and `calico_bgp_…`.
    pub fn register(registry: &mut Registry) -> NodeMetrics {
        let metrics = NodeMetrics::default();
        let NodeMetrics {
            bird_up,
            bird_unexpected_ends,
            bird_reconfigurations,
            sessions,
            sessions_established,
            resolutions,
            blocks,
            service_routes,
            problems,
            peers,
        } = metrics.clone();
        peers.register(registry);
        registry.register("calico_bird_up", "Whether a supervised BIRD is running", bird_up);
        registry.register(
            "calico_bird_unexpected_ends",
            "How often BIRD ended without being asked to",
            bird_unexpected_ends,
        );
        registry.register(
            "calico_bird_reconfigurations",
            "How many configurations BIRD was given while running",
            bird_reconfigurations,
        );
        registry.register("calico_bgp_sessions", "BGP sessions configured", sessions);
        registry.register(
            "calico_bgp_sessions_established",
            "BGP sessions established",
            sessions_established,
        );
        registry.register(
            "calico_bgp_resolutions",
            "How often BGP's configuration was computed from the datastore",
            resolutions,
        );
        registry.register("calico_bgp_blocks", "IPAM blocks of this node that are announced", blocks);
        registry.register(
            "calico_bgp_service_routes",
            "Prefixes of Kubernetes' services that are announced",
            service_routes,
        );
        registry.register(
            "calico_bgp_problems",
            "Resources that BGP cannot use, wholly or in part",
            problems,
        );
        metrics
    }

    /// Takes the supervisor's report.
    pub fn note_bird(&self, report: &BirdReport) {
        let BirdReport {
            pid,
            adopted: _,
            unexpected_ends,
            reconfigurations,
            config_error: _,
            start_error: _,
        } = report;
        self.bird_up.set(i64::from(pid.is_some()));
        raise(&self.bird_unexpected_ends, *unexpected_ends);
        raise(&self.bird_reconfigurations, *reconfigurations);
    }

    /// Takes what BGP is made of.
    pub fn note_bgp(&self, report: &BgpReport) {
        let BgpReport {
            in_sync: _,
            sessions,
            resolutions,
            blocks,
            service_routes,
            problems,
            unrouted: _,
            needs_ipip: _,
        } = report;
        raise(&self.resolutions, *resolutions);
        self.sessions.set(count(*sessions));
        self.blocks.set(count(*blocks));
        self.service_routes.set(count(*service_routes));
        self.problems.set(count(problems.len()));
    }

    /// Takes what BIRD says of itself; `None` if it does not answer.
    pub fn note_status(&self, status: Option<&BirdStatus>) {
        self.sessions_established.set(count(status.map_or(0, |status| status.sessions().1)));
        self.peers.note(status.map_or(&[], |status| &status.protocols));
    }
}

fn count(n: usize) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Brings a counter to a total that only grows.
fn raise(counter: &Counter<u64, AtomicU64>, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_and_gauges() {
        let mut registry = Registry::default();
        let metrics = NodeMetrics::register(&mut registry);
        let report = BirdReport { pid: Some(1), unexpected_ends: 2, ..BirdReport::default() };
        metrics.note_bird(&report);
        metrics.note_bird(&BirdReport { pid: None, unexpected_ends: 3, ..report });
        metrics.note_bgp(&BgpReport { sessions: 4, service_routes: 7, ..BgpReport::default() });
        metrics.note_status(None);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "calico_bird_up 0",
            "calico_bird_unexpected_ends_total 3",
            "calico_bgp_sessions 4",
            "calico_bgp_service_routes 7",
            "calico_bgp_sessions_established 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
