//! Two real BIRDs in two network namespaces with a cable between them.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::thread::JoinHandle;

use calico_api::{Kind, ResourceKey};
use calico_linux::netns::Netns;
use calico_mesh::birdc::{PeerName, command, parse_protocols, parse_status};
use calico_mesh::world::{Encapsulation, NodeFacts, PoolFacts, WorkloadFacts};
use calico_mesh::{Local, World};
use tempfile::TempDir;

use super::control::ask;
use super::*;
use crate::testing::{block_on, connect, ip, is_possible, kill, wait_for};

mod peers;

/// One node: a namespace, and a supervised BIRD in it.
struct TestNode {
    netns: Netns,
    directory: TempDir,
    bird: Bird,
    stop: CancellationToken,
    supervisor: Option<JoinHandle<()>>,
}

impl TestNode {
    fn new() -> TestNode {
        let netns = Netns::create().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let (bird, stop, supervisor) = supervise(&netns, directory.path());
        TestNode { netns, directory, bird, stop, supervisor: Some(supervisor) }
    }

    fn ip(&self, arguments: &str) -> String {
        ip(&self.netns, arguments)
    }

    fn bird_routes(&self) -> String {
        self.ip("route show proto bird")
    }

    fn wait_for_route(&self, prefix: &str) {
        wait_for(prefix, || self.bird_routes().contains(prefix));
    }

    fn protocols(&self) -> Vec<calico_mesh::birdc::ProtocolStatus> {
        block_on(ask(&self.bird.paths().socket, command::PROTOCOLS))
            .map(|answer| parse_protocols(&answer.reply))
            .unwrap_or_default()
    }

    /// Since when the session is up; `None` if it is not.
    fn established_since(&self) -> Option<String> {
        let up = |p: &&calico_mesh::birdc::ProtocolStatus| p.is_established();
        self.protocols().iter().find(up).map(|p| p.since.clone())
    }

    fn pid(&self) -> Option<i32> {
        self.bird.report().borrow().pid
    }

    /// The agent's death: its BIRD stays.
    fn stop_supervisor(&mut self) {
        self.stop.cancel();
        if let Some(thread) = self.supervisor.take() {
            thread.join().unwrap();
        }
    }

    fn start_supervisor(&mut self) {
        let (bird, stop, supervisor) = supervise(&self.netns, self.directory.path());
        (self.bird, self.stop, self.supervisor) = (bird, stop, Some(supervisor));
    }
}

impl Drop for TestNode {
    fn drop(&mut self) {
        let pid = self.pid();
        self.stop_supervisor();
        if let Some(pid) = pid {
            kill(pid);
        }
    }
}

fn supervise(netns: &Netns, directory: &Path) -> (Bird, CancellationToken, JoinHandle<()>) {
    let paths = Paths {
        program: "/usr/sbin/bird".into(),
        config: directory.join("bird.cfg"),
        socket: directory.join("bird.ctl"),
        pid_file: directory.join("bird.pid"),
        log: directory.join("bird.log"),
    };
    let (bird, mut supervisor) = Bird::new(paths);
    supervisor.pulse = Duration::from_millis(100);
    let stop = CancellationToken::new();
    let token = stop.clone();
    let netns = Netns::from(rustix::io::dup(netns).unwrap());
    let thread = std::thread::spawn(move || {
        // The runtime has one thread, so BIRD is started from inside the namespace.
        netns.run(|| block_on(supervisor.run(token))).unwrap();
    });
    (bird, stop, thread)
}

/// 10.9.0.1 and 10.9.0.2, each with a block of its own and the agent's blackhole for it.
fn pair() -> (TestNode, TestNode) {
    let (a, b) = (TestNode::new(), TestNode::new());
    connect(&a.netns, &b.netns);
    for (n, node) in [(1, &a), (2, &b)] {
        node.ip(&format!("route add blackhole 10.20.{n}.0/26 proto 80"));
    }
    (a, b)
}

/// The cluster as node `n` sees it; `dead` is a third node that is not there.
fn world(n: u8, dead: bool) -> World {
    let mut world = World::default();
    for i in if dead { vec![1, 2, 9] } else { vec![1, 2] } {
        let v4 = Some((Ipv4Addr::new(10, 9, 0, i), 24));
        world.nodes.insert(format!("n{i}").into(), NodeFacts { v4, ..NodeFacts::default() });
    }
    let cidr = "10.20.0.0/16".parse().unwrap();
    world.pools.insert(
        "p".into(),
        PoolFacts { cidr, disable_bgp_export: false, encapsulation: Encapsulation::Never },
    );
    world.blocks.insert(format!("10.20.{n}.0/26").parse().unwrap());
    world
}

/// A workload of the node whose world it is, with an address of another node's block.
fn lend(world: &mut World, addr: &str) {
    let key = ResourceKey { kind: Kind::WorkloadEndpoint, namespace: "default".into(), name: addr.into() };
    let facts = WorkloadFacts { addrs: vec![addr.parse().unwrap()], ..WorkloadFacts::default() };
    world.workloads.insert(key, facts);
}

fn configure(node: &TestNode, n: u8, world: &World) {
    let local = Local { node: format!("n{n}").into(), ..Local::default() };
    let (intent, problems) = world.resolve(&local);
    assert!(problems.is_empty(), "{problems:?}");
    let log = node.bird.paths().log.to_str().unwrap().to_owned();
    node.bird.configure(calico_mesh::bird::render(&intent, &log));
}

fn established_pair() -> (TestNode, TestNode) {
    let (a, b) = pair();
    configure(&a, 1, &world(1, false));
    configure(&b, 2, &world(2, false));
    a.wait_for_route("10.20.2.0/26 via 10.9.0.2");
    b.wait_for_route("10.20.1.0/26 via 10.9.0.1");
    (a, b)
}

#[test]
fn blocks_go_both_ways_and_a_dead_peer_delays_nobody() {
    if !is_possible() {
        return;
    }
    let (a, b) = pair();
    let mut lender = world(1, true);
    lend(&mut lender, "10.20.2.7/32");
    configure(&a, 1, &lender);
    configure(&b, 2, &world(2, true));
    // A workload of our block, and one with an address borrowed from the other node's.
    a.ip("link add cali1 type veth peer name c1");
    a.ip("link set c1 up");
    a.ip("link set cali1 up");
    a.ip("route add 10.20.1.5/32 dev cali1 proto boot scope link");
    a.ip("route add 10.20.2.7/32 dev cali1 proto boot scope link");
    b.wait_for_route("10.20.1.0/26 via 10.9.0.1");
    b.wait_for_route("10.20.2.7 via 10.9.0.1");
    a.wait_for_route("10.20.2.0/26 via 10.9.0.2");
    // Nothing beneath the block, nothing twice, and of its own BIRD installs nothing.
    let mut routes: Vec<String> = b.bird_routes().lines().map(|l| l.trim().to_owned()).collect();
    routes.sort();
    let expected =
        ["10.20.1.0/26 via 10.9.0.1 dev eth0 metric 1024", "10.20.2.7 via 10.9.0.1 dev eth0 metric 1024"];
    assert_eq!(routes, expected);
    assert!(b.ip("route show proto 80").contains("blackhole 10.20.2.0/26"));
}

#[test]
fn a_new_block_is_announced_by_the_same_session() {
    if !is_possible() {
        return;
    }
    let (a, b) = established_pair();
    let before = (a.pid(), a.established_since().unwrap(), b.established_since().unwrap());
    let mut world = world(1, false);
    world.blocks.insert("10.20.7.0/26".parse().unwrap());
    configure(&a, 1, &world);
    b.wait_for_route("10.20.7.0/26 via 10.9.0.1");
    world.blocks.remove(&"10.20.7.0/26".parse().unwrap());
    configure(&a, 1, &world);
    wait_for("the block to go", || !b.bird_routes().contains("10.20.7.0/26"));
    assert_eq!((a.pid(), a.established_since().unwrap(), b.established_since().unwrap()), before);
    assert!(b.bird_routes().contains("10.20.1.0/26"));
    assert_eq!(a.bird.report().borrow().reconfigurations, 2);
}

#[test]
fn a_bad_configuration_changes_nothing_and_is_reported() {
    if !is_possible() {
        return;
    }
    let (a, b) = established_pair();
    let before = (a.pid(), b.established_since().unwrap());
    a.bird.configure("protocol bgp nonsense {".to_owned());
    wait_for("the complaint", || a.bird.report().borrow().config_error.is_some());
    let complaint = a.bird.report().borrow().config_error.clone().unwrap();
    assert!(complaint.contains("refuse") && complaint.contains("syntax error"), "{complaint}");
    assert_eq!((a.pid(), b.established_since().unwrap()), before);
    // The next good one is taken.
    let mut world = world(1, false);
    world.blocks.insert("10.20.8.0/26".parse().unwrap());
    configure(&a, 1, &world);
    b.wait_for_route("10.20.8.0/26 via 10.9.0.1");
    assert_eq!(a.bird.report().borrow().config_error, None);
}

#[test]
fn killed_it_comes_back_and_no_route_goes_meanwhile() {
    if !is_possible() {
        return;
    }
    let (a, b) = established_pair();
    let monitors: Vec<_> = [&a, &b].map(Monitor::spawn).into_iter().collect();
    for _ in 0..2 {
        let before = a.pid().unwrap();
        kill(before);
        wait_for("another process", || a.pid().is_some_and(|pid| pid != before));
        wait_for("the session", || a.established_since().is_some());
        let recovered = || {
            block_on(ask(&a.bird.paths().socket, command::STATUS))
                .ok()
                .and_then(|answer| parse_status(&answer.reply))
                .is_some_and(|status| status.up && !status.graceful_restart)
        };
        wait_for("the end of the recovery", recovered);
        // The route was read anew: the kernel's scan comes every two seconds.
        wait_for("the route in BIRD", || {
            let routes = block_on(ask(&a.bird.paths().socket, command::ROUTES)).unwrap();
            calico_mesh::birdc::parse_routes(&routes.reply)
                .iter()
                .any(|r| r.primary && PeerName::parse(&r.protocol).is_some())
        });
    }
    assert!(a.bird_routes().contains("10.20.2.0/26 via 10.9.0.2"));
    assert!(b.bird_routes().contains("10.20.1.0/26 via 10.9.0.1"));
    for monitor in monitors {
        let seen = monitor.end();
        assert!(!seen.contains("Deleted"), "{seen}");
    }
    assert_eq!(a.bird.report().borrow().unexpected_ends, 2);
}

/// Follows the routes of a node as the kernel reports them.
struct Monitor(std::process::Child);

impl Monitor {
    fn spawn(node: &TestNode) -> Monitor {
        let mut command = Command::new("ip");
        command.args(["monitor", "route"]).stdout(std::process::Stdio::piped());
        Monitor(node.netns.run(|| command.spawn().unwrap()).unwrap())
    }

    /// Everything that was reported.
    fn end(mut self) -> String {
        self.0.kill().unwrap();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        text
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        // It may have been killed already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_new_agent_adopts_the_daemon_of_the_old() {
    if !is_possible() {
        return;
    }
    let (mut a, b) = established_pair();
    let before = (a.pid(), b.established_since().unwrap());
    a.stop_supervisor();
    assert!(a.established_since().is_some(), "BIRD outlives the agent");
    a.start_supervisor();
    let mut world = world(1, false);
    world.blocks.insert("10.20.8.0/26".parse().unwrap());
    configure(&a, 1, &world);
    b.wait_for_route("10.20.8.0/26 via 10.9.0.1");
    assert!(a.bird.report().borrow().adopted);
    assert_eq!((a.pid(), b.established_since().unwrap()), before);
    // One that was adopted is missed as well when it ends.
    kill(a.pid().unwrap());
    wait_for("another process", || a.pid().is_some() && a.pid() != before.0);
    assert!(!a.bird.report().borrow().adopted);
}

#[test]
fn the_first_workload_of_a_new_block_is_not_seen_before_the_block() {
    if !is_possible() {
        return;
    }
    let (a, b) = established_pair();
    let monitor = Monitor::spawn(&b);
    a.ip("link add cali1 type veth peer name c1");
    a.ip("link set c1 up");
    a.ip("link set cali1 up");
    a.ip("route add 10.20.7.5/32 dev cali1 proto boot scope link");
    let knows = || {
        let routes = block_on(ask(&a.bird.paths().socket, command::ROUTES)).unwrap();
        calico_mesh::birdc::parse_routes(&routes.reply)
            .iter()
            .any(|r| r.prefix == "10.20.7.5/32".parse().unwrap())
    };
    wait_for("the workload in BIRD", knows);
    a.ip("route add blackhole 10.20.7.0/26 proto 80");
    let mut world = world(1, false);
    world.blocks.insert("10.20.7.0/26".parse().unwrap());
    configure(&a, 1, &world);
    b.wait_for_route("10.20.7.0/26 via 10.9.0.1");
    // Its block is given up before it: what was covered takes the block's place.
    world.blocks.remove(&"10.20.7.0/26".parse().unwrap());
    lend(&mut world, "10.20.7.5/32");
    configure(&a, 1, &world);
    b.wait_for_route("10.20.7.5 via 10.9.0.1");
    let seen = monitor.end();
    let before_block = seen.split("10.20.7.0/26").next().unwrap();
    assert!(!before_block.contains("10.20.7.5"), "{seen}");
}

#[test]
fn a_daemon_that_has_lost_its_socket_gets_no_second_beside_it() {
    if !is_possible() {
        return;
    }
    let (mut a, b) = established_pair();
    let before = a.pid().unwrap();
    let monitor = Monitor::spawn(&b);
    a.stop_supervisor();
    std::fs::remove_file(&a.bird.paths().socket).unwrap();
    std::fs::remove_file(&a.bird.paths().pid_file).unwrap();
    a.start_supervisor();
    configure(&a, 1, &world(1, false));
    wait_for("another process", || a.pid().is_some_and(|pid| pid != before));
    let birds = a.netns.run(|| process::read_birds(a.bird.paths()).unwrap()).unwrap();
    assert_eq!(birds, [process::BirdProcess { pid: a.pid().unwrap(), is_ours: true }]);
    wait_for("the session", || a.established_since().is_some());
    let seen = monitor.end();
    assert!(!seen.contains("Deleted"), "{seen}");
}

#[test]
fn a_daemon_that_is_slow_once_is_adopted() {
    if !is_possible() {
        return;
    }
    let (mut a, _b) = established_pair();
    let before = a.pid().unwrap();
    a.stop_supervisor();
    let signal = |signal| {
        rustix::process::kill_process(rustix::process::Pid::from_raw(before).unwrap(), signal).unwrap();
    };
    signal(rustix::process::Signal::STOP);
    a.start_supervisor();
    configure(&a, 1, &world(1, false));
    // More than one answer is missed.
    let stopped = std::time::Instant::now();
    wait_for("a silence", || stopped.elapsed() > Duration::from_secs(3));
    signal(rustix::process::Signal::CONT);
    wait_for("adoption", || a.pid().is_some());
    assert_eq!((a.pid(), a.bird.report().borrow().adopted), (Some(before), true));
}

#[test]
fn a_daemon_that_hangs_is_replaced_and_no_route_goes_meanwhile() {
    if !is_possible() {
        return;
    }
    let (a, b) = established_pair();
    let hung = a.pid().unwrap();
    let signal = |signal| {
        rustix::process::kill_process(rustix::process::Pid::from_raw(hung).unwrap(), signal).unwrap();
    };
    // For a moment only: it stays.
    signal(rustix::process::Signal::STOP);
    assert!(block_on(is_silent(a.bird.paths())));
    signal(rustix::process::Signal::CONT);
    wait_for("an answer", || !block_on(is_silent(a.bird.paths())));
    assert_eq!(a.pid(), Some(hung));
    signal(rustix::process::Signal::STOP);
    // Whoever asks and goes away leaves a place in the daemon's queue taken, and there are nine.
    let is_full = |_| block_on(tokio::net::UnixStream::connect(&a.bird.paths().socket)).is_err();
    assert!((0..64).any(is_full), "the queue of {hung} has no end");
    assert!(block_on(is_silent(a.bird.paths())), "and that is silence");
    wait_for("another daemon", || {
        let kept = [a.bird_routes().contains("10.20.2.0/26"), b.bird_routes().contains("10.20.1.0/26")];
        assert_eq!(kept, [true; 2]);
        a.pid().is_some_and(|pid| pid != hung)
    });
    assert_eq!(a.bird.report().borrow().unexpected_ends, 1);
    wait_for("sessions", || a.established_since().is_some() && b.established_since().is_some());
    a.wait_for_route("10.20.2.0/26 via 10.9.0.2");
    b.wait_for_route("10.20.1.0/26 via 10.9.0.1");
}

#[test]
fn retired_it_takes_its_routes_along() {
    if !is_possible() {
        return;
    }
    let retire = |node: &TestNode| {
        let paths = node.bird.paths();
        node.netns.run(|| block_on(retirement::retire(paths))).unwrap().unwrap()
    };
    let (mut a, mut b) = established_pair();
    let pids = (a.pid(), b.pid());
    a.stop_supervisor();
    b.stop_supervisor();
    // In order.
    let retired = retire(&a);
    assert_eq!((retired.pid, retired.left_to), (pids.0, None));
    assert_eq!(a.bird_routes(), "");
    // Dead, with its routes still there; but one of somebody else's is alive.
    let pid = pids.1.unwrap();
    kill(pid);
    wait_for("its end", || std::fs::read_link(format!("/proc/{pid}/ns/net")).is_err());
    b.ip("route replace 10.20.1.0/26 via 10.9.0.1 proto bird");
    b.ip("route add 10.20.3.0/26 proto bird nexthop via 10.9.0.1 nexthop via 10.9.0.3");
    let other = tempfile::tempdir().unwrap();
    let config = other.path().join("bird.cfg");
    std::fs::write(&config, "router id 1.1.1.1;\nprotocol device {}\n").unwrap();
    let mut command = Command::new("/usr/sbin/bird");
    command.arg("-f").arg("-c").arg(&config).arg("-s").arg(other.path().join("bird.ctl"));
    command.arg("-P").arg(other.path().join("bird.pid"));
    let mut stranger = b.netns.run(|| command.spawn().unwrap()).unwrap();
    let stranger_pid = i32::try_from(stranger.id()).unwrap();
    wait_for("the other BIRD", || other.path().join("bird.ctl").exists());
    let retired = retire(&b);
    assert_eq!((retired.pid, retired.left_to), (None, Some(stranger_pid)));
    assert!(b.bird_routes().contains("10.20.1.0/26"));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert_eq!(retire(&b).routes.len(), 2);
    assert_eq!(b.bird_routes(), "");
}
