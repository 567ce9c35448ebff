//! Building and removing a lab: the fabric, the datastore, the nodes.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::CloneFlags;

use crate::args::{Datastore, UpArgs};
use crate::namespace::{self, Namespaces};
use crate::process::output;
use crate::state::{Lab, MARK};
use crate::topology::Topology;
use crate::wait::until;
use crate::{advice, directory, node, topology, workload};

/// The fabric's own address on the first subnet, where etcd listens.
pub const ADDRESS_V4: &str = "10.65.0.254";
/// The same in IPv6.
pub const ADDRESS_V6: &str = "fd65::fe";

/// One of the fabric's subnets: a bridge, on which the fabric is the router, or in a rack the rack's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Subnet(pub u8);

impl Subnet {
    /// The bridge.
    fn bridge(self) -> String {
        format!("fabric{}", self.0)
    }

    /// The router's addresses.
    pub fn router(self) -> (String, String) {
        match self.0 {
            0 => (ADDRESS_V4.to_owned(), ADDRESS_V6.to_owned()),
            n => (format!("10.65.{n}.254"), format!("fd65:0:0:{n:x}::fe")),
        }
    }

    /// Its prefixes.
    pub fn prefixes(self) -> (String, String) {
        let v6 = match self.0 {
            0 => "fd65::/64".to_owned(),
            n => format!("fd65:0:0:{n:x}::/64"),
        };
        (format!("10.65.{}.0/24", self.0), v6)
    }

    /// The addresses of node `number` on it.
    pub fn node(self, number: u8) -> (String, String) {
        let v6 = match self.0 {
            0 => format!("fd65::{number:x}"),
            n => format!("fd65:0:0:{n:x}::{number:x}"),
        };
        (format!("10.65.{}.{number}", self.0), v6)
    }
}

/// Builds a lab and waits until every node is ready.
pub fn build(dir: &Path, args: &UpArgs) -> Result<Lab> {
    directory::check_free(dir)?;
    topology::check(args)?;
    check_programs(args)?;
    std::fs::create_dir_all(dir.join("bin")).with_context(|| format!("{}", dir.display()))?;
    std::fs::create_dir_all(dir.join("datastore"))?;
    let own = std::env::current_exe().context("own path")?;
    for name in ["calico", "calico-ipam", "calicoctl"] {
        let link = dir.join("bin").join(name);
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(&own, &link).with_context(|| format!("{}", link.display()))?;
    }
    step("fabric");
    let mut lab = Lab::new(dir, args.datastore)?;
    // Before anything runs: what fails halfway can still be taken down.
    lab.save()?;
    spawn_all(&mut lab, args).inspect_err(|_| {
        eprintln!("the lab's logs are in {}; {} removes it", dir.display(), advice::command(dir, "down"));
    })?;
    Ok(lab)
}

/// What every node and the fabric run, and the Debian package that each is in.
const PROGRAMS: [(&str, &str); 3] = [("ip", "iproute2"), ("bird", "bird2"), ("curl", "curl")];

/// Refuses a lab whose programs are not there, before anything is made.
fn check_programs(args: &UpArgs) -> Result<()> {
    let etcd = (args.datastore == Datastore::Etcd).then_some(("etcd", "etcd-server"));
    for (program, package) in PROGRAMS.into_iter().chain(etcd) {
        let is_there = crate::state::PATH.split(':').any(|dir| Path::new(dir).join(program).exists());
        if !is_there {
            bail!(
                "{program} is not there: install Debian's package {package} (its own service need not run)"
            );
        }
    }
    Ok(())
}

fn spawn_all(lab: &mut Lab, args: &UpArgs) -> Result<()> {
    lab.fabric_pid = spawn_holder(lab)?;
    lab.save()?;
    link_subnets(lab.fabric_pid, if args.topology == Topology::Racks { 1 } else { args.subnets })?;
    if args.datastore == Datastore::Etcd {
        step("etcd");
        spawn_etcd(lab)?;
    }
    topology::prepare(lab, args)?;
    for number in 1..=args.topology.nodes(args.nodes) {
        step(&format!("node{number}"));
        node::spawn(lab, number, args.topology.subnet(number, args.subnets), args.before.as_deref())?;
    }
    if !args.no_wait {
        step("waiting until all nodes are ready");
        node::wait_ready(lab, Duration::from_secs(60))?;
    }
    Ok(())
}

/// Says what is going on, on standard error so that standard output stays for results.
pub fn step(text: &str) {
    if std::io::stderr().is_terminal() {
        anstream::eprintln!("\u{1b}[2m…\u{1b}[0m {text}");
    } else {
        eprintln!("… {text}");
    }
}

/// A process that holds namespaces of its own, the fabric's or a router's: a shell-less sleeper.
pub fn spawn_holder(lab: &Lab) -> Result<i32> {
    let mut command = Command::new("sleep");
    command
        .env(MARK, &lab.mark)
        .arg("infinity")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    crate::process_group_of_its_own(&mut command);
    namespace::isolate(
        &mut command,
        CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS,
    );
    Ok(i32::try_from(command.spawn().context("sleep")?.id())?)
}

/// A command that runs in the fabric.
pub fn in_fabric(lab: &Lab, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    in_place(lab.fabric_pid, program)
}

/// A command that runs where the process `pid` does.
pub fn in_place(pid: i32, program: impl AsRef<std::ffi::OsStr>) -> Result<Command> {
    let mut command = Command::new(program);
    Namespaces::of_node(pid)?.enter(&mut command);
    Ok(command)
}

/// Makes the bridge of a fabric of one subnet where the process `pid` runs.
pub fn link_fabric(pid: i32) -> Result<()> {
    link_subnets(pid, 1)
}

/// Makes a bridge for each subnet where the process `pid` runs, which routes between them.
fn link_subnets(pid: i32, subnets: u8) -> Result<()> {
    output(in_place(pid, "ip")?.args(["link", "set", "lo", "up"]))?;
    for subnet in (0..subnets).map(Subnet) {
        let (bridge, (v4, v6)) = (subnet.bridge(), subnet.router());
        link_bridge(pid, subnet)?;
        for line in [format!("addr add {v4}/24 dev {bridge}"), format!("addr add {v6}/64 dev {bridge} nodad")]
        {
            output(in_place(pid, "ip")?.args(line.split(' ')))?;
        }
    }
    // One subnet needs no router.
    if subnets > 1 {
        forward(pid)?;
    }
    // Bridged frames must not meet this namespace's netfilter hooks: the fabric is a wire.
    for key in ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"] {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        output(in_place(pid, "sh")?.args(["-c", &format!("[ ! -e {path} ] || echo 0 > {path}")]))?;
    }
    Ok(())
}

/// Makes the bridge of a subnet where the process `pid` runs; the fabric has no address on it.
pub fn link_bridge(pid: i32, subnet: Subnet) -> Result<()> {
    let bridge = subnet.bridge();
    output(in_place(pid, "ip")?.args(["link", "add", &bridge, "type", "bridge"]))?;
    output(in_place(pid, "ip")?.args(["link", "set", &bridge, "up"]))?;
    Ok(())
}

/// Makes the place where the process `pid` runs a router.
pub fn forward(pid: i32) -> Result<()> {
    for key in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        output(in_place(pid, "sh")?.args(["-c", &format!("echo 1 > /proc/sys/{key}")]))?;
    }
    Ok(())
}

/// A wire from the first subnet of the fabric, where the process `fabric` runs, to `eth0` where the process `pid` runs.
pub fn wire(fabric: i32, port: &str, pid: i32, ipv4: &str, ipv6: &str) -> Result<()> {
    wire_to(Subnet::default(), fabric, port, pid, ipv4, ipv6)
}

/// A wire from a subnet of the fabric, whose router leads elsewhere.
pub fn wire_to(subnet: Subnet, fabric: i32, port: &str, pid: i32, ipv4: &str, ipv6: &str) -> Result<()> {
    let (router_v4, router_v6) = subnet.router();
    plug(subnet, fabric, port, pid, "eth0", (ipv4, ipv6))?;
    for line in [
        // As any machine: proxy ARP answers for the workloads' gateway only where a route leads elsewhere.
        format!("route add default via {router_v4}"),
        format!("-6 route add default via {router_v6}"),
    ] {
        output(in_place(pid, "ip")?.args(line.split(' ')))?;
    }
    Ok(())
}

/// A wire from a subnet of the fabric to a device with two addresses where the process `pid` runs.
pub fn plug(
    subnet: Subnet,
    fabric: i32,
    port: &str,
    pid: i32,
    device: &str,
    (ipv4, ipv6): (&str, &str),
) -> Result<()> {
    let peer = pid.to_string();
    output(
        in_place(fabric, "ip")?
            .args(["link", "add", port, "type", "veth", "peer", "name", device, "netns", &peer]),
    )?;
    output(in_place(fabric, "ip")?.args(["link", "set", port, "master", &subnet.bridge(), "up"]))?;
    for line in [
        "link set lo up".to_owned(),
        format!("addr add {ipv4}/24 dev {device}"),
        format!("addr add {ipv6}/64 dev {device} nodad"),
        format!("link set {device} up"),
    ] {
        output(in_place(pid, "ip")?.args(line.split(' ')))?;
    }
    Ok(())
}

/// Starts etcd, or starts it again on its data, and waits until it is healthy.
pub fn spawn_etcd(lab: &Lab) -> Result<()> {
    let log = std::fs::OpenOptions::new().create(true).append(true).open(lab.dir.join("etcd.log"))?;
    let client = format!("http://{ADDRESS_V4}:2379");
    let mut command = in_fabric(lab, "etcd")?;
    command
        .args(["--data-dir", &lab.dir.join("datastore/etcd").display().to_string()])
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args([
            "--listen-peer-urls",
            "http://127.0.0.1:2380",
            "--initial-advertise-peer-urls",
            "http://127.0.0.1:2380",
        ])
        .args(["--initial-cluster", "default=http://127.0.0.1:2380"])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    crate::process_group_of_its_own(&mut command);
    let child = command.spawn().context("etcd: is etcd-server installed?")?;
    std::fs::write(lab.dir.join("etcd.pid"), child.id().to_string())?;
    let healthy = until(Duration::from_secs(20), Duration::from_millis(100), || {
        in_fabric(lab, "curl")
            .and_then(|mut c| output(c.args(["-fsS", "--max-time", "1", &format!("{client}/health")])))
            .is_ok_and(|text| text.contains("true"))
    });
    if !healthy {
        bail!("etcd is not healthy after 20 s; see {}", lab.dir.join("etcd.log").display());
    }
    Ok(())
}

/// Ends every process of a lab and removes its directory.
pub fn tear_down(dir: &Path) -> Result<()> {
    let lab = Lab::load(dir)?;
    let mut problems = Vec::new();
    // The plugin detaches where the node is; on one that has ended there is nothing to detach from.
    let attached = lab.workloads.iter().filter(|(_, workload)| lab.runs(&workload.node));
    for name in attached.map(|(name, _)| name.clone()).collect::<Vec<_>>() {
        if let Err(error) = workload::remove(&mut lab.clone(), &name) {
            // The namespaces go in a moment, and everything in them; say it and go on.
            eprintln!("calico lab: workload {name}: {error:#}");
        }
    }
    let own = namespace::mount_namespace(i32::try_from(std::process::id())?);
    let marked = crate::process::marked(&lab.mark);
    let identities: BTreeSet<String> = marked.into_iter().filter_map(namespace::mount_namespace).collect();
    for identity in identities.into_iter().filter(|identity| Some(identity) != own.as_ref()) {
        if let Err(error) = crate::process::end_all_in(&identity) {
            problems.push(format!("{error:#}"));
        }
    }
    if !problems.is_empty() {
        bail!("{}", problems.join("; "));
    }
    if let Err(error) = await_removal() {
        eprintln!("calico lab: the kernel may still be removing the lab's namespaces: {error:#}");
    }
    std::fs::remove_dir_all(dir).with_context(|| format!("{}", dir.display()))
}

/// How long the kernel may take to remove the namespaces of a lab with hundreds of workloads.
const REMOVAL: Duration = Duration::from_secs(60);

/// Waits until the kernel has removed the network namespaces that nobody has any more. It does so in the background,
/// first come, first served, and holds up everybody's changes of interfaces and routes meanwhile: what began now would be
/// slow for seconds. A namespace with one end of a wire is sent after them; its other end tells when its turn was.
fn await_removal() -> Result<()> {
    let mut watcher = spawn_apart()?;
    let outcome = i32::try_from(watcher.id()).map_err(Into::into).and_then(await_turn);
    watcher.kill().and_then(|()| watcher.wait())?;
    outcome
}

/// Sends a namespace to be removed, and watches where the process `here` runs until it is.
fn await_turn(here: i32) -> Result<()> {
    let mut last = spawn_apart()?;
    let peer = last.id().to_string();
    let wired = in_place(here, "ip").and_then(|mut ip| {
        output(ip.args(["link", "add", "near", "type", "veth", "peer", "name", "far", "netns", &peer]))
    });
    last.kill().and_then(|()| last.wait())?;
    wired?;
    // A list that cannot be had says nothing.
    let is_gone = || {
        let links = in_place(here, "ip").and_then(|mut ip| output(ip.args(["-o", "link", "show"])));
        links.is_ok_and(|links| !links.contains(" near@"))
    };
    if !crate::wait::until(REMOVAL, Duration::from_millis(20), is_gone) {
        bail!("not done after {} s", REMOVAL.as_secs());
    }
    Ok(())
}

/// A process that does nothing in a network namespace of its own.
fn spawn_apart() -> Result<Child> {
    let mut command = Command::new("sleep");
    command.arg("infinity").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    namespace::isolate(&mut command, CloneFlags::CLONE_NEWNET);
    command.spawn().context("sleep")
}
