//! `calicoctl` on a real API server: what differs from the other datastores.

#![allow(clippy::disallowed_methods, reason = "a test of files writes a kubeconfig")]
#![allow(clippy::unwrap_used, reason = "what cannot be read or run fails the test")]

use std::path::Path;

use calico_api::document::parse_values;
use calico_ctl::Context;
use calico_testkit::api_server::{ADMIN, ApiServer};
use calico_testkit::captured::Captured;
use serde_json::{Value, json};

/// What a command line prints, on a kubeconfig's cluster; words stand between blanks.
fn run(kubeconfig: &Path, line: &str, input: &str) -> Result<String, String> {
    let (output, file) = (Captured::default(), kubeconfig.display().to_string());
    let mut context = Context {
        environment: Box::new(move |name| match name {
            "DATASTORE_TYPE" => Some("kubernetes".to_owned()),
            "KUBECONFIG" => Some(file.clone()),
            _ => None,
        }),
        input: Box::new(std::io::Cursor::new(input.as_bytes().to_vec())),
        output: Box::new(output.clone()),
        errors: Box::new(output.clone()),
    };
    let arguments = std::iter::once("calicoctl").chain(line.split(' ')).map(std::ffi::OsString::from);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(calico_ctl::run(arguments, &mut context));
    let text = output.text();
    result.map(|()| text).map_err(|e| format!("{e:#}"))
}

/// A server with our definitions.
fn start() -> Option<ApiServer> {
    let server = ApiServer::start(&[])?;
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/crds/v1");
    let files = std::fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    let documents = files.flat_map(|file| parse_values(&std::fs::read_to_string(file).unwrap()).unwrap());
    server.define(&documents.collect::<Vec<Value>>());
    Some(server)
}

/// IPAMConfiguration and IPAM's record are one object there: each verb must write it once.
fn ipams_settings_are_one_object(kubeconfig: &Path) {
    let settings = |strict: bool| {
        format!(
            "{{apiVersion: projectcalico.org/v3, kind: IPAMConfiguration, metadata: {{name: default}}, \
             spec: {{strictAffinity: {strict}, autoAllocateBlocks: true}}}}"
        )
    };
    let holds = |property: &str, value: &str| {
        let shown = run(kubeconfig, "ipam show --show-configuration", "").unwrap();
        let row = shown.lines().find(|l| l.contains(property)).unwrap_or_default();
        assert!(row.contains(&format!(" {value} ")), "{property}: {shown}");
    };
    let done = |verb: &str| Ok(format!("Successfully {verb} 1 'IPAMConfiguration' resource(s)\n"));
    assert_eq!(run(kubeconfig, "create -f -", &settings(true)), done("created"));
    holds("StrictAffinity", "true");
    // With the revision that was read: the write must not be taken for somebody else's.
    let patched = run(kubeconfig, r#"patch ipamconfig default -p {"spec":{"maxBlocksPerHost":7}}"#, "");
    assert_eq!(patched.unwrap(), "Successfully patched 1 'IPAMConfiguration' resource\n");
    holds("MaxBlocksPerHost", "7");
    assert_eq!(run(kubeconfig, "apply -f -", &settings(false)), done("applied"));
    holds("StrictAffinity", "false");
    run(kubeconfig, "ipam configure --ip-cooldown-seconds 9", "").unwrap();
    assert!(
        run(kubeconfig, "get ipamconfig default -o yaml", "").unwrap().contains("ipCooldownSeconds: 9\n")
    );
    assert_eq!(run(kubeconfig, "delete ipamconfig default", ""), done("deleted"));
    holds("IPCooldownSeconds", "0");
    run(kubeconfig, "ipam configure --ip-cooldown-seconds 5", "").unwrap();
    holds("IPCooldownSeconds", "5");
}

/// The current context leads nowhere; the other one to the server.
fn the_context_is_followed(server: &ApiServer) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("config");
    let user = json!({"name": "admin", "user": {"token": ApiServer::token(ADMIN)}});
    let cluster = |name: &str, url: &str| json!({"name": name, "cluster": {"server": url, "certificate-authority": server.ca()}});
    let context = |name: &str| json!({"name": name, "context": {"cluster": name, "user": "admin"}});
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "nowhere", "users": [user],
        "clusters": [cluster("nowhere", "https://127.0.0.1:1"), cluster("here", &server.url())],
        "contexts": [context("nowhere"), context("here")],
    });
    std::fs::write(&file, config.to_string()).unwrap();
    assert!(run(&file, "get ippools", "").is_err());
    assert!(run(&file, "get ippools --context here", "").unwrap().starts_with("NAME"));
    let error = run(&file, "get ippools --context elsewhere", "").unwrap_err();
    assert!(error.contains("elsewhere"), "{error}");
}

#[test]
fn what_differs_on_the_kubernetes_api() {
    let Some(server) = start() else { return };
    ipams_settings_are_one_object(&server.kubeconfig(ADMIN));
    the_context_is_followed(&server);
}
