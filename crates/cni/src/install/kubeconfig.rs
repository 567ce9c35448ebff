//! The kubeconfig of the plugins, where a template wants one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::install::Settings;
use crate::token::Account;

/// Its name in the directory of configurations.
pub const FILE: &str = "calico-kubeconfig";

/// JSON, which is YAML too.
pub fn render(settings: &Settings, account: &Account, token: &str) -> String {
    let mut cluster = json!({"server": settings.api_server.as_ref().map(|s| s.url()).unwrap_or_default()});
    if settings.skip_tls_verify {
        cluster["insecure-skip-tls-verify"] = true.into();
    } else if let Some(ca) = &account.ca {
        cluster["certificate-authority-data"] = STANDARD.encode(ca).into();
    }
    let document = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": "calico", "user": {"token": token}}],
        "contexts": [{"name": "calico-context", "context": {"cluster": "local", "user": "calico"}}],
        "current-context": "calico-context",
    });
    format!("{document:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_server_authority_and_token() {
        let account = Account { ca: Some(b"PEM".to_vec()), ..Account::default() };
        for (skip, member, expected) in [
            ("false", "certificate-authority-data", json!("UEVN")),
            ("true", "insecure-skip-tls-verify", json!(true)),
        ] {
            let vars = |name: &str| match name {
                "KUBERNETES_SERVICE_HOST" => Some("fd00::1".to_owned()),
                "KUBERNETES_SERVICE_PORT" => Some("6443".to_owned()),
                "SKIP_TLS_VERIFY" => Some(skip.to_owned()),
                _ => None,
            };
            let settings = Settings::from_vars(vars, "host1").expect("valid");
            let text = render(&settings, &account, "secret");
            let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let cluster = value["clusters"][0]["cluster"].as_object().expect("a cluster");
            assert_eq!(cluster["server"], "https://[fd00::1]:6443");
            assert_eq!(cluster[member], expected);
            assert_eq!(cluster.len(), 2, "{text}");
            assert_eq!(value["users"][0]["user"]["token"], "secret");
        }
    }
}
