//! Waits until no pod on a node is being started or stopped with our plugin.
//!
//! A runtime that finds no configuration any more cannot take back what it has begun: the pod's namespaces and the runtime's
//! records of it would stay until there is another network.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use calico_cni::client::leaving_file;

/// Where the agent listens, seen from the node's root.
const SOCKET: &str = "run/calico/cni.sock";
/// The runtime's records of attachments, one file each (the CNI library's cache).
const RECORDS: &str = "var/lib/cni/results";
/// A plugin that waits for the agent looks at the file within milliseconds; the runtime then takes its time.
const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(50);

/// Tells plugins that the agent will not come, so that what waits for it fails and is taken back; then waits for that.
pub fn await_ended(root: &Path) -> Result<()> {
    await_for(root, PATIENCE)
}

fn await_for(root: &Path, patience: Duration) -> Result<()> {
    let leaving = leaving_file(&root.join(SOCKET));
    if !leaving.parent().is_some_and(Path::is_dir) {
        // Nothing of ours ever ran here.
        return Ok(());
    }
    std::fs::write(&leaving, "").with_context(|| leaving.display().to_string())?;
    let start = Instant::now();
    loop {
        let records = read_records(root)?;
        if records.is_empty() {
            return Ok(());
        }
        if start.elapsed() >= patience {
            bail!(
                "after {} s the runtime still has records of pods' networks: {}",
                patience.as_secs(),
                records.join(", ")
            );
        }
        std::thread::sleep(POLL);
    }
}

fn read_records(root: &Path) -> Result<Vec<String>> {
    let directory = root.join(RECORDS);
    let entries = match std::fs::read_dir(&directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| directory.display().to_string()),
    };
    let name = |entry: std::io::Result<std::fs::DirEntry>| Ok(entry?.file_name().display().to_string());
    let names: std::io::Result<Vec<String>> = entries.map(name).collect();
    names.with_context(|| directory.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_waited_for() {
        let root = tempfile::tempdir().unwrap();
        await_for(root.path(), Duration::ZERO).unwrap();
        assert!(!root.path().join("run").exists());
        for directory in ["run/calico", RECORDS] {
            std::fs::create_dir_all(root.path().join(directory)).unwrap();
        }
        await_for(root.path(), Duration::ZERO).unwrap();
        assert!(leaving_file(&root.path().join(SOCKET)).exists());

        let record = root.path().join(RECORDS).join("cni-loopback-1-lo");
        std::fs::write(&record, "").unwrap();
        let error = await_for(root.path(), Duration::ZERO).unwrap_err().to_string();
        assert!(error.ends_with("cni-loopback-1-lo"), "{error}");
        let runtime = std::thread::spawn(move || {
            std::thread::sleep(POLL);
            std::fs::remove_file(record).unwrap();
        });
        await_for(root.path(), PATIENCE).unwrap();
        runtime.join().unwrap();
    }
}
