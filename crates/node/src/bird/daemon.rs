//! The BIRD process: started, or found alive from an earlier life of the agent; and the wait for its end.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use calico_mesh::birdc::command;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::control::{Answer, ControlError, ask};
use super::process::read_birds;
use super::routes::read_bird_routes;

/// How long a new daemon may take until its control socket answers.
const START_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is tried meanwhile.
const START_POLL: Duration = Duration::from_millis(20);
/// How long a daemon that lives but cannot be reached on its socket is tried before it is taken for lost: it may be
/// about to open it.
const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a daemon may leave us without an answer before it is taken for lost. One silence may be a long
/// recalculation, or a machine that is short of CPU.
const SILENCES: u32 = 3;
/// The wait between such tries.
const ADOPT_POLL: Duration = Duration::from_millis(100);

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
    /// Whether a daemon is there cannot be told.
    #[error("cannot look for running BIRDs")]
    Look(#[source] io::Error),
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

    /// Kills the process and waits for its end.
    pub async fn kill(&mut self) -> io::Result<()> {
        match &mut self.end {
            End::Child(child) => child.kill().await,
            End::Stranger(stranger) => stranger.kill().await,
        }
    }
}

/// Takes over a daemon that answers on the socket, if there is one. One of ours that lives but cannot be talked to,
/// for all our patience, is killed: two daemons would fight over the same routes.
///
/// Killed, not told to end: in order it would take leave of its peers, and they would drop our routes; when it is just
/// gone, they keep them until its successor is back.
pub async fn adopt(paths: &Paths) -> Result<Option<Daemon>, StartError> {
    let deadline = Instant::now() + SOCKET_TIMEOUT;
    let mut silences = 0;
    loop {
        match ask(&paths.socket, command::STATUS).await {
            Ok(Answer { pid: Some(pid), .. }) => {
                let end = End::Stranger(Stranger::watch(pid)?);
                return Ok(Some(Daemon { pid, adopted: true, end }));
            }
            // Nobody is there to listen; or somebody has lost its socket, which says nothing about its routes.
            Ok(Answer { pid: None, .. }) | Err(ControlError::Socket(_)) => {
                if read_own(paths)?.is_empty() {
                    return Ok(None);
                }
                if Instant::now() >= deadline {
                    break;
                }
            }
            Err(ControlError::Silent | ControlError::Refused(_)) => {
                silences += 1;
                if silences >= SILENCES {
                    break;
                }
            }
        }
        sleep(ADOPT_POLL).await;
    }
    for pid in read_own(paths)? {
        tracing::warn!(pid, "a BIRD of an earlier life cannot be talked to; killing it");
        let killed = Stranger::watch(pid)?.kill().await;
        killed.map_err(|source| StartError::Watch { pid, source })?;
    }
    Ok(None)
}

/// The BIRDs that were started for our socket.
fn read_own(paths: &Paths) -> Result<Vec<i32>, StartError> {
    let birds = read_birds(paths).map_err(StartError::Look)?;
    Ok(birds.into_iter().filter(|bird| bird.is_ours).map(|bird| bird.pid).collect())
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
    read_bird_routes().map_or_else(
        |error| {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "cannot look for routes of an earlier BIRD");
            true
        },
        |routes| !routes.is_empty(),
    )
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

    async fn kill(&mut self) -> io::Result<()> {
        match rustix::process::pidfd_send_signal(&*self.pidfd, Signal::KILL) {
            // It was faster.
            Ok(()) | Err(rustix::io::Errno::SRCH) => {}
            Err(errno) => return Err(errno.into()),
        }
        if !self.ended.is_terminated() {
            // Sent or dropped: either way nobody watches it any longer.
            let _ = (&mut self.ended).await;
        }
        Ok(())
    }
}
