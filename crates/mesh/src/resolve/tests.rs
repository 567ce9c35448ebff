//! What the whole intent takes from where.

use super::*;
use crate::intent::{Advertisement, Community, LogLevel};
use crate::world::{ConfigFacts, WorkloadFacts};

fn local(router_id: &str) -> Local {
    Local { node: "a".into(), router_id: router_id.into(), ..Local::default() }
}

fn world() -> World {
    let mut world = World::default();
    let v4 = Some(("10.0.0.1".parse().unwrap(), 24));
    world.nodes.insert("a".into(), NodeFacts { v4, ..NodeFacts::default() });
    world
}

#[test]
fn a_node_that_is_not_there_yet_has_an_intent_without_sessions() {
    let (intent, problems) = World::default().resolve(&local(""));
    assert!(intent.sessions.is_empty() && problems.is_empty());
    assert_eq!(intent.router_id, select_router_id("hash", "a", None).0);
}

#[test]
fn the_node_s_configuration_comes_before_the_cluster_s() {
    let mut world = world();
    let advertisement = |text: &str| {
        let communities = vec![Community::Standard(1, 2)];
        Some(vec![Advertisement { cidr: text.parse().unwrap(), communities }])
    };
    world.configs.insert(
        "default".into(),
        ConfigFacts {
            listen_port: Some(180),
            log_level: Some(LogLevel::Debug),
            advertisements: advertisement("10.1.0.0/16"),
            normal_priority_v6: Some(7),
            ..ConfigFacts::default()
        },
    );
    let (intent, _) = world.resolve(&local(""));
    assert_eq!((intent.listen.port, intent.log_level), (Some(180), LogLevel::Debug));
    assert_eq!((intent.normal_priority.v4, intent.normal_priority.v6), (1024, 7));
    world.configs.insert(
        "node.a".into(),
        ConfigFacts {
            listen_port: Some(181),
            log_level: Some(LogLevel::Silent),
            advertisements: advertisement("10.2.0.0/16"),
            ..ConfigFacts::default()
        },
    );
    let (intent, _) = world.resolve(&local(""));
    assert_eq!((intent.listen.port, intent.log_level), (Some(181), LogLevel::Silent));
    assert_eq!(Some(intent.advertisements), advertisement("10.2.0.0/16"));
}

#[test]
fn encapsulated_pools_are_the_agent_s_unless_ipip_is_left_to_the_speaker() {
    let mut world = world();
    let pool = |cidr: &str, disable_bgp_export, encapsulation| PoolFacts {
        cidr: cidr.parse().unwrap(),
        disable_bgp_export,
        encapsulation,
    };
    world.pools.insert("z".into(), pool("10.1.0.0/16", false, Encapsulation::Never));
    world.pools.insert("y".into(), pool("10.2.0.0/16", true, Encapsulation::Always));
    use Programmer::{Agent, Speaker, SpeakerTunnel};
    let near = SpeakerTunnel(Some("10.0.0.0/24".parse().unwrap()));
    let programs = |plain, ipip| Some(Programs { plain, ipip });
    // What BGPConfiguration says, how the second pool is encapsulated, who programs each.
    for (programs, encapsulation, plain_by, other_by) in [
        (None, Encapsulation::Always, Speaker, Agent),
        (None, Encapsulation::CrossSubnet, Speaker, Agent),
        (programs(true, true), Encapsulation::Always, Speaker, SpeakerTunnel(None)),
        (programs(true, true), Encapsulation::CrossSubnet, Speaker, near),
        (programs(true, true), Encapsulation::Vxlan, Speaker, Agent),
        (programs(false, true), Encapsulation::CrossSubnet, Agent, near),
        (programs(false, false), Encapsulation::Always, Agent, Agent),
    ] {
        world.pools.insert("y".into(), pool("10.2.0.0/16", true, encapsulation));
        world.configs.insert("default".into(), ConfigFacts { programs, ..ConfigFacts::default() });
        for has_ipip_device in [true, false] {
            let (intent, _) = world.resolve(&Local { has_ipip_device, ..local("") });
            let seen: Vec<_> =
                intent.pools.iter().map(|p| (p.cidr.to_string(), p.export, p.programmed_by)).collect();
            let other_by = if has_ipip_device { other_by } else { Agent };
            let expected = [("10.1.0.0/16", true, plain_by), ("10.2.0.0/16", false, other_by)];
            let expected = expected.map(|(cidr, export, by)| (cidr.to_owned(), export, by));
            assert_eq!(seen, expected, "{programs:?} {encapsulation:?} {has_ipip_device}");
        }
    }
}

#[test]
fn borrowed_is_what_is_in_a_pool_and_in_no_block_of_ours() {
    let mut world = world();
    let cidrs = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect::<Vec<calico_net::Cidr>>();
    let pool = |cidr: &str| PoolFacts {
        cidr: cidr.parse().unwrap(),
        disable_bgp_export: false,
        encapsulation: Encapsulation::Never,
    };
    world.pools.insert("p".into(), pool("10.1.0.0/16"));
    world.blocks.extend(cidrs(&["10.1.0.0/26"]));
    let with = |addrs: &[&str]| WorkloadFacts { addrs: cidrs(addrs), ..WorkloadFacts::default() };
    let key = |name: &str| ResourceKey {
        kind: Kind::WorkloadEndpoint,
        namespace: "default".into(),
        name: name.into(),
    };
    world.workloads.insert(key("x"), with(&["10.1.9.9/32", "10.1.0.5/32", "192.0.2.1/32"]));
    world.workloads.insert(key("y"), with(&["10.1.9.1/32"]));
    let borrowed = |world: &World| world.resolve(&local("")).0.borrowed;
    assert_eq!(borrowed(&world), cidrs(&["10.1.9.1/32", "10.1.9.9/32"]));
    // A block that is given up before its last workload: the address takes its place at once.
    world.blocks.clear();
    assert_eq!(borrowed(&world), cidrs(&["10.1.0.5/32", "10.1.9.1/32", "10.1.9.9/32"]));
}

#[test]
fn what_cannot_be_used_is_named() {
    let mut world = world();
    let ignored_interfaces = vec!["eth*".into(), "a\"; export all".into(), "".into()];
    world.configs.insert("default".into(), ConfigFacts { ignored_interfaces, ..ConfigFacts::default() });
    let (intent, problems) = world.resolve(&local("ten"));
    assert_eq!(intent.ignored_interfaces, ["eth*"]);
    assert_eq!(intent.router_id, std::net::Ipv4Addr::new(10, 0, 0, 1));
    let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 3, "{problems:?}");
    assert!(problems[0].starts_with("Node(a): CALICO_ROUTER_ID"), "{problems:?}");
    assert!(problems[1].starts_with("BGPConfiguration(default): ignoredInterfaces"), "{problems:?}");
}
