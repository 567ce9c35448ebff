//! Workloads: tiers, profiles, connections, spoofing, sharing.

use calico_calc::change::{Action, Rule, TierEnd};
use calico_net::Protocol;

use crate::config::{AllowAction, Config, DenyAction};
use crate::eval::{Fate, Header, Journey, Packet};
use crate::ir::ct;
use crate::world::{World, pod, policy_key, tcp, tcp_rule, tiers};

fn in_to_pod(port: u16) -> Packet {
    tcp("192.0.2.1", "10.0.0.1", port, ["eth0", "cali1"])
}

/// (tiers, profiles) and what becomes of a connection to port 80 of the workload.
#[test]
fn tiers_decide_in_order() {
    use TierEnd::{Deny, Pass};
    let policies = [
        ("allow-80", vec![tcp_rule(Action::Allow, 80)]),
        ("deny-80", vec![tcp_rule(Action::Deny, 80)]),
        ("pass-80", vec![tcp_rule(Action::Pass, 80)]),
        ("allow-81", vec![tcp_rule(Action::Allow, 81)]),
        ("log", vec![Rule::new(Action::Log)]),
    ];
    type Tiers<'a> = &'a [(&'a str, TierEnd, &'a [&'a str])];
    let cases: [(Tiers<'_>, &[&str], bool); 16] = [
        (&[], &[], false),
        (&[], &["open"], true),
        (&[("a", Deny, &[])], &["open"], true),
        (&[("a", Deny, &["allow-80"])], &[], true),
        (&[("a", Deny, &["allow-81"])], &["open"], false),
        (&[("a", Pass, &["allow-81"])], &["open"], true),
        (&[("a", Pass, &["allow-81"])], &[], false),
        (&[("a", Deny, &["deny-80", "allow-80"])], &["open"], false),
        (&[("a", Deny, &["allow-80", "deny-80"])], &[], true),
        (&[("a", Deny, &["pass-80", "deny-80"])], &["open"], true),
        (&[("a", Deny, &["pass-80"]), ("b", Deny, &["allow-81"])], &["open"], false),
        (&[("a", Deny, &["pass-80"]), ("b", Deny, &["allow-80"])], &[], true),
        (&[("a", Pass, &["allow-81"]), ("b", Deny, &["allow-80"])], &[], true),
        (&[("a", Deny, &["allow-80"]), ("b", Deny, &["deny-80"])], &[], true),
        (&[("a", Deny, &["log"])], &["open"], false),
        (&[("a", Deny, &["log", "allow-80"])], &[], true),
    ];
    for (list, profiles, expected) in cases {
        let world = World::new(Config::default(), &policies).hosts(&[], None);
        let world = world.workload(pod(1, &tiers(list), profiles));
        let outcome = world.send(Journey::Forward, in_to_pod(80));
        assert_eq!(!outcome.fate.is_gone(), expected, "{list:?} {profiles:?}: {:#?}", outcome.trace);
    }
}

/// More policies than are asked before an accepted packet leaves: each of them can still decide, and the first does.
#[test]
fn long_tiers_work_at_every_place() {
    let names: Vec<String> = (0..20).map(|i| format!("p{i}")).collect();
    let policies: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, n)| (n.as_str(), vec![tcp_rule(Action::Allow, 1000 + i as u16)]))
        .collect();
    let list: Vec<&str> = names.iter().map(String::as_str).collect();
    let world = World::new(Config::default(), &policies).hosts(&[], None);
    let world = world.workload(pod(1, &tiers(&[("a", TierEnd::Deny, &list)]), &[]));
    for port in 1000..1020 {
        assert!(world.arrives(Journey::Forward, in_to_pod(port)), "{port}");
    }
    assert!(!world.arrives(Journey::Forward, in_to_pod(1020)));
}

#[test]
fn both_ends_must_allow_traffic_between_two_workloads() {
    let policies =
        [("allow-80", vec![tcp_rule(Action::Allow, 80)]), ("allow-81", vec![tcp_rule(Action::Allow, 81)])];
    let only = |name| tiers(&[("a", TierEnd::Deny, &[name])]);
    let between = tcp("10.0.0.1", "10.0.0.2", 80, ["cali1", "cali2"]);
    for (from, to, expected) in
        [("allow-80", "allow-80", true), ("allow-80", "allow-81", false), ("allow-81", "allow-80", false)]
    {
        let world = World::new(Config::default(), &policies).hosts(&[], None);
        let world = world.workload(pod(1, &only(from), &[])).workload(pod(2, &only(to), &[]));
        assert_eq!(world.arrives(Journey::Forward, between.clone()), expected, "{from} {to}");
    }
}

#[test]
fn connections_outlive_their_policy_and_impossible_packets_die() {
    for (allow, fate) in [(AllowAction::Accept, Fate::Accept), (AllowAction::Return, Fate::Continue)] {
        let config = Config { filter_allow: allow, mangle_allow: allow, ..Config::default() };
        let world = World::new(config, &[]).hosts(&[], None).workload(pod(1, &tiers(&[]), &[]));
        let of_state = |ct_state| Packet { ct_state, ..in_to_pod(80) };
        let outcome = world.send(Journey::Forward, of_state(ct::ESTABLISHED));
        assert!(!outcome.fate.is_gone());
        let forward = crate::eval::Ruleset::new(&world.fragment.inet)
            .run_chain("filter-FORWARD", of_state(ct::ESTABLISHED));
        assert_eq!(forward.fate, fate);
        assert!(world.arrives(Journey::Forward, of_state(ct::RELATED)));
        assert!(!world.arrives(Journey::Forward, of_state(ct::NEW)));
        assert!(!world.arrives(Journey::Forward, of_state(ct::INVALID)));
    }
}

#[test]
fn workloads_can_not_pretend_to_be_tunnels() {
    let vxlan = |source: &str, to: &str| {
        let header = Header::Ports(50000, 4789);
        let packet = Packet::new(source.parse().unwrap(), to.parse().unwrap(), Protocol::UDP, header);
        Packet { in_interface: "cali1".into(), out_interface: "eth0".into(), ..packet }
    };
    let ipip = Packet { protocol: 4, header: Header::Opaque, ..vxlan("10.0.0.1", "192.0.2.1") };
    let free =
        Config { allow_ipip_from_workloads: true, allow_vxlan_from_workloads: true, ..Config::default() };
    for (config, expected) in [(Config::default(), false), (free, true)] {
        let world = World::new(config, &[]).hosts(&[], None).workload(pod(1, &tiers(&[]), &["open"]));
        assert_eq!(world.arrives(Journey::Forward, vxlan("10.0.0.1", "192.0.2.1")), expected);
        assert_eq!(world.arrives(Journey::Forward, vxlan("fd00::1", "fd01::1")), expected);
        assert_eq!(world.arrives(Journey::Forward, ipip.clone()), expected);
    }
}

/// Denied by a policy (in a list long enough to be asked halfway), by a tier's end, by having no profile.
#[test]
fn denied_packets_can_be_refused() {
    let mut policies: Vec<_> =
        ["a", "b", "c", "d", "e", "f", "g", "h", "i"].map(|n| (n, vec![tcp_rule(Action::Allow, 81)])).into();
    policies[0].1 = vec![tcp_rule(Action::Deny, 80)];
    let names: Vec<&str> = policies.iter().map(|p| p.0).collect();
    let config = Config { filter_deny: DenyAction::Reject, ..Config::default() };
    for list in [&names[..], &names[..1], &names[1..2], &[]] {
        let world = World::new(config.clone(), &policies).hosts(&[], None);
        let world = world.workload(pod(1, &tiers(&[("t", TierEnd::Deny, list)]), &[]));
        assert_eq!(world.fate(Journey::Forward, in_to_pod(80)), Fate::Reject, "{list:?}");
        if list.len() > 1 {
            assert!(world.arrives(Journey::Forward, in_to_pod(81)), "{list:?}");
        }
    }
}

#[test]
fn endpoints_of_one_policy_list_share_their_chains() {
    let config = Config::default();
    let list = tiers(&[("a", TierEnd::Deny, &["p"])]);
    let (one, two) =
        (crate::workload(&pod(1, &list, &[]), &config), crate::workload(&pod(2, &list, &[]), &config));
    assert_eq!(one.inet.chains, two.inet.chains);
    assert_ne!(one.inet.elements, two.inet.elements);
    let other = crate::workload(&pod(1, &tiers(&[("a", TierEnd::Deny, &["q"])]), &[]), &config);
    assert!(other.inet.chains.iter().all(|c| one.inet.chains.iter().all(|o| o.name != c.name)));
}

/// One policy edit touches that policy's chains and nothing else.
#[test]
fn a_policy_edit_changes_its_own_chain_only() {
    let config = Config::default();
    let policy =
        |rules: Vec<_>| calico_calc::change::Policy { tier: "t".into(), ingress: rules, egress: vec![] };
    let before = crate::policy(&policy_key("p"), &policy(vec![tcp_rule(Action::Allow, 80)]), &config);
    let after = crate::policy(
        &policy_key("p"),
        &policy(vec![tcp_rule(Action::Deny, 22), tcp_rule(Action::Allow, 80)]),
        &config,
    );
    let names = |f: &crate::Fragment| f.inet.chains.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    // The rule that stayed is the same rule, so its counter can stay.
    assert_eq!(before.inet.chains[0].rules[0], after.inet.chains[0].rules[1]);
}
