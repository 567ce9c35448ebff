//! Wrong command lines and datastores: what `calicoctl` says.

use std::process::Command;

use crate::{binary, differences, run, text};

/// Arguments between blanks, changes to the environment, and the whole of standard error. `DIR` is the temporary
/// directory.
const CASES: [(&str, &[(&str, &str)], &str); 41] = [
    (
        "get nodez",
        &[],
        "failed to get resources: resource type 'nodez' is not supported; did you mean \"nodes\"?",
    ),
    (
        "get widgets",
        &[],
        "failed to get resources: resource type 'widgets' is not supported; use one such as nodes or networkpolicies",
    ),
    (
        "delete ipool x",
        &[],
        "failed to execute command: resource type 'ipool' is not supported; did you mean \"ippool\"?",
    ),
    (
        "delete ippool",
        &[],
        "failed to execute command: names of the resources to delete are needed; give them after the kind",
    ),
    (
        "patch networkpolicie x -p {}",
        &[],
        "failed to execute command: resource type 'networkpolicie' is not supported; did you mean \"networkpolicies\"?",
    ),
    (
        "label hostendpoint5 x a=b",
        &[],
        "failed to execute command: resource type 'hostendpoint5' is not supported; did you mean \"hostendpoints\"?",
    ),
    (
        "patch tier default -p hello",
        &[],
        "Failed to patch 'Tier' resource: --patch: \"hello\": is no map; use one such as {\"spec\":{\"order\":5}}",
    ),
    (
        "patch tier default -p {\"spec\":",
        &[],
        "Failed to patch 'Tier' resource: --patch: line 1 column 1: unclosed bracket '{'",
    ),
    (
        "patch tier default -p {} -t mrge",
        &[],
        "error: invalid value 'mrge' for '--type <KIND_OF_PATCH>'\n  [possible values: strategic, merge]\n\n  tip: a similar value exists: 'merge'\n\nFor more information, try '--help'.",
    ),
    (
        "get node -o xml",
        &[],
        "unrecognized output format 'xml'; use ps, wide, yaml, json or custom-columns=NAME,…",
    ),
    ("get node -o jsno", &[], "unrecognized output format 'jsno'; did you mean \"json\"?"),
    (
        "get node -o custom-column=NAME",
        &[],
        "unrecognized output format 'custom-column=NAME'; did you mean \"custom-columns\"?",
    ),
    (
        "get node -o custom-columns",
        &[],
        "output format 'custom-columns' names no columns; use custom-columns=NAME,…",
    ),
    ("get node -o custom-columns=NAM", &[], "Node has no column NAM; did you mean \"NAME\"?"),
    (
        "get node -o custom-columns=PEERS",
        &[],
        "Node has no column PEERS; use some of ASN, IPV4, IPV6, NAME, NAMESPACE",
    ),
    (
        "bgp plan -o jsn",
        &[],
        "error: invalid value 'jsn' for '--output <OUTPUT>'\n  [possible values: ps, json, yaml]\n\n  tip: a similar value exists: 'json'\n\nFor more information, try '--help'.",
    ),
    (
        "ipam configure",
        &[],
        "nothing to configure; give --strictaffinity, --max-blocks-per-host or --ip-cooldown-seconds",
    ),
    (
        "get node --otput yaml",
        &[],
        "error: unexpected argument '--otput' found\n\n  tip: a similar argument exists: '--output'\n\nUsage: calicoctl get --output <OUTPUT> <KIND> [NAMES]...\n\nFor more information, try '--help'.",
    ),
    (
        "ipam shw",
        &[],
        "error: unrecognized subcommand 'shw'\n\n  tip: a similar subcommand exists: 'show'\n\nUsage: calicoctl ipam [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.",
    ),
    (
        "aply -f x",
        &[],
        "error: unrecognized subcommand 'aply'\n\n  tip: a similar subcommand exists: 'apply'\n\nUsage: calicoctl [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.",
    ),
    (
        "get node -c DIR/own.cfg",
        &[],
        "Error reading config file: DIR/own.cfg: document 1 (CalicoAPIConfig): spec.etcdEndpoint: this field is not known here; did you mean \"etcdEndpoints\"?",
    ),
    (
        "get node -c DIR/etcd.cfg",
        &[],
        "Error reading config file: DIR/etcd.cfg: datastoreType: \"etcd\" is not etcdv3, kubernetes or embedded",
    ),
    ("get node nosuch", &[], "failed to get resources: resource does not exist: Node(nosuch)"),
    (
        "create -f DIR/none.yaml",
        &[],
        "failed to execute command: DIR/none.yaml: No such file or directory (os error 2)",
    ),
    (
        "get node -c DIR/none.cfg",
        &[],
        "Error reading config file: DIR/none.cfg: No such file or directory (os error 2)",
    ),
    (
        "delete node nosuch",
        &[],
        "Failed to delete 'Node' resource: resource does not exist: Node(nosuch)\nfailed to delete 1 out of 1 resources",
    ),
    (
        "ipam release --ip 10.0.0",
        &[],
        "error: invalid value '10.0.0' for '--ip <IP>': invalid IP address syntax\n\nFor more information, try '--help'.",
    ),
    (
        "node status --socket DIR/none.ctl",
        &[],
        "Calico process is not running: BIRD does not answer on DIR/none.ctl: No such file or directory (os error 2)",
    ),
    (
        "frob",
        &[],
        "error: unrecognized subcommand 'frob'\n\nUsage: calicoctl [OPTIONS] <COMMAND>\n\nFor more information, try '--help'.",
    ),
    (
        "get node",
        &[("DATASTORE_TYPE", "etcd")],
        "DATASTORE_TYPE: \"etcd\" is not etcdv3, kubernetes or embedded",
    ),
    (
        "get node",
        &[("DATASTORE_TYPE", "etcdv3")],
        "DATASTORE_TYPE is set but ETCD_ENDPOINTS is not: etcd has no address",
    ),
    (
        "get node",
        &[("DATASTORE_TYPE", "etcdv3"), ("ETCD_ENDPOINTS", "127.0.0.1:2379")],
        "ETCD_ENDPOINTS: \"127.0.0.1:2379\" is not of the form http://host:port or https://host:port",
    ),
    (
        "get node",
        &[("DATASTORE_TYPE", "etcdv3"), ("ETCD_ENDPOINTS", "https://a:1"), ("ETCD_KEY_FILE", "/k")],
        "ETCD_KEY_FILE is set but the certificate is not: a client certificate and its private key go together",
    ),
    (
        "get node",
        &[("DATASTORE_TYPE", "etcdv3"), ("ETCD_ENDPOINTS", "http://127.0.0.1:1,http://127.0.0.1:2")],
        "failed to get resources: cannot list /calico/resources/v3/projectcalico.org/nodes/: the datastore does not answer: etcd at http://127.0.0.1:1,http://127.0.0.1:2: Connection refused (os error 111)",
    ),
    (
        "delete tier t",
        &[("DATASTORE_TYPE", "etcdv3"), ("ETCD_ENDPOINTS", "http://127.0.0.1:1")],
        "Failed to delete 'Tier' resource: cannot list /calico/resources/v3/projectcalico.org/globalnetworkpolicies/: the datastore does not answer: etcd at http://127.0.0.1:1: Connection refused (os error 111)\nfailed to delete 1 out of 1 resources",
    ),
    (
        "apply -f DIR/tier.yaml",
        &[("DATASTORE_TYPE", "etcdv3"), ("ETCD_ENDPOINTS", "http://127.0.0.1:1")],
        "failed to apply 'Tier' resource: cannot write to the datastore: the datastore does not answer: etcd at http://127.0.0.1:1: Connection refused (os error 111)",
    ),
    (
        "get node",
        &[
            ("DATASTORE_TYPE", "etcdv3"),
            ("ETCD_ENDPOINTS", "http://127.0.0.1:1"),
            ("ETCD_USERNAME", "u"),
            ("ETCD_PASSWORD", "p"),
        ],
        "cannot connect to etcd at http://127.0.0.1:1: the datastore does not answer: Connection refused (os error 111)",
    ),
    (
        "get node",
        &[
            ("DATASTORE_TYPE", "etcdv3"),
            ("ETCD_ENDPOINTS", "https://127.0.0.1:1"),
            ("ETCD_CA_CERT_FILE", "DIR/none.pem"),
        ],
        "cannot read DIR/none.pem: No such file or directory (os error 2)",
    ),
    (
        "get node",
        &[("DATASTORE_TYPE", ""), ("ETCD_ENDPOINTS", "http://a:1")],
        "ETCD_ENDPOINTS and CALICO_DATASTORE_PATH are both set: set the datastore type to etcdv3 or embedded",
    ),
    (
        "get node",
        &[("DATASTORE_TYPE", "kubernetes")],
        "no API server is named; set KUBECONFIG or K8S_API_ENDPOINT (in a pod, KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT name it)",
    ),
    (
        "get node",
        &[("CALICO_DATASTORE_PATH", "/proc/none/store.db")],
        "cannot open the datastore /proc/none/store.db: the datastore does not answer: there is no such file; `calico node` or the first `calicoctl apply` makes it, and CALICO_DATASTORE_PATH says where it is",
    ),
];

#[test]
fn reading_makes_no_datastore() {
    let dir = tempfile::tempdir().unwrap();
    let calicoctl = binary(dir.path(), "calicoctl");
    let store = dir.path().join("sub/store.db");
    let environment = [("DATASTORE_TYPE", "embedded"), ("CALICO_DATASTORE_PATH", store.to_str().unwrap())];
    let call = |line: &str, input: &str| {
        run(Command::new(&calicoctl).args(line.split(' ')), &environment, input).status.success()
    };
    let tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: t}}";
    for line in ["get nodes", "ipam show", "bgp plan", "delete tier t", "replace -f -", "label node n a=b"] {
        assert!(!call(line, tier), "{line}");
        assert!(!store.parent().unwrap().exists(), "{line}");
    }
    assert!(call("apply -f -", tier));
    assert!(call("get tier t", ""));
}

#[test]
fn a_wrong_command_or_datastore_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let here = dir.path().to_str().unwrap();
    let store = format!("{here}/store.db");
    for (name, spec) in [("own", "{etcdEndpoint: a}"), ("etcd", "{datastoreType: etcd}")] {
        let text = format!("apiVersion: projectcalico.org/v3\nkind: CalicoAPIConfig\nspec: {spec}\n");
        std::fs::write(dir.path().join(format!("{name}.cfg")), text).unwrap();
    }
    let tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: t}}";
    std::fs::write(dir.path().join("tier.yaml"), tier).unwrap();
    drop(calico_store::EmbeddedStore::open(&store).unwrap());
    let calicoctl = binary(dir.path(), "calicoctl");
    let call = |arguments: &str, variables: &[(&str, &str)]| {
        let arguments: Vec<String> = arguments.split(' ').map(|a| a.replace("DIR", here)).collect();
        let changed: Vec<(&str, String)> =
            variables.iter().map(|(n, v)| (*n, v.replace("DIR", here))).collect();
        let mut environment = vec![("DATASTORE_TYPE", "embedded"), ("CALICO_DATASTORE_PATH", store.as_str())];
        environment.extend(changed.iter().map(|(name, value)| (*name, value.as_str())));
        let output = run(Command::new(&calicoctl).args(&arguments), &environment, "");
        (output.status.code(), text(&output.stderr).replace(here, "DIR"))
    };
    let wrong = differences(CASES.iter().map(|(arguments, variables, message)| {
        (format!("calicoctl {arguments} {variables:?}"), (1, *message), call(arguments, variables))
    }));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
