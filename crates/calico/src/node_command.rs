//! What is asked of `calico node`, `calico-node` or `calico component node`: a command word, or flags as Calico's node
//! program has them.

use std::ffi::OsString;

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeCommand {
    /// Be the agent: start-up, then everything.
    Run,
    /// Only the start: Node, pools, defaults, the file with the node's name.
    Startup,
    /// Mark the node as going down.
    Shutdown,
    /// Mounts that the eBPF dataplane needs.
    Init {
        /// Report what fails and go on.
        best_effort: bool,
    },
    /// Take everything of ours off the node; arguments after it.
    Cleanup(Vec<OsString>),
    /// Ask the agent how it is, by these flags.
    Health(Vec<String>),
    /// Print the version.
    Version,
    /// Say what there is.
    Help,
    /// A process of its own in Calico, a part of the agent here.
    PartOfAgent(String),
}

/// Processes of Calico's node that are parts of ours.
const PARTS: [&str; 12] = [
    "felix",
    "confd",
    "bird",
    "bird6",
    "monitor-addresses",
    "allocate-tunnel-addrs",
    "monitor-token",
    "node-services",
    "complete-startup",
    "status-reporter",
    "cni",
    "run",
];

/// Flags of the health probe.
const PROBES: [&str; 6] =
    ["felix-live", "felix-ready", "bird-live", "bird-ready", "bird6-live", "bird6-ready"];

/// Reads the arguments; what is wrong with them.
pub fn parse(arguments: &[OsString]) -> Result<NodeCommand, String> {
    let words: Vec<String> = arguments.iter().map(|a| a.to_string_lossy().into_owned()).collect();
    let Some(first) = words.first() else { return Ok(NodeCommand::Run) };
    // `-shutdown=true` is how some charts write it.
    let name = first.trim_start_matches('-').trim_end_matches("=true");
    if first.starts_with('-') && (PROBES.contains(&name) || name.starts_with("threshold-time")) {
        return Ok(NodeCommand::Health(words));
    }
    let rest = &words[1..];
    let alone = |command: NodeCommand| {
        if rest.is_empty() { Ok(command) } else { Err(format!("{first} takes no argument, not {rest:?}")) }
    };
    match name {
        "startup" => alone(NodeCommand::Startup),
        "shutdown" => alone(NodeCommand::Shutdown),
        "h" | "help" => Ok(NodeCommand::Help),
        "v" | "version" => alone(NodeCommand::Version),
        "health" => Ok(NodeCommand::Health(rest.to_vec())),
        "cleanup" if !first.starts_with('-') => Ok(NodeCommand::Cleanup(arguments[1..].to_vec())),
        "init" => match rest {
            [] => Ok(NodeCommand::Init { best_effort: false }),
            [flag] if flag.trim_start_matches('-') == "best-effort" => {
                Ok(NodeCommand::Init { best_effort: true })
            }
            _ => Err(format!("init takes --best-effort or nothing, not {rest:?}")),
        },
        part if PARTS.contains(&part) => Ok(NodeCommand::PartOfAgent(part.to_owned())),
        _ => Err(format!("{first:?} is no command of it")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: Result<NodeCommand, &str>) {
        let words: Vec<OsString> = line.split_whitespace().map(OsString::from).collect();
        assert_eq!(parse(&words), expected.map_err(str::to_owned), "{line}");
    }

    #[test]
    fn words_and_flags_of_calico() {
        let flags = |line: &str| line.split(' ').map(str::to_owned).collect();
        check("", Ok(NodeCommand::Run));
        check("-startup", Ok(NodeCommand::Startup));
        check("startup", Ok(NodeCommand::Startup));
        check("-shutdown", Ok(NodeCommand::Shutdown));
        check("-shutdown=true", Ok(NodeCommand::Shutdown));
        check("-felix-live -bird-live", Ok(NodeCommand::Health(flags("-felix-live -bird-live"))));
        check("health --felix-ready", Ok(NodeCommand::Health(flags("--felix-ready"))));
        check("-init -best-effort", Ok(NodeCommand::Init { best_effort: true }));
        check("init", Ok(NodeCommand::Init { best_effort: false }));
        check("-v", Ok(NodeCommand::Version));
        check("-h", Ok(NodeCommand::Help));
        check("--help", Ok(NodeCommand::Help));
        check("help cleanup", Ok(NodeCommand::Help));
        check(
            "cleanup --host-root /host",
            Ok(NodeCommand::Cleanup(vec!["--host-root".into(), "/host".into()])),
        );
        check("-felix", Ok(NodeCommand::PartOfAgent("felix".into())));
        check(
            "-allocate-tunnel-addrs -allocate-tunnel-addrs-run-once",
            Ok(NodeCommand::PartOfAgent("allocate-tunnel-addrs".into())),
        );
        check("-confd -confd-onetime", Ok(NodeCommand::PartOfAgent("confd".into())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        check("clean", Err("\"clean\" is no command of it"));
        check("-startup now", Err("-startup takes no argument, not [\"now\"]"));
        check("init --worst", Err("init takes --best-effort or nothing, not [\"--worst\"]"));
    }
}
