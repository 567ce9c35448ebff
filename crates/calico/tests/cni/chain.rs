//! Under `cnitool`, the reference runtime: alone, and with portmap, bandwidth and tuning of the CNI project chained.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use calico_linux::netns::Netns;
use serde_json::{Value, json};

use crate::machine::{Machine, OTHERS, on_machine, run};

/// `make setup` builds it here; it comes from the CNI project's own repository.
fn cnitool() -> Option<PathBuf> {
    let cached = std::env::home_dir()?.join(".cache/calico-lab/bin/cnitool");
    let found = cached.exists().then_some(cached);
    if found.is_none() {
        println!("skipped: no cnitool");
    }
    found
}

struct Runtime<'a> {
    machine: &'a Machine,
    cnitool: PathBuf,
    capabilities: Value,
}

impl Runtime<'_> {
    /// Writes the list of plugins, ours first.
    fn configure(&self, first: &Value, chained: &[Value]) {
        let mut first = first.clone();
        let version = first["cniVersion"].take();
        let plugins: Vec<Value> = std::iter::once(&first)
            .chain(chained)
            .cloned()
            .map(|mut plugin| {
                plugin.as_object_mut().unwrap().retain(|name, _| name != "cniVersion" && name != "name");
                plugin
            })
            .collect();
        let list = json!({"cniVersion": version, "name": "net1", "plugins": plugins});
        std::fs::create_dir_all(self.dir()).unwrap();
        std::fs::write(self.dir().join("10-net1.conflist"), list.to_string()).unwrap();
    }

    fn dir(&self) -> PathBuf {
        self.machine.dir.path().join("net.d")
    }

    fn run(&self, verb: &str, netns: &str) -> Result<String, String> {
        let output = Command::new(&self.cnitool)
            .args([verb, "net1", &format!("/run/netns/{netns}")])
            .env("NETCONFPATH", self.dir())
            .env("CNI_PATH", format!("{}:{OTHERS}", self.machine.bin().display()))
            .env("CAP_ARGS", self.capabilities.to_string())
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if output.status.success() {
            Ok(text(output.stdout))
        } else {
            Err(text(output.stderr) + &text(output.stdout))
        }
    }
}

#[test]
fn cnitool_adds_checks_and_removes() {
    let Some(cnitool) = cnitool() else { return };
    on_machine(move |machine| {
        let agent = machine.agent();
        let runtime = Runtime { machine: &machine, cnitool, capabilities: json!({}) };
        let netns = machine.container("c1");
        let mut configurations = Vec::new();
        for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
            for mut conf in [machine.direct(), machine.through_agent()] {
                conf["cniVersion"] = version.into();
                configurations.push((version, conf));
            }
        }
        for (version, conf) in configurations {
            runtime.configure(&conf, &[]);
            let result: Value = serde_json::from_str(&runtime.run("add", "c1").unwrap()).unwrap();
            assert_eq!(result["cniVersion"], version);
            assert_eq!(result["ips"].as_array().unwrap().len(), 2);
            if version != "0.3.1" {
                runtime.run("check", "c1").unwrap();
                netns.run(|| run("ip", &["route", "del", "default"])).unwrap();
                let error = runtime.run("check", "c1").unwrap_err();
                assert!(error.contains("the container has no route to 0.0.0.0/0"), "{error}");
            }
            if version == "1.1.0" {
                runtime.run("status", "c1").unwrap();
            }
            for _ in 0..2 {
                runtime.run("del", "c1").unwrap();
            }
            assert_eq!(machine.leftovers(), BTreeSet::new());
        }
        // cnitool deletes what it remembers and names no valid attachment; what it does not remember stays.
        let conf = machine.through_agent();
        let _other = machine.container("other");
        machine.verb("ADD", "other", &conf).unwrap();
        let other = machine.leftovers();
        runtime.run("add", "c1").unwrap();
        runtime.run("gc", "c1").unwrap();
        assert_eq!(machine.leftovers(), other);
        agent.stop();
    });
}

/// A connection from the host, answered inside the container: the bytes must come through.
fn assert_served(server: &Netns, port: u16, address: &str) {
    let listener = server.run(|| TcpListener::bind(("0.0.0.0", port))).unwrap().unwrap();
    let served = std::thread::spawn(move || listener.accept().unwrap().0.write_all(b"served"));
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(std::time::Duration::from_secs(5))).unwrap();
    let mut said = String::new();
    client.read_to_string(&mut said).unwrap();
    assert_eq!(said, "served");
    served.join().unwrap().unwrap();
}

#[test]
fn portmap_bandwidth_and_tuning_follow_us() {
    let Some(cnitool) = cnitool() else { return };
    if !["portmap", "bandwidth", "tuning"].iter().all(|p| Path::new(OTHERS).join(p).exists()) {
        return println!("skipped: no chained plugins in {OTHERS}");
    }
    on_machine(move |machine| {
        if let Some(refusal) = no_ifb() {
            return println!("skipped: the bandwidth plugin needs ifb devices: {refusal}");
        }
        let agent = machine.agent();
        let capabilities = json!({
            "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
            "bandwidth": {"ingressRate": 8_000_000, "ingressBurst": 800_000, "egressRate": 16_000_000, "egressBurst": 800_000},
        });
        let runtime = Runtime { machine: &machine, cnitool, capabilities };
        let netns = machine.container("c1");
        // Debian's plugins speak 1.0.0. The host needs a way out, or it does not answer for the gateway's address.
        run("ip", &["addr", "add", "192.0.2.1/32", "dev", "lo"]);
        run("ip", &["route", "add", "default", "dev", "lo"]);
        for mut conf in [machine.direct(), machine.through_agent()] {
            conf["cniVersion"] = "1.0.0".into();
            let portmap = json!({"type": "portmap", "snat": true, "capabilities": {"portMappings": true}});
            let others = [
                json!({"type": "bandwidth", "capabilities": {"bandwidth": true}}),
                json!({"type": "tuning", "mtu": 1300, "sysctl": {"net.ipv4.conf.eth0.log_martians": "1"}}),
            ];
            let all = [&[portmap][..], &others].concat();
            runtime.configure(&conf, &all);
            let result: Value = serde_json::from_str(&runtime.run("add", "c1").unwrap()).unwrap();
            let host = result["interfaces"][0]["name"].as_str().unwrap().to_owned();
            assert_served(&netns, 80, "192.0.2.1:8080");
            assert!(
                run("tc", &["qdisc", "show", "dev", &host]).contains("tbf"),
                "bandwidth found the host's side"
            );
            let inside = netns.run(|| run("ip", &["link", "show", "eth0"])).unwrap();
            assert!(inside.contains("mtu 1300"), "{inside}");
            // Debian's portmap 1.1.1 looks for each family's rules in both tables, so its own CHECK never succeeds.
            runtime.configure(&conf, &others);
            runtime.run("check", "c1").unwrap();
            runtime.configure(&conf, &all);
            runtime.run("del", "c1").unwrap();
            runtime.run("del", "c1").unwrap();
            assert_eq!(machine.leftovers(), BTreeSet::new());
            assert!(TcpStream::connect("192.0.2.1:8080").is_err(), "the mapping is gone");
        }
        agent.stop();
    });
}

/// The kernel's words if it has no ifb devices.
fn no_ifb() -> Option<String> {
    let output = Command::new("ip").args(["link", "add", "probe", "type", "ifb"]).output().unwrap();
    if output.status.success() {
        run("ip", &["link", "del", "probe"]);
        return None;
    }
    Some(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
