//! Keys: every place in the datastore, as one enum that prints as Calico's etcd key (spec 1 §2.2).

use std::fmt;

use calico_net::Cidr;
use smol_str::SmolStr;

use crate::record::Selection;

/// Whether objects of a kind live in a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One name per cluster.
    Cluster,
    /// One name per namespace.
    Namespaced,
}

macro_rules! kinds {
    (
        resources { $($variant:ident, $plural:literal, $scope:ident, [$($alias:literal),*];)* }
        mirrored { $($mirror:ident, $mirror_plural:literal, $mirror_scope:ident;)* }
    ) => {
        /// The kinds of resource, in the order of `calicoctl get all`; after them, what the Kubernetes datastore shows
        /// of Kubernetes' own objects.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = concat!("`", stringify!($variant), "`, stored under `", $plural, "`.")] $variant,)*
            $(#[doc = concat!("`", stringify!($mirror), "`, stored by Kubernetes only.")] $mirror,)*
        }

        impl Kind {
            /// Every kind of Calico's API.
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),*];
            /// Every kind that is a Kubernetes object in Calico's words: read, never written, and in no other datastore.
            pub const MIRRORED: &'static [Kind] = &[$(Kind::$mirror),*];

            /// `kind` as documents spell it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Kind::$variant => stringify!($variant),)*
                    $(Kind::$mirror => stringify!($mirror),)*
                }
            }

            /// The plural, lower case: the segment of etcd keys and of API paths.
            pub fn plural(self) -> &'static str {
                match self {
                    $(Kind::$variant => $plural,)*
                    $(Kind::$mirror => $mirror_plural,)*
                }
            }

            /// Cluster-wide or namespaced.
            pub fn scope(self) -> Scope {
                match self {
                    $(Kind::$variant => Scope::$scope,)*
                    $(Kind::$mirror => Scope::$mirror_scope,)*
                }
            }

            /// Short names that `calicoctl` accepts besides the lower-case name and plural (spec 7 §5.5).
            pub fn aliases(self) -> &'static [&'static str] {
                match self {
                    $(Kind::$variant => &[$($alias),*],)*
                    $(Kind::$mirror => &[],)*
                }
            }
        }
    };
}

kinds! {
    resources {
        BGPConfiguration, "bgpconfigurations", Cluster, ["bgpconfig", "bgpconfigs"];
        BGPFilter, "bgpfilters", Cluster, ["bgpf", "bgpfs", "bf", "bfs"];
        BGPPeer, "bgppeers", Cluster, ["bgpp", "bgpps", "bp", "bps"];
        BlockAffinity, "blockaffinities", Cluster, ["affinity", "affinities"];
        CalicoNodeStatus, "caliconodestatuses", Cluster, ["nodestatus", "nodestatuses"];
        ClusterInformation, "clusterinformations", Cluster, ["clusterinfo", "clusterinfos"];
        FelixConfiguration, "felixconfigurations", Cluster, ["felixconfig", "felixconfigs"];
        GlobalNetworkPolicy, "globalnetworkpolicies", Cluster, ["gnp", "gnps", "cgnp"];
        GlobalNetworkSet, "globalnetworksets", Cluster, ["gns", "gnetset", "gnetsets"];
        HostEndpoint, "hostendpoints", Cluster, ["hep", "heps"];
        IPAMConfiguration, "ipamconfigurations", Cluster, ["ipamconfig", "ipamconfigs"];
        IPPool, "ippools", Cluster, ["ipp", "ipps", "pool", "pools"];
        IPReservation, "ipreservations", Cluster, ["reservation", "reservations"];
        KubeControllersConfiguration, "kubecontrollersconfigurations", Cluster, ["kubecontrollersconfig"];
        NetworkPolicy, "networkpolicies", Namespaced, ["np", "policy", "policies", "pol", "pols", "cnp", "caliconetworkpolicy"];
        NetworkSet, "networksets", Namespaced, ["netset", "netsets"];
        Node, "nodes", Cluster, ["no", "nos"];
        Profile, "profiles", Cluster, ["pro", "pros"];
        StagedGlobalNetworkPolicy, "stagedglobalnetworkpolicies", Cluster, ["sgnp"];
        StagedKubernetesNetworkPolicy, "stagedkubernetesnetworkpolicies", Namespaced, ["sknp"];
        StagedNetworkPolicy, "stagednetworkpolicies", Namespaced, ["snp"];
        Tier, "tiers", Cluster, [];
        WorkloadEndpoint, "workloadendpoints", Namespaced, ["wep", "weps"];
    }
    mirrored {
        KubernetesClusterNetworkPolicy, "kubernetesclusternetworkpolicies", Cluster;
        KubernetesEndpointSlice, "kubernetesendpointslices", Namespaced;
        KubernetesNetworkPolicy, "kubernetesnetworkpolicies", Namespaced;
        KubernetesSecret, "kubernetessecrets", Namespaced;
        KubernetesService, "kubernetesservice", Namespaced;
    }
}

impl Kind {
    /// The kind of Calico's API of a name, plural or alias, in any case.
    pub fn from_alias(text: &str) -> Option<Kind> {
        let text = text.to_ascii_lowercase();
        Kind::ALL.iter().copied().find(|k| {
            k.name().to_ascii_lowercase() == text || k.plural() == text || k.aliases().contains(&&*text)
        })
    }
}

/// The place of one resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; empty for cluster-scoped kinds.
    pub namespace: SmolStr,
    /// Its name.
    pub name: SmolStr,
}

/// Who owns an IPAM block: `host:<node>`, or `virtual:<name>` for load-balancer addresses (spec 5 §2.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AffinityOwner {
    /// A node.
    Host(SmolStr),
    /// A name that is no node, such as `load-balancer`.
    Virtual(SmolStr),
}

impl AffinityOwner {
    /// The name without its class.
    pub fn name(&self) -> &SmolStr {
        match self {
            AffinityOwner::Host(name) | AffinityOwner::Virtual(name) => name,
        }
    }
}

/// Every place in the datastore.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// A v3 resource.
    Resource(ResourceKey),
    /// An IPAM block, by its CIDR.
    Block(Cidr),
    /// A claim of a block by an owner.
    Affinity {
        /// Who claims.
        owner: AffinityOwner,
        /// The block.
        block: Cidr,
    },
    /// An IPAM handle: which blocks hold its addresses.
    Handle(SmolStr),
    /// IPAM's configuration (the backend form, spec 1 §2.2).
    IpamConfig,
    /// The marker of a host known to IPAM.
    IpamHost(SmolStr),
    /// Felix's report of itself; expires when it dies.
    FelixStatus(SmolStr),
    /// Felix's last report of itself; stays.
    FelixLastStatus(SmolStr),
    /// A workload endpoint's state (up, down, error).
    WorkloadStatus {
        /// Node.
        host: SmolStr,
        /// `k8s`, `cni`, …
        orchestrator: SmolStr,
        /// `<namespace>/<workload>`.
        workload: SmolStr,
        /// Endpoint, usually the container's interface.
        endpoint: SmolStr,
    },
    /// A host endpoint's state.
    HostStatus {
        /// Node.
        host: SmolStr,
        /// HostEndpoint's name.
        endpoint: SmolStr,
    },
}

/// The text is no key that we know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a key of Calico's data model")]
pub struct KeyError(pub String);

/// Where resources live in etcd.
const RESOURCES: &str = "/calico/resources/v3/projectcalico.org/";
/// Where IPAM's records live in etcd.
const IPAM: &str = "/calico/ipam/v2/";
/// Where Felix's reports live in etcd; the region is fixed outside OpenStack.
const FELIX: &str = "/calico/felix/v2/no-region/host/";
/// Where host endpoints' states live in etcd.
const FELIX_V1: &str = "/calico/felix/v1/host/";

impl From<ResourceKey> for Key {
    fn from(key: ResourceKey) -> Key {
        Key::Resource(key)
    }
}

impl Key {
    /// The key of a resource; `namespace` is `""` for cluster-scoped kinds.
    pub fn resource(kind: Kind, namespace: &str, name: &str) -> Key {
        Key::Resource(ResourceKey { kind, namespace: SmolStr::new(namespace), name: SmolStr::new(name) })
    }

    /// Parses an etcd key.
    pub fn parse(path: &str) -> Result<Key, KeyError> {
        parse(path).ok_or_else(|| KeyError(path.to_owned()))
    }
}

fn escape(text: &str) -> String {
    text.replace('%', "%25").replace('/', "%2f")
}

fn unescape(text: &str) -> SmolStr {
    SmolStr::from(text.replace("%2f", "/").replace("%25", "%"))
}

fn parse_cidr(text: &str, family: &str) -> Option<Cidr> {
    let (addr, len) = text.rsplit_once('-')?;
    let cidr: Cidr = format!("{addr}/{len}").parse().ok()?;
    // One that is written otherwise, with host bits for instance, is another key, and no block of IPAM's.
    let is_ours = cidr.key_name() == text && format!("ipv{}", cidr.family().number()) == family;
    is_ours.then_some(cidr)
}

fn parse(path: &str) -> Option<Key> {
    if let Some(rest) = path.strip_prefix(RESOURCES) {
        let parts: Vec<&str> = rest.split('/').collect();
        let kind = Kind::ALL.iter().chain(Kind::MIRRORED).copied().find(|k| k.plural() == parts[0])?;
        return match (kind.scope(), parts.as_slice()) {
            (Scope::Cluster, [_, name]) if !name.is_empty() => Some(Key::resource(kind, "", name)),
            (Scope::Namespaced, [_, ns, name]) if !ns.is_empty() && !name.is_empty() => {
                Some(Key::resource(kind, ns, name))
            }
            _ => None,
        };
    }
    if let Some(rest) = path.strip_prefix(IPAM) {
        let parts: Vec<&str> = rest.split('/').collect();
        return match parts.as_slice() {
            ["config"] => Some(Key::IpamConfig),
            ["assignment", family, "block", cidr] => parse_cidr(cidr, family).map(Key::Block),
            ["handle", id @ ..] if !id.is_empty() => Some(Key::Handle(SmolStr::from(id.join("/")))),
            ["host", host] if !host.is_empty() => Some(Key::IpamHost(SmolStr::new(host))),
            [owner @ ("host" | "virtual"), name, family, "block", cidr] => {
                let block = parse_cidr(cidr, family)?;
                let name = SmolStr::new(name);
                let owner =
                    if *owner == "host" { AffinityOwner::Host(name) } else { AffinityOwner::Virtual(name) };
                Some(Key::Affinity { owner, block })
            }
            _ => None,
        };
    }
    if let Some(rest) = path.strip_prefix(FELIX) {
        let parts: Vec<&str> = rest.split('/').collect();
        return match parts.as_slice() {
            [host, "status"] => Some(Key::FelixStatus(SmolStr::new(host))),
            [host, "last_reported_status"] => Some(Key::FelixLastStatus(SmolStr::new(host))),
            [host, "workload", orchestrator, workload, "endpoint", endpoint] => Some(Key::WorkloadStatus {
                host: SmolStr::new(host),
                orchestrator: unescape(orchestrator),
                workload: unescape(workload),
                endpoint: unescape(endpoint),
            }),
            _ => None,
        };
    }
    let rest = path.strip_prefix(FELIX_V1)?;
    match rest.split('/').collect::<Vec<_>>().as_slice() {
        [host, "endpoint", endpoint] => {
            Some(Key::HostStatus { host: SmolStr::new(host), endpoint: unescape(endpoint) })
        }
        _ => None,
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let family = |c: &Cidr| c.family().number();
        match self {
            Key::Resource(ResourceKey { kind, namespace, name }) if namespace.is_empty() => {
                write!(f, "{RESOURCES}{}/{name}", kind.plural())
            }
            Key::Resource(ResourceKey { kind, namespace, name }) => {
                write!(f, "{RESOURCES}{}/{namespace}/{name}", kind.plural())
            }
            Key::Block(c) => write!(f, "{IPAM}assignment/ipv{}/block/{}", family(c), c.key_name()),
            Key::Affinity { owner, block } => {
                let (class, name) = match owner {
                    AffinityOwner::Host(n) => ("host", n),
                    AffinityOwner::Virtual(n) => ("virtual", n),
                };
                write!(f, "{IPAM}{class}/{name}/ipv{}/block/{}", family(block), block.key_name())
            }
            Key::Handle(id) => write!(f, "{IPAM}handle/{id}"),
            Key::IpamConfig => write!(f, "{IPAM}config"),
            Key::IpamHost(host) => write!(f, "{IPAM}host/{host}"),
            Key::FelixStatus(host) => write!(f, "{FELIX}{host}/status"),
            Key::FelixLastStatus(host) => write!(f, "{FELIX}{host}/last_reported_status"),
            Key::WorkloadStatus { host, orchestrator, workload, endpoint } => write!(
                f,
                "{FELIX}{host}/workload/{}/{}/endpoint/{}",
                escape(orchestrator),
                escape(workload),
                escape(endpoint)
            ),
            Key::HostStatus { host, endpoint } => write!(f, "{FELIX_V1}{host}/endpoint/{}", escape(endpoint)),
        }
    }
}

impl fmt::Display for ResourceKey {
    /// `Kind(name)` or `Kind(namespace/name)`, for messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ResourceKey { kind, namespace, name } = self;
        if namespace.is_empty() {
            write!(f, "{}({name})", kind.name())
        } else {
            write!(f, "{}({namespace}/{name})", kind.name())
        }
    }
}

impl fmt::Display for AffinityOwner {
    /// `host:<name>` or `virtual:<name>`, as blocks store it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AffinityOwner::Host(n) => write!(f, "host:{n}"),
            AffinityOwner::Virtual(n) => write!(f, "virtual:{n}"),
        }
    }
}

impl std::str::FromStr for AffinityOwner {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<AffinityOwner, KeyError> {
        match text.split_once(':') {
            Some(("host", n)) => Ok(AffinityOwner::Host(SmolStr::new(n))),
            Some(("virtual", n)) => Ok(AffinityOwner::Virtual(SmolStr::new(n))),
            _ => Err(KeyError(text.to_owned())),
        }
    }
}

impl Selection {
    /// The prefix that every selected etcd key has. It may select too much; [`Selection::contains`] decides.
    pub fn prefix(&self) -> String {
        match self {
            Selection::Resources { kind, namespace, name_prefix } => {
                let base = format!("{RESOURCES}{}/", kind.plural());
                match (kind.scope(), namespace) {
                    (Scope::Cluster, _) => format!("{base}{name_prefix}"),
                    (Scope::Namespaced, Some(ns)) => format!("{base}{ns}/{name_prefix}"),
                    (Scope::Namespaced, None) => base,
                }
            }
            Selection::Resource(key) => Key::Resource(key.clone()).to_string(),
            Selection::Blocks(family) => format!("{IPAM}assignment/ipv{}/block/", family.number()),
            Selection::Affinities { owner, family } => {
                let base = match owner {
                    None => return IPAM.to_owned(),
                    Some(AffinityOwner::Host(n)) => format!("{IPAM}host/{n}/"),
                    Some(AffinityOwner::Virtual(n)) => format!("{IPAM}virtual/{n}/"),
                };
                match family {
                    None => base,
                    Some(f) => format!("{base}ipv{}/block/", f.number()),
                }
            }
            Selection::Handles => format!("{IPAM}handle/"),
            Selection::Statuses(None) => "/calico/felix/".to_owned(),
            Selection::Statuses(Some(host)) => format!("{FELIX}{host}/"),
        }
    }

    /// Whether the selection includes a key.
    pub fn contains(&self, key: &Key) -> bool {
        match (self, key) {
            (Selection::Resources { kind, namespace, name_prefix }, Key::Resource(key)) => {
                key.kind == *kind
                    && namespace.as_ref().is_none_or(|ns| *ns == key.namespace)
                    && key.name.starts_with(name_prefix.as_str())
            }
            (Selection::Resource(wanted), Key::Resource(key)) => wanted == key,
            (Selection::Blocks(family), Key::Block(cidr)) => cidr.family() == *family,
            (Selection::Affinities { owner, family }, Key::Affinity { owner: o, block }) => {
                owner.as_ref().is_none_or(|w| w == o) && family.is_none_or(|f| block.family() == f)
            }
            (Selection::Handles, Key::Handle(_)) => true,
            (Selection::Statuses(wanted), key) => {
                let host = match key {
                    Key::FelixStatus(host) | Key::FelixLastStatus(host) => host,
                    Key::WorkloadStatus { host, .. } => host,
                    // They are stored elsewhere than the rest of a host's: no range of keys holds both and nothing else.
                    Key::HostStatus { .. } => return wanted.is_none(),
                    _ => return false,
                };
                wanted.as_ref().is_none_or(|w| w == host)
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests;
