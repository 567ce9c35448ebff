//! `calico node init`: the file systems that an eBPF dataplane expects on a node. Nothing else needs them.

use std::io;
use std::path::Path;
use std::process::ExitCode;

use rustix::fs::statfs;
use rustix::mount::{MountFlags, mount};

/// A file system to mount.
struct Wanted {
    what: &'static str,
    fstype: &'static str,
    at: &'static str,
    /// `f_type` of statfs(2), from linux/magic.h.
    magic: i128,
    /// The exit code if it cannot be mounted.
    code: u8,
}

const ALL: [Wanted; 2] = [
    Wanted { what: "bpffs", fstype: "bpf", at: "/sys/fs/bpf", magic: 0xcafe_4a11, code: 2 },
    Wanted { what: "cgroup2", fstype: "cgroup2", at: "/run/calico/cgroup", magic: 0x6367_7270, code: 3 },
];

/// Mounts what is not mounted yet.
pub fn main(best_effort: bool) -> ExitCode {
    for wanted in ALL {
        let Wanted { what, at, code, .. } = wanted;
        match ensure(&wanted) {
            Ok(true) => println!("mounted {what} on {at}"),
            Ok(false) => println!("{what} is on {at} already"),
            Err(error) if best_effort => eprintln!("calico node init: {what} on {at}: {error}; it goes on"),
            Err(error) => {
                eprintln!("calico node init: {what} on {at}: {error}");
                return ExitCode::from(code);
            }
        }
    }
    ExitCode::SUCCESS
}

/// Whether it had to be mounted.
fn ensure(wanted: &Wanted) -> io::Result<bool> {
    let Wanted { what, fstype, at, magic, .. } = wanted;
    std::fs::create_dir_all(at)?;
    if i128::from(statfs(Path::new(at))?.f_type) & 0xffff_ffff == *magic {
        return Ok(false);
    }
    mount(*what, *at, *fstype, MountFlags::empty(), None::<&std::ffi::CStr>)?;
    Ok(true)
}
