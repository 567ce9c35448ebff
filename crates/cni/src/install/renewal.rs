//! The agent's part of an installation: the token in the plugins' kubeconfig (spec 5 §1.14).
//!
//! The installer of Calico's manifests is an init container, and the token that it leaves ends after a day. Plugins that
//! work without the agent would be refused from then on, for every pod of the node.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{InstallError, POLL, Paths, Settings, due, failed, kubeconfig, write_secret};
use crate::kubernetes::{Api, ApiError};
use crate::token::{self, Account, Token};

/// How long after a failure it is tried again. The old token is good for half a day yet.
const RETRY: Duration = Duration::from_secs(60);

/// Why the token is not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewalError {
    /// No new one is to be had now.
    #[error("no new token")]
    Api(#[from] ApiError),
    /// A file.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// Whether the environment leaves the plugins' credentials to the agent.
pub fn is_wanted(vars: &dyn Fn(&str) -> Option<String>) -> bool {
    vars("CALICO_MANAGE_CNI").is_none_or(|value| !value.trim().eq_ignore_ascii_case("false"))
}

/// Renews the token of the kubeconfig that an installer left: at once, then after a quarter of its life, and when the
/// pod's account has changed. Makes no kubeconfig where there is none: then the plugins ask the agent. Never ends.
pub async fn renew(settings: &Settings, paths: &Paths, api: &dyn Api) {
    let mut last = None;
    let mut due_at = Instant::now();
    loop {
        if paths.kubeconfig().exists() {
            let account = Account::read(&paths.account, &settings.service_account)
                .map_err(failed(&paths.account, "cannot read the service account"));
            let now = Instant::now();
            let is_due =
                due_at <= now || account.as_ref().is_ok_and(|account| last.as_ref() != Some(account));
            if is_due {
                let renewed = match account {
                    Ok(account) => {
                        let token = replace(settings, paths, api, &account).await;
                        last = Some(account);
                        token
                    }
                    Err(error) => Err(error.into()),
                };
                due_at = match renewed {
                    Ok(token) => due(Some(&token), settings).unwrap_or(now + RETRY),
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "the token of the CNI plugins is not renewed");
                        now + RETRY
                    }
                };
            }
        }
        sleep(POLL).await;
    }
}

async fn replace(
    settings: &Settings,
    paths: &Paths,
    api: &dyn Api,
    account: &Account,
) -> Result<Token, RenewalError> {
    let token = token::renew(api, account).await?;
    let text = kubeconfig::render(settings, account, &token.text);
    write_secret(settings, paths, kubeconfig::FILE, text.as_bytes())?;
    Ok(token)
}
