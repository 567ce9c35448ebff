//! Plugins that are shell scripts: what they print and how long they take is the test's.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::*;
use crate::arguments::Verb;

/// A configuration and arguments that lead to a plugin with this body.
fn plugin(dir: &Path, body: &str) -> (NetConf, Arguments) {
    // Written under another name: a file that a child of another test still has open for writing cannot be run.
    let (aside, path) = (dir.join("next"), dir.join("scripted"));
    std::fs::write(&aside, format!("#!/bin/sh\n{body}\n")).expect("written");
    std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o700)).expect("executable");
    std::fs::rename(aside, path).expect("renamed");
    let mut conf = NetConf::default();
    conf.ipam.plugin = "scripted".to_owned();
    let arguments = Arguments {
        verb: Verb::Add,
        container_id: "c1".to_owned(),
        netns: String::new(),
        ifname: "eth0".to_owned(),
        args: String::new(),
        path: dir.display().to_string(),
    };
    (conf, arguments)
}

#[tokio::test]
async fn a_plugin_that_never_answers_is_given_up() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (conf, arguments) = plugin(dir.path(), "exec tail -f /dev/null");
    let begun = std::time::Instant::now();
    let error = run_with(&conf, &arguments, "DEL", &conf.raw, Duration::from_millis(50))
        .await
        .expect_err("no answer");
    assert_eq!(error.code, Code::TryAgainLater.number(), "{error}");
    assert!(error.msg.contains("scripted") && error.details.contains("DEL"), "{error}");
    assert!(begun.elapsed() < PATIENCE);
}

#[tokio::test]
async fn dns_comes_with_the_addresses() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let answer =
        r#"{"ips": [{"address": "10.1.0.2/24"}], "dns": {"nameservers": ["10.1.0.1"], "search": ["x"]}}"#;
    let (conf, arguments) = plugin(dir.path(), &format!("cat > /dev/null; echo '{answer}'"));
    let given = add_one(&conf, &arguments, &conf.raw).await.expect("answered");
    let dns = given.dns.expect("DNS");
    assert_eq!((dns.servers, dns.searches), (vec!["10.1.0.1".to_owned()], vec!["x".to_owned()]));
}
