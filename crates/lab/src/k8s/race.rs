//! Races on a cluster that is up: what our part of a pod's start costs (K), and the agent's memory in a large cluster (I).

pub mod agent;
pub mod memory;
pub mod starts;

use std::time::Duration;

use anyhow::{Result, bail};
use clap::Subcommand;

use super::args::Cni;
use super::cluster::Cluster;

/// Which race.
#[derive(Subcommand, Debug)]
pub enum K8sRace {
    /// K: pods that start at once on the first node; ADD's share in time and processor, with the wait for policy.
    Starts {
        /// How many.
        #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u16).range(1..=200))]
        pods: u16,
    },
    /// I: the agent's memory with pods on other nodes, which are objects and nothing more.
    Memory {
        /// How many.
        #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u16).range(1..=50_000))]
        pods: u16,
    },
}

/// Runs a race; its lines.
pub fn run(cluster: &Cluster, race: &K8sRace) -> Result<Vec<String>> {
    if cluster.cni == Cni::Ptp {
        bail!("this cluster was started with --cni ptp; the races need Calico in it");
    }
    match race {
        K8sRace::Starts { pods } => starts::run(cluster, *pods),
        K8sRace::Memory { pods } => memory::run(cluster, *pods),
    }
}

/// A duration as tracing writes it: `1.5s`, `12.25ms`, `900µs`, `31ns`.
fn parse_duration(text: &str) -> Option<Duration> {
    let units = [("ns", 1e-9), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    Some(Duration::from_secs_f64(number.parse::<f64>().ok().filter(|n| *n >= 0.0)? * unit))
}

/// A field of a line of our log: `name=value`.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ')
        .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
        .map(|value| value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_our_log() {
        let line = r#"2026 INFO done verb=Add pod="race/race-1" container=c1 took=12.25ms cpu=900µs"#;
        assert_eq!(field(line, "pod"), Some("race/race-1"));
        assert_eq!(field(line, "took").and_then(parse_duration), Some(Duration::from_micros(12_250)));
        assert_eq!(field(line, "cpu").and_then(parse_duration), Some(Duration::from_micros(900)));
        assert_eq!(field(line, "waited"), None);
        assert_eq!(parse_duration("2s"), Some(Duration::from_secs(2)));
        assert_eq!(parse_duration("31ns"), Some(Duration::from_nanos(31)));
        assert_eq!((parse_duration("-1s"), parse_duration("1h"), parse_duration("")), (None, None, None));
    }
}
