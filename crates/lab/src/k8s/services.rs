//! The programs of one place, kept alive by its first process as a service manager would.

use std::fs::OpenOptions;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::cluster::Cluster;

/// Between the end of a program and its next start: a program that cannot start must not take the machine's processors.
const RESTART_DELAY: Duration = Duration::from_secs(1);
/// How often gates are looked at.
const GATE_INTERVAL: Duration = Duration::from_millis(50);

/// A program that is kept alive.
#[derive(Clone, Debug)]
pub struct Service {
    name: String,
    program: PathBuf,
    arguments: Vec<String>,
    gates: Vec<PathBuf>,
}

impl Service {
    /// A program of Kubernetes, without arguments.
    pub fn new(cluster: &Cluster, name: &str) -> Service {
        Service {
            name: name.to_owned(),
            program: cluster.program(name),
            arguments: Vec::new(),
            gates: Vec::new(),
        }
    }

    /// A program of the machine.
    pub fn of_machine(program: &str) -> Service {
        Service {
            name: program.to_owned(),
            program: PathBuf::from(program),
            arguments: Vec::new(),
            gates: Vec::new(),
        }
    }

    /// With more arguments.
    pub fn args(mut self, arguments: impl IntoIterator<Item = String>) -> Service {
        self.arguments.extend(arguments);
        self
    }

    /// Not started before a file exists, either.
    pub fn after(mut self, file: PathBuf) -> Service {
        self.gates.push(file);
        self
    }
}

/// What a service is doing.
#[derive(Clone, Copy, Debug)]
enum State {
    Waiting { not_before: Option<Instant> },
    Running(Pid),
}

/// The services of one place.
pub struct Services {
    logs: PathBuf,
    environment: Vec<(&'static str, String)>,
    services: Vec<(Service, State)>,
}

impl Services {
    /// None yet.
    pub fn new(cluster: &Cluster, place: &str) -> Services {
        Services {
            logs: cluster.place_dir(place).join("log"),
            environment: cluster.environment(),
            services: Vec::new(),
        }
    }

    /// Keeps a service alive from now on.
    pub fn add(&mut self, service: Service) {
        self.services.push((service, State::Waiting { not_before: None }));
    }

    /// Starts what should run and takes note of what ended; whether all services run.
    pub fn sweep(&mut self) -> Result<bool> {
        while let Some(status) = reap(WaitPidFlag::WNOHANG)? {
            self.note_end(status);
        }
        let now = Instant::now();
        let mut all = true;
        for (service, state) in &mut self.services {
            let State::Waiting { not_before } = *state else { continue };
            let open = service.gates.iter().all(|gate| gate.exists());
            if open && not_before.is_none_or(|time| now >= time) {
                *state = State::Running(spawn(service, &self.logs, &self.environment)?);
            } else {
                all = false;
            }
        }
        Ok(all)
    }

    /// Keeps the services alive, and buries whoever the place's processes leave behind, until the place ends.
    pub fn keep(&mut self) -> Result<()> {
        loop {
            if !self.sweep()? {
                std::thread::sleep(GATE_INTERVAL);
            } else if let Some(status) = reap(WaitPidFlag::empty())? {
                self.note_end(status);
            } else {
                // A place without services has nobody to wait for; what comes later is a command's child, not ours.
                nix::unistd::pause();
            }
        }
    }

    fn note_end(&mut self, status: WaitStatus) {
        let ended = status.pid();
        let found = self
            .services
            .iter_mut()
            .find(|(_, state)| matches!(state, State::Running(pid) if Some(*pid) == ended));
        if let Some((service, state)) = found {
            eprintln!("{} ended: {status:?}; starting it again", service.name);
            *state = State::Waiting { not_before: Some(Instant::now() + RESTART_DELAY) };
        }
    }
}

/// The end of one child, whoever it is; `None` if nobody ended or there is no child.
fn reap(flag: WaitPidFlag) -> Result<Option<WaitStatus>> {
    loop {
        return match waitpid(None::<Pid>, Some(flag)) {
            Err(Errno::EINTR) => continue,
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => Ok(None),
            Ok(status) => Ok(Some(status)),
            Err(error) => Err(error).context("waiting for children"),
        };
    }
}

fn spawn(service: &Service, logs: &std::path::Path, environment: &[(&'static str, String)]) -> Result<Pid> {
    let path = logs.join(format!("{}.log", service.name));
    let log = OpenOptions::new().create(true).append(true).open(&path);
    let log = log.with_context(|| format!("{}", path.display()))?;
    let mut command = Command::new(&service.program);
    command
        .args(&service.arguments)
        .envs(environment.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    crate::process_group_of_its_own(&mut command);
    let child = command.spawn().with_context(|| format!("{}", service.program.display()))?;
    Ok(Pid::from_raw(i32::try_from(child.id())?))
}
