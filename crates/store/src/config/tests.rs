//! Which settings name which datastore, and what wrong ones are told.

use super::*;

fn env<'a>(vars: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
    |name| vars.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
}

fn plain(endpoints: &[&str]) -> DatastoreConfig {
    let endpoints = endpoints.iter().map(|e| (*e).to_owned()).collect();
    DatastoreConfig::Etcd(EtcdConfig { endpoints, login: None, ca: None, identity: None })
}

fn embedded(path: &str) -> DatastoreConfig {
    DatastoreConfig::Embedded { path: path.into() }
}

fn kubernetes(change: impl FnOnce(&mut KubernetesConfig)) -> DatastoreConfig {
    let mut config = KubernetesConfig::default();
    change(&mut config);
    DatastoreConfig::Kubernetes(config)
}

#[track_caller]
fn check(vars: &[(&str, &str)], expected: DatastoreConfig) {
    assert_eq!(Settings::from_environment(&env(vars)).resolve(), Ok(expected));
}

#[track_caller]
fn refuse(vars: &[(&str, &str)], expected: &str) {
    let error = Settings::from_environment(&env(vars)).resolve().unwrap_err();
    assert_eq!(error.to_string(), expected);
}

#[test]
fn the_environment_names_a_datastore() {
    check(&[], embedded(DEFAULT_PATH));
    check(&[("DATASTORE_TYPE", "embedded"), ("CALICO_DATASTORE_PATH", "/x.db")], embedded("/x.db"));
    check(&[("CALICO_DATASTORE_PATH", "/x.db"), ("KUBECONFIG", "/k")], embedded("/x.db"));
    check(&[("DATASTORE_TYPE", "kubernetes")], kubernetes(|_| {}));
    check(&[("KUBECONFIG", "/a:/b")], kubernetes(|k| k.kubeconfig = vec!["/a".into(), "/b".into()]));
    check(&[("ETCD_ENDPOINTS", "http://a:2379, http://b:2379/")], plain(&["http://a:2379", "http://b:2379"]));
    check(
        &[
            ("ETCD_ENDPOINTS", "http://a:1"),
            ("CALICO_ETCD_ENDPOINTS", "http://b:1"),
            ("DATASTORE_TYPE", "etcdv3"),
        ],
        plain(&["http://b:1"]),
    );
    check(&[("ETCD_AUTHORITY", "127.0.0.1:2379")], plain(&["http://127.0.0.1:2379"]));
    check(&[("ETCD_ENDPOINTS", "http://a:1"), ("ETCD_USERNAME", "root")], plain(&["http://a:1"]));
    check(
        &[
            ("ETCD_ENDPOINTS", "https://a:1"),
            ("ETCD_USERNAME", "root"),
            ("ETCD_PASSWORD", "secret"),
            ("ETCD_CA_CERT_FILE", "/ca"),
            ("ETCD_CERT_FILE", "/cert"),
            ("ETCD_KEY_FILE", "/key"),
        ],
        DatastoreConfig::Etcd(EtcdConfig {
            endpoints: vec!["https://a:1".into()],
            login: Some(("root".into(), "secret".into())),
            ca: Some(Pem::File("/ca".into())),
            identity: Some((Pem::File("/cert".into()), Pem::File("/key".into()))),
        }),
    );
}

#[test]
fn errors_name_the_variable() {
    refuse(&[("DATASTORE_TYPE", "etcd")], r#"DATASTORE_TYPE: "etcd" is not etcdv3, kubernetes or embedded"#);
    refuse(
        &[("DATASTORE_TYPE", "etcdv3")],
        "DATASTORE_TYPE is set but ETCD_ENDPOINTS is not: etcd has no address",
    );
    refuse(
        &[("ETCD_ENDPOINTS", "127.0.0.1:2379")],
        r#"ETCD_ENDPOINTS: "127.0.0.1:2379" is not of the form http://host:port or https://host:port"#,
    );
    refuse(&[("ETCD_ENDPOINTS", " , ")], "ETCD_ENDPOINTS: no endpoint in the list");
    refuse(
        &[("CALICO_ETCD_DISCOVERY_SRV", "example.com")],
        "CALICO_ETCD_DISCOVERY_SRV: discovery of etcd by DNS is not supported; list the endpoints",
    );
    refuse(
        &[("ETCD_ENDPOINTS", "https://a:1"), ("ETCD_KEY_FILE", "/key")],
        "ETCD_KEY_FILE is set but the certificate is not: a client certificate and its private key go together",
    );
    refuse(
        &[("ETCD_ENDPOINTS", "http://a:1"), ("ETCD_CA_CERT_FILE", "/ca")],
        r#"ETCD_ENDPOINTS: "http://a:1" is not encrypted, but certificates are given; use https://"#,
    );
    refuse(
        &[("ETCD_ENDPOINTS", "http://a:1"), ("CALICO_DATASTORE_PATH", "/x")],
        "ETCD_ENDPOINTS and CALICO_DATASTORE_PATH are both set: set the datastore type to etcdv3 or embedded",
    );
    refuse(
        &[("ETCD_AUTHORITY", "a:1"), ("ETCD_SCHEME", "ftp")],
        r#"ETCD_SCHEME: "ftp" is not http or https"#,
    );
}

#[test]
fn felix_has_spellings_of_its_own_and_they_win() {
    let vars = [("FELIX_ETCDENDPOINTS", "http://f:1"), ("ETCD_ENDPOINTS", "http://e:1")];
    assert_eq!(Settings::from_felix_environment(&env(&vars)).resolve(), Ok(plain(&["http://f:1"])));
    let vars = [("FELIX_EtcdAddr", "f:1"), ("FELIX_etcdscheme", "https"), ("FELIX_DATASTORETYPE", "etcdv3")];
    assert_eq!(Settings::from_felix_environment(&env(&vars)).resolve(), Ok(plain(&["https://f:1"])));
    let vars = [("FELIX_DATASTORETYPE", "nope")];
    let error = Settings::from_felix_environment(&env(&vars)).resolve().unwrap_err();
    assert!(error.to_string().starts_with("FELIX_DATASTORETYPE: "), "{error}");
}

#[test]
fn calicoctls_file_and_cni_have_theirs() {
    let file = env(&[("datastoreType", "etcdv3"), ("etcdEndpoints", "https://a:1"), ("etcdCACert", "PEM")]);
    let Ok(DatastoreConfig::Etcd(config)) = Settings::from_api_config(&file).resolve() else { panic!() };
    assert_eq!(config.ca, Some(Pem::Inline("PEM".into())));

    let both = env(&[("etcdEndpoints", "https://a:1"), ("etcdCACert", "PEM"), ("etcdCACertFile", "/ca")]);
    let error = Settings::from_api_config(&both).resolve().unwrap_err();
    assert_eq!(
        error.to_string(),
        "etcdCACert and etcdCACertFile are both set: give the text or the file, not both"
    );

    let netconf = env(&[("etcd_endpoints", "http://n:1"), ("datastore_type", "")]);
    let environment = env(&[("ETCD_ENDPOINTS", "http://e:1"), ("DATASTORE_TYPE", "etcdv3")]);
    let stacked = Settings::from_netconf(&netconf).or(Settings::from_environment(&environment));
    assert_eq!(stacked.resolve(), Ok(plain(&["http://n:1"])));

    let error = Settings::from_netconf(&env(&[("datastore_type", "etcdv3")])).resolve().unwrap_err();
    assert_eq!(error.to_string(), "datastore_type is set but etcd_endpoints is not: etcd has no address");
}

#[test]
fn kubernetes_settings() {
    check(
        &[
            ("K8S_API_ENDPOINT", "https://a:6443/"),
            ("K8S_CERT_FILE", "/cert"),
            ("K8S_KEY_FILE", "/key"),
            ("K8S_CA_FILE", "/ca"),
            ("K8S_API_TOKEN", "secret"),
            ("K8S_CURRENT_CONTEXT", "blue"),
            ("K8S_CLIENT_QPS", "20"),
            ("CALICO_API_GROUP", "projectcalico.org/v3"),
            ("USE_POD_CIDR", "true"),
        ],
        kubernetes(|k| {
            k.endpoint = Some("https://a:6443".into());
            k.identity = Some((Pem::File("/cert".into()), Pem::File("/key".into())));
            k.ca = Some(Pem::File("/ca".into()));
            k.token = Some("secret".into());
            k.context = Some("blue".into());
            k.rate = Some(Rate { per_second: 20.0, burst: 100 });
            k.group = Some(ApiGroup::ProjectCalicoV3);
            k.use_pod_cidr = true;
        }),
    );
    let kube = ("DATASTORE_TYPE", "kubernetes");
    check(
        &[kube, ("K8S_CLIENT_QPS", "0"), ("K8S_INSECURE_SKIP_TLS_VERIFY", "1")],
        kubernetes(|k| k.insecure = true),
    );
    refuse(
        &[kube, ("K8S_CLIENT_QPS", "-1")],
        "K8S_CLIENT_QPS: \"-1\" is not a positive number, as in 20 or 0.5",
    );
    refuse(&[kube, ("K8S_CLIENT_BURST", "x")], "K8S_CLIENT_BURST: \"x\" is not a positive whole number");
    refuse(&[kube, ("USE_POD_CIDR", "maybe")], "USE_POD_CIDR: \"maybe\" is not true or false");
    refuse(&[kube, ("KUBECONFIG", ":")], "KUBECONFIG: no file in the list");
    refuse(
        &[kube, ("K8S_API_ENDPOINT", "a:6443")],
        "K8S_API_ENDPOINT: \"a:6443\" is not of the form https://host:port",
    );
    refuse(
        &[kube, ("K8S_CERT_FILE", "/c")],
        "K8S_CERT_FILE is set but K8S_KEY_FILE is not: a client certificate and its private key go together",
    );
    refuse(
        &[kube, ("CALICO_API_GROUP", "v3")],
        "CALICO_API_GROUP: \"v3\" is no API group of Calico: use crd.projectcalico.org/v1 or projectcalico.org/v3",
    );
    refuse(
        &[kube, ("K8S_CA_FILE", "/ca"), ("K8S_INSECURE_SKIP_TLS_VERIFY", "true")],
        "K8S_CA_FILE and K8S_INSECURE_SKIP_TLS_VERIFY are both set: a server that is not verified needs no \
         certificate authority",
    );
    let netconf = env(&[
        ("datastore_type", "kubernetes"),
        ("kubernetes.kubeconfig", "/etc/cni/net.d/calico-kubeconfig"),
        ("kubernetes.k8s_api_root", "https://a:6443/api/v1"),
        ("policy.k8s_api_root", "https://b"),
        ("policy.k8s_auth_token", "secret"),
        ("qps", "10"),
        ("burst", "20"),
    ]);
    let settings = Settings::from_netconf(&netconf);
    let expected = kubernetes(|k| {
        k.kubeconfig = vec!["/etc/cni/net.d/calico-kubeconfig".into()];
        k.endpoint = Some("https://a:6443".into());
        k.token = Some("secret".into());
        k.rate = Some(Rate { per_second: 10.0, burst: 20 });
    });
    assert_eq!(settings.resolve(), Ok(expected));
    assert!(!format!("{settings:?} {:?}", settings.resolve()).contains("secret"));
}

#[test]
fn secrets_are_not_printed() {
    let vars = [
        ("ETCD_ENDPOINTS", "https://a:1"),
        ("ETCD_USERNAME", "u"),
        ("ETCD_PASSWORD", "hunter2"),
        ("ETCD_CA_CERT_FILE", "/ca"),
    ];
    let settings = Settings::from_environment(&env(&vars));
    let text = format!("{settings:?} {:?}", settings.resolve());
    assert!(!text.contains("hunter2"), "{text}");
    assert!(text.contains("/ca"), "{text}");
}
