//! Which pools and configurations leave nodes without a way to each other.

use super::*;
use crate::world::{ConfigFacts, PoolFacts};

fn world(nodes: &[(&str, &str)], encapsulation: Encapsulation) -> World {
    let mut world = World::default();
    for (name, addr) in nodes {
        let v4 = Some((addr.parse().unwrap(), 24));
        world.nodes.insert((*name).into(), NodeFacts { v4, ..NodeFacts::default() });
    }
    let cidr = "10.1.0.0/16".parse().unwrap();
    world.pools.insert("p".into(), PoolFacts { cidr, disable_bgp_export: false, encapsulation });
    world
}

fn texts(world: &World) -> Vec<String> {
    world.unrouted("a").iter().map(ToString::to_string).collect()
}

const NEAR: [(&str, &str); 2] = [("a", "10.0.0.1"), ("b", "10.0.0.2")];
const FAR: [(&str, &str); 3] = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.9.1")];

#[test]
fn plain_pools_are_routed() {
    assert!(texts(&world(&FAR, Encapsulation::Never)).is_empty());
    assert!(texts(&world(&FAR, Encapsulation::Vxlan)).is_empty(), "by the agent");
}

#[test]
fn encapsulated_pools_are_not() {
    let texts = texts(&world(&NEAR, Encapsulation::Always));
    assert_eq!(texts.len(), 1);
    assert!(texts[0].starts_with("IPPool(p): ipipMode: this build has no IPIP tunnels yet"), "{texts:?}");
    let remedy = r#"calicoctl patch ippool p -p '{"spec":{"ipipMode":"Never","vxlanMode":"Always"}}'"#;
    assert!(texts[0].ends_with(remedy), "{texts:?}");
}

#[test]
fn across_subnets_only_where_there_are_two() {
    assert!(texts(&world(&NEAR, Encapsulation::CrossSubnet)).is_empty());
    let texts = texts(&world(&FAR, Encapsulation::CrossSubnet));
    assert_eq!(texts.len(), 1);
    assert!(texts[0].contains("outside the subnet 10.0.0.0/24, such as c (10.0.9.1)"), "{texts:?}");
}

#[test]
fn a_cluster_whose_routes_are_for_others_to_program() {
    let mut world = world(&NEAR, Encapsulation::Never);
    let off = ConfigFacts { programs_plain_routes: Some(false), ..ConfigFacts::default() };
    world.configs.insert("default".into(), off);
    let texts = texts(&world);
    assert!(texts[0].starts_with("BGPConfiguration(default): programClusterRoutes"), "{texts:?}");
    // Whoever reads all problems finds these among them.
    let local = crate::Local { node: "a".into(), router_id: String::new() };
    assert!(world.resolve(&local).1.contains(&world.unrouted("a")[0]));
}
