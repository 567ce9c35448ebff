//! What Prometheus may know of addresses, under Calico's names (spec 7 §6.1).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use smol_str::SmolStr;

use crate::ipam::{Leak, PoolNode, Usage};

/// The metrics. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<Numbers>>);

#[derive(Clone, Debug, Default)]
struct Numbers {
    usage: Usage,
    /// Addresses released since the start.
    reclaimed: BTreeMap<PoolNode, u64>,
}

impl Metrics {
    /// Registers them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(self.clone()));
    }

    /// Takes new counts in.
    pub fn set(&self, usage: Usage) {
        self.with(|numbers| numbers.usage = usage);
    }

    /// Counts addresses that were released.
    pub fn note_reclaimed(&self, leaks: &[Leak], pool: impl Fn(&Leak) -> PoolNode) {
        self.with(|numbers| {
            for leak in leaks {
                *numbers.reclaimed.entry(pool(leak)).or_default() += 1;
            }
        });
    }

    fn with<T>(&self, work: impl FnOnce(&mut Numbers) -> T) -> T {
        // A panic elsewhere leaves whole numbers behind.
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

type Labelled<'a> = Vec<(Vec<(&'static str, SmolStr)>, u64)>;

/// By pool and node.
fn by_pool_and_node(counts: &BTreeMap<PoolNode, u64>) -> Labelled<'_> {
    let labels = |(pool, node): &PoolNode| vec![("ippool", pool.clone()), ("node", node.clone())];
    counts.iter().map(|(at, count)| (labels(at), *count)).collect()
}

/// By node alone, as older dashboards want it.
fn by_node(counts: &BTreeMap<PoolNode, u64>) -> Labelled<'_> {
    let mut sums: BTreeMap<&SmolStr, u64> = BTreeMap::new();
    for ((_, node), count) in counts {
        *sums.entry(node).or_default() += count;
    }
    sums.into_iter().map(|(node, count)| (vec![("node", node.clone())], count)).collect()
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let Numbers { usage, reclaimed } = self.with(|numbers| numbers.clone());
        let Usage { in_use, borrowed, blocks, candidates, pool_sizes } = usage;
        let clip = |size: u128| u64::try_from(size).unwrap_or(u64::MAX);
        let sizes = pool_sizes.iter().map(|(pool, size)| (vec![("ippool", pool.clone())], clip(*size)));
        let families = [
            ("ipam_allocations_in_use", "Addresses in use", by_pool_and_node(&in_use)),
            (
                "ipam_allocations_borrowed",
                "Addresses in use that are in blocks of other nodes",
                by_pool_and_node(&borrowed),
            ),
            ("ipam_blocks", "Blocks", by_pool_and_node(&blocks)),
            (
                "ipam_allocations_gc_candidates",
                "Addresses without a user, which are released if that stays so",
                by_pool_and_node(&candidates),
            ),
            ("ipam_ippool_size", "Addresses of a pool", sizes.collect()),
            ("ipam_allocations_per_node", "Addresses in use", by_node(&in_use)),
            (
                "ipam_allocations_borrowed_per_node",
                "Addresses in use that are in blocks of other nodes",
                by_node(&borrowed),
            ),
            ("ipam_blocks_per_node", "Blocks", by_node(&blocks)),
        ];
        for (name, help, counts) in families {
            family(&mut encoder, MetricType::Gauge, name, help, counts)?;
        }
        // OpenMetrics' counters end in `_total`, and Calico's name does not.
        let name = "ipam_allocations_gc_reclamations";
        let help = "Addresses released because nothing used them, since the start";
        family(&mut encoder, MetricType::Unknown, name, help, by_pool_and_node(&reclaimed))
    }
}

fn family(
    encoder: &mut DescriptorEncoder<'_>,
    kind: MetricType,
    name: &str,
    help: &str,
    counts: Labelled<'_>,
) -> Result<(), std::fmt::Error> {
    let mut metric = encoder.encode_descriptor(name, help, None, kind)?;
    for (labels, count) in counts {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        ConstGauge::new(count).encode(metric.encode_family(&labels)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calicos_names() {
        let metrics = Metrics::default();
        let at = |pool: &str, node: &str| (SmolStr::new(pool), SmolStr::new(node));
        metrics.set(Usage {
            in_use: [(at("p", "n1"), 3), (at("q", "n1"), 4)].into(),
            borrowed: [(at("p", "n1"), 1)].into(),
            blocks: [(at("p", "n1"), 2)].into(),
            candidates: [(at("p", "n1"), 1)].into(),
            pool_sizes: [("p".into(), 65536)].into(),
        });
        metrics.with(|numbers| numbers.reclaimed.insert(at("p", "n1"), 5));
        let mut registry = Registry::default();
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "ipam_allocations_in_use{ippool=\"p\",node=\"n1\"} 3",
            "ipam_allocations_borrowed{ippool=\"p\",node=\"n1\"} 1",
            "ipam_blocks{ippool=\"p\",node=\"n1\"} 2",
            "ipam_allocations_gc_candidates{ippool=\"p\",node=\"n1\"} 1",
            "ipam_allocations_gc_reclamations{ippool=\"p\",node=\"n1\"} 5",
            "ipam_ippool_size{ippool=\"p\"} 65536",
            "ipam_allocations_per_node{node=\"n1\"} 7",
            "ipam_allocations_borrowed_per_node{node=\"n1\"} 1",
            "ipam_blocks_per_node{node=\"n1\"} 2",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} in {text}");
        }
    }
}
