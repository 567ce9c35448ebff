//! Where the API server is and how to log in: what kubeconfig, settings and the pod's service account say together.
//!
//! Pure, but for [`read`], which reads the files that the settings name.

use std::path::{Path, PathBuf};

use calico_store::config::{KubernetesConfig, Pem};

use crate::kubeconfig::{Kubeconfig, KubeconfigError};

/// Where a pod finds its service account.
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// One API server and one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    /// Its address.
    pub(crate) server: Server,
    /// The name that its certificate must have, if not the host's.
    pub(crate) server_name: Option<String>,
    /// The authority to trust; the system's if none.
    pub(crate) ca: Option<Pem>,
    /// Whether its certificate is not verified at all.
    pub(crate) insecure: bool,
    /// The client's certificate and private key.
    pub(crate) identity: Option<(Pem, Pem)>,
    /// What proves who the client is, besides a certificate.
    pub(crate) login: Login,
    /// Headers that ask to act as somebody else.
    pub(crate) impersonation: Vec<(&'static str, String)>,
}

/// An API server's address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Server {
    /// Whether it speaks TLS.
    pub(crate) tls: bool,
    /// Name or address, an IPv6 address without brackets.
    pub(crate) host: String,
    /// Its TCP port.
    pub(crate) port: u16,
    /// What stands before every path: empty, or `/k8s/clusters/x`.
    pub(crate) base: String,
}

/// A login besides a client certificate.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Login {
    /// None.
    Anonymous,
    /// A bearer token.
    Token(String),
    /// A file with one, which somebody renews.
    TokenFile(PathBuf),
    /// A program that gives one.
    Exec(Exec),
}

/// A credential plugin (`client.authentication.k8s.io`).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Exec {
    /// The program.
    pub(crate) command: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<String>,
    /// Variables that it gets besides ours.
    pub(crate) env: Vec<(String, String)>,
    /// The version of the protocol.
    pub(crate) api_version: String,
    /// Where to find the program if it is missing.
    pub(crate) install_hint: String,
    /// What it is told of the cluster, if it wants to know.
    pub(crate) cluster: Option<ExecCluster>,
}

/// A cluster, as a credential plugin is told of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExecCluster {
    /// The server's URL.
    pub(crate) server: String,
    /// The name that its certificate must have, if not the host's.
    pub(crate) server_name: Option<String>,
    /// Whether its certificate is not verified at all.
    pub(crate) insecure: bool,
    /// The authority to trust; the system's if none.
    pub(crate) ca: Option<Pem>,
    /// What the kubeconfig's cluster has to say to plugins.
    pub(crate) config: Option<serde_json::Value>,
}

impl std::fmt::Debug for Login {
    /// Without tokens.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Login::Anonymous => f.write_str("anonymous"),
            Login::Token(_) => f.write_str("token"),
            Login::TokenFile(path) => write!(f, "token in {}", path.display()),
            Login::Exec(exec) => write!(f, "token from {}", exec.command.display()),
        }
    }
}

/// Why there is no way to an API server.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A named file cannot be read.
    #[error("cannot read {}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A kubeconfig is not usable.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
    /// An address is not one.
    #[error("{place}: {text:?} is not of the form https://host:port")]
    Server {
        /// Where it stands.
        place: String,
        /// What stands there.
        text: String,
    },
    /// Nothing names a server, and this is no pod.
    #[error(
        "no API server is named; set KUBECONFIG or K8S_API_ENDPOINT (in a pod, KUBERNETES_SERVICE_HOST and \
         KUBERNETES_SERVICE_PORT name it)"
    )]
    Nowhere,
}

/// Reads what the settings name.
pub(crate) fn read(
    config: &KubernetesConfig,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Access, AccessError> {
    let mut texts = Vec::new();
    for path in &config.kubeconfig {
        match std::fs::read_to_string(path) {
            Ok(text) => texts.push((path.clone(), text)),
            // As kubectl does: of a list of files some may be absent.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && config.kubeconfig.len() > 1 => {}
            Err(source) => return Err(AccessError::File { path: path.clone(), source }),
        }
    }
    if texts.is_empty()
        && let Some(path) = config.kubeconfig.first()
    {
        let source = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(AccessError::File { path: path.clone(), source });
    }
    texts.extend(config.inline.iter().map(|text| (PathBuf::from("kubeconfigInline"), text.clone())));
    resolve(config, &texts, environment)
}

/// Decides. `texts` are the kubeconfig files, the strongest first.
fn resolve(
    config: &KubernetesConfig,
    texts: &[(PathBuf, String)],
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Access, AccessError> {
    let mut access = if !texts.is_empty() {
        Kubeconfig::parse(texts)?.access(config.context.as_deref(), config.endpoint.as_deref())?
    } else if let Some(endpoint) = &config.endpoint {
        Access::anonymous(Server::parse("K8S_API_ENDPOINT", endpoint)?)
    } else {
        of_pod(environment)?
    };
    // Every setting stands above the files.
    if let Some(token) = &config.token {
        access.login = Login::Token(token.clone());
    }
    if let Some(identity) = &config.identity {
        access.identity = Some(identity.clone());
    }
    if let Some(ca) = &config.ca {
        (access.ca, access.insecure) = (Some(ca.clone()), false);
    }
    if config.insecure {
        (access.ca, access.insecure) = (None, true);
    }
    access.tell_plugin();
    Ok(access)
}

/// The service account of the pod that this process runs in.
fn of_pod(environment: &dyn Fn(&str) -> Option<String>) -> Result<Access, AccessError> {
    let value = |name| environment(name).filter(|v| !v.is_empty());
    let (Some(host), Some(port)) = (value("KUBERNETES_SERVICE_HOST"), value("KUBERNETES_SERVICE_PORT"))
    else {
        return Err(AccessError::Nowhere);
    };
    let Ok(port) = port.parse() else {
        return Err(AccessError::Server { place: "KUBERNETES_SERVICE_PORT".to_owned(), text: port });
    };
    let server = Server { tls: true, host, port, base: String::new() };
    let account = Path::new(ACCOUNT);
    Ok(Access {
        ca: Some(Pem::File(account.join("ca.crt"))),
        login: Login::TokenFile(account.join("token")),
        ..Access::anonymous(server)
    })
}

impl Access {
    /// A server, and nothing to show to it.
    pub(crate) fn anonymous(server: Server) -> Access {
        Access {
            server,
            server_name: None,
            ca: None,
            insecure: false,
            identity: None,
            login: Login::Anonymous,
            impersonation: Vec::new(),
        }
    }

    /// What a plugin that wants to know is told of the cluster: what files and settings say of it together.
    fn tell_plugin(&mut self) {
        let Access { server, server_name, ca, insecure, login, .. } = self;
        if let Login::Exec(Exec { cluster: Some(cluster), .. }) = login {
            let config = cluster.config.take();
            let (server_name, ca) = (server_name.clone(), ca.clone());
            *cluster =
                ExecCluster { server: server.to_string(), server_name, insecure: *insecure, ca, config };
        }
    }
}

impl Server {
    /// Takes an address apart; `place` says in errors where it stands.
    pub(crate) fn parse(place: &str, text: &str) -> Result<Server, AccessError> {
        Server::split(text)
            .ok_or_else(|| AccessError::Server { place: place.to_owned(), text: text.to_owned() })
    }

    fn split(text: &str) -> Option<Server> {
        let (tls, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (None, Some(rest)) => (false, rest),
            (None, None) => return None,
        };
        let (authority, base) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => {
                let (host, after) = inner.split_once(']')?;
                (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
            }
            None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
        };
        let port = match port {
            Some(port) => port.parse().ok()?,
            None if tls => 443,
            None => 80,
        };
        let odd = host.is_empty() || host.contains([' ', '@', '?', '#']) || base.contains([' ', '?', '#']);
        let base = base.trim_end_matches('/').to_owned();
        (!odd).then(|| Server { tls, host: host.to_owned(), port, base })
    }

    /// `host:port`, as a URL has it.
    pub(crate) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

impl std::fmt::Display for Server {
    /// As a URL, for messages.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.base)
    }
}

#[cfg(test)]
mod tests;
