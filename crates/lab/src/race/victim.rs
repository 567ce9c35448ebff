//! Who is killed in race O, by SIGKILL at a random moment, and how each comes back.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::state::Lab;
use crate::wait::until;
use crate::{fabric, process};

/// What is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Victim {
    /// Nobody: the control run.
    None,
    /// The agent of one of the two nodes.
    Agent,
    /// BIRD of one of the two nodes.
    Bird,
    /// etcd, or where the lab has the embedded store a writer of it in the middle of its work.
    Datastore,
    /// One of the three, by chance.
    Any,
}

/// How many nets the writer of the embedded store writes: a commit long enough to be hit.
const NETS: u32 = 2000;
/// The longest that a writer lives before it is killed: about twice what its work takes.
const WRITER_LIFE: Duration = Duration::from_millis(120);

/// Kills once. What does not come back by itself is brought back.
pub fn strike(lab: &Lab, node: &str, victim: Victim, round: u32) -> Result<()> {
    match victim {
        Victim::None => Ok(()),
        Victim::Agent => kill_and_wait(read_pid(&lab.node_dir(node).join("agent.pid"))?),
        Victim::Bird => kill_and_wait(bird_pid(lab, node)?),
        Victim::Datastore if lab.etcd => {
            kill_and_wait(read_pid(&lab.dir.join("etcd.pid"))?)?;
            fabric::spawn_etcd(lab)
        }
        Victim::Datastore => kill_writer(lab, node, round),
        Victim::Any => {
            let all = [Victim::Agent, Victim::Bird, Victim::Datastore];
            let choice = usize::from(random()?) % all.len();
            strike(lab, node, all[choice], round)
        }
    }
}

/// A moment of up to `longest`, from the kernel's randomness: a kill must not beat in time with anything.
pub fn random_moment(longest: Duration) -> Result<Duration> {
    Ok(longest.mul_f64(f64::from(random()?) / f64::from(u16::MAX)))
}

fn random() -> Result<u16> {
    use std::io::Read;
    let mut bytes = [0; 2];
    std::fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u16::from_be_bytes(bytes))
}

fn kill_and_wait(pid: i32) -> Result<()> {
    let pid = Pid::from_raw(pid);
    kill(pid, Signal::SIGKILL).with_context(|| format!("process {pid}"))?;
    // A child of ours that is not reaped yet is gone as far as anybody can tell.
    let gone = until(Duration::from_secs(5), Duration::from_millis(1), || {
        kill(pid, None).is_err() || process::is_only_to_be_reaped(pid.as_raw())
    });
    if gone { Ok(()) } else { bail!("process {pid} outlives SIGKILL") }
}

/// A `calicoctl` that is killed while it writes; what it leaves must be one of its writes, whole.
fn kill_writer(lab: &Lab, node: &str, round: u32) -> Result<()> {
    let manifest = lab.dir.join("race-writer.json");
    std::fs::write(&manifest, network_set(round).to_string())?;
    let mut command = lab.on_node(node, "calicoctl")?;
    command.args(["apply", "-f"]).arg(&manifest);
    let mut writer = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    std::thread::sleep(random_moment(WRITER_LIFE)?);
    writer.kill()?;
    writer.wait()?;
    let mut reader = lab.on_node(node, "calicoctl")?;
    let stored = process::output(reader.args(["get", "globalnetworksets", "-o", "json"]))?;
    let stored: Value = serde_json::from_str(&stored)?;
    let sets = stored["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    sets.iter().filter(|set| set["metadata"]["name"] == WRITTEN).try_for_each(check_whole)
}

const WRITTEN: &str = "race-writer";

/// What the writer of a round writes: every net and the label tell the round.
fn network_set(round: u32) -> Value {
    let nets: Vec<String> =
        (0..NETS).map(|n| format!("198.18.{}.{}/32", (n / 250) + (round % 2) * 100, n % 250)).collect();
    json!({
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkSet",
        "metadata": {"name": WRITTEN, "labels": {"round": round.to_string()}},
        "spec": {"nets": nets},
    })
}

fn check_whole(set: &Value) -> Result<()> {
    let round = set["metadata"]["labels"]["round"].as_str().and_then(|text| text.parse().ok());
    let round: u32 = round.with_context(|| format!("a set without its round: {}", set["metadata"]))?;
    if set["spec"] == network_set(round)["spec"] {
        Ok(())
    } else {
        bail!("round {round} was written in part")
    }
}

fn read_pid(path: &Path) -> Result<i32> {
    let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
    text.trim().parse().with_context(|| format!("{}: {text:?}", path.display()))
}

fn bird_pid(lab: &Lab, node: &str) -> Result<i32> {
    let mut pid = None;
    until(Duration::from_secs(10), Duration::from_millis(20), || {
        pid = lab
            .on_node(node, "cat")
            .and_then(|mut c| process::output(c.arg("/run/calico/bird.pid")))
            .ok()
            .and_then(|text| text.trim().parse().ok());
        pid.is_some()
    });
    pid.with_context(|| format!("BIRD of {node} wrote no pid file"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_two_rounds_is_not_whole() {
        check_whole(&network_set(4)).expect("whole");
        let mut torn = network_set(4);
        torn["spec"]["nets"][7] = network_set(5)["spec"]["nets"][7].clone();
        assert!(check_whole(&torn).is_err());
        torn["metadata"]["labels"] = Value::Null;
        assert!(check_whole(&torn).is_err());
    }
}
