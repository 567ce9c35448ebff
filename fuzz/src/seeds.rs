//! Writes the seeds of all targets, one file each, to `$SEEDS/<target>/`, and ends.
//!
//! A fuzz target by its form only: everything here is compiled with coverage, which links with libFuzzer alone.

#![no_main]

use std::path::PathBuf;

libfuzzer_sys::fuzz_target!(
    init: write().expect("the seeds' directory can be written"),
    // With -runs=0 it ends after the first input; to exit from inside counts as a finding.
    |_data: &[u8]| ()
);

fn write() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::var_os("SEEDS").unwrap_or_else(|| "corpus".into()));
    for (target, seeds) in calico_fuzz::seeds() {
        let dir = root.join(target);
        std::fs::create_dir_all(&dir)?;
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
