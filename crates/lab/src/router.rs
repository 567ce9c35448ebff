//! Routers of a lab that are no nodes: a network namespace with FRR, GoBGP or BIRD in it.
//!
//! What runs there is started by the lab, with a configuration written for this run into the router's directory, and is
//! ended by its pid. Its system service has no part in it.

pub mod args;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill as send};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::args::RouterCommand;
use crate::fabric::{self, Subnet, in_place};
use crate::process::{is_alive, output};
use crate::speaker::{Daemon, Received, Session, Speaker, bird, frr, gobgp};
use crate::state::Lab;
use crate::wait::until;

/// The number of the first router that is added to the first subnet: beyond every node's.
const FIRST_NUMBER: u8 = 101;
/// The number beyond the last: those of the fabric and of clients follow.
const END_NUMBER: u8 = 250;
/// How long a daemon may take to listen, on a busy machine.
const START: Duration = Duration::from_secs(20);
/// How often it is asked.
const POLL: Duration = Duration::from_millis(50);

/// One router.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Router {
    /// Its name.
    pub name: String,
    /// The process that holds its namespaces.
    pub pid: i32,
    /// What it runs.
    pub daemon: Daemon,
    /// Its number on the first subnet.
    pub number: u8,
    /// What that says and to whom.
    pub speaker: Speaker,
}

/// Runs a command of `calico lab router`.
pub fn run(lab: &mut Lab, command: RouterCommand) -> Result<()> {
    match command {
        RouterCommand::Add { name, daemon, asn, peers, announce } => {
            daemon.check_installed()?;
            let number = free_number(lab)?;
            let speaker = Speaker { asn, peers, announce };
            let pid = spawn(lab, &name, daemon, number, &speaker)?;
            for prefix in &speaker.announce {
                let (net, length) = prefix.split_once('/').context("a prefix is written ADDRESS/LENGTH")?;
                let own = format!("{}1/{length}", net.trim_end_matches('0'));
                output(in_place(pid, "ip")?.args(["addr", "add", &own, "dev", "lo"]))?;
            }
            fabric::forward(pid)?;
            start(lab, &name)?;
            let (v4, v6) = Subnet::default().node(number);
            println!("{name} {v4} {v6}");
        }
        RouterCommand::Del { name } => {
            let router = lab.router(&name)?.clone();
            kill(lab, &name)?;
            send(Pid::from_raw(router.pid), Signal::SIGKILL).with_context(|| name.clone())?;
            lab.routers.retain(|router| router.name != name);
            lab.save()?;
        }
        RouterCommand::Kill { name } => kill(lab, &name)?,
        RouterCommand::Start { name } => start(lab, &name)?,
        RouterCommand::Show { name } => {
            let shown = json!({"sessions": sessions(lab, &name)?, "routes": routes(lab, &name)?});
            println!("{}", serde_json::to_string_pretty(&shown)?);
        }
    }
    Ok(())
}

fn free_number(lab: &Lab) -> Result<u8> {
    let is_free = |number: &u8| lab.routers.iter().all(|router| router.number != *number);
    (FIRST_NUMBER..END_NUMBER).find(is_free).context("the first subnet has no room for another router")
}

/// A router's namespaces with a wire to the first subnet. Nothing runs in it yet.
pub fn spawn(lab: &mut Lab, name: &str, daemon: Daemon, number: u8, speaker: &Speaker) -> Result<i32> {
    if let Some(kind) = lab.kind_of_place(name) {
        bail!("the name {name:?} is taken by {kind} of this lab");
    }
    let pid = fabric::spawn_holder(lab)?;
    let router = Router { name: name.to_owned(), pid, daemon, number, speaker: speaker.clone() };
    lab.routers.push(router);
    lab.save()?;
    let (v4, v6) = Subnet::default().node(number);
    fabric::plug(Subnet::default(), lab.fabric_pid, &format!("{name}p0"), pid, "eth0", (&v4, &v6))?;
    Ok(pid)
}

/// Where a router's files are.
fn files(lab: &Lab, router: &Router) -> Files {
    Files(lab.node_dir(&router.name))
}

struct Files(PathBuf);

impl Files {
    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    fn configuration(&self) -> PathBuf {
        self.0.join("speaker.conf")
    }

    /// The pids of what was started, one in a line.
    fn pids(&self) -> PathBuf {
        self.0.join("pids")
    }

    fn read_pids(&self) -> Vec<i32> {
        let text = std::fs::read_to_string(self.pids()).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

/// Starts what a router runs and waits until it answers. After a kill it says that it restarts (RFC 4724).
pub fn start(lab: &Lab, name: &str) -> Result<()> {
    let router = lab.router(name)?;
    let files = files(lab, router);
    let before = files.read_pids();
    if let Some(pid) = before.iter().find(|pid| is_alive(**pid)) {
        bail!("{name} runs already, as process {pid}");
    }
    std::fs::create_dir_all(&files.0).with_context(|| files.0.display().to_string())?;
    let id = Subnet::default().node(router.number).0.parse()?;
    let launch = Launch { router, files: &files, id, restarts: !before.is_empty(), pids: Vec::new() };
    match router.daemon {
        Daemon::Frr => launch.frr(),
        Daemon::Gobgp => launch.gobgp(),
        Daemon::Bird => launch.bird(),
    }
    .with_context(|| format!("{name}; its logs are in {}", files.0.display()))
}

struct Launch<'a> {
    router: &'a Router,
    files: &'a Files,
    id: Ipv4Addr,
    restarts: bool,
    pids: Vec<i32>,
}

impl Launch<'_> {
    fn frr(mut self) -> Result<()> {
        let files = self.files;
        std::fs::write(files.configuration(), frr::render(&self.router.speaker, self.id))?;
        std::fs::write(files.0.join("zebra.conf"), "")?;
        // Both give up root's rights, and open their sockets and logs after that.
        output(Command::new("chown").args(["-R", "frr:frr", &files.path("")]))?;
        let (directory, socket) = (files.path(""), files.path("zserv.api"));
        // Either may be there after a kill.
        for left in ["zserv.api", "bgpd.vty"] {
            let _ = std::fs::remove_file(files.0.join(left));
        }
        let shared = |pid_file: &str, config: &str| {
            ["-f", config, "-i", &files.path(pid_file), "-z", &socket, "--vty_socket", &directory, "-P", "0"]
                .map(str::to_owned)
                .to_vec()
        };
        let mut zebra = shared("zebra.pid", &files.path("zebra.conf"));
        // The kernel keeps the routes of a former life until bgpd has had time to say them again.
        zebra.extend(["-K".to_owned(), "60".to_owned()]);
        self.run(frr::ZEBRA, &zebra, "zebra.log")?;
        self.wait("zebra", || Ok(files.0.join("zserv.api").exists()))?;
        self.run(frr::BGPD, &shared("bgpd.pid", &files.configuration().display().to_string()), "bgpd.log")?;
        self.wait("bgpd", || Ok(frr_asks(files, frr::SESSIONS)?.is_object()))
    }

    fn gobgp(mut self) -> Result<()> {
        std::fs::write(self.files.configuration(), gobgp::render(&self.router.speaker, self.id))?;
        let configuration = self.files.configuration().display().to_string();
        let mut words: Vec<String> =
            ["-f", &configuration, "--api-hosts", "127.0.0.1:50051", "--pprof-disable"]
                .map(str::to_owned)
                .to_vec();
        if self.restarts {
            words.push("-r".to_owned());
        }
        self.run(gobgp::DAEMON, &words, "gobgpd.log")?;
        self.wait("gobgpd", || Ok(gobgp_asks(self.router.pid, &["neighbor"])?.is_array()))?;
        for prefix in &self.router.speaker.announce {
            let family = if prefix.contains(':') { "ipv6" } else { "ipv4" };
            let add = ["global", "rib", "add", prefix, "-a", family];
            output(in_place(self.router.pid, gobgp::CLIENT)?.args(add))?;
        }
        Ok(())
    }

    fn bird(mut self) -> Result<()> {
        let text = bird::render(&self.router.speaker, self.id, &self.files.path("bird.log"));
        std::fs::write(self.files.configuration(), text)?;
        let configuration = self.files.configuration().display().to_string();
        let mut words: Vec<String> =
            ["-f", "-c", &configuration, "-s", &self.files.path("bird.ctl")].map(str::to_owned).to_vec();
        if self.restarts {
            words.push("-R".to_owned());
        }
        self.run(bird::DAEMON, &words, "bird.err")?;
        self.wait("bird", || Ok(bird_says(self.files, "show status")?.contains("up and running")))
    }

    /// Starts a program in the router and notes its pid.
    fn run(&mut self, program: &str, words: &[String], log: &str) -> Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.files.0.join(log))?;
        let mut command = in_place(self.router.pid, program)?;
        command.args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        crate::process_group_of_its_own(&mut command);
        let child = command.spawn().with_context(|| program.to_owned())?;
        self.pids.push(i32::try_from(child.id())?);
        let lines: String = self.pids.iter().map(|pid| format!("{pid}\n")).collect();
        std::fs::write(self.files.pids(), lines).context("pids")
    }

    fn wait(&self, what: &str, mut is_up: impl FnMut() -> Result<bool>) -> Result<()> {
        let mut last = String::new();
        let up =
            until(START, POLL, || is_up().inspect_err(|error| last = format!("{error:#}")).unwrap_or(false));
        if up { Ok(()) } else { bail!("{what} does not answer after {} s: {last}", START.as_secs()) }
    }
}

/// Kills what a router runs and waits until it is gone. Its namespace, and what is in the kernel, stay.
pub fn kill(lab: &Lab, name: &str) -> Result<()> {
    let pids = files(lab, lab.router(name)?).read_pids();
    for pid in &pids {
        // What has ended already is as good.
        let _ = send(Pid::from_raw(*pid), Signal::SIGKILL);
    }
    let gone =
        until(Duration::from_secs(5), Duration::from_millis(5), || !pids.iter().any(|pid| is_alive(*pid)));
    if gone { Ok(()) } else { bail!("processes {pids:?} outlive SIGKILL") }
}

/// The sessions of a router, as it sees them.
pub fn sessions(lab: &Lab, name: &str) -> Result<Vec<Session>> {
    let router = lab.router(name)?;
    let files = files(lab, router);
    Ok(match router.daemon {
        Daemon::Frr => frr::sessions(&frr_asks(&files, frr::SESSIONS)?),
        Daemon::Gobgp => gobgp::sessions(&gobgp_asks(router.pid, &["neighbor"])?),
        Daemon::Bird => bird::sessions(&bird_says(&files, bird::SESSIONS)?),
    })
}

/// What a router was told, sorted.
pub fn routes(lab: &Lab, name: &str) -> Result<Vec<Received>> {
    let router = lab.router(name)?;
    let files = files(lab, router);
    let mut routes = match router.daemon {
        Daemon::Frr => {
            let [v4, v6] = frr::ROUTES.map(|question| frr_asks(&files, question));
            [frr::routes(&v4?), frr::routes(&v6?)].concat()
        }
        Daemon::Gobgp => {
            let [v4, v6] =
                ["ipv4", "ipv6"].map(|family| gobgp_asks(router.pid, &["global", "rib", "-a", family]));
            [gobgp::routes(&v4?), gobgp::routes(&v6?)].concat()
        }
        Daemon::Bird => bird::routes(&bird_says(&files, bird::ROUTES)?, &router.speaker.peers),
    };
    routes.sort_unstable();
    Ok(routes)
}

fn frr_asks(files: &Files, question: &str) -> Result<Value> {
    let directory = files.path("");
    let text =
        output(Command::new(frr::VTYSH).args(["--vty_socket", &directory, "-d", "bgpd", "-c", question]))?;
    serde_json::from_str(&text).with_context(|| format!("{question}: {text}"))
}

fn gobgp_asks(pid: i32, question: &[&str]) -> Result<Value> {
    let text = output(in_place(pid, gobgp::CLIENT)?.arg("-j").args(question))?;
    serde_json::from_str(&text).with_context(|| format!("{question:?}: {text}"))
}

fn bird_says(files: &Files, question: &str) -> Result<String> {
    let words: Vec<&str> = question.split(' ').collect();
    output(Command::new(bird::CLIENT).args(["-s", &files.path("bird.ctl")]).args(words))
}
