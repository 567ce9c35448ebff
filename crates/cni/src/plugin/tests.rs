//! The plugin process without a datastore: versions, wrong input, an absent agent.

use super::*;

fn run_plugin(pairs: &[(&str, &str)], input: &str) -> (Value, bool) {
    let lookup = |name: &str| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned());
    let (document, code) = main(Plugin::Network, lookup, input.as_bytes());
    let value =
        if document.is_empty() { Value::Null } else { serde_json::from_str(&document).expect("JSON") };
    (value, code == ExitCode::SUCCESS)
}

const ADD: [(&str, &str); 4] = [
    ("CNI_COMMAND", "ADD"),
    ("CNI_CONTAINERID", "c1"),
    ("CNI_IFNAME", "eth0"),
    ("CNI_NETNS", "/proc/self/ns/net"),
];

#[test]
fn version_lists_all_and_echoes_the_one_asked_in() {
    for (input, expected) in
        [("{\"cniVersion\":\"0.4.0\"}", "0.4.0"), ("", "1.1.0"), ("{\"cniVersion\":\"9\"}", "1.1.0")]
    {
        let (answer, ok) = run_plugin(&[("CNI_COMMAND", "VERSION")], input);
        assert!(ok);
        assert_eq!(answer["cniVersion"], expected);
        assert_eq!(answer["supportedVersions"].as_array().map(Vec::len), Some(7));
    }
}

#[test]
fn errors_are_cni_json_in_the_asked_version() {
    for (verb, input, code) in [
        ("CHECK", r#"{"cniVersion":"0.3.1","name":"n"}"#, 1),
        ("STATUS", r#"{"cniVersion":"1.0.0","name":"n"}"#, 1),
        ("ADD", r#"{"cniVersion":"0.3.1","name":"n/"}"#, 7),
        ("ADD", r#"{"cniVersion":"7.0.0","name":"n"}"#, 1),
        ("ADD", "nonsense", 6),
        ("NONE", "{}", 4),
    ] {
        let pairs: Vec<_> = ADD[1..].iter().copied().chain([("CNI_COMMAND", verb)]).collect();
        let (answer, ok) = run_plugin(&pairs, input);
        assert!(!ok, "{verb} {input}");
        assert_eq!(answer["code"], code, "{verb} {input}: {answer}");
        assert!(answer["cniVersion"].is_string() && answer["msg"].is_string(), "{answer}");
    }
    let (answer, _) = run_plugin(&ADD, r#"{"cniVersion":"0.3.1","name":"n","mtu":1}"#);
    assert_eq!(answer["cniVersion"], "1.1.0", "the version is known only once the configuration is valid");
}

#[test]
fn a_missing_namespace_is_named() {
    let pairs = [ADD[0], ADD[1], ADD[2], ("CNI_NETNS", "/nonexistent/netns")];
    let (answer, ok) = run_plugin(&pairs, r#"{"cniVersion":"1.0.0","name":"n"}"#);
    assert!(
        !ok && answer["code"] == 4 && answer["details"].to_string().contains("/nonexistent/netns"),
        "{answer}"
    );
}

#[test]
fn a_status_file_of_the_pods_previous_life_is_not_waited_for() {
    let mac = Some(Mac([2, 0, 0, 0, 0, 1]));
    let file = |mac: &str| json!({"ifaceName": "cali1", "mac": mac, "ipv4Nets": []}).to_string();
    for (content, expected) in [
        (file("02:00:00:00:00:01"), true),
        (file("02:00:00:00:00:02"), false),
        (file(""), true),
        (String::new(), true),
    ] {
        assert_eq!(is_of(content.as_bytes(), mac), expected, "{content}");
        assert!(is_of(content.as_bytes(), None));
    }
}

#[test]
fn a_del_that_can_never_be_done_is_not_spooled() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let spool = dir.path().join("spool");
    let conf = |members: Value| {
        let mut conf = json!({
            "cniVersion": "1.0.0",
            "name": "n",
            "ipam": {"type": "calico-ipam"},
            "agent_socket": dir.path().join("absent.sock"),
            "spool_dir": spool,
        });
        conf.as_object_mut().expect("object").extend(members.as_object().expect("object").clone());
        conf.to_string()
    };
    let del = [("CNI_COMMAND", "DEL"), ADD[1], ADD[2]];
    let dashed = [del[0], ADD[1], ADD[2], ("CNI_ARGS", "K8S_POD_NAMESPACE=ns;K8S_POD_NAME=-x")];
    for (pairs, members, code) in [
        (&del[..], json!({"device_type": "macvlan"}), 7),
        (&del[..], json!({"ipam": {"type": "a/b"}}), 7),
        (&dashed[..], json!({}), 4),
    ] {
        let (answer, ok) = run_plugin(pairs, &conf(members));
        assert!(!ok && answer["code"] == code, "{answer}");
        assert_eq!(spool::list(&spool).expect("listed").len(), 0);
    }
    assert_eq!(run_plugin(&del, &conf(json!({}))), (Value::Null, true));
    assert_eq!(spool::list(&spool).expect("listed").len(), 1);
}

#[test]
fn a_verb_is_done_though_its_log_cannot_be_written() {
    // Standard error is the process's: a process of this test's own has one that is always full.
    const SPOOL: &str = "CALICO_TEST_SPOOL";
    if let Ok(dir) = std::env::var(SPOOL) {
        let dir = Path::new(&dir);
        let socket = dir.join("absent.sock");
        let ipam = json!({"type": "calico-ipam"});
        let conf = json!({"cniVersion": "1.0.0", "name": "n", "ipam": ipam, "agent_socket": socket, "spool_dir": dir});
        let del = [("CNI_COMMAND", "DEL"), ADD[1], ADD[2]];
        assert_eq!(run_plugin(&del, &conf.to_string()), (Value::Null, true));
        return;
    }
    let spool = tempfile::tempdir().expect("temporary directory");
    let name = "plugin::tests::a_verb_is_done_though_its_log_cannot_be_written";
    let output = std::process::Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", name, "--nocapture"])
        .env(SPOOL, spool.path())
        .stderr(File::options().write(true).open("/dev/full").expect("there"))
        .output()
        .expect("run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(spool::list(spool.path()).expect("listed").len(), 1);
}

#[test]
fn who_waits_how_long_for_an_agent_that_hangs() {
    let longest = |verb| Patience::of(verb).connect + Patience::of(verb).answer;
    assert!(longest(Verb::Status) <= Duration::from_secs(6));
    assert!(longest(Verb::Del) <= Duration::from_secs(21));
    for verb in [Verb::Add, Verb::Check, Verb::Gc] {
        // IPAM alone may take 90 s.
        assert!(Patience::of(verb).answer > Duration::from_secs(90), "{verb:?}");
    }
}

#[test]
fn a_hung_agent_is_named_and_its_del_goes_to_the_spool() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let (socket, spool) = (dir.path().join("hung.sock"), dir.path().join("spool"));
    // It listens, and accepts nothing.
    let _agent = std::os::unix::net::UnixListener::bind(&socket).expect("bound");
    let raw =
        json!({"name": "n", "ipam": {"type": "calico-ipam"}, "agent_socket": socket, "spool_dir": spool});
    let (conf, _) = NetConf::from_value(raw).expect("valid");
    let patience = Patience { connect: Duration::from_secs(1), answer: Duration::from_millis(50) };
    let asked = |verb| {
        let container =
            Arguments { container_id: "c1".into(), ifname: "eth0".into(), ..Arguments::of_verb(verb) };
        let netconf = conf.raw.clone();
        let request = Request { protocol: PROTOCOL, plugin: Plugin::Network, arguments: container, netconf };
        ask(&conf, &request, None, patience)
    };
    let error = asked(Verb::Status).expect_err("nobody answers");
    let expected = format!("the agent was connected to on {} and said nothing for 50ms", socket.display());
    assert_eq!((error.msg.as_str(), error.details), ("the agent did not answer", expected));
    assert_eq!(asked(Verb::Del), Ok(None));
    assert_eq!(spool::list(&spool).expect("listed").len(), 1);
}
