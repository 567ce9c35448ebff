//! A Kubernetes cluster of a test's own, taken down however the test ends; and what it may not leave behind.

#![allow(dead_code, reason = "each test uses its part")]

use std::collections::BTreeSet;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_calico");
/// How long anything that the cluster does by itself may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(200);

/// Whether a condition holds before the deadline.
pub fn until(deadline: Duration, condition: impl FnMut() -> bool) -> bool {
    calico_lab::until(deadline, POLL, condition)
}

/// A cluster of the lab.
pub struct Cluster {
    dir: PathBuf,
}

impl Cluster {
    /// Starts a cluster; `None`, and a word why, where that is impossible.
    pub fn up(name: &str, arguments: &[&str]) -> Option<Cluster> {
        let cluster = Cluster::unbuilt(name)?;
        let output = cluster.k8s(&["up"]).args(arguments).output().expect("calico lab k8s up");
        assert!(output.status.success(), "{}", text(&output.stderr));
        println!("{}{}", text(&output.stderr), text(&output.stdout));
        Some(cluster)
    }

    /// A cluster of which nothing runs; `None`, and a word why, where none can.
    pub fn unbuilt(name: &str) -> Option<Cluster> {
        if std::fs::metadata("/proc/self").is_ok_and(|m| m.uid() != 0) {
            eprintln!("skipped: a cluster needs root");
            return None;
        }
        let parts = std::env::var_os("CALICO_LAB_PARTS")
            .map(PathBuf::from)
            .or_else(|| Some(Path::new(&std::env::var_os("HOME")?).join(".cache/calico-lab")))?;
        for program in ["hyperkube", "coredns", "pause"] {
            if !parts.join("bin").join(program).is_file() {
                eprintln!("skipped: no {program} in {}; `make k8s-parts` builds it", parts.display());
                return None;
            }
        }
        let dir = PathBuf::from(format!("/var/cache/calico-lab/test-{name}-{}", std::process::id()));
        Some(Cluster { dir })
    }

    /// A `calico lab k8s` command of this cluster.
    pub fn k8s(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.arg("lab").arg("--dir").arg(&self.dir).arg("k8s").args(arguments).stdin(Stdio::null());
        command
    }

    /// kubectl; what it printed.
    pub fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(output.status.success(), "kubectl {arguments:?}: {}{}", text(&output.stderr), self.events());
        text(&output.stdout)
    }

    /// kubectl, whatever its exit code.
    pub fn try_kubectl(&self, arguments: &[&str]) -> Output {
        self.k8s(&["kubectl"]).args(arguments).output().expect("kubectl")
    }

    /// Applies a manifest.
    pub fn apply(&self, manifest: &str) {
        let mut kubectl = self.k8s(&["kubectl", "apply", "-f", "-"]);
        let piped = kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().expect("kubectl");
        child.stdin.take().expect("its input").write_all(manifest.as_bytes()).expect("read by kubectl");
        let output = child.wait_with_output().expect("kubectl");
        assert!(output.status.success(), "kubectl apply: {}", text(&output.stderr));
    }

    /// One field of one object, as kubectl's jsonpath.
    pub fn field(&self, object: &str, path: &str) -> String {
        self.kubectl(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    /// A command in a place of the lab, whatever its exit code.
    pub fn exec(&self, place: &str, arguments: &[&str]) -> Output {
        self.k8s(&["exec", place, "--"]).args(arguments).output().expect("calico lab k8s exec")
    }

    /// The pod of a label on a node.
    pub fn pod_on(&self, label: &str, node: &str) -> String {
        let selector = format!("spec.nodeName={node},status.phase=Running");
        let names = ["get", "pods", "-l", label, "--field-selector", &selector, "-o", "name"];
        let name = self.kubectl(&names);
        name.lines().next().unwrap_or_else(|| panic!("no pod {label} on {node}{}", self.events())).to_owned()
    }

    /// Waits until a command in a pod succeeds and gives what is expected; what it gave.
    pub fn in_pod(
        &self,
        what: &str,
        pod: &str,
        arguments: &[&str],
        expected: impl Fn(&str) -> bool,
    ) -> String {
        self.eventually(what, expected, || {
            self.k8s(&["kubectl", "exec", pod, "--"]).args(arguments).output().expect("kubectl exec")
        })
    }

    /// Waits until a command succeeds and gives what is expected; what it gave.
    pub fn eventually(
        &self,
        what: &str,
        expected: impl Fn(&str) -> bool,
        run: impl Fn() -> Output,
    ) -> String {
        let mut last = run();
        let fits = |output: &Output| output.status.success() && expected(&text(&output.stdout));
        let held = fits(&last)
            || until(PATIENCE, || {
                last = run();
                fits(&last)
            });
        let said = text(&last.stdout);
        assert!(
            held,
            "waited {} s for: {what}; last {}: {said}{}{}",
            PATIENCE.as_secs(),
            last.status,
            text(&last.stderr),
            self.events()
        );
        said
    }

    /// Waits until a command ends with this exit code.
    pub fn eventually_fails(&self, what: &str, code: i32, run: impl Fn() -> Output) {
        let mut last = run();
        let fails = |output: &Output| output.status.code() == Some(code);
        let held = fails(&last)
            || until(PATIENCE, || {
                last = run();
                fails(&last)
            });
        let said = format!("{}{}", text(&last.stdout), text(&last.stderr));
        assert!(held, "waited {} s for: {what}; last {}: {said}", PATIENCE.as_secs(), last.status);
    }

    /// Pods and events, for whoever must say why something did not happen.
    pub fn events(&self) -> String {
        let output = self.try_kubectl(&["get", "pods,events", "-A", "-o", "wide"]);
        format!("\n{}", text(&output.stdout))
    }

    /// What every process of the lab has in its environment.
    fn mark(&self) -> String {
        let state = std::fs::read(self.dir.join("cluster.json")).expect("the cluster's state");
        let state: Value = serde_json::from_slice(&state).expect("JSON");
        state["mark"].as_str().expect("a mark").to_owned()
    }

    /// The process of one of the lab's programs; the first, where every node has one.
    pub fn pid_of(&self, program: &str) -> Option<i32> {
        self.pids_of(program).first().copied()
    }

    /// The processes of one of the lab's programs.
    pub fn pids_of(&self, program: &str) -> Vec<i32> {
        let mark = self.mark();
        let named = |pid: i32| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|c| c.trim() == program)
        };
        processes().filter(|pid| named(*pid) && is_marked(*pid, &mark)).collect()
    }

    /// The processes on a node, in containers or not, that were started by this word alone.
    pub fn on_node(&self, node: &str, command: &str) -> Vec<i32> {
        let group = format!("{}/{node}/", group_of(&self.mark()));
        let command = format!("{command}\0");
        let is_it =
            |pid: i32| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|c| c == command.as_bytes());
        // Of a node's own programs the group is that of the node; a slash more keeps node1 from being node10.
        let is_there = |pid: i32| {
            let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
            groups.lines().any(|line| format!("{line}/").contains(&group))
        };
        processes().filter(|pid| is_it(*pid) && is_there(*pid)).collect()
    }

    /// Kills a program and waits for its successor.
    pub fn kill(&self, program: &str) {
        let old = self.pid_of(program).unwrap_or_else(|| panic!("no {program} runs"));
        kill(Pid::from_raw(old), Signal::SIGKILL).expect("it lives");
        let came_back = until(PATIENCE, || self.pid_of(program).is_some_and(|pid| pid != old));
        assert!(came_back, "{program} did not come back");
    }

    /// Where the lab keeps everything.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What the cluster must not leave behind.
    pub fn traces(&self) -> Traces {
        let mark = self.mark();
        let group = group_of(&mark);
        let ours: Vec<i32> =
            processes().filter(|pid| in_group(*pid, &group) || is_marked(*pid, &mark)).collect();
        let namespaces: BTreeSet<String> = ours.into_iter().flat_map(namespaces).collect();
        let of_machine: BTreeSet<String> = namespaces_of_init();
        Traces {
            dir: self.dir.clone(),
            mark,
            group,
            namespaces: namespaces.difference(&of_machine).cloned().collect(),
        }
    }

    /// Takes the cluster down.
    pub fn down(self) {
        let output = self.k8s(&["down"]).output().expect("calico lab k8s down");
        assert!(output.status.success(), "{}", text(&output.stderr));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if !self.dir.exists() {
            return;
        }
        match self.k8s(&["down"]).output() {
            Ok(output) if output.status.success() => {}
            Ok(output) => eprintln!("calico lab k8s down: {}", text(&output.stderr)),
            Err(error) => eprintln!("calico lab k8s down: {error}"),
        }
    }
}

/// What belongs to one cluster, to be looked for when it should be gone.
pub struct Traces {
    dir: PathBuf,
    mark: String,
    group: String,
    /// Namespaces of its places and pods, as `/proc/PID/ns/*` names them.
    pub namespaces: BTreeSet<String>,
}

impl Traces {
    /// Everything of the cluster that is still there, one line each.
    pub fn left(&self) -> Vec<String> {
        let mut left = Vec::new();
        if self.dir.exists() {
            left.push(format!("directory {}", self.dir.display()));
        }
        for pid in processes().filter(|pid| !is_zombie(*pid)) {
            if is_marked(pid, &self.mark) || in_group(pid, &self.group) {
                left.push(format!("process {pid}"));
            }
            left.extend(
                namespaces(pid).filter(|n| self.namespaces.contains(n)).map(|n| format!("{n} of {pid}")),
            );
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").expect("mounts");
        let dir = self.dir.display().to_string();
        let ours = mounts.lines().filter(|line| line.contains(&dir) || line.contains(&self.group));
        left.extend(ours.map(|line| format!("mount {line}")));
        for hierarchy in std::fs::read_dir("/sys/fs/cgroup").expect("cgroups").flatten() {
            for path in [hierarchy.path(), hierarchy.path().join(&self.group)] {
                if path.ends_with(&self.group) && path.exists() {
                    left.push(format!("cgroup {}", path.display()));
                }
            }
        }
        left
    }
}

/// Settings of the whole machine that Kubernetes' programs like to change.
pub fn machine_settings() -> Vec<(&'static str, String)> {
    [
        "vm/overcommit_memory",
        "vm/panic_on_oom",
        "kernel/panic",
        "kernel/panic_on_oops",
        "kernel/keys/root_maxkeys",
        "net/ipv4/ip_forward",
        "net/ipv6/conf/all/forwarding",
        "net/bridge/bridge-nf-call-iptables",
        "net/netfilter/nf_conntrack_max",
    ]
    .into_iter()
    .map(|name| (name, std::fs::read_to_string(Path::new("/proc/sys").join(name)).unwrap_or_default()))
    .collect()
}

/// The cgroup of a lab's nodes.
fn group_of(mark: &str) -> String {
    format!("calico-lab-{}", mark.split('-').next().expect("a first part"))
}

fn processes() -> impl Iterator<Item = i32> {
    std::fs::read_dir("/proc").expect("/proc").flatten().filter_map(|e| e.file_name().to_str()?.parse().ok())
}

/// Whether a process has ended and only waits for its parent, or for the machine's first process, to bury it.
fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}

fn is_marked(pid: i32, mark: &str) -> bool {
    let wanted = format!("CALICO_LAB_MARK={mark}");
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes())
}

fn in_group(pid: i32, group: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default().contains(group)
}

fn namespaces(pid: i32) -> impl Iterator<Item = String> {
    let kinds = ["cgroup", "ipc", "mnt", "net", "pid", "uts"];
    kinds.into_iter().filter_map(move |kind| {
        Some(std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?.display().to_string())
    })
}

fn namespaces_of_init() -> BTreeSet<String> {
    namespaces(1).chain(namespaces(i32::try_from(std::process::id()).expect("a pid"))).collect()
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
