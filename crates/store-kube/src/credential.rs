//! The bearer token of a request: fixed, from a file that somebody renews, or from a credential plugin.

use std::process::Stdio;
use std::time::{Duration, Instant, SystemTime};

use base64::Engine as _;
use calico_store::config::Pem;
use serde::Deserialize;
use tokio::process::Command;
use tokio::sync::Mutex;

use crate::access::{Exec, ExecCluster, Login};

/// How long a token from a file is used before the file is read again. Service account tokens are renewed when a
/// fifth of their life (of an hour, usually) is left.
const TOKEN_FILE_AGE: Duration = Duration::from_secs(60);

/// How long a plugin may take. It may ask a cloud's API.
const PLUGIN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long before its end a plugin's credential is asked for anew.
const EXPIRY_LEEWAY: Duration = Duration::from_secs(10);

/// Why there is no credential.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The token's file cannot be read.
    #[error("cannot read the token {path}")]
    File {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The token's file has nothing in it.
    #[error("the token {0} is empty")]
    Empty(String),
    /// The authority that a plugin is to be told cannot be read.
    #[error("cannot read the certificate authority {path}, which the credential plugin is to be told")]
    Authority {
        /// Which.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The plugin cannot be run.
    #[error("cannot run the credential plugin {command}{hint}")]
    Spawn {
        /// Which.
        command: String,
        /// `: ` and the kubeconfig's hint, if it has one.
        hint: String,
        /// Why.
        source: std::io::Error,
    },
    /// The plugin ran and gave nothing usable.
    #[error("the credential plugin {command} {problem}")]
    Plugin {
        /// Which.
        command: String,
        /// What it did.
        problem: String,
    },
}

/// What a login comes to at one moment.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Credential {
    /// For the `authorization` header.
    pub(crate) token: Option<String>,
    /// A certificate and key that the plugin gave.
    pub(crate) identity: Option<(Pem, Pem)>,
}

/// A login, and what it came to last.
pub(crate) struct Credentials {
    login: Login,
    held: Mutex<Option<Held>>,
}

struct Held {
    credential: Credential,
    until: Option<Instant>,
}

impl Credentials {
    pub(crate) fn new(login: Login) -> Credentials {
        Credentials { login, held: Mutex::new(None) }
    }

    /// Where the credential comes from, for messages.
    pub(crate) fn origin(&self) -> String {
        format!("{:?}", self.login)
    }

    /// Whether asking again may give another credential.
    pub(crate) fn can_change(&self) -> bool {
        matches!(self.login, Login::TokenFile(_) | Login::Exec(_))
    }

    /// The credential of this moment.
    pub(crate) async fn current(&self) -> Result<Credential, CredentialError> {
        let mut held = self.held.lock().await;
        if let Some(Held { credential, until }) = &*held
            && until.is_none_or(|until| Instant::now() < until)
        {
            return Ok(credential.clone());
        }
        let (credential, until) = self.obtain().await?;
        *held = Some(Held { credential: credential.clone(), until });
        Ok(credential)
    }

    /// The server did not accept it: the next one is asked for.
    pub(crate) async fn discard(&self, refused: &Credential) {
        let mut held = self.held.lock().await;
        // Another request may have got a new one in the meantime.
        if held.as_ref().is_some_and(|h| h.credential == *refused) {
            *held = None;
        }
    }

    async fn obtain(&self) -> Result<(Credential, Option<Instant>), CredentialError> {
        let token = |token: &str| Credential { token: Some(token.to_owned()), identity: None };
        match &self.login {
            Login::Anonymous => Ok((Credential::default(), None)),
            Login::Token(text) => Ok((token(text), None)),
            Login::TokenFile(path) => {
                let name = path.display().to_string();
                let text = std::fs::read_to_string(path)
                    .map_err(|source| CredentialError::File { path: name.clone(), source })?;
                match text.trim() {
                    "" => Err(CredentialError::Empty(name)),
                    text => Ok((token(text), Some(Instant::now() + TOKEN_FILE_AGE))),
                }
            }
            Login::Exec(exec) => run(exec).await,
        }
    }
}

/// What a plugin prints.
#[derive(Deserialize)]
struct ExecCredential {
    status: Option<ExecStatus>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ExecStatus {
    token: Option<String>,
    client_certificate_data: Option<String>,
    client_key_data: Option<String>,
    expiration_timestamp: Option<String>,
}

async fn run(exec: &Exec) -> Result<(Credential, Option<Instant>), CredentialError> {
    let command = exec.command.display().to_string();
    let failed = |problem: String| CredentialError::Plugin { command: command.clone(), problem };
    let mut info = serde_json::json!({
        "kind": "ExecCredential", "apiVersion": exec.api_version, "spec": { "interactive": false },
    });
    if let Some(cluster) = &exec.cluster {
        info["spec"]["cluster"] = describe(cluster)?;
    }
    let child = Command::new(&exec.command)
        .args(&exec.args)
        .envs(exec.env.iter().map(|(name, value)| (name, value)))
        .env("KUBERNETES_EXEC_INFO", info.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|source| {
            let hint =
                if exec.install_hint.is_empty() { String::new() } else { format!(": {}", exec.install_hint) };
            CredentialError::Spawn { command: command.clone(), hint, source }
        })?;
    let output = match tokio::time::timeout(PLUGIN_TIMEOUT, child.wait_with_output()).await {
        Ok(output) => output.map_err(|e| failed(format!("cannot be read: {e}")))?,
        Err(_) => return Err(failed(format!("gave nothing within {} s", PLUGIN_TIMEOUT.as_secs()))),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("failed ({}): {}", output.status, said.trim())));
    }
    let said: ExecCredential = serde_json::from_slice(&output.stdout)
        .map_err(|e| failed(format!("printed no ExecCredential: {e}")))?;
    let status = said.status.ok_or_else(|| failed("printed an ExecCredential without status".to_owned()))?;
    let ExecStatus { token, client_certificate_data, client_key_data, expiration_timestamp } = status;
    let identity = match (client_certificate_data, client_key_data) {
        (Some(cert), Some(key)) => Some((Pem::Inline(cert), Pem::Inline(key))),
        _ => None,
    };
    if token.is_none() && identity.is_none() {
        return Err(failed("gave neither a token nor a certificate with its key".to_owned()));
    }
    let until = match expiration_timestamp {
        None => None,
        Some(text) => {
            let end = parse_time(&text)
                .ok_or_else(|| failed(format!("gave {text:?} as the credential's end; RFC 3339 is right")))?;
            let left = end.duration_since(SystemTime::now()).unwrap_or_default();
            Some(Instant::now() + left.saturating_sub(EXPIRY_LEEWAY))
        }
    };
    Ok((Credential { token, identity }, until))
}

/// A cluster in the words of the plugins' protocol.
fn describe(cluster: &ExecCluster) -> Result<serde_json::Value, CredentialError> {
    let ExecCluster { server, server_name, insecure, ca, config } = cluster;
    let mut described = serde_json::json!({ "server": server });
    if let Some(name) = server_name {
        described["tls-server-name"] = name.as_str().into();
    }
    if *insecure {
        described["insecure-skip-tls-verify"] = true.into();
    }
    if let Some(ca) = ca {
        let text = match ca {
            Pem::Inline(text) => text.clone().into_bytes(),
            Pem::File(path) => std::fs::read(path)
                .map_err(|source| CredentialError::Authority { path: path.display().to_string(), source })?,
        };
        let base64 = base64::engine::general_purpose::STANDARD.encode(text);
        described["certificate-authority-data"] = base64.into();
    }
    if let Some(config) = config {
        described["config"] = config.clone();
    }
    Ok(described)
}

fn parse_time(text: &str) -> Option<SystemTime> {
    let format = &time::format_description::well_known::Rfc3339;
    time::OffsetDateTime::parse(text, format).ok().map(SystemTime::from)
}

#[cfg(test)]
mod tests;
