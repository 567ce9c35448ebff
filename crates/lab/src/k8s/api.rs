//! The cluster's API, asked with curl: while something is awaited, kubectl would take the processor that it needs.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::cluster::{CONTROL_PLANE, Cluster};
use super::network::API_PORT;
use super::pki;
use crate::fabric::ADDRESS_V4;
use crate::process::output;
use crate::wait::until;

/// How often something is asked for.
const POLL: Duration = Duration::from_millis(200);

impl Cluster {
    /// What the API server says to a GET, as the administrator.
    pub fn get(&self, path: &str) -> Result<String> {
        let pki = pki::directory(self);
        let mut curl = self.on_network(CONTROL_PLANE, "curl")?;
        curl.args(["-sS", "--fail-with-body", "--max-time", "10"]);
        for (option, file) in [("--cacert", "ca.crt"), ("--cert", "admin.crt"), ("--key", "admin.key")] {
            curl.arg(option).arg(pki.join(file));
        }
        output(curl.arg(format!("https://{ADDRESS_V4}:{API_PORT}{path}")))
    }

    /// The same as a document.
    pub fn get_json(&self, path: &str) -> Result<Value> {
        serde_json::from_str(&self.get(path)?).with_context(|| format!("GET {path}"))
    }

    /// The items of a list.
    pub fn list(&self, path: &str) -> Result<Vec<Value>> {
        Ok(self.get_json(path)?["items"].as_array().cloned().unwrap_or_default())
    }
}

/// Asks until `condition` is true; after `deadline` an error that says what was awaited and what was seen last.
pub fn wait_for(
    what: &str,
    deadline: Duration,
    mut condition: impl FnMut() -> Result<Option<String>>,
) -> Result<()> {
    let mut last = String::new();
    let held = until(deadline, POLL, || match condition() {
        Ok(None) => true,
        Ok(Some(seen)) => {
            last = seen;
            false
        }
        Err(error) => {
            last = format!("{error:#}");
            false
        }
    });
    if held {
        return Ok(());
    }
    anyhow::bail!("waited {} s for {what}: {last}", deadline.as_secs())
}

/// Whether a condition of an object's status is true.
pub fn has_condition(object: &Value, name: &str) -> bool {
    let conditions = object["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|c| c["type"] == name && c["status"] == "True")
}
