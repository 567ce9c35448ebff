//! Tokens from files that change and from plugins that work, fail and hang back.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::*;

fn plugin(dir: &Path, script: &str) -> Login {
    let command = dir.join("plugin");
    std::fs::write(&command, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&command, std::fs::Permissions::from_mode(0o755)).unwrap();
    Login::Exec(Exec {
        command,
        args: vec!["arg".to_owned()],
        env: vec![("WHO".to_owned(), "me".to_owned())],
        api_version: "client.authentication.k8s.io/v1".to_owned(),
        install_hint: "install it".to_owned(),
        cluster: None,
    })
}

async fn token(credentials: &Credentials) -> Result<String, String> {
    match credentials.current().await {
        Ok(credential) => Ok(credential.token.unwrap_or_default()),
        Err(error) => Err(error.to_string()),
    }
}

#[tokio::test]
async fn a_renewed_file_is_read_when_the_old_token_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    std::fs::write(&path, "one\n").unwrap();
    let credentials = Credentials::new(Login::TokenFile(path.clone()));
    assert_eq!(token(&credentials).await.unwrap(), "one");
    std::fs::write(&path, "two").unwrap();
    assert_eq!(token(&credentials).await.unwrap(), "one");
    let refused = credentials.current().await.unwrap();
    credentials.discard(&refused).await;
    assert_eq!(token(&credentials).await.unwrap(), "two");
    // What somebody else renewed already is kept.
    credentials.discard(&refused).await;
    std::fs::write(&path, "").unwrap();
    assert_eq!(token(&credentials).await.unwrap(), "two");
    let empty = Credentials::new(Login::TokenFile(path.clone()));
    assert_eq!(token(&empty).await.unwrap_err(), format!("the token {} is empty", path.display()));
    let absent = Credentials::new(Login::TokenFile(dir.path().join("no")));
    assert!(token(&absent).await.unwrap_err().starts_with("cannot read the token "));
}

#[tokio::test]
async fn a_plugin_gives_a_token_until_it_expires() {
    let dir = tempfile::tempdir().unwrap();
    let counted = r#"echo x >> "$(dirname "$0")/calls"
n=$(wc -l < "$(dirname "$0")/calls")
case "$KUBERNETES_EXEC_INFO" in *client.authentication.k8s.io/v1*) ;; *) exit 3;; esac"#;
    let lasting = plugin(
        dir.path(),
        &format!(
            r#"{counted}
echo "{{\"status\":{{\"token\":\"$WHO-$1-$n\"}}}}""#
        ),
    );
    let credentials = Credentials::new(lasting);
    assert_eq!(token(&credentials).await.unwrap(), "me-arg-1");
    assert_eq!(token(&credentials).await.unwrap(), "me-arg-1");
    let expired = plugin(
        dir.path(),
        &format!(
            r#"{counted}
echo "{{\"status\":{{\"token\":\"t$n\",\"expirationTimestamp\":\"2020-01-01T00:00:00Z\"}}}}""#
        ),
    );
    let credentials = Credentials::new(expired);
    assert_eq!(token(&credentials).await.unwrap(), "t2");
    assert_eq!(token(&credentials).await.unwrap(), "t3");
}

#[tokio::test]
async fn a_plugin_that_wants_to_know_is_told_of_the_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let info = dir.path().join("info");
    let script = format!(
        r#"printf %s "$KUBERNETES_EXEC_INFO" > {}; echo '{{"status":{{"token":"t"}}}}'"#,
        info.display()
    );
    let ca = dir.path().join("ca.crt");
    let check = async |cluster: Option<ExecCluster>, expected: serde_json::Value| {
        let Login::Exec(exec) = plugin(dir.path(), &script) else { unreachable!() };
        token(&Credentials::new(Login::Exec(Exec { cluster, ..exec }))).await.map(|token| {
            assert_eq!(token, "t");
            let told: serde_json::Value = serde_json::from_slice(&std::fs::read(&info).unwrap()).unwrap();
            assert_eq!(told["spec"], expected);
        })
    };
    check(None, serde_json::json!({ "interactive": false })).await.unwrap();
    let plain = ExecCluster { server: "https://a:443".into(), ..ExecCluster::default() };
    let expected = serde_json::json!({ "interactive": false, "cluster": { "server": "https://a:443" } });
    check(Some(plain.clone()), expected).await.unwrap();
    let whole = ExecCluster {
        server_name: Some("kube".into()),
        insecure: true,
        ca: Some(Pem::File(ca.clone())),
        config: Some(serde_json::json!({ "audience": "x" })),
        ..plain
    };
    let error = check(Some(whole.clone()), serde_json::Value::Null).await.unwrap_err();
    let said = format!(
        "cannot read the certificate authority {}, which the credential plugin is to be told",
        ca.display()
    );
    assert_eq!(error, said);
    std::fs::write(&ca, "CERT").unwrap();
    let expected = serde_json::json!({ "interactive": false, "cluster": {
        "server": "https://a:443", "tls-server-name": "kube", "insecure-skip-tls-verify": true,
        "certificate-authority-data": "Q0VSVA==", "config": { "audience": "x" },
    } });
    check(Some(whole), expected).await.unwrap();
}

#[tokio::test]
async fn a_plugins_failure_is_told_in_its_words() {
    let dir = tempfile::tempdir().unwrap();
    let name = dir.path().join("plugin").display().to_string();
    for (script, expected) in [
        (
            "echo no session >&2; exit 1",
            format!("the credential plugin {name} failed (exit status: 1): no session"),
        ),
        ("echo '{}'", format!("the credential plugin {name} printed an ExecCredential without status")),
        (
            "echo '{\"status\":{}}'",
            format!("the credential plugin {name} gave neither a token nor a certificate with its key"),
        ),
    ] {
        let credentials = Credentials::new(plugin(dir.path(), script));
        assert_eq!(token(&credentials).await.unwrap_err(), expected);
    }
    let Login::Exec(mut exec) = plugin(dir.path(), "") else { unreachable!() };
    exec.command = dir.path().join("absent");
    let credentials = Credentials::new(Login::Exec(exec));
    let absent = dir.path().join("absent").display().to_string();
    assert_eq!(
        token(&credentials).await.unwrap_err(),
        format!("cannot run the credential plugin {absent}: install it")
    );
}
