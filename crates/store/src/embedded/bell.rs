//! The bell: a file beside the database that a writer touches after its commit, to wake the watchers of all
//! processes.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::schema::{beside, private_file};

/// The writer's side.
#[derive(Debug)]
pub(super) struct Bell(File);

impl Bell {
    /// The bell of a database.
    pub(super) fn path(database: &Path) -> PathBuf {
        beside(database, "-bell")
    }

    /// Opens the bell, creating it if there is none.
    pub(super) fn open(database: &Path) -> std::io::Result<Bell> {
        private_file(&Bell::path(database)).map(Bell)
    }

    /// Wakes every listener. The byte has no meaning; that it is written has.
    pub(super) fn ring(&self) {
        if let Err(error) = self.0.write_at(b"!", 0) {
            // Listeners also poll, so this costs a second of delay and no event.
            tracing::debug!(%error, "cannot ring the datastore's bell");
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::Listener;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::fd::AsFd;
    use std::path::Path;
    use std::time::Duration;

    use inotify::{Inotify, WatchMask};
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    /// The reader's side: inotify on the bell, with a poll behind it for a bell that could not be rung (its writer
    /// died between commit and ring, or the file was replaced).
    #[derive(Debug)]
    pub(in super::super) struct Listener {
        inotify: Inotify,
        buffer: [u8; 4096],
    }

    /// How long a wait lasts when no bell rings: what an unrung commit costs in delay at worst.
    const POLL: Duration = Duration::from_secs(1);

    impl Listener {
        pub(in super::super) fn new(database: &Path) -> std::io::Result<Listener> {
            let inotify = Inotify::init()?;
            inotify.watches().add(super::Bell::path(database), WatchMask::MODIFY)?;
            Ok(Listener { inotify, buffer: [0; 4096] })
        }

        /// Waits for a ring, or for at most the given time or a second.
        pub(in super::super) fn wait(&mut self, at_most: Duration) -> std::io::Result<()> {
            let timeout = at_most.min(POLL).as_millis();
            let timeout = PollTimeout::from(u16::try_from(timeout).unwrap_or(1000));
            let mut fds = [PollFd::new(self.inotify.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, timeout) {
                Ok(0) | Err(nix::errno::Errno::EINTR) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(error.into()),
            }
            match self.inotify.read_events(&mut self.buffer) {
                Ok(_) => Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(()),
                Err(error) => Err(error),
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) use portable::Listener;

#[cfg(not(target_os = "linux"))]
mod portable {
    use std::path::Path;
    use std::time::Duration;

    /// The reader's side without inotify: a poll.
    #[derive(Debug)]
    pub(in super::super) struct Listener;

    /// How long a wait lasts: short enough for a person who waits for an answer; these builds serve people, not
    /// nodes.
    const POLL: Duration = Duration::from_millis(200);

    impl Listener {
        pub(in super::super) fn new(_database: &Path) -> std::io::Result<Listener> {
            Ok(Listener)
        }

        /// Waits for at most the given time or the poll's interval.
        pub(in super::super) fn wait(&mut self, at_most: Duration) -> std::io::Result<()> {
            std::thread::sleep(at_most.min(POLL));
            Ok(())
        }
    }
}
