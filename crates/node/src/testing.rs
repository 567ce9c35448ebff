//! For tests with real BIRDs: network namespaces with a cable between them, and waiting with a deadline.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use calico_linux::netns::Netns;
use calico_linux::rtnl::Rtnl;
use calico_linux::rtnl::link::{VethEnd, VethPair};

/// Far above what any of it takes; only a failure waits so long.
const DEADLINE: Duration = Duration::from_secs(45);

/// Whether these tests can run here; says why if they cannot.
pub fn is_possible() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        "not root"
    } else if !Path::new("/usr/sbin/bird").exists() {
        "no /usr/sbin/bird"
    } else {
        return true;
    };
    println!("skipped: {missing}");
    false
}

/// Waits for a condition.
#[track_caller]
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a future on a runtime of one thread: what it starts is in this thread's namespace.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Runs `ip` in a namespace and returns what it prints.
pub fn ip(netns: &Netns, arguments: &str) -> String {
    let output = netns.run(|| Command::new("ip").args(arguments.split(' ')).output().unwrap()).unwrap();
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Connects two namespaces: `eth0` is 10.9.0.1/24 in one and 10.9.0.2/24 in the other.
pub fn connect(a: &Netns, b: &Netns) {
    let end = || VethEnd { name: "eth0".parse().unwrap(), mac: None };
    let pair = VethPair { near: end(), far: end(), mtu: 1500, queues: 1 };
    let far = std::os::fd::AsFd::as_fd(b);
    a.run(|| Rtnl::open().unwrap().create_veth(&pair, far).unwrap()).unwrap();
    for (n, netns) in [(1, a), (2, b)] {
        ip(netns, "link set lo up");
        ip(netns, &format!("addr add 10.9.0.{n}/24 dev eth0"));
        ip(netns, "link set eth0 up");
    }
}

/// Kills a process that this test has started.
pub fn kill(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    // It may have ended meanwhile.
    let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
}
