//! Goldens of the configuration, and the judgement of BIRD itself on each of them.
//!
//! `UPDATE_GOLDENS=1` writes what is rendered over what is expected.

use std::path::PathBuf;
use std::process::Command;

use calico_net::Asn;

use super::*;
use crate::birdc::PeerKind;
use crate::filter::{Condition, Filter, FilterRule, Operation, Prefixes};
use crate::intent::{Advertisement, NormalPriority, PoolIntent, Programmer, ServiceIntent};
use crate::password::Password;

fn intent() -> BgpIntent {
    BgpIntent {
        router_id: std::net::Ipv4Addr::new(10, 0, 0, 1),
        log_level: LogLevel::Normal,
        listen: Listen::default(),
        ignored_interfaces: Vec::new(),
        sessions: Vec::new(),
        filters: std::collections::BTreeMap::new(),
        secrets: Vec::new(),
        blocks: Vec::new(),
        borrowed: Vec::new(),
        gateways: Vec::new(),
        pools: Vec::new(),
        services: ServiceIntent::default(),
        advertisements: Vec::new(),
        normal_priority: NormalPriority::default(),
    }
}

fn session(kind: PeerKind, addr: &str, own: &str) -> Session {
    Session {
        name: PeerName { kind, addr: addr.parse().unwrap(), port: None },
        port: None,
        remote_as: Asn(64512),
        local_as: Asn(64512),
        own_addr: own.parse().unwrap(),
        from_own_addr: true,
        passive: false,
        ttl_security_hops: None,
        reflect_as: None,
        restart_time_secs: None,
        keepalive_secs: None,
        next_hop: NextHopMode::Auto,
        allow_local_as: None,
        filters: Vec::new(),
        password: None,
        bfd: false,
        long_lived: false,
    }
}

fn pool(cidr: &str, export: bool, programmed_by: Programmer) -> PoolIntent {
    PoolIntent { cidr: cidr.parse().unwrap(), export, programmed_by }
}

#[expect(clippy::disallowed_methods, reason = "tests read goldens and the switch that renews them")]
fn check(name: &str, intent: &BgpIntent) {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "src/bird/tests", name].iter().collect();
    let text = render(intent, "/var/log/calico/bird.log");
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text, expected, "{name} differs; UPDATE_GOLDENS=1 renews it");
    match Command::new("/usr/sbin/bird").arg("-p").arg("-c").arg(&path).output() {
        Err(e) => println!("skipped: /usr/sbin/bird cannot be run: {e}"),
        Ok(output) => assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr)),
    }
}

#[test]
fn empty() {
    check("empty.conf", &intent());
}

#[test]
fn mesh() {
    let mut b = session(PeerKind::Mesh, "10.0.0.2", "10.0.0.1");
    b.passive = true;
    let sessions = vec![b, session(PeerKind::Mesh, "fd00::2", "fd00::1")];
    let blocks = ["10.244.1.0/26", "10.244.9.9/32", "fd00:10:244::/122"].map(|b| b.parse().unwrap()).to_vec();
    let borrowed = vec!["10.244.2.7/32".parse().unwrap(), "10.245.0.1/32".parse().unwrap()];
    let beyond = Programmer::SpeakerTunnel(Some("10.0.0.0/24".parse().unwrap()));
    let pools = vec![
        pool("10.244.0.0/16", true, Programmer::Speaker),
        pool("10.245.0.0/16", true, Programmer::Agent),
        pool("10.246.0.0/16", false, Programmer::Agent),
        pool("10.247.0.0/16", true, beyond),
        pool("10.248.0.0/16", true, Programmer::SpeakerTunnel(None)),
        pool("fd00:10:244::/64", true, Programmer::Speaker),
    ];
    check("mesh.conf", &BgpIntent { sessions, blocks, borrowed, pools, ..intent() });
}

#[test]
fn explicit_peers_with_everything() {
    let full = Session {
        name: PeerName { port: Some(180), ..session(PeerKind::Global, "192.0.2.1", "10.0.0.1").name },
        port: Some(180),
        remote_as: Asn(65001),
        next_hop: NextHopMode::Keep,
        ttl_security_hops: Some(2),
        restart_time_secs: Some(90),
        keepalive_secs: Some(20),
        allow_local_as: Some(2),
        from_own_addr: false,
        ..session(PeerKind::Global, "192.0.2.1", "10.0.0.1")
    };
    let client = Session {
        reflect_as: Some(std::net::Ipv4Addr::new(244, 0, 0, 1)),
        next_hop: NextHopMode::Own,
        ..session(PeerKind::Node, "10.0.0.3", "10.0.0.1")
    };
    let gateway = |peer: &str, via: &str| Gateway { peer: peer.parse().unwrap(), via: via.parse().unwrap() };
    let advertisement = |cidr: &str| Advertisement {
        cidr: cidr.parse().unwrap(),
        communities: vec![Community::Standard(64512, 100), Community::Large(64512, 1, 2)],
    };
    let whole = BgpIntent {
        log_level: LogLevel::Debug,
        listen: Listen { port: Some(178), node_ip_only: false },
        ignored_interfaces: vec!["foo0".into(), "bar*".into()],
        sessions: vec![full, client],
        gateways: vec![gateway("192.0.2.1", "10.0.0.254"), gateway("fd01::1", "fd00::fe")],
        advertisements: vec![advertisement("10.96.0.0/16"), advertisement("fd00::/64")],
        normal_priority: NormalPriority { v4: 1024, v6: 2000 },
        ..intent()
    };
    check("explicit.conf", &whole);
}

#[test]
fn bound_to_the_node_s_address() {
    let mut other = session(PeerKind::Global, "192.0.2.1", "10.0.0.1");
    other.from_own_addr = false;
    let listen = Listen { port: None, node_ip_only: true };
    let sessions = vec![other, session(PeerKind::Mesh, "10.0.0.2", "10.0.0.1")];
    check("bound.conf", &BgpIntent { log_level: LogLevel::Silent, listen, sessions, ..intent() });
}

#[test]
fn filters_passwords_and_bfd() {
    let rule = |conditions, accept| FilterRule { conditions, operations: Vec::new(), accept };
    let inside = |cidr: &str, min, max| Prefixes { cidr: cidr.parse().unwrap(), min, max };
    let everything = Filter {
        import_v4: vec![
            rule(vec![Condition::Equal("10.0.0.0/8".parse().unwrap()), Condition::FromPeers], true),
            rule(vec![Condition::NotEqual("10.0.0.0/8".parse().unwrap()), Condition::Internal(true)], false),
            rule(vec![Condition::In(inside("10.0.0.0/8", 16, 24))], false),
            rule(vec![Condition::NotIn(inside("10.0.0.0/8", 8, 32)), Condition::Internal(false)], true),
            rule(vec![Condition::Interface("*.calico".into()), Condition::Priority(512)], false),
            rule(vec![Condition::Community(Community::Standard(65000, 1))], false),
            rule(vec![Condition::Community(Community::Large(65000, 1, 2))], false),
            rule(vec![Condition::PathBegins(vec![Asn(65001), Asn(4_200_000_000)])], false),
            FilterRule {
                conditions: vec![Condition::NotIn(inside("10.0.0.0/8", 16, 16))],
                operations: vec![
                    Operation::AddCommunity(Community::Standard(65000, 2)),
                    Operation::AddCommunity(Community::Large(65000, 2, 3)),
                    Operation::Prepend(vec![Asn(1), Asn(2)]),
                    Operation::SetPriority(2_147_483_646),
                ],
                accept: true,
            },
            rule(vec![], false),
        ],
        export_v4: vec![rule(vec![Condition::Internal(true)], false)],
        import_v6: vec![rule(vec![Condition::In(inside("fd00::/8", 8, 128))], true)],
        export_v6: vec![],
    };
    let of_v6 = Filter { export_v6: vec![rule(vec![], false)], ..Filter::default() };
    let names = ["every.thing-1".into(), "v6".into()];
    let with = |session: Session| Session { filters: names.to_vec(), ..session };
    let peer = with(session(PeerKind::Global, "192.0.2.1", "10.0.0.1"));
    let sessions = vec![
        Session { remote_as: Asn(65001), password: Some(Password::new(b"it's; 1 #").unwrap()), ..peer },
        with(session(PeerKind::Node, "fd00::3", "fd00::1")),
        Session {
            bfd: true,
            long_lived: true,
            from_own_addr: false,
            ..session(PeerKind::Node, "10.0.0.3", "10.0.0.1")
        },
        Session {
            passive: true,
            from_own_addr: false,
            ..session(PeerKind::LocalWorkload, "10.244.0.7", "10.0.0.1")
        },
    ];
    let filters = names.iter().cloned().zip([everything, of_v6]).collect();
    check("filters.conf", &BgpIntent { sessions, filters, ..intent() });
}

#[test]
fn services() {
    let cidrs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Cidr>>();
    let whole = ["10.96.0.0/16", "192.0.2.0/24", "fd00:96::/112"];
    let single =
        ["198.51.100.1/32", "198.51.100.2/32", "198.51.100.3/32", "198.51.100.4/32", "198.51.100.5/32"];
    let services = ServiceIntent {
        // One range is a block of this node: it is announced once.
        routes: cidrs(
            &[&["10.96.0.0/16", "10.244.1.0/26", "192.0.2.0/24"], &single[..], &["fd00:96::/112"]].concat(),
        ),
        rejects: cidrs(&whole),
        reflected: cidrs(&["192.0.2.0/24"]),
    };
    let sessions = vec![session(PeerKind::Mesh, "10.0.0.2", "10.0.0.1")];
    let whole = BgpIntent { services, sessions, blocks: cidrs(&["10.244.1.0/26"]), ..intent() };
    check("services.conf", &whole);
    // Others' services go to external peers only with the next hop that they were heard with.
    let kept_back = "then reject; # others' services";
    assert_eq!(render(&whole, "log").matches(kept_back).count(), 2, "one for each family");
    let mut keeping = session(PeerKind::Global, "192.0.2.1", "10.0.0.1");
    (keeping.remote_as, keeping.next_hop) = (Asn(65001), NextHopMode::Keep);
    let text = render(&BgpIntent { sessions: vec![keeping], ..whole }, "log");
    assert!(!text.contains(kept_back) && text.contains("] then accept; # services\n"), "{text}");
}
