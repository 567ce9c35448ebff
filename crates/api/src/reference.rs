//! Reference data for tests: what Calico itself wrote, present beside the project or not.
#![allow(clippy::disallowed_methods, reason = "tests read their data from files")]

/// A file of `data/`; `None`, with a line that says so, where there is none.
pub(crate) fn read(name: &str) -> Option<String> {
    let root = std::env::var("CALICO_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned());
    let text = std::fs::read_to_string(format!("{root}/data/{name}")).ok();
    if text.is_none() {
        println!("skipped: no ../shared");
    }
    text
}

/// Calico's own etcd contents: pairs of key and value.
pub(crate) fn samples() -> Option<Vec<(String, String)>> {
    let text = read("etcd-samples.txt")?;
    let mut lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let mut pairs = Vec::new();
    while let (Some(key), Some(value)) = (lines.next(), lines.next()) {
        pairs.push((key.to_owned(), value.to_owned()));
    }
    assert!(pairs.len() > 80, "only {} samples", pairs.len());
    Some(pairs)
}
