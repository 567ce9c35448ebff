//! The cases: what is in the datastore, and what Calico made of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use calico_api::key::AffinityOwner;
use calico_api::kubernetes::{self, endpoint_slice, service};
use calico_api::{Entry, Key, Kind};
use calico_mesh::{BgpIntent, Index, Local, Problem, bird};
use calico_net::Family;
use serde_json::{Value, json};

/// The node that the cases are about.
const NODE: &str = "kube-master";

/// The node of the datastore as Calico left it in etcd.
const SAMPLE_NODE: &str = "host1";

/// Where the reference data is; `None` without it.
#[expect(clippy::disallowed_methods, reason = "where the reference data is")]
pub fn reference() -> Option<PathBuf> {
    let shared = std::env::var_os("CALICO_SHARED")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = shared.join("data");
    path.is_dir().then_some(path)
}

#[expect(clippy::disallowed_methods, reason = "reads the reference data")]
fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A node's view of a datastore.
pub struct Case {
    /// As in `mesh/ipip-off`.
    pub name: String,
    /// What is known.
    pub index: Index,
    /// The node.
    pub node: &'static str,
    /// What the cluster's BGPConfiguration says of who installs routes.
    pub program_cluster_routes: String,
}

impl Case {
    fn new(name: &str, node: &'static str) -> Case {
        let program_cluster_routes = String::new();
        Case { name: name.to_owned(), index: Index::new(node.into()), node, program_cluster_routes }
    }

    /// What had to be left out.
    pub fn problems(&self) -> Vec<Problem> {
        let local = Local { node: self.node.into(), has_ipip_device: true, ..Local::default() };
        self.index.world().resolve(&local).1
    }

    /// What the node must do.
    pub fn intent(&self) -> BgpIntent {
        let local = Local { node: self.node.into(), has_ipip_device: true, ..Local::default() };
        self.index.world().resolve(&local).0
    }

    /// Our configuration.
    pub fn rendered(&self) -> String {
        bird::render(&self.intent(), "/var/log/calico/bird.log")
    }

    fn put(&mut self, key: &Key, value: &Value) {
        if *key == Key::resource(Kind::BGPConfiguration, "", "default") {
            let word = value["spec"]["programClusterRoutes"].as_str().unwrap_or_default();
            self.program_cluster_routes = word.to_owned();
        }
        let entry = Entry { key: key.clone(), value: value.to_string().into(), revision: 1.into() };
        self.index.update(key, Some(&entry));
    }

    fn put_documents(&mut self, input: &str) {
        for document in input.split("\n---").filter(|d| d.contains("kind:")) {
            let mut value: Value = serde_saphyr::from_str(document).unwrap();
            match value["kind"].as_str().unwrap().to_owned().as_str() {
                "Service" => self.put_service(value),
                "EndpointSlice" => self.put_slice(value),
                kind => {
                    // calicoctl reads a label's value as text, whatever YAML takes it for.
                    let labels = value.pointer_mut("/metadata/labels").and_then(Value::as_object_mut);
                    for (_, text) in labels.into_iter().flatten() {
                        *text = text.as_str().map_or_else(|| text.to_string(), str::to_owned).into();
                    }
                    let kind = Kind::from_alias(kind).unwrap();
                    let name = value["metadata"]["name"].as_str().unwrap().to_owned();
                    self.put(&Key::resource(kind, "", &name), &value);
                }
            }
        }
    }

    /// As the API server completes it; it takes no status from the one who creates a service.
    fn put_service(&mut self, mut value: Value) {
        value["metadata"]["namespace"] = json!("default");
        value.as_object_mut().unwrap().remove("status");
        let spec = &mut value["spec"];
        let addr = spec["clusterIP"].clone();
        let family = if addr.as_str().unwrap().contains(':') { "IPv6" } else { "IPv4" };
        spec["ipFamilies"] = json!([family]);
        spec["clusterIPs"] = json!([addr]);
        let object: service::Service = kubernetes::decode(value.to_string().as_bytes()).unwrap();
        let entry = service::entry(&object);
        self.index.update(&entry.key, Some(&entry));
    }

    fn put_slice(&mut self, mut value: Value) {
        value["metadata"]["namespace"] = json!("default");
        let object: endpoint_slice::EndpointSlice = kubernetes::decode(value.to_string().as_bytes()).unwrap();
        let entry = endpoint_slice::entry(&object).unwrap();
        self.index.update(&entry.key, Some(&entry));
    }

    /// The nodes and blocks of all cases but the sample; the input may redefine them.
    fn put_surroundings(&mut self) {
        for (name, v4) in
            [(NODE, "10.192.0.2/16"), ("kube-node-1", "10.192.0.3/16"), ("kube-node-2", "10.192.0.4/16")]
        {
            let node =
                json!({"kind": "Node", "metadata": {"name": name}, "spec": {"bgp": {"ipv4Address": v4}}});
            self.put(&Key::resource(Kind::Node, "", name), &node);
        }
        for (block, state) in [
            ("10.0.0.0/30", ""),
            ("10.1.0.0/24", ""),
            ("10.2.0.1/32", ""),
            ("192.168.221.192/26", ""),
            ("192.168.221.64/26", "confirmed"),
            ("192.168.221.0/26", "pending"),
        ] {
            let owner = AffinityOwner::Host(NODE.into());
            let key = Key::Affinity { owner, block: block.parse().unwrap() };
            self.put(&key, &json!({ "state": state }));
        }
    }
}

/// Calico's files of a case, by family: `bird.cfg`, `bird_aggr.cfg`, `bird_ipam.cfg`.
pub type Files = BTreeMap<(Family, &'static str), String>;

/// Reads Calico's files of a case.
pub fn files(data: &Path, case: &str) -> Files {
    let directory = data.join("bird-goldens/outputs").join(case);
    let names = [(Family::V4, "bird"), (Family::V6, "bird6")];
    let parts = ["", "_aggr", "_ipam"];
    names
        .into_iter()
        .flat_map(|(family, name)| parts.map(|part| (family, name, part)))
        .map(|(family, name, part)| ((family, part), read(&directory.join(format!("{name}{part}.cfg")))))
        .collect()
}

/// Every case that Calico's files are there of.
pub fn all(data: &Path) -> Vec<Case> {
    let mut cases = Vec::new();
    let inputs = data.join("bird-goldens/inputs");
    for group in directories(&inputs) {
        for case in directories(&inputs.join(&group)) {
            cases.push(from_input(data, &format!("{group}/{case}"), &[]));
        }
    }
    cases.push(sample(data));
    cases
}

fn directories(path: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

/// A case after its first input and further steps.
pub fn from_input(data: &Path, name: &str, steps: &[&str]) -> Case {
    let directory = data.join("bird-goldens/inputs").join(name);
    let mut case = Case::new(name, NODE);
    case.put_surroundings();
    case.put_documents(&read(&directory.join("input.yaml")));
    let services = directory.join("kubectl-input.yaml");
    if services.is_file() {
        case.put_documents(&read(&services));
    }
    for step in steps {
        case.put_documents(&read(&directory.join(step).join("input.yaml")));
    }
    case
}

/// The datastore as Calico wrote it to etcd.
fn sample(data: &Path) -> Case {
    let text = read(&data.join("etcd-samples.txt"));
    let mut case = Case::new("etcd-samples", SAMPLE_NODE);
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    for pair in lines.chunks(2) {
        let [key, value] = pair else { panic!("a key without a value") };
        // What is not Calico's data is none of ours.
        let Ok(key) = Key::parse(key) else { continue };
        case.put(&key, &serde_json::from_str(value).unwrap());
    }
    case
}
