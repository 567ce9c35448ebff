//! The qemu lab: machines of their own, with Debian's kernel, for what this machine's kernel does not have.
//!
//! ```text
//!    node1 ──────────── a private wire ──────────── node2      10.65.0.1, .2; every frame is kept in node1.pcap
//!    Debian's kernel, the shipped binary,           the same
//!    BIRD, etcd                                      │
//!      │ channel (virtio-serial): shell scripts      │ channel
//!    ──┴────────────────── this machine ─────────────┴──
//! ```
//!
//! Their processors are emulated, so that they run wherever qemu does, and slowly. `crates/lab/qemu/parts` fetches the
//! kernel; a machine's root is one archive in its memory, made here of that kernel's modules, a static busybox, and this
//! machine's programs with their libraries.

mod cpio;
mod machine;
mod parts;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;

pub use machine::Machine;
pub use parts::Parts;

/// Where a lab lives unless told otherwise.
pub const DEFAULT_DIR: &str = "/run/calico-lab-qemu";
/// How many machines there are: one at each end of the wire.
const MACHINES: u8 = 2;
/// How long a machine may take to boot: emulated on a busy machine it takes minutes.
const BOOT: Duration = Duration::from_secs(600);

/// `calico lab qemu …`.
#[derive(Subcommand, Debug)]
pub enum QemuCommand {
    /// Boot two machines on a private wire.
    Up {
        /// What `make qemu-parts` has made.
        #[arg(long, env = "CALICO_QEMU_PARTS")]
        parts: PathBuf,
    },
    /// Run a shell line on a machine.
    Exec {
        /// `node1` or `node2`.
        machine: String,
        /// The line.
        line: String,
    },
    /// Switch the machines off and remove the lab.
    Down,
}

/// Runs one of them.
pub fn run(dir: &Path, command: QemuCommand) -> Result<ExitCode> {
    match command {
        QemuCommand::Up { parts } => {
            let parts = Parts::find(&parts)?;
            eprintln!("… booting two machines with {}, which takes a minute or more", parts.kernel());
            let own = std::env::current_exe().context("own path")?;
            let lab = QemuLab::up(dir, &parts, &[(&own, "/usr/bin/calico")])?;
            for machine in lab.machines() {
                println!("{} is up: {}", machine.name(), machine.run("uname -r", BOOT)?.text.trim());
            }
            lab.leave();
        }
        QemuCommand::Exec { machine, line } => {
            let answer = Machine::at(dir, &machine)?.run(&line, BOOT)?;
            print!("{}", answer.text);
            return Ok(ExitCode::from(u8::try_from(answer.code).unwrap_or(1)));
        }
        QemuCommand::Down => {
            for number in 1..=MACHINES {
                if let Ok(machine) = Machine::at(dir, &format!("node{number}")) {
                    machine.off();
                }
            }
            if dir.join("root.cpio").exists() {
                std::fs::remove_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Machines that are up. They go off with it.
#[derive(Debug)]
pub struct QemuLab {
    dir: PathBuf,
    machines: Vec<Machine>,
}

impl QemuLab {
    /// Boots the machines and waits until they answer. `programs` are files of this machine and what they are called
    /// there, with their libraries; `/usr/bin/calico` should be one of them.
    pub fn up(dir: &Path, parts: &Parts, programs: &[(&Path, &str)]) -> Result<QemuLab> {
        if dir.exists() {
            bail!("{} is there already: `calico lab --dir {0} qemu down` removes a lab", dir.display());
        }
        std::fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
        let root = dir.join("root.cpio");
        parts.write_root(&root, programs).context("the machines' root")?;
        let mut lab = QemuLab { dir: dir.to_owned(), machines: Vec::new() };
        for number in 1..=MACHINES {
            lab.machines.push(Machine::boot(dir, parts, &root, number)?);
        }
        for machine in &lab.machines {
            machine.wait_up(BOOT)?;
        }
        Ok(lab)
    }

    /// The machines, in order.
    pub fn machines(&self) -> &[Machine] {
        &self.machines
    }

    /// The file with every frame that the wire has carried.
    pub fn capture(&self) -> PathBuf {
        self.dir.join("node1.pcap")
    }

    /// Leaves them running.
    fn leave(mut self) {
        self.machines.clear();
        self.dir = PathBuf::new();
    }
}

impl Drop for QemuLab {
    fn drop(&mut self) {
        self.machines.iter().for_each(Machine::off);
        if self.dir != Path::new("") && std::fs::remove_dir_all(&self.dir).is_err() {
            eprintln!("{} could not be removed", self.dir.display());
        }
    }
}

/// A command's version line, if it can be run.
fn runs(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
}
