//! The plugin process: environment and standard input in, one JSON document and an exit code out.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use calico_api::status_file;
use calico_net::Mac;
use calico_store::config::Settings;
use calico_store::error::chain;
use futures::FutureExt;
use futures::future::BoxFuture;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::arguments::{Arguments, Verb};
use crate::client::{self, ANSWER_PATIENCE, CallError};
use crate::context::{Context, Expected, Live};
use crate::datastore::{self, Datastore, OpenError};
use crate::error::{CniError, Code};
use crate::netconf::NetConf;
use crate::node_name::read_node_name;
use crate::request::{PROTOCOL, Plugin, Request, Response};
use crate::turns::Turns;
use crate::version::SpecVersion;
use crate::{log, spool, work};

/// How long ADD and CHECK wait for an agent that does not listen: long enough for its restart.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a DEL waits before it goes to the spool, and STATUS before it says no: a running agent accepts at once.
const SHORT_PATIENCE: Duration = Duration::from_millis(500);
/// How long a running agent may take for STATUS: it has one question to the datastore, and the runtime asks often.
const STATUS_PATIENCE: Duration = Duration::from_secs(5);
/// How long a running agent may take for DEL, which goes to the spool then: the runtime waits with the sandbox, and an
/// agent that hangs must not keep it. One that only was slow does the DEL twice, which is no error.
const DEL_PATIENCE: Duration = Duration::from_secs(20);
/// How long the test of a datastore waits (spec 5 §1.1).
const TEST_PATIENCE: Duration = Duration::from_secs(2);
/// The code of every failed test, which is Calico's.
const TEST_FAILED: u32 = 100;
/// Where Felix writes one file for each endpoint that is live.
const STATUS_PREFIX: &str = "/var/run/calico";

/// Where processes that work without an agent take turns.
const LOCKS: &str = "/run/calico/cni-locks";

/// How long a verb waits for the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Patience {
    /// For somebody to listen.
    connect: Duration,
    /// For the answer.
    answer: Duration,
}

impl Patience {
    fn of(verb: Verb) -> Patience {
        match verb {
            Verb::Status => Patience { connect: SHORT_PATIENCE, answer: STATUS_PATIENCE },
            Verb::Del => Patience { connect: SHORT_PATIENCE, answer: DEL_PATIENCE },
            Verb::Add | Verb::Check | Verb::Gc | Verb::Version => {
                Patience { connect: CONNECT_PATIENCE, answer: ANSWER_PATIENCE }
            }
        }
    }
}

/// Runs as a plugin. `input` is standard input, whole; the document to print comes back with the exit code.
pub fn main(
    plugin: Plugin,
    lookup: impl Fn(&str) -> Option<String> + Sync,
    input: &[u8],
) -> (String, ExitCode) {
    let mut version = SpecVersion::LATEST;
    match run(plugin, &lookup, input, &mut version) {
        Ok(None) => (String::new(), ExitCode::SUCCESS),
        Ok(Some(document)) => (document.to_string(), ExitCode::SUCCESS),
        Err(error) => (error.to_json(version), ExitCode::FAILURE),
    }
}

fn run(
    plugin: Plugin,
    lookup: &(impl Fn(&str) -> Option<String> + Sync),
    input: &[u8],
    version: &mut SpecVersion,
) -> Result<Option<Value>, CniError> {
    let arguments = Arguments::parse(lookup)?;
    if arguments.verb == Verb::Version {
        let supported: Vec<&str> = SpecVersion::ALL.iter().map(|v| v.as_str()).collect();
        // The answer is in the version that was asked in, if it is one of ours.
        let asked = serde_json::from_slice::<Value>(input).ok();
        let asked = asked.as_ref().and_then(|v| v["cniVersion"].as_str()).filter(|v| supported.contains(v));
        let answer = asked.unwrap_or(SpecVersion::LATEST.as_str());
        return Ok(Some(json!({"cniVersion": answer, "supportedVersions": supported})));
    }
    let (conf, asked) = NetConf::parse(input)?;
    *version = asked;
    check_verb(arguments.verb, asked)?;
    log::start(&conf);
    let began = Instant::now();
    let (verb, container) = (arguments.verb, arguments.container_id.clone());
    let pod = arguments.pod().map(|(namespace, pod)| format!("{namespace}/{pod}"));
    let answer = carry_out(plugin, lookup, &conf, arguments);
    let (took, cpu) = (began.elapsed(), used());
    let pod = pod.as_deref();
    match &answer {
        Ok(_) => tracing::info!(?verb, pod, %container, ?took, ?cpu, "done"),
        Err(error) => tracing::error!(?verb, pod, %container, ?took, ?cpu, %error, "failed"),
    }
    answer
}

/// What this process has used of a processor since it was made.
fn used() -> Duration {
    let clock = clock_gettime(ClockId::ProcessCPUTime);
    // A clock of this kind starts at zero and never goes back.
    Duration::new(clock.tv_sec.unsigned_abs(), u32::try_from(clock.tv_nsec).unwrap_or_default())
}

fn carry_out(
    plugin: Plugin,
    lookup: &(impl Fn(&str) -> Option<String> + Sync),
    conf: &NetConf,
    arguments: Arguments,
) -> Result<Option<Value>, CniError> {
    let request = Request { protocol: PROTOCOL, plugin, arguments, netconf: conf.raw.clone() };
    // The IPAM plugin does not touch the container; a path that only the runtime sees must not stop it.
    let netns = if plugin == Plugin::Network { open_netns(&request.arguments)? } else { None };
    let verb = request.arguments.verb;
    let answer = if conf.agent_socket.is_empty() {
        let runtime = start_runtime()?;
        runtime.block_on(async { work::perform(&open(lookup, conf).await?, request, netns).await })
    } else {
        ask(conf, &request, netns, Patience::of(verb))
    };
    answer.map_err(|error| if verb == Verb::Status { not_available(error) } else { error })
}

/// `-t`: whether an ADD of this configuration would find its datastore ready. The error to print if not.
pub fn test(lookup: impl Fn(&str) -> Option<String> + Sync, input: &[u8]) -> (String, ExitCode) {
    let tested = NetConf::parse(input).and_then(|(conf, _)| {
        if !conf.agent_socket.is_empty() {
            let arguments = Arguments::of_verb(Verb::Status);
            return carry_out(Plugin::Network, &lookup, &conf, arguments).map(drop);
        }
        start_runtime()?.block_on(async {
            let patience = tokio::time::timeout(TEST_PATIENCE, async {
                open(&lookup, &conf).await?.check_ready().await
            });
            let late = |_| {
                let details = format!("no answer within {} s", TEST_PATIENCE.as_secs());
                CniError::new(Code::TryAgainLater, "the datastore does not answer", details)
            };
            patience.await.map_err(late)?
        })
    });
    match tested {
        Ok(()) => (String::new(), ExitCode::SUCCESS),
        Err(error) => {
            let error = CniError { code: TEST_FAILED, ..error };
            (error.to_json(SpecVersion::LATEST), ExitCode::FAILURE)
        }
    }
}

/// STATUS has a code of its own for "ADD would be told to try again later".
fn not_available(error: CniError) -> CniError {
    if error.code != Code::TryAgainLater.number() {
        return error;
    }
    CniError { code: Code::NotAvailable.number(), ..error }
}

fn check_verb(verb: Verb, version: SpecVersion) -> Result<(), CniError> {
    let since = match verb {
        Verb::Check => SpecVersion::V0_4_0,
        Verb::Gc | Verb::Status => SpecVersion::V1_1_0,
        Verb::Add | Verb::Del | Verb::Version => return Ok(()),
    };
    if version >= since {
        return Ok(());
    }
    let details = format!("{verb:?} exists since CNI {since}; the configuration says {version}");
    Err(CniError::new(Code::IncompatibleVersion, "incompatible CNI version", details))
}

/// Opens the container's namespace. For DEL one that is gone is as good as cleaned up.
fn open_netns(arguments: &Arguments) -> Result<Option<OwnedFd>, CniError> {
    if arguments.netns.is_empty() {
        return Ok(None);
    }
    match File::open(&arguments.netns) {
        Ok(file) => Ok(Some(file.into())),
        Err(_) if arguments.verb == Verb::Del => Ok(None),
        Err(error) => {
            let details = format!("CNI_NETNS is {:?}: {error}", arguments.netns);
            Err(CniError::new(Code::InvalidEnvironment, "cannot open the network namespace", details))
        }
    }
}

/// Through the agent.
fn ask(
    conf: &NetConf,
    request: &Request,
    netns: Option<OwnedFd>,
    Patience { connect, answer }: Patience,
) -> Result<Option<Value>, CniError> {
    let socket = Path::new(&conf.agent_socket);
    match client::call(socket, request, netns.as_ref().map(AsFd::as_fd), connect, answer) {
        Ok(Response::Done(document)) => Ok(document),
        Ok(Response::Failed(error)) => Err(error),
        Err(
            error @ (CallError::Absent { .. }
            | CallError::Leaving { .. }
            | CallError::Broken(_)
            | CallError::Silent { .. }),
        ) if request.arguments.verb == Verb::Del => {
            work::check_del(request.plugin, conf, &request.arguments)?;
            tracing::warn!(error = chain(&error), "DEL goes to the spool");
            let stamp = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
            spool::write(conf.spool(), request, stamp)
                .map(|_| None)
                .map_err(|e| CniError::new(Code::Io, "cannot spool the DEL", chain(&e)))
        }
        Err(error) => Err(CniError::new(Code::TryAgainLater, "the agent did not answer", chain(&error))),
    }
}

fn start_runtime() -> Result<Runtime, CniError> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| CniError::new(Code::Io, "cannot start", e))
}

/// What it takes to work without an agent, in this process.
async fn open(
    lookup: &(impl Fn(&str) -> Option<String> + Sync),
    conf: &NetConf,
) -> Result<Context, CniError> {
    let node = read_node_name(conf)?;
    let settings = Settings::from_netconf(&|field| conf.text(field))
        .or(Settings::from_environment(&|name| lookup(name)));
    let prefix = lookup("FELIX_INTERFACEPREFIX");
    let prefix =
        prefix.as_deref().and_then(|p| p.split(',').next()).filter(|p| !p.is_empty()).unwrap_or("cali");
    let status_dir = conf
        .endpoint_status_dir
        .as_ref()
        .map_or_else(|| Path::new(STATUS_PREFIX).join(status_file::DIRECTORY), PathBuf::from);
    let environment = |name: &str| lookup(name);
    let Datastore { store, kubernetes, natives: _, keeps_endpoints } =
        datastore::open(&settings, &environment).await.map_err(|error| match error {
            OpenError::Config(error) => {
                CniError::new(Code::InvalidConfiguration, "invalid datastore configuration", error)
            }
            other => CniError::new(Code::TryAgainLater, "cannot reach the datastore", other),
        })?;
    let kubernetes = match kubernetes {
        Ok(api) => Some(api),
        Err(error) if conf.reads_pods() => {
            return Err(CniError::new(Code::InvalidConfiguration, "no way to the Kubernetes API", error));
        }
        Err(_) => None,
    };
    Ok(Context {
        kubernetes,
        keeps_endpoints,
        ipam_lock: Some(conf.ipam_lock().to_owned()),
        turns: Turns::across_processes(Path::new(LOCKS)),
        ..Context::new(store, &node, prefix, Arc::new(StatusFiles { dir: status_dir }))
    })
}

/// Endpoints that are live, by the files that the agent writes (spec 5 §1.12).
struct StatusFiles {
    dir: PathBuf,
}

impl Live for StatusFiles {
    fn wait_live(&self, expected: Expected, patience: Duration) -> BoxFuture<'_, bool> {
        let Expected { endpoint: [orchestrator, workload, endpoint], mac, addresses: _ } = expected;
        let file = self.dir.join(status_file::name(&orchestrator, &workload, &endpoint));
        async move {
            let appears = async {
                while !std::fs::read(&file).is_ok_and(|content| is_of(&content, mac)) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(patience, appears).await.is_ok()
        }
        .boxed()
    }
}

/// Whether a status file is of the endpoint with this MAC. One that names none, as of an older Felix, is of any.
fn is_of(content: &[u8], mac: Option<Mac>) -> bool {
    let said = serde_json::from_slice::<Value>(content).ok();
    let said = said.as_ref().and_then(|v| v["mac"].as_str()).and_then(|text| text.parse::<Mac>().ok());
    said.is_none() || mac.is_none() || said == mac
}

#[cfg(test)]
mod tests;
