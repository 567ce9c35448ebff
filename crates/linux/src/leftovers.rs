//! Another Calico's leftovers: looking for them without loading anything, and removing them by their own programs.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use calico_dataplane::leftovers::{Backend, LeftoverOp, Leftovers, is_nft_leftover};
use calico_net::Family;
use thiserror::Error;

use crate::nft::{FamilyName, NftError, NftSocket};

/// What went wrong with another program's tables.
#[derive(Debug, Error)]
pub enum LeftoverError {
    /// With nf_tables.
    #[error(transparent)]
    Nft(#[from] NftError),
    /// A program could not be run.
    #[error("{program}: {source}")]
    Run {
        /// Which.
        program: String,
        /// Why.
        source: io::Error,
    },
    /// A program failed.
    #[error("{program}: {message}")]
    Failed {
        /// Which.
        program: String,
        /// What it said.
        message: String,
    },
}

/// How long a program may wait for the lock that all users of legacy iptables share: who holds it longer is stuck, and
/// this node's policy must not wait for it. What stays is tried again at the next resync.
const LOCK_WAIT: &str = "--wait=2";

/// nf_tables tables that `iptables-nft` makes.
const IPTABLES_NFT_TABLES: [&str; 4] = ["filter", "nat", "mangle", "raw"];

/// Looks for leftovers. Asking legacy iptables or ipset would load them where nobody uses them, so they are asked
/// only where they are.
pub fn read(nft: &mut NftSocket) -> Result<Leftovers, LeftoverError> {
    let mut found = Leftovers::default();
    for family in [FamilyName::Ip, FamilyName::Ip6, FamilyName::Arp] {
        let names = nft.read_table_names(family)?;
        let ours = names.iter().filter(|name| is_nft_leftover(family.as_str(), name));
        found.nft_tables.extend(ours.map(|name| (family.as_str().to_owned(), name.to_string())));
        let ip = match family {
            FamilyName::Ip => Family::V4,
            FamilyName::Ip6 => Family::V6,
            FamilyName::Arp => continue,
        };
        if names.iter().any(|name| IPTABLES_NFT_TABLES.contains(&name.as_str())) {
            save(&mut found, Backend::Nft, ip)?;
        }
        // The calling thread's: it may be in another namespace than the process.
        let loaded = match ip {
            Family::V4 => "/proc/thread-self/net/ip_tables_names",
            Family::V6 => "/proc/thread-self/net/ip6_tables_names",
        };
        if fs::read_to_string(loaded).is_ok_and(|tables| !tables.trim().is_empty()) {
            save(&mut found, Backend::Legacy, ip)?;
        }
    }
    if fs::exists("/sys/module/ip_set").unwrap_or(false)
        && let Some(listed) = run("ipset", &["list", "-name"], "")?
    {
        found.ip_sets = listed.lines().map(str::to_owned).collect();
    }
    Ok(found)
}

fn save(found: &mut Leftovers, backend: Backend, family: Family) -> Result<(), LeftoverError> {
    if let Some(saved) = run(&program(backend, family, "save"), &[], "")? {
        found.iptables.push((backend, family, saved));
    }
    Ok(())
}

/// `iptables-nft-save` and its kin.
fn program(backend: Backend, family: Family, verb: &str) -> String {
    let name = match family {
        Family::V4 => "iptables",
        Family::V6 => "ip6tables",
    };
    let backend = match backend {
        Backend::Legacy => "legacy",
        Backend::Nft => "nft",
    };
    format!("{name}-{backend}-{verb}")
}

/// Removes one leftover.
pub fn apply(nft: &mut NftSocket, op: &LeftoverOp) -> Result<(), LeftoverError> {
    match op {
        LeftoverOp::DeleteNftTable { family, name } => {
            for known in [FamilyName::Ip, FamilyName::Ip6, FamilyName::Arp] {
                if known.as_str() == family {
                    nft.delete_table(known, name)?;
                }
            }
            Ok(())
        }
        LeftoverOp::RestoreIptables { backend, family, input } => {
            let program = program(*backend, *family, "restore");
            run(&program, &["--noflush", LOCK_WAIT], input).map(|_| ())
        }
        LeftoverOp::DestroyIpSet(name) => run("ipset", &["destroy", name], "").map(|_| ()),
    }
}

/// Runs a program with some input; what it printed, or `None` if it is not installed.
fn run(program: &str, args: &[&str], input: &str) -> Result<Option<String>, LeftoverError> {
    let failed = |source| LeftoverError::Run { program: program.to_owned(), source };
    let mut command = Command::new(program);
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    if let Some(mut stdin) = child.stdin.take() {
        // A program that does not read to the end says why on its standard error.
        let _ = stdin.write_all(input.as_bytes());
    }
    let Output { status, stdout, stderr } = child.wait_with_output().map_err(failed)?;
    if !status.success() {
        let message = String::from_utf8_lossy(&stderr).trim().to_owned();
        return Err(LeftoverError::Failed { program: program.to_owned(), message });
    }
    Ok(Some(String::from_utf8_lossy(&stdout).into_owned()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::time::{Duration, Instant};

    use calico_dataplane::Report;
    use calico_dataplane::leftovers::remove;
    use nix::fcntl::{Flock, FlockArg};

    use crate::RealKernel;
    use crate::sysctl::Sysctl;
    use crate::testing::{in_netns, run};

    #[test]
    fn both_modes_leftovers_go_and_others_tables_stay() {
        in_netns(|| {
            run(
                "nft",
                &[
                    "add table ip calico; add table ip6 calico; add table arp calico-arp; add table ip other; add table inet calico",
                ],
            );
            run("ipset", &["create", "cali40s:x", "hash:ip"]);
            run("ipset", &["create", "others", "hash:ip"]);
            for program in ["iptables-legacy", "iptables-nft"] {
                let iptables = |args: &str| run(program, &args.split(' ').collect::<Vec<_>>());
                iptables("-N cali-FORWARD");
                iptables("-N cali-wl");
                iptables("-A FORWARD -m comment --comment cali:abc -j cali-FORWARD");
                iptables("-A FORWARD -p tcp --dport 22 -j ACCEPT");
                iptables("-A cali-FORWARD -m set --match-set cali40s:x src -j cali-wl");
            }
            let mut kernel = RealKernel::open(Sysctl::default()).unwrap();
            let incomplete = Report::default();
            assert_eq!(remove(&mut kernel, &incomplete), []);
            assert!(run("nft", &["list", "tables"]).contains("table ip calico\n"));
            let complete = Report { complete: true, ..Report::default() };
            assert_eq!(remove(&mut kernel, &complete), []);
            for program in ["iptables-legacy-save", "iptables-nft-save"] {
                let saved = run(program, &[]);
                assert!(!saved.contains("cali") && saved.contains("-A FORWARD -p tcp"), "{saved}");
            }
            assert_eq!(run("ipset", &["list", "-name"]), "others\n");
            let tables = run("nft", &["list", "tables"]);
            assert!(
                !tables.contains("ip calico") && !tables.contains("ip6 calico") && !tables.contains("arp"),
                "{tables}"
            );
            assert!(tables.contains("table ip other") && tables.contains("table inet calico"), "{tables}");
            assert_eq!(remove(&mut kernel, &complete), []);
        });
    }
    #[test]
    fn a_lock_that_is_never_released_is_not_waited_for() {
        in_netns(|| {
            run("iptables-legacy", &["-N", "cali-FORWARD"]);
            let lock = File::create("/run/xtables.lock").unwrap();
            let lock = Flock::lock(lock, FlockArg::LockExclusive).unwrap();
            let mut kernel = RealKernel::open(Sysctl::default()).unwrap();
            let complete = Report { complete: true, ..Report::default() };
            let begun = Instant::now();
            let problems = remove(&mut kernel, &complete);
            assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
            assert!(
                problems.iter().any(|p| format!("{p:?}").contains("iptables-legacy-restore")),
                "{problems:?}"
            );
            drop(lock);
            assert_eq!(remove(&mut kernel, &complete), []);
            assert!(!run("iptables-legacy-save", &[]).contains("cali"));
        });
    }
}
