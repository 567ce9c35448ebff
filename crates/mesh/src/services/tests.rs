//! Which service is announced where, and that following changes comes to the same as reading everything anew.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const NODE: &str = "here";

fn ranges(spec: Value) -> ServiceRanges {
    let mut texts = Vec::new();
    let ranges = ServiceRanges::read(&serde_json::from_value(spec).unwrap(), &mut texts);
    assert_eq!(texts, Texts::new());
    ranges
}

/// Ranges of every kind, and single addresses outside them.
fn everything() -> Value {
    json!({
        "serviceClusterIPs": [{"cidr": "10.96.0.0/16"}],
        "serviceExternalIPs": [{"cidr": "192.0.2.0/24"}, {"cidr": "203.0.113.1/32"}],
        "serviceLoadBalancerIPs": [{"cidr": "198.51.100.0/24"}, {"cidr": "203.0.113.2/32"}],
    })
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

fn key(kind: Kind, name: &str) -> ResourceKey {
    ResourceKey { kind, namespace: "default".into(), name: name.into() }
}

fn put_service(services: &mut Services, name: &str, spec: &Value) -> bool {
    let mut texts = Vec::new();
    let spec: ServiceSpec = serde_json::from_value(spec.clone()).unwrap();
    let changed = services.update_service(&key(Kind::KubernetesService, name), Some(&spec), &mut texts);
    assert_eq!(texts, Texts::new());
    changed
}

fn slice(service: &str, family: &str, nodes: &[&str]) -> EndpointSliceSpec {
    EndpointSliceSpec {
        service: service.into(),
        address_type: family.into(),
        ready_nodes: nodes.iter().map(SmolStr::new).collect(),
        ..EndpointSliceSpec::default()
    }
}

fn put_slice(services: &mut Services, name: &str, slice: &EndpointSliceSpec) -> bool {
    services.update_slice(&key(Kind::KubernetesEndpointSlice, name), Some(slice))
}

fn texts(cidrs: &[Cidr]) -> Vec<String> {
    cidrs.iter().map(Cidr::to_string).collect()
}

/// The single addresses that are announced.
fn singles(services: &Services) -> Vec<String> {
    let ServiceIntent { routes, rejects, .. } = services.announce(false, false);
    texts(&routes.into_iter().filter(|route| !rejects.contains(route)).collect::<Vec<_>>())
}

/// One service with endpoints on these nodes, under these ranges.
fn check(config: Value, spec: Value, nodes: &[&str], expected: &[&str]) {
    let mut services = Services::new(NODE.into(), None);
    services.set_ranges(ranges(config.clone()));
    put_service(&mut services, "web", &spec);
    put_slice(&mut services, "web-1", &slice("web", "IPv4", nodes));
    assert_eq!(singles(&services), expected, "{config} {spec} {nodes:?}");
}

#[test]
fn ranges_are_announced_and_never_installed() {
    let mut services = Services::new(NODE.into(), None);
    assert_eq!(services.announce(false, true), ServiceIntent::default());
    let spec = with(
        everything(),
        "serviceClusterIPs",
        json!([{"cidr": "10.96.0.7/32"}, {}, {"cidr": "fd00:96::/112"}]),
    );
    assert!(services.set_ranges(ranges(spec.clone())));
    assert!(!services.set_ranges(ranges(spec.clone())), "no news");
    let ServiceIntent { routes, rejects, reflected } = services.announce(false, false);
    // A cluster range counts even where it is one address, the others do not.
    let whole = ["10.96.0.7/32", "192.0.2.0/24", "198.51.100.0/24", "fd00:96::/112"];
    assert_eq!(
        (texts(&routes), texts(&rejects)),
        (whole.map(String::from).to_vec(), whole.map(String::from).to_vec())
    );
    assert!(reflected.is_empty());
    // An excluded node announces nothing and still installs nothing.
    let excluded = services.announce(true, false);
    assert_eq!((excluded.routes, excluded.rejects), (Vec::new(), rejects));
    let reflected = texts(&services.announce(false, true).reflected);
    assert_eq!(reflected, ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.1/32", "203.0.113.2/32"]);
    // One by one: the load balancers' range is nobody's.
    services.set_ranges(ranges(with(spec, "serviceLoadBalancerAggregation", json!("Disabled"))));
    let one_by_one = services.announce(false, false);
    assert_eq!(texts(&one_by_one.routes), ["10.96.0.7/32", "192.0.2.0/24", "fd00:96::/112"]);
    assert_eq!(one_by_one.routes, one_by_one.rejects);
}

#[test]
fn the_environment_s_cluster_ranges_stand_instead() {
    let mut services = Services::new(NODE.into(), Some(vec!["10.0.0.0/24".parse().unwrap()]));
    assert_eq!(texts(&services.announce(false, false).routes), ["10.0.0.0/24"]);
    services.set_ranges(ranges(json!({"serviceClusterIPs": [{"cidr": "10.96.0.0/16"}]})));
    assert_eq!(texts(&services.announce(false, false).routes), ["10.0.0.0/24"]);
    services.set_ranges(ServiceRanges::default());
    assert_eq!(texts(&services.announce(false, false).routes), ["10.0.0.0/24"]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let mut said = Vec::new();
    let spec = json!({"serviceExternalIPs": [{"cidr": "ten"}, {"cidr": "10.0.0.0/8"}], "serviceLoadBalancerAggregation": "Some"});
    let read = ServiceRanges::read(&serde_json::from_value(spec).unwrap(), &mut said);
    assert_eq!((read.external.len(), read.one_by_one), (1, false));
    let said = said.join("\n");
    assert!(
        said.contains("serviceExternalIPs: ") && said.contains("serviceLoadBalancerAggregation: "),
        "{said}"
    );
    let mut texts = Vec::new();
    let mut services = Services::new(NODE.into(), None);
    let spec = json!({"type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "loadBalancerIngress": ["198.51.100.1/32"]});
    let spec: ServiceSpec = serde_json::from_value(spec).unwrap();
    services.update_service(&key(Kind::KubernetesService, "web"), Some(&spec), &mut texts);
    assert!(texts[0].starts_with("status.loadBalancer.ingress: "), "{texts:?}");
}

#[test]
fn local_services_are_announced_where_an_endpoint_is_ready() {
    let local = json!({
        "type": "LoadBalancer", "clusterIPs": ["10.96.0.1", "fd00::1"], "ipFamilies": ["IPv4", "IPv6"],
        "externalIPs": ["192.0.2.1", "192.0.9.1"], "loadBalancerIngress": ["198.51.100.1", "198.51.99.1"],
        "externalTrafficPolicy": "Local",
    });
    // Cluster addresses whether in a range or not, the others only inside theirs.
    let all = ["10.96.0.1/32", "192.0.2.1/32", "198.51.100.1/32", "fd00::1/128"];
    check(everything(), local.clone(), &["here", "there"], &all);
    check(everything(), local.clone(), &["there"], &[]);
    check(everything(), local.clone(), &[""], &[]);
    check(everything(), local.clone(), &[], &[]);
    check(json!({}), local.clone(), &["here"], &[]);
    let external = json!({"serviceExternalIPs": [{"cidr": "192.0.2.1/32"}]});
    check(external, local.clone(), &["here"], &["192.0.2.1/32"]);
    // An address of its own and a type that has some.
    check(everything(), with(local.clone(), "clusterIPs", json!([])), &["here"], &[]);
    check(everything(), with(local.clone(), "type", json!("ExternalName")), &["here"], &[]);
    check(everything(), with(local.clone(), "type", json!("NodePort")), &["here"], &all);
    // Slices of a family that the service does not have say nothing of it.
    check(everything(), with(local.clone(), "ipFamilies", json!(["IPv6"])), &["here"], &[]);
    check(
        everything(),
        json!({"type": "NodePort", "clusterIPs": ["fd00::1"], "externalTrafficPolicy": "Local"}),
        &["here"],
        &[],
    );
}

#[test]
fn cluster_services_are_covered_by_ranges() {
    let cluster = json!({
        "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "externalIPs": ["192.0.2.1"],
        "loadBalancerIngress": ["198.51.100.1"], "externalTrafficPolicy": "Cluster",
    });
    check(everything(), cluster.clone(), &["here"], &[]);
    // A single address in the list has no range: it is announced by every node, with all others, whoever serves.
    let single = ["10.96.0.1/32", "198.51.100.1/32", "203.0.113.1/32"];
    check(everything(), with(cluster.clone(), "externalIPs", json!(["203.0.113.1"])), &[], &single);
    let balanced = with(cluster.clone(), "loadBalancerIngress", json!(["203.0.113.2"]));
    check(everything(), balanced.clone(), &[], &["10.96.0.1/32", "192.0.2.1/32", "203.0.113.2/32"]);
    check(everything(), with(balanced.clone(), "type", json!("NodePort")), &["here"], &[]);
    check(everything(), with(balanced, "externalTrafficPolicy", json!("")), &["here"], &[]);
}

#[test]
fn without_aggregation_each_service_is_announced_that_anybody_serves() {
    let disabled = with(everything(), "serviceLoadBalancerAggregation", json!("Disabled"));
    let cluster = json!({
        "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "loadBalancerIngress": ["198.51.100.1"],
        "externalTrafficPolicy": "Cluster",
    });
    let all = ["10.96.0.1/32", "198.51.100.1/32"];
    check(disabled.clone(), cluster.clone(), &["there"], &all);
    check(disabled.clone(), cluster.clone(), &[""], &all);
    check(disabled.clone(), cluster.clone(), &[], &[]);
    check(disabled.clone(), with(cluster.clone(), "externalTrafficPolicy", json!("Local")), &["there"], &[]);
    check(disabled, json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1"]}), &["there"], &["10.96.0.1/32"]);
}

#[test]
fn cluster_addresses_follow_the_internal_policy_where_it_is_local() {
    let internal =
        json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.1"], "internalTrafficPolicy": "Local"});
    check(everything(), internal.clone(), &["here"], &["10.96.0.1/32"]);
    check(everything(), internal.clone(), &["there"], &[]);
    let disabled = with(everything(), "serviceLoadBalancerAggregation", json!("Disabled"));
    check(disabled, internal.clone(), &["there"], &[]);
    check(json!({"serviceExternalIPs": [{"cidr": "192.0.2.0/24"}]}), internal.clone(), &["here"], &[]);
    // The other addresses follow the external one.
    let both = json!({
        "type": "LoadBalancer", "clusterIPs": ["10.96.0.1"], "externalIPs": ["203.0.113.1"],
        "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Local",
    });
    check(everything(), both.clone(), &["there"], &["203.0.113.1/32"]);
    check(everything(), both, &["here"], &["10.96.0.1/32", "203.0.113.1/32"]);
}

#[test]
fn an_address_of_two_services_stays_until_both_are_gone() {
    let mut services = Services::new(NODE.into(), None);
    services.set_ranges(ranges(everything()));
    let spec = |cluster: &str| json!({"type": "NodePort", "clusterIPs": [cluster], "externalIPs": ["192.0.2.1"], "externalTrafficPolicy": "Local"});
    put_slice(&mut services, "a-1", &slice("a", "IPv4", &["here"]));
    put_slice(&mut services, "b-1", &slice("b", "IPv4", &["here"]));
    assert_eq!(services.len(), 0, "slices alone are no service");
    assert!(put_service(&mut services, "a", &spec("10.96.0.1")));
    assert!(put_service(&mut services, "b", &spec("10.96.0.2")));
    assert!(!put_service(&mut services, "b", &spec("10.96.0.2")));
    assert_eq!(singles(&services), ["10.96.0.1/32", "10.96.0.2/32", "192.0.2.1/32"]);
    // A second endpoint changes nothing, and neither does the end of one of two.
    assert!(!put_slice(&mut services, "a-2", &slice("a", "IPv4", &["here", "there"])));
    assert!(!put_slice(&mut services, "a-1", &slice("a", "IPv4", &["there"])));
    assert!(put_slice(&mut services, "a-2", &slice("a", "IPv4", &["there"])));
    assert_eq!(singles(&services), ["10.96.0.2/32", "192.0.2.1/32"]);
    // A slice may change its service.
    assert!(put_slice(&mut services, "b-1", &slice("a", "IPv4", &["here"])));
    assert_eq!(singles(&services), ["10.96.0.1/32", "192.0.2.1/32"]);
    let mut none = Vec::new();
    assert!(services.update_service(&key(Kind::KubernetesService, "a"), None, &mut none));
    assert_eq!((singles(&services), services.len()), (Vec::new(), 1));
    assert!(!services.clear());
    assert!(services.is_empty());
}

#[test]
fn one_change_computes_one_service() {
    const SERVICES: u64 = 10_000;
    let mut services = Services::new(NODE.into(), None);
    services.set_ranges(ranges(everything()));
    for n in 0..SERVICES {
        let ip = format!("10.96.{}.{}", n / 250, n % 250);
        let spec = json!({"type": "NodePort", "clusterIPs": [ip], "externalTrafficPolicy": "Local"});
        put_service(&mut services, &n.to_string(), &spec);
    }
    let before = services.computations();
    assert_eq!(before, SERVICES);
    assert!(put_slice(&mut services, "s", &slice("77", "IPv4", &["here"])));
    assert!(put_slice(&mut services, "s", &slice("78", "IPv4", &["here"])));
    assert!(!put_slice(&mut services, "t", &slice("79", "IPv4", &["there"])));
    put_service(&mut services, "78", &json!({"type": "ClusterIP", "clusterIPs": ["10.96.0.78"]}));
    assert_eq!(services.computations() - before, 5, "1 + 2 + 1 + 1");
}

/// What the world looks like: ranges, and services and slices by number.
#[derive(Clone, Debug)]
enum Event {
    Ranges(Value),
    Service(u8, Option<Value>),
    Slice(u8, Option<(u8, bool, Vec<&'static str>)>),
}

fn arbitrary() -> impl Strategy<Value = Event> {
    let cidrs = |of: &'static [&'static str]| prop::sample::subsequence(of, 0..=of.len());
    let blocks =
        |texts: Vec<&'static str>| texts.iter().map(|cidr| json!({ "cidr": cidr })).collect::<Vec<_>>();
    let config = (
        cidrs(&["10.96.0.0/16", "10.96.0.1/32"]),
        cidrs(&["192.0.2.0/24", "192.0.2.1/32"]),
        cidrs(&["198.51.100.0/24", "198.51.100.1/32", "fd00::/64"]),
        prop::sample::select(&["Enabled", "Disabled"]),
    )
        .prop_map(move |(cluster, external, balanced, aggregation)| {
            Event::Ranges(json!({
                "serviceClusterIPs": blocks(cluster), "serviceExternalIPs": blocks(external),
                "serviceLoadBalancerIPs": blocks(balanced), "serviceLoadBalancerAggregation": aggregation,
            }))
        });
    let policy = || prop::sample::select(&["", "Cluster", "Local"]);
    let spec = (
        prop::sample::select(&["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]),
        cidrs(&["10.96.0.1", "fd00::1"]),
        cidrs(&["192.0.2.1", "192.0.2.2", "192.0.3.1"]),
        cidrs(&["198.51.100.1", "198.51.100.2", "fd00::9"]),
        (policy(), policy()),
    )
        .prop_map(|(kind, cluster, external, balanced, policies)| {
            json!({
                "type": kind, "clusterIPs": cluster, "externalIPs": external, "loadBalancerIngress": balanced,
                "externalTrafficPolicy": policies.0, "internalTrafficPolicy": policies.1,
            })
        });
    let nodes = prop::sample::subsequence(&["", "here", "there"][..], 0..=3);
    prop_oneof![
        1 => config,
        3 => (0..4_u8, prop::option::weighted(0.8, spec)).prop_map(|(n, spec)| Event::Service(n, spec)),
        4 => (0..6_u8, prop::option::weighted(0.8, (0..4_u8, any::<bool>(), nodes)))
            .prop_map(|(n, slice)| Event::Slice(n, slice)),
    ]
}

fn take(services: &mut Services, event: &Event) -> bool {
    match event {
        Event::Ranges(spec) => services.set_ranges(ranges(spec.clone())),
        Event::Service(n, spec) => {
            let spec: Option<ServiceSpec> = spec.clone().map(|spec| serde_json::from_value(spec).unwrap());
            let key = key(Kind::KubernetesService, &n.to_string());
            services.update_service(&key, spec.as_ref(), &mut Vec::new())
        }
        Event::Slice(n, spec) => {
            let spec = spec.as_ref().map(|(service, is_v6, nodes)| {
                slice(&service.to_string(), if *is_v6 { "IPv6" } else { "IPv4" }, nodes)
            });
            services.update_slice(&key(Kind::KubernetesEndpointSlice, &format!("s{n}")), spec.as_ref())
        }
    }
}

/// The last event of each object.
fn last(events: &[Event]) -> Vec<&Event> {
    let name = |event: &Event| match event {
        Event::Ranges(_) => (0, 0),
        Event::Service(n, _) => (1, *n),
        Event::Slice(n, _) => (2, *n),
    };
    let is_last =
        |(n, event): &(usize, &Event)| events[n + 1..].iter().all(|later| name(later) != name(event));
    // The other way about: services before slices, ranges when everything else is there.
    let mut last: Vec<&Event> = events.iter().enumerate().filter(is_last).map(|(_, event)| event).collect();
    last.sort_by_key(|event| std::cmp::Reverse(name(event)));
    last
}

proptest! {
    #[test]
    fn changes_come_to_the_same_as_reading_everything_anew(events in prop::collection::vec(arbitrary(), 1..40)) {
        let mut followed = Services::new(NODE.into(), None);
        for event in &events {
            let before = followed.announce(false, true);
            let changed = take(&mut followed, event);
            // An address may be a range as well: then its change is one of words only.
            prop_assert!(changed || followed.announce(false, true) == before, "{event:?} was passed over");
        }
        let mut read = Services::new(NODE.into(), None);
        for event in last(&events) {
            take(&mut read, event);
        }
        prop_assert_eq!(followed.announce(false, true), read.announce(false, true));
        prop_assert_eq!(&followed.services, &read.services, "nothing is kept of what is gone");
        prop_assert_eq!(&followed.slices, &read.slices);
    }
}
