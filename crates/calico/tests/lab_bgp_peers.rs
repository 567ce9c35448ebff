//! Sessions with speakers that are not ours — FRR, GoBGP and BIRD — inside and outside our AS, in both families: what is
//! told to them, read from themselves; what they tell; what protects the sessions; and restarts at either end.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says, and how long it took")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/bgp.rs"]
mod bgp;
#[path = "support/lab.rs"]
mod lab;
#[path = "support/packets.rs"]
mod packets;

use std::fmt::Write as _;

use bgp::{
    CONVERGENCE, Stream, assert_nothing_lost, birdcl, block, is_wanted, keeps_for_others, kill_bird,
    recovers, router, router_sessions, sessions, told, wait_router,
};
use lab::{Lab, until, wait_for};
use packets::{answers, v6};

/// Our AS.
const OWN_AS: u32 = 64512;

/// A speaker from outside.
#[derive(Clone, Copy)]
struct Outside {
    name: &'static str,
    daemon: &'static str,
    asn: u32,
    /// Its number on the fabric, and that of its prefixes.
    number: u8,
    protection: Protection,
}

/// What both ends do against strangers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protection {
    Nothing,
    /// Packets from further away than the next hop are not taken (RFC 5082).
    Gtsm,
    /// Packets are signed with this password (RFC 2385).
    Md5(&'static str),
}

/// The password that node1 has in a file.
const PASSWORD: &str = "of-both-ends";
/// Where: `bgp-secrets/NAME/KEY` of the directory of Calico's settings.
const PASSWORD_FILE: &str = "/etc/calico/bgp-secrets/outside/password";

const OUTSIDE: [Outside; 6] = [
    Outside { name: "frr-e", daemon: "frr", asn: 64801, number: 101, protection: Protection::Gtsm },
    Outside { name: "frr-i", daemon: "frr", asn: OWN_AS, number: 102, protection: Protection::Md5(PASSWORD) },
    Outside { name: "gobgp-e", daemon: "gobgp", asn: 64803, number: 103, protection: Protection::Gtsm },
    Outside {
        name: "gobgp-i",
        daemon: "gobgp",
        asn: OWN_AS,
        number: 104,
        protection: Protection::Md5(PASSWORD),
    },
    Outside { name: "bird-e", daemon: "bird", asn: 64805, number: 105, protection: Protection::Gtsm },
    Outside {
        name: "bird-i",
        daemon: "bird",
        asn: OWN_AS,
        number: 106,
        protection: Protection::Md5(PASSWORD),
    },
];

impl Outside {
    fn is_external(&self) -> bool {
        self.asn != OWN_AS
    }

    /// Whether packets follow its routes.
    fn forwards(&self) -> bool {
        self.daemon != "gobgp"
    }

    fn addresses(&self) -> [String; 2] {
        [format!("10.65.0.{}", self.number), format!("fd65::{:x}", self.number)]
    }

    fn prefixes(&self) -> [String; 2] {
        [format!("10.70.{}.0/24", self.number), format!("fd70:0:0:{:x}::/64", self.number)]
    }

    /// An address of each prefix, which is its own.
    fn hosts(&self) -> [String; 2] {
        [format!("10.70.{}.1", self.number), format!("fd70:0:0:{:x}::1", self.number)]
    }

    /// The names of its sessions in node1's BIRD.
    fn protocols(&self) -> [String; 2] {
        self.addresses().map(|address| format!("Node_{}", address.replace(['.', ':'], "_")))
    }

    fn add(&self, lab: &Lab) {
        let (asn, prefixes) = (self.asn.to_string(), self.prefixes());
        let protection = match self.protection {
            Protection::Nothing => String::new(),
            Protection::Gtsm => ",gtsm".to_owned(),
            Protection::Md5(password) => format!(",password={password}"),
        };
        let peers = ["10.65.0.1", "fd65::1"].map(|peer| format!("{peer},{OWN_AS}{protection}"));
        let mut words = vec!["add", self.name, "--daemon", self.daemon, "--asn", &asn];
        peers.iter().for_each(|peer| words.extend(["--peer", peer]));
        prefixes.iter().for_each(|prefix| words.extend(["--announce", prefix]));
        router(lab, &words);
    }

    /// node1's BGPPeers for it, with further fields.
    fn manifest(&self, protection: Protection, more: &str) -> String {
        let mut text = String::new();
        for (address, family) in self.addresses().iter().zip(["v4", "v6"]) {
            let protection = match protection {
                Protection::Nothing => "",
                Protection::Gtsm => ", ttlSecurity: 1",
                Protection::Md5(_) => ", password: {secretKeyRef: {name: outside, key: password}}",
            };
            writeln!(
                text,
                "---\napiVersion: projectcalico.org/v3\nkind: BGPPeer\nmetadata: {{name: {}-{family}}}\n\
                 spec: {{node: node1, peerIP: '{address}', asNumber: {}{protection}{more}}}",
                self.name, self.asn
            )
            .expect("a String");
        }
        text
    }
}

/// The state of a session of node1.
fn state(lab: &Lab, protocol: &str) -> String {
    let all = sessions(lab, "node1");
    all.into_iter().find(|(name, _)| name == protocol).map(|(_, state)| state).unwrap_or_default()
}

fn wait_established(lab: &Lab, outside: &Outside) {
    wait_router(lab, outside.name, 2);
    for protocol in outside.protocols() {
        assert!(
            until(CONVERGENCE, || state(lab, &protocol) == "Established"),
            "{}",
            birdcl(lab, "node1", "show protocols")
        );
    }
}

/// Waits until everybody has told all: of two that restart at once, each takes the other's silence for all there is.
fn wait_settled(lab: &Lab) {
    let settled = until(CONVERGENCE, || !recovers(lab, "node1") && !keeps_for_others(lab, "node1"));
    assert!(settled, "{}", birdcl(lab, "node1", "show protocols all"));
}

/// One of the kernel's counters of a place.
fn kernel_counter(lab: &Lab, place: &str, name: &str) -> u64 {
    let shown = lab.sh(place, &format!("nstat -asz {name}"));
    let line = shown.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{shown}"));
    line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number")
}

#[test]
fn sessions_with_speakers_from_outside() {
    if !is_wanted("speakers from outside") {
        return;
    }
    let Some(lab) = Lab::up("outside", &["--nodes", "2"]) else { return };
    let a4 = lab.add("a", &["--node", "node1"]);
    lab.add("b", &["--node", "node2"]);
    let a6 = v6(&lab, "a");
    let blocks = [block(&lab, "node1", false), block(&lab, "node1", true)];
    lab.sh(
        "node1",
        &format!("umask 077; mkdir -p $(dirname {PASSWORD_FILE}); echo '{PASSWORD}' > {PASSWORD_FILE}"),
    );
    for outside in &OUTSIDE {
        outside.add(&lab);
        lab.ctl("apply", &outside.manifest(outside.protection, ""));
    }
    for outside in &OUTSIDE {
        wait_established(&lab, outside);
        let Outside { name, daemon, .. } = outside;
        let path = if outside.is_external() { OWN_AS.to_string() } else { String::new() };
        for ((block, next_hop), (prefix, own)) in blocks
            .iter()
            .zip(["10.65.0.1", "fd65::1"])
            .zip(outside.prefixes().iter().zip(outside.addresses()))
        {
            let expected = [next_hop.to_owned(), next_hop.to_owned(), path.clone()];
            wait_for(&format!("{block} told to {name}"), || told(&lab, name, block).contains(&expected));
            wait_for(&format!("{prefix} of {name} in node1's kernel"), || {
                let routes = lab.sh("node1", "ip route show proto bird; ip -6 route show proto bird");
                // Of IPv6 it may be the address that the other has on the link.
                let via = if own.contains('.') { format!("via {own} ") } else { "via ".to_owned() };
                let way = |line: &str| line.starts_with(prefix.as_str()) && line.contains(&via);
                routes.lines().any(way)
            });
        }
        for host in outside.hosts() {
            let from: &[&str] = if outside.forwards() { &["node1", "a"] } else { &["node1"] };
            from.iter().for_each(|from| {
                wait_for(&format!("{host} of {name} from {from}"), || answers(&lab, from, &host))
            });
        }
        let kind = if outside.is_external() { "eBGP" } else { "iBGP" };
        println!(
            "outside {daemon}: {kind}, {:?}: both families established, {blocks:?} told, its prefixes reached",
            outside.protection
        );
    }
    filters(&lab, &blocks);
    strangers_from_afar(&lab);
    strangers_without_the_password(&lab);
    for outside in &OUTSIDE {
        restarts(&lab, outside, &[&a4, &a6]);
    }
}

/// The control of GTSM: one that sends as from further away is not heard, as the kernel counts, and is heard without it.
fn strangers_from_afar(lab: &Lab) {
    let outside =
        Outside { name: "afar", daemon: "bird", asn: 64900, number: 107, protection: Protection::Nothing };
    outside.add(lab);
    let before = kernel_counter(lab, "node1", "TcpExtTCPMinTTLDrop");
    lab.ctl("apply", &outside.manifest(Protection::Gtsm, ""));
    wait_for("packets dropped for their TTL", || {
        kernel_counter(lab, "node1", "TcpExtTCPMinTTLDrop") > before + 2
    });
    let states = outside.protocols().map(|protocol| state(lab, &protocol));
    assert!(states.iter().all(|state| state != "Established"), "{states:?}");
    lab.ctl("apply", &outside.manifest(Protection::Nothing, ""));
    wait_established(lab, &outside);
    println!("outside: who sends with TTL 1 is {states:?} with ttlSecurity, and established without");
    lab.ctl("delete", &outside.manifest(Protection::Nothing, ""));
    router(lab, &["del", outside.name]);
}

/// The control of MD5: one with another password is not heard, as the kernel counts.
fn strangers_without_the_password(lab: &Lab) {
    let protection = Protection::Md5("of-one-end");
    let outside = Outside { name: "stranger", daemon: "bird", asn: 64901, number: 107, protection };
    outside.add(lab);
    let before = kernel_counter(lab, "node1", "TcpExtTCPMD5Failure");
    lab.ctl("apply", &outside.manifest(protection, ""));
    wait_for("packets dropped for their signature", || {
        kernel_counter(lab, "node1", "TcpExtTCPMD5Failure") > before + 2
    });
    let states = outside.protocols().map(|protocol| state(lab, &protocol));
    assert!(states.iter().all(|state| state != "Established"), "{states:?}");
    println!("outside: who signs with another password is {states:?}");
    lab.ctl("delete", &outside.manifest(protection, ""));
    router(lab, &["del", outside.name]);
}

/// What a BGPFilter does, as its peers have it: a block is not told, another is with a longer path, and what they say of a
/// prefix of theirs is not taken. Peers without the filter are the control.
fn filters(lab: &Lab, [v4, v6]: &[String; 2]) {
    let external = || OUTSIDE.iter().filter(|outside| outside.is_external());
    let refused: String = external()
        .map(|outside| {
            format!("\n  - {{action: Reject, matchOperator: Equal, cidr: {}}}", outside.prefixes()[0])
        })
        .collect();
    lab.ctl(
        "apply",
        &format!(
            "apiVersion: projectcalico.org/v3\nkind: BGPFilter\nmetadata: {{name: on-the-wire}}\nspec:\n  \
             exportV4:\n  - {{action: Reject, matchOperator: In, cidr: {v4}}}\n  \
             exportV6:\n  - {{action: Accept, matchOperator: Equal, cidr: '{v6}', \
             operations: [{{prependASPath: {{prefix: [65010, 65011]}}}}]}}\n  importV4:{refused}\n"
        ),
    );
    external().for_each(|outside| {
        lab.ctl("apply", &outside.manifest(outside.protection, ", filters: [on-the-wire]"));
    });
    let is_in_kernel = |outside: &Outside| {
        let [prefix, _] = outside.prefixes();
        lab.sh("node1", "ip route show proto bird").lines().any(|line| line.starts_with(&prefix))
    };
    for outside in external() {
        let name = outside.name;
        wait_for(&format!("{v4} not told to {name}"), || told(lab, name, v4).is_empty());
        let path = format!("{OWN_AS} 65010 65011");
        wait_for(&format!("{v6} told to {name} by {path}"), || {
            told(lab, name, v6).iter().any(|[_, _, p]| *p == path)
        });
        wait_for(&format!("the prefix of {name} not taken"), || !is_in_kernel(outside));
        println!(
            "outside {}: with the filter {v4} is not told, {v6} is by {path}, its prefix is not taken",
            outside.daemon
        );
    }
    for outside in OUTSIDE.iter().filter(|outside| !outside.is_external()) {
        assert!(
            !told(lab, outside.name, v4).is_empty() && is_in_kernel(outside),
            "{} has no filter",
            outside.name
        );
    }
    for outside in external() {
        lab.ctl("apply", &outside.manifest(outside.protection, ""));
        let name = outside.name;
        wait_for(&format!("{v4} told to {name} again"), || {
            !told(lab, name, v4).is_empty() && is_in_kernel(outside)
        });
    }
}

/// Either end's daemon dies and comes back: its neighbour keeps the routes, and no packet is lost.
fn restarts(lab: &Lab, outside: &Outside, own: &[&str; 2]) {
    let name = outside.name;
    wait_settled(lab);
    let mut streams: Vec<Stream> = outside
        .hosts()
        .iter()
        .filter(|_| outside.forwards())
        .map(|host| Stream::start(lab, "a", name, host))
        .collect();
    streams.extend(
        own.iter().filter(|_| outside.forwards()).map(|address| Stream::start(lab, name, "a", address)),
    );
    let monitor = Monitor::start(lab, &outside.prefixes());

    router(lab, &["kill", name]);
    for protocol in outside.protocols() {
        wait_for("the session's end", || state(lab, &protocol) != "Established");
    }
    router(lab, &["start", name]);
    wait_established(lab, outside);
    for prefix in outside.prefixes() {
        wait_for("its prefixes told again", || {
            outside
                .protocols()
                .iter()
                .any(|p| birdcl(lab, "node1", &format!("show route {prefix} protocol {p}")).contains(&prefix))
        });
    }

    wait_settled(lab);
    let blocks = [block(lab, "node1", false), block(lab, "node1", true)];
    kill_bird(lab, "node1");
    // It never forgets: what it was told is there at every look until the sessions are back.
    let back = until(CONVERGENCE, || {
        for block in &blocks {
            assert!(!told(lab, name, block).is_empty(), "{name} forgot {block} while node1's BIRD was away");
        }
        let states = router_sessions(lab, name);
        states.iter().all(|(_, state)| state == "Established")
            && outside.protocols().iter().all(|protocol| state(lab, protocol) == "Established")
    });
    assert!(back, "{:?}", router_sessions(lab, name));
    monitor.assert_nothing_deleted();
    if !streams.is_empty() {
        assert_nothing_lost(streams, 100);
    }
    println!("outside {}: {name} and node1's BIRD died in turn; no route was withdrawn", outside.daemon);
}

/// Watches routes of node1 for being deleted.
struct Monitor {
    log: std::path::PathBuf,
    child: lab::Running,
    prefixes: [String; 2],
}

impl Monitor {
    fn start(lab: &Lab, prefixes: &[String; 2]) -> Monitor {
        let log = lab.dir().join("outside-routes.log");
        let file = std::fs::File::create(&log).expect("a log");
        let child = lab.command("node1", "exec ip monitor route").stdout(file).spawn().expect("ip monitor");
        Monitor { log, child: lab::Running(child), prefixes: prefixes.clone() }
    }

    fn assert_nothing_deleted(self) {
        let Monitor { log, child, prefixes } = self;
        drop(child);
        let log = std::fs::read_to_string(log).expect("a log");
        let deleted: Vec<&str> = log
            .lines()
            .filter(|line| {
                line.starts_with("Deleted") && prefixes.iter().any(|prefix| line.contains(prefix.as_str()))
            })
            .collect();
        assert!(deleted.is_empty(), "{deleted:?}");
    }
}
