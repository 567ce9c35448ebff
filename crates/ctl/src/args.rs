//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Reads and changes Calico's resources.
#[derive(Debug, Parser)]
#[command(name = "calicoctl", version, disable_help_subcommand = true)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Args)]
#[allow(missing_docs, reason = "clap turns documentation into help; these are hidden or have help")]
pub struct Global {
    #[arg(
        short = 'c',
        long,
        global = true,
        help = "File that names the datastore [default: /etc/calico/calicoctl.cfg]"
    )]
    pub config: Option<PathBuf>,
    #[arg(long, global = true, help = "Context of the kubeconfig file [default: its current one]")]
    pub context: Option<String>,
    #[arg(short = 'l', long, global = true, hide = true, help = "Accepted for Calico's sake")]
    pub log_level: Option<String>,
    #[arg(long, global = true, help = "Work on a cluster of another version than this program's")]
    pub allow_version_mismatch: bool,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show resources
    Get(GetArgs),
    /// Create resources, or change those that exist
    Apply(FileArgs),
    /// Create resources; an error if they exist
    Create(CreateArgs),
    /// Change resources; an error if they do not exist
    Replace(FileArgs),
    /// Delete resources
    Delete(DeleteArgs),
    /// Change single fields of a resource
    Patch(PatchArgs),
    /// Set or remove a label of a resource
    Label(LabelArgs),
    /// Check files without a datastore
    Validate(FileArgs),
    /// Look at and care for IP addresses
    #[command(subcommand)]
    Ipam(IpamCommand),
    /// Look at this node
    #[command(subcommand)]
    Node(NodeCommand),
    /// Look at and change BGP of the whole cluster
    #[command(subcommand)]
    Bgp(BgpCommand),
    /// Show versions
    Version(VersionArgs),
    /// Print completions for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Where resources come from.
#[derive(Clone, Debug, Args)]
pub struct FileArgs {
    /// File or directory of YAML or JSON; - for standard input
    #[arg(short = 'f', long, required = true)]
    pub filename: PathBuf,
    /// Look into directories inside the directory
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Pass over files without resources
    #[arg(long)]
    pub skip_empty: bool,
    /// Namespace of resources that name none
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
}

/// Arguments of `create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    #[command(flatten)]
    pub files: FileArgs,
    /// Pass over resources that exist
    #[arg(long)]
    pub skip_exists: bool,
}

/// Files, or kind and names.
#[derive(Debug, Args)]
pub struct Targets {
    /// Kind of resource, such as node or gnp
    #[arg(required_unless_present = "filename")]
    pub kind: Option<String>,
    /// Names; several may stand between commas
    pub names: Vec<String>,
    /// File or directory whose resources are meant; - for standard input
    #[arg(short = 'f', long, conflicts_with = "kind")]
    pub filename: Option<PathBuf>,
    /// Look into directories inside the directory
    #[arg(short = 'R', long)]
    pub recursive: bool,
    /// Pass over files without resources
    #[arg(long)]
    pub skip_empty: bool,
    /// Namespace
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct GetArgs {
    #[command(flatten)]
    pub targets: Targets,
    /// ps, wide, yaml, json, or custom-columns=NAME,…
    #[arg(short = 'o', long, default_value = "ps")]
    pub output: String,
    /// In all namespaces
    #[arg(short = 'A', long, visible_short_alias = 'a')]
    pub all_namespaces: bool,
    /// Leave out what belongs to this cluster only
    #[arg(long)]
    pub export: bool,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    #[command(flatten)]
    pub targets: Targets,
    /// Pass over resources that do not exist
    #[arg(short = 's', long)]
    pub skip_not_exists: bool,
}

/// Arguments of `patch`.
#[derive(Debug, Args)]
pub struct PatchArgs {
    /// Kind of resource
    pub kind: String,
    /// Its name
    pub name: String,
    /// JSON or YAML to merge into it; null removes a field
    #[arg(short = 'p', long)]
    pub patch: String,
    /// Kind of patch; there is one
    #[arg(short = 't', long = "type", default_value = "strategic", value_parser = ["strategic", "merge"])]
    pub kind_of_patch: String,
    /// Namespace
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
}

/// Arguments of `label`.
#[derive(Debug, Args)]
pub struct LabelArgs {
    /// Kind of resource
    pub kind: String,
    /// Its name
    pub name: String,
    /// key=value, or with --remove a key
    pub label: String,
    /// Change a label that has another value
    #[arg(long)]
    pub overwrite: bool,
    /// Remove the label
    #[arg(long, conflicts_with = "overwrite")]
    pub remove: bool,
    /// Namespace
    #[arg(short = 'n', long)]
    pub namespace: Option<String>,
}

/// Subcommands of `ipam`.
#[derive(Debug, Subcommand)]
pub enum IpamCommand {
    /// Show pools and blocks, an address, or the settings
    Show(IpamShowArgs),
    /// Look for leaked addresses and unfinished work
    Check(IpamCheckArgs),
    /// Release an address
    Release {
        /// The address
        #[arg(long)]
        ip: std::net::IpAddr,
    },
    /// Change the settings
    Configure(IpamConfigureArgs),
}

/// Arguments of `ipam show`.
#[derive(Debug, Args)]
pub struct IpamShowArgs {
    /// Show who has this address
    #[arg(long)]
    pub ip: Option<std::net::IpAddr>,
    /// Show blocks as well as pools
    #[arg(long)]
    pub show_blocks: bool,
    /// Show addresses that nodes took from blocks of others
    #[arg(long)]
    pub show_borrowed: bool,
    /// Show the settings
    #[arg(long)]
    pub show_configuration: bool,
}

/// Arguments of `ipam check`.
#[derive(Debug, Args)]
pub struct IpamCheckArgs {
    /// List every assigned address
    #[arg(long)]
    pub show_all_ips: bool,
    /// List every address that has a problem
    #[arg(long)]
    pub show_problem_ips: bool,
    /// Remove what writers left that died at work
    #[arg(long)]
    pub collect: bool,
}

/// Arguments of `ipam configure`.
#[derive(Debug, Args)]
pub struct IpamConfigureArgs {
    /// Nodes use only blocks of their own
    #[arg(long)]
    pub strictaffinity: Option<bool>,
    /// Most blocks of one node; 0 for no limit
    #[arg(long)]
    pub max_blocks_per_host: Option<u32>,
    /// Seconds that a released address rests
    #[arg(long)]
    pub ip_cooldown_seconds: Option<u32>,
}

/// Forms of `node status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum StatusFormat {
    /// A table for each family
    Ps,
    /// The same with AS, prefixes in and out, timers and the last error
    Wide,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// Subcommands of `node`.
#[derive(Debug, Subcommand)]
pub enum NodeCommand {
    /// Show the BGP sessions of this node
    Status {
        /// BIRD's control socket
        #[arg(long, default_value = crate::bird::SOCKET)]
        socket: PathBuf,
        /// Tables (ps, wide) or one document
        #[arg(short, long, value_enum, default_value_t = StatusFormat::Ps)]
        output: StatusFormat,
    },
}

/// Forms of reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ReportFormat {
    /// Tables and sentences
    Ps,
    /// One JSON document
    Json,
    /// One YAML document
    Yaml,
}

/// Subcommands of `bgp`.
#[derive(Debug, Subcommand)]
pub enum BgpCommand {
    /// Show the sessions of all nodes, and what is wrong with them
    Plan(BgpPlanArgs),
    /// Say why a prefix is announced and installed on a node, or not
    Why(BgpWhyArgs),
    /// Move a running mesh to route reflectors without losing a packet
    MakeReflectors(MakeReflectorsArgs),
}

/// Arguments of `bgp plan`.
#[derive(Debug, Args)]
pub struct BgpPlanArgs {
    /// File or directory of resources that are planned for; - for standard input. Nothing is stored
    #[arg(short = 'f', long)]
    pub filename: Option<PathBuf>,
    /// Look into directories inside the directory
    #[arg(short = 'R', long, requires = "filename")]
    pub recursive: bool,
    /// Look at the file alone, without a datastore
    #[arg(long, requires = "filename")]
    pub offline: bool,
    /// Tables and sentences (ps) or one document
    #[arg(short, long, value_enum, default_value_t = ReportFormat::Ps)]
    pub output: ReportFormat,
}

/// Arguments of `bgp why`.
#[derive(Debug, Args)]
pub struct BgpWhyArgs {
    /// The prefix, or an address
    pub prefix: String,
    /// The node that announces and installs [default: this host's]
    #[arg(long)]
    pub node: Option<String>,
    /// BIRD's control socket [default: /var/run/calico/bird.ctl, where the node is this host]
    #[arg(long)]
    pub socket: Option<PathBuf>,
    /// Sentences (ps) or one document
    #[arg(short, long, value_enum, default_value_t = ReportFormat::Ps)]
    pub output: ReportFormat,
}

/// Arguments of `bgp make-reflectors`.
#[derive(Debug, Args)]
pub struct MakeReflectorsArgs {
    /// The nodes that are to be reflectors; several may stand between commas
    #[arg(required = true)]
    pub nodes: Vec<String>,
    /// Their cluster [default: the one they have, or the first free one from 244.0.0.1 on]
    #[arg(long)]
    pub cluster_id: Option<std::net::Ipv4Addr>,
    /// The nodes that peer with them
    #[arg(long, default_value = "all()")]
    pub clients: String,
    /// Leave the mesh on: more reflectors are to come
    #[arg(long)]
    pub keep_mesh: bool,
    /// Nodes that are not waited for, such as those that are switched off
    #[arg(long, value_name = "NODE")]
    pub without: Vec<String>,
    /// Seconds that each wait may take
    #[arg(long, default_value_t = 300)]
    pub timeout: u64,
    /// Only say what would be done
    #[arg(long)]
    pub dry_run: bool,
}

/// Arguments of `version`.
#[derive(Debug, Args)]
pub struct VersionArgs {
    /// Only this program's version
    #[arg(long)]
    pub client: bool,
}
