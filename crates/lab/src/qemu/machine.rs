//! One machine: a qemu process, a wire, a channel for shell scripts.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::parts::{Parts, QEMU};
use crate::process::is_alive;
use crate::wait::until;

/// Memory of a machine: its root is a third of it.
const MEMORY_MB: u32 = 1024;
/// How long qemu may take to begin.
const BEGIN: Duration = Duration::from_secs(30);
/// How often the channel is tried while a machine boots.
const KNOCK: Duration = Duration::from_secs(2);

/// Tells this process's requests apart.
static REQUESTS: AtomicU64 = AtomicU64::new(0);

/// What a script did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its exit code.
    pub code: i32,
    /// What it printed, on both outputs.
    pub text: String,
}

/// A machine that is on.
#[derive(Clone, Debug)]
pub struct Machine {
    name: String,
    dir: PathBuf,
}

impl Machine {
    /// The machine of a lab that is up.
    pub fn at(dir: &Path, name: &str) -> Result<Machine> {
        let machine = Machine { name: name.to_owned(), dir: dir.to_owned() };
        match machine.pid() {
            Some(_) => Ok(machine),
            None => {
                bail!("no machine {name} in {}: `calico lab qemu up` boots node1 and node2", dir.display())
            }
        }
    }

    /// Switches a machine on.
    pub fn boot(dir: &Path, parts: &Parts, root: &Path, number: u8) -> Result<Machine> {
        let machine = Machine { name: format!("node{number}"), dir: dir.to_owned() };
        let path = |suffix: &str| machine.path(suffix).display().to_string();
        let wire = dir.join("wire");
        let mut command = Command::new(QEMU);
        command
            .args(["-accel", "tcg"])
            .args([
                "-cpu",
                "max",
                "-smp",
                "1",
                "-m",
                &MEMORY_MB.to_string(),
                "-display",
                "none",
                "-no-reboot",
            ])
            .args(["-nodefaults", "-no-user-config"])
            .arg("-kernel")
            .arg(parts.vmlinuz())
            .arg("-initrd")
            .arg(root)
            .args(["-append", &format!("console=ttyS0 quiet panic=-1 lab.machine={number}")])
            .args(["-serial", &format!("file:{}", path("console"))])
            .args(["-device", "virtio-serial-pci"])
            .args(["-chardev", &format!("socket,id=channel,path={},server=on,wait=off", path("channel"))])
            .args(["-device", "virtserialport,chardev=channel,name=lab"])
            // The first listens, the second connects.
            .args([
                "-netdev",
                &format!(
                    "stream,id=wire,server={},addr.type=unix,addr.path={}",
                    if number == 1 { "on" } else { "off" },
                    wire.display()
                ),
            ])
            .args(["-device", &format!("virtio-net-pci,netdev=wire,mac=52:54:00:65:00:{number:02x}")])
            .args(["-pidfile", &path("pid")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(machine.path("qemu"))?);
        if number == 1 {
            command.args(["-object", &format!("filter-dump,id=capture,netdev=wire,file={}", path("pcap"))]);
        }
        crate::process_group_of_its_own(&mut command);
        let mut child = command.spawn().context(QEMU)?;
        let begun = until(BEGIN, Duration::from_millis(20), || {
            (machine.path("channel").exists() && wire.exists() && machine.pid().is_some())
                || child.try_wait().is_ok_and(|status| status.is_some())
        });
        if !begun || child.try_wait()?.is_some() {
            let said = std::fs::read_to_string(machine.path("qemu")).unwrap_or_default();
            bail!("{} does not begin: {}", machine.name, said.trim());
        }
        Ok(machine)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn path(&self, suffix: &str) -> PathBuf {
        self.dir.join(format!("{}.{suffix}", self.name))
    }

    /// Its qemu, if that still runs: the number alone may be another's by now.
    fn pid(&self) -> Option<i32> {
        let pid = std::fs::read_to_string(self.path("pid")).ok()?.trim().parse().ok()?;
        let command = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        let own = self.path("pid").display().to_string();
        command.split(|byte| *byte == 0).any(|word| word == own.as_bytes()).then_some(pid)
    }

    /// Waits until it answers.
    pub fn wait_up(&self, deadline: Duration) -> Result<()> {
        let end = Instant::now() + deadline;
        loop {
            match self.run("true", KNOCK) {
                Ok(Answer { code: 0, .. }) => return Ok(()),
                Ok(_) | Err(_) if Instant::now() < end && self.pid().is_some() => {
                    // A channel that nobody has opened yet refuses at once: without a pause this takes the
                    // processor that the machine boots on.
                    std::thread::sleep(Duration::from_millis(100));
                }
                other => {
                    let console = std::fs::read_to_string(self.path("console")).unwrap_or_default();
                    bail!("{} does not come up: {other:?}\n{console}", self.name);
                }
            }
        }
    }

    /// Runs a shell script to its end. One at a time: what is to go on is put in the background.
    pub fn run(&self, script: &str, deadline: Duration) -> Result<Answer> {
        let end = Instant::now() + deadline;
        let path = self.path("channel");
        let channel = UnixStream::connect(&path).with_context(|| format!("{}", path.display()))?;
        let id = format!("{}-{}", std::process::id(), REQUESTS.fetch_add(1, Ordering::Relaxed));
        writeln!(&channel, "{id} {}", STANDARD.encode(script))?;
        let mut lines = BufReader::new(&channel);
        let mut line = String::new();
        loop {
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero());
            let Some(left) = left else { bail!("{}: no answer within {deadline:?} to: {script}", self.name) };
            channel.set_read_timeout(Some(left))?;
            line.clear();
            match lines.read_line(&mut line) {
                Ok(0) => bail!("{} has gone off", self.name),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error.into()),
            }
            // What comes late of a script before this one is nobody's.
            let mut words = line.split_whitespace();
            if words.next() != Some(id.as_str()) {
                continue;
            }
            let code = words.next().and_then(|code| code.parse().ok());
            let code = code.with_context(|| format!("{}'s answer: {line}", self.name))?;
            let text = STANDARD.decode(words.next().unwrap_or_default())?;
            return Ok(Answer { code, text: String::from_utf8_lossy(&text).into_owned() });
        }
    }

    /// Switches it off. Nothing of it is worth keeping.
    pub fn off(&self) {
        let Some(pid) = self.pid() else { return };
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            // It may end by itself meanwhile.
            let _ = kill(Pid::from_raw(pid), signal);
            if until(Duration::from_secs(5), Duration::from_millis(20), || !is_alive(pid)) {
                return;
            }
        }
        eprintln!("{}: qemu ({pid}) outlives SIGKILL", self.name);
    }
}
