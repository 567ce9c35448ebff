//! The agent's Prometheus metrics, under Calico's names (spec 3 §6.12).

use std::time::Duration;

use calico_linux::netlink::Traffic;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

/// The metrics that the loop keeps.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Local endpoints.
    pub active_local_endpoints: Gauge,
    /// Policies that select a local endpoint.
    pub active_local_policies: Gauge,
    /// 0 waiting, 1 resyncing, 2 in sync.
    pub resync_state: Gauge,
    /// Updates taken from the datastore.
    pub updates_processed: Counter,
    /// Changes that the calculation emitted.
    pub output_events: Counter,
    /// Time of one apply.
    pub apply_seconds: Histogram,
    /// Applies that did not complete.
    pub failures: Counter,
    /// nf_tables transactions.
    pub nft_calls: Counter,
    /// nf_tables operations that these did.
    pub nft_operations: Counter,
    /// Messages sent to nf_tables, reads included.
    pub nft_messages: Counter,
    /// Their bytes.
    pub nft_bytes: Counter,
    /// Routes changed.
    pub route_changes: Counter,
    /// nf_tables chains of ours.
    pub nft_chains: Gauge,
    /// nf_tables rules of ours.
    pub nft_rules: Gauge,
    /// nf_tables sets of ours.
    pub nft_sets: Gauge,
    /// Routes of ours.
    pub routes: Gauge,
    /// Tunnel devices made, changed or removed.
    pub tunnel_changes: Counter,
    /// Other nodes' ends of VXLAN tunnels.
    pub vteps: Gauge,
    /// Objects that are denied or otherwise wrong, now.
    pub problems: Gauge,
}

impl Metrics {
    /// Registers every metric.
    pub fn register(registry: &mut Registry) -> Metrics {
        let metrics = Metrics {
            active_local_endpoints: Gauge::default(),
            active_local_policies: Gauge::default(),
            resync_state: Gauge::default(),
            updates_processed: Counter::default(),
            output_events: Counter::default(),
            // From 100 µs to 13 s, doubling.
            apply_seconds: Histogram::new(exponential_buckets(0.0001, 2.0, 18)),
            failures: Counter::default(),
            nft_calls: Counter::default(),
            nft_operations: Counter::default(),
            nft_messages: Counter::default(),
            nft_bytes: Counter::default(),
            route_changes: Counter::default(),
            nft_chains: Gauge::default(),
            nft_rules: Gauge::default(),
            nft_sets: Gauge::default(),
            routes: Gauge::default(),
            tunnel_changes: Counter::default(),
            vteps: Gauge::default(),
            problems: Gauge::default(),
        };
        let m = metrics.clone();
        registry.register("felix_active_local_endpoints", "Endpoints of this node", m.active_local_endpoints);
        registry.register(
            "felix_active_local_policies",
            "Policies that select an endpoint of this node",
            m.active_local_policies,
        );
        registry.register(
            "felix_resync_state",
            "0 waiting, 1 resyncing, 2 in sync with the datastore",
            m.resync_state,
        );
        registry.register(
            "felix_calc_graph_updates_processed",
            "Updates taken from the datastore",
            m.updates_processed,
        );
        registry.register(
            "felix_calc_graph_output_events",
            "Changes that followed from them",
            m.output_events,
        );
        registry.register(
            "felix_int_dataplane_apply_time_seconds",
            "Time of one update of the kernel",
            m.apply_seconds,
        );
        registry.register(
            "felix_int_dataplane_failures",
            "Updates of the kernel that did not complete",
            m.failures,
        );
        registry.register("felix_nft_calls", "Transactions sent to nf_tables", m.nft_calls);
        registry.register(
            "felix_nft_operations",
            "Operations of the transactions sent to nf_tables",
            m.nft_operations,
        );
        registry.register("felix_nft_messages", "Messages sent to nf_tables, reads included", m.nft_messages);
        registry.register("felix_nft_bytes", "Bytes sent to nf_tables, reads included", m.nft_bytes);
        registry.register("felix_route_table_changes", "Routes added, changed or removed", m.route_changes);
        registry.register("felix_nft_chains", "Chains in our tables", m.nft_chains);
        registry.register("felix_nft_rules", "Rules in our tables", m.nft_rules);
        registry.register("felix_nft_sets", "Sets in our tables", m.nft_sets);
        registry.register("felix_route_table_num_routes", "Routes of ours in the main table", m.routes);
        registry.register(
            "felix_tunnel_device_changes",
            "Tunnel devices made, changed or removed",
            m.tunnel_changes,
        );
        registry.register("felix_vxlan_tunnel_endpoints", "Other nodes' ends of VXLAN tunnels", m.vteps);
        registry.register(
            "felix_problems",
            "Objects that are denied or wrong; the log names them",
            m.problems,
        );
        metrics
    }

    /// Notes what went out to nf_tables since `before`.
    pub fn note_traffic(&self, before: Traffic, now: Traffic) {
        self.nft_messages.inc_by(now.messages.saturating_sub(before.messages));
        self.nft_bytes.inc_by(now.bytes.saturating_sub(before.bytes));
    }

    /// Notes one apply, while this many resources of the datastore were wrong.
    pub fn note_apply(&self, took: Duration, report: &calico_dataplane::Report, wrong: usize) {
        self.apply_seconds.observe(took.as_secs_f64());
        self.nft_calls.inc_by(report.transactions as u64);
        self.nft_operations.inc_by(report.nft_ops as u64);
        self.route_changes.inc_by(report.routes as u64);
        self.tunnel_changes.inc_by(report.tunnels as u64);
        self.problems.set(i64::try_from(report.problems.len() + wrong).unwrap_or(i64::MAX));
        if !report.complete {
            self.failures.inc();
        }
    }
}
