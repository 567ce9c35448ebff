//! Files: what is read, what is refused and with which words; Calico's inputs become what Calico stored.

use super::*;
use crate::defaults;
use crate::validate::validate;

fn refusal(text: &str) -> String {
    parse_documents(text).unwrap_err().to_string()
}

/// What `get -o yaml` and `-o json` write of a large cluster is applied again; a short text that grows is not.
#[test]
fn a_text_may_hold_what_it_spells() {
    let count = 6_000;
    let tier = |n| {
        format!(
            r#"{{"apiVersion":"projectcalico.org/v3","kind":"Tier","metadata":{{"name":"t{n}","labels":{{"a":"b","c":"d","e":"f","g":"h","i":"j","k":"l","m":"n","o":"p","q":"r","s":"t"}}}}}}"#
        )
    };
    let tiers: Vec<String> = (0..count).map(tier).collect();
    assert_eq!(parse_documents(&tiers.join("\n---\n")).unwrap().len(), count);
    assert_eq!(parse_documents(&format!("[{}]", tiers.join(","))).unwrap().len(), count);

    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for n in 1..10 {
        let before = format!("*a{}", n - 1);
        bomb += &format!("a{n}: &a{n} [{}]\n", vec![before; 10].join(", "));
    }
    let error = parse_values(&bomb).unwrap_err().to_string();
    assert!(error.contains("budget breached"), "{error}");
}

#[test]
fn many_documents_and_lists_are_taken_apart() {
    let text = "
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: a}
spec: {order: 5}
---
---
apiVersion: projectcalico.org/v3
kind: TierList
items:
- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: b}}
- {apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: c}, spec: null}
";
    let names: Vec<String> =
        parse_documents(text).unwrap().into_iter().map(|r| r.metadata.name.to_string()).collect();
    assert_eq!(names, ["a", "b", "c"]);
    let json = r#"[{"apiVersion":"projectcalico.org/v3","kind":"Node","metadata":{"name":"n"},"spec":{}}]"#;
    assert_eq!(parse_documents(json).unwrap().len(), 1);
    assert_eq!(parse_documents("").unwrap(), []);
    assert_eq!(parse_documents("# nothing\n").unwrap(), []);
}

#[test]
fn refusals_name_document_path_and_value() {
    let cases = [
        ("a: [", ""),
        ("hello", "document 1: \"hello\": is no resource; kind, apiVersion, metadata and spec are needed"),
        ("kind: Teir\n", "document 1 (Teir): kind: \"Teir\": is no kind of resource; did you mean \"Tier\"?"),
        ("metadata: {name: x}\n", "document 1 (x): kind: is needed; use one such as NetworkPolicy"),
        (
            "{kind: gnp, metadata: {namespace: s, name: x}}",
            "document 1 (gnp s/x): kind: \"gnp\": is no kind of resource; did you mean \"GlobalNetworkPolicy\"?",
        ),
        (
            "{kind: Deployment, metadata: {}}",
            "document 1 (Deployment): kind: \"Deployment\": is no kind of resource; use one of Calico's, such as NetworkPolicy",
        ),
        (
            "{kind: Tier, metadata: {name: x}}",
            "document 1 (Tier x): apiVersion: is needed; use projectcalico.org/v3",
        ),
        (
            "{kind: Tier, apiVersion: v1, metadata: {name: x}}",
            "document 1 (Tier x): apiVersion: \"v1\": must be projectcalico.org/v3",
        ),
        (
            "{kind: Tier, apiVersion: projectcalico.org/v3, metadata: {name: x, label: {}}, specs: {}}",
            "\n  document 1 (Tier x): specs: \"{}\": this field is not known here; did you mean \"spec\"?\
             \n  document 1 (Tier x): metadata.label: \"{}\": this field is not known here; did you mean \"labels\"?",
        ),
        (
            "{kind: Tier, apiVersion: projectcalico.org/v3, metadata: {name: x}, spec: {order: high}}",
            "document 1 (Tier x): spec.order: \"high\": must be a number",
        ),
        ("{kind: Tier, apiVersion: projectcalico.org/v3}", "document 1 (Tier): metadata: is needed"),
    ];
    for (text, expected) in cases {
        let message = refusal(text);
        if !expected.is_empty() {
            assert_eq!(message, expected);
        }
    }
    assert!(matches!(parse_documents("a: 1\na: 2\n"), Err(DocumentError::Syntax(_))), "a key twice");
    assert!(matches!(parse_documents("a: [\n"), Err(DocumentError::Syntax(_))));
}

/// A user who mends what the first run says has mended everything: no second run finds more.
#[test]
fn all_mistakes_of_all_documents_are_told_at_once() {
    let text = "
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p}
spec:
  ordre: 5
  selector: a = 'b'
  ingress:
  - {protocol: TCP}
  - {action: Permit, protocol: TCP, destination: {ports: [70000]}, source: {nets: [10.0.0.1/8]}}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: UPPER}
spec: {cidr: 10.0.0.0/16, blockSize: 33}
---
{apiVersion: projectcalico.org/v3, kind: Tier, metadata: {name: fine}}
";
    let expected = "
  document 1 (NetworkPolicy p): spec.ordre: \"5\": this field is not known here; did you mean \"order\"?
  document 1 (NetworkPolicy p): spec.ingress[0].action: is needed
  document 1 (NetworkPolicy p): spec.ingress[1].destination.ports[0]: \"70000\": is not a port; use a number from 1 to 65535, a range such as \"80:90\", or a port name
  document 1 (NetworkPolicy p): spec.selector: \"a = 'b'\": bad selector at byte 2: expected `==`, found `= 'b'`
  document 1 (NetworkPolicy p): spec.ingress[1].action: \"Permit\": must be one of Allow, Deny, Log, Pass
  document 1 (NetworkPolicy p): spec.ingress[1].source.nets[0]: \"10.0.0.1/8\": has host bits set; the network is 10.0.0.0/8
  document 2 (IPPool UPPER): metadata.name: \"UPPER\": must be a DNS name in lower case: letters, digits, '-' and '.', at most 253 characters
  document 2 (IPPool UPPER): spec.blockSize: \"33\": must be from 20 to 32 in an IPv4 pool";
    assert_eq!(refusal(text), expected);
}

#[test]
fn forms_of_numbers_are_kept() {
    let text = "
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: p}
spec:
  order: 10.5
  ingress:
  - {action: allow, protocol: 6, destination: {ports: [80, '81', '80:90', http]}}
  - {action: Deny, protocol: tcp}
";
    let resource = &parse_documents(text).unwrap()[0];
    let expected = serde_json::json!({"order": 10.5, "ingress": [
        {"action": "Allow", "protocol": 6, "destination": {"ports": [80, 81, "80:90", "http"]}},
        {"action": "Deny", "protocol": "TCP"},
    ]});
    assert_eq!(Value::Object(resource.spec.clone()), expected);
}

/// The input that Calico itself refused: what it stored is the revision before.
const REFUSED: (&str, &str) = ("bgpconfig_name2_rev3", "spec.nodeToNodeMeshEnabled");

/// Calico's inputs are accepted, and with defaults filled in their last revisions are what Calico stored.
#[test]
fn calicos_inputs_become_what_calico_stored() {
    let (Some(inputs), Some(samples)) =
        (crate::reference::read("calicoctl-inputs.json"), crate::reference::samples())
    else {
        return;
    };
    let inputs: Vec<(String, Value)> = serde_json::from_str(&inputs).unwrap();
    let mut written = std::collections::BTreeMap::new();
    for (name, value) in inputs {
        let mut resource = parse_resource(&name, &value).unwrap();
        if resource.kind.scope() == crate::Scope::Namespaced && resource.metadata.namespace.is_empty() {
            resource.metadata.namespace = "default".into();
        }
        defaults::apply(&mut resource);
        let errors = validate(&resource);
        if name == REFUSED.0 {
            assert_eq!(errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(), [REFUSED.1]);
            continue;
        }
        assert_eq!(errors, [], "{name}");
        written
            .entry(crate::Key::Resource(resource.key()).to_string())
            .or_insert_with(Vec::new)
            .push(resource.spec);
    }
    let mut compared = 0;
    for (key, value) in samples {
        let Some(revisions) = written.get(&key) else { continue };
        let stored: Value = serde_json::from_str(&value).unwrap();
        // The samples hold some revision of each.
        let found = revisions.iter().any(|spec| Value::Object(spec.clone()) == stored["spec"]);
        if !found && !["default"].contains(&stored["metadata"]["name"].as_str().unwrap()) {
            panic!("{key}\nstored {}\nwritten {revisions:?}", stored["spec"]);
        }
        compared += usize::from(found);
    }
    assert!(compared >= 20, "only {compared} compared");
}

/// JSON of any shape, with the names and words that resources are made of.
fn json() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let word = prop::sample::select(vec![
        "kind",
        "metadata",
        "name",
        "spec",
        "ingress",
        "source",
        "ports",
        "nets",
        "types",
        "action",
        "Allow",
        "80:90",
        "NetworkPolicy",
        "IPPool",
        "FelixConfiguration",
        "Node",
        "bgp",
        "cidr",
        "10.0.0.0/8",
        "order",
        "protocol",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        word.clone().prop_map(Value::from),
        "\\PC{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((word.clone(), inner), 0..5)
                .prop_map(|pairs| pairs.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<Value>()),
        ]
    })
}

proptest::proptest! {
    #[test]
    fn no_text_and_no_object_panics(text in "\\PC{0,60}|[-a: \\n\\[\\]{},&*!|>'\"]{0,40}", spec in json(), kind in 0..Kind::ALL.len()) {
        let _ = parse_documents(&text);
        let kind = Kind::ALL[kind];
        let object = serde_json::json!({
            "kind": kind.name(), "apiVersion": API_VERSION, "metadata": {"name": "x", "namespace": "y"}, "spec": spec,
        });
        if let Ok(mut resource) = parse_resource("it", &object) {
            defaults::apply(&mut resource);
            let _ = validate(&resource);
            // What was read once reads the same again.
            let again = parse_resource("it", &resource.to_json()).unwrap();
            proptest::prop_assert_eq!(again, resource);
        }
    }
}
