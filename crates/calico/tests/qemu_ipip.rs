//! IP in IP on two machines with Debian's kernel: what is encapsulated and what is not, who may send it, who makes the
//! routes, and what is lost while a pool changes hands. `make test-qemu` runs it.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "what a lab says, and its figures")]
#![allow(
    clippy::disallowed_methods,
    reason = "tests of the shipped binary run processes and wait for conditions"
)]

#[path = "support/pcap.rs"]
mod pcap;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use calico_lab::qemu::{Parts, QemuLab};
use pcap::{Header, Packet};
use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_calico");
/// How long anything that the agent does by itself may take on an emulated processor of a busy machine, the ten seconds
/// included for which a pool that changes hands is kept.
const PATIENCE: Duration = Duration::from_secs(240);
const POLL: Duration = Duration::from_millis(250);
const POOL: &str = "default-ipv4-ippool";
const ONE: Ipv4Addr = Ipv4Addr::new(10, 65, 0, 1);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 65, 0, 2);
/// Of the private segment, and no node's.
const STRANGER: Ipv4Addr = Ipv4Addr::new(10, 65, 0, 99);
const ICMP: u8 = 1;
const IPIP: u8 = 4;
const UDP: u8 = 17;
const VXLAN_PORT: u16 = 4789;
/// The test program of `calico-linux`, on a machine.
const SUITE: &str = "/usr/bin/calico-linux-tests";
/// The port of injected packets.
const PORT: u16 = 7777;

/// Two machines with agents.
struct Bench {
    lab: QemuLab,
}

impl Bench {
    /// Boots; `None`, and a word why, where nobody asked for it or it cannot be.
    fn up() -> Option<Bench> {
        let Some(parts) = std::env::var_os("CALICO_QEMU_PARTS") else {
            eprintln!("left out: `make test-qemu` asks for it");
            return None;
        };
        let parts = match Parts::find(Path::new(&parts)) {
            Ok(parts) => parts,
            Err(error) => {
                eprintln!("skipped: the qemu lab cannot run: {error}");
                return None;
            }
        };
        let began = Instant::now();
        let dir = PathBuf::from(format!("/run/calico-test-qemu-{}", std::process::id()));
        let binary = std::env::var_os("CALICO_BINARY").unwrap_or_else(|| BINARY.into());
        let suite = std::env::var_os("CALICO_QEMU_SUITE");
        let mut programs = vec![(Path::new(&binary), "/usr/bin/calico")];
        programs.extend(suite.as_ref().map(|suite| (Path::new(suite), SUITE)));
        let lab = QemuLab::up(&dir, &parts, &programs).expect("two machines");
        println!("two machines with {} are up after {:?}", parts.kernel(), began.elapsed());
        Some(Bench { lab })
    }

    fn try_sh(&self, node: u8, script: &str) -> (i32, String) {
        let answer = self.lab.machines()[usize::from(node) - 1].run(script, PATIENCE).expect("an answer");
        (answer.code, answer.text)
    }

    /// Runs a shell script that must succeed; what it printed.
    fn sh(&self, node: u8, script: &str) -> String {
        let (code, text) = self.try_sh(node, script);
        assert!(code == 0, "node{node}: {script}\nends with {code}:\n{text}");
        text
    }

    fn wait_for(&self, what: &str, mut condition: impl FnMut() -> bool) {
        if !calico_lab::until(PATIENCE, POLL, &mut condition) {
            for node in [1, 2] {
                let state = "tail -n 40 /var/log/calico/agent.log; ip address; ip route; tail -n 20 /var/log/calico/bird.log";
                eprintln!("--- node{node}\n{}", self.try_sh(node, state).1);
            }
            panic!("waited {} s for: {what}", PATIENCE.as_secs());
        }
    }

    fn calicoctl(&self, manifest: &str) {
        self.sh(1, &format!("{DATASTORE} calicoctl apply -f - <<'X'\n{manifest}\nX"));
    }

    /// Changes the pool.
    fn encapsulate(&self, ipip: &str, vxlan: &str) {
        let patch = format!("{{\"spec\":{{\"ipipMode\":\"{ipip}\",\"vxlanMode\":\"{vxlan}\"}}}}");
        self.sh(1, &format!("{DATASTORE} calicoctl patch ippool {POOL} -p '{patch}'"));
    }

    /// Starts the agents, as a service manager would, on nodes whose addresses have such a prefix.
    fn start_agents(&self, prefix: u8) {
        for (node, addr) in [(1, ONE), (2, TWO)] {
            let script = format!(
                "cat >/run/lab/agent.sh <<'X'
export {DATASTORE} NODENAME=node{node} IP={addr}/{prefix} WAIT_FOR_DATASTORE=true CLUSTER_TYPE=lab
export CALICO_IPV4POOL_CIDR=10.244.0.0/16 CALICO_IPV4POOL_IPIP=Always CALICO_IPV6POOL_CIDR=none
export FELIX_IPV6SUPPORT=false FELIX_HEALTHENABLED=true
while :; do
  calico node >>/var/log/calico/agent.log 2>&1 &
  echo $! >/run/lab/calico.pid
  wait $!
  # One that ends at once may not take the machine's only processor.
  sleep 0.1
done
X
dash /run/lab/agent.sh >/dev/null 2>&1 &
echo $! >/run/lab/agent.pid"
            );
            self.sh(node, &script);
        }
        self.wait_ready();
    }

    fn stop_agents(&self) {
        for node in [1, 2] {
            self.sh(
                node,
                &format!(
                    "kill $(cat /run/lab/agent.pid) && kill $(cat /run/lab/calico.pid) && {}",
                    wait_for_end("/run/lab/calico.pid")
                ),
            );
        }
    }

    fn wait_ready(&self) {
        for node in [1, 2] {
            self.wait_for("readiness", || {
                self.try_sh(node, "timeout 20 wget -q -O /dev/null http://localhost:9099/readiness").0 == 0
            });
        }
    }

    /// Attaches a workload; its address.
    fn add(&self, node: u8, name: &str) -> Ipv4Addr {
        let conf = r#"{"cniVersion":"1.0.0","name":"kns.lab","type":"calico","agent_socket":"/run/calico/cni.sock",
            "policy_setup_timeout_seconds":60,"datastore_type":"etcdv3","etcd_endpoints":"http://10.65.0.1:2379",
            "ipam":{"type":"calico-ipam","assign_ipv4":"true","assign_ipv6":"false"}}"#;
        let said = self.sh(
            node,
            &format!(
                "ip netns add {name}; export CNI_COMMAND=ADD CNI_CONTAINERID={name} CNI_NETNS=/run/netns/{name} \
                 CNI_IFNAME=eth0 CNI_PATH=/opt/cni/bin; \
                 export CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAMESPACE=lab;K8S_POD_NAME={name}'; \
                 {DATASTORE} NODENAME=node{node} /opt/cni/bin/calico 2>/run/lab/cni.log <<'X'\n{conf}\nX"
            ),
        );
        let result: Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"));
        let address = result["ips"][0]["address"].as_str().expect("an address");
        address.split('/').next().expect("before the length").parse().expect("IPv4")
    }

    fn answers(&self, node: u8, from: &str, to: Ipv4Addr) -> bool {
        self.try_sh(node, &format!("ip netns exec {from} ping -c 1 -W 2 {to}")).0 == 0
    }

    fn routes(&self, node: u8) -> String {
        self.sh(node, "ip -4 route show | grep -v 'proto kernel' || true")
    }

    /// The packets that the wire carries meanwhile and that are from or to workloads.
    fn captured(&self, act: impl FnOnce()) -> Vec<Packet> {
        let file = self.lab.capture();
        let before = pcap::read(&file).len();
        act();
        let is_meant = |packet: &Packet| {
            let of_pool = |header: Header| [header.from, header.to].iter().any(|a| a.octets()[1] == 244);
            let is_vxlan = packet.outer.port == Some(VXLAN_PORT);
            packet.inner.is_some() || of_pool(packet.outer) || is_vxlan
        };
        pcap::read(&file)[before..].iter().copied().filter(is_meant).collect()
    }

    /// Packets that a rule of ours has counted, found by its comment.
    fn counted(&self, node: u8, comment: &str) -> u64 {
        let listed = self.sh(node, "nft -j list table inet calico");
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let rules = listed["nftables"].as_array().into_iter().flatten().filter_map(|o| o.get("rule"));
        let meant = rules.filter(|rule| rule["comment"].as_str().is_some_and(|text| text.contains(comment)));
        let packets = |rule: &Value| {
            rule["expr"].as_array()?.iter().find_map(|expr| expr["counter"]["packets"].as_u64())
        };
        meant.filter_map(packets).sum()
    }
}

/// The end of a shell script that waits for a process, which nobody may bury.
fn wait_for_end(pid_file: &str) -> String {
    format!("while grep -qs 'State:.[^Z]' /proc/$(cat {pid_file})/status; do sleep 0.1; done")
}

const DATASTORE: &str = "DATASTORE_TYPE=etcdv3 ETCD_ENDPOINTS=http://10.65.0.1:2379";

/// An IPv4 packet; the kernel that sends it fills in the checksum of the outermost header, nobody that of an inner one.
fn packet(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + payload.len()).expect("a short packet");
    let mut header = vec![0x45, 0];
    header.extend(length.to_be_bytes());
    header.extend([0, 0, 0x40, 0, 64, protocol, 0, 0]);
    header.extend(from.octets());
    header.extend(to.octets());
    let sum: u32 = header.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("few words");
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    [&header, payload].concat()
}

/// A datagram of `inner.0` to `inner.1`, encapsulated by `outer.0` for `outer.1`, in hexadecimal.
fn encapsulated(outer: (Ipv4Addr, Ipv4Addr), inner: (Ipv4Addr, Ipv4Addr)) -> String {
    let datagram = [&PORT.to_be_bytes()[..], &PORT.to_be_bytes(), &[0, 16, 0, 0], b"injected"].concat();
    let bytes = packet(IPIP, outer.0, outer.1, &packet(UDP, inner.0, inner.1, &datagram));
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn ipip_between_two_machines() {
    let Some(bench) = Bench::up() else { return };
    // What is tested must be there: without it everything below would be about nothing.
    bench.sh(1, "find /lib/modules -name ipip.ko | grep . && [ ! -e /sys/module/ipip ]");
    bench.sh(
        1,
        "etcd --data-dir /run/etcd --unsafe-no-fsync --listen-client-urls http://0.0.0.0:2379 \
         --advertise-client-urls http://10.65.0.1:2379 >/var/log/etcd.log 2>&1 &",
    );
    bench.start_agents(24);
    bench.calicoctl(
        "apiVersion: projectcalico.org/v3\nkind: Profile\nmetadata: {name: kns.lab}\n\
         spec: {ingress: [{action: Allow}], egress: [{action: Allow}]}",
    );
    let (a, b) = (bench.add(1, "a"), bench.add(2, "b"));
    println!("workloads: a {a} on node1, b {b} on node2");
    always(&bench, a, b);
    only_nodes_may_send(&bench, a, b);
    pools_change_hands(&bench, a, b);
    cross_subnet(&bench, a, b);
    routes_by_bird(&bench, a, b);
    kernel_keeps_the_contract(&bench);
}

/// Everything between nodes is encapsulated, by the nodes' addresses, and the tunnel has its own.
fn always(bench: &Bench, a: Ipv4Addr, b: Ipv4Addr) {
    for (node, other) in [(1, TWO), (2, ONE)] {
        bench.wait_for("the route through the tunnel", || {
            bench.routes(node).contains(&format!("via {other} dev tunl0 proto 80 metric 1025 onlink"))
        });
        let device = bench.sh(node, "ip -d -o link show tunl0; ip -o -4 addr show tunl0");
        assert!(device.contains("mtu 1480") && device.contains("ipip") && device.contains(",UP"), "{device}");
        let resource = bench.sh(1, &format!("{DATASTORE} calicoctl get node node{node} -o json"));
        let resource: Value = serde_json::from_str(&resource).expect("JSON");
        let address = resource["spec"]["bgp"]["ipv4IPIPTunnelAddr"].as_str().expect("a tunnel address");
        assert!(device.contains(&format!("inet {address}/32")), "{address} in {device}");
        assert_eq!(bench.sh(node, "cat /var/lib/calico/mtu").trim(), "1480");
        assert_eq!(bench.sh(node, "cat /proc/sys/net/ipv4/conf/tunl0/rp_filter").trim(), "2");
    }
    assert!(bench.sh(1, "ip netns exec a ip link show eth0").contains("mtu 1480"));
    bench.wait_for("a way from a to b", || bench.answers(1, "a", b));
    let seen = bench.captured(|| {
        // The largest packet that fits.
        bench.sh(1, &format!("ip netns exec a ping -c 5 -i 0.2 -W 5 -M do -s 1452 {b}"));
    });
    let ping = |from, to| Header { from, to, protocol: ICMP, port: None };
    let carried = |from, to, inner| {
        let outer = Header { from, to, protocol: IPIP, port: None };
        seen.iter().filter(|p| **p == Packet { outer, inner: Some(inner) }).count()
    };
    let (there, back) = (carried(ONE, TWO, ping(a, b)), carried(TWO, ONE, ping(b, a)));
    println!(
        "always: {there} requests and {back} answers in IP in IP of {} packets; the first: {:?}",
        seen.len(),
        seen[0]
    );
    assert_eq!((there, back, seen.len()), (5, 5, 10), "{seen:?}");
    // The host speaks by its tunnel's address, which the other routes back.
    let tunnel = bench.sh(1, "ip -o -4 addr show tunl0 | awk '{print $4}' | cut -d/ -f1");
    let tunnel: Ipv4Addr = tunnel.trim().parse().expect("an address");
    let seen = bench.captured(|| drop(bench.sh(1, &format!("ping -c 2 -i 0.2 -W 5 {b}"))));
    assert_eq!(seen.first().and_then(|p| p.inner), Some(ping(tunnel, b)), "{seen:?}");
}

/// Encapsulated packets of a stranger and of a workload come to nobody; the same packet of a node does.
fn only_nodes_may_send(bench: &Bench, a: Ipv4Addr, b: Ipv4Addr) {
    bench.sh(
        1,
        &format!(
            "ip netns exec a nft 'add table inet seen; \
             add chain inet seen arrivals {{ type filter hook prerouting priority -450; }}; \
             add rule inet seen arrivals udp dport {PORT} counter'"
        ),
    );
    let arrived = || -> u64 {
        let listed = bench.sh(1, "ip netns exec a nft list table inet seen");
        let count = listed.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
        count.and_then(|count| count.parse().ok()).expect("a counter")
    };
    let send = |node: u8, place: &str, to: Ipv4Addr, bytes: &str| {
        bench.sh(node, &format!("{place} calico lab probe packet {to} {bytes}"));
    };
    let refused = || bench.counted(1, "IP in IP from elsewhere");
    // The genuine one.
    send(2, "", ONE, &encapsulated((TWO, ONE), (b, a)));
    bench.wait_for("the genuine packet", || arrived() == 1);

    bench.sh(2, &format!("ip address add {STRANGER}/24 dev eth0"));
    let before = refused();
    let seen = bench.captured(|| {
        send(2, "", ONE, &encapsulated((STRANGER, ONE), (b, a)));
        bench.wait_for("the stranger's end", || refused() == before + 1);
    });
    let from_stranger = seen.iter().filter(|p| p.outer.from == STRANGER && p.inner.is_some()).count();
    println!("spoofed: {from_stranger} packet of {STRANGER} came and was refused by the counted rule");
    assert_eq!(from_stranger, 1, "{seen:?}");
    bench.sh(2, &format!("ip address del {STRANGER}/24 dev eth0"));

    // A workload's, to the other node and to its own, whether it says who it is or not.
    let mine = || bench.counted(1, "Workloads may not send IP in IP");
    let before = mine();
    let seen = bench.captured(|| {
        send(1, "ip netns exec a", TWO, &encapsulated((a, TWO), (a, b)));
        bench.wait_for("the workload's end", || mine() == before + 1);
        let before = refused();
        send(1, "ip netns exec a", ONE, &encapsulated((a, ONE), (b, a)));
        bench.wait_for("its end at its own node", || refused() == before + 1);
        // Under a node's address the source check has it before that.
        let spoofed = || bench.counted(1, "The source does not belong to this interface");
        let before = spoofed();
        send(1, "ip netns exec a", ONE, &encapsulated((TWO, ONE), (b, a)));
        bench.wait_for("its end under a node's address", || spoofed() == before + 1);
    });
    assert_eq!(seen.iter().filter(|p| p.inner.is_some()).count(), 0, "{seen:?}");
    assert_eq!(arrived(), 1, "none of them");
    send(2, "", ONE, &encapsulated((TWO, ONE), (b, a)));
    bench.wait_for("the genuine packet after all of them", || arrived() == 2);
    println!("spoofed: three packets of a workload left no node; the genuine ones before and after arrived");
}

/// IPIP → VXLAN → none → VXLAN → IPIP → none → IPIP while packets flow.
fn pools_change_hands(bench: &Bench, a: Ipv4Addr, b: Ipv4Addr) {
    let ping =
        format!("ip netns exec a ping -q -i 0.05 {b} >/run/lab/ping 2>&1 & echo $! >/run/lab/ping.pid");
    let start = || drop(bench.sh(1, &ping));
    let stop = || {
        let gone = wait_for_end("/run/lab/ping.pid");
        let summary = bench
            .sh(1, &format!("kill -INT $(cat /run/lab/ping.pid); {gone}; grep transmitted /run/lab/ping"));
        let words: Vec<&str> = summary.split_whitespace().collect();
        let number = |at: usize| -> u64 { words[at].parse().unwrap_or_else(|_| panic!("{summary}")) };
        (number(0), number(3))
    };
    let settled = |way: &str, devices: &[&str]| {
        for node in [1, 2] {
            bench.wait_for(way, || {
                let routes = bench.routes(node);
                let is_between = |line: &&str| line.contains(" via ") && !line.starts_with("default");
                let between: Vec<&str> = routes.lines().filter(is_between).collect();
                let links = bench.sh(node, "ip -o link show up");
                let up = |device: &&str| {
                    links.contains(&format!(" {device}:")) || links.contains(&format!(" {device}@"))
                };
                let present: Vec<&str> = ["tunl0", "vxlan.calico"].into_iter().filter(up).collect();
                between.len() == 1 && between[0].contains(way) && present == devices
            });
        }
        bench.wait_ready();
    };
    let (ipip, vxlan, none) = (
        ("dev tunl0 proto 80", vec!["tunl0"]),
        ("dev vxlan.calico proto 80", vec!["vxlan.calico"]),
        ("dev eth0 proto bird", vec![]),
    );
    let mut lost = Vec::new();
    for (name, modes, (way, devices)) in [
        ("IPIP to VXLAN", ("Never", "Always"), vxlan.clone()),
        ("VXLAN to none", ("Never", "Never"), none.clone()),
        ("none to VXLAN", ("Never", "Always"), vxlan),
        ("VXLAN to IPIP", ("Always", "Never"), ipip.clone()),
        ("IPIP to none", ("Never", "Never"), none),
        ("none to IPIP", ("Always", "Never"), ipip),
    ] {
        start();
        let began = Instant::now();
        bench.encapsulate(modes.0, modes.1);
        settled(way, &devices);
        let (sent, received) = stop();
        println!("{name}: {} of {sent} packets lost in {:?}", sent - received, began.elapsed());
        assert!(sent > 20, "{name}: only {sent} packets");
        lost.push((name, sent - received));
        if devices.is_empty() {
            // What nobody configures any more is switched off and has no address, and nobody is told of one.
            bench.wait_for("tunnel addresses given back", || {
                let nodes = bench.sh(1, &format!("{DATASTORE} calicoctl get node -o yaml"));
                !nodes.contains("TunnelAddr")
            });
            for node in [1, 2] {
                let device = bench.sh(node, "ip -o link show tunl0; ip -o -4 addr show tunl0");
                assert!(!device.contains("inet") && !device.contains(",UP"), "{device}");
            }
        }
    }
    assert!(lost.iter().all(|(_, count)| *count == 0), "{lost:?}");
    bench.wait_for("a way from a to b", || bench.answers(1, "a", b));
    let check = bench.sh(1, &format!("{DATASTORE} calicoctl ipam check 2>&1 || true"));
    assert!(check.contains("0 allocations not in use") || !check.contains("leak"), "{a}: {check}");
}

/// On one subnet nothing is encapsulated, across subnets everything is.
fn cross_subnet(bench: &Bench, a: Ipv4Addr, b: Ipv4Addr) {
    bench.encapsulate("CrossSubnet", "Never");
    for (node, other) in [(1, TWO), (2, ONE)] {
        bench.wait_for("a direct route", || {
            bench.routes(node).contains(&format!("via {other} dev eth0 proto 80"))
        });
    }
    let pings = || drop(bench.sh(1, &format!("ip netns exec a ping -c 5 -i 0.2 -W 5 {b}")));
    let near = bench.captured(pings);
    let is_plain = |p: &&Packet| p.inner.is_none() && p.outer.protocol == ICMP;
    assert_eq!((near.iter().filter(is_plain).count(), near.len()), (10, 10), "{near:?}");
    // Each node alone on its subnet: the other is beyond.
    bench.stop_agents();
    bench.start_agents(32);
    for (node, other) in [(1, TWO), (2, ONE)] {
        bench.wait_for("a route through the tunnel", || {
            bench.routes(node).contains(&format!("via {other} dev tunl0 proto 80"))
        });
    }
    bench.wait_for("a way from a to b", || bench.answers(1, "a", b));
    let far = bench.captured(pings);
    assert_eq!((far.iter().filter(|p| p.inner.is_some()).count(), far.len()), (10, 10), "{a}: {far:?}");
    println!("cross-subnet: 10 of 10 packets plain on one subnet, 10 of 10 in IP in IP across two");
    bench.stop_agents();
    bench.start_agents(24);
}

/// The operator leaves IPIP's routes to BIRD.
fn routes_by_bird(bench: &Bench, a: Ipv4Addr, b: Ipv4Addr) {
    bench.encapsulate("Always", "Never");
    let own = |kind: &str, word: &str| {
        bench.calicoctl(&format!(
            "apiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{name: default}}\n\
             spec: {{programClusterRoutes: {word}}}"
        ));
    };
    own("BGPConfiguration", "Enabled");
    own("FelixConfiguration", "Disabled");
    for (node, other) in [(1, TWO), (2, ONE)] {
        bench.wait_for("BIRD's route through the tunnel alone", || {
            let routes = bench.routes(node);
            let bird = format!("via {other} dev tunl0 proto bird metric 1024 onlink");
            routes.contains(&bird) && !routes.contains("dev tunl0 proto 80")
        });
    }
    bench.wait_ready();
    bench.wait_for("a way from a to b", || bench.answers(1, "a", b));
    let seen = bench.captured(|| drop(bench.sh(1, &format!("ip netns exec a ping -c 5 -i 0.2 -W 5 {b}"))));
    assert_eq!((seen.iter().filter(|p| p.inner.is_some()).count(), seen.len()), (10, 10), "{a}: {seen:?}");
    println!("by BIRD: {}", bench.routes(1).lines().find(|l| l.contains("tunl0")).unwrap_or_default());
    own("FelixConfiguration", "EnabledIPIPOnly");
    own("BGPConfiguration", "EnabledNoEncapOnly");
    for node in [1, 2] {
        bench.wait_for("the agent's routes alone", || {
            let routes = bench.routes(node);
            routes.contains("dev tunl0 proto 80") && !routes.contains("proto bird")
        });
    }
    bench.wait_for("a way from a to b", || bench.answers(1, "a", b));
}

/// The suite that the fake kernel passes, on this one: the tests of `calico-linux`, if they were given.
fn kernel_keeps_the_contract(bench: &Bench) {
    if bench.try_sh(1, &format!("[ -x {SUITE} ]")).0 != 0 {
        println!("contract: CALICO_QEMU_SUITE names no test program of calico-linux; left out");
        return;
    }
    let said = bench.sh(1, &format!("{SUITE} --nocapture --test-threads 1 kernel::tests::the_real_kernel"));
    let clauses = said.lines().filter(|line| line.contains("ipip")).count();
    println!("contract: {}", said.lines().find(|line| line.starts_with("test result")).unwrap_or_default());
    assert!(
        said.contains("2 passed; 0 failed") && clauses >= 2 && !said.contains("nothing more to ask"),
        "{said}"
    );
}
