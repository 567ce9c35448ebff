//! A changed option that only a new process takes: the agent ends with 129, comes back, and no packet is lost.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says when a test fails")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/lab.rs"]
mod lab;

use std::process::Stdio;

use lab::{Lab, wait_for};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn a_restart_for_an_option_loses_no_packet() {
    let Some(lab) = Lab::up("option", &["--nodes", "2"]) else { return };
    lab.add("a", &["--node", "node1"]);
    let address = lab.add("b", &["--node", "node2"]);
    wait_for("a way from a to b", || lab.try_sh("a", &format!("ping -c 1 -W 1 {address}")).status.success());
    let mut ping = lab
        .command("a", &format!("echo $$ > {}/ping.pid; exec ping -q -i 0.01 {address}", lab.dir().display()));
    let ping = ping.stdout(Stdio::piped()).spawn().expect("ping");

    let before = ["node1", "node2"].map(|node| lab.agent_pid(node));
    lab.ctl(
        "apply",
        "apiVersion: projectcalico.org/v3\nkind: FelixConfiguration\nmetadata: {name: default}\n\
         spec: {interfacePrefix: 'cali,other'}\n",
    );
    for (node, old) in ["node1", "node2"].into_iter().zip(before) {
        wait_for("a new agent", || lab.agent_pid(node) != old);
        lab.wait_ready(node);
        lab.wait_quiet(node);
        assert!(lab.log(node).contains("changed options take effect in a new process"));
        let init = std::fs::read_to_string(lab.dir().join(node).join("log/init.log")).expect("a log");
        assert!(init.contains("129"), "{init}");
    }

    let pid = std::fs::read_to_string(lab.dir().join("ping.pid")).expect("ping's pid");
    kill(Pid::from_raw(pid.trim().parse().expect("a number")), Signal::SIGINT).expect("ping lives");
    let output = ping.wait_with_output().expect("ping's summary");
    let summary = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{summary}");
    assert!(summary.contains(" 0% packet loss"), "{summary}");
}
