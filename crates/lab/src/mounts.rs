//! What a node has for itself although it shares the machine's files: `/run`, `/sys`, and directories of its own.

use std::path::Path;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};

/// Mounts that are made from here on stay in this mount namespace.
pub fn make_private() -> Result<()> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("private mounts")
}

/// An empty `/run`; the lab's directory stays reachable if it lies there.
pub fn own_run(lab_dir: &Path) -> Result<()> {
    let keep = lab_dir.starts_with("/run") || lab_dir.starts_with("/var/run");
    let aside = Path::new("/mnt");
    if keep {
        bind(lab_dir, aside)?;
    }
    mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::MS_NOSUID, Some("mode=755")).context("/run")?;
    if keep {
        std::fs::create_dir_all(lab_dir)?;
        mount(Some(aside), lab_dir, None::<&str>, MsFlags::MS_MOVE, None::<&str>).context("lab directory")?;
    }
    Ok(())
}

/// The devices of this network namespace in `/sys`.
pub fn own_sys() -> Result<()> {
    mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>).context("/sys")
}

/// Whatever is written below `parent` from here on stays in `layer`.
///
/// The machine may not have a directory that the node needs, and a lab must not make it: another lab, or a Calico of the
/// machine's own, may come and go meanwhile.
pub fn layer_over(parent: &str, layer: &Path) -> Result<()> {
    let (upper, work) = (layer.join("upper"), layer.join("work"));
    std::fs::create_dir_all(&upper)?;
    std::fs::create_dir_all(&work)?;
    let options = format!("lowerdir={parent},upperdir={},workdir={}", upper.display(), work.display());
    mount(Some("overlay"), parent, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
        .with_context(|| format!("a layer over {parent}"))
}

/// Makes `source`, which exists, appear at `target`, which exists too.
pub fn bind(source: &Path, target: &Path) -> Result<()> {
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .with_context(|| format!("{}", target.display()))
}

/// Makes the directory `source` appear at `target`, both made where they are missing.
pub fn bind_directory(source: &Path, target: &Path) -> Result<()> {
    for directory in [source, target] {
        std::fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    }
    bind(source, target)
}
