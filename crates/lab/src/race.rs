//! Races that need a lab: attaching workloads (K) and restarts under load (O).

pub mod cni;
pub mod restart;
pub mod victim;

use std::time::Duration;

/// One line of the race table: `letter name figure unit peer ratio`. The ratio is ours by the peer's: below 1 we win.
pub fn line(letter: char, name: &str, figure: f64, unit: &str, peer: Option<f64>) -> String {
    let (peer, ratio) = match peer {
        Some(peer) => (format!("{peer}"), format!("{:.3}", figure / peer)),
        None => ("-".to_owned(), "-".to_owned()),
    };
    format!("{letter} {name} {figure:.3} {unit} {peer} {ratio}")
}

/// The value below which a share of the sorted sample lies.
pub fn quantile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

/// Milliseconds as a number for a table.
pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_quantiles() {
        assert_eq!(line('K', "x", 4.0, "ms", Some(200.0)), "K x 4.000 ms 200 0.020");
        assert_eq!(line('O', "x", 0.0, "packets", None), "O x 0.000 packets - -");
        let sample: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&sample, 0.5), Duration::from_millis(51));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }
}
