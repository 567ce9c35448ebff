//! The Kubernetes part of the settings: kubeconfig, endpoint, credentials, rate, API group (spec 1 §2.1).

use std::str::FromStr;

use calico_api::kubernetes::group::ApiGroupError;

use super::{ApiGroup, ConfigError, Field, KubernetesConfig, Pem, Rate, Setting, Settings};

/// The burst of a limited client when none is named (spec 1 §2.1).
const BURST: u32 = 100;

/// The rate of a limited client when only a burst is named (spec 1 §3.1).
const QPS: f32 = 5.0;

impl Settings {
    /// How to reach the Kubernetes API, whatever the datastore is: pods are looked up there in any case.
    pub fn kubernetes(&self) -> Result<KubernetesConfig, ConfigError> {
        self.resolve_kubernetes()
    }

    pub(super) fn resolve_kubernetes(&self) -> Result<KubernetesConfig, ConfigError> {
        let text = |field| self.get(field).map(|s: &Setting| s.value.trim().to_owned());
        if let (Some(file), Some(inline)) = (self.get(Field::Kubeconfig), self.get(Field::KubeInline)) {
            return Err(ConfigError::Ambiguous {
                first: file.name.clone(),
                second: inline.name.clone(),
                reason: "give the kubeconfig's text or its file, not both",
            });
        }
        let insecure = self.flag(Field::K8sInsecure)?;
        let ca = text(Field::K8sCaFile).map(|path| Pem::File(path.into()));
        if let (true, Some(ca), Some(flag)) =
            (insecure, self.get(Field::K8sCaFile), self.get(Field::K8sInsecure))
        {
            return Err(ConfigError::Ambiguous {
                first: ca.name.clone(),
                second: flag.name.clone(),
                reason: "a server that is not verified needs no certificate authority",
            });
        }
        Ok(KubernetesConfig {
            kubeconfig: self.kubeconfig_files()?,
            inline: self.get(Field::KubeInline).map(|s| s.value.clone()),
            context: text(Field::K8sContext),
            endpoint: self.get(Field::K8sApi).map(endpoint).transpose()?,
            token: text(Field::K8sToken),
            ca,
            identity: self.kubernetes_identity()?,
            insecure,
            rate: self.rate()?,
            group: self.get(Field::ApiGroup).map(group).transpose()?,
            use_pod_cidr: self.flag(Field::UsePodCidr)?,
        })
    }

    fn kubeconfig_files(&self) -> Result<Vec<std::path::PathBuf>, ConfigError> {
        let Some(setting) = self.get(Field::Kubeconfig) else { return Ok(Vec::new()) };
        let files: Vec<_> = setting.value.split(':').map(str::trim).filter(|p| !p.is_empty()).collect();
        if files.is_empty() {
            return Err(setting.invalid("no file in the list"));
        }
        Ok(files.into_iter().map(Into::into).collect())
    }

    fn kubernetes_identity(&self) -> Result<Option<(Pem, Pem)>, ConfigError> {
        let pem = |setting: &Setting| Pem::File(setting.value.trim().into());
        let lonely = |there: &Setting, missing: Field| ConfigError::Incomplete {
            name: there.name.clone(),
            missing: spelling_like(&there.name, missing).to_owned(),
            reason: "a client certificate and its private key go together",
        };
        match (self.get(Field::K8sCertFile), self.get(Field::K8sKeyFile)) {
            (Some(cert), Some(key)) => Ok(Some((pem(cert), pem(key)))),
            (None, None) => Ok(None),
            (Some(cert), None) => Err(lonely(cert, Field::K8sKeyFile)),
            (None, Some(key)) => Err(lonely(key, Field::K8sCertFile)),
        }
    }

    /// A limit only where one is named: the agent serves all pods of its node through one client, which Calico's
    /// default of five requests a second would hold up for minutes, and servers protect themselves by priority and
    /// fairness.
    fn rate(&self) -> Result<Option<Rate>, ConfigError> {
        let (qps, burst) = (self.get(Field::K8sQps), self.get(Field::K8sBurst));
        let per_second = qps.map(|s| positive(s, "a positive number, as in 20 or 0.5")).transpose()?;
        let count = burst.map(|s| positive(s, "a positive whole number")).transpose()?;
        // As in Calico's network configuration: 0 leaves the default.
        Ok(match (per_second.flatten(), count.flatten()) {
            (None, None) => None,
            (qps, burst) => Some(Rate { per_second: qps.unwrap_or(QPS), burst: burst.unwrap_or(BURST) }),
        })
    }

    /// A yes or no, as Go's programs spell it.
    fn flag(&self, field: Field) -> Result<bool, ConfigError> {
        let Some(setting) = self.get(field) else { return Ok(false) };
        match setting.value.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" => Ok(true),
            "false" | "f" | "0" | "no" => Ok(false),
            other => Err(setting.invalid(format!("{other:?} is not true or false"))),
        }
    }
}

/// A number above zero; zero counts as unset.
fn positive<T: FromStr + PartialOrd + Default>(
    setting: &Setting,
    wanted: &str,
) -> Result<Option<T>, ConfigError> {
    let text = setting.value.trim();
    match text.parse::<T>() {
        Ok(number) if number == T::default() => Ok(None),
        Ok(number) if number > T::default() => Ok(Some(number)),
        _ => Err(setting.invalid(format!("{text:?} is not {wanted}"))),
    }
}

/// The server's address without what a network configuration may carry behind it (spec 5 §1.4).
fn endpoint(setting: &Setting) -> Result<String, ConfigError> {
    let text = setting.value.trim();
    let text = text.split("/api/").next().unwrap_or(text).trim_end_matches('/');
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    if host.is_none_or(|h| h.is_empty() || h.starts_with('/') || h.contains([' ', '@', '?', '#'])) {
        return Err(setting.invalid(format!("{text:?} is not of the form https://host:port")));
    }
    Ok(text.to_owned())
}

fn group(setting: &Setting) -> Result<ApiGroup, ConfigError> {
    setting.value.trim().parse().map_err(|error: ApiGroupError| setting.invalid(error.to_string()))
}

/// How the source that says `name` would spell another field.
fn spelling_like(name: &str, field: Field) -> &'static str {
    match name {
        _ if name.contains('.') => field.netconf(),
        _ if name.contains('_') => field.env(),
        _ => field.api_config(),
    }
}
