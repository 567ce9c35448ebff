//! How a process names its datastore: environment, calicoctl's file, Felix's parameters, CNI's network configuration.
//!
//! Pure: files are named, not read, and the environment comes as a function. Every error names the variable or field
//! that is wrong. Spellings are one table ([`Field`]); sources can be stacked ([`Settings::or`]); [`Settings::resolve`]
//! decides (spec 1 §2.1, spec 3 §7, spec 5 §1.4, spec 7 §5.2).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

pub use calico_api::kubernetes::ApiGroup;

/// Where the embedded store is unless something else is said.
pub const DEFAULT_PATH: &str = "/var/lib/calico/datastore.db";

/// Where a process's datastore is and how to reach it.
#[derive(Clone, Debug, PartialEq)]
pub enum DatastoreConfig {
    /// An etcd v3 cluster.
    Etcd(EtcdConfig),
    /// A file of this host.
    Embedded {
        /// The file.
        path: PathBuf,
    },
    /// The Kubernetes API.
    Kubernetes(KubernetesConfig),
}

/// How to reach etcd.
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdConfig {
    /// `http://…` or `https://…`, at least one.
    pub endpoints: Vec<String>,
    /// User name and password, when both are given.
    pub login: Option<(String, String)>,
    /// The certificate authority to trust; the system's if none.
    pub ca: Option<Pem>,
    /// The client's certificate and its private key.
    pub identity: Option<(Pem, Pem)>,
}

/// How to reach the Kubernetes API. What is said here wins over what kubeconfig files say; with neither a file nor an
/// endpoint, the service account of the pod is used.
#[derive(Clone, Default, PartialEq)]
pub struct KubernetesConfig {
    /// Kubeconfig files; of equal names the first file's counts.
    pub kubeconfig: Vec<PathBuf>,
    /// A kubeconfig's text, in place of files.
    pub inline: Option<String>,
    /// The context to use in place of the current one.
    pub context: Option<String>,
    /// `https://host:port` (or `http://…`), perhaps with a path.
    pub endpoint: Option<String>,
    /// A bearer token.
    pub token: Option<String>,
    /// The certificate authority to trust.
    pub ca: Option<Pem>,
    /// The client's certificate and its private key.
    pub identity: Option<(Pem, Pem)>,
    /// Whether the server's certificate is left unverified.
    pub insecure: bool,
    /// Requests per second and in one burst; no limit of ours if none.
    pub rate: Option<Rate>,
    /// The API group of Calico's objects; what the server has decides if none.
    pub group: Option<ApiGroup>,
    /// Whether addresses come from the nodes' pod CIDRs, so that Calico's own IPAM has no records.
    pub use_pod_cidr: bool,
}

/// How fast requests may follow one another.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// In the long run.
    pub per_second: f32,
    /// At once, after a pause.
    pub burst: u32,
}

/// Where a PEM text is.
#[derive(Clone, PartialEq, Eq)]
pub enum Pem {
    /// In a file.
    File(PathBuf),
    /// Here.
    Inline(String),
}

impl fmt::Debug for EtcdConfig {
    /// Without the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EtcdConfig { endpoints, login, ca, identity } = self;
        f.debug_struct("EtcdConfig")
            .field("endpoints", endpoints)
            .field("user", &login.as_ref().map(|(user, _)| user))
            .field("ca", ca)
            .field("identity", identity)
            .finish()
    }
}

impl fmt::Debug for KubernetesConfig {
    /// Without the token and the inline file.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let KubernetesConfig { kubeconfig, context, endpoint, ca, identity, insecure, rate, group, .. } =
            self;
        f.debug_struct("KubernetesConfig")
            .field("kubeconfig", kubeconfig)
            .field("context", context)
            .field("endpoint", endpoint)
            .field("ca", ca)
            .field("identity", identity)
            .field("insecure", insecure)
            .field("rate", rate)
            .field("group", group)
            .field("use_pod_cidr", &self.use_pod_cidr)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Pem {
    /// Without the text, which may be a private key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pem::File(path) => write!(f, "{}", path.display()),
            Pem::Inline(_) => f.write_str("inline"),
        }
    }
}

/// Why the settings name no datastore.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A value is not one of those that the setting may have.
    #[error("{name}: {problem}")]
    Invalid {
        /// The variable or field.
        name: String,
        /// What is wrong, and what would be right.
        problem: String,
    },
    /// Something that this setting needs is not set.
    #[error("{name} is set but {missing} is not: {reason}")]
    Incomplete {
        /// The variable or field that is set.
        name: String,
        /// The one that is not, in the same spelling.
        missing: String,
        /// Why both are needed.
        reason: &'static str,
    },
    /// Two settings exclude each other.
    #[error("{first} and {second} are both set: {reason}")]
    Ambiguous {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// Why they exclude each other.
        reason: &'static str,
    },
}

macro_rules! fields {
    ($($variant:ident, $env:literal, $felix:literal, $api:literal, $netconf:literal;)*) => {
        /// One thing that a source may say, with its spellings. An empty spelling: the source cannot say it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Field {
            $(#[doc = concat!("`", $env, "` in the environment, `", $api, "` in calicoctl's file.")] $variant,)*
        }

        impl Field {
            /// Every field.
            pub const ALL: &'static [Field] = &[$(Field::$variant),*];

            /// Its name in the environment, without a prefix.
            pub fn env(self) -> &'static str {
                match self { $(Field::$variant => $env),* }
            }

            /// Its name as a Felix parameter; in the environment with `FELIX_` before it, in any case.
            pub fn felix(self) -> &'static str {
                match self { $(Field::$variant => $felix),* }
            }

            /// Its name in calicoctl's `CalicoAPIConfig`.
            pub fn api_config(self) -> &'static str {
                match self { $(Field::$variant => $api),* }
            }

            /// Its names in a CNI network configuration, the stronger first, with `|` between them and `.` before a
            /// field of a field.
            pub fn netconf(self) -> &'static str {
                match self { $(Field::$variant => $netconf),* }
            }
        }
    };
}

fields! {
    Type,       "DATASTORE_TYPE",         "DatastoreType", "datastoreType",    "datastore_type";
    Path,       "CALICO_DATASTORE_PATH",  "DatastorePath", "datastorePath",    "datastore_path";
    Endpoints,  "ETCD_ENDPOINTS",         "EtcdEndpoints", "etcdEndpoints",    "etcd_endpoints";
    Discovery,  "ETCD_DISCOVERY_SRV",     "",              "etcdDiscoverySrv", "etcd_discovery_srv";
    Authority,  "ETCD_AUTHORITY",         "EtcdAddr",      "",                 "etcd_authority";
    Scheme,     "ETCD_SCHEME",            "EtcdScheme",    "",                 "etcd_scheme";
    Username,   "ETCD_USERNAME",          "",              "etcdUsername",     "";
    Password,   "ETCD_PASSWORD",          "",              "etcdPassword",     "";
    KeyFile,    "ETCD_KEY_FILE",          "EtcdKeyFile",   "etcdKeyFile",      "etcd_key_file";
    CertFile,   "ETCD_CERT_FILE",         "EtcdCertFile",  "etcdCertFile",     "etcd_cert_file";
    CaFile,     "ETCD_CA_CERT_FILE",      "EtcdCaFile",    "etcdCACertFile",   "etcd_ca_cert_file";
    Key,        "",                       "",              "etcdKey",          "";
    Cert,       "",                       "",              "etcdCert",         "";
    Ca,         "",                       "",              "etcdCACert",       "";
    Kubeconfig, "KUBECONFIG",             "",              "kubeconfig",       "kubernetes.kubeconfig";
    KubeInline, "",                       "",              "kubeconfigInline", "";
    K8sContext, "K8S_CURRENT_CONTEXT",    "",              "k8sCurrentContext", "";
    K8sApi,     "K8S_API_ENDPOINT",       "",              "k8sAPIEndpoint",   "kubernetes.k8s_api_root|policy.k8s_api_root";
    K8sToken,   "K8S_API_TOKEN",          "",              "k8sAPIToken",      "policy.k8s_auth_token";
    K8sKeyFile, "K8S_KEY_FILE",           "",              "k8sKeyFile",       "policy.k8s_client_key";
    K8sCertFile, "K8S_CERT_FILE",         "",              "k8sCertFile",      "policy.k8s_client_certificate";
    K8sCaFile,  "K8S_CA_FILE",            "",              "k8sCAFile",        "policy.k8s_certificate_authority";
    K8sInsecure, "K8S_INSECURE_SKIP_TLS_VERIFY", "",       "k8sInsecureSkipTLSVerify", "";
    K8sQps,     "K8S_CLIENT_QPS",         "",              "k8sClientQPS",     "qps";
    K8sBurst,   "K8S_CLIENT_BURST",       "",              "k8sClientBurst",   "burst";
    ApiGroup,   "CALICO_API_GROUP",       "",              "calicoAPIGroup",   "calico_api_group";
    UsePodCidr, "USE_POD_CIDR",           "",              "usePodCIDR",       "";
}

/// A value and where it came from.
#[derive(Clone, PartialEq, Eq)]
struct Setting {
    name: String,
    value: String,
}

impl fmt::Debug for Setting {
    /// Without the value, which may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// What the sources said. Empty values count as unset.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings(BTreeMap<Field, Setting>);

impl Settings {
    /// From the environment, as calicoctl, node and the controllers read it: each name alone or with `CALICO_` before
    /// it, which wins.
    pub fn from_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Settings {
        let mut settings = Settings::default();
        for &field in Field::ALL.iter().filter(|f| !f.env().is_empty()) {
            let name = field.env();
            let prefixed = format!("CALICO_{}", name.trim_start_matches("CALICO_"));
            for name in [prefixed.as_str(), name] {
                if let Some(value) = lookup(name) {
                    settings.set(field, name, value);
                }
            }
        }
        settings
    }

    /// From Felix's own variables (`FELIX_EtcdEndpoints`, `FELIX_ETCDENDPOINTS` or `FELIX_etcdendpoints`), above those
    /// of [`Settings::from_environment`].
    pub fn from_felix_environment(lookup: &dyn Fn(&str) -> Option<String>) -> Settings {
        let mut settings = Settings::default();
        for &field in Field::ALL {
            let name = field.felix();
            for spelling in [name.to_owned(), name.to_ascii_uppercase(), name.to_ascii_lowercase()] {
                let name = format!("FELIX_{spelling}");
                if let Some(value) = lookup(&name).filter(|_| !spelling.is_empty()) {
                    settings.set(field, &name, value);
                }
            }
        }
        settings.or(Settings::from_environment(lookup))
    }

    /// From fields of calicoctl's `CalicoAPIConfig` (its `spec`): `field(name)` gives a field's text.
    pub fn from_api_config(field: &dyn Fn(&str) -> Option<String>) -> Settings {
        Settings::from_names(Field::api_config, field)
    }

    /// From fields of a CNI network configuration. What it leaves open comes from the environment:
    /// `Settings::from_netconf(…).or(Settings::from_environment(…))`.
    pub fn from_netconf(field: &dyn Fn(&str) -> Option<String>) -> Settings {
        Settings::from_names(Field::netconf, field)
    }

    fn from_names(name_of: fn(Field) -> &'static str, lookup: &dyn Fn(&str) -> Option<String>) -> Settings {
        let mut settings = Settings::default();
        for &field in Field::ALL {
            for name in name_of(field).split('|').filter(|n| !n.is_empty()) {
                if let Some(value) = lookup(name) {
                    settings.set(field, name, value);
                }
            }
        }
        settings
    }

    /// Sets a field unless it is set already.
    fn set(&mut self, field: Field, name: &str, value: String) {
        if !value.trim().is_empty() {
            self.0.entry(field).or_insert(Setting { name: name.to_owned(), value });
        }
    }

    /// Fills what is unset from a weaker source.
    #[must_use]
    pub fn or(mut self, weaker: Settings) -> Settings {
        for (field, setting) in weaker.0 {
            self.0.entry(field).or_insert(setting);
        }
        self
    }

    /// Whether nothing at all is set.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn get(&self, field: Field) -> Option<&Setting> {
        self.0.get(&field)
    }

    /// The datastore that the settings name.
    pub fn resolve(&self) -> Result<DatastoreConfig, ConfigError> {
        let Some(wanted) = self.get(Field::Type) else { return self.resolve_untyped() };
        match wanted.value.trim() {
            "etcdv3" => self.resolve_etcd().map(DatastoreConfig::Etcd),
            "embedded" => Ok(self.embedded()),
            "kubernetes" => self.resolve_kubernetes().map(DatastoreConfig::Kubernetes),
            other => Err(wanted.invalid(format!("{other:?} is not etcdv3, kubernetes or embedded"))),
        }
    }

    /// Without a type: what is described decides. Nothing is ever guessed past something that is named, since the
    /// wrong store would look empty rather than wrong.
    fn resolve_untyped(&self) -> Result<DatastoreConfig, ConfigError> {
        let etcd = [Field::Endpoints, Field::Discovery, Field::Authority].iter().find_map(|f| self.get(*f));
        if let (Some(etcd), Some(path)) = (etcd, self.get(Field::Path)) {
            return Err(ConfigError::Ambiguous {
                first: etcd.name.clone(),
                second: path.name.clone(),
                reason: "set the datastore type to etcdv3 or embedded",
            });
        }
        if etcd.is_some() {
            return self.resolve_etcd().map(DatastoreConfig::Etcd);
        }
        let kubernetes = [Field::Kubeconfig, Field::KubeInline, Field::K8sApi];
        if kubernetes.iter().any(|f| self.get(*f).is_some()) && self.get(Field::Path).is_none() {
            return self.resolve_kubernetes().map(DatastoreConfig::Kubernetes);
        }
        Ok(self.embedded())
    }

    fn embedded(&self) -> DatastoreConfig {
        let path = self.get(Field::Path).map_or(DEFAULT_PATH, |s| s.value.trim());
        DatastoreConfig::Embedded { path: path.into() }
    }
}

mod etcd;
mod kubernetes;

#[cfg(test)]
mod tests;
