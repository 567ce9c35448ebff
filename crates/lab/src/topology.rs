//! How the nodes of a lab are connected, and with whom they speak BGP: what is in the datastore before they start.
//!
//! ```text
//! flat         every node with every other            N·(N−1)/2 sessions in each family
//! reflectors   node1 and node2 with every node        2·(N−2) + 1
//! racks        every node with its rack's router, the two routers with each other
//!
//!                     router1 ───────── router2        10.65.0.1, 10.65.0.2: the fabric's first subnet
//!                   AS 64701              AS 64702
//!             10.65.1.0/24 │              │ 10.65.2.0/24
//!              node1, node3, …          node2, node4, …
//!                   AS 64601              AS 64602
//! ```
//!
//! All of it twice, for IPv4 and IPv6.

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::args::UpArgs;
use crate::fabric::{self, Subnet, step};
use crate::process::output;
use crate::router;
use crate::speaker::{Peer, Speaker};
use crate::state::Lab;
use crate::workload;

/// How a lab is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Topology {
    /// Every node speaks with every other.
    Flat,
    /// node1 and node2 reflect routes; the others speak with these two alone.
    Reflectors,
    /// Two racks, an AS each: a node speaks with its rack's router alone, and the routers with each other.
    Racks,
}

/// How many nodes reflect.
const REFLECTORS: u8 = 2;
/// The AS of the nodes of rack 0, which there is not: that of rack 1 is one more.
const NODES_AS: u32 = 64600;
/// The same of routers.
const ROUTERS_AS: u32 = 64700;
/// How many racks.
const RACKS: u8 = 2;

impl Topology {
    /// How many nodes there are unless somebody says otherwise.
    pub fn nodes(self, wanted: Option<u8>) -> u8 {
        let default = match self {
            Topology::Flat => 3,
            Topology::Reflectors => 12,
            Topology::Racks => 4,
        };
        wanted.unwrap_or(default)
    }

    /// The subnet of a node, where a flat lab has `subnets`.
    pub fn subnet(self, number: u8, subnets: u8) -> Subnet {
        match self {
            Topology::Flat | Topology::Reflectors => Subnet((number - 1) % subnets),
            Topology::Racks => Subnet(rack(number)),
        }
    }

    /// What the datastore has before the nodes start.
    fn manifest(self, nodes: u8) -> String {
        match self {
            Topology::Flat => String::new(),
            Topology::Reflectors => reflectors(),
            Topology::Racks => racks(nodes),
        }
    }
}

fn rack(number: u8) -> u8 {
    (number - 1) % RACKS + 1
}

/// Refuses what contradicts itself, and a lab whose programs are not there, before anything is made.
pub fn check(args: &UpArgs) -> Result<()> {
    let nodes = args.topology.nodes(args.nodes);
    match args.topology {
        Topology::Flat => Ok(()),
        Topology::Reflectors if nodes <= REFLECTORS => {
            bail!(
                "--nodes {nodes}: {REFLECTORS} of them reflect, and somebody must be left to speak with them"
            )
        }
        Topology::Reflectors => Ok(()),
        Topology::Racks if nodes < RACKS => bail!("--nodes {nodes}: there are {RACKS} racks"),
        Topology::Racks if args.subnets != 1 => {
            bail!("--subnets {}: racks are subnets of their own", args.subnets)
        }
        Topology::Racks if !args.router.forwards() => {
            bail!(
                "--router {}: it keeps routes to itself; a rack needs one that installs them: frr or bird",
                args.router.name()
            )
        }
        Topology::Racks => args.router.check_installed(),
    }
}

/// Makes what must be there before the nodes.
pub fn prepare(lab: &mut Lab, args: &UpArgs) -> Result<()> {
    let nodes = args.topology.nodes(args.nodes);
    let manifest = args.topology.manifest(nodes);
    if !manifest.is_empty() {
        step("BGP resources");
        workload::apply_from_fabric(lab, &manifest).context("BGP resources")?;
    }
    if args.topology == Topology::Racks {
        (1..=RACKS).try_for_each(|rack| spawn_rack(lab, args, nodes, rack))?;
    }
    Ok(())
}

/// A rack's subnet, and its router between that and the first subnet.
fn spawn_rack(lab: &mut Lab, args: &UpArgs, nodes: u8, rack: u8) -> Result<()> {
    let name = format!("router{rack}");
    step(&name);
    let (inside, outside) = (Subnet(rack), Subnet::default());
    fabric::link_bridge(lab.fabric_pid, inside)?;
    let router = router::spawn(lab, &name, args.router, rack, &router_of(rack, nodes)?)?;
    let (v4, v6) = inside.router();
    fabric::plug(inside, lab.fabric_pid, &format!("{name}p1"), router, "eth1", (&v4, &v6))?;
    fabric::forward(router)?;
    // The fabric, where etcd listens, is no router; it is told the way.
    let ((net_v4, net_v6), (via_v4, via_v6)) = (inside.prefixes(), outside.node(rack));
    for (net, via) in [(net_v4, via_v4), (net_v6, via_v6)] {
        output(fabric::in_fabric(lab, "ip")?.args(["route", "add", &net, "via", &via]))?;
    }
    router::start(lab, &name)
}

/// What the router of a rack says and to whom.
fn router_of(rack: u8, nodes: u8) -> Result<Speaker> {
    let mut peers = Vec::new();
    let mut add = |(v4, v6): (String, String), asn: u32| -> Result<()> {
        for addr in [v4, v6] {
            let addr: IpAddr = addr.parse().with_context(|| addr.clone())?;
            peers.push(Peer { addr, asn, password: None, ttl_security: false });
        }
        Ok(())
    };
    for other in (1..=RACKS).filter(|other| *other != rack) {
        add(Subnet::default().node(other), ROUTERS_AS + u32::from(other))?;
    }
    for node in (1..=nodes).filter(|node| self::rack(*node) == rack) {
        add(Subnet(rack).node(node), NODES_AS + u32::from(rack))?;
    }
    let (v4, v6) = Subnet(rack).prefixes();
    Ok(Speaker { asn: ROUTERS_AS + u32::from(rack), peers, announce: vec![v4, v6] })
}

const NO_MESH: &str = "apiVersion: projectcalico.org/v3
kind: BGPConfiguration
metadata: {name: default}
spec: {nodeToNodeMeshEnabled: false}
";

fn reflectors() -> String {
    let mut text = format!(
        "{NO_MESH}---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{name: reflectors}}
spec: {{nodeSelector: all(), peerSelector: has(route-reflector)}}
"
    );
    for number in 1..=REFLECTORS {
        let labels = "route-reflector: \"true\"";
        push_node(&mut text, number, labels, "routeReflectorClusterID: 244.0.0.1");
    }
    text
}

fn racks(nodes: u8) -> String {
    let mut text = NO_MESH.to_owned();
    for rack in 1..=RACKS {
        let (v4, v6) = Subnet(rack).router();
        for (family, addr) in [("v4", v4), ("v6", v6)] {
            // The router tells a node of its neighbours' blocks too, and their AS is the node's own.
            write_to(
                &mut text,
                format_args!(
                    "---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {{name: rack{rack}-{family}}}
spec:
  nodeSelector: rack == 'rack{rack}'
  peerIP: '{addr}'
  asNumber: {}
  numAllowedLocalASNumbers: 1
",
                    ROUTERS_AS + u32::from(rack)
                ),
            );
        }
    }
    for number in 1..=nodes {
        let rack = rack(number);
        let asn = format!("asNumber: {}", NODES_AS + u32::from(rack));
        push_node(&mut text, number, &format!("rack: rack{rack}"), &asn);
    }
    text
}

fn push_node(text: &mut String, number: u8, labels: &str, bgp: &str) {
    write_to(
        text,
        format_args!(
            "---
apiVersion: projectcalico.org/v3
kind: Node
metadata: {{name: node{number}, labels: {{{labels}}}}}
spec: {{bgp: {{{bgp}}}}}
"
        ),
    );
}

fn write_to(text: &mut String, args: std::fmt::Arguments<'_>) {
    text.write_fmt(args).expect("writing to a String cannot fail");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rack_is_an_as_and_a_subnet_with_a_router() {
        let subnets = |topology: Topology, n| (1..=4).map(|i| topology.subnet(i, n).0).collect::<Vec<_>>();
        assert_eq!(subnets(Topology::Racks, 1), [1, 2, 1, 2]);
        assert_eq!(subnets(Topology::Flat, 3), [0, 1, 2, 0]);
        let Speaker { asn, peers, announce } = router_of(2, 4).unwrap();
        let peers: Vec<String> = peers.iter().map(|p| format!("{} {}", p.addr, p.asn)).collect();
        let expected = [
            "10.65.0.1 64701",
            "fd65::1 64701",
            "10.65.2.2 64602",
            "fd65:0:0:2::2 64602",
            "10.65.2.4 64602",
            "fd65:0:0:2::4 64602",
        ];
        assert_eq!((asn, peers), (64702, expected.map(str::to_owned).to_vec()));
        assert_eq!(announce, ["10.65.2.0/24", "fd65:0:0:2::/64"]);
        let manifest = Topology::Racks.manifest(2);
        assert!(manifest.contains("peerIP: '10.65.1.254'\n  asNumber: 64701"), "{manifest}");
        assert!(
            manifest.contains("name: node2, labels: {rack: rack2}}\nspec: {bgp: {asNumber: 64602}}"),
            "{manifest}"
        );
    }
}
