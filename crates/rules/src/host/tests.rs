//! Host endpoints: the four classes of policy, failsafes, the endpoint for all other interfaces.

use calico_calc::change::{Action, HostEndpoint, Rule, TierEnd};
use calico_net::Protocol;

use crate::config::{Config, DenyAction};
use crate::eval::{Fate, Header, Journey, Packet};
use crate::ir::ct;
use crate::world::{World, host, pod, tcp, tcp_rule, tiers};

fn policies() -> [(&'static str, Vec<calico_calc::change::Rule>); 3] {
    [
        ("allow-80", vec![tcp_rule(Action::Allow, 80)]),
        ("deny-80", vec![tcp_rule(Action::Deny, 80)]),
        ("deny-all", vec![Rule::new(Action::Deny)]),
    ]
}

fn world(own: &[HostEndpoint], any: Option<&HostEndpoint>) -> World {
    World::new(Config::default(), &policies()).hosts(own, any).workload(pod(1, &tiers(&[]), &["open"]))
}

fn to_host(interface: &str, port: u16) -> Packet {
    tcp("192.0.2.1", "192.0.2.9", port, [interface, ""])
}

fn from_host(interface: &str, port: u16) -> Packet {
    tcp("192.0.2.9", "192.0.2.1", port, ["", interface])
}

fn through(port: u16) -> Packet {
    tcp("192.0.2.1", "10.0.0.1", port, ["eth0", "cali1"])
}

#[test]
fn without_endpoints_nothing_is_asked() {
    let world = world(&[], None);
    assert!(world.arrives(Journey::Input, to_host("eth0", 80)));
    assert!(world.arrives(Journey::Output, from_host("eth0", 80)));
    assert!(world.arrives(Journey::Forward, through(80)));
}

#[test]
fn an_endpoint_closes_its_own_interface_but_for_policy_and_failsafes() {
    let eth0 = HostEndpoint { tiers: tiers(&[("a", TierEnd::Deny, &["allow-80"])]), ..host("eth0") };
    let world = world(&[eth0], None);
    for (port, open) in [(80, true), (81, false), (22, true), (6443, true)] {
        assert_eq!(world.arrives(Journey::Input, to_host("eth0", port)), open, "{port}");
        assert!(world.arrives(Journey::Input, to_host("eth1", port)), "{port}");
    }
    assert!(world.arrives(Journey::Output, from_host("eth0", 2379)));
    assert!(!world.arrives(Journey::Output, from_host("eth0", 22)));
    // Forwarded traffic is another class: no policy for it, so it is open.
    assert!(world.arrives(Journey::Forward, through(81)));
}

/// Without neighbour discovery a closed IPv6 interface would not even reach its failsafes.
#[test]
fn neighbours_can_always_find_each_other() {
    let world = world(&[host("eth0")], None);
    let header = Header::Icmp(135, 0);
    let packet =
        Packet::new("fe80::1".parse().unwrap(), "ff02::1:ff00:9".parse().unwrap(), Protocol::ICMPV6, header);
    let solicitation =
        Packet { in_interface: "eth0".into(), ct_state: ct::UNTRACKED, destination_local: true, ..packet };
    assert!(world.arrives(Journey::Input, solicitation.clone()));
    let echo = Packet { header: Header::Icmp(128, 0), ct_state: ct::NEW, ..solicitation };
    assert!(!world.arrives(Journey::Input, echo));
}

#[test]
fn the_endpoint_for_all_others_spares_loopback_workloads_and_owned_interfaces() {
    let eth0 = HostEndpoint { tiers: tiers(&[("a", TierEnd::Deny, &["allow-80"])]), ..host("eth0") };
    let any = HostEndpoint { pre_dnat_tiers: tiers(&[("a", TierEnd::Pass, &["deny-80"])]), ..host("*") };
    let world = world(&[eth0], Some(&any));
    assert!(world.arrives(Journey::Input, to_host("eth0", 80)), "its own endpoint has no pre-DNAT policy");
    assert!(!world.arrives(Journey::Input, to_host("eth1", 80)));
    assert!(!world.arrives(Journey::Input, to_host("eth1", 81)));
    assert!(world.arrives(Journey::Input, to_host("lo", 81)));
    assert!(world.arrives(Journey::Output, tcp("192.0.2.9", "10.0.0.1", 81, ["", "cali1"])));
}

#[test]
fn forward_policy_polices_what_passes_through() {
    let list = tiers(&[("a", TierEnd::Deny, &["allow-80"])]);
    let world = world(&[HostEndpoint { forward_tiers: list, ..host("eth0") }], None);
    assert!(world.arrives(Journey::Forward, through(80)));
    assert!(!world.arrives(Journey::Forward, through(81)));
    assert!(!world.arrives(Journey::Forward, through(22)), "failsafes are for the host itself");
}

#[test]
fn untracked_policy_lets_packets_past_conntrack() {
    let list = tiers(&[("a", TierEnd::Pass, &["allow-80"])]);
    let world = world(&[HostEndpoint { untracked_tiers: list, ..host("eth0") }], None);
    let outcome = world.send(Journey::Input, to_host("eth0", 80));
    assert!(!outcome.fate.is_gone());
    assert_eq!(outcome.packet.ct_state, ct::UNTRACKED);
    // What it does not allow goes on, tracked, to the endpoint's normal policy: here none, so closed.
    let outcome = world.send(Journey::Input, to_host("eth0", 81));
    assert!(outcome.fate.is_gone());
    assert_eq!(outcome.packet.ct_state, ct::NEW);
    assert!(world.arrives(Journey::Input, to_host("eth0", 22)));
}

#[test]
fn pre_dnat_policy_comes_before_everything_tracked() {
    let list = tiers(&[("a", TierEnd::Pass, &["deny-80"])]);
    let eth0 = HostEndpoint { pre_dnat_tiers: list, profiles: ["open".into()].into(), ..host("eth0") };
    let world = world(&[eth0], None);
    assert!(!world.arrives(Journey::Forward, through(80)));
    assert!(!world.arrives(Journey::Input, to_host("eth0", 80)));
    assert!(world.arrives(Journey::Input, to_host("eth0", 81)));
}

#[test]
fn what_untracked_policy_passed_is_not_passed_before_dnat() {
    let policies = [
        ("pass-80", vec![tcp_rule(Action::Pass, 80)]),
        ("deny-81", vec![tcp_rule(Action::Deny, 81)]),
        ("deny-80", vec![tcp_rule(Action::Deny, 80)]),
    ];
    let eth0 = HostEndpoint {
        untracked_tiers: tiers(&[("a", TierEnd::Pass, &["pass-80"])]),
        pre_dnat_tiers: tiers(&[("a", TierEnd::Pass, &["deny-81", "deny-80"])]),
        profiles: ["open".into()].into(),
        ..host("eth0")
    };
    let world = World::new(Config::default(), &policies).hosts(&[eth0], None);
    for (port, open) in [(80, false), (81, false), (82, true)] {
        assert_eq!(world.arrives(Journey::Input, to_host("eth0", port)), open, "{port}");
    }
}

/// Where a connection that the host starts really goes is known after destination NAT only.
#[test]
fn translated_connections_are_policed_where_they_leave() {
    let list = tiers(&[("a", TierEnd::Deny, &["deny-all"])]);
    let world = world(&[HostEndpoint { tiers: list, ..host("eth0") }], None);
    let packet = Packet { dnatted: true, ..from_host("eth0", 81) };
    let outcome = world.send(Journey::Output, packet);
    assert!(outcome.fate.is_gone());
    assert!(outcome.trace.iter().any(|s| s.chain == "mangle-POSTROUTING"), "{:#?}", outcome.trace);
    assert!(!world.arrives(Journey::Output, from_host("eth0", 81)));
}

/// POSTROUTING can not refuse: the kernel would not take the table.
#[test]
fn what_the_host_sends_is_dropped_where_others_are_refused() {
    let config = Config { filter_deny: DenyAction::Reject, ..Config::default() };
    let list = tiers(&[("a", TierEnd::Deny, &["deny-80"])]);
    let eth0 = HostEndpoint { tiers: list.clone(), forward_tiers: list, ..host("eth0") };
    let world = World::new(config, &policies()).hosts(&[eth0], None);
    let world = world.workload(pod(1, &tiers(&[]), &["open"]));
    for port in [80, 81] {
        assert_eq!(world.fate(Journey::Input, to_host("eth0", port)), Fate::Reject);
        assert_eq!(world.fate(Journey::Forward, through(port)), Fate::Reject);
        assert_eq!(world.fate(Journey::Output, from_host("eth0", port)), Fate::Drop);
        let translated = Packet { dnatted: true, ..from_host("eth0", port) };
        assert_eq!(world.fate(Journey::Output, translated), Fate::Drop);
    }
}
