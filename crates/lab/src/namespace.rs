//! Entering and creating namespaces for child processes.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, setns, unshare};

/// The namespaces of a process, held open so that they can be entered.
pub struct Namespaces {
    mount: OwnedFd,
    network: OwnedFd,
    host: OwnedFd,
}

impl Namespaces {
    /// Mount, network and host-name namespaces of a process.
    pub fn of_node(pid: i32) -> Result<Namespaces> {
        let open = |kind: &str| -> Result<OwnedFd> {
            let path = format!("/proc/{pid}/ns/{kind}");
            Ok(File::open(&path).with_context(|| format!("{path}: is the lab still up?"))?.into())
        };
        Ok(Namespaces { mount: open("mnt")?, network: open("net")?, host: open("uts")? })
    }

    /// Makes `command` run inside, from `/`.
    pub fn enter(self, command: &mut Command) {
        let Namespaces { mount, network, host } = self;
        let enter = move || {
            setns(&host, CloneFlags::CLONE_NEWUTS)?;
            setns(&network, CloneFlags::CLONE_NEWNET)?;
            setns(&mount, CloneFlags::CLONE_NEWNS)?;
            Ok(())
        };
        command.current_dir("/");
        // SAFETY: between fork and exec the closure only makes setns system calls on descriptors that it owns; it
        // neither allocates nor takes locks.
        unsafe { command.pre_exec(enter) };
    }
}

/// Makes `command` run in fresh namespaces of the kinds given.
pub fn isolate(command: &mut Command, kinds: CloneFlags) {
    let isolate = move || Ok(unshare(kinds)?);
    // SAFETY: between fork and exec the closure makes one system call and touches no memory of the parent.
    unsafe { command.pre_exec(isolate) };
}

/// Makes `command` run in a fresh network namespace inside the other namespaces of a process.
pub fn enter_with_own_network(command: &mut Command, pid: i32) -> Result<()> {
    let Namespaces { mount, network: _, host } = Namespaces::of_node(pid)?;
    let enter = move || {
        setns(&host, CloneFlags::CLONE_NEWUTS)?;
        setns(&mount, CloneFlags::CLONE_NEWNS)?;
        unshare(CloneFlags::CLONE_NEWNET)?;
        Ok(())
    };
    command.current_dir("/");
    // SAFETY: as in `enter`: only system calls on descriptors that the closure owns.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

/// The identity of a process's mount namespace, as `/proc/PID/ns/mnt` shows it; `None` if it is gone.
pub fn mount_namespace(pid: i32) -> Option<String> {
    Some(std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok()?.display().to_string())
}

/// Makes `command` run in the network namespace of a process, and elsewhere where it is.
pub fn enter_network(command: &mut Command, pid: i32) -> Result<()> {
    let path = format!("/proc/{pid}/ns/net");
    let network: OwnedFd = File::open(&path).with_context(|| format!("{path}: is the lab still up?"))?.into();
    let enter = move || Ok(setns(&network, CloneFlags::CLONE_NEWNET)?);
    // SAFETY: between fork and exec the closure makes one system call on a descriptor that it owns.
    unsafe { command.pre_exec(enter) };
    Ok(())
}

/// Moves this process, which has one thread, into every namespace of another; its children are in the other's process
/// namespace too.
pub fn enter_all(pid: i32) -> Result<()> {
    let kinds = [
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("net", CloneFlags::CLONE_NEWNET),
        ("pid", CloneFlags::CLONE_NEWPID),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    // All are opened first: in the other's mount namespace `/proc` counts other numbers.
    let opened = kinds.map(|(name, kind)| {
        let path = format!("/proc/{pid}/ns/{name}");
        File::open(&path).context(path).map(|file| (file, kind))
    });
    for namespace in opened {
        let (file, kind) = namespace?;
        setns(file, kind).with_context(|| format!("{kind:?}"))?;
    }
    std::env::set_current_dir("/").context("/")
}
