//! The shape of what policies become; what it means is tested in `eval`.

use calico_calc::change::{Action as RuleAction, Icmp, IpSetId, Rule, Side};
use calico_net::{Family, Protocol};

use crate::config::Config;
use crate::fragment::Part;
use crate::ir::{Action, Match};
use crate::world::{policy_key, tcp_rule};

fn ingress(rules: Vec<Rule>, config: &Config) -> Part {
    let policy = calico_calc::change::Policy { tier: "t".into(), ingress: rules, egress: Vec::new() };
    crate::policy(&policy_key("p"), &policy, config).inet
}

fn nets(nets: &[&str]) -> Vec<calico_net::Cidr> {
    nets.iter().map(|n| n.parse().unwrap()).collect()
}

fn count(rule: Rule) -> (usize, usize, usize) {
    let part = ingress(vec![rule], &Config::default());
    let own = part.chains.iter().find(|c| c.name == "cali-pi-gnp/p").unwrap();
    let subs = part.chains.iter().filter(|c| c.name.starts_with("cali-r-")).count();
    (own.rules.len(), subs, part.sets.len())
}

/// A rule and how many rules, sub-chains and constant sets it becomes.
#[test]
fn rules_cost_what_they_must() {
    let allow = Rule::new(RuleAction::Allow);
    let set = |id: &str| IpSetId(id.into());
    assert_eq!(count(allow.clone()), (1, 0, 0), "both families at once");
    assert_eq!(count(tcp_rule(RuleAction::Allow, 80)), (1, 0, 0));
    let source = |side| Rule { source: side, ..allow.clone() };
    let one_net = Side { nets: nets(&["10.0.0.0/8"]), ..Side::default() };
    assert_eq!(count(source(one_net)), (1, 0, 0), "the other family can not match");
    let many = Side { nets: nets(&["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]), ..Side::default() };
    assert_eq!(count(source(many)), (2, 0, 1));
    let selected = Side { ip_sets: vec![set("s:a")], ..Side::default() };
    assert_eq!(count(source(selected.clone())), (4, 0, 0), "hash or prefixes, two families");
    let not_selected = Side { not_ip_sets: vec![set("s:a")], ..Side::default() };
    assert_eq!(count(source(not_selected)), (2, 0, 0), "neither hash nor prefixes");
    let both = Rule { destination: selected.clone(), ..source(selected.clone()) };
    assert_eq!(count(both), (2, 2, 0));
    let logged = Rule { action: RuleAction::Log, ..source(selected) };
    assert_eq!(count(logged), (2, 2, 0), "an address in both parts is logged once");
}

#[test]
fn rules_that_no_packet_meets_are_not_written() {
    let allow = || Rule::new(RuleAction::Allow);
    let outside_everything = Side { not_nets: nets(&["0.0.0.0/1", "128.0.0.0/1"]), ..Side::default() };
    let v4_to_v6 = Rule {
        source: Side { nets: nets(&["10.0.0.0/8"]), ..Side::default() },
        destination: Side { nets: nets(&["fd00::/8"]), ..Side::default() },
        ..allow()
    };
    assert_eq!(count(v4_to_v6).0, 0);
    assert_eq!(count(Rule { source: outside_everything, ..allow() }).0, 0, "IPv6 is not meant");
    let outside_both = Side { not_nets: nets(&["0.0.0.0/0", "fd00::/8"]), ..Side::default() };
    assert_eq!(count(Rule { source: outside_both, ..allow() }).0, 1);
    let ports_of_gre = Rule { protocol: Protocol::new(47), ..tcp_rule(RuleAction::Allow, 80) };
    assert_eq!(count(ports_of_gre).0, 0);
    let ping = Icmp { icmp_type: 8, code: None };
    assert_eq!(count(Rule { icmp: Some(ping), protocol: Some(Protocol::ICMP), ..allow() }).0, 1);
    let wrong =
        Rule { family: Some(Family::V6), icmp: Some(ping), protocol: Some(Protocol::ICMP), ..allow() };
    assert_eq!(count(wrong).0, 0);
}

/// A packet without ports has no port of any name.
#[test]
fn without_a_protocol_a_negated_named_port_only_takes_away() {
    use crate::eval::{Header, Packet, Ruleset};
    let side = Side { not_named_ports: vec![IpSetId("n:web".into())], ..Side::default() };
    let any = Rule { destination: side, ..Rule::new(RuleAction::Deny) };
    let tcp = Rule { protocol: Some(Protocol::TCP), ..any.clone() };
    for (rule, meets) in [(any, [true, true, true]), (tcp, [false, false, true])] {
        let mut part = ingress(vec![rule], &Config::default());
        for set in crate::ip_set(&IpSetId("n:web".into()), calico_calc::change::IpSetKind::IpPort) {
            part.add_set(set);
        }
        let packets = [
            (Protocol::ICMP, Header::Icmp(8, 0)),
            (Protocol::TCP, Header::Opaque),
            (Protocol::TCP, Header::Ports(40000, 80)),
        ];
        let found = packets.map(|(protocol, header)| {
            let packet =
                Packet::new("10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap(), protocol, header);
            Ruleset::new(&part).run_chain("cali-pi-gnp/p", packet).fate.is_gone()
        });
        assert_eq!(found, meets);
    }
}

#[test]
fn everything_of_a_family_is_that_family() {
    let any_v4 = Rule {
        source: Side { nets: nets(&["0.0.0.0/0", "10.0.0.0/8"]), ..Side::default() },
        ..Rule::new(RuleAction::Deny)
    };
    let part = ingress(vec![any_v4], &Config::default());
    assert_eq!(part.chains[0].rules[0].matches, [Match::Family(Family::V4)]);
}

#[test]
fn logs_say_whose_rule_it_is() {
    for (prefix, expected) in [
        ("calico-packet", "calico-packet: "),
        ("%t.%k.%n.%p", "t.GlobalNetworkPolicy.p.p: "),
        ("say \"x\"", "say 'x': "),
    ] {
        let config = Config { log_prefix: prefix.into(), ..Config::default() };
        let part = ingress(vec![Rule::new(RuleAction::Log)], &config);
        let Action::Log { prefix, limit: None } = &part.chains[0].rules[0].actions[0] else { panic!() };
        assert_eq!(prefix, expected);
    }
    let long = Config { log_prefix: "é".repeat(100).into(), ..Config::default() };
    let part = ingress(vec![Rule::new(RuleAction::Log)], &long);
    let Action::Log { prefix, .. } = &part.chains[0].rules[0].actions[0] else { panic!() };
    assert!(prefix.len() <= 127 && prefix.ends_with(": "));
}

#[test]
fn comments_fit_beside_the_hash() {
    let long = crate::ir::Rule::new([], []).comment(&"ü\"".repeat(100));
    assert!(long.comment.len() <= crate::ir::Rule::COMMENT_MAX);
    assert!(!long.comment.contains('"'));
}
