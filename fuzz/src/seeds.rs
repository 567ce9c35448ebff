//! Writes the seeds of all targets, one file each: `seeds DIRECTORY` fills `DIRECTORY/<target>/`.

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let root = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| "corpus".into()));
    for (target, seeds) in calico_fuzz::seeds() {
        let dir = root.join(target);
        std::fs::create_dir_all(&dir)?;
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(dir.join(format!("seed-{number:02}")), seed)?;
        }
    }
    Ok(())
}
