//! Which pools and configurations leave nodes without a way to each other.

use super::*;
use crate::world::{ConfigFacts, PoolFacts, Programs};

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
    world.needs_ipip("a").iter().map(ToString::to_string).collect()
}

const NEAR: [(&str, &str); 2] = [("a", "10.0.0.1"), ("b", "10.0.0.2")];
const FAR: [(&str, &str); 3] = [("a", "10.0.0.1"), ("b", "10.0.0.2"), ("c", "10.0.9.1")];

#[test]
fn pools_that_need_no_module() {
    assert!(texts(&world(&FAR, Encapsulation::Never)).is_empty());
    assert!(texts(&world(&FAR, Encapsulation::Vxlan)).is_empty());
}

#[test]
fn the_module_and_both_remedies_are_named() {
    let texts = texts(&world(&NEAR, Encapsulation::Always));
    assert_eq!(texts.len(), 1);
    assert!(texts[0].starts_with("IPPool(p): ipipMode: this node's kernel has no IPIP"), "{texts:?}");
    assert!(texts[0].contains("`modprobe ipip`"), "{texts:?}");
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
fn routes_that_are_for_nobody_to_program() {
    let programs = |plain, ipip| Programs { plain, ipip };
    for (encapsulation, programs, ipip_is_speakers, expected) in [
        (Encapsulation::Never, programs(true, false), true, vec![]),
        (Encapsulation::Never, programs(false, false), false, vec!["only BIRD programs plain routes"]),
        (Encapsulation::Always, programs(true, false), false, vec![]),
        (Encapsulation::Always, programs(true, false), true, vec!["neither the agent nor BIRD"]),
        (Encapsulation::CrossSubnet, programs(true, false), true, vec!["neither the agent nor BIRD"]),
        (Encapsulation::Always, programs(true, true), true, vec![]),
        (Encapsulation::Vxlan, programs(true, false), true, vec![]),
    ] {
        let mut world = world(&NEAR, encapsulation);
        let config = ConfigFacts { programs: Some(programs), ..ConfigFacts::default() };
        world.configs.insert("default".into(), config);
        let local = Local { node: "a".into(), ipip_is_speakers, ..Local::default() };
        let found = world.unrouted(&local);
        let texts: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(texts.len(), expected.len(), "{texts:?}");
        for (text, expected) in texts.iter().zip(expected) {
            assert!(text.starts_with("BGPConfiguration(default): programClusterRoutes"), "{text}");
            assert!(text.contains(expected), "{text}");
        }
        // Whoever reads all problems finds these among them.
        let all = world.resolve(&local).1;
        assert!(found.iter().all(|problem| all.contains(problem)));
    }
}
