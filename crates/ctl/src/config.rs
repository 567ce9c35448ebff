//! Which datastore: calicoctl's file if there is one, else the environment (spec 7 §5.2).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use calico_api::document::parse_values;
use calico_api::meta::API_VERSION;
use calico_store::Store;
use calico_store::config::{DatastoreConfig, Field, Settings};
use serde_json::Value;

use crate::Context;
use crate::args::Global;

/// Where the file is unless something else is said.
const DEFAULT_FILE: &str = "/etc/calico/calicoctl.cfg";

/// Fields of the file that this build understands but does not need.
const OTHER_FIELDS: [&str; 11] = [
    "kubeconfigInline",
    "k8sKeyFile",
    "k8sCertFile",
    "k8sCAFile",
    "k8sAPIToken",
    "k8sInsecureSkipTLSVerify",
    "k8sDisableNodePoll",
    "usePodCIDR",
    "k8sClientQPS",
    "k8sClientBurst",
    "k8sCurrentContext",
];

/// The datastore that file and environment name. Where the file exists, the environment is not read.
pub(crate) fn load(global: &Global, context: &Context) -> anyhow::Result<DatastoreConfig> {
    let path = global.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let settings = match std::fs::read_to_string(&path) {
        Ok(text) => {
            parse_file(&text).with_context(|| format!("Error reading config file: {}", path.display()))?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_default(&path) => {
            Settings::from_environment(&*context.environment)
        }
        Err(error) => {
            return Err(error).with_context(|| format!("Error reading config file: {}", path.display()));
        }
    };
    Ok(settings.resolve()?)
}

fn is_default(path: &Path) -> bool {
    path == Path::new(DEFAULT_FILE)
}

/// Opens the datastore.
pub(crate) async fn connect(global: &Global, context: &Context) -> anyhow::Result<Arc<dyn Store>> {
    let config = load(global, context)?;
    Ok(calico_store_etcd::connect(&config).await?)
}

/// The settings of a `CalicoAPIConfig`; unknown fields are errors.
fn parse_file(text: &str) -> anyhow::Result<Settings> {
    let values = parse_values(text)?;
    let [value] = values.as_slice() else { bail!("the file must have one document") };
    let Value::Object(map) = value else { bail!("the file must be a CalicoAPIConfig") };
    for (field, wanted) in [("apiVersion", API_VERSION), ("kind", "CalicoAPIConfig")] {
        let found = map.get(field).and_then(Value::as_str).unwrap_or_default();
        if found != wanted {
            bail!("{field}: {found:?}: must be {wanted}");
        }
    }
    if let Some(name) = map.keys().find(|k| !["apiVersion", "kind", "metadata", "spec"].contains(&k.as_str()))
    {
        bail!("{name}: this field is not known here");
    }
    let empty = serde_json::Map::new();
    let spec = map.get("spec").and_then(Value::as_object).unwrap_or(&empty);
    for name in spec.keys() {
        let known =
            Field::ALL.iter().any(|f| f.api_config() == name) || OTHER_FIELDS.contains(&name.as_str());
        if !known || name.is_empty() {
            bail!("spec.{name}: this field is not known here");
        }
    }
    Ok(Settings::from_api_config(&|name| match spec.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Null) | None => None,
        Some(other) => Some(other.to_string()),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_strictly() {
        let file = |spec: &str| {
            parse_file(&format!("apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {spec}\n"))
        };
        let settings = file("{datastoreType: etcdv3, etcdEndpoints: 'http://a:1,http://b:2'}").unwrap();
        let Ok(DatastoreConfig::Etcd(etcd)) = settings.resolve() else { panic!("etcd") };
        assert_eq!(etcd.endpoints, ["http://a:1", "http://b:2"]);
        let settings = file("{datastoreType: embedded, datastorePath: /x}").unwrap();
        assert_eq!(settings.resolve(), Ok(DatastoreConfig::Embedded { path: "/x".into() }));
        assert!(file("{etcdEndpoint: a}").unwrap_err().to_string().contains("spec.etcdEndpoint"));
        assert!(parse_file("kind: Node").unwrap_err().to_string().contains("apiVersion"));
        assert!(parse_file("").is_err());
    }
}
