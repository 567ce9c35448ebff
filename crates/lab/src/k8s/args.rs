//! The command line of `calico lab k8s`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};

use super::demo::DemoArgs;
use super::race::K8sRace;

/// What to do with the cluster.
#[derive(Subcommand, Debug)]
pub enum K8sCommand {
    /// Start a cluster and wait until its nodes are Ready and its name service answers.
    Up(Box<UpArgs>),
    /// The policy story: a cluster, four pods, a policy at a time, and who reaches whom after each.
    Demo(Box<DemoArgs>),
    /// End every process of the cluster and remove it.
    Down,
    /// Show nodes, pods and services.
    Status,
    /// Run a command on a node, on the control plane, or on the client outside the cluster.
    Exec {
        /// `node1`, …, `control-plane` or `client`.
        place: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<OsString>,
    },
    /// Run kubectl as the cluster's administrator.
    #[command(disable_help_flag = true)]
    Kubectl {
        /// kubectl's arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Import images into every node: OCI archives, or directories with an OCI layout.
    Load {
        /// Archives, directories, or `agnhost`, which is made here: what cyclonus' pods run.
        #[arg(required = true)]
        images: Vec<PathBuf>,
    },
    /// Race what we ship on this cluster; one line each: letter name figure unit peer ratio.
    #[command(subcommand)]
    Race(K8sRace),
    /// Holds the namespaces of one place.
    #[command(hide = true)]
    Hold {
        /// Its name.
        place: String,
    },
    /// The first process of one place: mounts, then keeps its programs alive.
    #[command(hide = true)]
    Init {
        /// Its name.
        place: String,
    },
}

/// How to build a cluster.
#[derive(clap::Args, Debug, Clone)]
pub struct UpArgs {
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=60))]
    pub nodes: u8,
    /// How kube-proxy writes services.
    #[arg(long, value_enum, default_value_t = ProxyMode::Nftables)]
    pub proxy: ProxyMode,
    /// IPv6 beside IPv4, for nodes, pods and services.
    #[arg(long)]
    pub dual_stack: bool,
    /// Who gives pods their network.
    #[arg(long, value_enum, default_value_t = Cni::Calico)]
    pub cni: Cni,
    /// Calico's image: an OCI archive, or a directory with an OCI layout. [default: what `make image` makes:
    /// image/calico.tar in cargo's target directory]
    #[arg(long)]
    pub image: Option<PathBuf>,
    /// Cargo's target directory.
    #[arg(long, env = "CARGO_TARGET_DIR", default_value = "target", hide = true)]
    pub target_dir: PathBuf,
    /// Calico's manifest. VXLAN unless said otherwise: not every kernel has IPIP, which deploy/calico.yaml wants.
    #[arg(long, default_value = "deploy/calico-vxlan.yaml")]
    pub manifest: PathBuf,
    /// Where the programs of Kubernetes are: what `make k8s-parts` built.
    #[arg(long, env = "CALICO_LAB_PARTS", hide_env_values = true)]
    pub parts: Option<PathBuf>,
}

impl UpArgs {
    /// Calico's image: the one that is named, or the one that `make image` makes.
    pub fn image(&self) -> PathBuf {
        self.image.clone().unwrap_or_else(|| self.target_dir.join("image/calico.tar"))
    }
}

/// kube-proxy's ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProxyMode {
    /// nf_tables.
    Nftables,
    /// iptables.
    Iptables,
}

impl ProxyMode {
    /// As kube-proxy's configuration writes it.
    pub fn name(self) -> &'static str {
        match self {
            ProxyMode::Nftables => "nftables",
            ProxyMode::Iptables => "iptables",
        }
    }
}

/// Who gives pods their network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cni {
    /// Calico, by its manifest.
    Calico,
    /// The reference plugins and static routes: no policy. For tests of the lab itself.
    Ptp,
    /// Nobody: nodes stay NotReady until somebody installs a network.
    None,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser, Debug)]
    struct Line {
        #[command(subcommand)]
        command: K8sCommand,
    }

    #[test]
    fn the_image_is_where_it_is_made() {
        let check = |line: &str, expected: &str| {
            let K8sCommand::Up(args) = Line::try_parse_from(line.split(' ')).expect(line).command else {
                panic!("{line}")
            };
            assert_eq!(args.image(), PathBuf::from(expected), "{line}");
        };
        check("k8s up --target-dir /tmp/t", "/tmp/t/image/calico.tar");
        check("k8s up --target-dir /tmp/t --image my.tar", "my.tar");
    }

    #[test]
    fn a_command_line_goes_through_untouched() {
        let check = |line: &str, expected: &[&str]| {
            let words = ["k8s"].into_iter().chain(line.split(' '));
            let passed = match Line::try_parse_from(words).expect(line).command {
                K8sCommand::Kubectl { arguments } => arguments,
                K8sCommand::Exec { place, command } => [place.into()].into_iter().chain(command).collect(),
                other => panic!("{line}: {other:?}"),
            };
            assert_eq!(passed, expected, "{line}");
        };
        check("kubectl -n kube-system get pods", &["-n", "kube-system", "get", "pods"]);
        check("kubectl --help", &["--help"]);
        check("kubectl exec box -- ls -l", &["exec", "box", "--", "ls", "-l"]);
        check("exec node1 ip -4 route", &["node1", "ip", "-4", "route"]);
        check("exec node1 -- ip -4 route", &["node1", "ip", "-4", "route"]);
    }
}
