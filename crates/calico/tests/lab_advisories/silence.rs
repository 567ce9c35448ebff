//! Connections that say nothing, begin a TLS handshake or never finish their request, on everything that the agent
//! listens on: others are answered meanwhile, and the process's descriptors stay few.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::lab::{Lab, text, wait_for};
use crate::within;

const UNFINISHED: [&[u8]; 4] = [
    b"",
    b"GET /metrics HTTP/1.1\r\nX-Slow: ",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET /metrics HTTP/1.1\r\nHost: node\r\n\r\n",
];

/// Three times as many as there is room for.
const CROWD: usize = 192;
/// What a listener may hold at most, and some for whatever else the agent does meanwhile.
const HELD: usize = 64 + 32;
const HELD_BY_CNI: usize = 256 + 32;
/// As the second and third do what a probe does: it does not wait longer.
const PROBE: &str = "curl -sf -o /dev/null --max-time 5";

fn descriptors(pid: i32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("the agent lives").count()
}

/// Everything that a process listens on, sorted: addresses with ports, and paths.
fn listeners(lab: &Lab, node: &str, pid: i32) -> Vec<String> {
    let listed = lab.sh(node, "ss -Hlnp -A inet,unix");
    let own = listed.lines().filter(|line| line.contains(&format!("pid={pid},")));
    let mut places: Vec<String> =
        own.filter_map(|line| line.split_whitespace().nth(4).map(str::to_owned)).collect();
    places.sort();
    places
}

fn crowd(lab: &Lab, place: &str, address: &str, says: &[u8]) -> Vec<TcpStream> {
    within(lab, place, || {
        let connect = |_| {
            let mut stream = TcpStream::connect(address).expect("connected");
            // It may be over already, which is what it is about.
            let _ = stream.write_all(says);
            stream
        };
        (0..CROWD).map(connect).collect()
    })
}

#[test]
fn silence_keeps_nobody_waiting() {
    let Some(lab) = Lab::up("silence", &["--nodes", "1"]) else { return };
    let pid = lab.agent_pid("node1");
    // A listener that comes to be gets its row below.
    assert_eq!(listeners(&lab, "node1", pid), ["/run/calico/cni.next", "0.0.0.0:9091", "127.0.0.1:9099"]);
    let before = descriptors(pid);

    // Strangers on the metrics, processes of the host on health.
    for (from, address) in [("fabric", "10.65.0.1:9091"), ("node1", "127.0.0.1:9099")] {
        for says in UNFINISHED {
            let silent = crowd(&lab, from, address, says);
            let probes = [
                ("node1", "http://localhost:9099/liveness"),
                ("node1", "http://localhost:9099/readiness"),
                ("node1", "http://10.65.0.1:9091/metrics"),
                ("fabric", "http://10.65.0.1:9091/metrics"),
            ];
            for (place, url) in probes {
                let probe = lab.try_sh(place, &format!("{PROBE} {url}"));
                assert!(probe.status.success(), "{url} from {place}, {} on {address}", text(says));
            }
            wait_for("few descriptors", || descriptors(pid) <= before + 2 * HELD);
            drop(silent);
        }
    }
    wait_for("as few as before", || descriptors(pid) <= before + HELD / 2);

    cni(&lab, pid);
    assert_eq!(lab.agent_pid("node1"), pid, "the agent has lived through it");
}

/// Root's own socket: who takes less than all places is in nobody's way, who takes all is gone after some seconds.
fn cni(lab: &Lab, pid: i32) {
    let before = descriptors(pid);
    let path = format!("/proc/{pid}/root/run/calico/cni.sock");
    let connect = |says: &[u8]| {
        let mut stream = UnixStream::connect(&path).expect("connected");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        // It may be over already.
        let _ = stream.write_all(says);
        stream
    };
    let silent: Vec<UnixStream> = UNFINISHED.iter().flat_map(|says| (0..50).map(|_| connect(says))).collect();
    lab.add("between", &["--node", "node1"]);
    drop(silent);

    let mut silent: Vec<UnixStream> = (0..2 * HELD_BY_CNI).map(|_| connect(b"")).collect();
    wait_for("few descriptors", || descriptors(pid) <= before + HELD_BY_CNI);
    for stream in &mut silent {
        let mut said = Vec::new();
        stream.read_to_end(&mut said).expect("its end, within its time");
    }
    lab.add("after", &["--node", "node1"]);
}
