//! What the three programs said in a lab of three routers, shortened; and configurations with every part of a peer.

use serde_json::json;

use super::*;

fn received(prefix: &str, from: &str, next_hop: &str, as_path: &str) -> Received {
    let [prefix, from, next_hop, as_path] = [prefix, from, next_hop, as_path].map(str::to_owned);
    Received { prefix, from, next_hop, as_path }
}

fn session(peer: &str, state: &str) -> Session {
    Session { peer: peer.to_owned(), state: state.to_owned() }
}

fn peer(text: &str) -> Peer {
    text.parse().unwrap()
}

#[test]
fn what_frr_says() {
    let said = json!({
        "ipv4Unicast": {"peers": {"10.65.0.3": {"remoteAs": 64803, "state": "Established"}}},
        "ipv6Unicast": {"peers": {"fd65::3": {"remoteAs": 64803, "state": "Active"}}},
    });
    assert_eq!(frr::sessions(&said), [session("10.65.0.3", "Established"), session("fd65::3", "Active")]);
    let said = json!({"routes": {
        "10.70.1.0/24": [{"peerId": "(unspec)", "path": "", "nexthops": [{"ip": "0.0.0.0"}]}],
        "10.70.2.0/24": [{"peerId": "10.65.0.3", "path": "64803 64802", "nexthops": [{"ip": "10.65.0.2", "used": true}]}],
        "fd70:2::/64": [{"peerId": "fd65::3", "path": "64803", "nexthops": [
            {"ip": "fe80::1", "scope": "link-local"}, {"ip": "fd65::3", "scope": "global"}]}],
    }});
    let expected = [
        received("10.70.2.0/24", "10.65.0.3", "10.65.0.2", "64803 64802"),
        received("fd70:2::/64", "fd65::3", "fd65::3", "64803"),
    ];
    assert_eq!(frr::routes(&said), expected);
}

#[test]
fn what_gobgp_says() {
    let said = json!([
        {"conf": {"neighbor_address": "10.65.0.3"}, "state": {"session_state": 6}},
        {"conf": {"neighbor_address": "fd65::3"}, "state": {"session_state": 3}},
        {"conf": {"neighbor_address": "fd65::4"}, "state": {"session_state": 77}},
    ]);
    let expected =
        [session("10.65.0.3", "Established"), session("fd65::3", "Active"), session("fd65::4", "Unknown")];
    assert_eq!(gobgp::sessions(&said), expected);
    let path = |asns: &[u32]| json!({"type": 2, "as_paths": [{"segment_type": 2, "asns": asns}]});
    let said = json!({
        "10.70.1.0/24": [{"attrs": [{"type": 1, "value": 0}, path(&[64803, 64801]), {"type": 3, "nexthop": "10.65.0.1"}],
                          "neighbor-ip": "10.65.0.3"}],
        "10.70.2.0/24": [{"attrs": [{"type": 3, "nexthop": "0.0.0.0"}]}],
        "fd70:3::/64": [{"attrs": [path(&[64803]), {"type": 14, "nexthop": "fd65::3"}], "neighbor-ip": "fd65::3"}],
    });
    let expected = [
        received("10.70.1.0/24", "10.65.0.3", "10.65.0.1", "64803 64801"),
        received("fd70:3::/64", "fd65::3", "fd65::3", "64803"),
    ];
    assert_eq!(gobgp::routes(&said), expected);
}

#[test]
fn what_bird_says() {
    let said = "peer0      BGP        ---        up     19:39:16.283  Established   
  BGP state:          Established
    Neighbor address: 10.65.0.1
    Hold timer:       116.023/180
peer1      BGP        ---        start  19:39:15.515  Idle          Received: Finite state machine error
  BGP state:          Idle
    Neighbor address: fd65::1
";
    assert_eq!(bird::sessions(said), [session("10.65.0.1", "Established"), session("fd65::1", "Idle")]);
    let said = "Table master4:
10.70.1.0/24         unicast [peer0 19:39:17.475] * (100) [AS64801i]
\tvia 10.65.0.1 on eth0
\tBGP.as_path: 64801
\tBGP.next_hop: 10.65.0.1
                     unicast [peer1 19:39:16.743] (100) [AS64802?]
\tvia 10.65.0.2 on eth0
\tBGP.as_path: 64802 64801
\tBGP.next_hop: 10.65.0.2
10.70.3.0/24         unreachable [own_ipv4 19:39:14.395] * (200)
\tType: static univ
\tBGP.as_path: nobody's

Table master6:
fd70:2::/64          unicast [peer1 19:39:17.059 from fd65::2] * (100) [i]
\tBGP.as_path: 
\tBGP.next_hop: fd65::2 fe80::1
";
    let peers = [peer("10.65.0.1,64801"), peer("fd65::2,64802")];
    let expected = [
        received("10.70.1.0/24", "10.65.0.1", "10.65.0.1", "64801"),
        received("10.70.1.0/24", "fd65::2", "10.65.0.2", "64802 64801"),
        received("fd70:2::/64", "fd65::2", "fd65::2", ""),
    ];
    assert_eq!(bird::routes(said, &peers), expected);
}

#[test]
fn every_part_of_a_peer_is_said_in_each_language() {
    let speaker = Speaker {
        asn: 64801,
        peers: vec![peer("10.65.0.1,64512,gtsm,password=secret"), peer("fd65::1,64801")],
        announce: ["10.70.1.0/24", "fd70:1::/64"].map(str::to_owned).to_vec(),
    };
    let own = "10.65.0.101".parse().unwrap();
    let check = |text: String, parts: &[&str]| {
        parts.iter().for_each(|part| assert_eq!(text.matches(part).count(), 1, "{part} in\n{text}"));
    };
    check(
        frr::render(&speaker, own),
        &[
            "router bgp 64801\n",
            " neighbor 10.65.0.1 remote-as 64512\n",
            " neighbor 10.65.0.1 password secret\n",
            " ttl-security hops 1\n",
            "ipv4 unicast\n  network 10.70.1.0/24\n  neighbor 10.65.0.1 activate\n",
            "ipv6 unicast\n  network fd70:1::/64\n  neighbor fd65::1 activate\n",
        ],
    );
    check(
        gobgp::render(&speaker, own),
        &[
            "as = 64801\nrouter-id = \"10.65.0.101\"",
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"10.65.0.1\"\npeer-as = 64512\nauth-password = \"secret\"",
            "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"fd65::1\"\npeer-as = 64801\n",
            "ttl-min = 255",
            "afi-safi-name = \"ipv6-unicast\"",
        ],
    );
    check(
        bird::render(&speaker, own, "/tmp/bird.log"),
        &[
            "route 10.70.1.0/24 unreachable;",
            "route fd70:1::/64 unreachable;",
            "local as 64801;\n  neighbor 10.65.0.1 as 64512;\n  direct; ttl security on;",
            "password \"secret\";",
            "local as 64801;\n  neighbor fd65::1 as 64801;\n  direct; ttl security off;",
        ],
    );
}

#[test]
fn a_missing_program_is_told_with_its_package() {
    for daemon in [Daemon::Frr, Daemon::Gobgp, Daemon::Bird] {
        let (programs, package) = daemon.needs();
        let is_complete = programs.iter().all(|program| Path::new(program).exists());
        match daemon.check_installed() {
            Ok(()) => assert!(is_complete, "{package}"),
            Err(error) => assert!(!is_complete && error.to_string().contains(package), "{error}"),
        }
    }
}
