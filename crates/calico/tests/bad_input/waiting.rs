//! `WAIT_FOR_DATASTORE`: what may mend by itself is waited for, also where opening the datastore fails already. The reason
//! is said once, and whoever waits can be stopped.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(30);

const WAITING: &str = "waiting for the datastore";

/// Mounts of its own, with nothing of the machine's state in sight, and a disk without a free page.
const FULL_DISK: &str = "mount -t tmpfs none /run && mount -t tmpfs -o size=4m none /var/lib && \
                         ! head -c 8m /dev/zero 2>/dev/null > /var/lib/filler && exec ";

/// A process in namespaces of its own, and what it has said.
struct Start {
    child: Child,
    log: tempfile::NamedTempFile,
}

impl Start {
    fn new(command: &str, variables: &[(&str, &str)]) -> Start {
        let log = tempfile::NamedTempFile::new().unwrap();
        let script = format!("{FULL_DISK} {} {command}", env!("CARGO_BIN_EXE_calico"));
        let child = Command::new("unshare")
            .args(["-nm", "sh", "-c", &script])
            .env_clear()
            .env("PATH", std::env::var("PATH").unwrap_or_default())
            .envs([("NO_COLOR", "1"), ("NODENAME", "n"), ("CALICO_NETWORKING_BACKEND", "none")])
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::from(log.reopen().unwrap()))
            .stderr(Stdio::from(log.reopen().unwrap()))
            .spawn()
            .unwrap();
        Start { child, log }
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }

    fn reasons(&self) -> usize {
        self.said().matches(WAITING).count()
    }

    fn wait_for_reason(&mut self) {
        let start = Instant::now();
        while self.reasons() == 0 {
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.said());
            assert!(start.elapsed() < PATIENCE, "{}", self.said());
            // A file that another process writes is looked at again and again.
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn end(&mut self) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(start.elapsed() < PATIENCE, "it does not end: {}", self.said());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Start {
    fn drop(&mut self) {
        // It has ended already where all is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const EMBEDDED: [(&str, &str); 2] =
    [("DATASTORE_TYPE", "embedded"), ("CALICO_DATASTORE_PATH", "/var/lib/calico/store.db")];

#[test]
fn a_full_disk_is_waited_for() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: namespaces need root");
        return;
    }
    let told = [EMBEDDED[0], EMBEDDED[1], ("WAIT_FOR_DATASTORE", "true")];
    let mut start = Start::new("node startup", &told);
    start.wait_for_reason();
    let filler = format!("/proc/{}/root/var/lib/filler", start.child.id());
    std::fs::remove_file(filler).unwrap();
    assert!(start.end().success(), "{}", start.said());
    // The control: who is not told to wait does not.
    let mut start = Start::new("node startup", &EMBEDDED);
    assert_eq!((start.end().code(), start.reasons()), (Some(1), 0), "{}", start.said());
}

#[test]
fn etcd_with_a_login_is_waited_for_and_the_agent_can_be_stopped() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: namespaces need root");
        return;
    }
    // Nobody answers: the network namespace is empty.
    let etcd = [
        ("DATASTORE_TYPE", "etcdv3"),
        ("ETCD_ENDPOINTS", "http://127.0.0.1:1"),
        ("ETCD_USERNAME", "u"),
        ("ETCD_PASSWORD", "p"),
        ("WAIT_FOR_DATASTORE", "true"),
    ];
    let mut start = Start::new("node", &etcd);
    start.wait_for_reason();
    // Long enough for two further tries.
    let tries = Instant::now();
    while tries.elapsed() < Duration::from_secs(2) {
        assert!(start.child.try_wait().unwrap().is_none(), "it ended: {}", start.said());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(start.reasons(), 1, "{}", start.said());
    kill(Pid::from_raw(start.child.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(start.end().success(), "{}", start.said());
    assert!(start.said().contains("cannot connect to etcd at http://127.0.0.1:1"), "{}", start.said());
}
