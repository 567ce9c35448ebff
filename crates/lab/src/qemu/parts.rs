//! What machines are made of.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::runs;
use crate::k8s::images::libraries;

/// The emulator.
pub const QEMU: &str = "qemu-system-x86_64";
/// The machine's first process.
const INIT: &str = include_str!("../../qemu/init");
/// Programs of this machine that machines have too, with their libraries.
const PROGRAMS: [&str; 7] = [
    "/usr/bin/dash",
    "/usr/bin/etcd",
    "/usr/bin/ping",
    "/usr/sbin/bird",
    "/usr/sbin/birdc",
    "/usr/sbin/ip",
    "/usr/sbin/nft",
];
/// Parts of the kernel's tree of modules: networks, what virtual machines have, and what these need. Whole directories,
/// or single modules.
const MODULES: [&str; 17] = [
    "kernel/net/802",
    "kernel/net/bridge",
    "kernel/net/core",
    "kernel/net/ipv4",
    "kernel/net/ipv6",
    "kernel/net/llc",
    "kernel/net/netfilter",
    "kernel/lib",
    "kernel/crypto",
    "kernel/arch/x86/crypto",
    "kernel/drivers/virtio",
    "kernel/drivers/char/virtio_console.ko",
    "kernel/drivers/net/virtio_net.ko",
    "kernel/drivers/net/net_failover.ko",
    "kernel/drivers/net/veth.ko",
    "kernel/drivers/net/vxlan",
    "kernel/drivers/net/wireguard",
];

/// A kernel and what goes with it, as `crates/lab/qemu/parts` unpacked them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    dir: PathBuf,
    /// The kernel's version, as its modules' directory is called.
    version: String,
}

impl Parts {
    /// Looks for everything; the error says what is missing and how to get it.
    pub fn find(dir: &Path) -> Result<Parts> {
        if !runs(QEMU) {
            bail!("no {QEMU}: Debian's package qemu-system-x86 has it; `make qemu-parts` installs it");
        }
        let modules = std::fs::read_dir(dir.join("modules")).ok().and_then(|mut all| all.next()?.ok());
        let version = modules.and_then(|entry| entry.file_name().into_string().ok());
        let complete = ["vmlinuz", "busybox"].iter().all(|file| dir.join(file).is_file());
        let Some(version) = version.filter(|_| complete) else {
            bail!("no kernel in {}: `make qemu-parts` fetches Debian's", dir.display());
        };
        if let Some(program) = PROGRAMS.iter().find(|program| !Path::new(program).is_file()) {
            bail!("no {program}: `make setup` installs it");
        }
        Ok(Parts { dir: dir.to_owned(), version })
    }

    /// The kernel's version.
    pub fn kernel(&self) -> &str {
        &self.version
    }

    /// The kernel's file.
    pub fn vmlinuz(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }

    /// Writes a machine's root, with more programs and what they are called there.
    pub fn write_root(&self, to: &Path, more: &[(&Path, &str)]) -> Result<()> {
        let mut root = Archive::default();
        root.add("init", 0o755, INIT.as_bytes().to_vec());
        root.copy(&self.dir.join("busybox"), "bin/busybox", 0o755).context("busybox")?;
        for program in PROGRAMS {
            for library in libraries(program)? {
                root.copy(Path::new(&library), &library, 0o755).with_context(|| library.clone())?;
            }
            root.copy(Path::new(program), program, 0o755).with_context(|| program.to_owned())?;
        }
        for (program, name) in more {
            // Ours is static and needs none, which ldd says by failing.
            let needed = libraries(program.to_str().context("a path that is no text")?).unwrap_or_default();
            for library in needed {
                root.copy(Path::new(&library), &library, 0o755).with_context(|| library.clone())?;
            }
            root.copy(program, name, 0o755).with_context(|| format!("{}", program.display()))?;
        }
        let modules = self.dir.join("modules").join(&self.version);
        for part in MODULES.iter().chain(&["modules.order", "modules.builtin", "modules.builtin.modinfo"]) {
            self.add_modules(&mut root, &modules, Path::new(part))?;
        }
        let mut out = BufWriter::new(File::create(to).with_context(|| format!("{}", to.display()))?);
        root.write(&mut out)?;
        out.flush()?;
        Ok(())
    }

    fn add_modules(&self, root: &mut Archive, from: &Path, part: &Path) -> Result<()> {
        let path = from.join(part);
        let failed = || format!("{}", path.display());
        if !path.is_dir() {
            let to = format!("lib/modules/{}/{}", self.version, part.display());
            return root.copy(&path, &to, 0o644).with_context(failed);
        }
        for entry in std::fs::read_dir(&path).with_context(failed)? {
            self.add_modules(root, from, &part.join(entry?.file_name()))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_said() {
        let dir = tempfile::tempdir().expect("directory");
        let error = Parts::find(dir.path()).expect_err("nothing is there").to_string();
        assert!(error.contains("make qemu-parts"), "{error}");
    }
}
