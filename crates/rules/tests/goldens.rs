//! What a node's tables look like, as text that `nft -f` loads: one file per situation in `goldens/`.
//!
//! `UPDATE_GOLDENS=1 cargo test -p calico-rules --test goldens` writes them anew. Where `nft` and the right to make a
//! network namespace are there, the kernel is asked as well: every golden must load.

#![allow(clippy::disallowed_methods, reason = "a test of files reads files and its update switch")]
#![allow(clippy::print_stdout, reason = "a test that can not ask the kernel says so")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use calico_api::{Kind, ResourceKey};
use calico_calc::change::{
    Action, HostEndpoint, Icmp, IpSetId, IpSetKind, Policy, Profile, Rule, Side, Tier, TierEnd, Workload,
};
use calico_net::{Family, IfName, PortRange, Protocol};
use calico_rules::config::{Config, DenyAction, EndpointToHost, Failsafe, Tunnel};
use calico_rules::nft::Table;
use calico_rules::render::text::table_text;
use calico_rules::{
    Fragment, graph, host_dispatch, host_endpoint, ip_set, policy, profile, statics, workload,
};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("goldens")
}

fn check(name: &str, fragment: &Fragment) {
    for part in [&fragment.inet, &fragment.arp] {
        assert!(graph::depth(part).expect("no circles") <= graph::DEPTH_MAX);
        assert_eq!(graph::dangling(part), Default::default());
        assert!(!part.chains.iter().any(graph::has_dead_actions));
    }
    let mut text = table_text(Table::Inet, &fragment.inet);
    if !fragment.arp.chains.is_empty() {
        text.push_str(&table_text(Table::Arp, &fragment.arp));
    }
    let path = folder().join(format!("{name}.nft"));
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &text).expect("goldens can be written");
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(expected, text, "{} differs; UPDATE_GOLDENS=1 writes it", path.display());
    load(&path);
}

/// The kernel's opinion, in a network namespace that lives as long as `nft` does.
fn load(path: &Path) {
    let nft = |arguments: &[&str]| Command::new("unshare").args(["-Urn", "nft"]).args(arguments).output();
    match nft(&["list", "tables"]) {
        Ok(out) if out.status.success() => {}
        _ => {
            println!("skipped: no nft, or no right to make a network namespace");
            return;
        }
    }
    let out = nft(&["-f", path.to_str().expect("the path is text")]).expect("it ran just now");
    assert!(out.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&out.stderr));
}

fn rule(action: Action, protocol: Option<Protocol>) -> Rule {
    Rule { protocol, ..Rule::new(action) }
}

fn set(id: &str) -> IpSetId {
    IpSetId(id.into())
}

fn nets<const N: usize>(nets: [&str; N]) -> Vec<calico_net::Cidr> {
    nets.iter().map(|n| n.parse().expect("a prefix")).collect()
}

fn ports<const N: usize>(ports: [&str; N]) -> Vec<PortRange> {
    ports.iter().map(|p| p.parse().expect("a port range")).collect()
}

fn key(kind: Kind, namespace: &str, name: &str) -> ResourceKey {
    ResourceKey { kind, namespace: namespace.into(), name: name.into() }
}

/// Each way a rule can be written, in one policy.
fn all_shapes() -> Vec<Rule> {
    let tcp = Some(Protocol::TCP);
    let mut shapes = vec![rule(Action::Log, None)];
    // From a selector, to ports: the commonest rule there is.
    let mut common = rule(Action::Allow, tcp);
    common.source.ip_sets = vec![set("s:frontend")];
    common.destination.ports = ports(["80", "443", "8000:8080"]);
    shapes.push(common.clone());
    // A named port beside numbers, from a selector: a sub-chain.
    common.destination.named_ports = vec![set("n:metrics")];
    shapes.push(common);
    // Prefixes of both families, with exceptions.
    let mut prefixes = rule(Action::Deny, tcp);
    prefixes.source.nets = nets(["10.0.0.0/8", "192.168.0.0/16", "fd00::/8"]);
    prefixes.source.not_nets = nets(["10.1.0.0/16"]);
    prefixes.destination.not_ports = ports(["22"]);
    shapes.push(prefixes);
    let mut ping = rule(Action::Allow, Some(Protocol::ICMP));
    ping.icmp = Some(Icmp { icmp_type: 8, code: Some(0) });
    shapes.push(ping);
    let mut not_ping = rule(Action::Pass, Some(Protocol::ICMPV6));
    not_ping.not_icmp = Some(Icmp { icmp_type: 128, code: None });
    shapes.push(not_ping);
    // Outsiders by UDP; anything but TCP.
    let mut outsiders = rule(Action::Allow, Some(Protocol::UDP));
    outsiders.source.not_ip_sets = vec![set("s:insiders")];
    outsiders.destination.named_ports = vec![set("n:dns")];
    shapes.push(outsiders);
    let mut other = rule(Action::Pass, None);
    other.not_protocol = tcp;
    other.family = Some(Family::V4);
    shapes.push(other);
    // A selector on both ends: a sub-chain per family.
    let mut both = rule(Action::Deny, None);
    both.source.ip_sets = vec![set("s:frontend")];
    both.destination.ip_sets = vec![set("s:backend")];
    shapes.push(both);
    shapes
}

fn policies(config: &Config) -> Fragment {
    let mut fragment = Fragment::default();
    for (id, kind) in [
        ("s:frontend", IpSetKind::Net),
        ("s:backend", IpSetKind::Net),
        ("s:insiders", IpSetKind::Net),
        ("n:metrics", IpSetKind::IpPort),
        ("n:dns", IpSetKind::IpPort),
    ] {
        fragment.inet.sets.extend(ip_set(&set(id), kind));
    }
    let shapes = Policy { tier: "default".into(), ingress: all_shapes(), egress: Vec::new() };
    fragment.merge(policy(&key(Kind::NetworkPolicy, "shop", "knp.default.all-shapes"), &shapes, config));
    let dns = Rule {
        destination: Side { ports: ports(["53"]), ..Side::default() },
        ..rule(Action::Allow, Some(Protocol::UDP))
    };
    let dns = Policy { tier: "platform".into(), ingress: Vec::new(), egress: vec![dns] };
    fragment.merge(policy(&key(Kind::GlobalNetworkPolicy, "", "platform.dns"), &dns, config));
    let open = Profile { ingress: vec![rule(Action::Allow, None)], egress: vec![rule(Action::Allow, None)] };
    fragment.merge(profile("kns.shop", &open, config));
    fragment
}

fn tiers() -> Arc<[Tier]> {
    let dns = key(Kind::GlobalNetworkPolicy, "", "platform.dns");
    let shapes = key(Kind::NetworkPolicy, "shop", "knp.default.all-shapes");
    let tier = |name: &str, end, ingress, egress| Tier { name: name.into(), end, ingress, egress };
    [
        tier("platform", TierEnd::Pass, vec![], vec![dns]),
        tier("default", TierEnd::Deny, vec![shapes.clone()], vec![shapes]),
    ]
    .into()
}

fn pod(interface: &str, addresses: [&str; 2], sources: &[&str]) -> Workload {
    Workload {
        key: key(Kind::WorkloadEndpoint, "shop", interface),
        interface: interface.parse().expect("an interface name"),
        mac: None,
        nets: nets(addresses),
        allowed_sources: sources.iter().map(|s| s.parse().expect("a prefix")).collect(),
        tiers: tiers(),
        profiles: ["kns.shop".into()].into(),
    }
}

/// A node without endpoints, with Calico's defaults.
#[test]
fn empty_node() {
    let config = Config::default();
    let mut fragment = statics(&config);
    fragment.merge(host_dispatch([], None, &config));
    check("empty-node", &fragment);
}

/// Every option away from its default.
#[test]
fn configured_node() {
    let failsafe = |protocol, net: Option<&str>, port| Failsafe {
        protocol,
        net: net.map(|n| n.parse().expect("a prefix")),
        port,
    };
    let config = Config {
        interface_prefixes: vec!["cali".into(), "tap".into()],
        endpoint_to_host: EndpointToHost::Accept,
        allow_vxlan_from_workloads: true,
        allow_ipip_from_workloads: true,
        vxlan: true,
        ipip: true,
        drop_invalid: false,
        failsafe_in: vec![
            failsafe(Protocol::TCP, None, 22),
            failsafe(Protocol::TCP, Some("10.0.0.0/8"), 6443),
            failsafe(Protocol::TCP, Some("fd00::/8"), 6443),
        ],
        failsafe_out: Vec::new(),
        nat_address: Some([203, 0, 113, 1].into()),
        nat_ports: Some(PortRange { first: 20000, last: 29999 }),
        nat_interface: Some("eth+".into()),
        nat_spares_hosts: true,
        tunnels: vec![Tunnel { interface: "vxlan.calico".into(), addr: [10, 244, 0, 0].into() }],
        service_nets: nets(["10.96.0.0/12", "fd00:10::/108"]),
        service_loop_reject: true,
        ..Config::default()
    };
    let mut fragment = statics(&config);
    fragment.merge(host_dispatch([], None, &config));
    check("configured-node", &fragment);
}

/// Two workloads of one policy list share their chains; one of them may use foreign sources.
#[test]
fn workloads() {
    let config = Config { log_limit: Some((10, 60)), log_prefix: "%t/%k/%p".into(), ..Config::default() };
    let mut fragment = statics(&config);
    fragment.merge(host_dispatch([], None, &config));
    fragment.merge(policies(&config));
    fragment.merge(workload(&pod("cali0a1b2c3d4e5", ["10.244.0.1", "fd00::1"], &[]), &config));
    fragment.merge(workload(
        &pod("cali5e4d3c2b1a0", ["10.244.0.2", "fd00::2"], &["192.0.2.0/24", "198.51.100.0/24"]),
        &config,
    ));
    let bodies = |prefix| fragment.inet.chains.iter().filter(|c| c.name.starts_with(prefix)).count();
    assert_eq!((bodies("cali-fw-"), bodies("cali-tw-")), (1, 1), "one body for both");
    check("workloads", &fragment);
}

/// All four classes of policy on a named interface, and an endpoint for all others.
#[test]
fn host_endpoints() {
    let config = Config::default();
    let mut fragment = statics(&config);
    fragment.merge(policies(&config));
    let endpoint = HostEndpoint {
        interface: "eth0".into(),
        expected_ips: Vec::new(),
        tiers: tiers(),
        untracked_tiers: tiers(),
        pre_dnat_tiers: tiers(),
        forward_tiers: tiers(),
        profiles: ["kns.shop".into()].into(),
    };
    let none: Arc<[Tier]> = [].into();
    let any = HostEndpoint {
        interface: "*".into(),
        untracked_tiers: none.clone(),
        forward_tiers: none,
        ..endpoint.clone()
    };
    let (endpoint, any) = (host_endpoint(&endpoint, &config), host_endpoint(&any, &config));
    let eth0: IfName = "eth0".parse().expect("an interface name");
    fragment.merge(host_dispatch([(&eth0, &endpoint)], Some(&any), &config));
    check("host-endpoints", &fragment);
}

/// The same node with denied packets refused, where the kernel allows that.
#[test]
fn host_endpoints_that_refuse() {
    let config = Config { filter_deny: DenyAction::Reject, ..Config::default() };
    let mut fragment = statics(&config);
    fragment.merge(policies(&config));
    let endpoint = HostEndpoint {
        interface: "eth0".into(),
        expected_ips: Vec::new(),
        tiers: tiers(),
        untracked_tiers: tiers(),
        pre_dnat_tiers: tiers(),
        forward_tiers: tiers(),
        profiles: ["kns.shop".into()].into(),
    };
    let endpoint = host_endpoint(&endpoint, &config);
    let eth0: IfName = "eth0".parse().expect("an interface name");
    fragment.merge(host_dispatch([(&eth0, &endpoint)], None, &config));
    fragment.merge(workload(&pod("cali0a1b2c3d4e5", ["10.244.0.1", "fd00::1"], &[]), &config));
    check("host-endpoints-refuse", &fragment);
}
