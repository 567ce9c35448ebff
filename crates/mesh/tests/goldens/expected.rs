//! What Calico's files must say if they mean what ours says.
//!
//! Calico says a few things in other words, or says what follows from the rest. Each is put here from what is in the
//! datastore, and nothing is left uncompared:
//!
//! * Its fork of BIRD installs routes through the IPIP device where it was told to; ours does the same in other words, or
//!   leaves them to the agent.
//! * It names pools that BIRD installs, although whatever is not rejected is installed.
//! * It says nothing of sessions and filters in a family that the node has no address in.
//! * Its BIRD can listen on one address and connect from another; BIRD 2 has one setting for both.
//! * Of nodes with one address it has a session each, which BIRD would refuse; ours has one and reports the others.

use std::collections::BTreeMap;

use calico_api::{Kind, ResourceKey};
use calico_mesh::birdc::{PeerKind, PeerName};
use calico_mesh::world::{Encapsulation, NodeFacts};
use calico_net::Family;

use crate::cases::Case;
use crate::meaning::{Aggr, Form, Ipam, Main, Session};
use crate::ours::Ours;

/// Calico's three files of a family.
#[derive(Debug)]
pub struct Expected {
    /// `bird.cfg`.
    pub main: Main,
    /// `bird_aggr.cfg`.
    pub aggr: Aggr,
    /// `bird_ipam.cfg`.
    pub ipam: Ipam,
}

/// Puts ours in Calico's words.
pub fn expected(case: &Case, family: Family, ours: &Ours) -> Expected {
    let world = case.index.world();
    let nobody = NodeFacts::default();
    let own = world.nodes.get(case.node).unwrap_or(&nobody);
    let intent = case.intent();
    let borrowed = intent.borrowed.iter().filter(|addr| addr.family() == family).map(ToString::to_string);
    assert_eq!(ours.borrowed, borrowed.collect::<Vec<_>>(), "{}", case.name);

    let mut main = ours.main.clone();
    let port = intent.listen.port;
    let bound = intent.listen.node_ip_only.then(|| own.addr(family)).flatten();
    let listen = (bound.map(|addr| addr.to_string()), Some(port.unwrap_or(179).to_string()));
    assert!(main.sessions.is_empty() || main.listen == listen, "{}: {:?}", case.name, main.listen);
    main.listen = (listen.0, port.map(|port| port.to_string()));
    if own.addr(family).is_none() {
        assert!(main.sessions.is_empty(), "{}", case.name);
        main.filters = BTreeMap::new();
        main.template = None;
    }
    if let Some(template) = &mut main.template {
        template.local_as = world.node_as(own).to_string();
    }
    for session in &mut main.sessions {
        let wanted = intent.sessions.iter().find(|s| s.name.to_string() == session.name).unwrap();
        if !wanted.from_own_addr && intent.listen.node_ip_only {
            assert_eq!(session.source.take(), Some(wanted.own_addr.to_string()));
        }
    }
    main.sessions = main.sessions.iter().flat_map(|session| copies(case, session)).collect();

    let mode = programming(case);
    let mut ipam = ours.ipam.clone();
    if mode.ipip {
        assert_eq!(ipam.internal_interfaces.pop().as_deref(), Some("\"tunl0\""));
    }
    for pool in world.pools.values().filter(|pool| pool.cidr.family() == family) {
        let cidr = pool.cidr.to_string();
        let agents = ours.agents.iter().find(|(agents, _)| *agents == cidr).map(|(_, subnet)| subnet);
        let subnet = own.subnet(family).map(|subnet| subnet.to_string());
        let (form, is_agents) = match pool.encapsulation {
            Encapsulation::Vxlan => (Form::Reject, true),
            Encapsulation::Always if mode.ipip => (Form::Tunnel, true),
            Encapsulation::CrossSubnet if mode.ipip => (Form::CrossSubnet(subnet.clone().unwrap()), true),
            Encapsulation::Always | Encapsulation::CrossSubnet => (Form::Reject, true),
            Encapsulation::Never if mode.plain => (Form::Accept, false),
            Encapsulation::Never => (Form::Reject, true),
        };
        // A pool that is not the agent's after all: BIRD 2 must do with it what Calico's fork does.
        let tunnel =
            ours.tunnels.iter().find(|(tunnel, _)| *tunnel == cidr).map(|(_, subnet)| match subnet {
                None => Form::Tunnel,
                Some(subnet) => Form::CrossSubnet(subnet.clone()),
            });
        match tunnel {
            Some(tunnel) => assert_eq!((tunnel, agents), (form.clone(), None), "{}: {cidr}", case.name),
            None => assert_eq!(agents.is_some(), is_agents, "{}: {cidr}", case.name),
        }
        // Where the agent leaves plain routes of such a pool to BIRD, they are those within the subnet.
        assert!(agents.is_none_or(|only| only.is_none() || *only == subnet), "{}: {cidr}", case.name);
        // Of IPv6 only what is not installed is named.
        if family == Family::V4 || form == Form::Reject {
            ipam.pools.push((cidr, form));
        }
    }
    ipam.pools.sort();
    Expected { main, aggr: ours.aggr.clone(), ipam }
}

/// What Calico's BIRD installs (spec 6 §3.7).
struct Programming {
    ipip: bool,
    plain: bool,
}

fn programming(case: &Case) -> Programming {
    let (ipip, plain) = match case.program_cluster_routes.as_str() {
        "" | "EnabledNoEncapOnly" => (false, true),
        "Enabled" => (true, true),
        "EnabledIPIPOnly" => (true, false),
        "Disabled" => (false, false),
        other => panic!("{}: programClusterRoutes {other}", case.name),
    };
    Programming { ipip, plain }
}

/// A session as often as nodes have its address; each but the first must have been reported.
fn copies(case: &Case, session: &Session) -> Vec<Session> {
    let name = PeerName::parse(&session.name).unwrap();
    if name.kind != PeerKind::Mesh {
        return vec![session.clone()];
    }
    let world = case.index.world();
    let with_addr: Vec<_> = world
        .nodes
        .iter()
        .filter(|(_, node)| node.addr(Family::of(name.addr)) == Some(name.addr) && node.cluster_id.is_none())
        .map(|(name, _)| name)
        .collect();
    for node in &with_addr[1..] {
        let resource = ResourceKey { kind: Kind::Node, namespace: "".into(), name: (*node).clone() };
        let about = case
            .problems()
            .into_iter()
            .any(|p| p.resource == resource && p.text.contains("one session for both"));
        assert!(about, "{}: {node} is not reported", case.name);
    }
    vec![session.clone(); with_addr.len()]
}
