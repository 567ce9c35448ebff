//! Paths of keys, and what lists and watches say.

use super::*;

fn view() -> View {
    View { group: ApiGroup::CrdV1, use_pod_cidr: false, interface_prefix: SmolStr::new("cali") }
}

#[track_caller]
fn check_path(key: Key, expected: &str) {
    let found = Part::of_key(&key, &view()).map(|(_, path)| path);
    assert_eq!(found.as_deref().unwrap_or("none"), expected, "{key}");
}

#[test]
fn keys_have_paths() {
    let resource = Key::resource;
    check_path(resource(Kind::IPPool, "", "p"), "/apis/crd.projectcalico.org/v1/ippools/p");
    check_path(
        resource(Kind::NetworkPolicy, "ns", "a.b"),
        "/apis/crd.projectcalico.org/v1/namespaces/ns/networkpolicies/a.b",
    );
    check_path(resource(Kind::Node, "", "n1"), "/api/v1/nodes/n1");
    check_path(resource(Kind::Profile, "", "kns.x"), "/api/v1/namespaces/x");
    check_path(resource(Kind::Profile, "", "ksa.x.y.z"), "/api/v1/namespaces/x/serviceaccounts/y.z");
    check_path(resource(Kind::Profile, "", "other"), "none");
    check_path(resource(Kind::WorkloadEndpoint, "ns", "n--1-k8s-web-eth0"), "/api/v1/namespaces/ns/pods/web");
    check_path(resource(Kind::WorkloadEndpoint, "ns", "n1-cni-web-eth0"), "none");
    check_path(Key::FelixStatus("n1".into()), "none");
    check_path(
        Key::Block("10.0.0.0/26".parse().unwrap()),
        "/apis/crd.projectcalico.org/v1/ipamblocks/10-0-0-0-26",
    );
    check_path(Key::Handle("A/B".into()), "/apis/crd.projectcalico.org/v1/ipamhandles/a%2Fb");
    check_path(resource(Kind::IPPool, "", ".."), "/apis/crd.projectcalico.org/v1/ippools/%2E%2E");
}

#[test]
fn a_page_leaves_out_what_cannot_be_read() {
    let json = br#"{"kind":"IPAMHandleList","metadata":{"resourceVersion":"9","continue":"c/="},"items":[
        {"metadata":{"name":"h1","resourceVersion":"1"},"spec":{"handleID":"h1","block":{},"deleted":false}},
        {"metadata":{"name":"h2","resourceVersion":"2"},"spec":{}},
        {"metadata":{"name":"h3","resourceVersion":"3","uid":"u"},"spec":{"handleID":"h3","block":{},"deleted":true}}]}"#;
    let page = Part::Custom(Table::Handles).read_page(&view(), json).unwrap();
    assert_eq!((page.revision.as_str(), page.next.as_str()), ("9", "c/="));
    let keys: Vec<&Key> = page.objects.iter().flat_map(|o| &o.entries).map(|e| &e.key).collect();
    assert_eq!(keys, [&Key::Handle("h1".into()), &Key::Handle("h3".into())]);
    let doomed = Doomed {
        path: "/apis/crd.projectcalico.org/v1/ipamhandles/h3".into(),
        uid: "u".into(),
        revision: "3".into(),
    };
    assert_eq!(page.objects[1].doomed, Some(doomed));
}

#[test]
fn lines_of_a_watch() {
    let read = |json: &str| Part::Namespaces.read_line(&view(), json.as_bytes()).unwrap();
    let put = r#"{"type":"MODIFIED","object":{"metadata":{"name":"a","resourceVersion":"4"}}}"#;
    let Line::Put(object) = read(put) else { panic!() };
    assert_eq!(object.entries[0].key, Key::resource(Kind::Profile, "", "kns.a"));
    assert_eq!(object.revision, "4");
    assert!(matches!(read(&put.replace("MODIFIED", "DELETED")), Line::Deleted(_)));
    let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"Namespace","metadata":{"resourceVersion":"12","creationTimestamp":null}}}"#;
    assert!(matches!(read(bookmark), Line::Bookmark(r) if r == "12"));
    let gone =
        r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
    assert!(matches!(read(gone), Line::Error { code: 410, .. }));
    assert!(Part::Namespaces.read_line(&view(), b"<html>").is_err());
}

#[test]
fn pods_without_an_endpoint_are_nothing() {
    let json = br#"{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"b","resourceVersion":"4"},"spec":{"hostNetwork":true,"nodeName":"n"}}}"#;
    let Line::Put(object) = Part::Pods.read_line(&view(), json).unwrap() else { panic!() };
    assert!(object.entries.is_empty());
    assert_eq!(object.revision, "4");
}

#[test]
fn what_is_nothing_any_more_has_a_key() {
    let slice = |labels: &str| {
        let meta = format!(r#"{{"name":"s","namespace":"b","resourceVersion":"4","labels":{labels}}}"#);
        let json = format!(r#"{{"type":"MODIFIED","object":{{"metadata":{meta},"addressType":"IPv4"}}}}"#);
        Part::EndpointSlices.read_line(&view(), json.as_bytes()).unwrap()
    };
    let key = Key::resource(Kind::KubernetesEndpointSlice, "b", "s");
    let Line::Put(object) = slice(r#"{"kubernetes.io/service-name":"x"}"#) else { panic!() };
    assert_eq!(object.entries[0].key, key);
    let Line::Absent { key: Some(found), revision } = slice("{}") else { panic!() };
    assert_eq!((found, revision.as_str()), (key, "4"));
}

#[test]
fn the_server_selects_one_object_by_its_name() {
    let check = |kind: Kind, namespace: &str, name: &str, expected: Option<&str>| {
        let selection = Selection::one(kind, namespace, name);
        let parts = Part::of_selection(&selection, &view());
        let queries: Vec<String> = parts.iter().map(|part| part.query(&view(), &selection)).collect();
        assert_eq!(queries, expected.into_iter().collect::<Vec<_>>(), "{selection:?}");
    };
    check(Kind::Node, "", "n1", Some("/api/v1/nodes?fieldSelector=metadata.name%3Dn1&"));
    let pools = "/apis/crd.projectcalico.org/v1/ippools";
    check(Kind::IPPool, "", "a.b", Some(&format!("{pools}?fieldSelector=metadata.name%3Da.b&")));
    check(Kind::IPPool, "", "a,b", Some(&format!("{pools}?")));
    check(Kind::IPPool, "", "", Some(&format!("{pools}?")));
    let of_account = "/api/v1/namespaces/x/serviceaccounts?fieldSelector=metadata.name%3Dy&";
    check(Kind::Profile, "", "ksa.x.y", Some(of_account));
    check(Kind::Profile, "", "kns.x", Some("/api/v1/namespaces?fieldSelector=metadata.name%3Dx&"));
    check(Kind::Profile, "", "other", None);
    let of_pod = "/api/v1/namespaces/ns/pods?fieldSelector=metadata.name%3Dweb&";
    check(Kind::WorkloadEndpoint, "ns", "n--1-k8s-web-eth0", Some(of_pod));
    // Old writers may have stored it by another name.
    let policies = "/apis/crd.projectcalico.org/v1/namespaces/ns/networkpolicies?";
    check(Kind::NetworkPolicy, "ns", "a", Some(policies));
}

/// Pods of which the second has a field of a type that no pod has.
fn pods() -> [String; 3] {
    let pod = |name: &str, containers: &str| {
        format!(
            r#"{{"kind":"Pod","metadata":{{"name":"{name}","namespace":"ns","resourceVersion":"4","labels":null}},
            "spec":{{"nodeName":"n1","containers":{containers}}}}}"#
        )
    };
    [pod("a", "[]"), pod("b", r#""none""#), pod("c", "null")]
}

#[test]
fn one_object_of_a_wrong_type_does_not_take_the_page_with_it() {
    let list = format!(
        r#"{{"kind":"PodList","metadata":{{"resourceVersion":"9","continue":"c"}},"items":[{}]}}"#,
        pods().join(",")
    );
    let page = Part::Pods.read_page(&view(), list.as_bytes()).unwrap();
    assert_eq!((page.revision.as_str(), page.next.as_str()), ("9", "c"));
    let names: Vec<String> =
        page.objects.iter().flat_map(|o| &o.entries).map(|e| e.key.to_string()).collect();
    assert!(names.len() == 2 && names[0].ends_with("-a-eth0") && names[1].ends_with("-c-eth0"), "{names:?}");
    // What is no list at all is still an error: nothing may count as absent for it.
    assert!(Part::Pods.read_page(&view(), br#"{"items":7}"#).is_err());
    assert!(Part::Pods.read_page(&view(), b"<html>").is_err());
}

#[test]
fn one_object_of_a_wrong_type_is_absent_and_does_not_end_the_watch() {
    let line = |part: Part, object: &str| {
        let json = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
        part.read_line(&view(), json.as_bytes()).unwrap()
    };
    let [good, bad, _] = pods();
    assert!(matches!(line(Part::Pods, &good), Line::Put(_)));
    let check = |part: Part, object: &str, expected: Key| {
        let Line::Absent { key, revision } = line(part, object) else { panic!("{object}") };
        assert_eq!((key, revision.as_str()), (Some(expected), "4"));
    };
    check(Part::Pods, &bad, Key::resource(Kind::WorkloadEndpoint, "ns", "n1-k8s-b-eth0"));
    let with = |member: &str| {
        format!(r#"{{"metadata":{{"name":"x","namespace":"ns","resourceVersion":"4"}},{member}}}"#)
    };
    check(Part::Secrets, &with(r#""data":7"#), Key::resource(Kind::KubernetesSecret, "ns", "x"));
    check(Part::Services, &with(r#""spec":7"#), Key::resource(Kind::KubernetesService, "ns", "x"));
    check(
        Part::NetworkPolicies,
        &with(r#""spec":7"#),
        Key::resource(Kind::KubernetesNetworkPolicy, "ns", "x"),
    );
    let node = r#"{"metadata":{"name":"x","resourceVersion":"4"},"spec":7}"#;
    check(Part::Nodes, node, Key::resource(Kind::Node, "", "x"));
    // Nobody knows which it is: the reader lists again.
    let nameless = line(Part::Namespaces, r#"{"metadata":{"labels":7}}"#);
    assert!(matches!(nameless, Line::Absent { key: None, .. }), "{nameless:?}");
}

#[test]
fn the_error_names_the_object() {
    let [_, bad, _] = pods();
    let error = alone::<pod::Pod>("Pod", serde_json::from_str(&bad).unwrap()).unwrap_err().to_string();
    assert!(error.contains("Pod(ns/b)") && error.contains("\"none\""), "{error}");
}

#[test]
fn the_server_selects_an_owners_affinities_by_their_label() {
    let affinities = "/apis/crd.projectcalico.org/v1/blockaffinities?";
    let table = Part::Custom(Table::Affinities);
    let query = |owner: Option<calico_api::AffinityOwner>| {
        table.query(&view(), &Selection::Affinities { owner, family: Some(calico_net::Family::V4) })
    };
    // Host and virtual owner of one name share it; the rest of the selection is ours to make.
    for owner in [calico_api::AffinityOwner::Host, calico_api::AffinityOwner::Virtual] {
        assert_eq!(
            query(Some(owner("node1".into()))),
            format!(
                "{affinities}labelSelector=projectcalico.org%2Fhostname-hash%3D\
                 7DS2CCNJGGLTHBDQLLFO6SX24SY2YDDEG3W2VN556FA2W4DLLV5A&"
            )
        );
    }
    assert_eq!(query(None), affinities);
    let unlabelled = format!("{affinities}labelSelector=%21projectcalico.org%2Fhostname-hash&");
    assert_eq!(table.query_unlabelled(&view()), unlabelled);
}
