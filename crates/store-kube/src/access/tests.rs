//! What kubeconfig files, settings and the pod say together, and what wrong ones are told.

use super::*;

const ONE: &str = r#"
apiVersion: v1
kind: Config
current-context: blue
contexts:
- name: blue
  context: {cluster: sea, user: admin, namespace: x}
- name: red
  context: {cluster: fire, user: robot}
clusters:
- name: sea
  cluster:
    server: https://sea.example:6443/k8s/
    certificate-authority: pki/ca.crt
- name: fire
  cluster: {server: "https://[fd00::1]", insecure-skip-tls-verify: true, tls-server-name: kube}
users:
- name: admin
  user:
    client-certificate-data: Q0VSVA==
    client-key: /abs/key
- name: robot
  user: {tokenFile: token, token: old, as: root, as-groups: [a, b]}
"#;

fn access(config: KubernetesConfig, texts: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Access, String> {
    let texts: Vec<(PathBuf, String)> =
        texts.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    let lookup = |name: &str| env.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned());
    resolve(&config, &texts, &lookup).map_err(|e| e.to_string())
}

fn server(host: &str, port: u16, base: &str) -> Server {
    Server { tls: true, host: host.to_owned(), port, base: base.to_owned() }
}

#[test]
fn a_context_chooses_cluster_and_user() {
    let blue = access(KubernetesConfig::default(), &[("/etc/k/config", ONE)], &[]).unwrap();
    let expected = Access {
        ca: Some(Pem::File("/etc/k/pki/ca.crt".into())),
        identity: Some((Pem::Inline("CERT".into()), Pem::File("/abs/key".into()))),
        ..Access::anonymous(server("sea.example", 6443, "/k8s"))
    };
    assert_eq!(blue, expected);

    let config = KubernetesConfig { context: Some("red".into()), ..KubernetesConfig::default() };
    let red = access(config, &[("/etc/k/config", ONE)], &[]).unwrap();
    let expected = Access {
        insecure: true,
        server_name: Some("kube".into()),
        login: Login::TokenFile("/etc/k/token".into()),
        impersonation: vec![
            ("impersonate-user", "root".into()),
            ("impersonate-group", "a".into()),
            ("impersonate-group", "b".into()),
        ],
        ..Access::anonymous(server("fd00::1", 443, ""))
    };
    assert_eq!(red, expected);
}

#[test]
fn of_equal_names_the_first_files_counts() {
    let mine = r#"
current-context: red
users: [{name: robot, user: {exec: {apiVersion: v1, command: ./login, args: [a], env: [{name: A, value: b}]}}}]
clusters: [{name: fire, cluster: {server: "http://other:8001"}}]
"#;
    let found = access(KubernetesConfig::default(), &[("/a/one", mine), ("/b/two", ONE)], &[]).unwrap();
    let exec = Exec {
        command: "/a/./login".into(),
        args: vec!["a".into()],
        env: vec![("A".into(), "b".into())],
        api_version: "v1".into(),
        install_hint: String::new(),
        cluster: None,
    };
    let plain = Server { tls: false, host: "other".into(), port: 8001, base: String::new() };
    assert_eq!(found, Access { login: Login::Exec(exec), ..Access::anonymous(plain) });
}

#[test]
fn a_plugin_hears_of_the_cluster_as_it_is_used() {
    let text = |mode: &str| {
        format!(
            r#"
current-context: c
contexts: [{{name: c, context: {{cluster: sea, user: u}}}}]
clusters:
- name: sea
  cluster:
    server: https://sea
    certificate-authority: ca.crt
    extensions:
    - {{name: other, extension: 1}}
    - {{name: client.authentication.k8s.io/exec, extension: {{audience: x}}}}
users: [{{name: u, user: {{exec: {{apiVersion: v1, command: login, provideClusterInfo: true{mode}}}}}}}]
"#
        )
    };
    let told = |config: KubernetesConfig, mode: &str| {
        let Login::Exec(exec) = access(config, &[("/k/f", &text(mode))], &[])?.login else {
            panic!("no plugin")
        };
        Ok::<_, String>(exec.cluster.expect("it wants to know"))
    };
    let mut expected = ExecCluster {
        server: "https://sea:443".into(),
        ca: Some(Pem::File("/k/ca.crt".into())),
        config: Some(serde_json::json!({ "audience": "x" })),
        ..ExecCluster::default()
    };
    for mode in ["", ", interactiveMode: Never", ", interactiveMode: IfAvailable"] {
        assert_eq!(told(KubernetesConfig::default(), mode).unwrap(), expected, "{mode}");
    }
    let above = KubernetesConfig {
        endpoint: Some("https://other:1".into()),
        insecure: true,
        ..KubernetesConfig::default()
    };
    (expected.server, expected.ca, expected.insecure) = ("https://other:1".into(), None, true);
    assert_eq!(told(above, "").unwrap(), expected);

    let refused = |mode: &str| told(KubernetesConfig::default(), mode).unwrap_err();
    assert_eq!(
        refused(", interactiveMode: Always"),
        "/k/f: user \"u\": exec.interactiveMode: Always needs a terminal, which credential plugins do not get here; \
         use Never or IfAvailable, and a plugin that asks nobody"
    );
    assert_eq!(
        refused(", interactiveMode: never"),
        "/k/f: user \"u\": exec.interactiveMode: \"never\" is no mode; use Never or IfAvailable"
    );
}

#[test]
fn settings_stand_above_the_files() {
    let config = KubernetesConfig {
        endpoint: Some("https://other".into()),
        token: Some("t".into()),
        identity: Some((Pem::File("/c".into()), Pem::File("/k".into()))),
        ca: Some(Pem::File("/ca".into())),
        context: Some("red".into()),
        ..KubernetesConfig::default()
    };
    let found = access(config, &[("/f", ONE)], &[]).unwrap();
    assert_eq!(found.server, server("other", 443, ""));
    assert_eq!(found.login, Login::Token("t".into()));
    assert_eq!(found.ca, Some(Pem::File("/ca".into())));
    assert!(!found.insecure);
    assert_eq!(found.identity, Some((Pem::File("/c".into()), Pem::File("/k".into()))));
}

#[test]
fn a_pod_has_an_account() {
    let env = [("KUBERNETES_SERVICE_HOST", "fd00::1"), ("KUBERNETES_SERVICE_PORT", "443")];
    let found = access(KubernetesConfig::default(), &[], &env).unwrap();
    let expected = Access {
        ca: Some(Pem::File("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt".into())),
        login: Login::TokenFile("/var/run/secrets/kubernetes.io/serviceaccount/token".into()),
        ..Access::anonymous(server("fd00::1", 443, ""))
    };
    assert_eq!(found, expected);
    assert_eq!(found.server.to_string(), "https://[fd00::1]:443");
}

#[test]
fn errors_say_what_would_be_right() {
    let one = |text: &str, change: &dyn Fn(&mut KubernetesConfig)| {
        let mut config = KubernetesConfig::default();
        change(&mut config);
        access(config, &[("/f", text)], &[]).unwrap_err()
    };
    let same = |_: &mut KubernetesConfig| {};
    assert_eq!(
        access(KubernetesConfig::default(), &[], &[]).unwrap_err(),
        "no API server is named; set KUBECONFIG or K8S_API_ENDPOINT (in a pod, KUBERNETES_SERVICE_HOST and \
         KUBERNETES_SERVICE_PORT name it)"
    );
    assert_eq!(
        one(ONE, &|c| c.context = Some("green".into())),
        "/f: no context is named \"green\"; there is \"blue\", \"red\""
    );
    assert_eq!(
        one(&ONE.replace("current-context: blue", ""), &same),
        "/f: current-context is not set; K8S_CURRENT_CONTEXT can name one of \"blue\", \"red\""
    );
    assert_eq!(
        one(&ONE.replace("https://sea.example:6443/k8s/", "sea:6443"), &same),
        "/f: cluster \"sea\": server: \"sea:6443\" is not of the form https://host:port"
    );
    assert_eq!(
        one(&ONE.replace("client-key: /abs/key", "username: u"), &same),
        "/f: user \"admin\": username: API servers accept no passwords since Kubernetes 1.19; use a token or a \
         certificate"
    );
    assert_eq!(
        one(&ONE.replace("client-key: /abs/key", "as-user-extra: {scopes: [a]}"), &same),
        "/f: user \"admin\": as-user-extra: extra fields of another user are not supported; leave them out, and act as \
         it by as, as-uid and as-groups"
    );
    assert_eq!(
        one(&ONE.replace("client-key: /abs/key", ""), &same),
        "/f: user \"admin\": client-certificate is set but client-key is not"
    );
    assert_eq!(
        one(&ONE.replace("Q0VSVA==", "Q0VSVA=!"), &same),
        "/f: user \"admin\": client-certificate-data: not base64: Invalid symbol 61, offset 6."
    );
    assert!(one("contexts: 7", &same).starts_with("/f: no kubeconfig: "));
    let secret = one("users: [{token: hunter2}", &same);
    assert!(secret.starts_with("/f: line 1 column ") && !secret.contains("hunter2"), "{secret}");
}

#[test]
fn tokens_are_not_printed() {
    let config = KubernetesConfig {
        endpoint: Some("https://a".into()),
        token: Some("hunter2".into()),
        ..KubernetesConfig::default()
    };
    let text = format!("{:?}", access(config, &[], &[]).unwrap());
    assert!(text.contains("token") && !text.contains("hunter2"), "{text}");
}
