//! Kubeconfig files: several merge into one, a context chooses a cluster and a user.
//!
//! Pure. Relative paths are relative to the file that has them. What an API server of today does not accept any more
//! (passwords, the old cloud logins) is refused in words rather than ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use calico_api::document::parse_values;
use calico_store::config::Pem;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::access::{Access, AccessError, Exec, ExecCluster, Login, Server};

/// The extension of a cluster that holds what is to be told to plugins.
const EXEC_EXTENSION: &str = "client.authentication.k8s.io/exec";

/// Why a kubeconfig is not usable. `place` is a file, and a place in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct KubeconfigError {
    /// Where.
    pub place: String,
    /// What is wrong, and what would be right.
    pub problem: String,
}

fn wrong(place: impl Into<String>, problem: impl Into<String>) -> KubeconfigError {
    KubeconfigError { place: place.into(), problem: problem.into() }
}

/// The merged files: of equal names the first counts.
#[derive(Debug)]
pub(crate) struct Kubeconfig {
    current_context: Option<String>,
    contexts: Vec<Found<Context>>,
    clusters: Vec<Found<Cluster>>,
    users: Vec<Found<User>>,
    /// For messages.
    files: String,
}

/// A member of one of the lists, and the file that it is from.
#[derive(Debug)]
struct Found<T> {
    name: String,
    file: PathBuf,
    value: T,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: Option<String>,
    #[serde(default)]
    contexts: Option<Vec<NamedContext>>,
    #[serde(default)]
    clusters: Option<Vec<NamedCluster>>,
    #[serde(default)]
    users: Option<Vec<NamedUser>>,
}

#[derive(Debug, Deserialize)]
struct NamedContext {
    name: String,
    context: Context,
}

#[derive(Debug, Deserialize)]
struct NamedCluster {
    name: String,
    cluster: Cluster,
}

#[derive(Debug, Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Debug, Deserialize)]
struct Context {
    cluster: String,
    #[serde(default)]
    user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    #[serde(default)]
    server: String,
    tls_server_name: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    certificate_authority: Option<String>,
    certificate_authority_data: Option<String>,
    proxy_url: Option<String>,
    extensions: Option<Vec<Extension>>,
}

#[derive(Debug, Deserialize)]
struct Extension {
    name: String,
    #[serde(default)]
    extension: serde_json::Value,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<String>,
    client_certificate_data: Option<String>,
    client_key: Option<String>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<String>,
    #[serde(rename = "as")]
    impersonate: Option<String>,
    as_uid: Option<String>,
    as_groups: Option<Vec<String>>,
    as_user_extra: Option<BTreeMap<String, Vec<String>>>,
    username: Option<String>,
    auth_provider: Option<serde_json::Value>,
    exec: Option<ExecSection>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecSection {
    command: String,
    args: Option<Vec<String>>,
    env: Option<Vec<Variable>>,
    #[serde(default)]
    api_version: String,
    install_hint: Option<String>,
    #[serde(default)]
    provide_cluster_info: bool,
    interactive_mode: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Variable {
    name: String,
    value: String,
}

impl Kubeconfig {
    /// Parses and merges files, the strongest first.
    pub(crate) fn parse(texts: &[(PathBuf, String)]) -> Result<Kubeconfig, KubeconfigError> {
        let files: Vec<String> = texts.iter().map(|(path, _)| path.display().to_string()).collect();
        let mut merged = Kubeconfig {
            current_context: None,
            contexts: Vec::new(),
            clusters: Vec::new(),
            users: Vec::new(),
            files: files.join(", "),
        };
        for (path, text) in texts {
            let values = parse_values(text).map_err(|e| {
                // The parser's further lines show the text, and keys and tokens with it.
                let problem = e.to_string().lines().next().unwrap_or_default().to_owned();
                wrong(path.display().to_string(), problem)
            })?;
            for value in values {
                merged.add(path, decode(path, value)?);
            }
        }
        Ok(merged)
    }

    fn add(&mut self, file: &Path, content: File) {
        let File { current_context, contexts, clusters, users } = content;
        if self.current_context.is_none() {
            self.current_context = current_context.filter(|c| !c.is_empty());
        }
        let contexts = contexts.into_iter().flatten();
        merge(&mut self.contexts, file, contexts.map(|c| (c.name, c.context)));
        merge(&mut self.clusters, file, clusters.into_iter().flatten().map(|c| (c.name, c.cluster)));
        let users = users.into_iter().flatten();
        merge(&mut self.users, file, users.map(|u| (u.name, u.user.unwrap_or_default())));
    }

    /// What a context (the current one with `None`) says; `endpoint` stands above the cluster's server.
    pub(crate) fn access(
        &self,
        context: Option<&str>,
        endpoint: Option<&str>,
    ) -> Result<Access, AccessError> {
        let Some(name) = context.or(self.current_context.as_deref()) else {
            let names = names(&self.contexts);
            let problem = format!("current-context is not set; K8S_CURRENT_CONTEXT can name one of {names}");
            return Err(wrong(&self.files, problem).into());
        };
        let context = find(&self.contexts, "context", name, &self.files)?;
        let cluster = find(&self.clusters, "cluster", &context.value.cluster, &self.files)?;
        let place = format!("{}: cluster {:?}", cluster.file.display(), cluster.name);
        let server = match endpoint {
            Some(endpoint) => Server::parse("K8S_API_ENDPOINT", endpoint)?,
            None => Server::parse(&format!("{place}: server"), &cluster.value.server)?,
        };
        let Cluster { tls_server_name, insecure_skip_tls_verify, proxy_url, .. } = &cluster.value;
        if proxy_url.as_ref().is_some_and(|p| !p.is_empty()) {
            let problem = "proxies are not supported; name a server that can be reached directly";
            return Err(wrong(format!("{place}: proxy-url"), problem).into());
        }
        let Cluster { certificate_authority, certificate_authority_data, .. } = &cluster.value;
        let ca = pem(
            &cluster.file,
            &format!("{place}: certificate-authority-data"),
            certificate_authority.as_deref(),
            certificate_authority_data.as_deref(),
        )?;
        let mut access = Access {
            server_name: tls_server_name.clone().filter(|n| !n.is_empty()),
            ca: ca.filter(|_| !insecure_skip_tls_verify),
            insecure: *insecure_skip_tls_verify,
            ..Access::anonymous(server)
        };
        if let Some(user) = context.value.user.as_deref().filter(|u| !u.is_empty()) {
            let user = find(&self.users, "user", user, &self.files)?;
            identify(&mut access, user, &cluster.value)?;
        }
        Ok(access)
    }
}

fn decode<T: DeserializeOwned>(path: &Path, value: serde_json::Value) -> Result<T, KubeconfigError> {
    serde_json::from_value(value)
        .map_err(|e| wrong(path.display().to_string(), format!("no kubeconfig: {e}")))
}

fn merge<T>(into: &mut Vec<Found<T>>, file: &Path, members: impl Iterator<Item = (String, T)>) {
    for (name, value) in members {
        if !into.iter().any(|found| found.name == name) {
            into.push(Found { name, file: file.to_owned(), value });
        }
    }
}

fn find<'a, T>(
    list: &'a [Found<T>],
    what: &str,
    name: &str,
    files: &str,
) -> Result<&'a Found<T>, KubeconfigError> {
    list.iter()
        .find(|found| found.name == name)
        .ok_or_else(|| wrong(files, format!("no {what} is named {name:?}; there is {}", names(list))))
}

/// The names in a list, for messages.
fn names<T>(list: &[Found<T>]) -> String {
    if list.is_empty() {
        return "none".to_owned();
    }
    list.iter().map(|found| format!("{:?}", found.name)).collect::<Vec<_>>().join(", ")
}

/// Adds what a user section says.
fn identify(access: &mut Access, user: &Found<User>, cluster: &Cluster) -> Result<(), KubeconfigError> {
    let Found { name, file, value } = user;
    let place = format!("{}: user {name:?}", file.display());
    let User { username, auth_provider, exec, token, token_file, impersonate, as_uid, as_groups, .. } = value;
    if value.as_user_extra.as_ref().is_some_and(|extra| !extra.is_empty()) {
        let problem = "extra fields of another user are not supported; leave them out, and act as it by as, as-uid and as-groups";
        return Err(wrong(format!("{place}: as-user-extra"), problem));
    }
    if username.as_ref().is_some_and(|u| !u.is_empty()) {
        let problem = "API servers accept no passwords since Kubernetes 1.19; use a token or a certificate";
        return Err(wrong(format!("{place}: username"), problem));
    }
    if auth_provider.is_some() {
        let problem = "auth providers were replaced by credential plugins in Kubernetes 1.26; use exec";
        return Err(wrong(format!("{place}: auth-provider"), problem));
    }
    let User { client_certificate, client_certificate_data, client_key, client_key_data, .. } = value;
    let cert_place = format!("{place}: client-certificate-data");
    let cert = pem(file, &cert_place, client_certificate.as_deref(), client_certificate_data.as_deref())?;
    let key_place = format!("{place}: client-key-data");
    let key = pem(file, &key_place, client_key.as_deref(), client_key_data.as_deref())?;
    access.identity = match (cert, key) {
        (Some(cert), Some(key)) => Some((cert, key)),
        (None, None) => None,
        (Some(_), None) => return Err(wrong(place, "client-certificate is set but client-key is not")),
        (None, Some(_)) => return Err(wrong(place, "client-key is set but client-certificate is not")),
    };
    let filled = |text: &Option<String>| text.clone().filter(|t| !t.is_empty());
    access.login = if let Some(path) = filled(token_file) {
        Login::TokenFile(beside(file, &path))
    } else if let Some(token) = filled(token) {
        Login::Token(token)
    } else if let Some(exec) = exec {
        Login::Exec(plugin(file, &place, exec, cluster)?)
    } else {
        Login::Anonymous
    };
    access.impersonation = filled(impersonate)
        .map(|user| ("impersonate-user", user))
        .into_iter()
        .chain(filled(as_uid).map(|uid| ("impersonate-uid", uid)))
        .chain(as_groups.iter().flatten().map(|group| ("impersonate-group", group.clone())))
        .collect();
    Ok(())
}

fn plugin(
    file: &Path,
    place: &str,
    section: &ExecSection,
    cluster: &Cluster,
) -> Result<Exec, KubeconfigError> {
    let ExecSection { command, args, env, api_version, install_hint, .. } = section;
    let ExecSection { provide_cluster_info, interactive_mode, .. } = section;
    check_interactive_mode(place, interactive_mode.as_deref())?;
    let config = cluster.extensions.iter().flatten().find(|extension| extension.name == EXEC_EXTENSION);
    let config = config.map(|extension| extension.extension.clone());
    Ok(Exec {
        // A bare name is looked up in PATH; anything else is a path.
        command: if command.contains('/') { beside(file, command) } else { command.into() },
        args: args.clone().unwrap_or_default(),
        env: env.iter().flatten().map(|v| (v.name.clone(), v.value.clone())).collect(),
        api_version: api_version.clone(),
        install_hint: install_hint.clone().unwrap_or_default(),
        cluster: provide_cluster_info.then(|| ExecCluster { config, ..ExecCluster::default() }),
    })
}

/// Plugins get no terminal: nobody sits in front of an agent.
fn check_interactive_mode(place: &str, mode: Option<&str>) -> Result<(), KubeconfigError> {
    let problem = match mode {
        None | Some("" | "Never" | "IfAvailable") => return Ok(()),
        Some("Always") => {
            "Always needs a terminal, which credential plugins do not get here; use Never or IfAvailable, and a \
             plugin that asks nobody"
                .to_owned()
        }
        Some(other) => format!("{other:?} is no mode; use Never or IfAvailable"),
    };
    Err(wrong(format!("{place}: exec.interactiveMode"), problem))
}

/// A PEM text in base64, or else in a file.
fn pem(
    file: &Path,
    place: &str,
    path: Option<&str>,
    data: Option<&str>,
) -> Result<Option<Pem>, KubeconfigError> {
    if let Some(data) = data.filter(|d| !d.is_empty()) {
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(data.split_ascii_whitespace().collect::<String>())
            .map_err(|e| wrong(place, format!("not base64: {e}")))?;
        let text = String::from_utf8(bytes).map_err(|_| wrong(place, "not a PEM text in base64"))?;
        return Ok(Some(Pem::Inline(text)));
    }
    Ok(path.filter(|p| !p.is_empty()).map(|path| Pem::File(beside(file, path))))
}

/// A path as seen from a file's directory.
fn beside(file: &Path, path: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}
