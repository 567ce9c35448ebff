//! Which datastore: calicoctl's file if there is one, else the environment (spec 7 §5.2).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use calico_api::document::{lines, parse_values};
use calico_api::meta::API_VERSION;
use calico_api::{ValidationError, suggest};
use calico_store::Store;
use calico_store::config::{DatastoreConfig, Field, KubernetesConfig, Settings};
use calico_store_kube::KubeStore;
use serde_json::Value;

use crate::Context;
use crate::args::Global;
use crate::files::told;

/// Where the file is unless something else is said.
const DEFAULT_FILE: &str = "/etc/calico/calicoctl.cfg";

/// The file's kind.
const KIND: &str = "CalicoAPIConfig";

/// What the file is made of.
const MEMBERS: [&str; 4] = ["apiVersion", "kind", "metadata", "spec"];

/// Fields of the file that this build understands but does not need.
const OTHER_FIELDS: [&str; 1] = ["k8sDisableNodePoll"];

/// Where kubectl's configuration is, below the user's directory.
const KUBECONFIG: &str = ".kube/config";

/// The datastore that file and environment name. Where the file exists, the environment is not read.
pub(crate) fn load(global: &Global, context: &Context) -> anyhow::Result<DatastoreConfig> {
    let path = global.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let failed = "Error reading config file";
    let name = path.display().to_string();
    let config = match std::fs::read_to_string(&path) {
        Ok(text) => {
            let settings = parse_file(&name, &text).context(failed)?;
            named(&settings, &|path| path.exists()).context(name).context(failed)?
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && is_default(&path) => {
            named(&Settings::from_environment(&*context.environment), &|path| path.exists())?
        }
        Err(error) => return Err(error).context(name).context(failed),
    };
    in_context(config, global.context.as_deref())
}

/// The datastore in the context of the command line, which wins over what file and environment say. Only a kubeconfig has
/// contexts: elsewhere the flag would be passed over, and the command carried out on a cluster that is not meant.
fn in_context(config: DatastoreConfig, context: Option<&str>) -> anyhow::Result<DatastoreConfig> {
    match (config, context) {
        (config, None) => Ok(config),
        (DatastoreConfig::Kubernetes(config), Some(context)) => {
            let context = Some(context.to_owned());
            Ok(DatastoreConfig::Kubernetes(KubernetesConfig { context, ..config }))
        }
        (DatastoreConfig::Etcd(_) | DatastoreConfig::Embedded { .. }, Some(context)) => {
            bail!("--context: {context:?}: only the datastore type kubernetes has contexts")
        }
    }
}

/// The datastore of the settings. Nobody is asked to make a new one by looking: where nothing is set, the wrong store
/// would look empty rather than wrong.
fn named(settings: &Settings, exists: &dyn Fn(&Path) -> bool) -> anyhow::Result<DatastoreConfig> {
    let config = settings.resolve()?;
    match &config {
        DatastoreConfig::Embedded { path } if settings.is_empty() && !exists(path) => bail!(
            "no datastore: nothing names one, and this host has no {}; set DATASTORE_TYPE (kubernetes, etcdv3 or embedded) \
             or write {DEFAULT_FILE}",
            path.display()
        ),
        _ => Ok(config),
    }
}

fn is_default(path: &Path) -> bool {
    path == Path::new(DEFAULT_FILE)
}

/// Opens the datastore, which has to be there.
pub(crate) async fn connect(global: &Global, context: &Context) -> anyhow::Result<Arc<dyn Store>> {
    open(load(global, context)?, context, false).await
}

/// The same for a command that may write the first resource: an embedded store that is not there is made.
pub(crate) async fn connect_or_create(global: &Global, context: &Context) -> anyhow::Result<Arc<dyn Store>> {
    open(load(global, context)?, context, true).await
}

async fn open(config: DatastoreConfig, context: &Context, creates: bool) -> anyhow::Result<Arc<dyn Store>> {
    Ok(match config {
        DatastoreConfig::Kubernetes(config) => {
            let environment = &*context.environment;
            let config = with_default_kubeconfig(config, environment, &|path| path.exists());
            Arc::new(KubeStore::open(&config, environment)?)
        }
        config if creates => calico_store_etcd::connect_or_create(&config).await?,
        config => calico_store_etcd::connect(&config).await?,
    })
}

/// Where nothing names an API server: what kubectl would use. In a pod, which has none, its own account.
fn with_default_kubeconfig(
    mut config: KubernetesConfig,
    environment: &dyn Fn(&str) -> Option<String>,
    exists: &dyn Fn(&Path) -> bool,
) -> KubernetesConfig {
    let named = !config.kubeconfig.is_empty() || config.inline.is_some() || config.endpoint.is_some();
    if let (false, Some(home)) = (named, environment("HOME")) {
        let path = Path::new(&home).join(KUBECONFIG);
        if exists(&path) {
            config.kubeconfig.push(path);
        }
    }
    config
}

/// The settings of a `CalicoAPIConfig`; unknown fields are errors. Their values are not shown: passwords are among them.
fn parse_file(source: &str, text: &str) -> anyhow::Result<Settings> {
    let values = parse_values(text).with_context(|| source.to_owned())?;
    let [value] = values.as_slice() else {
        bail!("{source}: has {} documents; one of kind {KIND} is needed", values.len())
    };
    let Value::Object(map) = value else { bail!("{source}: document 1: is no {KIND}; one is needed") };
    let mut wrong = Vec::new();
    for (field, wanted) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        match map.get(field).and_then(Value::as_str) {
            Some(found) if found == wanted => {}
            Some(found) => wrong.push(ValidationError::new(field, found, format!("must be {wanted}"))),
            None => wrong.push(ValidationError::new(field, "", format!("is needed; use {wanted}"))),
        }
    }
    for name in map.keys().filter(|name| !MEMBERS.contains(&name.as_str())) {
        wrong.push(ValidationError::new(name, "", suggest::unknown_field(name, MEMBERS)));
    }
    let empty = serde_json::Map::new();
    let spec = map.get("spec").and_then(Value::as_object).unwrap_or(&empty);
    let known = || Field::ALL.iter().map(|f| f.api_config()).chain(OTHER_FIELDS).filter(|f| !f.is_empty());
    for name in spec.keys().filter(|name| !known().any(|f| f == *name)) {
        let reason = suggest::unknown_field(name, known());
        wrong.push(ValidationError::new(format!("spec.{name}"), "", reason));
    }
    if !wrong.is_empty() {
        let kind =
            map.get("kind").and_then(Value::as_str).map_or_else(String::new, |kind| format!(" ({kind})"));
        bail!("{}", lines(&told(&format!("{source}: document 1{kind}"), &wrong)));
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
    fn looking_makes_no_datastore() {
        let settings = |value: &'static str| {
            Settings::from_environment(&move |name| {
                (name == "DATASTORE_TYPE" && !value.is_empty()).then(|| value.to_owned())
            })
        };
        let error = named(&settings(""), &|_| false).expect_err("nothing there");
        assert!(error.to_string().contains("set DATASTORE_TYPE"), "{error}");
        assert!(matches!(named(&settings(""), &|_| true), Ok(DatastoreConfig::Embedded { .. })));
        assert!(matches!(named(&settings("embedded"), &|_| false), Ok(DatastoreConfig::Embedded { .. })));
    }

    #[test]
    fn the_context_of_the_command_line_wins() {
        let set = |pairs: &'static [(&str, &str)]| {
            let settings = Settings::from_environment(&|name| {
                pairs.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
            });
            named(&settings, &|_| true).unwrap()
        };
        let kubernetes: &[_] = &[("DATASTORE_TYPE", "kubernetes"), ("K8S_CURRENT_CONTEXT", "test")];
        for (flag, expected) in [(None, "test"), (Some("production"), "production")] {
            let Ok(DatastoreConfig::Kubernetes(config)) = in_context(set(kubernetes), flag) else {
                panic!("kubernetes")
            };
            assert_eq!(config.context.as_deref(), Some(expected));
        }
        let etcd: &[_] = &[("DATASTORE_TYPE", "etcdv3"), ("ETCD_ENDPOINTS", "http://a:1")];
        let error = in_context(set(etcd), Some("production")).expect_err("no contexts");
        assert!(error.to_string().contains("--context: \"production\": only"), "{error}");
        assert!(in_context(set(etcd), None).is_ok());
    }

    #[test]
    fn kubectls_file_is_the_default() {
        let home = |name: &str| (name == "HOME").then(|| "/home/u".to_owned());
        let files = |config: KubernetesConfig, exists: bool| {
            with_default_kubeconfig(config, &home, &|_| exists).kubeconfig
        };
        let default = KubernetesConfig::default;
        assert_eq!(files(default(), true), [PathBuf::from("/home/u/.kube/config")]);
        assert!(files(default(), false).is_empty());
        let named = KubernetesConfig { kubeconfig: vec!["/k".into()], ..default() };
        assert_eq!(files(named, true), [PathBuf::from("/k")]);
        let named = KubernetesConfig { endpoint: Some("https://a".into()), ..default() };
        assert!(files(named, true).is_empty());
    }

    #[test]
    fn the_file_is_read_strictly() {
        let file = |spec: &str| {
            let head = "apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig";
            parse_file("own.cfg", &format!("{head}\nspec: {spec}\n"))
        };
        let settings = file("{datastoreType: etcdv3, etcdEndpoints: 'http://a:1,http://b:2'}").unwrap();
        let Ok(DatastoreConfig::Etcd(etcd)) = settings.resolve() else { panic!("etcd") };
        assert_eq!(etcd.endpoints, ["http://a:1", "http://b:2"]);
        let settings = file("{datastoreType: embedded, datastorePath: /x}").unwrap();
        assert_eq!(settings.resolve(), Ok(DatastoreConfig::Embedded { path: "/x".into() }));
        let settings =
            file("{datastoreType: kubernetes, kubeconfig: /k, k8sClientQPS: 20, usePodCIDR: true}");
        let Ok(DatastoreConfig::Kubernetes(kube)) = settings.unwrap().resolve() else { panic!("kubernetes") };
        assert_eq!((kube.kubeconfig, kube.use_pod_cidr), (vec!["/k".into()], true));
        let refused = |text: &str| format!("{:#}", parse_file("own.cfg", text).unwrap_err());
        let place = "own.cfg: document 1";
        assert_eq!(
            format!("{:#}", file("{etcdEndpoint: a}").unwrap_err()),
            format!(
                "{place} (CalicoAPIConfig): spec.etcdEndpoint: this field is not known here; did you mean \"etcdEndpoints\"?"
            )
        );
        assert_eq!(
            refused("{kind: Node, spce: {}}"),
            format!(
                "\n  {place} (Node): apiVersion: is needed; use projectcalico.org/v3\
                 \n  {place} (Node): kind: \"Node\": must be CalicoAPIConfig\
                 \n  {place} (Node): spce: this field is not known here; did you mean \"spec\"?"
            )
        );
        assert_eq!(refused(""), "own.cfg: has 0 documents; one of kind CalicoAPIConfig is needed");
        assert_eq!(refused("a"), format!("{place}: is no CalicoAPIConfig; one is needed"));
        let secret = refused("spec: {etcdPassword: hush");
        assert!(secret.starts_with("own.cfg: line 1 ") && !secret.contains("hush"), "{secret}");
    }
}
