//! Files that we write: none with somebody else's rights, none that others may write, no secret that others may read.
//! All of it is written without a umask, as some supervisors start their children. The image's files are a test of
//! `xtask`, the plugins' kubeconfig and keys of `calico-cni`.

use std::fs::File;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::lab::{Lab, Running, text, wait_for};

/// Prints what is wrong in directories.
const WRONG: &str = "find DIRS ! -type l '(' -perm /6000 -o -perm /0002 ')' -printf '%m %p\\n'";

fn wrong(lab: &Lab, dirs: &str) -> String {
    lab.sh("node1", &WRONG.replace("DIRS", dirs))
}

/// The mode of a file on the node.
fn mode(lab: &Lab, path: &str) -> String {
    lab.sh("node1", &format!("stat -c %a {path}")).trim().to_owned()
}

/// An agent of our own on the node.
struct Agent {
    pid: i32,
    _running: Running,
}

impl Agent {
    fn start(lab: &Lab, line: &str) -> Agent {
        let pid_file = lab.dir().join("own-agent.pid");
        let log = File::create(lab.dir().join("own-agent.log")).expect("the lab's directory");
        let line = format!("umask 0; echo $$ > {}; exec {line}", pid_file.display());
        let mut command = lab.command("node1", &line);
        command.stdout(Stdio::from(log.try_clone().expect("a descriptor"))).stderr(Stdio::from(log));
        let running = Running(command.spawn().expect("an agent"));
        wait_for("its pid", || std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')));
        let pid = std::fs::read_to_string(&pid_file).expect("its pid");
        Agent { pid: pid.trim().parse().expect("a number"), _running: running }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Err(error) = kill(Pid::from_raw(self.pid), Signal::SIGTERM) {
            println!("the agent is gone already: {error}");
        }
    }
}

#[test]
fn what_is_written_is_nobody_elses() {
    let Some(lab) = Lab::up("files", &["--nodes", "1"]) else { return };
    let _stopped = lab.stop_agent("node1");
    lab.sh("node1", "calico node cleanup");
    lab.sh("node1", "rm -rf /var/lib/calico/* /var/log/calico/* /run/calico/*");
    let environment = "IP=autodetect IP6=autodetect CALICO_IPV4POOL_CIDR=10.244.0.0/16 CALICO_IPV4POOL_IPIP=Never \
                       FELIX_HEALTHENABLED=true CALICO_DATASTORE_PATH=/var/lib/calico/datastore/calico.db";
    let agent = Agent::start(&lab, &format!("env {environment} calico node"));
    lab.wait_ready("node1");
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.pid)).expect("the agent lives");
    assert!(status.contains("Umask:\t0022"), "{status}");

    let first_write = "calicoctl ipam configure --strictaffinity false";
    lab.sh("node1", &format!("umask 0; CALICO_DATASTORE_PATH=/run/calico/second/calico.db {first_write}"));
    lab.sh("node1", &installer(&lab));
    let dirs = "/var/lib/calico /var/log/calico /run/calico /etc/calico";
    let written = lab.sh("node1", &format!("find {dirs} -printf '%m %p\\n'"));
    println!("{written}");
    for expected in
        ["nodename", "mtu", "bird.cfg", "bird.log", "bird.ctl", "cni.sock", "host/opt/cni/bin/calico"]
    {
        assert!(written.contains(expected), "{expected} is not in\n{written}");
    }
    assert_eq!(wrong(&lab, dirs), "");
    for private in [
        "/var/lib/calico/datastore/calico.db",
        "/var/lib/calico/datastore/calico.db-wal",
        "/run/calico/second/calico.db",
        "/run/calico/bird.cfg",
        "/run/calico/cni.sock",
        "/run/calico/root/host/etc/cni/net.d/10-calico.conflist",
        "/run/calico/root/host/etc/cni/net.d/calico-tls/etcd-key",
    ] {
        assert_eq!(mode(&lab, private), "600", "{private}");
    }

    // The control: what others leave without a umask is seen.
    lab.sh("node1", "umask 0; touch /run/calico/planted; install -m 4755 /bin/true /run/calico/planted-too");
    assert_eq!(wrong(&lab, dirs).lines().count(), 2);
}

/// Runs `install-cni` on a host of its own: the shipped paths, in a root that is thrown away.
fn installer(lab: &Lab) -> String {
    let binary = lab.dir().join("bin/calico");
    let root = "/run/calico/root";
    format!(
        "set -e; umask 022; mkdir -p {root}/proc {root}/tls {root}/host/opt/cni/bin {root}/host/etc/cni {root}/opt/cni/bin; \
         echo secret > {root}/tls/etcd-key; touch {root}/calico; \
         exec unshare -m sh -ec 'mount --bind {binary} {root}/calico; mount -t proc proc {root}/proc; umask 0; \
         exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin SLEEP=false TLS_ASSETS_DIR=/tls chroot {root} /calico install-cni' 2>&1",
        binary = std::fs::canonicalize(binary).expect("the binary").display(),
    )
}

#[test]
fn logs_tell_no_password() {
    let Some(lab) = Lab::up("secrets", &["--nodes", "1"]) else { return };
    const SECRET: &str = "correct-horse-battery";
    let etcd = format!(
        "CALICO_LOG=trace DATASTORE_TYPE=etcdv3 ETCD_ENDPOINTS=http://127.0.0.1:1 ETCD_USERNAME=somebody ETCD_PASSWORD={SECRET}"
    );
    for command in ["calicoctl get nodes", "calico node startup"] {
        let output = lab.try_sh("node1", &format!("env {etcd} timeout 5 {command} 2>&1"));
        let said = text(&output.stdout);
        // The control: the rest of what it was told is there.
        assert!(said.contains("127.0.0.1:1"), "{command}: {said}");
        assert!(!said.contains(SECRET), "{command}: {said}");
    }
}
