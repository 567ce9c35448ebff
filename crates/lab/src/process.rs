//! Running and ending processes: output on failure, exit codes, and never a name where a pid is meant.

use std::process::{Command, ExitCode, ExitStatus, Output};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::namespace::mount_namespace;
use crate::wait::until;

/// Runs a command to its end; its standard output, or an error with what it said.
pub fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let arguments: Vec<_> = command.get_args().map(|a| a.to_string_lossy().into_owned()).collect();
    let Output { status, stdout, stderr } =
        command.output().with_context(|| format!("cannot run {program}"))?;
    if !status.success() {
        bail!(
            "{program} {}: {status}: {}{}",
            arguments.join(" "),
            String::from_utf8_lossy(&stderr).trim(),
            String::from_utf8_lossy(&stdout).trim()
        );
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// A child's status as our own exit code; 128 + signal when it was killed, as shells say it.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// Ends every process that lives in the mount namespace `identity`, and waits until they are gone.
pub fn end_all_in(identity: &str) -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        // A dying parent's supervisor may start one more child: sweep until a sweep finds nobody.
        let gone = until(Duration::from_secs(2), Duration::from_millis(10), || {
            let pids = members(identity);
            for pid in &pids {
                let _ = kill(Pid::from_raw(*pid), signal);
            }
            pids.is_empty()
        });
        if gone {
            return Ok(());
        }
    }
    bail!("processes {:?} outlive SIGKILL", members(identity))
}

/// The processes that carry a lab's mark in their environment.
pub fn marked(mark: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| is_marked(*pid, mark)).collect()
}

/// Whether a process carries a lab's mark.
pub fn is_marked(pid: i32, mark: &str) -> bool {
    let wanted = format!("{}={mark}", crate::state::MARK);
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|b| *b == 0).any(|variable| variable == wanted.as_bytes())
}

fn members(identity: &str) -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| mount_namespace(*pid).as_deref() == Some(identity))
        .filter(|pid| !is_zombie(*pid))
        .collect()
}

/// Whether a process runs, or is still on its way out; what only waits to be buried has ended.
pub fn is_alive(pid: i32) -> bool {
    std::fs::exists(format!("/proc/{pid}/stat")).is_ok_and(|exists| exists) && !is_zombie(pid)
}

/// Whether a process has ended with all its threads and waits only to be reaped: threads that still end hold its sockets.
pub fn is_only_to_be_reaped(pid: i32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    is_zombie(pid) && threads <= 1
}

fn is_zombie(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
}
