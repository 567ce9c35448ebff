//! Which role the binary plays: decided by the name it is called under, the environment and the first arguments.
//!
//! Manifests and habits of Calico call many names: `calico-node -felix-live`, `/opt/cni/bin/install`, `check-status -r`,
//! `calico component node …`. Each is one of our roles.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// What the one binary can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The CNI network plugin.
    CniNetwork,
    /// The CNI IPAM plugin.
    CniIpam,
    /// `calico -t`: would the plugin reach its datastore?
    CniTest,
    /// `calico-ipam -upgrade`: takes host-local's addresses over.
    IpamUpgrade,
    /// Puts plugins and configuration on the host.
    InstallCni,
    /// `check-status`, with the arguments after it.
    CheckStatus(Vec<OsString>),
    /// `calico node` or `calico-node`, with the arguments after it.
    Node(Vec<OsString>),
    /// The cluster's controllers, with the arguments after the name.
    Controllers(Vec<OsString>),
    /// `calicoctl`, with the arguments that it sees (its own name first).
    Ctl(Vec<OsString>),
    /// Any other command of `calico`, with all arguments.
    Command(Vec<OsString>),
}

/// First arguments that are commands even when a CNI variable happens to be set (spec 5 §1.1).
const COMMANDS: [&str; 14] = [
    "node",
    "ctl",
    "lab",
    "health",
    "version",
    "help",
    "--help",
    "--version",
    "component",
    "install-cni",
    "check-status",
    "kube-controllers",
    "kube-controllers-health",
    "start_runit",
];

/// Decides. `cni_command` says whether CNI_COMMAND is set.
pub fn dispatch(arguments: Vec<OsString>, cni_command: bool) -> Role {
    let name = arguments.first().map(Path::new).and_then(Path::file_name).unwrap_or_default();
    let first = arguments.get(1).map(OsString::as_os_str);
    let after = |count: usize| arguments.iter().skip(count).cloned().collect::<Vec<_>>();
    match name.to_str() {
        Some("calico-ipam") if first.is_some_and(|f| is_flag(f, "upgrade")) => Role::IpamUpgrade,
        Some("calico-ipam") => Role::CniIpam,
        Some("calicoctl" | "kubectl-calico" | "kubectl-calico.exe") => Role::Ctl(arguments),
        Some("calico-node") if first == Some(OsStr::new("start_runit")) => Role::Node(after(2)),
        Some("calico-node" | "start_runit") => Role::Node(after(1)),
        Some("install" | "install-cni") => Role::InstallCni,
        Some("check-status") => Role::CheckStatus(after(1)),
        Some("kube-controllers") => Role::Controllers(after(1)),
        _ if cni_command && !first.is_some_and(is_command) => Role::CniNetwork,
        // The plugin is asked for its version, or to test its datastore, by flag, without any CNI variable.
        _ if first == Some(OsStr::new("-v")) => Role::CniNetwork,
        _ if first == Some(OsStr::new("-t")) => Role::CniTest,
        _ => match first.and_then(OsStr::to_str) {
            Some("ctl") => {
                let rest = after(2).into_iter();
                Role::Ctl(std::iter::once(OsString::from("calico ctl")).chain(rest).collect())
            }
            Some("node") => Role::Node(after(2)),
            Some("start_runit") => Role::Node(after(2)),
            Some("install-cni") => Role::InstallCni,
            Some("check-status" | "kube-controllers-health") => Role::CheckStatus(after(2)),
            Some("kube-controllers") => Role::Controllers(after(2)),
            Some("component") => component(&arguments, after),
            _ => Role::Command(arguments),
        },
    }
}

/// `calico component PART …`, as today's Calico calls the parts of its one binary.
fn component(arguments: &[OsString], after: impl Fn(usize) -> Vec<OsString>) -> Role {
    let word = |at: usize| arguments.get(at).and_then(|a| a.to_str());
    match (word(2), word(3)) {
        (Some("node"), _) => Role::Node(after(3)),
        (Some("cni"), Some("install")) => Role::InstallCni,
        (Some("kube-controllers-health"), _) => Role::CheckStatus(after(3)),
        (Some("kube-controllers"), _) => Role::Controllers(after(3)),
        _ => Role::Command(arguments.to_vec()),
    }
}

fn is_command(argument: &OsStr) -> bool {
    COMMANDS.iter().any(|c| argument == *c)
}

/// Go's programs take a flag with one dash or two.
fn is_flag(argument: &OsStr, name: &str) -> bool {
    let text = argument.to_str().unwrap_or_default();
    text.strip_prefix("--").or(text.strip_prefix('-')) == Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn role(line: &str, cni: bool) -> Role {
        dispatch(words(line), cni)
    }

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').filter(|w| !w.is_empty()).map(OsString::from).collect()
    }

    #[test]
    fn the_name_decides_first() {
        assert_eq!(role("/opt/cni/bin/calico-ipam", true), Role::CniIpam);
        assert_eq!(role("/opt/cni/bin/calico", true), Role::CniNetwork);
        assert_eq!(role("/opt/cni/bin/calico -v", false), Role::CniNetwork);
        assert_eq!(role("calicoctl get nodes", true), Role::Ctl(words("calicoctl get nodes")));
    }

    #[test]
    fn names_of_calicos_manifests() {
        for (line, expected) in [
            ("/opt/cni/bin/calico-ipam -upgrade", Role::IpamUpgrade),
            ("calico-ipam --upgrade", Role::IpamUpgrade),
            ("/opt/cni/bin/install", Role::InstallCni),
            ("/opt/cni/bin/install-cni", Role::InstallCni),
            ("calico install-cni", Role::InstallCni),
            ("calico component cni install", Role::InstallCni),
            ("calico -t", Role::CniTest),
            ("/bin/calico-node -felix-live -bird-live", Role::Node(words("-felix-live -bird-live"))),
            ("calico-node", Role::Node(vec![])),
            ("/usr/sbin/start_runit", Role::Node(vec![])),
            ("calico-node start_runit", Role::Node(vec![])),
            ("calico node init --best-effort", Role::Node(words("init --best-effort"))),
            ("calico component node startup", Role::Node(words("startup"))),
            ("/usr/bin/check-status -r", Role::CheckStatus(words("-r"))),
            ("calico check-status -l", Role::CheckStatus(words("-l"))),
            ("calico component kube-controllers-health -r", Role::CheckStatus(words("-r"))),
            ("/usr/bin/kube-controllers", Role::Controllers(vec![])),
            ("calico component goldmane", Role::Command(words("calico component goldmane"))),
        ] {
            assert_eq!(role(line, false), expected, "{line}");
        }
    }

    #[test]
    fn commands_win_over_a_stray_variable() {
        assert_eq!(role("calico node", true), Role::Node(vec![]));
        assert_eq!(role("calico component node startup", true), Role::Node(words("startup")));
        assert_eq!(
            role("calico health -felix-live", true),
            Role::Command(words("calico health -felix-live"))
        );
        assert_eq!(role("calico", false), Role::Command(words("calico")));
        let Role::Ctl(arguments) = role("calico ctl get nodes", false) else { panic!("ctl") };
        assert_eq!(arguments, [OsString::from("calico ctl"), "get".into(), "nodes".into()]);
    }
}
