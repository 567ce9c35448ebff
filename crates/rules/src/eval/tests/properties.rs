//! The properties, and worlds to hold them against.

use std::sync::Arc;

use calico_api::{Kind, ResourceKey};
use calico_calc::change::{Direction, HostEndpoint, IpSetKind, Policy, Profile, Tier, TierEnd, Workload};
use calico_net::{Cidr, Family, IfName};
use proptest::prelude::*;
use smol_str::SmolStr;

use super::arbitrary::{self, NET_SETS, PORT_SETS};
use super::interpreter::Machine;
use super::naive::{self, Decision, Members};
use crate::config::{Config, DenyAction, EndpointToHost};
use crate::eval::{Fate, Outcome, Packet, Ruleset};
use crate::fragment::{Fragment, Part};
use crate::ir::{Action, Chain, Rule};
use crate::nft::{Element, Hook};
use crate::sets::{self, Placement};
use crate::{graph, interval, name};

fn key(name: &str) -> ResourceKey {
    ResourceKey { kind: Kind::GlobalNetworkPolicy, namespace: SmolStr::default(), name: name.into() }
}

/// The kernel's sets with the members in them, as the dataplane would fill them.
fn fill_sets(part: &mut Part, members: &Members) {
    for (id, members) in members {
        let kind = if NET_SETS.contains(&id.0.as_str()) { IpSetKind::Net } else { IpSetKind::IpPort };
        assert!(kind == IpSetKind::Net || PORT_SETS.contains(&id.0.as_str()));
        sets::ip_set(id, kind).into_iter().for_each(|s| part.add_set(s));
        let mut nets: Vec<Cidr> = Vec::new();
        for member in members {
            match sets::place(id, member) {
                Placement::Exact(set, element) => part.elements.push((set, element)),
                Placement::Net(_, net) => nets.push(net),
            }
        }
        for family in Family::ALL {
            for (first, last) in interval::net_union(&nets, family) {
                let (first, last) =
                    (interval::address_key(first, family), interval::address_key(last, family));
                part.elements.push((sets::nets_name(family, &id.0), Element::Interval { first, last }));
            }
        }
    }
}

/// The evaluator's and the machine's answer for one chain, which must be one.
fn agree(ruleset: &Ruleset, machine: &Machine, chain: &str, packet: &Packet) -> Outcome {
    let outcome = ruleset.run_chain(chain, packet.clone());
    assert_eq!(outcome.broken, None);
    let mut after = packet.clone();
    let fate = machine.run(chain, &mut after);
    assert_eq!((fate, &after), (outcome.fate, &outcome.packet), "trace: {:#?}", outcome.trace);
    outcome
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]

    /// Policy as such: meaning = IR = expressions.
    #[test]
    fn policies_mean_what_they_say(
        rules in prop::collection::vec(arbitrary::rule(), 1..4),
        members in arbitrary::members(),
        packets in prop::collection::vec(arbitrary::packet(), 12),
        refuse in any::<bool>(),
    ) {
        let filter_deny = if refuse { DenyAction::Reject } else { DenyAction::Drop };
        let config = Config { filter_deny, ..Config::default() };
        let policy = Policy { tier: "default".into(), ingress: rules.clone(), egress: Vec::new() };
        let mut part = crate::policy(&key("p"), &policy, &config).inet;
        fill_sets(&mut part, &members);
        part.add_set(sets::port_protocols());
        let (ruleset, machine) = (Ruleset::new(&part), Machine::new(&part));
        let chain = name::policy_chain(&key("p"), Direction::Ingress);
        for mut packet in packets {
            packet.mark &= !config.marks.mask;
            let outcome = agree(&ruleset, &machine, &chain, &packet);
            let marks = outcome.packet.mark & config.marks.mask;
            let decision = match (outcome.fate, marks) {
                (Fate::Drop, 0) if !refuse => Decision::Deny,
                (Fate::Continue, m) if refuse && m == config.marks.drop => Decision::Deny,
                (Fate::Continue, 0) => Decision::Nothing,
                (Fate::Continue, m) if m == config.marks.accept => Decision::Allow,
                (Fate::Continue, m) if m == config.marks.pass => Decision::Pass,
                other => panic!("{other:?}"),
            };
            prop_assert_eq!(decision, naive::decide(&rules, &packet, &members), "{:?}", outcome.trace);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// Any rule that the IR can say, even those that policies never become: IR = expressions.
    #[test]
    fn every_rule_is_lowered_truly(
        matches in prop::collection::vec(arbitrary::ir_match(), 1..4),
        mark in (any::<u32>(), any::<u32>()),
        members in arbitrary::members(),
        packets in prop::collection::vec(arbitrary::packet(), 12),
    ) {
        let (mask, value) = (mark.0, mark.0 & mark.1);
        let mut part = Part::default();
        fill_sets(&mut part, &members);
        part.add_set(sets::port_protocols());
        arbitrary::constant_sets().into_iter().for_each(|s| part.add_set(s));
        let rule = Rule::new(matches, [Action::SetMark { mask, value }, Action::Drop]);
        part.add_chain(Chain::regular("c", vec![rule]));
        let (ruleset, machine) = (Ruleset::new(&part), Machine::new(&part));
        for packet in &packets {
            agree(&ruleset, &machine, "c", packet);
        }
    }
}

/// One world: two workloads with tiers, a host endpoint on eth0, one for all other interfaces.
fn world(policies: &[Vec<calico_calc::change::Rule>], config: &Config) -> Fragment {
    let names: Vec<String> = (0..policies.len()).map(|i| format!("p{i}")).collect();
    let mut fragment = crate::statics(config);
    for (name, rules) in names.iter().zip(policies) {
        let policy = Policy { tier: "t".into(), ingress: rules.clone(), egress: rules.clone() };
        fragment.merge(crate::policy(&key(name), &policy, config));
    }
    let tier = |name: &str, end, policies: &[String]| Tier {
        name: name.into(),
        end,
        ingress: policies.iter().map(|p| key(p)).collect(),
        egress: policies.iter().map(|p| key(p)).collect(),
    };
    let (first, second) = names.split_at(names.len() / 2);
    let tiers: Arc<[Tier]> =
        [tier("first", TierEnd::Pass, first), tier("second", TierEnd::Deny, second)].into();
    fragment.merge(crate::profile("open", &allow_all(), config));
    let workload = |interface: &str, addr: &str, sources: &[&str]| Workload {
        key: key(interface),
        interface: interface.parse().unwrap(),
        mac: None,
        nets: vec![addr.parse().unwrap()],
        allowed_sources: sources.iter().map(|s| s.parse().unwrap()).collect(),
        tiers: tiers.clone(),
        profiles: ["open".into()].into(),
    };
    fragment.merge(crate::workload(&workload("cali1", "10.0.0.1", &[]), config));
    fragment.merge(crate::workload(&workload("cali2", "10.0.0.2", &["192.168.0.0/16", "fd01::/16"]), config));
    let host = HostEndpoint {
        interface: "eth0".into(),
        expected_ips: Vec::new(),
        tiers: tiers.clone(),
        untracked_tiers: [tier("default", TierEnd::Pass, first)].into(),
        pre_dnat_tiers: [tier("default", TierEnd::Pass, second)].into(),
        forward_tiers: tiers.clone(),
        profiles: [].into(),
    };
    let any = HostEndpoint { untracked_tiers: [].into(), interface: "*".into(), ..host.clone() };
    let (host, any) = (crate::host_endpoint(&host, config), crate::host_endpoint(&any, config));
    let eth0: IfName = "eth0".parse().unwrap();
    fragment.merge(crate::host_dispatch([(&eth0, &host)], Some(&any), config));
    fragment
}

fn allow_all() -> Profile {
    let rule = calico_calc::change::Rule::new(calico_calc::change::Action::Allow);
    Profile { ingress: vec![rule.clone()], egress: vec![rule] }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The whole table, every hook: IR = expressions.
    #[test]
    fn the_whole_table_is_lowered_truly(
        policies in prop::collection::vec(prop::collection::vec(arbitrary::rule(), 0..3), 2..5),
        members in arbitrary::members(),
        packets in prop::collection::vec(arbitrary::packet(), 16),
        tunnels in any::<bool>(),
        to_host in prop::sample::select(&[EndpointToHost::Drop, EndpointToHost::Accept, EndpointToHost::Return][..]),
    ) {
        let config = Config {
            filter_deny: if tunnels { DenyAction::Reject } else { DenyAction::Drop },
            vxlan: tunnels,
            ipip: tunnels,
            endpoint_to_host: to_host,
            service_nets: vec!["10.1.0.0/16".parse().unwrap(), "fd01::/16".parse().unwrap()],
            failsafe_in: vec![
                crate::config::Failsafe { protocol: calico_net::Protocol::TCP, net: None, port: 80 },
                crate::config::Failsafe { protocol: calico_net::Protocol::UDP, net: Some("10.0.0.0/8".parse().unwrap()), port: 443 },
            ],
            ..Config::default()
        };
        let mut part = world(&policies, &config).inet;
        fill_sets(&mut part, &members);
        prop_assert_eq!(graph::dangling(&part), Default::default());
        prop_assert!(graph::depth(&part).is_some_and(|d| d <= graph::DEPTH_MAX));
        let (ruleset, machine) = (Ruleset::new(&part), Machine::new(&part));
        for packet in &packets {
            for hook in [Hook::Prerouting, Hook::Input, Hook::Forward, Hook::Output, Hook::Postrouting] {
                for chain in machine.base_chains(hook) {
                    agree(&ruleset, &machine, &chain, packet);
                }
            }
        }
    }
}
