//! Whole commands against an embedded store: Calico's own data in, Calico's own output out.

use std::path::Path;

use calico_api::{Key, Write as Step};
use calico_store::Store;
use calico_testkit::captured::Captured;

use crate::Context;

/// In a command line: without `--allow-version-mismatch`.
const OWN_VERSION_ONLY: &str = " #own-version";

/// A datastore of its own, with calicoctl pointed at it.
struct Bench {
    directory: tempfile::TempDir,
}

/// What a command did: standard output and error, and how it ended.
#[derive(Debug, PartialEq)]
struct Outcome {
    output: String,
    result: Result<(), String>,
}

impl Bench {
    fn new() -> Bench {
        let bench = Bench { directory: tempfile::tempdir().unwrap() };
        drop(calico_store::EmbeddedStore::open(bench.path()).unwrap());
        bench
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("datastore.db")
    }

    fn run_with(&self, line: &str, input: &str) -> Outcome {
        let output = Captured::default();
        let path = self.path().display().to_string();
        let mut context = Context {
            environment: Box::new(move |name| match name {
                "DATASTORE_TYPE" => Some("embedded".to_owned()),
                "CALICO_DATASTORE_PATH" => Some(path.clone()),
                _ => None,
            }),
            input: Box::new(std::io::Cursor::new(input.as_bytes().to_vec())),
            output: Box::new(output.clone()),
            errors: Box::new(output.clone()),
        };
        // The sample clusters are of Calico's versions; the check has a test of its own.
        let line = if line.contains(OWN_VERSION_ONLY) {
            line.replace(OWN_VERSION_ONLY, "")
        } else {
            format!("{line} --allow-version-mismatch")
        };
        let arguments = std::iter::once("calicoctl").chain(line.split(' ')).map(std::ffi::OsString::from);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(crate::run(arguments, &mut context)).map_err(|e| format!("{e:#}"));
        let output = output.text();
        Outcome { output, result }
    }

    fn run(&self, line: &str) -> Outcome {
        self.run_with(line, "")
    }

    /// The output of a command that must succeed.
    fn output(&self, line: &str) -> String {
        let Outcome { output, result } = self.run(line);
        assert_eq!(result, Ok(()), "{line}: {output}");
        output
    }

    /// What a command that must fail says.
    fn failure(&self, line: &str, input: &str) -> String {
        let Outcome { output, result } = self.run_with(line, input);
        result.expect_err(&output)
    }

    fn apply(&self, text: &str) {
        let outcome = self.run_with("apply -f -", text);
        assert_eq!(outcome.result, Ok(()), "{outcome:?}");
    }

    /// What is stored under a key.
    fn stored(&self, key: &str) -> Option<String> {
        let store = calico_store::EmbeddedStore::open(self.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let entry = runtime.block_on(store.get(&Key::parse(key).unwrap())).unwrap();
        entry.map(|e| String::from_utf8(e.value.to_vec()).unwrap())
    }

    /// Stores entries as they are.
    fn load(&self, entries: &[(String, String)]) {
        let store = calico_store::EmbeddedStore::open(self.path()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for (key, value) in entries {
            let write = Step::put(Key::parse(key).unwrap(), value.clone().into());
            runtime.block_on(store.commit(&[write])).unwrap();
        }
    }
}

/// A file of the reference data; `None`, with a line that says so, where there is none.
fn reference(name: &str) -> Option<String> {
    let root = std::env::var("CALICO_SHARED")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared").to_owned());
    let data = Path::new(&root).join("data");
    if !data.exists() {
        println!("skipped: no ../shared");
    }
    // A kind may have no output of one form.
    std::fs::read_to_string(data.join(name)).ok()
}

fn samples() -> Option<Vec<(String, String)>> {
    let text = reference("etcd-samples.txt")?;
    let lines: Vec<&str> = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#')).collect();
    Some(lines.chunks(2).map(|pair| (pair[0].to_owned(), pair[1].to_owned())).collect())
}

/// Revisions differ from store to store.
fn without_revisions(text: &str) -> String {
    text.lines()
        .map(|line| match line.split_once("resourceVersion: ") {
            // The built-in profile's is fixed.
            Some((before, revision)) if revision != "\"1\"" => format!("{before}resourceVersion: …\n"),
            _ => format!("{line}\n"),
        })
        .collect()
}

#[test]
fn yaml_and_tables_are_calicos() {
    let Some(samples) = samples() else { return };
    let bench = Bench::new();
    bench.load(&samples);
    let kinds = [
        "bgpconfig",
        "bgpfilter",
        "bgppeer",
        "caliconodestatus",
        "clusterinfo",
        "felixconfig",
        "gnp",
        "hep",
        "ipamconfig",
        "ippool",
        "ipreservation",
        "kubecontrollersconfig",
        "networkset",
        "node",
        "np",
        "profile",
        "sgnp",
        "sknp",
        "snp",
        "tier",
        "wep",
    ];
    let mut compared = 0;
    for kind in kinds {
        for (format, file) in [("yaml", format!("{kind}.yaml")), ("wide", format!("{kind}.wide.txt"))] {
            let Some(expected) = reference(&format!("calicoctl-outputs/{file}")) else { continue };
            let output = bench.output(&format!("get {kind} -o {format} -A"));
            assert_eq!(without_revisions(&output), without_revisions(&expected), "{file}");
            compared += 1;
        }
    }
    assert!(compared >= 35, "only {compared} compared");
}

const POLICY: &str = "
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: app == 'web'
  ingress:
  - {action: Allow, protocol: TCP, destination: {ports: [80]}}
";

#[test]
fn a_resource_lives_its_life() {
    let bench = Bench::new();
    assert_eq!(
        bench.run_with("create -f -", POLICY).output,
        "Successfully created 1 'NetworkPolicy' resource(s)\n"
    );
    let again = bench.failure("create -f -", POLICY);
    assert_eq!(
        again,
        "failed to create 'NetworkPolicy' resource: resource already exists: NetworkPolicy(shop/web)"
    );
    let skipped = bench.run_with("create -f - --skip-exists", POLICY);
    assert_eq!(skipped.result, Ok(()));

    assert_eq!(
        bench.output("get np -n shop"),
        "NAMESPACE   NAME   TIER      \nshop        web    default   \n\n"
    );
    assert_eq!(bench.output("get np"), "NAME   TIER   \n\n");
    let yaml = bench.output("get np web -n shop -o yaml --export");
    let expected = "apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata:
  labels:
    projectcalico.org/tier: default
  name: web
  namespace: shop
spec:
  ingress:
  - action: Allow
    destination:
      ports:
      - 80
    protocol: TCP
  selector: app == 'web'
  tier: default
  types:
  - Ingress
";
    assert_eq!(yaml, expected);

    let patched = bench.output("patch np web -n shop -p {\"spec\":{\"order\":7,\"selector\":null}}");
    assert_eq!(patched, "Successfully patched 1 'NetworkPolicy' resource\n");
    assert_eq!(
        bench.output("get np web -n shop -o wide"),
        "NAMESPACE   NAME   TIER      ORDER   SELECTOR   \nshop        web    default   7                  \n\n"
    );
    assert_eq!(
        bench.output("get np web -n shop -o custom-columns=NAME,ORDER"),
        "NAME   ORDER   \nweb    7       \n\n"
    );
    assert_eq!(bench.output("label np web -n shop a=b"), "Successfully set label a on NetworkPolicy web\n");
    assert!(bench.failure("label np web -n shop a=c", "").contains("--overwrite"));
    assert_eq!(
        bench.output("label np web -n shop a=c --overwrite"),
        "Successfully updated label a on NetworkPolicy web\n"
    );
    assert_eq!(
        bench.output("label np web -n shop a --remove"),
        "Successfully removed label a from NetworkPolicy web\n"
    );
    assert_eq!(bench.output("delete np web -n shop"), "Successfully deleted 1 'NetworkPolicy' resource(s)\n");
    let gone = bench.run("delete np web -n shop");
    assert!(gone.output.contains("resource does not exist: NetworkPolicy(shop/web)"), "{gone:?}");
    assert!(gone.result.is_err());
    assert_eq!(bench.run("delete np web -n shop -s").result, Ok(()));
    assert_eq!(
        bench.failure("replace -f -", POLICY),
        "failed to replace 'NetworkPolicy' resource: resource does not exist: NetworkPolicy(shop/web)"
    );
}

#[test]
fn server_owned_metadata_survives_apply_and_stale_versions_are_refused() {
    let bench = Bench::new();
    bench.apply(POLICY);
    let before = bench.output("get np web -n shop -o yaml");
    bench.apply(&POLICY.replace("[80]", "[81]"));
    let after = bench.output("get np web -n shop -o yaml");
    let field = |text: &str, name: &str| {
        text.lines().find(|l| l.trim_start().starts_with(name)).map(str::to_owned).unwrap()
    };
    for name in ["uid:", "creationTimestamp:"] {
        assert_eq!(field(&before, name), field(&after, name));
    }
    assert_ne!(field(&before, "resourceVersion:"), field(&after, "resourceVersion:"));
    let stale = bench.failure("replace -f -", &before);
    assert!(stale.contains("update conflict: NetworkPolicy(shop/web)"), "{stale}");
    assert_eq!(bench.run_with("replace -f -", &after).result, Ok(()));
}

#[test]
fn mixed_files_are_reported_as_calico_does() {
    let bench = Bench::new();
    let good = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: good}}";
    let bad =
        "{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {name: bad}, spec: {cidr: 10.0.0.1/8}}";
    let outcome = bench.run_with("apply -f -", &format!("{good}\n---\n{bad}\n"));
    assert_eq!(outcome.output, "Partial success: applied the first 1 out of 2 resources:\n");
    let error = outcome.result.unwrap_err();
    assert!(
        error.starts_with(
            "hit error: standard input: document 2 (IPPool bad): spec.cidr: \"10.0.0.1/8\": has host bits set"
        ),
        "{error}"
    );
    assert_eq!(bench.run_with("apply -f -", "").output, "No resources specified\n");
    let error = bench.failure("apply -f -", "kind: Nonsense");
    assert!(
        error.starts_with("failed to execute command: standard input: document 1 (Nonsense): kind"),
        "{error}"
    );
    assert_eq!(
        bench.failure("get nonsense", ""),
        "failed to get resources: resource type 'nonsense' is not supported; use one such as nodes or networkpolicies"
    );
    assert_eq!(
        bench.failure("get node nowhere", ""),
        "failed to get resources: resource does not exist: Node(nowhere)"
    );
}

#[test]
fn what_a_file_of_several_kinds_names_is_one_document() {
    let bench = Bench::new();
    let tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: sec}, spec: {order: 5}}";
    let file = format!("{tier}\n---{POLICY}");
    bench.apply(&file);
    for format in ["yaml", "json"] {
        let shown = bench.run_with(&format!("get -f - --export -o {format}"), &file).output;
        let values = calico_api::document::parse_values(&shown).unwrap();
        let [serde_json::Value::Array(list)] = &values[..] else { panic!("{shown}") };
        assert_eq!(
            list.iter().map(|r| r["kind"].as_str().unwrap()).collect::<Vec<_>>(),
            ["Tier", "NetworkPolicy"]
        );
        let again = bench.run_with("apply -f -", &shown);
        assert_eq!(again.output, "Successfully applied 2 resource(s)\n", "{again:?}");
    }
    // Tables stand one below the other.
    let tables = bench.run_with("get -f -", &file).output;
    assert!(tables.contains("NAME   ORDER") && tables.contains("NAMESPACE   NAME   TIER"), "{tables}");
}

#[test]
fn rules_beyond_one_resource_hold() {
    let bench = Bench::new();
    let pool = |name: &str, cidr: &str| {
        format!(
            "{{apiVersion: projectcalico.org/v3, kind: IPPool, metadata: {{name: {name}}}, spec: {{cidr: {cidr}}}}}"
        )
    };
    bench.apply(&pool("a", "10.0.0.0/16"));
    let overlap = bench.failure("apply -f -", &pool("b", "10.0.1.0/24"));
    assert!(overlap.contains("spec.cidr: \"10.0.1.0/24\": overlaps IPPool a"), "{overlap}");
    let moved = bench.failure("apply -f -", &pool("a", "10.1.0.0/16"));
    assert!(moved.contains("spec.cidr: \"10.1.0.0/16\": cannot change"), "{moved}");
    assert_eq!(bench.output("delete ippool a"), "Successfully deleted 1 'IPPool' resource(s)\n");

    let tier = "{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: sec}, spec: {order: 5}}";
    let policy = POLICY.replace("spec:", "spec:\n  tier: sec");
    assert!(bench.failure("apply -f -", &policy).contains("spec.tier: \"sec\": is no tier"));
    bench.apply(tier);
    bench.apply(&policy);
    let used = bench.run("delete tier sec");
    assert!(used.output.contains("NetworkPolicy(shop/web) is in it"), "{used:?}");
    assert!(bench.run("delete tier default").output.contains("it is built in"));
    assert!(bench.run("delete profile projectcalico-default-allow").result.is_err());
    let cluster = "{apiVersion: projectcalico.org/v3, kind: ClusterInformation, metadata: {name: default}}";
    assert!(bench.failure("apply -f -", cluster).contains("not supported"));
}

#[test]
fn ipam_is_shown_checked_released_and_configured() {
    let Some(samples) = samples() else { return };
    let bench = Bench::new();
    bench.load(&samples);
    let shown = bench.output("ipam show --show-blocks");
    assert!(shown.contains("| IP Pool  | 10.244.0.0/16   | 65536 "), "{shown}");
    assert!(shown.contains("| Block    | 10.244.119.0/26 | 64 "), "{shown}");
    let address = bench.output("ipam show --ip 10.244.119.0");
    assert!(
        address.starts_with("IP 10.244.119.0 is in use\nHandle ID: k8s-pod-network.cont-1\nAttributes:\n")
    );
    assert_eq!(bench.output("ipam show --ip 10.244.119.9"), "10.244.119.9 is not assigned\n");
    let check = bench.output("ipam check --show-problem-ips");
    assert!(check.contains("3 addresses are assigned"), "{check}");
    assert!(
        check.contains("10.244.119.0 is assigned to handle k8s-pod-network.cont-1 and nothing uses it"),
        "{check}"
    );
    let released = bench.output("ipam release --ip 10.244.119.0");
    assert_eq!(released, "Successfully released IP address 10.244.119.0\n");
    assert_eq!(bench.output("ipam release --ip 10.244.119.0"), "IP address 10.244.119.0 is not assigned\n");
    let set = bench.output("ipam configure --strictaffinity true");
    assert_eq!(set, "Successfully set StrictAffinity to: true\n");
    assert!(bench.output("ipam show --show-configuration").contains("| StrictAffinity     | true  |"));
    let affinity = bench.output("get blockaffinity host1-10-244-119-0-26 -o yaml --export");
    let spec =
        "spec:\n  cidr: 10.244.119.0/26\n  deleted: false\n  node: host1\n  state: confirmed\n  type: host\n";
    assert!(affinity.ends_with(spec), "{affinity}");
    assert!(bench.output("ipam show --show-borrowed").contains("BORROWING-NODE"));
}

#[test]
fn both_places_of_ipams_settings_say_the_same() {
    let bench = Bench::new();
    let record = || bench.stored("/calico/ipam/v2/config");
    bench.output("ipam configure --strictaffinity true --max-blocks-per-host 3");
    let both = r#"{"strict_affinity":true,"auto_allocate_blocks":true,"maxBlocksPerHost":3}"#;
    assert_eq!(record().as_deref(), Some(both));
    let wide = bench.output("get ipamconfig -o wide");
    assert!(wide.contains("default   true             true                 3 "), "{wide}");
    bench.output("ipam configure --ip-cooldown-seconds 9");
    assert!(bench.output("get ipamconfig default -o yaml").contains("ipCooldownSeconds: 9\n"));
    assert!(bench.failure("ipam configure --strictaffinity false", "").contains("maxBlocksPerHost"));

    bench.load(&[(
        "/calico/ipam/v2/config".to_owned(),
        r#"{"strict_affinity":true,"auto_allocate_blocks":true,"fromTheFuture":1}"#.to_owned(),
    )]);
    let settings = "{apiVersion: projectcalico.org/v3, kind: IPAMConfiguration, metadata: {name: default},
                     spec: {strictAffinity: false, autoAllocateBlocks: true, ipCooldownSeconds: 4}}";
    bench.apply(settings);
    let applied = r#"{"auto_allocate_blocks":true,"ipCooldownSeconds":4,"fromTheFuture":1}"#;
    assert_eq!(record().as_deref(), Some(applied), "IPAM follows the resource");
    bench.output(r#"patch ipamconfig default -p {"spec":{"strictAffinity":true}}"#);
    assert!(bench.output("ipam show --show-configuration").contains("| StrictAffinity     | true  |"));
    let contradiction = settings.replace("autoAllocateBlocks: true", "autoAllocateBlocks: false");
    assert!(bench.failure("apply -f -", &contradiction).contains("spec.autoAllocateBlocks"));
    bench.output("delete ipamconfig default");
    assert_eq!(record(), None, "the defaults hold again");
    bench.apply(settings);
    assert!(record().is_some());
}

#[test]
fn both_places_of_ipams_settings_survive_a_race() {
    let bench = Bench::new();
    bench.output("ipam configure --strictaffinity true");
    let bench = &bench;
    std::thread::scope(|scope| {
        for writer in 0..4 {
            scope.spawn(move || {
                for round in 0..5 {
                    let seconds = 10 * writer + round;
                    bench.output(&format!("ipam configure --ip-cooldown-seconds {seconds}"));
                    bench.output(&format!("ipam configure --max-blocks-per-host {}", seconds + 1));
                }
            });
        }
        let settings =
            "{apiVersion: projectcalico.org/v3, kind: IPAMConfiguration, metadata: {name: default},
                         spec: {strictAffinity: true, autoAllocateBlocks: true}}";
        scope.spawn(move || bench.apply(settings));
    });
    let record = bench.stored("/calico/ipam/v2/config").unwrap();
    let resource = bench.stored("/calico/resources/v3/projectcalico.org/ipamconfigurations/default").unwrap();
    let record: calico_api::IpamConfig = serde_json::from_str(&record).unwrap();
    let resource: serde_json::Value = serde_json::from_str(&resource).unwrap();
    let spec: calico_api::IPAMConfigurationSpec = serde_json::from_value(resource["spec"].clone()).unwrap();
    assert_eq!(record.clone().with_spec(&spec), record, "{resource}");
}

#[test]
fn a_cluster_of_another_version_is_refused() {
    let bench = Bench::new();
    bench.output("get nodes #own-version");
    let version = |text: &str| {
        let key = "/calico/resources/v3/projectcalico.org/clusterinformations/default".to_owned();
        let kind = r#""kind":"ClusterInformation","apiVersion":"projectcalico.org/v3""#;
        let rest = format!(r#""metadata":{{"name":"default"}},"spec":{{"calicoVersion":"{text}"}}"#);
        bench.load(&[(key, format!("{{{kind},{rest}}}"))]);
    };
    version(concat!("v", env!("CARGO_PKG_VERSION"), "-5-gabcdef"));
    bench.output("get nodes #own-version");
    version("v3.30.1");
    let refused = bench.failure("get nodes #own-version", "");
    let ours = env!("CARGO_PKG_VERSION");
    assert_eq!(
        refused,
        format!(
            "version mismatch: calicoctl is of version {ours} and the cluster of v3.30.1; \
             use --allow-version-mismatch to work on it nevertheless"
        )
    );
    bench.output("get nodes --allow-version-mismatch #own-version");
    assert!(bench.output("version #own-version").contains("v3.30.1"));
}

#[test]
fn output_formats_that_are_missing_say_which_there_are() {
    let bench = Bench::new();
    for format in ["go-template={{.}}", "go-template-file=x", "csv"] {
        let refused = bench.failure(&format!("get nodes -o {format}"), "");
        assert!(refused.contains("use ps, wide, yaml, json or custom-columns="), "{refused}");
    }
    let refused = bench.failure("get nodes -o jsno", "");
    assert_eq!(refused, "unrecognized output format 'jsno'; did you mean \"json\"?");
}

#[test]
fn validation_needs_no_datastore() {
    let bench = Bench { directory: tempfile::tempdir().unwrap() };
    assert_eq!(
        bench.run_with("validate -f -", POLICY).output,
        "Successfully validated 1 'NetworkPolicy' resource(s)\n"
    );
    let error = bench.failure("validate -f -", &POLICY.replace("TCP", "ICMP"));
    assert_eq!(
        error,
        "failed to validate 'NetworkPolicy' resource: standard input: document 1 (NetworkPolicy shop/web): \
         spec.ingress[0].destination.ports[0]: \"80\": does not go with protocol ICMP; use protocol: TCP, UDP or SCTP"
    );
    assert!(!bench.path().exists());
    assert!(bench.output("completion bash").contains("calicoctl"));
    assert!(bench.output("version --client").starts_with("Client Version:    "));
}

#[test]
fn directories_are_read_in_order() {
    let bench = Bench::new();
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    std::fs::write(directory.path().join("a.yaml"), POLICY).unwrap();
    std::fs::write(directory.path().join("note.txt"), "no resources here").unwrap();
    std::fs::write(
        inner.join("b.json"),
        r#"{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{"name":"t"}}"#,
    )
    .unwrap();
    let path = directory.path().display();
    assert_eq!(
        bench.output(&format!("apply -f {path}")),
        "Successfully applied 1 'NetworkPolicy' resource(s)\n"
    );
    assert_eq!(bench.output(&format!("apply -R -f {path}")), "Successfully applied 2 resource(s)\n");
    let mismatch = bench.failure(&format!("apply -f {path} -n other"), "");
    let told = "a.yaml: document 1 (NetworkPolicy shop/web): metadata.namespace: \"shop\": is not the namespace of the \
                command line; use -n shop, or other here";
    assert!(mismatch.contains(told), "{mismatch}");
}

#[test]
fn what_is_wrong_with_the_files_of_a_directory_is_told_at_once() {
    let bench = Bench::new();
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("a.yaml"), POLICY.replace("selector", "selektor")).unwrap();
    std::fs::write(directory.path().join("b.yaml"), "").unwrap();
    std::fs::write(directory.path().join("c.yaml"), "kind: [").unwrap();
    let path = directory.path().display();
    let place = "(NetworkPolicy shop/web): spec.selektor: \"app == 'web'\"";
    assert_eq!(
        bench.failure(&format!("apply -f {path}"), ""),
        format!(
            "failed to execute command: \
             \n  {path}/a.yaml: document 1 {place}: this field is not known here; did you mean \"selector\"?\
             \n  {path}/b.yaml: No resources specified\
             \n  {path}/c.yaml: line 1 column 7: unclosed bracket '['"
        )
    );
}

#[test]
fn what_a_newer_writer_stored_survives_apply_patch_and_label() {
    let bench = Bench::new();
    let tiers = "/calico/resources/v3/projectcalico.org/tiers/t";
    let felix = "/calico/resources/v3/projectcalico.org/felixconfigurations/default";
    let envelope =
        r#""apiVersion":"projectcalico.org/v3","metadata":{"name":"NAME","finalizers":["f"],"generation":3}"#;
    let object = |kind: &str, name: &str, spec: &str| {
        format!(r#"{{"kind":"{kind}",{},"spec":{spec}}}"#, envelope.replace("NAME", name))
    };
    bench.load(&[
        (tiers.to_owned(), object("Tier", "t", r#"{"order":5,"defaultAction":"Deny","tomorrow":1}"#)),
        (felix.to_owned(), object("FelixConfiguration", "default", r#"{"healthPort":1,"tomorrow":1}"#)),
    ]);
    let survives = |after: &str| {
        for key in [tiers, felix] {
            let stored: serde_json::Value = serde_json::from_str(&bench.stored(key).unwrap()).unwrap();
            assert_eq!(stored["metadata"]["finalizers"], serde_json::json!(["f"]), "{after}: {key}");
            assert_eq!(stored["metadata"]["generation"], 3, "{after}: {key}");
            assert_eq!(stored["spec"]["tomorrow"], 1, "{after}: {key}");
        }
    };
    bench.apply("{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: t}, spec: {order: 6}}");
    bench.apply(
        "{apiVersion: projectcalico.org/v3, kind: FelixConfiguration, metadata: {name: default}, spec: {healthPort: 2}}",
    );
    survives("apply");
    bench.output(r#"patch tier t -p {"spec":{"order":7}}"#);
    bench.output(r#"patch felixconfig default -p {"spec":{"healthPort":3}}"#);
    survives("patch");
    assert!(bench.stored(tiers).unwrap().contains(r#""order":7"#));
    assert!(bench.stored(felix).unwrap().contains(r#""healthPort":3"#));
    bench.output("label tier t a=b");
    bench.output("label felixconfig default a=b");
    survives("label");
    let refused = bench.failure(r#"patch tier t -p {"spec":{"ordre":7}}"#, "");
    assert!(refused.contains("spec.ordre") && !refused.contains("tomorrow"), "{refused}");
    let refused = bench.failure(r#"patch felixconfig default -p {"spec":{"helthPort":7}}"#, "");
    assert!(refused.contains("spec.helthPort") && !refused.contains("tomorrow"), "{refused}");
}
