//! What the control socket of BIRD 2.0.12 says, cut and bent in every way.

use proptest::prelude::*;

use super::*;

const STATUS: &str = "\
0001 BIRD 2.0.12 ready.
1000-BIRD 2.0.12
1011-Router ID is 10.9.0.1
 Hostname is node-a
 Current server time is 2026-11-23 03:48:29.917
 Last reboot on 2026-11-23 03:48:17.890
 Last reconfiguration on 2026-11-23 03:48:18.890
0024-Graceful restart recovery in progress
   Waiting for 2 channels to recover
   Wait timer is 47.973/60
0013 Daemon is up and running
";

const PROTOCOLS: &str = "\
2002-Name       Proto      Table      State  Since         Info
1002-device1    Device     ---        up     03:47:15      
1006-
1002-kernel_v4  Kernel     master4    up     2026-11-23 03:47:15  
1006-  Channel ipv4
     State:          UP
     Output filter:  calico_kernel_v4
     Routes:         3 imported, 2 exported, 2 preferred
     Route change stats:     received   rejected   filtered    ignored   accepted
 
1002-Mesh_10_9_0_2 BGP        ---        up     03:47:17      Established   
1006-  Description:    x
   BGP state:          Established
     Neighbor address: 10.9.0.2
     Neighbor AS:      64512
     Local AS:         64513
     Neighbor ID:      10.9.0.2
     Local capabilities
       Graceful restart
         Restart time: 120
     Neighbor capabilities
       Graceful restart
         Restart time: 90
     Session:          external multihop AS4
     Hold timer:       180.277/240
     Keepalive timer:  56.667/80
   Channel ipv4
     State:          UP
     Routes:         1 imported, 3 exported, 1 preferred
     Route change stats:     received   rejected   filtered    ignored   accepted
       Import updates:              9          0          2          0          7
       Import withdraws:            6          0        ---          0          6
       Export updates:              8          1          4        ---          3
       Export withdraws:            0        ---        ---        ---          0
 
1002-Mesh_fd00__3 BGP        ---        start  2026-11-23    Connect       Socket: No route to host
1006-  BGP state:          Connect
     Neighbor address: fd00::3
     Last error:       Socket: No route to host
 
0000 
";

const ROUTES: &str = "\
1007-Table master4:
 10.9.0.0/24          unicast [direct1 03:47:15.449] ! (240)
 \tdev va
1007-10.20.1.0/26         unicast [Mesh_10_9_0_2 03:47:17.448] * (100) [i]
 \tvia 10.9.0.2 on va weight 1
 \tvia 10.9.0.3 on vb weight 1
1008-\tType: BGP univ
1012-\tBGP.origin: IGP
 \tBGP.next_hop: 10.9.0.2
1007-10.20.0.0/26         blackhole [blocks4 03:47:15.448] * (200)
1007-                     unicast [Mesh_10_9_0_2 2026-11-23 from 10.9.0.7] (100) [i]
 \tvia 10.9.0.2 on va
1007-
 Table master6:
 fd00:20::/122        blackhole [blocks6 03:47:15.448] * (200)
0000 
";

fn replies(text: &str) -> Vec<Reply> {
    let mut decoder = ReplyDecoder::new();
    decoder.push(text.as_bytes());
    std::iter::from_fn(|| decoder.pop()).collect()
}

fn reply(text: &str) -> Reply {
    let mut all = replies(text);
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[test]
fn greeting_and_status() {
    let all = replies(STATUS);
    assert_eq!(all.len(), 2);
    assert!(all[0].is_greeting() && !all[1].is_greeting());
    assert_eq!(parse_status(&all[0]), None);
    assert_eq!(
        parse_status(&all[1]),
        Some(DaemonStatus {
            version: "2.0.12".into(),
            router_id: "10.9.0.1".into(),
            server_time: "2026-11-23 03:48:29.917".into(),
            last_reboot: "2026-11-23 03:48:17.890".into(),
            last_reconfiguration: "2026-11-23 03:48:18.890".into(),
            graceful_restart: true,
            up: true,
        })
    );
}

#[test]
fn calico_s_own_bird_1_6_is_understood() {
    let status = "1000-BIRD v0.3.3+birdv1.6.8\n1011-Router ID is 10.0.0.1\n0013 Daemon is up and running\n";
    let status = parse_status(&reply(status)).unwrap();
    assert_eq!((status.version.as_str(), status.graceful_restart), ("v0.3.3+birdv1.6.8", false));
    let table = "2002-name     proto    table    state  since       info\n\
                 1002-Mesh_10_0_0_2 BGP      master   up     2026-11-22  Established   \n0000 \n";
    let rows = parse_protocols(&reply(table));
    assert_eq!((rows[0].since.as_str(), rows[0].is_established()), ("2026-11-22", true));
}

#[test]
fn protocols_with_details() {
    let rows = parse_protocols(&reply(PROTOCOLS));
    let names: Vec<_> = rows.iter().map(|r| (r.name.as_str(), r.state.as_str(), r.since.as_str())).collect();
    assert_eq!(
        names,
        [
            ("device1", "up", "03:47:15"),
            ("kernel_v4", "up", "2026-11-23 03:47:15"),
            ("Mesh_10_9_0_2", "up", "03:47:17"),
            ("Mesh_fd00__3", "start", "2026-11-23"),
        ]
    );
    let kernel = &rows[1];
    assert_eq!((kernel.bgp.as_ref(), kernel.peer()), (None, None));
    assert_eq!(
        kernel.channels,
        [ChannelStatus {
            name: "ipv4".into(),
            state: "UP".into(),
            imported: 3,
            exported: 2,
            preferred: 2,
            ..ChannelStatus::default()
        }]
    );
    let bgp = rows[2].bgp.as_ref().unwrap();
    assert_eq!((bgp.neighbor_as.as_str(), bgp.local_as.as_str()), ("64512", "64513"));
    assert_eq!(bgp.neighbor_id, "10.9.0.2");
    assert_eq!((bgp.hold_secs, bgp.keepalive_secs), (Some(240), Some(80)));
    let channel = &rows[2].channels[0];
    assert_eq!((channel.imported, channel.exported, channel.preferred), (1, 3, 1));
    assert_eq!((channel.import_filtered, channel.export_filtered), (2, 4));
    assert_eq!((rows[2].last_error(), rows[3].last_error()), (None, Some("Socket: No route to host")));
    assert!(rows[2].is_established());
    assert!(!rows[3].is_established());
    assert_eq!(rows[3].info, "Connect Socket: No route to host");
    assert_eq!(rows[3].bgp.as_ref().unwrap().last_error, "Socket: No route to host");
    assert_eq!(rows[3].peer().unwrap().addr, "fd00::3".parse::<IpAddr>().unwrap());
}

#[test]
fn routes_with_several_ways() {
    let routes = parse_routes(&reply(ROUTES));
    let seen: Vec<_> = routes
        .iter()
        .map(|r| (r.table.as_str(), r.prefix.to_string(), r.protocol.as_str(), r.primary, r.next_hops.len()))
        .collect();
    assert_eq!(
        seen,
        [
            ("master4", "10.9.0.0/24".into(), "direct1", false, 1),
            ("master4", "10.20.1.0/26".into(), "Mesh_10_9_0_2", true, 2),
            ("master4", "10.20.0.0/26".into(), "blocks4", true, 0),
            ("master4", "10.20.0.0/26".into(), "Mesh_10_9_0_2", false, 1),
            ("master6", "fd00:20::/122".into(), "blocks6", true, 0),
        ]
    );
    let hop = NextHop { gateway: Some("10.9.0.3".parse().unwrap()), interface: Some("vb".into()) };
    assert_eq!(routes[1].next_hops[1], hop);
    assert_eq!(routes[0].next_hops[0], NextHop { gateway: None, interface: Some("va".into()) });
    assert_eq!(routes[3].since, "2026-11-23");
}

#[test]
fn refusals() {
    let refused = reply("0002-Reading configuration from bird.cfg\n8002 bird.cfg:3:1 syntax error\n");
    assert_eq!(refused.error(), Some("bird.cfg:3:1 syntax error"));
    assert_eq!(reply("0003 Reconfigured\n").error(), None);
    assert_eq!(parse_status(&reply("9001 syntax error\n")), None);
}

#[test]
fn names_of_peers() {
    let check = |text: &str, kind, addr: &str, port| {
        let name = PeerName { kind, addr: addr.parse().unwrap(), port };
        assert_eq!(PeerName::parse(text), Some(name), "{text}");
        assert_eq!(name.to_string(), text);
    };
    check("Mesh_10_0_0_2", PeerKind::Mesh, "10.0.0.2", None);
    check("Mesh_fd00__1", PeerKind::Mesh, "fd00::1", None);
    check("Global_10_0_0_2_port_166", PeerKind::Global, "10.0.0.2", Some(166));
    check("Node_fd00_1_2_3_4_5_6_7", PeerKind::Node, "fd00:1:2:3:4:5:6:7", None);
    check("Local_Workload_10_65_0_2", PeerKind::LocalWorkload, "10.65.0.2", None);
    for other in ["direct1", "Mesh_", "Mesh_10_0_0", "Node_10_0_0_1_port_x", "Mesh_10_0_0_2_port_70000", ""] {
        assert_eq!(PeerName::parse(other), None, "{other}");
    }
    let port_in_mesh = PeerName { kind: PeerKind::Mesh, addr: "10.0.0.2".parse().unwrap(), port: Some(180) };
    assert_eq!(port_in_mesh.to_string(), "Mesh_10_0_0_2");
}

fn parse_all(replies: &[Reply]) {
    for reply in replies {
        let _ = (parse_status(reply), parse_routes(reply), reply.error());
        for protocol in parse_protocols(reply) {
            let _ = (protocol.peer(), protocol.is_established());
        }
    }
}

proptest! {
    #[test]
    fn the_cut_of_the_stream_does_not_matter(cut in prop::collection::vec(0usize..2000, 0..8)) {
        let text = [STATUS, PROTOCOLS, ROUTES].concat();
        let mut decoder = ReplyDecoder::new();
        let mut cut: Vec<usize> = cut.into_iter().filter(|c| *c < text.len()).collect();
        cut.sort_unstable();
        let mut from = 0;
        for to in cut.into_iter().chain([text.len()]) {
            decoder.push(&text.as_bytes()[from..to]);
            from = to;
        }
        let cut: Vec<Reply> = std::iter::from_fn(|| decoder.pop()).collect();
        prop_assert_eq!(cut, replies(&text));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let mut decoder = ReplyDecoder::new();
        decoder.push(&bytes);
        parse_all(&std::iter::from_fn(|| decoder.pop()).collect::<Vec<_>>());
    }

    #[test]
    fn no_bent_answer_panics(at in 0usize..3000, by in "[ -~\t\n\u{e9}]{0,6}") {
        let mut text = [STATUS, PROTOCOLS, ROUTES].concat();
        let at = at.min(text.len());
        text.insert_str(at, &by);
        parse_all(&replies(&text));
    }

    #[test]
    fn names_round_trip(v6: bool, addr: u128, port: Option<u16>, kind in 0usize..4) {
        let addr = if v6 { IpAddr::V6(addr.into()) } else { IpAddr::V4((addr as u32).into()) };
        let kind = PeerKind::ALL[kind];
        let port = port.filter(|_| kind != PeerKind::Mesh);
        let name = PeerName { kind, addr, port };
        // The dotted tail of a mapped address cannot be told from hex groups.
        let mapped = matches!(addr, IpAddr::V6(a) if a.to_string().contains('.'));
        prop_assert!(mapped || PeerName::parse(&name.to_string()) == Some(name));
    }
}
