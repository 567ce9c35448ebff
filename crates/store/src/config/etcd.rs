//! The etcd part of the settings: endpoints, login, TLS.

use super::{ConfigError, EtcdConfig, Field, Pem, Setting, Settings};

impl Setting {
    pub(super) fn invalid(&self, problem: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { name: self.name.clone(), problem: problem.into() }
    }
}

impl Settings {
    pub(super) fn resolve_etcd(&self) -> Result<EtcdConfig, ConfigError> {
        if let Some(discovery) = self.get(Field::Discovery) {
            return Err(discovery.invalid("discovery of etcd by DNS is not supported; list the endpoints"));
        }
        let endpoints = self.endpoints()?;
        let login = match (self.get(Field::Username), self.get(Field::Password)) {
            (Some(user), Some(password)) => Some((user.value.clone(), password.value.clone())),
            // As in Calico: used only when both are set.
            _ => None,
        };
        let (key, cert) = (self.pem(Field::Key, Field::KeyFile)?, self.pem(Field::Cert, Field::CertFile)?);
        let ca = self.pem(Field::Ca, Field::CaFile)?.map(|(_, pem)| pem);
        let identity = match (key, cert) {
            (Some((_, key)), Some((_, cert))) => Some((cert, key)),
            (None, None) => None,
            (Some((name, _)), None) => return Err(lonely(name, "certificate")),
            (None, Some((name, _))) => return Err(lonely(name, "private key")),
        };
        if ca.is_some() || identity.is_some() {
            self.refuse_plain(&endpoints)?;
        }
        Ok(EtcdConfig { endpoints, login, ca, identity })
    }

    fn endpoints(&self) -> Result<Vec<String>, ConfigError> {
        let Some(setting) = self.get(Field::Endpoints) else { return self.authority() };
        let endpoints: Vec<String> = setting
            .value
            .split(',')
            .map(|e| e.trim().trim_end_matches('/'))
            .filter(|e| !e.is_empty())
            .map(str::to_owned)
            .collect();
        if endpoints.is_empty() {
            return Err(setting.invalid("no endpoint in the list"));
        }
        for endpoint in &endpoints {
            let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
            if !host.is_some_and(|h| !h.is_empty() && !h.contains(['/', ' ', '@'])) {
                let problem =
                    format!("{endpoint:?} is not of the form http://host:port or https://host:port");
                return Err(setting.invalid(problem));
            }
        }
        Ok(endpoints)
    }

    /// The old way: one `host:port` and a scheme.
    fn authority(&self) -> Result<Vec<String>, ConfigError> {
        let Some(authority) = self.get(Field::Authority) else {
            let name = self.get(Field::Type).map_or("DATASTORE_TYPE", |s| &s.name).to_owned();
            let missing = match name.as_str() {
                "datastoreType" => Field::Endpoints.api_config(),
                "datastore_type" => Field::Endpoints.netconf(),
                _ => Field::Endpoints.env(),
            };
            let reason = "etcd has no address";
            return Err(ConfigError::Incomplete { name, missing: missing.to_owned(), reason });
        };
        let scheme = self.get(Field::Scheme);
        let scheme_text = scheme.map_or("http", |s| s.value.trim());
        if let Some(setting) = scheme.filter(|_| !["http", "https"].contains(&scheme_text)) {
            return Err(setting.invalid(format!("{scheme_text:?} is not http or https")));
        }
        let host = authority.value.trim();
        if host.contains(['/', ' ', '@', ',']) {
            return Err(authority.invalid(format!("{host:?} is not of the form host:port")));
        }
        Ok(vec![format!("{scheme_text}://{host}")])
    }

    /// A PEM text and the name of its setting, given inline or as a file but not both.
    fn pem(&self, inline: Field, file: Field) -> Result<Option<(String, Pem)>, ConfigError> {
        match (self.get(inline), self.get(file)) {
            (Some(i), Some(f)) => Err(ConfigError::Ambiguous {
                first: i.name.clone(),
                second: f.name.clone(),
                reason: "give the text or the file, not both",
            }),
            (Some(i), None) => Ok(Some((i.name.clone(), Pem::Inline(i.value.clone())))),
            (None, Some(f)) => Ok(Some((f.name.clone(), Pem::File(f.value.trim().into())))),
            (None, None) => Ok(None),
        }
    }

    /// Certificates for a plain connection would be silently unused.
    fn refuse_plain(&self, endpoints: &[String]) -> Result<(), ConfigError> {
        let Some(plain) = endpoints.iter().find(|e| e.starts_with("http://")) else { return Ok(()) };
        let setting = self.get(Field::Endpoints).or(self.get(Field::Scheme)).or(self.get(Field::Authority));
        let problem = format!("{plain:?} is not encrypted, but certificates are given; use https://");
        Err(ConfigError::Invalid { name: setting.map_or_else(String::new, |s| s.name.clone()), problem })
    }
}

fn lonely(name: String, missing: &str) -> ConfigError {
    let reason = "a client certificate and its private key go together";
    ConfigError::Incomplete { name, missing: format!("the {missing}"), reason }
}
