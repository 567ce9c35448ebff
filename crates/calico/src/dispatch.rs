//! Which role the binary plays: decided by the name it is called under, the environment and the first argument.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// What the one binary can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The CNI network plugin.
    CniNetwork,
    /// The CNI IPAM plugin.
    CniIpam,
    /// `calicoctl`, with the arguments that it sees (its own name first).
    Ctl(Vec<OsString>),
    /// Any other command of `calico`, with all arguments.
    Command(Vec<OsString>),
}

/// First arguments that are commands even when a CNI variable happens to be set (spec 5 §1.1).
const COMMANDS: [&str; 8] = ["node", "ctl", "lab", "health", "version", "help", "--help", "--version"];

/// Decides. `cni_command` says whether CNI_COMMAND is set.
pub fn dispatch(arguments: Vec<OsString>, cni_command: bool) -> Role {
    let name = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let first = arguments.get(1).map(OsString::as_os_str);
    match name.to_str() {
        Some("calico-ipam") => Role::CniIpam,
        Some("calicoctl" | "kubectl-calico" | "kubectl-calico.exe") => Role::Ctl(arguments),
        _ if cni_command && !first.is_some_and(is_command) => Role::CniNetwork,
        // The plugin is asked for its version by flag, without any CNI variable.
        _ if first == Some(OsStr::new("-v")) => Role::CniNetwork,
        _ if first == Some(OsStr::new("ctl")) => {
            let rest = arguments.into_iter().skip(2);
            Role::Ctl(std::iter::once(OsString::from("calico ctl")).chain(rest).collect())
        }
        _ => Role::Command(arguments),
    }
}

fn is_command(argument: &OsStr) -> bool {
    COMMANDS.iter().any(|c| argument == *c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(line: &str, cni: bool) -> Role {
        dispatch(line.split(' ').map(OsString::from).collect(), cni)
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_name_decides_first() {
        assert_eq!(role("/opt/cni/bin/calico-ipam", true), Role::CniIpam);
        assert_eq!(role("/opt/cni/bin/calico", true), Role::CniNetwork);
        assert_eq!(role("/opt/cni/bin/calico -v", false), Role::CniNetwork);
        assert_eq!(role("calicoctl get nodes", true), Role::Ctl(words("calicoctl get nodes")));
    }

    #[test]
    fn commands_win_over_a_stray_variable() {
        assert_eq!(role("calico node", true), Role::Command(words("calico node")));
        assert_eq!(
            role("calico health -felix-live", true),
            Role::Command(words("calico health -felix-live"))
        );
        assert_eq!(role("calico", false), Role::Command(words("calico")));
        let Role::Ctl(arguments) = role("calico ctl get nodes", false) else { panic!("ctl") };
        assert_eq!(arguments, [OsString::from("calico ctl"), "get".into(), "nodes".into()]);
    }
}
