//! The command line of `calico lab`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, Parser, Subcommand, ValueEnum};

use crate::advice;
use crate::k8s::{self, args::K8sCommand};
use crate::probe::{self, Probe};
use crate::qemu::{self, QemuCommand};
use crate::race::{self, victim::Victim};
use crate::router::{self, args::RouterCommand};
use crate::speaker::Daemon;
use crate::topology::Topology;
use crate::{demo, fabric, init, state::Lab, status, workload};

/// Where a lab lives unless told otherwise.
pub const DEFAULT_DIR: &str = "/run/calico-lab";

/// Nodes in network namespaces on this machine: the shipped binary, BIRD, the CNI plugin, real packets.
#[derive(Parser, Debug)]
// Also where the binary is called by another name.
#[command(name = "calico lab", bin_name = "calico lab", version)]
pub struct Args {
    /// Directory of the lab: state, logs, datastore. One lab per directory. [default: /run/calico-lab; for k8s
    /// /var/cache/calico-lab/k8s, for qemu /run/calico-lab-qemu]
    #[arg(long, global = true, env = "CALICO_LAB_DIR")]
    dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

/// Where the lab's nodes keep their data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Datastore {
    /// The embedded store: one SQLite file that all nodes of this machine share.
    Embedded,
    /// A real etcd server in the fabric.
    Etcd,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Build a lab and start its nodes.
    Up(UpArgs),
    /// End every process of the lab and remove it.
    Down,
    /// Show nodes, routers, endpoints, routes and BGP sessions.
    Status {
        /// `ps` or `json`.
        #[arg(short, long, default_value = "ps")]
        output: String,
    },
    /// Run a command on a node, on a router, in a workload, or in the fabric.
    #[command(after_help = "Examples:
  calico lab exec node1 calicoctl get nodes -o wide
  calico lab exec web -- ip address show eth0")]
    Exec {
        /// A node, a router, a workload, or `fabric`.
        place: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<OsString>,
    },
    /// Attach or detach workloads with the CNI plugin.
    #[command(subcommand)]
    Workload(WorkloadCommand),
    /// Routers that are no nodes of ours, run by FRR, GoBGP or BIRD: peers from outside.
    #[command(subcommand)]
    Router(RouterCommand),
    /// Build a lab, run the policy story with real requests, and take it down again.
    Demo(DemoArgs),
    /// A real Kubernetes cluster: control plane, nodes, kubectl.
    #[command(subcommand)]
    K8s(K8sCommand),
    /// Two machines with a kernel of their own, for what this one's does not have.
    #[command(subcommand)]
    Qemu(QemuCommand),
    /// Measure a lab that is up: how long attaching takes, what is lost when processes are killed.
    ///
    /// Each figure is one line: the race's letter, the figure's name, the figure, its unit, Calico's own figure, and ours
    /// divided by that: below 1 we are better. A dash: Calico's was not measured.
    #[command(subcommand)]
    Race(RaceCommand),
    /// One end of the packet streams of a race.
    #[command(hide = true, subcommand)]
    Probe(Probe),
    /// What each node runs first: mounts, then keeps the agent alive.
    #[command(hide = true)]
    Init {
        /// The node's name.
        node: String,
    },
}

/// How to build a lab.
#[derive(clap::Args, Debug, Clone)]
pub struct UpArgs {
    /// How the nodes are connected, and with whom they speak BGP.
    #[arg(long, value_enum, default_value_t = Topology::Flat)]
    pub topology: Topology,
    /// How many nodes. [default: 3; of reflectors 12, of racks 4]
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=60))]
    pub nodes: Option<u8>,
    /// Over how many subnets the nodes are spread in turn; the fabric routes between them. Racks are subnets of their own.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=4))]
    pub subnets: u8,
    /// What the routers of racks run.
    #[arg(long, value_enum, default_value_t = Daemon::Frr)]
    pub router: Daemon,
    /// Where the data lives.
    #[arg(long, value_enum, default_value_t = Datastore::Embedded)]
    pub datastore: Datastore,
    /// Do not wait until every node is ready.
    #[arg(long)]
    pub no_wait: bool,
    /// A shell command that every node runs before its agent: what is on a machine before Calico comes.
    #[arg(long, hide = true)]
    pub before: Option<String>,
}

/// How to run the demo.
#[derive(clap::Args, Debug, Clone)]
pub struct DemoArgs {
    #[command(flatten)]
    pub up: UpArgs,
    /// Leave the lab up at the end.
    #[arg(long)]
    pub keep: bool,
}

#[derive(Subcommand, Debug)]
enum RaceCommand {
    /// Race K: how long ADD and DEL by the CNI plugin take, in turn and 20 at a time; needs one node.
    Cni,
    /// Race O: packets lost between two nodes while processes are killed at random moments.
    Restart {
        /// What is killed.
        #[arg(long, value_enum, default_value_t = Victim::Agent)]
        victim: Victim,
        /// How often.
        #[arg(long, default_value_t = 20)]
        kills: u32,
    },
}

#[derive(Subcommand, Debug)]
enum WorkloadCommand {
    /// Attach a new workload and start a command in it.
    Add {
        /// Its name.
        name: String,
        /// On which node.
        #[arg(long)]
        node: String,
        /// In which namespace.
        #[arg(long, default_value = "default")]
        namespace: String,
        /// Labels, `key=value`.
        #[arg(long = "label")]
        labels: Vec<String>,
        /// What to run in it.
        #[arg(trailing_var_arg = true)]
        command: Vec<OsString>,
    },
    /// End a workload's processes and detach it.
    Del {
        /// Its name.
        name: String,
    },
}

/// Runs `calico lab` with `arguments` (the first is the program's name).
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match Args::try_parse_from(arguments) {
        Ok(args) => args,
        Err(error) => {
            match no_such_command(&error) {
                Some(said) => eprintln!("calico lab: {said}"),
                // A terminal that is gone can be told nothing.
                None => drop(error.print()),
            }
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("calico lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(Args { dir, command }: Args) -> Result<ExitCode> {
    let default = match command {
        Command::K8s(_) => k8s::DEFAULT_DIR,
        Command::Qemu(_) => qemu::DEFAULT_DIR,
        _ => DEFAULT_DIR,
    };
    // Nodes work elsewhere than this process does.
    let dir = std::path::absolute(dir.unwrap_or_else(|| PathBuf::from(default))).context("--dir")?;
    let needs_root = !matches!(command, Command::K8s(_) | Command::Qemu(_) | Command::Probe(_));
    // A lab that is down is down for everybody.
    let is_down = matches!(command, Command::Down) && !Lab::is_in(&dir);
    if needs_root && !is_down && !nix::unistd::geteuid().is_root() {
        bail!("a lab is namespaces and links of the kernel, which only root may make and enter: use sudo");
    }
    match command {
        Command::K8s(command) => return k8s::run(&dir, command),
        Command::Qemu(command) => return qemu::run(&dir, command),
        Command::Up(up) => {
            fabric::build(&dir, &up)?;
            let (status, down) = (advice::command(&dir, "status"), advice::command(&dir, "down"));
            eprintln!("the lab is up: {status} shows it, {down} removes it");
        }
        Command::Down if !Lab::is_in(&dir) => println!("no lab in {}: nothing to take down", dir.display()),
        Command::Down => fabric::tear_down(&dir)?,
        Command::Status { output } => status::print(&Lab::load(&dir)?, &output)?,
        Command::Exec { place, command } => return Lab::load(&dir)?.exec(&place, &command),
        Command::Workload(WorkloadCommand::Add { name, node, namespace, labels, command }) => {
            let mut lab = Lab::load(&dir)?;
            let address = workload::add(&mut lab, &name, &node, &namespace, &labels, &command)?;
            println!("{name} {address}");
        }
        Command::Workload(WorkloadCommand::Del { name }) => workload::remove(&mut Lab::load(&dir)?, &name)?,
        Command::Router(command) => router::run(&mut Lab::load(&dir)?, command)?,
        Command::Race(RaceCommand::Cni) => print_lines(&race::cni::run(&Lab::load(&dir)?)?),
        Command::Race(RaceCommand::Restart { victim, kills }) => {
            print_lines(&race::restart::run(&mut Lab::load(&dir)?, victim, kills)?);
        }
        Command::Probe(probe) => probe::run(&probe)?,
        Command::Demo(args) => return demo::run(&dir, &args),
        Command::Init { node } => init::run(&dir, &node)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is said of a command that there is not, or that is missing where one must be: those that there are.
fn no_such_command(error: &clap::Error) -> Option<String> {
    let wrong = match (error.kind(), error.get(ContextKind::InvalidSubcommand)) {
        (ErrorKind::InvalidSubcommand, Some(ContextValue::String(wrong))) => Some(wrong),
        (ErrorKind::MissingSubcommand, _) => None,
        _ => return None,
    };
    // The usage names the commands that were understood, before what is open.
    let usage = error.get(ContextKind::Usage)?.to_string();
    let understood = usage.split_once("calico lab")?.1.split_whitespace();
    let mut command = Args::command();
    let mut called = "calico lab".to_owned();
    for word in understood.take_while(|word| !word.starts_with(['[', '<'])) {
        command = command.find_subcommand(word)?.clone();
        called = format!("{called} {word}");
    }
    let names: Vec<&str> =
        command.get_subcommands().filter(|c| !c.is_hide_set()).map(|c| c.get_name()).collect();
    let said = match wrong {
        Some(wrong) => advice::unknown("command", wrong, &names),
        None => format!("{called} needs a command; there are {}", names.join(", ")),
    };
    Some(format!("{said} (`{called} --help`)"))
}

fn print_lines(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn usage_says_how_it_is_called() {
        let usage = Args::try_parse_from(words("lab workload")).unwrap_err().to_string();
        assert!(usage.contains("Usage: calico lab workload [OPTIONS] <COMMAND>"), "{usage}");
    }

    #[test]
    fn what_is_down_may_be_taken_down_again() {
        let dir = tempfile::tempdir().unwrap();
        let line = |command: &str| words(&format!("lab --dir {} {command}", dir.path().display()));
        for command in ["down", "down", "k8s down"] {
            assert_eq!(main(line(command)), ExitCode::SUCCESS, "{command}");
        }
        // Files that are not a lab's stay.
        std::fs::write(dir.path().join("notes"), "").unwrap();
        assert_eq!(main(line("down")), ExitCode::SUCCESS);
        assert!(dir.path().join("notes").exists());
        // A lab that cannot be read is no lab that is down.
        std::fs::write(dir.path().join("state.json"), "{").unwrap();
        assert_eq!(main(line("down")), ExitCode::FAILURE);
    }

    #[test]
    fn a_node_that_is_not_there_is_told_with_those_that_are() {
        let dir = tempfile::tempdir().unwrap();
        let mut lab = Lab::new(dir.path(), Datastore::Embedded).unwrap();
        for name in ["node1", "node2"] {
            let name = name.to_owned();
            lab.nodes.push(crate::state::Node {
                name,
                init_pid: 0,
                ipv4: String::new(),
                ipv6: String::new(),
            });
        }
        let error = workload::add(&mut lab, "web", "node9", "shop", &[], &[]).unwrap_err();
        assert_eq!(error.to_string(), "no node \"node9\"; there are node1, node2; did you mean \"node1\"?");
        let check = |name: &str, labels: &[String], expected: &str| {
            let error = workload::add(&mut lab.clone(), name, "node1", "shop", labels, &[]).unwrap_err();
            assert_eq!(error.to_string(), expected);
        };
        check("node2", &[], "the name \"node2\" is taken by a node of this lab");
        check("fabric", &[], "the name \"fabric\" is taken by the fabric of this lab");
        check("web", &["app".to_owned()], "--label app: a label is written key=value");
        let error = workload::remove(&mut lab, "web").unwrap_err();
        assert_eq!(error.to_string(), "no workload \"web\"; there are none");
    }

    #[test]
    fn a_command_that_is_not_there_is_told_with_those_that_are() {
        let check = |line: &str, expected: &str| {
            let error = Args::try_parse_from(words(line)).unwrap_err();
            assert_eq!(no_such_command(&error).as_deref(), Some(expected), "{line}");
        };
        check("lab race nosuch", "no command \"nosuch\"; there are cni, restart (`calico lab race --help`)");
        check(
            "lab --dir /tmp/x race restrat",
            "no command \"restrat\"; there are cni, restart; did you mean \"restart\"? (`calico lab race --help`)",
        );
        check(
            "lab stauts",
            "no command \"stauts\"; there are up, down, status, exec, workload, router, demo, k8s, qemu, race; did \
             you mean \"status\"? (`calico lab --help`)",
        );
        check(
            "lab --dir /tmp/x",
            "calico lab needs a command; there are up, down, status, exec, workload, router, demo, k8s, qemu, race \
             (`calico lab --help`)",
        );
        // Everything else is clap's to say.
        let error = Args::try_parse_from(words("lab up --nodes 0")).unwrap_err();
        assert_eq!(no_such_command(&error), None);
    }
}
