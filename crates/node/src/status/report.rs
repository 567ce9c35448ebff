//! What BIRD says → the status of a CalicoNodeStatus.

use calico_api::NodeStatusReport;
use calico_api::calico_node_status::{
    BgpDaemonState, BgpDaemonStatus, NodeAgentStatus, NodeBgpPeer, NodeBgpStatus, NodePeerState,
    NodePeerType, NodeRoute, NodeRouteSource, NodeRouteSourceType, NodeRouteType, NodeRoutesStatus,
    NodeStatusClass,
};
use calico_mesh::birdc::{DaemonStatus, PeerKind, PeerName, ProtocolStatus, Route};
use calico_net::Family;
use smol_str::{SmolStr, ToSmolStr};

/// How many routes of a family are reported: an object of etcd holds 1.5 MiB, and a route is some 150 bytes in it.
const MAX_ROUTES: usize = 4000;

/// What BIRD said.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// Of itself.
    pub daemon: DaemonStatus,
    /// Of its protocols.
    pub protocols: Vec<ProtocolStatus>,
    /// Of its routes.
    pub routes: Vec<Route>,
}

/// The report on what was asked for; with `None` BIRD did not answer.
pub(super) fn report(classes: &[NodeStatusClass], answers: Option<&Answers>) -> NodeStatusReport {
    let asks = |class| classes.contains(&class);
    NodeStatusReport {
        last_updated: None,
        agent: asks(NodeStatusClass::Agent).then(|| agent(answers.map(|answers| &answers.daemon))),
        // What nobody told is not there, rather than none.
        bgp: answers.filter(|_| asks(NodeStatusClass::Bgp)).map(|answers| bgp(&answers.protocols)),
        routes: answers.filter(|_| asks(NodeStatusClass::Routes)).map(|answers| routes(&answers.routes)),
    }
}

fn agent(daemon: Option<&DaemonStatus>) -> NodeAgentStatus {
    let status = match daemon {
        None => BgpDaemonStatus { state: Some(BgpDaemonState::NotReady), ..BgpDaemonStatus::default() },
        Some(daemon) => BgpDaemonStatus {
            state: Some(if daemon.up && !daemon.graceful_restart {
                BgpDaemonState::Ready
            } else {
                BgpDaemonState::NotReady
            }),
            version: daemon.version.to_smolstr(),
            router_id: daemon.router_id.to_smolstr(),
            last_boot_time: daemon.last_reboot.to_smolstr(),
            last_reconfiguration_time: daemon.last_reconfiguration.to_smolstr(),
        },
    };
    NodeAgentStatus { bird_v4: status.clone(), bird_v6: status }
}

fn bgp(protocols: &[ProtocolStatus]) -> NodeBgpStatus {
    let peers = |family: Family| -> Vec<NodeBgpPeer> {
        protocols
            .iter()
            .filter_map(|protocol| peer(protocol, protocol.peer()?))
            .filter(|(name, _)| Family::of(name.addr) == family)
            .map(|(_, peer)| peer)
            .collect()
    };
    let (peers_v4, peers_v6) = (peers(Family::V4), peers(Family::V6));
    let count = |peers: &[NodeBgpPeer], established: bool| {
        let peers = peers.iter().filter(|peer| (peer.state == NodePeerState::Established) == established);
        u32::try_from(peers.count()).unwrap_or(u32::MAX)
    };
    NodeBgpStatus {
        number_established_v4: count(&peers_v4, true),
        number_not_established_v4: count(&peers_v4, false),
        number_established_v6: count(&peers_v6, true),
        number_not_established_v6: count(&peers_v6, false),
        peers_v4,
        peers_v6,
    }
}

/// A session in the API's words; `None` for those that it has no word for.
fn peer(protocol: &ProtocolStatus, name: PeerName) -> Option<(PeerName, NodeBgpPeer)> {
    let peer_type = match name.kind {
        PeerKind::Mesh => NodePeerType::Mesh,
        PeerKind::Node => NodePeerType::Node,
        PeerKind::Global => NodePeerType::Global,
        PeerKind::LocalWorkload => return None,
    };
    let bgp = protocol.bgp.as_ref().map(|bgp| bgp.state.as_str()).unwrap_or_default();
    let state = match bgp {
        // BIRD's own word for an Active session that waits.
        "Passive" => NodePeerState::Active,
        text => match NodePeerState::from(text) {
            // `Down`, and what else may come.
            NodePeerState::Other(_) => NodePeerState::Idle,
            known => known,
        },
    };
    let peer =
        NodeBgpPeer { peer_ip: name.addr.to_smolstr(), peer_type, state, since: protocol.since.to_smolstr() };
    Some((name, peer))
}

fn routes(routes: &[Route]) -> NodeRoutesStatus {
    let of = |family: Family| -> Vec<NodeRoute> {
        let routes = routes.iter().filter(|route| route.prefix.family() == family);
        routes.take(MAX_ROUTES).map(route).collect()
    };
    NodeRoutesStatus { routes_v4: of(Family::V4), routes_v6: of(Family::V6) }
}

fn route(route: &Route) -> NodeRoute {
    let hop = route.next_hops.first();
    let gateway = hop.and_then(|hop| hop.gateway).map(|gateway| gateway.to_smolstr());
    let interface = hop.and_then(|hop| hop.interface.as_deref()).map(SmolStr::new);
    NodeRoute {
        route_type: Some(if route.primary { NodeRouteType::Fib } else { NodeRouteType::Rib }),
        destination: route.prefix.to_smolstr(),
        gateway: gateway.unwrap_or_default(),
        interface: interface.unwrap_or_default(),
        learned_from: source(&route.protocol),
    }
}

fn source(protocol: &str) -> NodeRouteSource {
    let of = |source_type| NodeRouteSource { source_type: Some(source_type), peer_ip: SmolStr::default() };
    match PeerName::parse(protocol) {
        Some(PeerName { kind: PeerKind::Mesh, addr, .. }) => {
            NodeRouteSource { peer_ip: addr.to_smolstr(), ..of(NodeRouteSourceType::NodeMesh) }
        }
        Some(PeerName { addr, .. }) => {
            NodeRouteSource { peer_ip: addr.to_smolstr(), ..of(NodeRouteSourceType::BgpPeer) }
        }
        // The names that `calico_mesh::bird` gives.
        None if protocol.starts_with("calico_kernel_") => of(NodeRouteSourceType::Kernel),
        None if protocol.starts_with("direct") => of(NodeRouteSourceType::Direct),
        None => of(NodeRouteSourceType::Static),
    }
}

#[cfg(test)]
mod tests {
    use calico_mesh::birdc::{BgpDetail, Destination, NextHop};

    use super::*;

    fn session(name: &str, state: &str) -> ProtocolStatus {
        ProtocolStatus {
            name: name.into(),
            proto: "BGP".into(),
            since: "10:00:00".into(),
            info: state.into(),
            bgp: Some(BgpDetail { state: state.into(), ..BgpDetail::default() }),
            ..ProtocolStatus::default()
        }
    }

    fn route(prefix: &str, protocol: &str, primary: bool, gateway: Option<&str>) -> Route {
        Route {
            table: "master4".into(),
            prefix: prefix.parse().unwrap(),
            destination: Destination::Unicast,
            protocol: protocol.into(),
            since: String::new(),
            primary,
            next_hops: vec![NextHop {
                gateway: gateway.map(|g| g.parse().unwrap()),
                interface: Some("eth0".into()),
            }],
        }
    }

    #[test]
    fn everything_that_is_asked_for_and_nothing_else() {
        let answers = Answers {
            daemon: DaemonStatus { version: "2.0.12".into(), up: true, ..DaemonStatus::default() },
            protocols: vec![
                ProtocolStatus {
                    name: "direct1".into(),
                    proto: "Direct".into(),
                    ..ProtocolStatus::default()
                },
                session("Mesh_10_0_0_2", "Established"),
                session("Node_10_0_0_3", "Passive"),
                session("Global_fd00__2", "Down"),
                session("Local_Workload_10_65_0_2", "Established"),
            ],
            routes: vec![
                route("10.65.1.0/26", "Mesh_10_0_0_2", true, Some("10.0.0.2")),
                route("10.65.1.0/26", "Node_10_0_0_3", false, Some("10.0.0.3")),
                route("10.65.0.0/26", "calico_blocks_v4", true, None),
                route("10.65.0.1/32", "calico_kernel_v4", true, None),
                route("fd00::/64", "direct1", true, None),
            ],
        };
        let all = [NodeStatusClass::Agent, NodeStatusClass::Bgp, NodeStatusClass::Routes];
        let whole = serde_json::to_value(report(&all, Some(&answers))).unwrap();
        let daemon = serde_json::json!({ "state": "Ready", "version": "2.0.12" });
        let from = |destination: &str, gateway: Option<&str>, kind: &str, source: serde_json::Value| {
            let mut route = serde_json::json!({
                "type": kind, "destination": destination, "interface": "eth0", "learnedFrom": source,
            });
            if let Some(gateway) = gateway {
                route["gateway"] = gateway.into();
            }
            route
        };
        use serde_json::json;
        assert_eq!(
            whole,
            json!({
                "lastUpdated": null,
                "agent": { "birdV4": daemon, "birdV6": daemon },
                "bgp": {
                    "numberEstablishedV4": 1, "numberNotEstablishedV4": 1,
                    "numberEstablishedV6": 0, "numberNotEstablishedV6": 1,
                    "peersV4": [
                        { "peerIP": "10.0.0.2", "type": "NodeMesh", "state": "Established", "since": "10:00:00" },
                        { "peerIP": "10.0.0.3", "type": "NodePeer", "state": "Active", "since": "10:00:00" },
                    ],
                    "peersV6": [
                        { "peerIP": "fd00::2", "type": "GlobalPeer", "state": "Idle", "since": "10:00:00" },
                    ],
                },
                "routes": {
                    "routesV4": [
                        from("10.65.1.0/26", Some("10.0.0.2"), "FIB", json!({ "sourceType": "NodeMesh", "peerIP": "10.0.0.2" })),
                        from("10.65.1.0/26", Some("10.0.0.3"), "RIB", json!({ "sourceType": "BGPPeer", "peerIP": "10.0.0.3" })),
                        from("10.65.0.0/26", None, "FIB", json!({ "sourceType": "Static" })),
                        from("10.65.0.1/32", None, "FIB", json!({ "sourceType": "Kernel" })),
                    ],
                    "routesV6": [from("fd00::/64", None, "FIB", json!({ "sourceType": "Direct" }))],
                },
            })
        );
        let agent = report(&[NodeStatusClass::Agent], Some(&answers));
        assert!(agent.agent.is_some() && agent.bgp.is_none() && agent.routes.is_none());
    }

    #[test]
    fn a_silent_daemon_is_not_ready_and_its_sessions_are_unknown() {
        let report = report(&[NodeStatusClass::Agent, NodeStatusClass::Bgp], None);
        assert_eq!(report.agent.unwrap().bird_v4.state, Some(BgpDaemonState::NotReady));
        assert_eq!(report.bgp, None);
    }

    #[test]
    fn a_recovering_daemon_is_not_ready() {
        let daemon = DaemonStatus { up: true, graceful_restart: true, ..DaemonStatus::default() };
        assert_eq!(agent(Some(&daemon)).bird_v6.state, Some(BgpDaemonState::NotReady));
    }
}
