//! A host in a temporary directory: what is on it after an installation, after a second one, and after one that fails.

use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::ApiError;

/// Gives tokens out, one after the other.
#[derive(Default)]
struct Tokens(Mutex<u32>);

#[async_trait::async_trait]
impl Api for Tokens {
    async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        panic!("an installer reads no {path}")
    }

    async fn create(&self, path: &str, object: Value) -> Result<Value, ApiError> {
        assert_eq!(path, "/api/v1/namespaces/kube-system/serviceaccounts/calico-cni-plugin/token");
        assert_eq!(object["spec"]["expirationSeconds"], 86_400);
        let mut count = self.0.lock().expect("whole");
        *count += 1;
        if *count == 5 {
            return Err(ApiError::Unavailable("away".to_owned()));
        }
        if *count == 3 {
            return Err(ApiError::Refused { status: 403, message: "forbidden".to_owned() });
        }
        Ok(
            json!({"status": {"token": format!("token-{count}"), "expirationTimestamp": "2099-01-01T00:00:00Z"}}),
        )
    }

    async fn patch(&self, path: &str, _: Value) -> Result<(), ApiError> {
        panic!("an installer changes no {path}")
    }
}

struct Host {
    dir: tempfile::TempDir,
    paths: Paths,
}

impl Host {
    fn new() -> Host {
        let dir = tempfile::tempdir().expect("temporary directory");
        let at = |name: &str| dir.path().join(name);
        let paths = Paths {
            bin_dirs: vec![at("bin"), at("absent")],
            bin_dir_on_host: "/opt/cni/bin".to_owned(),
            net_dir: at("net.d"),
            plugins: at("image"),
            program: at("program"),
            account: at("account"),
        };
        for name in ["bin", "image", "account", "tls"] {
            fs::create_dir(at(name)).expect("made");
        }
        let write = |name: &str, content: &str| fs::write(at(name), content).expect("written");
        write("program", "ours 1");
        write("image/portmap", "theirs");
        write("image/install", "the installer");
        write("image/calico", "not this one");
        write("account/token", "own\n");
        write("account/namespace", "kube-system");
        write("account/ca.crt", "PEM");
        Host { dir, paths }
    }

    fn settings(&self, pairs: &[(&str, &str)]) -> Settings {
        let tls = self.dir.path().join("tls").display().to_string();
        let vars = |name: &str| {
            let given = pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
            given.or_else(|| match name {
                "SLEEP" => Some("false".to_owned()),
                "TLS_ASSETS_DIR" => Some(tls.clone()),
                _ => None,
            })
        };
        Settings::from_vars(vars, "host1").expect("valid")
    }

    async fn install(&self, pairs: &[(&str, &str)]) -> Result<(), InstallError> {
        run(&self.settings(pairs), &self.paths, Some(&Tokens::default())).await
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.dir.path().join(name)).expect(name).permissions().mode() & 0o7777
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.dir.path().join(dir)) else { return Vec::new() };
        let mut names: Vec<_> =
            entries.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// A template as Calico's manifests have it.
const TEMPLATE: &str = r#"{
  "name": "k8s-pod-network", "cniVersion": "0.3.1",
  "plugins": [{
    "type": "calico", "log_level": "info", "log_file_path": "/var/log/calico/cni/cni.log",
    "datastore_type": "kubernetes", "nodename": "__KUBERNETES_NODE_NAME__", "mtu": __CNI_MTU__,
    "etcd_key_file": "__ETCD_KEY_FILE__", "etcd_ca_cert_file": "__ETCD_CA_CERT_FILE__",
    "ipam": {"type": "calico-ipam"}, "policy": {"type": "k8s"},
    "kubernetes": {"kubeconfig": "__KUBECONFIG_FILEPATH__"}
  }]
}"#;

#[tokio::test]
async fn the_default_needs_no_credentials() {
    let host = Host::new();
    host.install(&[("CNI_MTU", "0")]).await.expect("installed");
    assert_eq!(host.names("bin"), [".calico-installed", "calico", "calico-ipam", "portmap"]);
    assert_eq!(host.read("bin/calico-ipam"), "ours 1");
    assert_eq!(host.mode("bin/calico"), 0o755);
    assert_eq!(host.names("net.d"), ["10-calico.conflist"], "no kubeconfig, nothing half");
    assert_eq!(host.mode("net.d/10-calico.conflist"), 0o600);
    let list: Value = serde_json::from_str(&host.read("net.d/10-calico.conflist")).expect("JSON");
    let mut plugin = list["plugins"][0].clone();
    plugin["name"] = list["name"].clone();
    let (conf, _) = crate::netconf::NetConf::from_value(plugin).expect("our own plugin takes it");
    assert_eq!((conf.agent_socket.as_str(), conf.mtu), ("/run/calico/cni.sock", 0));
    assert!(conf.reads_pods() && conf.own_ipam());
}

#[tokio::test]
async fn calicos_template_gets_its_kubeconfig() {
    let host = Host::new();
    for file in ["etcd-key", "etcd-ca"] {
        fs::write(host.dir.path().join("tls").join(file), file).expect("written");
    }
    let pairs = [
        ("CNI_NETWORK_CONFIG", TEMPLATE),
        ("KUBERNETES_NODE_NAME", "worker-1"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("CNI_CONF_NAME", "20-net.conflist"),
        ("CNI_OLD_CONF_NAME", "10-old.conflist"),
    ];
    fs::create_dir(&host.paths.net_dir).expect("made");
    fs::write(host.paths.net_dir.join("10-old.conflist"), "{}").expect("written");
    host.install(&pairs).await.expect("installed");
    assert_eq!(host.names("net.d"), ["20-net.conflist", "calico-kubeconfig", "calico-tls"]);
    let list: Value = serde_json::from_str(&host.read("net.d/20-net.conflist")).expect("JSON");
    let plugin = &list["plugins"][0];
    assert_eq!(plugin["nodename"], "worker-1");
    assert_eq!(plugin["mtu"], 1500);
    assert_eq!(plugin["kubernetes"]["kubeconfig"], "/etc/cni/net.d/calico-kubeconfig");
    assert_eq!(plugin["etcd_key_file"], "/etc/cni/net.d/calico-tls/etcd-key");
    assert_eq!(host.mode("net.d/calico-tls/etcd-key"), 0o600);
    assert_eq!(host.mode("net.d/calico-kubeconfig"), 0o600);
    assert!(host.read("net.d/calico-kubeconfig").contains("token-1"));

    // Without etcd's files on the next installation, they go from the host.
    fs::remove_file(host.dir.path().join("tls/etcd-key")).expect("removed");
    host.install(&pairs).await.expect("installed");
    assert_eq!(host.names("net.d/calico-tls"), ["etcd-ca"]);
    let list: Value = serde_json::from_str(&host.read("net.d/20-net.conflist")).expect("JSON");
    assert_eq!(list["plugins"][0]["etcd_key_file"], "");
}

#[tokio::test]
async fn a_template_that_makes_no_json_leaves_the_old_configuration() {
    let host = Host::new();
    host.install(&[]).await.expect("installed");
    let before = host.read("net.d/10-calico.conflist");
    let check = async |pairs: &[(&str, &str)], expected: &str| {
        let error = host.install(pairs).await.expect_err("refused");
        assert_eq!(error.to_string(), expected);
        assert_eq!(host.read("net.d/10-calico.conflist"), before);
        assert_eq!(host.names("net.d"), ["10-calico.conflist"]);
    };
    let bad = TEMPLATE.replace("__KUBECONFIG_FILEPATH__", "/k");
    check(
        &[("CNI_NETWORK_CONFIG", &bad), ("CNI_MTU", "much")],
        "CNI_NETWORK_CONFIG is no JSON after its placeholders are replaced: expected value at line 5 column 65; line \
         5: \"datastore_type\": \"kubernetes\", \"nodename\": \"__KUBERNETES_NODE_NAME__\", \"mtu\": __CNI_MTU__,",
    )
    .await;
    check(
        &[("CNI_NETWORK_CONFIG", "[]")],
        "CNI_NETWORK_CONFIG must be an object with a name and with plugins, or with a type",
    )
    .await;
    check(
        &[("CNI_NETWORK_CONFIG", TEMPLATE)],
        "the network configuration names __KUBECONFIG_FILEPATH__, but KUBERNETES_SERVICE_HOST is not set",
    )
    .await;
    let missing = host.dir.path().join("none").display().to_string();
    let said = format!("CNI_NETWORK_CONFIG_FILE {missing}");
    check(&[("CNI_NETWORK_CONFIG_FILE", &missing), ("CNI_NETWORK_CONFIG", TEMPLATE)], &said).await;
}

#[tokio::test]
async fn binaries_are_kept_skipped_and_replaced() {
    let host = Host::new();
    host.install(&[("SKIP_CNI_BINARIES", "portmap, calico-ipam")]).await.expect("installed");
    assert_eq!(host.names("bin"), [".calico-installed", "calico"]);
    let inode = |name: &str| {
        use std::os::unix::fs::MetadataExt;
        fs::metadata(host.dir.path().join(name)).expect(name).ino()
    };
    let first = inode("bin/calico");
    host.install(&[]).await.expect("installed");
    assert_eq!(inode("bin/calico"), first, "the same program is not written again");
    fs::write(host.dir.path().join("program"), "ours 2").expect("written");
    host.install(&[("UPDATE_CNI_BINARIES", "false")]).await.expect("installed");
    assert_eq!(host.read("bin/calico"), "ours 1");
    host.install(&[]).await.expect("installed");
    assert_eq!(host.read("bin/calico"), "ours 2");
    assert_ne!(inode("bin/calico"), first, "one that runs is not overwritten");
    fs::remove_dir_all(host.dir.path().join("bin")).expect("removed");
    let error = host.install(&[]).await.expect_err("nowhere to put them");
    assert!(error.to_string().contains("no directory for plugins"), "{error}");
}

#[test]
fn wrong_variables_are_named() {
    let check = |name: &'static str, value: &'static str, expected: &str| {
        let error = Settings::from_vars(|n| (n == name).then(|| value.to_owned()), "h").expect_err(name);
        assert_eq!(error.to_string(), expected);
    };
    check("SLEEP", "perhaps", "SLEEP is \"perhaps\"; it must be true or false");
    check(
        "CNI_CONF_NAME",
        "../x",
        "CNI_CONF_NAME is \"../x\"; it must be the name of a file, without a directory",
    );
    check(
        "CNI_TOKEN_REFRESH_INTERVAL",
        "often",
        "CNI_TOKEN_REFRESH_INTERVAL is \"often\"; it must be a duration such as 1h",
    );
}

#[tokio::test(start_paused = true)]
async fn one_that_stays_renews_its_token_and_uses_its_own_where_it_gets_none() {
    let host = Host::new();
    let settings = host.settings(&[
        ("CNI_NETWORK_CONFIG", TEMPLATE),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
        ("SLEEP", "true"),
    ]);
    let settings = Settings { token_interval: Some(Duration::from_millis(1)), ..settings };
    let (paths, kubeconfig) = (host.paths.clone(), host.paths.kubeconfig());
    let stays = tokio::spawn(async move { run(&settings, &paths, Some(&Tokens::default())).await });
    let holds = async |token: &str| {
        let deadline = Instant::now() + Duration::from_secs(3600);
        while !fs::read_to_string(&kubeconfig).is_ok_and(|text| text.contains(token)) {
            assert!(Instant::now() < deadline, "no {token}");
            sleep(Duration::from_secs(1)).await;
        }
    };
    holds("token-1").await;
    holds("token-2").await;
    holds("\"own\"").await;
    holds("token-4").await;
    stays.abort();
}

#[tokio::test(start_paused = true)]
async fn the_agent_renews_the_token_of_an_installer_that_has_ended() {
    let host = Host::new();
    let pairs = [("CNI_NETWORK_CONFIG", TEMPLATE), ("KUBERNETES_SERVICE_HOST", "10.96.0.1")];
    let settings = Settings { token_interval: Some(Duration::from_secs(3600)), ..host.settings(&pairs) };
    let (paths, kubeconfig) = (host.paths.clone(), host.paths.kubeconfig());
    let (tokens, begun) = (Arc::new(Tokens::default()), Instant::now());
    let asked = tokens.clone();
    let agent = tokio::spawn(async move { renewal::renew(&settings, &paths, &*asked).await });
    let holds = async |token: &str| {
        let deadline = Instant::now() + Duration::from_secs(7300);
        while !fs::read_to_string(&kubeconfig).is_ok_and(|text| text.contains(token)) {
            assert!(Instant::now() < deadline, "no {token}");
            sleep(Duration::from_secs(1)).await;
        }
        begun.elapsed().as_secs()
    };
    // Where the plugins ask the agent there is nothing to renew.
    sleep(Duration::from_secs(10_000)).await;
    assert!(!kubeconfig.exists());
    run(&host.settings(&pairs), &host.paths, Some(&*tokens)).await.expect("installed");
    assert_eq!(*tokens.0.lock().expect("whole"), 1);
    let second = holds("token-2").await;
    // It refuses once: the pod's own token has to do. A mounted account that changes does not wait for its time.
    assert!(holds("\"own\"").await >= second + 3600);
    let own = begun.elapsed().as_secs();
    fs::write(host.dir.path().join("account/token"), "own 2").expect("written");
    assert!(holds("token-4").await <= own + 20);
    // The fifth request finds nobody: the fourth token stays until there is another.
    let fourth = begun.elapsed().as_secs();
    let sixth = holds("token-6").await;
    assert!(sixth >= fourth + 3660, "{fourth} {sixth}");
    assert_eq!(host.mode("net.d/calico-kubeconfig"), 0o600);
    agent.abort();
}

/// Is away for some requests, and then gives tokens out.
struct Away(Mutex<u32>, Tokens);

#[async_trait::async_trait]
impl Api for Away {
    async fn get(&self, path: &str) -> Result<Option<Value>, ApiError> {
        self.1.get(path).await
    }

    async fn create(&self, path: &str, object: Value) -> Result<Value, ApiError> {
        {
            let mut left = self.0.lock().expect("whole");
            if *left > 0 {
                *left -= 1;
                return Err(ApiError::Unavailable("connection refused".to_owned()));
            }
        }
        self.1.create(path, object).await
    }

    async fn patch(&self, path: &str, patch: Value) -> Result<(), ApiError> {
        self.1.patch(path, patch).await
    }
}

#[tokio::test(start_paused = true)]
async fn an_installation_waits_for_the_api_and_never_leaves_the_agents_token() {
    let host = Host::new();
    let settings =
        host.settings(&[("CNI_NETWORK_CONFIG", TEMPLATE), ("KUBERNETES_SERVICE_HOST", "10.96.0.1")]);
    let begun = Instant::now();
    let never = Away(Mutex::new(u32::MAX), Tokens::default());
    let error = run(&settings, &host.paths, Some(&never)).await.expect_err("nobody gives a token");
    assert_eq!(
        error.to_string(),
        "no token for service account kube-system/calico-cni-plugin, which the plugins use: the API was asked for \
         120 s; is KUBERNETES_SERVICE_HOST the address of an API server that this node reaches?"
    );
    let cause = std::error::Error::source(&error).map(ToString::to_string);
    assert_eq!(cause.as_deref(), Some("the Kubernetes API: connection refused"));
    assert!((60..=120).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    assert_eq!(
        host.names("net.d"),
        [""; 0],
        "neither a kubeconfig nor a configuration that makes the node ready"
    );

    let error = run(&settings, &host.paths, None).await.expect_err("nobody to ask");
    assert!(matches!(error, InstallError::NoApi), "{error}");

    let soon = Away(Mutex::new(5), Tokens::default());
    run(&settings, &host.paths, Some(&soon)).await.expect("installed");
    let text = host.read("net.d/calico-kubeconfig");
    assert!(text.contains("token-1") && !text.contains("\"own\""), "{text}");
}

#[test]
fn the_environment_may_keep_the_agent_from_it() {
    for (value, wanted) in [(None, true), (Some("true"), true), (Some(""), true), (Some("false"), false)] {
        let vars = |name: &str| (name == "CALICO_MANAGE_CNI").then(|| value.map(str::to_owned)).flatten();
        assert_eq!(renewal::is_wanted(&vars), wanted, "{value:?}");
    }
}

#[tokio::test]
async fn what_is_new_is_recorded_once() {
    let host = Host::new();
    fs::write(host.dir.path().join("bin/portmap"), "there before").expect("written");
    for _ in 0..2 {
        host.install(&[("CNI_NETWORK_CONFIG", TEMPLATE), ("KUBERNETES_SERVICE_HOST", "10.96.0.1")])
            .await
            .expect("installed");
    }
    assert_eq!(host.read("bin/portmap"), "theirs");
    let recorded = host.read("bin/.calico-installed");
    assert_eq!(
        recorded.lines().collect::<Vec<_>>(),
        [
            "/opt/cni/bin/calico",
            "/opt/cni/bin/calico-ipam",
            "/etc/cni/net.d/calico-kubeconfig",
            "/etc/cni/net.d/10-calico.conflist",
        ]
    );
    assert_eq!(host.mode("bin/.calico-installed"), 0o644);
}
