//! `install-cni`: puts the plugins and their configuration on the host (spec 5 §1.15).
//!
//! ```text
//! environment ──▶ Settings ─┬─▶ binaries ──▶ /host/opt/cni/bin
//! service account ──────────┼─▶ kubeconfig ─▶ /host/etc/cni/net.d/calico-kubeconfig   (only if the template names it)
//! template ─────────────────┴─▶ conflist ──▶ /host/etc/cni/net.d/10-calico.conflist  (last: it makes the node ready)
//! ```
//!
//! Every file is written aside and renamed: a runtime that reads meanwhile finds the old one or the new one.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, sleep, sleep_until};

use crate::kubernetes::Api;
use crate::token::{self, Account, Token};

pub mod binaries;
mod file;
pub mod kubeconfig;
pub mod record;
pub mod renewal;
pub mod settings;
pub mod template;

pub use file::write_atomically;
pub use settings::Settings;

/// How often an installer that stays looks at what is mounted.
const POLL: Duration = Duration::from_secs(10);

/// etcd's credentials, as they are called in a mounted Secret.
const ETCD_FILES: [&str; 3] = ["etcd-ca", "etcd-cert", "etcd-key"];

/// Their directory beside the configurations.
const TLS_DIR: &str = "calico-tls";

/// Why the host is not set up. What was there before stays.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// A variable.
    #[error(transparent)]
    Setting(#[from] settings::SettingError),
    /// A file.
    #[error("{path}: {doing}")]
    File {
        /// Which.
        path: String,
        /// What was tried.
        doing: &'static str,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// The configuration that comes of the template.
    #[error(transparent)]
    Template(#[from] template::TemplateError),
    /// There is no client of the API.
    #[error(
        "the plugins' kubeconfig needs a token, and there is no way to the Kubernetes API that gives one"
    )]
    NoApi,
    /// The API is away.
    #[error(transparent)]
    Token(#[from] token::NoToken),
    /// The template wants a kubeconfig and there is nothing to make it of.
    #[error("the network configuration names {placeholder}, but {missing}")]
    NoCredentials {
        /// The placeholder.
        placeholder: &'static str,
        /// What is not there.
        missing: String,
    },
}

pub(crate) fn failed(path: &Path, doing: &'static str) -> impl FnOnce(io::Error) -> InstallError {
    let path = path.display().to_string();
    move |source| InstallError::File { path, doing, source }
}

/// Where everything is, as the installer's container sees it.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The host's directories for plugins; those that are there and can be written are used.
    pub bin_dirs: Vec<PathBuf>,
    /// What the host calls the first of them.
    pub bin_dir_on_host: String,
    /// The host's directory for network configurations.
    pub net_dir: PathBuf,
    /// Plugins of others in the image.
    pub plugins: PathBuf,
    /// This program.
    pub program: PathBuf,
    /// The pod's service account.
    pub account: PathBuf,
}

impl Paths {
    /// Those of Calico's manifests. `program` is the file that runs.
    pub fn new(program: PathBuf) -> Paths {
        Paths {
            bin_dirs: ["/host/opt/cni/bin", "/host/secondary-bin-dir"].map(PathBuf::from).to_vec(),
            bin_dir_on_host: "/opt/cni/bin".to_owned(),
            net_dir: "/host/etc/cni/net.d".into(),
            plugins: "/opt/cni/bin".into(),
            program,
            account: "/var/run/secrets/kubernetes.io/serviceaccount".into(),
        }
    }

    /// The kubeconfig of the plugins.
    pub fn kubeconfig(&self) -> PathBuf {
        self.net_dir.join(kubeconfig::FILE)
    }
}

/// Sets the host up; with `SLEEP` stays and keeps token and certificates fresh until it is stopped.
pub async fn run(settings: &Settings, paths: &Paths, api: Option<&dyn Api>) -> Result<(), InstallError> {
    install_certificates(settings, paths)?;
    binaries::install(settings, paths)?;
    let mut token = configure(settings, paths, api).await?;
    tracing::info!(dir = %paths.net_dir.display(), file = %settings.conf_name, "the CNI plugins are installed");
    if !settings.sleep {
        return Ok(());
    }
    let mut mounted = Mounted::read(settings, paths);
    let mut due = due(token.as_ref(), settings);
    loop {
        tokio::select! {
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                // The old one is good for a while: the next round tries again.
                match configure_account(settings, paths, api).await {
                    Ok(fresh) => token = Some(fresh),
                    Err(error) => {
                        tracing::warn!(error = &error as &dyn std::error::Error, "the token is not renewed");
                    }
                }
                due = self::due(token.as_ref(), settings);
            }
            () = sleep(POLL) => {
                let now = Mounted::read(settings, paths);
                if now != mounted {
                    tracing::info!("certificates or the service account have changed");
                    install_certificates(settings, paths)?;
                    token = configure(settings, paths, api).await?;
                    due = self::due(token.as_ref(), settings);
                    mounted = now;
                }
            }
        }
    }
}

/// When the kubeconfig's token is to be renewed; never where there is none.
fn due(token: Option<&Token>, settings: &Settings) -> Option<Instant> {
    let token = token?;
    Some(Instant::now() + token::renewal(token, SystemTime::now(), settings.token_interval, jitter()))
}

/// What is mounted into the pod and may change.
#[derive(PartialEq)]
struct Mounted {
    certificates: [Option<Vec<u8>>; 3],
    account: Option<Account>,
}

impl Mounted {
    fn read(settings: &Settings, paths: &Paths) -> Mounted {
        Mounted {
            certificates: read_certificates(&settings.tls_assets),
            account: Account::read(&paths.account, &settings.service_account).ok(),
        }
    }
}

/// Writes the configuration, and the kubeconfig before it where it is named; the kubeconfig's token.
async fn configure(
    settings: &Settings,
    paths: &Paths,
    api: Option<&dyn Api>,
) -> Result<Option<Token>, InstallError> {
    let template = settings.template()?;
    let placeholder = template::CREDENTIALS.into_iter().find(|name| template.contains(name));
    let token = match placeholder {
        None => None,
        Some(placeholder) => {
            let missing = |missing: String| InstallError::NoCredentials { placeholder, missing };
            if settings.api_server.is_none() {
                return Err(missing("KUBERNETES_SERVICE_HOST is not set".to_owned()));
            }
            if !paths.account.join("token").exists() {
                return Err(missing(format!("there is no token in {}", paths.account.display())));
            }
            Some(configure_account(settings, paths, api).await?)
        }
    };
    let text = token.as_ref().map_or("", |token| token.text.as_str());
    let etcd = ETCD_FILES.map(|name| paths.net_dir.join(TLS_DIR).join(name).exists());
    let config = template::render(&template, settings, etcd, text)?;
    write_secret(settings, paths, &settings.conf_name, config.as_bytes())?;
    if let Some(old) = settings.old_conf_name.as_deref().filter(|old| *old != settings.conf_name) {
        let path = paths.net_dir.join(old);
        remove(&path).map_err(failed(&path, "cannot remove it"))?;
    }
    Ok(token)
}

/// Writes the kubeconfig with a fresh token.
async fn configure_account(
    settings: &Settings,
    paths: &Paths,
    api: Option<&dyn Api>,
) -> Result<Token, InstallError> {
    let account = Account::read(&paths.account, &settings.service_account)
        .map_err(failed(&paths.account, "cannot read the service account"))?;
    let token = token::request(api.ok_or(InstallError::NoApi)?, &account).await?;
    let text = kubeconfig::render(settings, &account, &token.text);
    write_secret(settings, paths, kubeconfig::FILE, text.as_bytes())?;
    Ok(token)
}

/// Writes a file among the configurations, for root alone.
fn write_secret(settings: &Settings, paths: &Paths, name: &str, content: &[u8]) -> Result<(), InstallError> {
    let path = paths.net_dir.join(name);
    let on_host = format!("{}/{name}", settings.net_dir.trim_end_matches('/'));
    record::note_new(paths, &path, &on_host);
    write_atomically(&path, content, 0o600).map_err(failed(&path, "cannot write it"))
}

/// Copies etcd's credentials; those of an earlier installation go first.
fn install_certificates(settings: &Settings, paths: &Paths) -> Result<(), InstallError> {
    let found = read_certificates(&settings.tls_assets);
    for (name, content) in ETCD_FILES.iter().zip(found) {
        match content {
            Some(content) => write_secret(settings, paths, &format!("{TLS_DIR}/{name}"), &content)?,
            None => {
                let path = paths.net_dir.join(TLS_DIR).join(name);
                remove(&path).map_err(failed(&path, "cannot remove it"))?;
            }
        }
    }
    Ok(())
}

fn read_certificates(dir: &Path) -> [Option<Vec<u8>>; 3] {
    ETCD_FILES.map(|name| fs::read(dir.join(name)).ok())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A number from 0 to 1, so that nodes do not all come at once.
pub fn jitter() -> f64 {
    let (high, _) = uuid::Uuid::new_v4().as_u64_pair();
    f64::from((high >> 32) as u32) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests;
