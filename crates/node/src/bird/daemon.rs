//! The BIRD process: started, or found alive from an earlier life of the agent; and the wait for its end.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use calico_linux::rtnl::Rtnl;
use calico_mesh::birdc::command;
use calico_net::Family;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::control::{ControlError, ask};

/// `RTPROT_BIRD`: all routes that BIRD 2 installs, and nobody else's (linux/rtnetlink.h).
const PROTOCOL_BIRD: u8 = 12;
/// The kernel's main table (linux/rtnetlink.h).
const MAIN_TABLE: u32 = 254;

/// How long a new daemon may take until its control socket answers.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is tried meanwhile.
const START_POLL: Duration = Duration::from_millis(20);

/// Where BIRD and its files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The program.
    pub program: PathBuf,
    /// Its configuration, which we write.
    pub config: PathBuf,
    /// Its control socket.
    pub socket: PathBuf,
    /// Its PID file. One that is left over tells that the last daemon did not end in order.
    pub pid_file: PathBuf,
    /// Its log.
    pub log: PathBuf,
}

impl Default for Paths {
    fn default() -> Paths {
        Paths {
            program: "/usr/sbin/bird".into(),
            config: "/var/run/calico/bird.cfg".into(),
            socket: "/var/run/calico/bird.ctl".into(),
            pid_file: "/var/run/calico/bird.pid".into(),
            log: "/var/log/calico/bird.log".into(),
        }
    }
}

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory or the log.
    #[error("cannot write {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The program cannot be run.
    #[error("cannot run {}", .program.display())]
    Spawn {
        /// Which.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ended at once, or never answered.
    #[error("BIRD did not come up ({outcome}); its log is {}", .log.display())]
    NotUp {
        /// How it ended, or that it is silent.
        outcome: String,
        /// Where to look.
        log: PathBuf,
    },
    /// A daemon is there that can be neither used nor watched.
    #[error("cannot watch process {pid}")]
    Watch {
        /// Which.
        pid: i32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A running BIRD. Dropping it leaves the process alone.
#[derive(Debug)]
pub struct Daemon {
    /// Its process.
    pub pid: i32,
    /// Whether it was there before us.
    pub adopted: bool,
    end: End,
}

#[derive(Debug)]
enum End {
    /// Our child: must be reaped.
    Child(Child),
    /// Somebody else's child.
    Stranger(Stranger),
}

impl Daemon {
    /// Waits until the process has ended, and says how. Cancel-safe.
    pub async fn wait(&mut self) -> String {
        match &mut self.end {
            End::Child(child) => match child.wait().await {
                Ok(status) => status.to_string(),
                Err(e) => e.to_string(),
            },
            End::Stranger(stranger) => {
                // An error is the watching thread's end: the process can be watched no longer.
                let ended = (&mut stranger.ended).await;
                ended.map_or("it cannot be watched any longer", |()| "it has ended").to_owned()
            }
        }
    }
}

/// Takes over a daemon that answers on the socket, if there is one. One that holds the PID file and does not answer
/// is killed: two daemons would fight over the same routes.
pub async fn adopt(paths: &Paths) -> Result<Option<Daemon>, StartError> {
    match ask(&paths.socket, command::STATUS).await {
        Ok(answer) => {
            let Some(pid) = answer.pid else { return Ok(None) };
            let end = End::Stranger(Stranger::watch(pid)?);
            Ok(Some(Daemon { pid, adopted: true, end }))
        }
        Err(ControlError::Socket(_)) => Ok(None),
        Err(ControlError::Silent | ControlError::Refused(_)) => {
            if let Some(pid) = read_own_pid(paths) {
                tracing::warn!(pid, "a BIRD of an earlier life does not answer; killing it");
                let stranger = Stranger::watch(pid)?;
                rustix::process::pidfd_send_signal(&*stranger.pidfd, Signal::KILL)
                    .map_err(|errno| StartError::Watch { pid, source: errno.into() })?;
                // Sent or dropped: either way nobody watches it any longer.
                let _ = stranger.ended.await;
            }
            Ok(None)
        }
    }
}

/// Starts a daemon and waits until it answers. It is in a process group of its own and survives us.
pub async fn spawn(paths: &Paths) -> Result<Daemon, StartError> {
    let Paths { program, config, socket, pid_file, log } = paths;
    for path in [socket, pid_file, log] {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)
                .map_err(|source| StartError::File { path: directory.to_owned(), source })?;
        }
    }
    // What it says before it has read where to log. Not a pipe: it must not end with us.
    let output = File::options()
        .create(true)
        .append(true)
        .open(log)
        .map_err(|source| StartError::File { path: log.clone(), source })?;
    let error_output = output.try_clone().map_err(|source| StartError::File { path: log.clone(), source })?;
    let recovers = needs_recovery(paths);
    let mut command = Command::new(program);
    command.arg("-f").arg("-c").arg(config).arg("-s").arg(socket).arg("-P").arg(pid_file);
    if recovers {
        command.arg("-R");
    }
    command.stdin(Stdio::null()).stdout(output).stderr(error_output).process_group(0).kill_on_drop(false);
    let mut child =
        command.spawn().map_err(|source| StartError::Spawn { program: program.clone(), source })?;
    let pid = child.id().map_or(0, u32::cast_signed);
    let not_up = |outcome: String| StartError::NotUp { outcome, log: log.clone() };
    let deadline = Instant::now() + START_TIMEOUT;
    loop {
        tokio::select! {
            status = child.wait() => return Err(not_up(status.map_or_else(|e| e.to_string(), |s| s.to_string()))),
            () = sleep(START_POLL) => {}
        }
        match ask(socket, command::STATUS).await {
            Ok(answer) if answer.pid == Some(pid) => break,
            _ if Instant::now() < deadline => {}
            _ => {
                // It would hold the port and the routes against its successor.
                let killed = child.kill().await.map_or_else(|e| e.to_string(), |()| "killed".to_owned());
                return Err(not_up(format!("no answer for {} s; {killed}", START_TIMEOUT.as_secs())));
            }
        }
    }
    tracing::info!(pid, recovers, "BIRD is up");
    Ok(Daemon { pid, adopted: false, end: End::Child(child) })
}

/// Whether the daemon must take care of what an earlier one left (`-R`): routes in the kernel that must stay until
/// they are learned again, and peers that keep ours only if we say that we are restarting.
///
/// Never without need: a recovering daemon installs no route until every peer has answered or the wait has ended, so
/// one dead peer would keep a new node without routes for that long.
fn needs_recovery(paths: &Paths) -> bool {
    paths.pid_file.exists() || read_has_routes()
}

/// Whether the kernel has routes of BIRD's. If it cannot be read, it is safer to believe so.
fn read_has_routes() -> bool {
    let read = || {
        let mut rtnl = Rtnl::open()?;
        rtnl.read_links()?;
        for family in Family::ALL {
            if rtnl.read_routes(family, MAIN_TABLE)?.iter().any(|r| r.protocol == PROTOCOL_BIRD) {
                return Ok(true);
            }
        }
        Ok(false)
    };
    read().unwrap_or_else(|error: calico_linux::rtnl::RtnlError| {
        tracing::warn!(error = &error as &dyn std::error::Error, "cannot look for routes of an earlier BIRD");
        true
    })
}

/// The process of the PID file, if it is alive and was started for our socket.
fn read_own_pid(paths: &Paths) -> Option<i32> {
    let pid: i32 = fs::read_to_string(&paths.pid_file).ok()?.trim().parse().ok()?;
    let arguments = fs::read(Path::new("/proc").join(pid.to_string()).join("cmdline")).ok()?;
    let socket = paths.socket.as_os_str().as_encoded_bytes();
    arguments.split(|byte| *byte == 0).any(|argument| argument == socket).then_some(pid)
}

/// A process that is not our child.
#[derive(Debug)]
struct Stranger {
    pidfd: Arc<OwnedFd>,
    ended: oneshot::Receiver<()>,
}

impl Stranger {
    /// Watches a process. The thread that waits for its end outlives nobody but the process.
    fn watch(pid: i32) -> Result<Stranger, StartError> {
        let error = |source| StartError::Watch { pid, source };
        let raw = Pid::from_raw(pid).ok_or_else(|| error(io::ErrorKind::InvalidInput.into()))?;
        let pidfd = pidfd_open(raw, PidfdFlags::empty()).map_err(|errno| error(errno.into()))?;
        let pidfd = Arc::new(pidfd);
        let (sender, ended) = oneshot::channel();
        let watched = pidfd.clone();
        let wait = move || {
            // Readable when the process ends. Signals interrupt the wait.
            let mut fds = [PollFd::new(watched.as_fd(), PollFlags::POLLIN)];
            while poll(&mut fds, PollTimeout::NONE) == Err(Errno::EINTR) {}
            // Whoever has stopped listening does not want to know.
            let _ = sender.send(());
        };
        std::thread::Builder::new().name("bird-watch".into()).spawn(wait).map_err(error)?;
        Ok(Stranger { pidfd, ended })
    }
}
