//! Profiles of namespaces and service accounts.

use serde_json::{Value, json};

use super::*;
use crate::kubernetes::{decode, namespace, service_account};

const UID: &str = "30316465-6365-4463-ad63-3564622d3638";
const OTHER_UID: &str = "0c8c26a6-c6a6-44c6-adc6-ac2646b46c1c";

fn check(entry: &Entry, name: &str, revision: &str, expected: Value) {
    assert_eq!(entry.key, Key::resource(Kind::Profile, "", name));
    assert_eq!(entry.revision, Revision(revision.into()));
    assert_eq!(serde_json::from_slice::<Value>(&entry.value).unwrap(), expected);
}

#[test]
fn a_namespace_allows_everything() {
    let object = json!({"metadata": {"name": "blue", "uid": UID, "resourceVersion": "5",
        "creationTimestamp": "2026-01-01T00:00:00Z", "labels": {"team": "t", "projectcalico.org/name": "red"}}});
    let allow = json!([{"action": "Allow"}]);
    check(
        &namespace::entry(&decode(object.to_string().as_bytes()).unwrap()),
        "kns.blue",
        "5/",
        json!({"kind": "Profile", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "kns.blue", "uid": OTHER_UID, "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"ingress": allow, "egress": allow,
                "labelsToApply": {"pcns.team": "t", "pcns.projectcalico.org/name": "blue"}}}),
    );
}

#[test]
fn a_service_account_has_labels_only() {
    let object = json!({"metadata": {"name": "a.b", "namespace": "blue", "uid": UID, "resourceVersion": "6",
        "labels": {"role": "r"}}, "secrets": []});
    check(
        &service_account::entry(&decode(object.to_string().as_bytes()).unwrap()),
        "ksa.blue.a.b",
        "/6",
        json!({"kind": "Profile", "apiVersion": "projectcalico.org/v3",
            "metadata": {"name": "ksa.blue.a.b", "uid": OTHER_UID},
            "spec": {"labelsToApply": {"pcsa.role": "r", "pcsa.projectcalico.org/name": "a.b"}}}),
    );
}

#[test]
fn revisions_have_two_parts() {
    let check = |text: &str, parts: Option<(&str, &str)>| {
        let found = ProfileRevision::parse(&Revision(text.into()));
        let parts = parts.map(|(namespaces, service_accounts)| ProfileRevision {
            namespaces: namespaces.into(),
            service_accounts: service_accounts.into(),
        });
        assert_eq!(found, parts, "{text:?}");
        if let Some(revision) = found {
            assert_eq!(revision.revision(), Revision(text.into()));
        }
    };
    check("5/6", Some(("5", "6")));
    check("5/", Some(("5", "")));
    check("/6", Some(("", "6")));
    check("/", Some(("", "")));
    check("5", None);
    check("5/6/7", None);
}
