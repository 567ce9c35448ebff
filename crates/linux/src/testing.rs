//! What this crate's tests share: namespaces of their own, the tools of others as a second opinion, and waiting.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::netns::Netns;

/// Runs in a fresh network namespace; says so where that is not possible.
pub fn in_netns(work: impl FnOnce() + Send) {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: network namespaces need root");
        return;
    }
    Netns::create().unwrap().run(work).unwrap();
}

/// Runs a program, which must succeed, and returns what it printed.
pub fn run(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().unwrap();
    assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Waits for what other threads or the kernel's own workers do, ten seconds at most.
pub fn wait_for(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !happened() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

/// Gives the loopback device an IPv6 address and waits until packets to it arrive: the kernel adds its route later.
pub fn add_local_v6(address: &str) {
    run("ip", &["-6", "addr", "add", &format!("{address}/128"), "dev", "lo", "nodad"]);
    wait_for("the address's route", || {
        run("ip", &["-6", "route", "show", "table", "local"]).contains(&format!("local {address} dev lo"))
    });
}
